// The pinned parameters' lines, the update ratio, and the loss beside them.

import { useMemo } from 'preact/hooks';

import { series as askSeries, json } from './api';
import { lineStyle } from './colors';
import { Chart } from './chart';
import { useKept, useLoaded } from './hooks';
import { tabulate } from './lines';
import type { Line } from './lines';
import type { Live } from './live';
import type { Gap, SeriesData } from './messages';
import { patternOf, shortened } from './text';
import { kMostPins, setView, togglePin } from './view';
import type { View } from './view';

const kPoints = 2000;
const kOlder = 3; // Attempts before the newest.
const kMerged = 4294967295;
const kRatio = 'update.ratio';

// The count of elements that a statistic leaves out.
function countsOf(statistic: string): string {
  const role = statistic.slice(0, statistic.indexOf('.'));
  return `${role}.nonfinite`;
}

interface Answer {
  series: SeriesData[];
  older: SeriesData[];
  gaps: Gap[];
}

interface Props {
  view: View;
  ranks: number[];
  live: Live;
  attempts: number;
  scalars: string[];
}

const stepsOf = (view: View) => ({ begin: view.steps[0] ?? undefined, end: view.steps[1] ?? undefined });

const runsOf = (view: View) => (view.vs === '' ? [view.run] : [view.run, view.vs]);

// The fields of the GetSeries that the panels show.
export function seriesFields(view: View, ranks: number[], statistics: string[]) {
  return {
    runs: runsOf(view), statistics, match: view.pins.length ? patternOf(view.pins) : '', steps: stepsOf(view),
    max_points: kPoints, ranks: view.merged ? [] : ranks, merged: view.merged, attempt: view.attempt,
  };
}

// A run that is not there leaves the other.
async function ask(fields: ReturnType<typeof seriesFields>, older: number[], signal: AbortSignal): Promise<Answer> {
  const newest = await askSeries(fields, signal);
  const before: SeriesData[] = [];
  for (const attempt of older) {
    const answer = await askSeries({ ...fields, runs: fields.runs.slice(0, 1), attempt, max_points: kPoints / 2 }, signal)
      .catch(() => ({ series: [] }));
    before.push(...answer.series);
  }
  return { series: newest.series, older: before, gaps: newest.gaps };
}

function usePinned(props: Props, statistics: string[], scalars: boolean) {
  const { view, ranks, live } = props;
  const olderCount = view.attempt === 0 ? Math.min(kOlder, props.attempts - 1) : 0;
  const older = Array.from({ length: Math.max(0, olderCount) }, (_, i) => props.attempts - 1 - i);
  const fields = seriesFields(view, ranks, statistics);
  if (scalars) fields.match = '';
  const wanted = statistics.length > 0 && (scalars || view.pins.length > 0);
  const key = wanted ? JSON.stringify([fields, older, live.anew]) : '';
  const loaded = useLoaded<Answer>(key, live.slow, (signal) => ask(fields, older, signal));
  const { value } = useKept(loaded, key === '' ? '' : `${view.run} ${scalars}`);
  return { value: key === '' ? undefined : value, error: loaded.error };
}

// What tells a line from its neighbours.
function labelOf(data: SeriesData, view: View, ranks: number[]): string {
  const parts = [data.parameter || data.statistic];
  if (view.vs !== '') parts.push(data.run);
  if (ranks.length > 1 && data.rank !== kMerged) parts.push(`rank ${data.rank}`);
  return parts.join(' · ');
}

const kSecondRun = [5, 4];
const kRankDashes = [[], [6, 2], [2, 2], [8, 3, 2, 3]];

function linesOf(answer: Answer, statistic: string, view: View, ranks: number[]): Line[] {
  const countOf = (data: SeriesData, among: SeriesData[]) => among.find((one) =>
    one.statistic === countsOf(statistic) && one.parameter === data.parameter && one.run === data.run
    && one.rank === data.rank && one.attempt[0] === data.attempt[0]);
  const of = (data: SeriesData, faint: boolean): Line => {
    const scalar = data.parameter === '';
    const second = view.vs !== '' && data.run === view.vs;
    const rank = Math.max(0, ranks.indexOf(data.rank));
    const byRank = scalar || (ranks.length > 1 && view.pins.length === 1);
    const style = lineStyle(byRank ? (second ? 1 : rank) : Math.max(0, view.pins.indexOf(data.parameter)));
    const dash = second ? kSecondRun : ranks.length > 1 && !byRank ? kRankDashes[rank % 4]! : style.dash;
    return {
      label: labelOf(data, view, ranks), parameter: data.parameter, color: style.color, dash, faint, data,
      nonFinite: scalar ? undefined : countOf(data, faint ? answer.older : answer.series),
    };
  };
  const has = (data: SeriesData) => data.statistic === statistic;
  return [...answer.older.filter(has).map((data) => of(data, true)), ...answer.series.filter(has).map((data) => of(data, false))];
}

