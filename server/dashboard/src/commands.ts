// The view as a line for a shell: the same question for `gradtap`, and for curl.
//
// Everything that is not plain ASCII is spelled out, so that a line that was copied
// holds nothing that its reader did not see.

import { urlOf } from './api';
import { seriesFields } from './pinned';
import { patternOf, quoted } from './text';
import type { View } from './view';

export function shell(word: string): string {
  if (/^[A-Za-z0-9_.,:\/=@%+-]+$/.test(word)) return word;
  return `'${word.replace(/'/g, "'\\''")}'`;
}

// RE2 spelled in ASCII. A pattern of the user's own stays as it is otherwise.
function plain(pattern: string): string {
  let out = '';
  for (const c of pattern) out += /[\x20-\x7e]/.test(c) ? c : `\\x{${c.codePointAt(0)!.toString(16)}}`;
  return out;
}

function stepsOf(view: View): string[] {
  const [begin, end] = view.steps;
  return begin === null && end === null ? [] : [`--steps=${begin ?? ''}:${end ?? ''}`];
}

function common(view: View, ranks: number[], merges: boolean): string[] {
  const words = stepsOf(view);
  if (merges && view.merged) words.push('--rank', 'merged');
  else if (ranks.length > 0 && ranks.join() !== '0') words.push('--rank', (merges ? ranks : ranks.slice(0, 1)).join(','));
  if (view.attempt > 0) words.push('--attempt', String(view.attempt));
  return words;
}

const line = (words: string[]): string => words.map(shell).join(' ');

// A module is a pattern, too; there is no pattern for both.
const matchOf = (view: View): string =>
  view.match === '' && view.module !== '' ? `^${quoted(view.module)}($|\\.)` : plain(view.match);

// What is pinned, as series; else the heat map; two runs as their comparison.
export function gradtapLine(view: View, ranks: number[]): string {
  const match = matchOf(view) === '' ? [] : ['--match', matchOf(view)];
  if (view.pins.length > 0) {
    const runs = view.vs === '' ? [view.run] : [view.run, view.vs];
    return line(['gradtap', 'series', ...runs, '--stat', view.stat, '--match', patternOf(view.pins),
                 ...common(view, ranks, true)]);
  }
  if (view.vs !== '') return line(['gradtap', 'compare', view.run, view.vs, ...match, ...common(view, ranks, false)]);
  return line(['gradtap', 'heatmap', view.run, '--stat', view.stat, ...match, ...common(view, ranks, false)]);
}

export function curlLine(view: View, ranks: number[]): string {
  const steps = { begin: view.steps[0] ?? undefined, end: view.steps[1] ?? undefined };
  let path: string;
  if (view.pins.length > 0) path = urlOf('GetSeries', seriesFields(view, ranks, [view.stat]));
  else if (view.vs !== '') {
    path = urlOf('CompareRuns', { good_run: view.run, other_run: view.vs, match: matchOf(view), steps, rank: ranks[0] ?? 0 });
  } else {
    path = urlOf('GetHeatMap', {
      run: view.run, statistic: view.stat, match: matchOf(view), steps, rank: ranks[0] ?? 0, attempt: view.attempt,
    });
  }
  return line(['curl', '-s', location.origin + path]);
}
