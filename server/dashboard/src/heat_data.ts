// The cells of a heat map, and how they grow while a run goes on.
//
// Cells are pooled by what is worst, never averaged (proto/gradtap/v1/heat_map.proto);
// pooling what is pooled is the same again, so new steps fold into the last column,
// and columns fold in pairs when there are too many.

import type { Bucket, Gap, HeatAnswer } from './messages';

export const kNonFiniteBit = 1;
export const kAbsentBit = 2;
const kMostColumns = 1000; // As asked for,
const kMostCells = 5_000_000; // unless there are so many parameters.
const kLeastColumns = 250;

export const columnsFor = (rows: number): number =>
  Math.max(kLeastColumns, Math.min(kMostColumns, Math.floor(kMostCells / Math.max(1, rows))));

type Order = 'largest' | 'smallest' | 'magnitude';

function orderOf(statistic: string): Order {
  const name = statistic.slice(statistic.lastIndexOf('.') + 1);
  if (name === 'finite_fraction') return 'smallest';
  return ['mean', 'sum', 'min', 'max'].includes(name) ? 'magnitude' : 'largest';
}

// Whether `b` is worse than `a`; NaN is nothing.
export function worseThan(order: Order): (b: number, a: number) => boolean {
  if (order === 'smallest') return (b, a) => b < a || a !== a;
  if (order === 'magnitude') return (b, a) => Math.abs(b) > Math.abs(a) || (a !== a && b === b);
  return (b, a) => b > a || a !== a;
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; ++i) if (a[i] !== b[i]) return false;
  return true;
};

export class HeatData {
  readonly rows: number;
  readonly capacity: number;
  readonly worst: Float32Array; // Row by row, `capacity` places each.
  readonly flags: Uint8Array;
  readonly buckets: Bucket[];
  readonly statistic: string;
  readonly attempt: number;
  readonly rank: number;
  readonly worse: (b: number, a: number) => boolean;
  gaps: Gap[];
  version = 0; // Grows with each change.
  refolded = 0; // Grows when all columns have changed.
  private bucketSteps: number;
  private readonly names: (() => string)[];
  private readonly nameBytes: Uint8Array[];

  constructor(answer: HeatAnswer) {
    this.rows = answer.rows.length;
    this.buckets = answer.buckets;
    this.capacity = Math.ceil(1.2 * Math.max(answer.buckets.length, columnsFor(this.rows)));
    this.worst = new Float32Array(this.rows * this.capacity).fill(NaN);
    this.flags = new Uint8Array(this.rows * this.capacity);
    this.statistic = answer.statistic;
    this.attempt = answer.attempt;
    this.rank = answer.rank;
    this.bucketSteps = Math.max(1, answer.bucketSteps);
    this.gaps = answer.gaps;
    this.worse = worseThan(orderOf(answer.statistic));
    this.names = answer.rows.map((row) => row.name);
    this.nameBytes = answer.rows.map((row) => row.nameBytes.slice());
    const bytes = new Uint8Array(this.worst.buffer);
    const most = 4 * this.buckets.length;
    answer.rows.forEach((row, i) => {
      bytes.set(row.worst.subarray(0, most), 4 * i * this.capacity);
      this.flags.set(row.flags.subarray(0, this.buckets.length), i * this.capacity);
    });
  }

  name(row: number): string {
    return this.names[row]!();
  }

  get columns(): number {
    return this.buckets.length;
  }

  get lastStep(): number {
    return this.buckets.length ? this.buckets[this.buckets.length - 1]!.last : -1;
  }

  // Takes in the columns of steps after lastStep. False: it is of other parameters,
  // or of steps that are there already, and nothing has changed; ask for all anew.
  append(answer: HeatAnswer): boolean {
    if (answer.buckets.length === 0) return true;
    if (answer.rows.length !== this.rows || answer.attempt !== this.attempt) return false;
    if (this.columns > 0 && answer.buckets[0]!.first <= this.lastStep) return false;
    for (let i = 0; i < this.rows; ++i) {
      if (!sameBytes(answer.rows[i]!.nameBytes, this.nameBytes[i]!)) return false;
    }
    const to = answer.buckets.map((bucket) => this.place(bucket));
    this.fill(answer, to);
    if (answer.gaps.length > 0) this.addGaps(answer.gaps);
    ++this.version;
    return true;
  }

