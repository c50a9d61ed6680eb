// Series as uPlot takes them: one column of steps that all share, and for each line
// its least, its greatest and what lies between at each of them.
//
// Where many steps fall into one column the band keeps the extremes; where steps are
// missing the line breaks.

import { isCalm } from './heat_axes';
import type { Gap, SeriesData } from './messages';

export interface Line {
  label: string;
  parameter: string; // Empty: a scalar.
  color: string;
  dash: number[];
  faint: boolean; // Of an older attempt.
  data: SeriesData;
  nonFinite: SeriesData | undefined; // How many elements are: norms leave them out.
}

type Column = (number | null | undefined)[];

export interface Mark {
  line: number;
  step: number;
}

export interface Table {
  steps: number[];
  middle: Column[]; // One for each line, as least and greatest.
  least: Column[];
  greatest: Column[];
  banded: boolean; // Some column holds more than one step.
  nonFinite: Mark[];
  zeros: Mark[]; // On a logarithmic scale: nowhere.
  log: boolean;
  range: [number, number];
}

const kColumns = 500;

function stepsOf(lines: Line[], gaps: Gap[]): { steps: number[]; width: number } {
  let first = Infinity;
  let last = -Infinity;
  const all = new Set<number>();
  for (const { data } of lines) {
    for (const step of data.step) all.add(step);
    if (data.step.length === 0) continue;
    first = Math.min(first, data.step[0]!);
    last = Math.max(last, data.step[data.step.length - 1]!);
  }
  const width = all.size <= kColumns ? 1 : Math.ceil((last - first + 1) / kColumns);
  const steps = new Set<number>();
  for (const step of all) steps.add(Math.floor(step / width) * width);
  for (const gap of gaps) {
    if (!isCalm(gap) && gap.firstStep > first && gap.firstStep < last) steps.add(Math.floor(gap.firstStep / width) * width);
  }
  return { steps: [...steps].sort((a, b) => a - b), width };
}

// Whether a logarithmic axis says more.
function wantsLog(lines: Line[]): boolean {
  let least = Infinity;
  let greatest = 0;
  for (const { data } of lines) {
    for (const value of data.value) {
      if (value < 0) return false;
      if (value > 0 && value < least) least = value;
      if (Number.isFinite(value) && value > greatest) greatest = value;
    }
  }
  return greatest > 20 * least;
}

class Cells {
  readonly least: Column;
  readonly greatest: Column;
  readonly sum: Float64Array;
  readonly n: Uint32Array;

  constructor(size: number) {
    this.least = new Array<number | null | undefined>(size);
    this.greatest = new Array<number | null | undefined>(size);
    this.sum = new Float64Array(size);
    this.n = new Uint32Array(size);
  }

  add(at: number, value: number): void {
    const low = this.least[at];
    const high = this.greatest[at];
    if (low === undefined || low === null || value < low) this.least[at] = value;
    if (high === undefined || high === null || value > high) this.greatest[at] = value;
    this.sum[at]! += value;
    this.n[at]! += 1;
  }

  middle(log: boolean): Column {
    return this.least.map((low, i) => {
      if (low === undefined || low === null) return low;
      const high = this.greatest[i]!;
      const mean = this.sum[i]! / this.n[i]!;
      return log && this.n[i]! > 1 ? Math.min(high, Math.max(low, mean)) : mean;
    });
  }
}

// `ratios`: always on a logarithmic axis.
export function tabulate(lines: Line[], gaps: Gap[], ratios = false): Table {
  const { steps, width } = stepsOf(lines, gaps);
  const at = new Map(steps.map((step, i) => [step, i]));
  const log = ratios || wantsLog(lines);
  const table: Table = {
    steps: steps.map((step) => step + (width - 1) / 2), middle: [], least: [], greatest: [], banded: false,
    nonFinite: [], zeros: [], log, range: [Infinity, -Infinity],
  };
  lines.forEach((line, index) => {
    const { data } = line;
    const cells = new Cells(steps.length);
    data.step.forEach((step, i) => {
      const value = data.value[i]!;
      if (data.absent.has(i)) return;
      if (!Number.isFinite(value)) table.nonFinite.push({ line: index, step });
      else if (log && value <= 0) table.zeros.push({ line: index, step });
      else {
        cells.add(at.get(Math.floor(step / width) * width)!, value);
        if (value < table.range[0]) table.range[0] = value;
        if (value > table.range[1]) table.range[1] = value;
      }
    });
    line.nonFinite?.value.forEach((n, i) => {
      if (n > 0) table.nonFinite.push({ line: index, step: line.nonFinite!.step[i]! });
    });
    for (const gap of gaps) {
      const column = at.get(Math.floor(gap.firstStep / width) * width);
      if (isCalm(gap) || gap.rank !== data.rank || column === undefined || cells.n[column]! > 0) continue;
      cells.least[column] = cells.greatest[column] = null;
    }
    table.banded ||= cells.n.some((n) => n > 1);
    table.middle.push(cells.middle(log));
    table.least.push(cells.least);
    table.greatest.push(cells.greatest);
  });
  return table;
}
