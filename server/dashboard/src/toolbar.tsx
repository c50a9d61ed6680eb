// What is shown of the run: statistic, pattern, module, steps, ranks; and the view
// as a command.

import { useEffect, useRef, useState } from 'preact/hooks';

import { curlLine, gradtapLine } from './commands';
import type { ParameterInfo } from './api';
import { plural, shortened } from './text';
import { kMostRanks, setView } from './view';
import type { View } from './view';

const kNames = ['l2', 'rms', 'mean', 'abs_mean', 'std', 'variance', 'min', 'max', 'abs_max', 'l1', 'sum', 'zero',
                'zero_fraction', 'nan', 'pos_inf', 'neg_inf', 'nonfinite', 'finite_fraction'];
const kRoles = ['grad', 'grad_local', 'weight', 'update', 'buffer'];
const kTypingMs = 350;
const kMostColumns = 12; // As view.ts takes.

// What the roles of these parameters can be asked for.
export function statisticsOf(parameters: ParameterInfo[]): Map<string, string[]> {
  const has = new Set<string>();
  for (const one of parameters) for (const role of one.roles) has.add(role.replace(/^ROLE_/, '').toLowerCase());
  const groups = new Map<string, string[]>();
  for (const role of kRoles) {
    if (!has.has(role)) continue;
    const names = kNames.map((name) => `${role}.${name}`);
    if (has.has('weight') && (role === 'update' || role === 'grad')) names.unshift(`${role}.ratio`);
    groups.set(role, names);
  }
  return groups;
}

function Filter({ view, error }: { view: View; error: string | undefined }) {
  const [text, setText] = useState(view.match);
  const timer = useRef<ReturnType<typeof setTimeout>>();
  useEffect(() => {
    clearTimeout(timer.current);
    setText(view.match);
  }, [view.match, view.run]);
  const type = (value: string) => {
    setText(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setView({ match: value }, view.match !== '' && value !== ''), kTypingMs);
  };
  return (
    <label class="filter">
      <span>filter</span>
      <input id="filter" type="search" placeholder="RE2, as in conv.*weight   ( / )" spellcheck={false} value={text}
             aria-invalid={error !== undefined} title={error} onInput={(e) => type(e.currentTarget.value)}
             onKeyDown={(e) => e.key === 'Escape' && e.currentTarget.blur()} />
    </label>
  );
}

const kLengths = [100, 1000, 10000, 100000];

function Steps({ view }: { view: View }) {
  const [begin, end] = view.steps;
  const value = `${begin ?? ''}:${end ?? ''}`;
  const known = [':', ...kLengths.map((n) => `-${n}:`)];
  return (
    <label>
      <span>steps</span>
      <select value={value} onChange={(e) => {
        const [a, b] = e.currentTarget.value.split(':');
        setView({ steps: [a ? Number(a) : null, b ? Number(b) : null] });
      }}>
        <option value=":">all</option>
        {kLengths.map((n) => <option value={`-${n}:`}>last {n}</option>)}
        {!known.includes(value) && <option value={value}>{begin ?? 'first'} to {end === null ? 'last' : end - 1}</option>}
      </select>
    </label>
  );
}

function Ranks({ view, ranks }: { view: View; ranks: number[] }) {
  if (ranks.length < 2) return null;
  const shown = ranks.slice(0, kMostRanks);
  const all = shown.join();
  const value = view.merged ? 'merged' : view.ranks.length === 0 ? String(ranks[0]) : view.ranks.join();
  const options = [...ranks.slice(0, 64).map(String), all, 'merged'];
  return (
    <label>
      <span>rank</span>
      <select value={value} onChange={(e) => {
        const picked = e.currentTarget.value;
        setView(picked === 'merged' ? { merged: true, ranks: [] } : { merged: false, ranks: picked.split(',').map(Number) });
      }}>
        {ranks.slice(0, 64).map((rank) => <option value={String(rank)}>{rank}</option>)}
        <option value={all}>{shown.length} side by side</option>
        <option value="merged">merged</option>
        {!options.includes(value) && <option value={value}>{value}</option>}
      </select>
    </label>
  );
}