function Panel({ title, answer, statistic, view, ranks, band }: {
  title: string; answer: Answer; statistic: string; view: View; ranks: number[]; band?: boolean;
}) {
  const { lines, table } = useMemo(() => {
    const all = linesOf(answer, statistic, view, ranks);
    return { lines: all, table: tabulate(all, answer.gaps, band === true) };
  }, [answer, statistic, view, ranks.join(), band]);
  if (lines.length === 0) return <section class="panel"><h3>{title}</h3><p class="note">No parameter here has it.</p></section>;
  return <Chart title={title} lines={lines} table={table} ratioBand={band === true} />;
}

export function Pinned(props: Props) {
  const { view, ranks, scalars } = props;
  const scalar = scalars.includes(view.scalar) ? view.scalar : scalars.includes('loss') ? 'loss' : scalars[0] ?? '';
  const statistics = view.stat === kRatio ? [kRatio] : [view.stat, kRatio];
  const counts = statistics.map(countsOf).filter((name) => !statistics.includes(name));
  const pinned = usePinned(props, [...new Set([...statistics, ...counts])], false);
  const scalarName = scalar === '' ? '' : scalar.startsWith('agent.') ? scalar : `scalar.${scalar}`;
  const loss = usePinned(props, scalarName === '' ? [] : [scalarName], true);
  return (
    <section aria-label="Pinned parameters" class="pinned">
      <Chips view={view} />
      {pinned.error && <p class="note bad">{pinned.error.message}</p>}
      <div class="panels">
        {loss.value && (
          <div class="scalar">
            <Panel title={scalar} answer={loss.value} statistic={scalarName} view={view} ranks={ranks} />
            {scalars.length > 1 && (
              <select aria-label="Scalar" value={scalar} onChange={(e) => setView({ scalar: e.currentTarget.value })}>
                {scalars.map((name) => <option value={name}>{shortened(name, 40)}</option>)}
              </select>
            )}
          </div>
        )}
        {pinned.value && statistics.map((statistic) => (
          <Panel key={statistic} title={statistic} answer={pinned.value!} statistic={statistic} view={view} ranks={ranks}
                 band={statistic === kRatio} />
        ))}
      </div>
    </section>
  );
}

function Chips({ view }: { view: View }) {
  const pinLargest = async () => {
    const rank = view.ranks[0] ?? 0;
    const top = await json<{ rows: { parameter: string }[] }>(
      'GetTop', { run: view.run, statistic: view.stat, limit: 5, match: view.match, rank, attempt: view.attempt });
    setView({ pins: top.rows.map((row) => row.parameter) });
  };
  if (view.pins.length === 0) {
    return (
      <p class="note">
        Nothing is pinned. Click a row of the heat map or the table, or <button class="link"
          onClick={() => void pinLargest().catch(() => {})}>pin the five largest {view.stat}</button>.
      </p>
    );
  }
  return (
    <ul class="chips">
      {view.pins.map((pin, i) => {
        const { color, dash } = lineStyle(i);
        return (
          <li>
            <svg width="18" height="8" aria-hidden="true">
              <line x1="0" x2="18" y1="4" y2="4" stroke={color} stroke-width="2.5" stroke-dasharray={dash.join(' ')} />
            </svg>
            <bdi title={shortened(pin, 400)}>{shortened(pin, 44)}</bdi>
            <button class="x" aria-label={`Unpin ${shortened(pin, 80)}`} onClick={() => togglePin(pin)}>×</button>
          </li>
        );
      })}
      {view.pins.length > 1 && <li class="plain"><button class="link" onClick={() => setView({ pins: [] })}>unpin all</button></li>}
      {view.pins.length === kMostPins && <li class="plain note">at most {kMostPins}: the next takes the first one’s place</li>}
    </ul>
  );
}
