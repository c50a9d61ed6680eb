// The page: which run, what it says of itself when there is none, and its parts from
// top to bottom.

import { useEffect, useMemo, useState } from 'preact/hooks';

import { json, listParameters, listRuns, series, snapshot as askSnapshot } from './api';
import type { ParameterInfo, RunInfo } from './api';
import { Compare } from './compare';
import { HealthStrip } from './health_strip';
import { askRules, isFilter, judge, kCategories, lookBack } from './health';
import type { NonFinite, Said } from './health';
import { HeatMap } from './heat_map';
import { union } from './heat_paint';
import type { Extent } from './heat_paint';
import { useHeat } from './heat_load';
import type { Heat } from './heat_load';
import { useKept, useLoaded, useTick, useView } from './hooks';
import type { Loaded } from './hooks';
import { Keys } from './keys';
import { liveOf, useLive } from './live';
import type { Live } from './live';
import type { Snapshot } from './messages';
import { isInside } from './modules';
import { Pinned } from './pinned';
import { Ridgeline } from './ridge';
import { RunBar } from './run_bar';
import { ParameterTable } from './table';
import { shortened, visible } from './text';
import { Columns, Toolbar, statisticsOf } from './toolbar';
import { setView } from './view';
import type { View } from './view';

const kRunsMs = 2000;
const kRulesMs = 2000; // At least: alerts of a run that is silent come, and end, too.

// Asked again and again: runs come and go, and so does the collector.
function useRuns(): Loaded<RunInfo[]> {
  return useLoaded('runs', useTick(kRunsMs), (signal) => listRuns(signal));
}

interface Attempts {
  attempts: { attempt: number; streams: { rank: number }[] }[];
}

function ranksOf(answer: Attempts | undefined, attempt: number): number[] {
  const ranks = new Set<number>();
  for (const one of answer?.attempts ?? []) {
    if (attempt === 0 || one.attempt === attempt) for (const stream of one.streams) ranks.add(stream.rank);
  }
  return [...ranks].sort((a, b) => a - b);
}

function RankHeat({ run, rank, view, parameters, live, tell, ...rest }: {
  run: string; rank: number; view: View; parameters: number; live: Live | undefined; only: Set<string> | undefined; title: string;
  legend: boolean; shared: Extent | undefined; onExtent: ((extent: Extent) => void) | undefined;
  tell: ((heat: Loaded<Heat>) => void) | undefined;
}) {
  const heat = useHeat(run, rank, view, parameters, live);
  const { value, stale } = useKept(heat, '');
  useEffect(() => {
    if (heat.value || heat.error) tell?.(heat);
  }, [heat.value, heat.error]);
  return (
    <div class={stale ? 'heat-frame stale' : 'heat-frame'}>
      {heat.error && <p class="note bad">{visible(heat.error.message)}</p>}
      {value ? <HeatMap heat={value} view={view} {...rest} />
        : !heat.error && <p class="note waiting">Reading {shortened(view.stat, 40)} …</p>}
    </div>
  );
}

// Names of the run's scalars: of the newest step, or where that was skipped, of all.
function useScalars(run: string, ready: boolean, live: Live): string[] {
  const key = ready && live.scalars.length === 0 ? `scalars ${run}` : '';
  const all = useLoaded<string[]>(key, live.slow, async (signal) => {
    const answer = await series({ runs: [run], statistics: ['scalar.*'], max_points: 2 }, signal);
    return [...new Set(answer.series.map((one) => one.statistic.replace(/^scalar\./, '')))];
  });
  return live.scalars.length > 0 ? live.scalars : all.value ?? [];
}

// While the stream is away the list of runs tells of new steps.
const liveFrom = (tail: Live, info: RunInfo): Live => ({ ...liveOf(info), anew: tail.anew });

