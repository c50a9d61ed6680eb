// The answers that come as protobuf: heat maps, series and snapshots. Field
// numbers are those of proto/gradtap/v1.

import { Reader } from './wire';

export interface Gap {
  attempt: number;
  rank: number;
  cause: number;
  firstStep: number;
  lastStep: number;
  steps: number;
  detail: string;
  lost: boolean;
}

export interface Bucket {
  first: number;
  last: number;
  recorded: number;
  timeNs: number;
}

export interface HeatRow {
  name: () => string;
  nameBytes: Uint8Array;
  worst: Uint8Array; // Floats as they came: not aligned.
  flags: Uint8Array; // Empty: all are 0.
}

export interface HeatAnswer {
  attempt: number;
  rank: number;
  statistic: string;
  bucketSteps: number;
  buckets: Bucket[];
  rows: HeatRow[];
  gaps: Gap[];
}

export interface SeriesData {
  run: string;
  rank: number;
  parameter: string;
  statistic: string;
  attempt: number[];
  step: number[];
  value: Float64Array;
  absent: Set<number>;
  pointsBefore: number;
}

export interface Snapshot {
  step: number;
  timeNs: number;
  attempt: number;
  rank: number;
  statistics: string[];
  rows: SnapshotRow[];
  scalars: { name: string; value: number }[];
  intervalSteps: number;
}

export interface SnapshotRow {
  parameter: string;
  kind: number;
  value: Float64Array;
  absent: number[];
}

const kNone = new Uint8Array(0);
const utf8 = new TextDecoder();

function readGap(reader: Reader): Gap {
  const gap: Gap = {
    attempt: 0, rank: 0, cause: 0, firstStep: 0, lastStep: 0, steps: 0, detail: '', lost: false,
  };
  reader.fields((field, r) => {
    switch (field) {
      case 1: gap.attempt = r.varint(); return true;
      case 2: gap.rank = r.varint(); return true;
      case 3:
        r.message().fields((inner, g) => {
          switch (inner) {
            case 1: gap.cause = g.varint(); return true;
            case 2: gap.firstStep = g.int64(); return true;
            case 3: gap.lastStep = g.int64(); return true;
            case 4: gap.steps = g.varint(); return true;
            case 5: gap.detail = g.text(); return true;
            default: return false;
          }
        });
        return true;
      case 4: gap.lost = r.varint() !== 0; return true;
      default: return false;
    }
  });
  return gap;
}

function readBucket(reader: Reader): Bucket {
  const bucket: Bucket = { first: 0, last: 0, recorded: 0, timeNs: 0 };
  reader.fields((field, r) => {
    switch (field) {
      case 1: bucket.first = r.int64(); return true;
      case 2: bucket.last = r.int64(); return true;
      case 3: bucket.recorded = r.varint(); return true;
      case 4: bucket.timeNs = r.int64(); return true;
      default: return false;
    }
  });
  return bucket;
}

function readHeatRow(reader: Reader): HeatRow {
  let nameBytes: Uint8Array = kNone;
  let worst: Uint8Array = kNone;
  let flags: Uint8Array = kNone;
  let name: string | undefined;
  reader.fields((field, r) => {
    switch (field) {
      case 1: nameBytes = r.blob(); return true;
      case 3: worst = r.blob(); return true;
      case 4: flags = r.blob(); return true;
      default: return false;
    }
  });
  return { nameBytes, worst, flags, name: () => (name ??= utf8.decode(nameBytes)) };
}

export function readHeatMap(bytes: Uint8Array): HeatAnswer {
  const answer: HeatAnswer = {
    attempt: 0, rank: 0, statistic: '', bucketSteps: 0, buckets: [], rows: [], gaps: [],
  };
  new Reader(bytes).fields((field, r) => {
    switch (field) {
      case 2: answer.attempt = r.varint(); return true;
      case 3: answer.rank = r.varint(); return true;
      case 4: answer.statistic = r.text(); return true;
      case 5: answer.bucketSteps = r.varint(); return true;
      case 6: answer.buckets.push(readBucket(r.message())); return true;
      case 7: answer.rows.push(readHeatRow(r.message())); return true;
      case 8: answer.gaps.push(readGap(r.message())); return true;
      default: return false;
    }
  });
  return answer;
}

function readOneSeries(reader: Reader): SeriesData {
  const series: SeriesData = {
    run: '', rank: 0, parameter: '', statistic: '', attempt: [], step: [],
    value: new Float64Array(0), absent: new Set(), pointsBefore: 0,
  };
  reader.fields((field, r) => {
    switch (field) {
      case 1: series.run = r.text(); return true;
      case 2: series.rank = r.varint(); return true;
      case 3: series.parameter = r.text(); return true;
      case 4: series.statistic = r.text(); return true;
      case 5: series.attempt = r.varints(); return true;
      case 6: series.step = r.varints(); return true;
      case 8: series.value = r.doubles(); return true;
      case 9: series.absent = new Set(r.varints()); return true;
      case 10: series.pointsBefore = r.varint(); return true;
      default: return false;
    }
  });
  return series;
}

export function readSeries(bytes: Uint8Array): { series: SeriesData[]; gaps: Gap[] } {
  const series: SeriesData[] = [];
  const gaps: Gap[] = [];
  new Reader(bytes).fields((field, r) => {
    switch (field) {
      case 1: series.push(readOneSeries(r.message())); return true;
      case 2: gaps.push(readGap(r.message())); return true;
      default: return false;
    }
  });
  return { series, gaps };
}

function readSnapshotRow(reader: Reader): SnapshotRow {
  const row: SnapshotRow = { parameter: '', kind: 0, value: new Float64Array(0), absent: [] };
  reader.fields((field, r) => {
    switch (field) {
      case 1: row.parameter = r.text(); return true;
      case 2: row.kind = r.varint(); return true;
      case 3: row.value = r.doubles(); return true;
      case 4: row.absent = r.varints(); return true;
      default: return false;
    }
  });
  return row;
}

function readScalar(reader: Reader): { name: string; value: number } {
  const scalar = { name: '', value: 0 };
  reader.fields((field, r) => {
    switch (field) {
      case 1: scalar.name = r.text(); return true;
      case 2: scalar.value = r.double(); return true;
      default: return false;
    }
  });
  return scalar;
}

export function readSnapshot(bytes: Uint8Array): Snapshot {
  const snapshot: Snapshot = {
    step: 0, timeNs: 0, attempt: 0, rank: 0, statistics: [], rows: [], scalars: [], intervalSteps: 0,
  };
  new Reader(bytes).fields((field, r) => {
    switch (field) {
      case 2: snapshot.attempt = r.varint(); return true;
      case 3: snapshot.rank = r.varint(); return true;
      case 4: snapshot.step = r.int64(); return true;
      case 5: snapshot.timeNs = r.int64(); return true;
      case 6: snapshot.statistics.push(r.text()); return true;
      case 7: snapshot.rows.push(readSnapshotRow(r.message())); return true;
      case 8: snapshot.scalars.push(readScalar(r.message())); return true;
      case 9: snapshot.intervalSteps = r.varint(); return true;
      default: return false;
    }
  });
  return snapshot;
}