function Attempts({ view, attempts }: { view: View; attempts: number }) {
  if (attempts < 2) return null;
  return (
    <label>
      <span>attempt</span>
      <select value={String(view.attempt)} onChange={(e) => setView({ attempt: Number(e.currentTarget.value) })}>
        <option value="0">newest line</option>
        {Array.from({ length: Math.min(attempts, 200) }, (_, i) => attempts - i).map((n) => (
          <option value={String(n)}>{n} alone</option>
        ))}
      </select>
    </label>
  );
}

// Which statistics the table shows: choosing one puts it in, or takes it out.
export function Columns({ view, statistics }: { view: View; statistics: Map<string, string[]> }) {
  const toggle = (name: string) => {
    const without = view.columns.filter((one) => one !== name);
    const columns = without.length < view.columns.length ? without : [...view.columns, name].slice(-kMostColumns);
    if (columns.length > 0) setView({ columns });
  };
  return (
    <label class="columns">
      <span>columns</span>
      <select value="" aria-label="Columns of the table" onChange={(e) => {
        toggle(e.currentTarget.value);
        e.currentTarget.value = '';
      }}>
        <option value="">{plural(view.columns.length, 'statistic')}</option>
        {[...statistics].map(([role, names]) => (
          <optgroup label={role}>
            {names.map((name) => <option value={name}>{view.columns.includes(name) ? '✓ ' : '\u2003 '}{name}</option>)}
          </optgroup>
        ))}
      </select>
    </label>
  );
}

function Copy({ text, label }: { text: () => string; label: string }) {
  const [copied, setCopied] = useState('');
  useEffect(() => {
    if (copied === '') return undefined;
    const timer = setTimeout(() => setCopied(''), 4000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    const line = text();
    try {
      await navigator.clipboard.writeText(line);
      setCopied('copied');
    } catch {
      setCopied(line); // No clipboard here: to be copied by hand.
    }
  };
  return (
    <span class="copy">
      <button onClick={() => void copy()} title={`Copies this view as a ${label} line`}>{copied === 'copied' ? 'copied' : label}</button>
      {copied !== '' && copied !== 'copied' && (
        <input class="line" readOnly value={copied} aria-label={`${label} line`} onFocus={(e) => e.currentTarget.select()} />
      )}
    </span>
  );
}

function Crumbs({ view }: { view: View }) {
  if (view.module === '') return null;
  const parts = view.module.split('.');
  return (
    <nav class="crumbs" aria-label="Module">
      <button class="link" onClick={() => setView({ module: '' })}>all modules</button>
      {parts.slice(-6).map((part, i) => {
        const path = parts.slice(0, parts.length - Math.min(6, parts.length) + i + 1).join('.');
        return <>{' . '}<button class="link" onClick={() => setView({ module: path })}><bdi>{shortened(part, 30)}</bdi></button></>;
      })}
    </nav>
  );
}

export function Toolbar({ view, statistics, ranks, attempts, error, shown, of }: {
  view: View; statistics: Map<string, string[]>; ranks: number[]; attempts: number; error: string | undefined;
  shown: number; of: number;
}) {
  const known = [...statistics.values()].some((names) => names.includes(view.stat));
  const asked = view.ranks.length > 0 ? view.ranks : ranks.slice(0, 1);
  return (
    <div class="toolbar">
      <label>
        <span>statistic</span>
        <select id="statistic" value={view.stat} onChange={(e) => setView({ stat: e.currentTarget.value })}>
          {!known && <option value={view.stat}>{shortened(view.stat, 40)}</option>}
          {[...statistics].map(([role, names]) => (
            <optgroup label={role}>{names.map((name) => <option value={name}>{name}</option>)}</optgroup>
          ))}
        </select>
      </label>
      <Filter view={view} error={error} />
      <Steps view={view} />
      <Ranks view={view} ranks={ranks} />
      <Attempts view={view} attempts={attempts} />
      <Crumbs view={view} />
      {shown < of && <span class="faint">{plural(shown, 'parameter')} of {of}</span>}
      <span class="right">
        copy as <Copy label="gradtap" text={() => gradtapLine(view, asked)} /> <Copy label="curl" text={() => curlLine(view, asked)} />
      </span>
      {error !== undefined && <p class="note bad wide">{error}</p>}
    </div>
  );
}
