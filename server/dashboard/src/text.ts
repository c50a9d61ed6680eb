// Numbers, times and names as people read them.
//
// Names come from models and may hold anything. What would move or hide the text
// around it is spelled out; the rest is left to the browser, as text.

const kMinus = '\u2212';

// Four significant digits.
export function number(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'Infinity' : `${kMinus}Infinity`;
  if (value === 0) return '0';
  const size = Math.abs(value);
  let text: string;
  if (Number.isInteger(value) && size < 1e6) text = String(size);
  else if (size >= 1e5 || size < 1e-3) text = size.toExponential(2).replace('e+', 'e').replace('e-', `e${kMinus}`);
  else text = size.toPrecision(4).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '');
  return value < 0 ? kMinus + text : text;
}

export function count(value: number): string {
  return Math.round(value).toString().replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
}

export function percent(value: number): string {
  if (!Number.isFinite(value)) return '–';
  return `${(100 * value).toFixed(value < 0.0995 ? 1 : 0)} %`;
}

export function age(seconds: number): string {
  if (seconds < 0.95) return 'now';
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

// Controls, and what changes the direction of what follows.
const kUnsafe = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

export function visible(name: string): string {
  return name.replace(kUnsafe, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// At most about `most` characters, without the middle: names differ at their ends.
export function shortened(name: string, most: number): string {
  // Cut first: what is not shown is not worth looking at.
  const rough = name.length > 4 * most + 64 ? name.slice(0, most) + name.slice(-3 * most) : name;
  const characters = Array.from(visible(rough));
  if (characters.length <= most) return characters.join('');
  const tail = Math.ceil((most - 1) * 0.6);
  return `${characters.slice(0, most - 1 - tail).join('')}…${characters.slice(-tail).join('')}`;
}

// A pattern of RE2 that matches this text and no other, in ASCII alone.
export function quoted(text: string): string {
  let out = '';
  for (const c of text) {
    if (/[A-Za-z0-9_]/.test(c)) out += c;
    else if (/[\x21-\x7e]/.test(c)) out += `\\${c}`;
    else out += `\\x{${c.codePointAt(0)!.toString(16)}}`;
  }
  return out;
}

export function patternOf(names: string[]): string {
  const one = names.map(quoted);
  return one.length === 1 ? `^${one[0]}$` : `^(${one.join('|')})$`;
}