// `newest`: the snapshot that the table shows.
function useHealth(of: { run: string; rank: number; attempt: number }, ready: boolean, newest: Loaded<Snapshot>,
                   parameters: Loaded<ParameterInfo[]>, live: Live) {
  const look = useTick(kRulesMs) + live.slow;
  const { value: said } = useLoaded<Said>(ready ? `rules ${of.run}` : '', look,
                                          (signal, before) => askRules(of.run, before, signal));
  // No statistics are not an error, and nothing to judge by.
  const measured = newest.error?.status !== 404;
  const step = useKept(newest, JSON.stringify(of)).value?.step ?? -1;
  const local = parameters.value?.some((one) => one.roles.includes('ROLE_GRAD_LOCAL')) ?? false;
  const looks = step >= 0 && (parameters.value !== undefined || parameters.error !== undefined);
  const { value: past } = useLoaded<NonFinite>(looks ? JSON.stringify(['past', of, live.anew, local]) : '', look,
                                               (signal, before) => lookBack(of, local, step, before, signal));
  const health = useMemo(() => judge(said?.answer, past?.names, of.attempt, measured),
                         [said?.answer, past, of.attempt, measured]);
  return { said, measured, health };
}

function RunPage({ info, runs, view }: { info: RunInfo; runs: RunInfo[]; view: View }) {
  const { run } = info;
  const tail = useLive(run);
  const live = tail.open || tail.step >= Number(info.lastStep) ? tail : liveFrom(tail, info);
  const details = useLoaded<Attempts>(`run ${run} ${live.anew} ${info.ranks} ${info.attempts}`, 0,
                                      (signal) => json('GetRun', { run }, signal));
  const known = ranksOf(details.value, view.attempt);
  // Until they are known the first is taken for the lowest.
  const ranks = view.ranks.length > 0 ? view.ranks : known.length > 0 ? known.slice(0, 1) : [0];
  const rank = ranks[0] ?? 0;
  const ready = info.lastStep !== '-1' || live.step >= 0;
  const [heat, setHeat] = useState<Loaded<Heat>>();
  // The picture first: what else is asked would hold it up.
  const rest = ready && (heat?.value !== undefined || heat?.error !== undefined);
  const parameters = useLoaded<ParameterInfo[]>(
    rest ? JSON.stringify(['parameters', run, rank, view.attempt, live.anew, info.parameters]) : '', 0,
    (signal) => listParameters(run, rank, view.attempt, signal));
  const question = { run, rank, attempt: view.attempt, statistics: view.columns, match: view.match };
  const newest = useLoaded(rest ? JSON.stringify(['table', question, live.anew]) : '', live.slow,
                           (signal) => askSnapshot(question, signal));
  const { said, measured, health } = useHealth({ run, rank, attempt: view.attempt }, rest, newest, parameters, live);
  const category = kCategories.find((one) => one === view.health);
  const only = category && isFilter(category) && health[category].count >= 0 ? health[category].affected : undefined;
  const matched = useMatched(parameters.value, view, newest.value?.rows, heat?.value);
  const scalars = useScalars(run, rest, tail);
  const shown = matched.filter((one) => isInside(one.name, view.module) && (only === undefined || only.has(one.name)));
  const heats = [...ranks.map((one) => ({ of: run, rank: one })), ...(view.vs ? [{ of: view.vs, rank }] : [])];
  const statistics = useMemo(() => statisticsOf(parameters.value ?? []), [parameters.value]);
  const bad = newest.error?.status === 400 ? newest.error : heat?.error?.status === 400 ? heat.error : undefined;
  return (
    <>
      <RunBar runs={runs} info={info} view={view} live={live} />
      {!ready && <p class="note">No step of this run has come yet. The first one shows by itself.</p>}
      {ready && (
        <>
          <HealthStrip health={health} said={said} active={view.health} attempt={view.attempt} measured={measured} />
          <Toolbar view={view} statistics={statistics} ranks={known} attempts={info.attempts} shown={shown.length}
                   of={parameters.value?.length ?? 0} error={bad && visible(bad.message)} />
          {view.merged && <p class="note">The heat map and the distribution are those of rank {rank}; lines are merged over the ranks.</p>}
          <Heats view={view} runs={runs} heats={heats} parameters={info.parameters} live={live} only={only} tell={setHeat} />
          <Compare view={view} rank={rank} live={live} />
          <Pinned view={view} ranks={ranks} live={live} attempts={info.attempts} scalars={scalars} />
          <Ridgeline view={view} rank={rank} live={live} />
          <div class="table-bar"><h2>Parameters</h2><Columns view={view} statistics={statistics} /></div>
          <ParameterTable parameters={matched} snapshot={newest.value} heat={heat?.value?.data}
                          heatVersion={heat?.value?.version ?? 0} view={view} only={only} />
        </>
      )}
    </>
  );
}

