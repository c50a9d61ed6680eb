// One panel of lines over steps: uPlot, with bands, gaps, and marks for what has no
// place on the axis. All panels share a cursor.

import uPlot from 'uplot';
import { useEffect, useRef, useState } from 'preact/hooks';

import { inkOf } from './heat_axes';
import { useDark, useWidth } from './hooks';
import type { Line, Table } from './lines';
import { number } from './text';

const kHeight = 190;
const kSync = 'steps';

// Moves the cursor of all panels, as the heat map's goes; undefined: away.
export function showStep(step: number | undefined): void {
  for (const plot of uPlot.sync(kSync).plots) {
    const left = step === undefined ? -10 : plot.valToPos(step, 'x');
    plot.setCursor({ left, top: 10 }, false);
  }
}

interface Props {
  title: string;
  lines: Line[];
  table: Table;
  ratioBand?: boolean; // Marks 1e-3, and 1e-4 to 1e-2.
}

function withAlpha(color: string, alpha: number): string {
  return `${color}${Math.round(255 * alpha).toString(16).padStart(2, '0')}`;
}

// Beneath the lines: where update ratios of a healthy training lie, by a rule of thumb.
function drawRatioBand(u: uPlot, color: string): void {
  const { left, top, width, height } = u.bbox;
  const y = (value: number) => Math.min(top + height, Math.max(top, u.valToPos(value, 'y', true)));
  const context = u.ctx;
  context.save();
  context.fillStyle = withAlpha(color, 0.1);
  context.fillRect(left, y(1e-2), width, y(1e-4) - y(1e-2));
  context.fillStyle = withAlpha(color, 0.8);
  const line = u.valToPos(1e-3, 'y', true);
  if (line > top && line < top + height) context.fillRect(left, Math.round(line), width, 1);
  context.restore();
}

// Above the lines: what is not finite, at the top; zero on a logarithmic axis, below.
function drawMarks(u: uPlot, table: Table, lines: Line[]): void {
  const { left, top, width, height } = u.bbox;
  const r = window.devicePixelRatio || 1;
  const context = u.ctx;
  context.save();
  context.lineWidth = 1.5 * r;
  const each = (marks: Table['zeros'], draw: (x: number, color: string) => void) => {
    const seen = new Set<number>();
    for (const { line, step } of marks) {
      const x = Math.round(u.valToPos(step, 'x', true));
      if (x < left || x > left + width || seen.has(x)) continue;
      seen.add(x);
      draw(x, lines[line]!.color);
    }
  };
  each(table.nonFinite, (x) => {
    context.fillStyle = '#ff00c8';
    context.fillRect(x - 2 * r, top, 4 * r, 5 * r);
    context.fillStyle = '#ff00c85a';
    context.fillRect(x - 0.5 * r, top, r, height);
  });
  each(table.zeros, (x, color) => {
    context.fillStyle = color;
    context.fillRect(x - r, top + height - 5 * r, 2 * r, 5 * r);
  });
  context.restore();
}

const isTen = (v: number) => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-6;

// Lines at powers of ten, where there are at least two.
function tensAlone(_: uPlot, splits: number[]): (number | null)[] {
  return splits.filter(isTen).length < 2 ? splits : splits.map((v) => (isTen(v) ? v : null));
}

// An axis of powers of ten where there is room for no other label.
function logLabels(_: uPlot, splits: (number | null)[]): string[] {
  const tens = splits.filter((v): v is number => v !== null && isTen(v));
  const every = Math.ceil(tens.length / 6);
  return splits.map((v) => {
    if (v === null) return '';
    const at = tens.indexOf(v);
    if (tens.length < 2) return number(v);
    return at >= 0 && at % every === 0 ? number(v) : '';
  });
}

function rangeOf(table: Table, ratioBand: boolean): [number, number] {
  let [low, high] = table.range;
  if (ratioBand) [low, high] = [Math.min(low, 5e-5), Math.max(high, 2e-2)];
  if (!(low <= high)) return table.log ? [0.1, 1] : [0, 1];
  if (table.log) return [low / 1.2, high * 1.2];
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  return [low - pad, high + pad];
}

