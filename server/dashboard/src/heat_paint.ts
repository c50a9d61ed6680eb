// From cells to pixels: pools rows and columns that share a pixel by what is worst,
// and colours them.
//
// Rows are pooled once and again only where columns have changed, so that a live
// map of 10,000 rows costs a few milliseconds a frame.

import { kMap, kMapSize, kNonFinite, kNonFiniteDark, pack } from './colors';
import { HeatData, kAbsentBit, kNonFiniteBit } from './heat_data';

const kMagenta = pack(kNonFinite);
const kDarkMagenta = pack(kNonFiniteDark);

// Which steps the pixels stand for.
export interface StepScale {
  begin: number; // The first step that is shown.
  end: number; // The first that is not.
}

// The usual distance of recorded steps.
export function strideOf(data: HeatData): number {
  const distances: number[] = [];
  for (const bucket of data.buckets) {
    if (bucket.recorded > 1) distances.push((bucket.last - bucket.first) / (bucket.recorded - 1));
  }
  for (let i = 1; i < data.columns && distances.length < 64; ++i) {
    distances.push(data.buckets[i]!.first - data.buckets[i - 1]!.last);
  }
  if (distances.length === 0) return 1;
  distances.sort((a, b) => a - b);
  return Math.max(1, distances[distances.length >> 1]!);
}

// What one map spans: of several that are compared, all share it.
export interface Extent {
  low: number; // Of the colours; as heat_data.ts has them.
  high: number;
  largest: number;
  begin: number; // Of the steps.
  end: number;
}

export const union = (a: Extent, b: Extent): Extent => ({
  low: Math.min(a.low, b.low), high: Math.max(a.high, b.high), largest: Math.max(a.largest, b.largest),
  begin: Math.min(a.begin, b.begin), end: Math.max(a.end, b.end),
});

export function scaleOf(data: HeatData): StepScale {
  if (data.columns === 0) return { begin: 0, end: 1 };
  return { begin: data.buckets[0]!.first, end: data.lastStep + strideOf(data) };
}

// For each pixel the columns that it shows, [from, to); none: a gap.
export function columnsAt(data: HeatData, scale: StepScale, width: number): Int32Array {
  const at = new Int32Array(2 * width);
  const stride = strideOf(data);
  const perPixel = (scale.end - scale.begin) / width;
  let from = 0;
  for (let x = 0; x < width; ++x) {
    const begin = scale.begin + x * perPixel;
    const end = begin + perPixel;
    const endOf = (i: number) =>
      Math.min(data.buckets[i]!.last + stride, i + 1 < data.columns ? data.buckets[i + 1]!.first : Infinity);
    while (from < data.columns && endOf(from) <= begin) ++from;
    let to = from;
    while (to < data.columns && data.buckets[to]!.first < end) ++to;
    at[2 * x] = from;
    at[2 * x + 1] = to;
  }
  return at;
}

// Rows as pixels of `height`: what the map shows before columns are pooled.
export class PooledRows {
  readonly worst: Float32Array;
  readonly flags: Uint8Array;
  private columns = 0;
  private refolded = 0;

  // `rows` of the data, from the top.
  constructor(readonly data: HeatData, readonly rows: Int32Array, readonly height: number) {
    this.worst = new Float32Array(height * data.capacity).fill(NaN);
    this.flags = new Uint8Array(height * data.capacity);
    this.refolded = data.refolded;
    this.update();
  }

  // Of a pixel: the rows that it shows, [from, to).
  rowsAt(y: number): [number, number] {
    const n = this.rows.length;
    const from = Math.floor((y * n) / this.height);
    return [from, Math.max(from + 1, Math.ceil(((y + 1) * n) / this.height))];
  }

  // What has changed since.
  update(): void {
    let from = Math.max(0, this.columns - 1);
    if (this.data.refolded !== this.refolded) {
      from = 0;
      this.worst.fill(NaN);
      this.flags.fill(0);
      this.refolded = this.data.refolded;
    }
    this.columns = this.data.columns;
    for (let y = 0; y < this.height; ++y) this.pool(y, from);
  }

