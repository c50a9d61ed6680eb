// What is wrong with a run, in five categories, each with the parameters that it
// concerns. The strip, the table and the heat map know this type and nothing of
// where it comes from.
//
// Computed here from a snapshot of the newest step, the levels of those before it and
// a coarse heat map of the whole run.

import { heatMap, snapshot } from './api';
import { HeatData } from './heat_data';
import type { HeatAnswer, Snapshot } from './messages';
import { age, plural } from './text';

export const kCategories = ['nonfinite', 'exploding', 'vanishing', 'dead', 'stalled'] as const;
export type Category = (typeof kCategories)[number];

export interface Finding {
  count: number;
  affected: Set<string>; // Names of parameters; of `stalled` none.
  firstStep: number; // -1: unknown.
  lastStep: number;
}

export type Health = Record<Category, Finding>;

export const kTitles: Record<Category, string> = {
  nonfinite: 'non-finite', exploding: 'exploding', vanishing: 'vanishing', dead: 'dead', stalled: 'stalled',
};

export const kMeanings: Record<Category, string> = {
  nonfinite: 'NaN or infinite elements in a gradient or weight at any step shown',
  exploding: 'the gradient norm is over 10 times its level over earlier steps',
  vanishing: 'the gradient norm is under a thousandth of its level over earlier steps, or 0',
  dead: 'the last step has not changed the weight at all, though it has a gradient',
  stalled: 'the run is said to go on, and no step has come for a while',
};

const kExploding = 10;
const kVanishing = 1e-3;
const kEarlier = { begin: -257, end: -1 }; // All but the newest.
const kLookMs = 5000;
const kStatistics = ['grad.nonfinite', 'weight.nonfinite', 'grad.l2', 'update.l2'];

const none = (): Finding => ({ count: 0, affected: new Set(), firstStep: -1, lastStep: -1 });

export const kWell = (): Health => ({
  nonfinite: none(), exploding: none(), vanishing: none(), dead: none(), stalled: none(),
});

// What looks at the collector have brought; `judge` makes Health of it.
export interface Observation {
  newest: Snapshot;
  levels: Map<string, number>; // Of grad.l2: the median of earlier steps.
  levelsAt: number;
  nonFinite: Finding; // At any step up to `seen`.
  seen: number;
  seenMs: number; // When that was asked.
}

interface Question {
  run: string;
  rank: number;
  attempt: number;
}

// The median over columns of a few steps each.
function levelsOf(earlier: HeatData): Map<string, number> {
  const levels = new Map<string, number>();
  for (let row = 0; row < earlier.rows; ++row) {
    const base = row * earlier.capacity;
    const values = earlier.worst.slice(base, base + earlier.columns).filter((value) => value > 0).sort();
    if (values.length >= 3) levels.set(earlier.name(row), values[values.length >> 1]!);
  }
  return levels;
}

// What is not there says nothing.
const orNothing = <T>(answer: Promise<T>): Promise<T | undefined> => answer.catch(() => undefined);

// `local`: the run has gradients of before the loop's own reduction.
export async function observe(question: Question, local: boolean, before: Observation | undefined,
                              signal: AbortSignal): Promise<Observation> {
  const newest = await snapshot({ ...question, statistics: kStatistics }, signal);
  const found = before?.nonFinite ?? none();
  const look = before === undefined || Date.now() - before.seenMs > kLookMs;
  if (look) {
    const counts = ['grad.nonfinite', 'weight.nonfinite', ...(local ? ['grad_local.nonfinite'] : [])];
    const steps = { begin: before === undefined ? 0 : before.seen + 1, end: newest.step + 1 };
    await lookBack(question, counts, steps, found, signal);
  }
  const seen = look ? { seen: newest.step, seenMs: Date.now() } : { seen: before.seen, seenMs: before.seenMs };
  const stale = before === undefined || newest.step >= before.levelsAt + 64 || newest.step < before.levelsAt;
  if (!stale) return { ...before, ...seen, newest };
  const earlier = await orNothing(heatMap({ ...question, statistic: 'grad.l2', steps: kEarlier, max_buckets: 16 }, signal));
  return {
    newest, levelsAt: newest.step, nonFinite: found, ...seen,
    levels: earlier ? levelsOf(new HeatData(earlier)) : new Map<string, number>(),
  };
}

// Adds what was non-finite at these steps.
async function lookBack(question: Question, counts: string[], steps: { begin: number; end: number }, to: Finding,
                        signal: AbortSignal): Promise<void> {
  for (const statistic of counts) {
    const answer = await orNothing(heatMap({ ...question, statistic, steps, max_buckets: 64 }, signal));
    if (answer) addHistory(answer, to);
  }
}

function addHistory(history: HeatAnswer, to: Finding): void {
  for (const row of history.rows) {
    for (let c = 0; c < row.flags.length && c < history.buckets.length; ++c) {
      if (!(row.flags[c]! & 1)) continue;
      to.affected.add(row.name());
      const bucket = history.buckets[c]!;
      if (to.firstStep < 0 || bucket.first < to.firstStep) to.firstStep = bucket.first;
      if (bucket.last > to.lastStep) to.lastStep = bucket.last;
    }
  }
}

export function judge(seen: Observation | undefined): Health {
  const health = kWell();
  if (seen === undefined) return health;
  health.nonfinite = { ...seen.nonFinite, affected: new Set(seen.nonFinite.affected) };
  for (const row of seen.newest.rows) {
    const absent = new Set(row.absent);
    const value = (i: number) => (absent.has(i) ? NaN : row.value[i]!);
    const level = seen.levels.get(row.parameter);
    const grad = value(2);
    const ill = value(0) > 0 || value(1) > 0; // Norms are over what is finite.
    const put = (category: Category) => health[category].affected.add(row.parameter);
    if (ill) put('nonfinite');
    if (level !== undefined && grad > kExploding * level) put('exploding');
    if (!ill && (grad === 0 || (level !== undefined && grad < kVanishing * level))) put('vanishing');
    if (grad > 0 && value(3) === 0) put('dead');
  }
  for (const category of kCategories) {
    const finding = health[category];
    finding.count = finding.affected.size;
    if (finding.count > 0 && finding.firstStep < 0) finding.firstStep = finding.lastStep = seen.newest.step;
  }
  return health;
}

// A run that is said to go on is stalled when nothing has come for twenty of its
// steps, and for ten seconds.
export function stalledSeconds(state: string, lastSeenMs: number, stepsPerSecond: number, now: number): number {
  if (state !== 'RUN_STATE_RUNNING' || lastSeenMs <= 0) return 0;
  const silent = (now - lastSeenMs) / 1000;
  return silent > Math.max(10, stepsPerSecond > 0 ? 20 / stepsPerSecond : 0) ? silent : 0;
}

export function inWords(category: Category, finding: Finding, name: (full: string) => string, silent: number): string {
  if (category === 'stalled') return `no step has come since ${age(silent)}`;
  const first = finding.affected.values().next().value;
  const others = finding.affected.size - 1;
  const which = first === undefined ? '' : `${name(first)}${others > 0 ? ` and ${plural(others, 'other')}` : ''}`;
  const steps = finding.firstStep === finding.lastStep
    ? `at step ${finding.firstStep}` : `within steps ${finding.firstStep} to ${finding.lastStep}`;
  return `${kTitles[category]} ${steps}: ${which}`;
}
