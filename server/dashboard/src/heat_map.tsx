// Parameters by steps, one statistic: the page's main picture.
//
// Own canvas code: one canvas for cells and axes, drawn when data change, one above
// it for the cursor. The pointer, or the arrow keys, move a cursor; a click or Enter
// pins its parameter; dragging chooses steps; a module's label goes into it.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { mapCss } from './colors';
import {
  drawGaps, drawLabels, drawSteps, inkOf, isCalm, kAxis, kGapRail, kRail, xOf,
} from './heat_axes';
import type { Geometry } from './heat_axes';
import { HeatData, kAbsentBit, kNonFiniteBit, rangeOf } from './heat_data';
import type { Heat } from './heat_load';
import { ColorTable, PooledRows, columnsAt, paint, scaleOf } from './heat_paint';
import type { StepScale } from './heat_paint';
import { useDark, useWidth } from './hooks';
import { isInside, treeOf } from './modules';
import type { Label } from './modules';
import { causeName } from './gaps';
import { number, plural, shortened, visible } from './text';
import { setView, togglePin } from './view';
import type { View } from './view';

const kLeast = 150; // Pixels of height.
const kMost = 460;
const kRow = 15;

interface Props {
  heat: Heat;
  view: View;
  only: Set<string> | undefined; // Of a category of health.
  title: string;
  legend: boolean;
  // Of several maps that are compared: the colours of all, and where each tells its own.
  range?: [number, number] | undefined;
  onRange?: ((range: [number, number]) => void) | undefined;
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

interface Drawn {
  pooled: PooledRows;
  scale: StepScale;
  at: Int32Array;
  geometry: Geometry;
  labels: Label[];
  colors: ColorTable;
}

export interface Cell {
  x: number; // Device pixels of the map.
  y: number;
}

interface Told {
  row: number;
  name: string;
  value: number;
  flags: number;
  first: number;
  last: number;
  rows: number;
}

// The worst of what a pixel shows.
function tell(drawn: Drawn, cell: Cell): Told | undefined {
  const { pooled, at } = drawn;
  const [from, to] = [at[2 * cell.x]!, at[2 * cell.x + 1]!];
  if (!(from < to)) return undefined;
  const [first, last] = pooled.rowsAt(cell.y);
  const data = pooled.data;
  let best: { row: number; value: number; flags: number; column: number } | undefined;
  for (let i = first; i < last && i < pooled.rows.length; ++i) {
    const row = pooled.rows[i]!;
    for (let c = from; c < to; ++c) {
      const value = data.worst[row * data.capacity + c]!;
      const flags = data.flags[row * data.capacity + c]!;
      const more = (flags & kNonFiniteBit) - ((best?.flags ?? 0) & kNonFiniteBit);
      if (best === undefined || more > 0 || (more === 0 && data.worse(value, best.value))) {
        best = { row, value, flags, column: c };
      }
    }
  }
  if (best === undefined) return undefined;
  const bucket = data.buckets[best.column]!;
  return {
    row: best.row, name: data.name(best.row), value: best.value, flags: best.flags,
    first: bucket.first, last: bucket.last, rows: Math.min(last, pooled.rows.length) - first,
  };
}

function stepAt(drawn: Drawn, x: number): number {
  const { scale, geometry } = drawn;
  return scale.begin + ((x + 0.5) / (geometry.width * geometry.ratio)) * (scale.end - scale.begin);
}

export function describe(told: Told | undefined, drawn: Drawn, cell: Cell): string[] {
  if (told === undefined) {
    const step = Math.floor(stepAt(drawn, cell.x));
    const gap = drawn.pooled.data.gaps.find((one) => one.firstStep <= step && step <= one.lastStep);
    return [`step ${step}`, gap ? `not there: ${causeName(gap.cause)}` : 'nothing was recorded'];
  }
  const steps = told.first === told.last ? `step ${told.first}` : `steps ${told.first} to ${told.last}`;
  const parts = Number.isNaN(told.value) ? [] : [number(told.value)];
  if (told.flags & kNonFiniteBit) parts.push('NaN or infinite elements');
  if (told.flags & kAbsentBit) parts.push(parts.length ? 'absent at some step' : 'absent');
  const lines = [steps, parts.join(', ') || 'nothing was recorded'];
  if (told.rows > 1) lines.push(`the worst of ${plural(told.rows, 'parameter')}`);
  return lines;
}

function packed(css: string): number {
  const hex = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(css);
  const [r, g, b] = hex ? [1, 2, 3].map((i) => parseInt(hex[i]!, 16)) : [128, 128, 128];
  return ((255 << 24) | (b! << 16) | (g! << 8) | r!) >>> 0;
}

function draw(canvas: HTMLCanvasElement, pooled: PooledRows, scale: StepScale, geometry: Geometry,
              colors: ColorTable, names: string[]): Drawn {
  const { gutter, width, ratio } = geometry;
  const context = canvas.getContext('2d')!;
  const ink = inkOf(canvas);
  const style = getComputedStyle(canvas);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  const w = Math.round(width * ratio);
  const rail = Math.round((kRail - 2) * ratio);
  const at = columnsAt(pooled.data, scale, w);
  const image = context.createImageData(w, pooled.height + rail);
  paint(pooled, at, w, rail, colors, {
    gap: packed(style.getPropertyValue('--gap').trim()), gapLine: packed(style.getPropertyValue('--gap-line').trim()),
    absent: packed(style.getPropertyValue('--absent').trim()),
  }, new Uint32Array(image.data.buffer));
  const left = Math.round(gutter * ratio);
  context.putImageData(image, left, 0, 0, 0, w, rail);
  context.putImageData(image, left, Math.round(kRail * ratio) - rail, 0, rail, w, pooled.height);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawSteps(context, scale, geometry, ink);
  drawGaps(context, pooled.data.gaps, scale, geometry, ink);
  const labels = drawLabels(context, treeOf(names), geometry, ink);
  return { pooled, scale, at, geometry, labels, colors };
}

function drawCursor(canvas: HTMLCanvasElement, drawn: Drawn, cell: Cell | undefined, drag: number | undefined,
                    pins: string[]): void {
  const context = canvas.getContext('2d')!;
  const { gutter, width, height, ratio } = drawn.geometry;
  const ink = inkOf(canvas);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const { pooled } = drawn;
  const perRow = height / Math.max(1, pooled.rows.length);
  context.fillStyle = ink.accent;
  if (pins.length > 0) {
    const pinned = new Set(pins);
    pooled.rows.forEach((row, i) => {
      if (pinned.has(pooled.data.name(row))) {
        context.fillRect(gutter + width + 2, kRail + i * perRow, 4, Math.max(2, perRow - 1));
      }
    });
  }
  if (cell === undefined) return;
  const x = gutter + (cell.x + 0.5) / ratio;
  const y = kRail + (cell.y + 0.5) / ratio;
  if (drag !== undefined) {
    context.globalAlpha = 0.3;
    const from = gutter + (drag + 0.5) / ratio;
    context.fillRect(Math.min(from, x), 0, Math.abs(x - from), kRail + height);
    context.globalAlpha = 1;
  }
  context.strokeStyle = '#ffffff';
  context.lineWidth = 1;
  context.globalCompositeOperation = 'difference';
  context.strokeRect(Math.round(x) - 0.5, 0, 0.01, kRail + height);
  context.strokeRect(gutter, Math.round(y) - 0.5, width, 0.01);
  context.globalCompositeOperation = 'source-over';
}

// Chooses the steps between two pixels.
function chooseSteps(drawn: Drawn, from: number, to: number): void {
  const a = Math.floor(stepAt(drawn, Math.min(from, to)));
  const b = Math.ceil(stepAt(drawn, Math.max(from, to)));
  if (b > a) setView({ steps: [Math.max(0, a), b] });
}

export function zoomSteps(drawn: Drawn, cell: Cell | undefined, factor: number): void {
  const { begin, end } = drawn.scale;
  const middle = cell === undefined ? (begin + end) / 2 : stepAt(drawn, cell.x);
  const a = Math.max(0, Math.floor(middle - (middle - begin) * factor));
  const b = Math.ceil(middle + (end - middle) * factor);
  if (b - a >= 2) setView({ steps: [a, b] });
}

export function HeatMap({ heat, view, only, title, legend, range: shared, onRange }: Props) {
  const [attach, outer] = useWidth();
  const dark = useDark();
  const base = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  const drawn = useRef<Drawn>();
  const drag = useRef<number>();
  const [cell, setCell] = useState<Cell>();
  const { data } = heat;
  const rows = useMemo(() => shownRows(data, view.module, only), [data, view.module, only]);
  const names = useMemo(() => Array.from(rows, (row) => data.name(row)), [data, rows]);
  const ratio = window.devicePixelRatio || 1;
  const gutter = outer < 700 ? 110 : 200;
  const width = Math.max(50, outer - gutter - 8);
  const height = Math.min(kMost, Math.max(rows.length * kRow, Math.min(kLeast, rows.length * 40)));
  const pooled = useMemo(() => new PooledRows(data, rows, Math.max(1, Math.round(height * ratio))),
                         [data, rows, height, ratio]);
  const range = useRef<{ of: unknown; value: [number, number] }>();
  const own = useMemo(() => {
    const fresh = rangeOf(data, rows);
    const old = range.current;
    // While a run goes on its colours only stretch.
    const kept = old !== undefined && old.of === rows && fresh[1] <= old.value[1] && fresh[1] > old.value[1] / 100;
    const value: [number, number] = kept ? old.value : fresh;
    range.current = { of: rows, value };
    return value;
  }, [data, rows, Math.floor(heat.version / 16)]);
  useEffect(() => onRange?.(own), [own]);
  const [low, high] = shared ?? own;
  const colors = useMemo(() => new ColorTable(low, high), [low, high]);

  useEffect(() => {
    if (outer === 0 || base.current === null) return;
    pooled.update();
    const geometry = { gutter, width, height, ratio };
    drawn.current = draw(base.current, pooled, scaleOf(data), geometry, colors, names);
    performance.mark('gradtap-heat-map');
  }, [heat, pooled, outer, dark, colors, names, height, ratio]);
  useEffect(() => {
    if (over.current && drawn.current) drawCursor(over.current, drawn.current, cell, drag.current, view.pins);
  }, [cell, heat, view.pins, outer, dark, pooled]);

  const size = {
    width: Math.round(outer * ratio), height: Math.round((kRail + height + kGapRail + kAxis) * ratio),
    style: { width: `${outer}px`, height: `${kRail + height + kGapRail + kAxis}px` },
  };
  const cellOf = (event: PointerEvent): Cell | undefined => {
    const x = Math.floor((event.offsetX - gutter) * ratio);
    const y = Math.min(pooled.height - 1, Math.max(0, Math.floor((event.offsetY - kRail) * ratio)));
    return x >= 0 && x < width * ratio && event.offsetY <= kRail + height ? { x, y } : undefined;
  };
  const labelAt = (event: PointerEvent): Label | undefined => {
    if (event.offsetX >= gutter || rows.length === 0) return undefined;
    const row = ((event.offsetY - kRail) / height) * rows.length;
    return drawn.current?.labels.find(({ node }) => node.first <= row && row < node.last);
  };
  const told = cell && drawn.current ? tell(drawn.current, cell) : undefined;
  const press = (event: PointerEvent) => {
    drag.current = cellOf(event)?.x;
    if (drag.current !== undefined) over.current!.setPointerCapture(event.pointerId);
  };
  const release = (event: PointerEvent) => {
    const from = drag.current;
    drag.current = undefined;
    const to = cellOf(event);
    const label = from === undefined ? labelAt(event) : undefined;
    if (label) setView(label.node.children.length ? { module: label.node.path } : {});
    if (label && label.node.children.length === 0) togglePin(label.node.path);
    if (from === undefined || drawn.current === undefined) return;
    if (to !== undefined && Math.abs(to.x - from) > 6 * ratio) chooseSteps(drawn.current, from, to.x);
    else if (told) togglePin(told.name);
  };
  const keys = (event: KeyboardEvent) => {
    const d = drawn.current;
    if (d === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 10 : 1;
    const perColumn = Math.max(1, Math.round((width * ratio) / Math.max(1, data.columns)));
    const perRow = Math.max(1, Math.round(pooled.height / Math.max(1, rows.length)));
    const move = (dx: number, dy: number) => {
      const at = cell ?? { x: Math.round(width * ratio) - 1, y: 0 };
      setCell({
        x: Math.min(Math.round(width * ratio) - 1, Math.max(0, at.x + dx * far * perColumn)),
        y: Math.min(pooled.height - 1, Math.max(0, at.y + dy * far * perRow)),
      });
    };
    switch (event.key) {
      case 'ArrowLeft': move(-1, 0); break;
      case 'ArrowRight': move(1, 0); break;
      case 'ArrowUp': move(0, -1); break;
      case 'ArrowDown': move(0, 1); break;
      case 'Enter': case ' ': if (told) togglePin(told.name); break;
      case '+': zoomSteps(d, cell, 0.5); break;
      case '-': zoomSteps(d, cell, 2); break;
      case '0': setView({ steps: [null, null] }); break;
      case 'Escape': setCell(undefined); break;
      default: return;
    }
    event.preventDefault();
  };
  const lines = cell && drawn.current ? describe(told, drawn.current, cell) : [];
  const tipLeft = cell ? gutter + cell.x / ratio : 0;
  const tipRight = tipLeft > outer / 2;
  return (
    <div class="heat" ref={attach}>
      {title && <h3>{title}</h3>}
      <div class="heat-box">
        <canvas ref={base} {...size} />
        <canvas ref={over} {...size} class="over" tabIndex={0} role="application" aria-label={
          `Heat map of ${view.stat}: ${plural(rows.length, 'parameter')} over steps. Arrow keys move, Enter pins.`}
          onPointerMove={(event: PointerEvent) => setCell(cellOf(event))}
          onPointerLeave={() => drag.current === undefined && setCell(undefined)}
          onPointerDown={press} onPointerUp={release} onKeyDown={keys} />
        {cell && lines.length > 0 && (
          <div class="tip" style={{
            top: `${kRail + cell.y / ratio + 14}px`,
            ...(tipRight ? { right: `${outer - tipLeft + 10}px` } : { left: `${tipLeft + 10}px` }),
          }}>
            {told && <b><bdi>{shortened(told.name, 60)}</bdi></b>}
            {lines.map((line) => <span>{line}</span>)}
          </div>
        )}
        <p class="unseen" aria-live="polite">{told ? `${visible(told.name.slice(0, 200))}, ${lines.join(', ')}` : lines.join(', ')}</p>
      </div>
      {rows.length === 0 && <p class="note">No parameter is left by this filter.</p>}
      {legend && <Legend colors={colors} data={data} rows={rows.length} />}
    </div>
  );
}

function Legend({ colors, data, rows }: { colors: ColorTable; data: HeatData; rows: number }) {
  const stops = Array.from({ length: 24 }, (_, i) => i / 23);
  const missing = data.gaps.filter((gap) => !isCalm(gap));
  const lost = missing.filter((gap) => gap.lost).reduce((sum, gap) => sum + gap.steps, 0);
  const skipped = missing.reduce((sum, gap) => sum + gap.steps, 0) - lost;
  return (
    <div class="legend">
      <span>{number(colors.low)}</span>
      <span class="ramp" aria-hidden="true">
        {stops.map((t) => <i style={{ background: mapCss(t) }} />)}
      </span>
      <span>{number(colors.high)}</span>
      <span><i class="key bad" /> NaN or infinite</span>
      <span><i class="key absent" /> absent</span>
      <span><i class="key gap" /> not recorded</span>
      {lost > 0 && <span><i class="key lost" /> {plural(lost, 'step')} lost</span>}
      {skipped > 0 && <span><i class="key skipped" /> {plural(skipped, 'step')} skipped</span>}
      <span class="right">{plural(rows, 'parameter')}, {plural(data.columns, 'column')}, the worst of each</span>
    </div>
  );
}

export { xOf };