  // The column that a bucket belongs to, a new one if the last is full.
  private place(bucket: Bucket): number {
    const last = this.buckets[this.columns - 1];
    const full = this.columns === this.capacity;
    if (last !== undefined && (full || last.recorded + bucket.recorded <= this.bucketSteps)) {
      last.last = bucket.last;
      last.recorded += bucket.recorded;
      return this.columns - 1;
    }
    this.buckets.push({ ...bucket });
    return this.columns - 1;
  }

  private fill(answer: HeatAnswer, to: number[]): void {
    const values = new Float32Array(to.length);
    const bytes = new Uint8Array(values.buffer);
    answer.rows.forEach((row, r) => {
      bytes.set(row.worst.subarray(0, bytes.length));
      const base = r * this.capacity;
      for (let i = 0; i < to.length; ++i) {
        const at = base + to[i]!;
        if (this.worse(values[i]!, this.worst[at]!)) this.worst[at] = values[i]!;
        this.flags[at]! |= row.flags[i] ?? 0;
      }
    });
    if (this.columns >= 0.95 * this.capacity) this.foldPairs();
  }

  private foldPairs(): void {
    const half = Math.ceil(this.columns / 2);
    for (let r = 0; r < this.rows; ++r) {
      const base = r * this.capacity;
      for (let c = 0; c < half; ++c) {
        const a = base + 2 * c;
        let worst = this.worst[a]!;
        let flags = this.flags[a]!;
        if (2 * c + 1 < this.columns) {
          if (this.worse(this.worst[a + 1]!, worst)) worst = this.worst[a + 1]!;
          flags |= this.flags[a + 1]!;
        }
        this.worst[base + c] = worst;
        this.flags[base + c] = flags;
      }
      this.worst.fill(NaN, base + half, base + this.columns);
      this.flags.fill(0, base + half, base + this.columns);
    }
    for (let c = 0; c < half; ++c) {
      const a = this.buckets[2 * c]!;
      const b = this.buckets[2 * c + 1];
      this.buckets[c] = b === undefined ? a : { ...a, last: b.last, recorded: a.recorded + b.recorded };
    }
    this.buckets.length = half;
    this.bucketSteps *= 2;
    ++this.refolded;
  }

  private addGaps(gaps: Gap[]): void {
    const key = (gap: Gap) => `${gap.attempt} ${gap.cause} ${gap.firstStep}`;
    const all = new Map(this.gaps.map((gap) => [key(gap), gap]));
    for (const gap of gaps) all.set(key(gap), gap);
    this.gaps = [...all.values()];
  }
}

// Magnitudes that the colours tell apart: from what 2 % lie below to the largest; or, if
// that stands alone, to four times what 99.5 % lie below. What is larger has the last
// colour: a spike is seen, and does not flatten the rest.
export interface Range {
  low: number;
  high: number;
  largest: number;
}

const kAlone = 30;

export function rangeOf(data: HeatData, rows: Int32Array): Range {
  const sample: number[] = [];
  let largest = 0;
  const every = Math.max(1, Math.floor((rows.length * data.columns) / 20000));
  let i = 0;
  for (const row of rows) {
    const base = row * data.capacity;
    for (let c = 0; c < data.columns; ++c, ++i) {
      const size = Math.abs(data.worst[base + c]!);
      if (size > largest) largest = size;
      if (i % every === 0 && size > 0) sample.push(size);
    }
  }
  if (largest === 0) return { low: 1e-3, high: 1, largest: 0 };
  sample.sort((a, b) => a - b);
  const at = (share: number) => sample[Math.floor(share * (sample.length - 1))] ?? largest;
  const high = largest > kAlone * at(0.995) ? 4 * at(0.995) : largest;
  return { low: Math.min(at(0.02), high / 10), high, largest };
}
