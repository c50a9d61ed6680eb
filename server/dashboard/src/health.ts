// What is wrong with a run: what the collector's rules say of it (docs/health.md), in
// categories, each with the parameters that it concerns. The strip, the table and the
// heat map know these types and nothing of where they come from.
//
// The rules say what is broken now. Which parameters were not finite at any step is
// read off coarse heat maps of the whole run.

import { ApiError, heatMap, json } from './api';
import type { HeatAnswer } from './messages';

// As the rules are called; the first five are about parameters.
export const kCategories = [
  'nonfinite', 'exploding', 'vanishing', 'dead', 'update_ratio', 'loss_spike', 'stalled', 'lost_rank',
] as const;
export type Category = (typeof kCategories)[number];

export const isFilter = (category: Category): boolean => kCategories.indexOf(category) < 5;

export interface Finding {
  enabled: boolean; // False: the collector does not look for it.
  count: number; // -1: unknown.
  affected: Set<string>; // Names of parameters; there may be fewer than `count`.
}

export type Health = Record<Category, Finding>;

export const kTitles: Record<Category, string> = {
  nonfinite: 'non-finite', exploding: 'exploding', vanishing: 'vanishing', dead: 'dead', update_ratio: 'update ratio',
  loss_spike: 'loss spike', stalled: 'stalled', lost_rank: 'lost rank',
};

export const kMeanings: Record<Category, string> = {
  nonfinite: 'NaN or infinite elements: at any step of the rank shown, and now on any rank; or a loss that is',
  exploding: 'a gradient is far above its own usual size',
  vanishing: 'a gradient is far below its own usual size',
  dead: 'a parameter that was updated stands still, though it has gradients',
  update_ratio: 'an update is too large or too small for its weight',
  loss_spike: 'the loss is far above its running level',
  stalled: 'nothing comes, though the processes of the run are there',
  lost_rank: 'a process is gone without an End',
};

const kLookMs = 5000;
const kMostNames = 10_000;
const kMostAlerts = 20;

// As JSON has them.
export interface Alert {
  id: string;
  rule: string;
  active: boolean;
  firstStep: string;
  endedStep: string; // -1: none.
  end: string;
  rank: number;
  offenders: string;
  summary: string;
  link: string;
}

interface RuleHealth {
  rule: string;
  enabled: boolean;
  offenders: string;
  parameters: string;
  names: string[];
  alert?: Alert | null;
}

export interface HealthAnswer {
  attempt: number;
  evaluated: boolean;
  step: string;
  rules: RuleHealth[];
}

// What the rules say. What a collector does not answer is undefined.
export interface Said {
  answer: HealthAnswer | undefined;
  alerts: Alert[] | undefined; // The newest first.
  omitted: number; // Alerts that are older.
}

// What cannot be said says nothing; when the collector is away, what was said stands.
const orNothing = <T>(answer: Promise<T>): Promise<T | undefined> => answer.catch((error: unknown) => {
  if (error instanceof ApiError && error.away) throw error;
  return undefined;
});

// `before` itself where nothing has changed.
export async function askRules(run: string, before: Said | undefined, signal: AbortSignal): Promise<Said> {
  const [answer, list] = await Promise.all([
    orNothing(json<HealthAnswer>('GetHealth', { run, max_names: kMostNames }, signal)),
    orNothing(json<{ alerts: Alert[]; omitted: string }>('ListAlerts', { run, limit: kMostAlerts }, signal)),
  ]);
  const said = { answer, alerts: list?.alerts, omitted: Number(list?.omitted ?? 0) };
  return JSON.stringify(said) === JSON.stringify(before) ? before! : said;
}

// Parameters that were not finite at any step up to `seen`.
export interface NonFinite {
  names: Set<string>;
  seen: number;
  seenMs: number; // When that was asked.
}

interface Question {
  run: string;
  rank: number;
  attempt: number;
}

// `local`: the run has gradients of before the loop's own reduction.
export async function lookBack(question: Question, local: boolean, step: number, before: NonFinite | undefined,
                               signal: AbortSignal): Promise<NonFinite> {
  if (before && (step <= before.seen || Date.now() - before.seenMs < kLookMs)) return before;
  const steps = { begin: before === undefined ? 0 : before.seen + 1, end: step + 1 };
  const names = new Set(before?.names);
  const seenMs = Date.now();
  for (const statistic of ['grad.nonfinite', 'weight.nonfinite', ...(local ? ['grad_local.nonfinite'] : [])]) {
    const answer = await orNothing(heatMap({ ...question, statistic, steps, max_buckets: 64 }, signal));
    if (answer) addNames(answer, names);
  }
  return { names, seen: step, seenMs };
}

function addNames(history: HeatAnswer, to: Set<string>): void {
  for (const row of history.rows) if (row.flags.some((flags) => (flags & 1) !== 0)) to.add(row.name());
}

// `attempt` 0: the newest one, which is what the rules are about. `measured`: its
// newest step has statistics.
export function judge(answer: HealthAnswer | undefined, past: Set<string> | undefined, attempt: number, measured: boolean): Health {
  const known = answer !== undefined && answer.evaluated && (attempt === 0 || attempt === answer.attempt);
  const health = {} as Health;
  for (const category of kCategories) {
    const rule = known ? answer.rules.find((one) => one.enabled && one.rule === `HEALTH_RULE_${category.toUpperCase()}`) : undefined;
    const affected = new Set(rule?.names);
    const unnamed = rule === undefined ? 0 : Number(rule.parameters) - affected.size;
    if (category === 'nonfinite') past?.forEach((name) => affected.add(name));
    // A loss and a rank are no parameters.
    const count = affected.size + unnamed || Number(rule?.offenders ?? 0);
    const judged = isFilter(category) ? measured && (rule !== undefined || (category === 'nonfinite' && past !== undefined))
      : rule !== undefined;
    health[category] = { enabled: !known || rule !== undefined, count: count > 0 || judged ? count : -1, affected };
  }
  return health;
}

// The newest that is active, be it older than those that are listed; else the newest.
export function alertOf({ answer, alerts = [] }: Pick<Said, 'answer' | 'alerts'>): Alert | undefined {
  const all = [...alerts, ...(answer?.rules ?? []).flatMap((rule) => rule.alert ?? [])];
  const active = all.filter((one) => one.active);
  return (active.length > 0 ? active : all)
    .reduce<Alert | undefined>((newest, one) => (newest && Number(newest.id) >= Number(one.id) ? newest : one), undefined);
}
