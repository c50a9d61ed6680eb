// How the elements of a pinned parameter are distributed, over steps: a ridge for
// each step that has a histogram, the newest in front.
//
// The bins are powers of two with a sign (core/histogram.h), so the axis is: large
// negative, small negative, zero, small positive, large positive.

import { useEffect, useRef } from 'preact/hooks';

import { json, series } from './api';
import { inkOf } from './heat_axes';
import type { Ink } from './heat_axes';
import { useDark, useLoaded, useWidth } from './hooks';
import type { Live } from './live';
import { number, patternOf, plural, shortened } from './text';
import { setView } from './view';
import type { View } from './view';

const kRidges = 24;
const kAtOnce = 4;
const kHeight = 260;
const kOverlap = 3.2;
const kGutter = 64;
const kRoles = ['weight', 'grad', 'update', 'grad_local', 'buffer'];
const kBias = 127;

interface Ridge {
  step: number;
  // Shares of all elements by signed exponent: [exponent, negative, positive].
  bins: Map<number, [number, number]>;
  zero: number;
  nonFinite: number;
}

interface HistogramAnswer {
  step: string;
  histograms: { bin: number[]; count: string[]; numel: string }[];
}

function ridgeOf(answer: HistogramAnswer): Ridge | undefined {
  const histogram = answer.histograms[0];
  if (histogram === undefined) return undefined;
  const all = histogram.count.reduce((sum, n) => sum + Number(n), 0) || 1;
  const ridge: Ridge = { step: Number(answer.step), bins: new Map(), zero: 0, nonFinite: 0 };
  histogram.bin.forEach((bin, i) => {
    const share = Number(histogram.count[i] ?? 0) / all;
    if (bin === 0) ridge.zero += share;
    else if (bin <= 3) ridge.nonFinite += share;
    else {
      const negative = bin === 5 || bin >= 272;
      const exponent = bin < 16 ? -kBias : (negative ? bin - 272 : bin - 16) - kBias;
      const sides = ridge.bins.get(exponent) ?? [0, 0];
      sides[negative ? 0 : 1] += share;
      ridge.bins.set(exponent, sides);
    }
  });
  return ridge;
}

// At most kRidges of them, the first and the last among them.
function chosen(steps: number[]): number[] {
  if (steps.length <= kRidges) return steps;
  return Array.from({ length: kRidges }, (_, i) => steps[Math.round((i * (steps.length - 1)) / (kRidges - 1))]!);
}

interface Question {
  run: string;
  rank: number;
  attempt: number;
  parameter: string;
  role: string;
}

async function load(question: Question, steps: object, before: Ridge[] | undefined, signal: AbortSignal): Promise<Ridge[]> {
  const { run, rank, attempt, parameter, role } = question;
  const there = await series({
    runs: [run], statistics: [`${role}.p50`], match: patternOf([parameter]), ranks: [rank], attempt, steps: steps as {},
  }, signal);
  const known = new Map(before?.map((ridge) => [ridge.step, ridge]));
  const wanted = chosen(there.series[0]?.step ?? []);
  const missing = wanted.filter((step) => !known.has(step));
  const one = async () => {
    for (let step = missing.shift(); step !== undefined; step = missing.shift()) {
      const answer = await json<HistogramAnswer>('GetHistograms', { ...question, role, step }, signal);
      const ridge = ridgeOf(answer);
      if (ridge) known.set(step, ridge);
    }
  };
  await Promise.all(Array.from({ length: kAtOnce }, one));
  return wanted.map((step) => known.get(step)).filter((ridge): ridge is Ridge => ridge !== undefined);
}

// Exponents that hold something worth drawing.
function spanOf(ridges: Ridge[]): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const ridge of ridges) {
    for (const [exponent, [negative, positive]] of ridge.bins) {
      if (negative + positive < 4e-3) continue;
      low = Math.min(low, exponent);
      high = Math.max(high, exponent);
    }
  }
  return low <= high ? [Math.max(low, high - 40), high] : [-10, 0];
}

// Shares from the largest negative over zero to the largest positive.
function profile(ridge: Ridge, low: number, high: number): number[] {
  const values: number[] = [];
  for (let e = high; e >= low; --e) values.push(ridge.bins.get(e)?.[0] ?? 0);
  values.push(ridge.zero);
  for (let e = low; e <= high; ++e) values.push(ridge.bins.get(e)?.[1] ?? 0);
  return values;
}