// One map, or several with the same colours and steps.
function Heats({ view, runs, heats, parameters, live, only, tell }: {
  view: View; runs: RunInfo[]; parameters: number; heats: { of: string; rank: number }[]; live: Live; only: Set<string> | undefined;
  tell: (heat: Loaded<Heat>) => void;
}) {
  const [extents, setExtents] = useState<Record<string, Extent>>({});
  const keys = heats.map((one) => `${one.of} ${one.rank}`);
  const known = keys.map((key) => extents[key]).filter((one): one is Extent => one !== undefined);
  const several = heats.length > 1;
  const tailOf = (run: string) => {
    const info = runs.find((one) => one.run === run);
    return run === view.run ? live : info && liveOf(info);
  };
  const shared = several && known.length > 0 ? known.reduce(union) : undefined;
  return (
    <section class={several ? 'heats several' : 'heats'} aria-label="Heat map">
      {heats.map((one, i) => (
        <RankHeat key={keys[i]!} run={one.of} rank={one.rank} view={view} parameters={parameters}
                  live={tailOf(one.of)}
                  only={only} tell={i === 0 ? tell : undefined} legend={i === heats.length - 1} shared={shared}
                  onExtent={several ? (extent) => setExtents((old) => ({ ...old, [keys[i]!]: extent })) : undefined}
                  title={!several ? '' : view.vs ? one.of : `rank ${one.rank}`} />
      ))}
    </section>
  );
}

// Those that the collector's pattern passes: it alone knows RE2.
function useMatched(parameters: ParameterInfo[] | undefined, view: View, rows: { parameter: string }[] | undefined,
                    heat: Heat | undefined): ParameterInfo[] {
  return useMemo(() => {
    if (parameters === undefined || view.match === '') return parameters ?? [];
    const names = new Set(rows?.map((row) => row.parameter));
    if (names.size === 0 && heat) for (let i = 0; i < heat.data.rows; ++i) names.add(heat.data.name(i));
    return parameters.filter((one) => names.has(one.name));
  }, [parameters, view.match, rows, heat?.data]);
}

function Empty() {
  return (
    <div class="empty">
      <h1>No run yet</h1>
      <p>This collector has stored nothing so far. A program with the agent linked shows here with its first step:</p>
      <pre>GRADTAP_COLLECTOR=127.0.0.1:7317 GRADTAP_RUN=my-first ./train</pre>
    </div>
  );
}

function NotHere({ view, runs }: { view: View; runs: RunInfo[] }) {
  return (
    <div class="empty">
      <h1>There is no run <bdi>{shortened(view.run, 60)}</bdi> here</h1>
      <p>It has been deleted, or has not begun; as soon as it begins it shows by itself.
        {runs.length > 0 && ' Those that are here:'}</p>
      <ul>
        {runs.slice(0, 20).map((one) => <li><button class="link" onClick={() => setView({ run: one.run, vs: '' })}>{one.run}</button></li>)}
      </ul>
    </div>
  );
}

export function App() {
  const view = useView();
  const runs = useRuns();
  const list = runs.value;
  const info = list?.find((one) => one.run === view.run);
  useEffect(() => {
    if (view.run === '' && list && list.length > 0) setView({ run: list[0]!.run }, true);
  }, [view.run, list]);
  useEffect(() => {
    document.title = view.run === '' ? 'gradtap' : `${view.run.slice(0, 128)} · gradtap`;
  }, [view.run]);
  return (
    <>
      <header>
        <a class="mark" href={location.pathname}>gradtap</a>
        <span class="right"><Keys /></span>
      </header>
      {runs.error && (
        <p class="banner" role="alert">
          {runs.error.away ? 'The collector does not answer. What stands here may be old; it goes on by itself when the collector is back.'
            : visible(runs.error.message)}
        </p>
      )}
      <main>
        {info ? <RunPage key={info.run} info={info} runs={list!} view={view} />
          : list === undefined ? !runs.error && <p class="note waiting">Asking the collector …</p>
          : list.length === 0 && view.run === '' ? <Empty />
          : view.run !== '' ? <NotHere view={view} runs={list} /> : null}
      </main>
    </>
  );
}
