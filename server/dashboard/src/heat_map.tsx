// Parameters by steps, one statistic: the page's main picture.
//
// Own canvas code: one canvas for cells and axes, drawn when data change, one above
// it for the cursor. The pointer, or the arrow keys, move a cursor; a click or Enter
// pins its parameter; dragging chooses steps; a module's label goes into it.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { showStep } from './chart';
import { mapCss } from './colors';
import { isCalm, kAxis, kGapRail, kRail } from './heat_axes';
import type { Geometry } from './heat_axes';
import { describe, stepAt, tell } from './heat_cell';
import type { Cell, Drawn, Told } from './heat_cell';
import { HeatData, rangeOf } from './heat_data';
import type { Range } from './heat_data';
import { drawCursor, drawMap } from './heat_draw';
import type { Heat } from './heat_load';
import { ColorTable, PooledRows, scaleOf } from './heat_paint';
import type { Extent } from './heat_paint';
import { useDark, useWidth } from './hooks';
import { isInside, nodeAt, treeOf } from './modules';
import { number, plural, shortened, visible } from './text';
import { setView, togglePin } from './view';
import type { View } from './view';

const kLeast = 150; // Pixels of height.
const kMost = 460;
const kRow = 15;
const kNarrow = 700;
const kDrag = 6; // Pixels; less is a click.

interface Props {
  heat: Heat;
  view: View;
  only: Set<string> | undefined; // Of a category of health.
  title: string;
  legend: boolean;
  // Of several maps that are compared: what all span, and where each tells its own.
  shared?: Extent | undefined;
  onExtent?: ((extent: Extent) => void) | undefined;
}

// The rows that are shown, in the model's order.
function shownRows(data: HeatData, module: string, only: Set<string> | undefined): Int32Array {
  const rows: number[] = [];
  for (let i = 0; i < data.rows; ++i) {
    if (module === '' && only === undefined) rows.push(i);
    else if (isInside(data.name(i), module) && (only === undefined || only.has(data.name(i)))) rows.push(i);
  }
  return Int32Array.from(rows);
}

function geometryOf(outer: number, rows: number): Geometry {
  const gutter = outer < kNarrow ? 110 : 200;
  return {
    gutter, width: Math.max(50, outer - gutter - 8), ratio: window.devicePixelRatio || 1,
    height: Math.min(kMost, Math.max(rows * kRow, Math.min(kLeast, rows * 40))),
  };
}

// The colours' ends. While a run goes on they only stretch, unless all has shrunk.
function useRange(heat: Heat, rows: Int32Array): Range {
  const last = useRef<{ of: unknown; value: Range }>();
  return useMemo(() => {
    const fresh = rangeOf(heat.data, rows);
    const old = last.current;
    const kept = old !== undefined && old.of === rows && fresh.largest <= old.value.largest && fresh.high <= old.value.high
      && fresh.high > old.value.high / 100;
    last.current = { of: rows, value: kept ? old.value : fresh };
    return last.current.value;
  }, [heat.data, rows, Math.floor(heat.version / 16)]);
}

// Chooses the steps between two pixels.
function chooseSteps(drawn: Drawn, from: number, to: number): void {
  const a = Math.floor(stepAt(drawn, Math.min(from, to)));
  const b = Math.ceil(stepAt(drawn, Math.max(from, to)));
  if (b > a) setView({ steps: [Math.max(0, a), b] });
}

function zoomSteps(drawn: Drawn, cell: Cell | undefined, factor: number): void {
  const { begin, end } = drawn.scale;
  const middle = cell === undefined ? (begin + end) / 2 : stepAt(drawn, cell.x);
  const a = Math.max(0, Math.floor(middle - (middle - begin) * factor));
  const b = Math.ceil(middle + (end - middle) * factor);
  if (b - a >= 2) setView({ steps: [a, b] });
}

// The cell that a key leads to; undefined: the key does not move.
function moved(key: string, far: number, drawn: Drawn, cell: Cell | undefined): Cell | undefined {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key] ?? [0, 0];
  if (dx === 0 && dy === 0) return undefined;
  const { pooled, geometry } = drawn;
  const width = Math.round(geometry.width * geometry.ratio);
  const perColumn = Math.max(1, Math.round(width / Math.max(1, pooled.data.columns)));
  const perRow = Math.max(1, Math.round(pooled.height / Math.max(1, pooled.rows.length)));
  const from = cell ?? { x: width - 1, y: 0 };
  return {
    x: Math.min(width - 1, Math.max(0, from.x + dx! * far * perColumn)),
    y: Math.min(pooled.height - 1, Math.max(0, from.y + dy! * far * perRow)),
  };
}

