// All parameters: what they are, the newest values, and how one statistic went.
//
// Only the rows that can be seen are in the document, whatever their number.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import type { ParameterInfo } from './api';
import type { HeatData } from './heat_data';
import { kNonFiniteBit } from './heat_data';
import { isInside } from './modules';
import type { Snapshot } from './messages';
import { number, plural, shortened, visible } from './text';
import { setView, togglePin } from './view';
import type { View } from './view';

const kRow = 26;
const kSpare = 6;
const kHeight = 640; // As in page.css.
const kSpark = { width: 120, height: 18 };

interface Props {
  parameters: ParameterInfo[];
  snapshot: Snapshot | undefined;
  heat: HeatData | undefined;
  heatVersion: number;
  view: View;
  only: Set<string> | undefined;
}

interface Row {
  info: ParameterInfo;
  values: (number | undefined)[]; // Undefined: absent.
  heat: number; // Its row there; -1: none.
}

// By value, the largest first; what is NaN before all, what is absent behind.
function compare(a: number | undefined, b: number | undefined): number {
  const size = (v: number | undefined) => (v === undefined ? -Infinity : Number.isNaN(v) ? Infinity : v);
  const [x, y] = [size(a), size(b)];
  return x === y ? 0 : y - x;
}

function rowsOf(props: Props): Row[] {
  const { parameters, snapshot, heat, view, only } = props;
  const values = new Map(snapshot?.rows.map((row) => [row.parameter, row]));
  const heatRows = new Map<string, number>();
  if (heat) for (let i = 0; i < heat.rows; ++i) heatRows.set(heat.name(i), i);
  const rows: Row[] = [];
  for (const info of parameters) {
    if (!isInside(info.name, view.module) || (only !== undefined && !only.has(info.name))) continue;
    const row = values.get(info.name);
    const absent = row && row.absent.length > 0 ? new Set(row.absent) : undefined;
    rows.push({
      info, heat: heatRows.get(info.name) ?? -1,
      values: view.columns.map((_, i) => (row === undefined || absent?.has(i) ? undefined : row.value[i])),
    });
  }
  return sorted(rows, view);
}

function sorted(rows: Row[], view: View): Row[] {
  const up = view.sort.startsWith('-');
  const by = view.sort.replace(/^-/, '');
  const sign = up ? -1 : 1;
  if (by === 'name') rows.sort((a, b) => sign * (a.info.name < b.info.name ? -1 : a.info.name > b.info.name ? 1 : 0));
  else if (by === 'numel') rows.sort((a, b) => sign * (Number(b.info.numel) - Number(a.info.numel)));
  else {
    const column = view.columns.indexOf(by);
    if (column >= 0) rows.sort((a, b) => sign * compare(a.values[column], b.values[column]));
  }
  return rows;
}

function Spark({ heat, row, version }: { heat: HeatData; row: number; version: number }) {
  const path = useMemo(() => sparkOf(heat, row), [heat, row, Math.floor(version / 5)]);
  return (
    <svg class="spark" width={kSpark.width} height={kSpark.height} aria-hidden="true">
      <path d={path.line} />
      {path.bad !== '' && <path d={path.bad} class="bad" />}
    </svg>
  );
}

// On a logarithmic scale of its own where all is positive.
function sparkOf(heat: HeatData, row: number): { line: string; bad: string } {
  const { width, height } = kSpark;
  const bins = width / 2;
  const base = row * heat.capacity;
  const value = (c: number) => heat.worst[base + c]!;
  let log = true;
  for (let c = 0; c < heat.columns; ++c) if (value(c) < 0) log = false;
  const at = (v: number) => (log ? Math.log10(Math.max(v, 1e-38)) : v);
  const points: (number | undefined)[] = new Array<number | undefined>(bins);
  let bad = '';
  for (let c = 0; c < heat.columns; ++c) {
    const bin = Math.floor((c * bins) / heat.columns);
    if (heat.flags[base + c]! & kNonFiniteBit) bad += `M${2 * bin} 0V${height}`;
    const v = value(c);
    if (v !== v) continue;
    const old = points[bin];
    if (old === undefined || at(v) > old) points[bin] = at(v);
  }
  const known = points.filter((p): p is number => p !== undefined);
  const low = Math.min(...known);
  const span = Math.max(...known) - low || 1;
  let line = '';
  let pen = false;
  const each = Math.max(1, Math.floor(bins / Math.max(1, heat.columns)));
  points.forEach((p, i) => {
    if (p === undefined) {
      if (i % each === 0) pen = false;
      return;
    }
    const y = height - 1.5 - ((p - low) / span) * (height - 3);
    line += `${pen ? 'L' : 'M'}${2 * i + 1} ${y.toFixed(1)}`;
    pen = true;
  });
  return { line, bad };
}

