// What a cell of the drawn heat map stands for, and how it is told.

import { causeName } from './gaps';
import type { Geometry } from './heat_axes';
import { kAbsentBit, kNonFiniteBit } from './heat_data';
import type { ColorTable, PooledRows, StepScale } from './heat_paint';
import type { Label, ModuleNode } from './modules';
import { number, plural } from './text';

export interface Drawn {
  pooled: PooledRows;
  scale: StepScale;
  at: Int32Array; // As columnsAt() says.
  geometry: Geometry;
  tree: ModuleNode; // Of the rows.
  labels: Label[];
  colors: ColorTable;
}

export interface Cell {
  x: number; // Device pixels of the map.
  y: number;
}

export interface Told {
  name: string;
  value: number;
  flags: number;
  first: number;
  last: number;
  timeNs: number;
  rows: number; // That share the pixel.
}

// The worst of what a pixel shows; undefined: no step.
export function tell(drawn: Drawn, cell: Cell): Told | undefined {
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
    name: data.name(best.row), value: best.value, flags: best.flags, first: bucket.first, last: bucket.last,
    timeNs: bucket.timeNs, rows: Math.min(last, pooled.rows.length) - first,
  };
}

export function stepAt(drawn: Drawn, x: number): number {
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
  if (told.timeNs > 0) lines.push(new Date(told.timeNs / 1e6).toLocaleString());
  return lines;
}