  private pool(y: number, from: number): void {
    const { data, worst, flags } = this;
    const [first, last] = this.rowsAt(y);
    const out = y * data.capacity;
    for (let c = from; c < data.columns; ++c) {
      worst[out + c] = NaN;
      flags[out + c] = 0;
    }
    for (let i = first; i < last && i < this.rows.length; ++i) {
      const base = this.rows[i]! * data.capacity;
      for (let c = from; c < data.columns; ++c) {
        const value = data.worst[base + c]!;
        if (data.worse(value, worst[out + c]!)) worst[out + c] = value;
        flags[out + c]! |= data.flags[base + c]!;
      }
    }
  }
}

// Colours by the upper 15 bits of a magnitude: sign aside, a float's order is that
// of its bits.
export class ColorTable {
  private readonly table = new Uint32Array(1 << 15);

  constructor(readonly low: number, readonly high: number) {
    const bits = new Uint32Array(1);
    const value = new Float32Array(bits.buffer);
    const from = Math.log2(low);
    const over = Math.max(1e-9, Math.log2(high) - from);
    for (let i = 0; i < this.table.length; ++i) {
      bits[0] = (i << 16) | 0x8000;
      const t = (Math.log2(value[0]!) - from) / over;
      const at = Math.round(Math.min(1, Math.max(0, t || 0)) * (kMapSize - 1));
      this.table[i] = kMap[i === 0 ? 0 : at]!;
    }
  }

  of(bits: number): number {
    return this.table[(bits >>> 16) & 0x7fff]!;
  }
}

export interface Surface {
  gap: number; // Packed colours.
  gapLine: number;
  absent: number;
}

const striped = (x: number, y: number): boolean => ((x + y) & 7) < 4;

// The pixels of the map; below a strip of `rail` pixels that shows each column's
// worst of all rows.
export function paint(pooled: PooledRows, at: Int32Array, width: number, rail: number,
                      colors: ColorTable, surface: Surface, to: Uint32Array): void {
  const { data, height } = pooled;
  const bits = new Uint32Array(pooled.worst.buffer);
  const column = new Float32Array(width).fill(NaN);
  const columnBits = new Uint32Array(column.buffer);
  const columnFlags = new Uint8Array(width);
  const bad: number[] = [];
  for (let y = 0; y < height; ++y) {
    const base = y * data.capacity;
    const row = (y + rail) * width;
    for (let x = 0; x < width; ++x) {
      const from = at[2 * x]!;
      const end = at[2 * x + 1]!;
      let best = base + from;
      let flags = from < end ? pooled.flags[best]! : 0;
      for (let c = from + 1; c < end; ++c) {
        if (data.worse(pooled.worst[base + c]!, pooled.worst[best]!)) best = base + c;
        flags |= pooled.flags[base + c]!;
      }
      const value = from < end ? pooled.worst[best]! : NaN;
      to[row + x] = pixel(value, from < end ? bits[best]! : 0, flags, x, y, colors, surface);
      if (flags & kNonFiniteBit) bad.push(y * width + x);
      columnFlags[x]! |= flags;
      if (value === value && data.worse(value, column[x]!)) column[x] = value;
    }
  }
  for (let x = 0; x < width; ++x) {
    const color = pixel(column[x]!, columnBits[x]!, columnFlags[x]!, x, 0, colors, surface);
    let near = 0;
    for (let d = -2; d <= 2; ++d) near |= columnFlags[x + d] ?? 0;
    for (let y = 0; y < rail; ++y) to[y * width + x] = near & kNonFiniteBit ? kMagenta : color;
  }
  widen(bad, width, height, rail, to);
}

function pixel(value: number, bits: number, flags: number, x: number, y: number,
               colors: ColorTable, surface: Surface): number {
  if (flags & kNonFiniteBit) return striped(x, y) ? kMagenta : kDarkMagenta;
  if (value === value) return colors.of(bits);
  if (flags & kAbsentBit) return surface.absent;
  return ((x - y) & 7) === 0 ? surface.gapLine : surface.gap;
}

// One step of one parameter may be a fraction of a pixel: no mark is smaller than
// five pixels.
function widen(bad: number[], width: number, height: number, rail: number, to: Uint32Array): void {
  for (const at of bad) {
    const x = at % width;
    const y = Math.floor(at / width);
    for (let dy = -2; dy <= 2; ++dy) {
      for (let dx = -2; dx <= 2; ++dx) {
        const px = x + dx;
        const py = y + dy;
        if (px < 0 || py < 0 || px >= width || py >= height) continue;
        to[(py + rail) * width + px] = striped(px, py) ? kMagenta : kDarkMagenta;
      }
    }
  }
}