function optionsOf(props: Props, width: number, host: HTMLElement, tell: (at: number | null) => void): uPlot.Options {
  const { lines, table } = props;
  const ink = inkOf(host);
  const { log } = table;
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  for (const line of lines) {
    const alpha = line.faint ? 0.35 : 1;
    const edge: uPlot.Series = { stroke: 'transparent', points: { show: false }, pxAlign: 0 };
    if (table.banded) {
      series.push({ ...edge }, { ...edge });
      bands.push({ series: [series.length - 2, series.length - 1], fill: withAlpha(line.color, 0.22 * alpha) });
    }
    series.push({
      stroke: withAlpha(line.color, alpha), width: line.faint ? 1 : 1.5, dash: line.dash, pxAlign: 0,
      points: { show: table.steps.length < 3, size: 5, fill: line.color },
    });
  }
  const axis: uPlot.Axis = {
    stroke: ink.faint, font: `11px ${ink.font}`, grid: { stroke: ink.line, width: 0.5 }, ticks: { show: false }, gap: 4,
  };
  return {
    width, height: kHeight, series, bands, legend: { show: false }, padding: [8, 8, 0, 0],
    cursor: {
      sync: { key: kSync }, points: { show: false }, drag: { x: false, y: false },
      y: false,
    },
    scales: { x: { time: false }, y: { distr: log ? 3 : 1, range: () => rangeOf(table, props.ratioBand === true) } },
    axes: [
      { ...axis, size: 24, values: (_, splits) => splits.map((v) => (Number.isInteger(v) ? String(v) : '')) },
      log ? { ...axis, size: 62, filter: tensAlone, grid: { ...axis.grid, filter: tensAlone }, values: logLabels }
        : { ...axis, size: 62, values: (_, splits) => splits.map(number) },
    ],
    hooks: {
      drawAxes: props.ratioBand ? [(u) => drawRatioBand(u, '#009e73')] : [],
      draw: [(u) => drawMarks(u, table, lines)],
      setCursor: [(u) => tell(u.cursor.idx ?? null)],
    },
  };
}

function dataOf({ lines, table }: Props): uPlot.AlignedData {
  const columns: (number | null | undefined)[][] = [table.steps];
  lines.forEach((_, i) => {
    if (table.banded) columns.push(table.greatest[i]!, table.least[i]!);
    columns.push(table.middle[i]!);
  });
  return columns as uPlot.AlignedData;
}

// Equal for panels that differ in their data alone.
function shapeOf({ lines, table, ratioBand }: Props): string {
  return JSON.stringify([lines.map((line) => [line.color, line.dash, line.faint]), table.banded, table.log, ratioBand,
                         table.steps.length < 3]);
}

export function Chart(props: Props) {
  const [attach, width] = useWidth();
  const dark = useDark();
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const latest = useRef(props);
  const [at, setAt] = useState<number | null>(null);
  latest.current = props;
  const shape = shapeOf(props);
  useEffect(() => {
    if (width < 50 || host.current === null) return undefined;
    // The data behind it change: what draws reads the latest.
    const live: Props = {
      get title() { return latest.current.title; }, get lines() { return latest.current.lines; },
      get table() { return latest.current.table; }, ratioBand: latest.current.ratioBand === true,
    };
    plot.current = new uPlot(optionsOf(live, width, host.current, setAt), dataOf(live), host.current);
    return () => {
      plot.current?.destroy();
      plot.current = undefined;
    };
  }, [shape, width > 50, dark]);
  useEffect(() => {
    if (plot.current && width > 50) plot.current.setSize({ width, height: kHeight });
  }, [width]);
  useEffect(() => plot.current?.setData(dataOf(props)), [props.table]);
  const step = at === null ? undefined : props.table.steps[at];
  return (
    <section class="panel" ref={attach}>
      <h3>
        <bdi>{props.title}</bdi>
        {step !== undefined && <Readout step={step} at={at!} lines={props.lines} table={props.table} />}
      </h3>
      <div ref={host} class="plot" style={{ height: `${kHeight}px` }} />
    </section>
  );
}

// The values under the cursor.
function Readout({ step, at, lines, table }: { step: number; at: number; lines: Line[]; table: Table }) {
  return (
    <span class="readout">
      <span>step {Math.round(step)}</span>
      {lines.slice(0, 8).map((line, i) => {
        const value = table.middle[i]?.[at];
        return line.faint || value === undefined || value === null ? null : (
          <span><i style={{ background: line.color }} />{number(value)}</span>
        );
      })}
    </span>
  );
}
