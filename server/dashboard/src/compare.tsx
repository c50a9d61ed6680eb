// Two runs: what differs in how they were set up, and the series that have moved
// apart, as CompareRuns ranks them.

import { json } from './api';
import type { Num } from './api';
import { useLoaded } from './hooks';
import type { Live } from './live';
import { number, plural, shortened, visible } from './text';
import { setView } from './view';
import type { View } from './view';

const kRows = 40;

interface Row {
  parameter: string;
  statistic: string;
  steps: string;
  stepsBeyond: string;
  firstStep?: string;
  log2Ratio: Num;
  noiseLog2: Num;
  goodValue: Num;
  goodAbsent: boolean;
  otherValue: Num;
  otherAbsent: boolean;
}

interface Answer {
  differences: { parameter: string; what: string; good?: string; other?: string }[];
  parameterDifferences: string;
  comparedSteps: string;
  rows: Row[];
  series: string;
  diverged: string;
  firstDivergedStep?: string;
}

function times(log2: number): string {
  return Number.isNaN(log2) ? '–' : `${number(2 ** log2)} ×`;
}

function pick(row: Row, view: View): void {
  if (row.parameter === '') {
    setView({ scalar: row.statistic.replace(/^scalar\./, '') });
    return;
  }
  setView({ stat: row.statistic, pins: [row.parameter, ...view.pins.filter((pin) => pin !== row.parameter)].slice(0, 20) });
}

function Rows({ rows, view }: { rows: Row[]; view: View }) {
  return (
    <table class="ranking">
      <thead>
        <tr>
          <th scope="col">series</th><th scope="col" class="n">apart from step</th><th scope="col" class="n">ratio</th>
          <th scope="col" class="n">noise</th><th scope="col" class="n">{view.run}</th><th scope="col" class="n">{view.vs}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr>
            <td class="name">
              <button onClick={() => pick(row, view)}>
                <bdi>{shortened(row.parameter, 56)}</bdi> <span class="faint">{visible(row.statistic.slice(0, 80))}</span>
              </button>
            </td>
            <td class="n">{row.firstStep ?? '–'}</td>
            <td class="n">{times(Number(row.log2Ratio))}</td>
            <td class="n">{times(Number(row.noiseLog2))}</td>
            <td class="n">{row.goodAbsent ? '–' : number(Number(row.goodValue))}</td>
            <td class="n">{row.otherAbsent ? '–' : number(Number(row.otherValue))}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function Compare({ view, rank, live }: { view: View; rank: number; live: Live }) {
  const fields = {
    good_run: view.run, other_run: view.vs, match: view.match, rank, merged: view.merged, limit: kRows,
    steps: { begin: view.steps[0] ?? undefined, end: view.steps[1] ?? undefined },
  };
  const key = view.vs === '' ? '' : JSON.stringify([fields, live.anew]);
  // It reads both runs: not with every step.
  const { value, error } = useLoaded<Answer>(key, Math.floor(live.slow / 10), (signal) => json('CompareRuns', fields, signal));
  if (view.vs === '') return null;
  return (
    <section class="compare" aria-label="Comparison">
      <h2>{view.run} beside {shortened(view.vs, 128)}</h2>
      {error && <p class="note bad">{visible(error.message)}</p>}
      {value && (
        <>
          <p class="note">
            {Number(value.diverged) === 0 ? `None of ${plural(Number(value.series), 'series', 'series')} diverges`
              : `${plural(Number(value.diverged), 'series', 'series')} of ${value.series} diverge, the first at step ${value.firstDivergedStep}`}
            {` over ${plural(Number(value.comparedSteps), 'common step')}.`}
          </p>
          {value.differences.length > 0 && (
            <details>
              <summary>{plural(value.differences.length, 'difference')} in how they were set up</summary>
              <ul>
                {value.differences.slice(0, 200).map((one) => (
                  <li>
                    <bdi>{shortened(one.parameter, 60)}</bdi> {visible(one.what.slice(0, 100))}:{' '}
                    <bdi>{one.good === undefined ? 'not there' : shortened(one.good, 100)}</bdi> |{' '}
                    <bdi>{one.other === undefined ? 'not there' : shortened(one.other, 100)}</bdi>
                  </li>
                ))}
              </ul>
            </details>
          )}
          <div class="ranking-box" tabIndex={0} aria-label="Ranking"><Rows rows={value.rows} view={view} /></div>
        </>
      )}
    </section>
  );
}