function drawRidge(context: CanvasRenderingContext2D, values: number[], left: number, width: number, base: number,
                   high: number, page: string, accent: string): void {
  const each = width / values.length;
  context.beginPath();
  context.moveTo(left, base);
  values.forEach((value, i) => context.lineTo(left + (i + 0.5) * each, base - value * high));
  context.lineTo(left + width, base);
  context.fillStyle = page;
  context.fill();
  context.globalAlpha = 0.14;
  context.fillStyle = accent;
  context.fill();
  context.globalAlpha = 1;
  context.strokeStyle = accent;
  context.stroke();
}

function drawAxis(context: CanvasRenderingContext2D, low: number, high: number, width: number, ink: Ink): void {
  const n = 2 * (high - low + 1) + 1;
  const each = width / n;
  const every = Math.max(1, Math.ceil(70 / each));
  context.textAlign = 'center';
  context.fillStyle = ink.faint;
  const at = (i: number) => kGutter + (i + 0.5) * each;
  for (let e = high; e >= low + every / 2; e -= every) {
    context.fillText(number(-(2 ** e)), at(high - e), kHeight - 4);
    context.fillText(number(2 ** e), at(n - 1 - (high - e)), kHeight - 4);
  }
  context.fillText('0', at((n - 1) / 2), kHeight - 4);
}

function draw(canvas: HTMLCanvasElement, ridges: Ridge[], outer: number, ratio: number): void {
  const context = canvas.getContext('2d')!;
  const ink = inkOf(canvas);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, outer, kHeight);
  context.font = `11px ${ink.font}`;
  const [low, high] = spanOf(ridges);
  const width = outer - kGutter - 8;
  drawAxis(context, low, high, width, ink);
  const profiles = ridges.map((ridge) => profile(ridge, low, high));
  const peak = Math.max(1e-9, ...profiles.flat());
  const room = kHeight - 22;
  const apart = room / (ridges.length + kOverlap - 1);
  const page = getComputedStyle(canvas).getPropertyValue('--page').trim();
  const labelEvery = Math.ceil(13 / apart);
  ridges.forEach((ridge, i) => {
    const base = apart * (i + kOverlap);
    drawRidge(context, profiles[i]!, kGutter, width, base, (apart * kOverlap) / peak, page, ink.accent);
    context.textAlign = 'right';
    context.fillStyle = ridge.nonFinite > 0 ? '#ff00c8' : ink.faint;
    if ((ridges.length - 1 - i) % labelEvery === 0 || ridge.nonFinite > 0) context.fillText(String(ridge.step), kGutter - 6, base);
  });
}

export function Ridgeline({ view, rank, live }: { view: View; rank: number; live: Live }) {
  const [attach, outer] = useWidth();
  const canvas = useRef<HTMLCanvasElement>(null);
  const dark = useDark();
  const parameter = view.pins[view.pins.length - 1] ?? '';
  const steps = { begin: view.steps[0] ?? undefined, end: view.steps[1] ?? undefined };
  const question: Question = { run: view.run, rank, attempt: view.attempt, parameter, role: view.role };
  const key = parameter === '' ? '' : JSON.stringify([question, steps, live.anew]);
  const { value, error } = useLoaded<Ridge[]>(key, live.slow, (signal, before) => load(question, steps, before, signal));
  const ratio = window.devicePixelRatio || 1;
  const shown = value !== undefined && value.length > 0;
  useEffect(() => {
    if (shown && canvas.current && outer > 100) draw(canvas.current, value, outer, ratio);
  }, [value, outer, dark]);
  if (parameter === '') return null;
  return (
    <section class="panel ridges" ref={attach} aria-label="Distribution">
      <h3>
        distribution of
        <select aria-label="Role" value={view.role} onChange={(e) => setView({ role: e.currentTarget.value })}>
          {kRoles.map((role) => <option value={role}>{role}</option>)}
          {!kRoles.includes(view.role) && <option value={view.role}>{shortened(view.role, 20)}</option>}
        </select>
        <bdi>{shortened(parameter, 60)}</bdi>
        {shown && <span class="faint">{plural(value.length, 'step')}, bins are powers of two</span>}
      </h3>
      {error && <p class="note">{error.message}</p>}
      {!shown && !error && value !== undefined && (
        <p class="note">No histogram here. A trainer that runs with GRADTAP_HISTOGRAM_INTERVAL=100 records one each 100 steps.</p>
      )}
      {shown && <canvas ref={canvas} width={Math.round(outer * ratio)} height={Math.round(kHeight * ratio)}
                        style={{ width: `${outer}px`, height: `${kHeight}px` }} role="img"
                        aria-label={`Distribution at steps ${value[0]!.step} to ${value[value.length - 1]!.step}`} />}
    </section>
  );
}