function Header({ id, text, view, title }: { id: string; text: string; view: View; title?: string }) {
  const by = view.sort.replace(/^-/, '') === id;
  const up = by && view.sort.startsWith('-');
  const next = !by ? id : up ? '' : `-${id}`;
  return (
    <th scope="col" aria-sort={by ? (up ? 'ascending' : 'descending') : 'none'} class={id === 'name' ? 'name' : 'n'} title={title}>
      <button onClick={() => setView({ sort: next }, true)}>{text}{by ? (up ? ' ↑' : ' ↓') : ''}</button>
    </th>
  );
}

function Value({ value }: { value: number | undefined }) {
  if (value === undefined) return <td class="n faint">–</td>;
  return <td class={Number.isFinite(value) ? 'n' : 'n bad'}>{number(value)}</td>;
}

export function ParameterTable(props: Props) {
  const { view, parameters, snapshot, heat } = props;
  const rows = useMemo(() => rowsOf(props), [
    parameters, snapshot, heat, view.columns.join(), view.module, view.sort, props.only]);
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, height: 600 });
  useEffect(() => {
    const element = box.current!;
    const look = () => setSeen({ top: element.scrollTop, height: kHeight });
    look();
    element.addEventListener('scroll', look, { passive: true });
    return () => element.removeEventListener('scroll', look);
  }, []);
  const first = Math.max(0, Math.floor(seen.top / kRow) - kSpare);
  const last = Math.min(rows.length, Math.ceil((seen.top + seen.height) / kRow) + kSpare);
  const pins = new Set(view.pins);
  const width = 5 + view.columns.length;
  return (
    <div class="table-box" ref={box} tabIndex={0} aria-label={`${plural(rows.length, 'parameter')}`}>
      <table aria-rowcount={rows.length + 1}>
        <thead>
          <tr>
            <Header id="name" text="parameter" view={view} />
            <th scope="col">shape</th>
            <Header id="numel" text="elements" view={view} />
            {view.columns.map((column) => <Header id={column} text={shortened(column, 24)} view={view} />)}
            <th scope="col" class="spark-head">{shortened(view.stat, 24)}</th>
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr style={{ height: `${first * kRow}px` }}><td colSpan={width} /></tr>}
          {rows.slice(first, last).map((row, i) => (
            <TableRow key={row.info.name} row={row} index={first + i} pinned={pins.has(row.info.name)} heat={heat}
                      version={props.heatVersion} />
          ))}
          {last < rows.length && <tr style={{ height: `${(rows.length - last) * kRow}px` }}><td colSpan={width} /></tr>}
        </tbody>
      </table>
      {rows.length === 0 && <p class="note">No parameter is left by this filter.</p>}
    </div>
  );
}

function TableRow({ row, index, pinned, heat, version }: {
  row: Row; index: number; pinned: boolean; heat: HeatData | undefined; version: number;
}) {
  const { info } = row;
  const title = `${shortened(info.name, 400)}\n${visible(info.moduleType.slice(0, 200))} ${info.dtype}`
    + (info.unsupportedReason ? `\nnot recorded: ${visible(info.unsupportedReason.slice(0, 300))}` : '');
  return (
    <tr aria-rowindex={index + 2} class={pinned ? 'pinned-row' : ''}>
      <td class="name">
        <button aria-pressed={pinned} title={title} onClick={() => togglePin(info.name)}><bdi>{shortened(info.name, 64)}</bdi></button>
        {info.kind === 'KIND_BUFFER' && <small>buffer</small>}
        {info.aliases.length > 0 && <small title={info.aliases.map((name) => shortened(name, 200)).join('\n')}>tied</small>}
        {info.unsupportedReason !== '' && <small>not recorded</small>}
      </td>
      <td class="shape">{info.shape.length > 0 ? info.shape.join('×') : 'scalar'}</td>
      <td class="n">{number(Number(info.numel))}</td>
      {row.values.map((value) => <Value value={value} />)}
      <td>{heat && row.heat >= 0 && <Spark heat={heat} row={row.heat} version={version} />}</td>
    </tr>
  );
}