function onKey(event: KeyboardEvent, drawn: Drawn | undefined, cell: Cell | undefined, set: (cell?: Cell) => void): void {
  if (drawn === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  const next = moved(event.key, event.shiftKey ? 10 : 1, drawn, cell);
  if (next) set(next);
  else if (event.key === 'Enter' || event.key === ' ') {
    const told = cell && tell(drawn, cell);
    if (told) togglePin(told.name);
  } else if (event.key === '+') zoomSteps(drawn, cell, 0.5);
  else if (event.key === '-') zoomSteps(drawn, cell, 2);
  else if (event.key === '0') setView({ steps: [null, null] });
  else if (event.key === 'Escape') set(undefined);
  else return;
  event.preventDefault();
}

function cellOf(event: PointerEvent, { pooled, geometry }: Drawn): Cell | undefined {
  const { gutter, width, height, ratio } = geometry;
  const x = Math.floor((event.offsetX - gutter) * ratio);
  const y = Math.min(pooled.height - 1, Math.max(0, Math.floor((event.offsetY - kRail) * ratio)));
  return x >= 0 && x < Math.round(width * ratio) && event.offsetY <= kRail + height ? { x, y } : undefined;
}

// A click on a label: into the module, or pins the parameter.
function onLabel(event: PointerEvent, drawn: Drawn): void {
  const { geometry, pooled, tree, labels } = drawn;
  if (event.offsetX >= geometry.gutter) return;
  const row = ((event.offsetY - kRail) / geometry.height) * pooled.rows.length;
  const node = nodeAt(tree, labels, row);
  if (node === undefined) return;
  if (node.children.length > 0) setView({ module: node.path });
  else togglePin(node.path);
}

export function HeatMap({ heat, view, only, title, legend, shared, onExtent }: Props) {
  const [attach, outer] = useWidth();
  const dark = useDark();
  const base = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const drawn = useRef<Drawn>();
  const { data } = heat;
  const rows = useMemo(() => shownRows(data, view.module, only), [data, view.module, only]);
  const tree = useMemo(() => treeOf(Array.from(rows, (row) => data.name(row))), [data, rows]);
  const geometry = geometryOf(outer, rows.length);
  const { height, ratio } = geometry;
  const pooled = useMemo(() => new PooledRows(data, rows, Math.max(1, Math.round(height * ratio))),
                         [data, rows, height, ratio]);
  const own = useRange(heat, rows);
  const { low, high, largest } = shared ?? own;
  const colors = useMemo(() => new ColorTable(low, high), [low, high]);
  const { begin, end } = scaleOf(data);
  useEffect(() => onExtent?.({ ...own, begin, end }), [own, begin, end]);
  useEffect(() => {
    if (outer === 0 || base.current === null) return;
    pooled.update();
    drawn.current = drawMap(base.current, pooled, shared ?? { begin, end }, geometry, colors, tree);
    // For who drives the page: how often this was drawn.
    base.current.dataset.drawn = String(Number(base.current.dataset.drawn ?? 0) + 1);
  }, [heat, pooled, outer, dark, colors, tree, height, ratio, shared?.begin, shared?.end]);
  const full = kRail + height + kGapRail + kAxis;
  const size = {
    width: Math.round(outer * ratio), height: Math.round(full * ratio), style: { width: `${outer}px`, height: `${full}px` },
  };
  return (
    <div class="heat" ref={attach}>
      {title && <h3>{title}</h3>}
      <div class="heat-box">
        <canvas ref={base} {...size} />
        <Cursor over={over} drawn={drawn} size={size} pins={view.pins} redraw={[heat, outer, dark, pooled]}
                label={`Heat map of ${view.stat}: ${plural(rows.length, 'parameter')} over steps. Arrow keys move, Enter pins.`} />
      </div>
      {rows.length === 0 && (
        <p class="note">{data.columns === 0 ? 'None of these steps has statistics.' : 'No parameter is left by this filter.'}</p>
      )}
      {legend && <Legend colors={colors} largest={largest} data={data} rows={rows.length} />}
    </div>
  );
}

function Cursor({ over, drawn, size, pins, redraw, label }: {
  over: { current: HTMLCanvasElement | null }; drawn: { current?: Drawn | undefined }; size: object; pins: string[];
  redraw: unknown[]; label: string;
}) {
  const [cell, setCell] = useState<Cell>();
  const drag = useRef<number>();
  const now = drawn.current;
  const told = cell && now ? tell(now, cell) : undefined;
  useEffect(() => {
    if (over.current && drawn.current) drawCursor(over.current, drawn.current, cell, drag.current, pins);
  }, [cell, pins, ...redraw]);
  useEffect(() => {
    if (drawn.current) showStep(cell && stepAt(drawn.current, cell.x));
  }, [cell]);
  const at = (event: PointerEvent) => drawn.current && cellOf(event, drawn.current);
  const press = (event: PointerEvent) => {
    drag.current = at(event)?.x;
    if (drag.current !== undefined) over.current!.setPointerCapture(event.pointerId);
  };
  const release = (event: PointerEvent) => {
    const from = drag.current;
    const to = at(event);
    drag.current = undefined;
    if (drawn.current === undefined) return;
    if (from === undefined) onLabel(event, drawn.current);
    else if (to && Math.abs(to.x - from) > kDrag * drawn.current.geometry.ratio) chooseSteps(drawn.current, from, to.x);
    else if (told) togglePin(told.name);
  };
  const lines = cell && now ? describe(told, now, cell) : [];
  return (
    <>
      <canvas ref={over} {...size} class="over" tabIndex={0} role="application" aria-label={label}
              onPointerMove={(event: PointerEvent) => setCell(at(event))}
              onPointerLeave={() => drag.current === undefined && setCell(undefined)}
              onPointerDown={press} onPointerUp={release} onBlur={() => setCell(undefined)}
              onKeyDown={(event: KeyboardEvent) => onKey(event, drawn.current, cell, setCell)} />
      {cell && now && <Tip cell={cell} drawn={now} told={told} lines={lines} />}
      <p class="unseen" aria-live="polite">{told ? `${visible(told.name.slice(0, 200))}, ${lines.join(', ')}` : lines.join(', ')}</p>
    </>
  );
}

function Tip({ cell, drawn, told, lines }: { cell: Cell; drawn: Drawn; told: Told | undefined; lines: string[] }) {
  const { gutter, width, height, ratio } = drawn.geometry;
  const [x, y] = [gutter + cell.x / ratio, kRail + cell.y / ratio];
  const outer = gutter + width + 8;
  return (
    <div class="tip" style={{
      ...(y > height / 2 ? { bottom: `${kRail + height - y + kGapRail + kAxis + 10}px` } : { top: `${y + 14}px` }),
      ...(x > outer / 2 ? { right: `${outer - x + 10}px` } : { left: `${x + 10}px` }),
    }}>
      {told && <b><bdi>{shortened(told.name, 60)}</bdi></b>}
      {lines.map((line) => <span>{line}</span>)}
    </div>
  );
}

function Legend({ colors, largest, data, rows }: { colors: ColorTable; largest: number; data: HeatData; rows: number }) {
  const stops = Array.from({ length: 24 }, (_, i) => i / 23);
  const missing = data.gaps.filter((gap) => !isCalm(gap));
  const lost = missing.filter((gap) => gap.lost).reduce((sum, gap) => sum + gap.steps, 0);
  const skipped = missing.reduce((sum, gap) => sum + gap.steps, 0) - lost;
  return (
    <div class="legend">
      <span>≤ {number(colors.low)}</span>
      <span class="ramp" aria-hidden="true">
        {stops.map((t) => <i style={{ background: mapCss(t) }} />)}
      </span>
      <span>{largest > colors.high ? `${number(colors.high)} and more, up to ${number(largest)}` : number(colors.high)}</span>
      <span><i class="key bad" /> NaN or infinite</span>
      <span><i class="key absent" /> absent</span>
      <span><i class="key gap" /> not recorded</span>
      {lost > 0 && <span><i class="key lost" /> {plural(lost, 'step')} lost</span>}
      {skipped > 0 && <span><i class="key skipped" /> {plural(skipped, 'step')} skipped</span>}
      <span class="right">{plural(rows, 'parameter')}, {plural(data.columns, 'column')}, the worst of each</span>
    </div>
  );
}
