// The heat map of one rank, loaded once and then kept up by the steps that are new.

import { heatMap } from './api';
import { HeatData, columnsFor } from './heat_data';
import { useLoaded } from './hooks';
import type { Loaded } from './hooks';
import type { Live } from './live';
import type { View } from './view';

export interface Heat {
  data: HeatData;
  version: number; // Grows with each change of the data.
}

async function whole(fields: Record<string, unknown>, view: View, rows: number, signal: AbortSignal): Promise<Heat> {
  const answer = await heatMap({
    ...(fields as Record<string, string>),
    steps: { begin: view.steps[0] ?? undefined, end: view.steps[1] ?? undefined }, max_buckets: columnsFor(rows),
  }, signal);
  return { data: new HeatData(answer), version: 0 };
}

// `run` '': none. `rows`: about how many parameters it has.
export function useHeat(run: string, rank: number, view: View, rows: number, live: Live | undefined): Loaded<Heat> {
  const [begin, end] = view.steps;
  const key = run === '' ? '' : JSON.stringify(
    [run, rank, view.stat, view.match, view.attempt, begin, end, live?.anew ?? 0]);
  const fields = { run, rank, statistic: view.stat, match: view.match, attempt: view.attempt };
  // A window that slides is read anew, and so less often; one that has an end is not.
  const slides = (begin !== null && begin < 0) || (end !== null && end < 0);
  const refresh = live === undefined || (end !== null && end >= 0) ? 0 : slides ? live.slow : live.quick;
  return useLoaded<Heat>(key, refresh, async (signal, before) => {
    if (before === undefined || slides) return whole(fields, view, rows, signal);
    const data = before.data;
    if (live !== undefined && live.step >= 0 && live.step <= data.lastStep) return before;
    const answer = await heatMap(
      { ...fields, steps: { begin: data.lastStep + 1 }, max_buckets: 64 }, signal);
    if (!data.append(answer)) return whole(fields, view, rows, signal);
    return { data, version: before.version + 1 };
  });
}
