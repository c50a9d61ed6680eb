// Which run, and how it is: the first line of the page.

import type { RunInfo } from './api';
import { useClock } from './hooks';
import type { Live } from './live';
import { age, count, number, percent, plural, shortened } from './text';
import { setView } from './view';
import type { View } from './view';

const kStates: Record<string, string> = {
  RUN_STATE_RUNNING: 'running', RUN_STATE_FINISHED: 'finished', RUN_STATE_STOPPED: 'stopped', RUN_STATE_LOST: 'lost',
};

const kMostRuns = 300; // In the list: the newest.
const kNewestMs = (info: RunInfo) => Number(info.lastSeenUnixNs) / 1e6;

export const stateName = (state: string): string => kStates[state] ?? 'unknown';

interface Props {
  runs: RunInfo[];
  info: RunInfo | undefined; // Of the run that is looked at.
  view: View;
  live: Live;
}

// Another run is another question: what was pinned stays, steps do not.
const choose = (run: string) => setView({ run, steps: [null, null], attempt: 0, ranks: [], health: '', vs: '' });

function Picker({ label, runs, value, none, onPick }: {
  label: string; runs: RunInfo[]; value: string; none?: string; onPick: (run: string) => void;
}) {
  const now = Date.now();
  const listed = runs.some((one) => one.run === value);
  const known = runs.slice(0, kMostRuns).some((one) => one.run === value);
  return (
    <select class="picker" aria-label={label} value={value} onChange={(e) => onPick(e.currentTarget.value)}>
      {none !== undefined && <option value="">{none}</option>}
      {!known && value !== '' && <option value={value}>{shortened(value, 60)}{listed ? '' : ' (not here)'}</option>}
      {runs.slice(0, kMostRuns).map((one) => (
        <option value={one.run}>
          {one.run} · {stateName(one.state)}, {age((now - kNewestMs(one)) / 1000)}
        </option>
      ))}
      {runs.length > kMostRuns && <option disabled>{plural(runs.length - kMostRuns, 'older run')}: name one in the URL, ?run=NAME</option>}
    </select>
  );
}

function Figure({ name, value, bad, title }: { name: string; value: string; bad?: boolean; title?: string }) {
  return (
    <div class={bad ? 'figure bad' : 'figure'} title={title}>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Figures({ info, live }: { info: RunInfo; live: Live }) {
  const now = useClock(500);
  const { state } = info;
  const running = state === 'RUN_STATE_RUNNING';
  const step = Math.max(live.step, Number(info.lastStep));
  const newest = Math.max(live.stepTimeMs, kNewestMs(info));
  const overhead = Number(info.overhead);
  const lost = Number(info.lostSteps);
  const skipped = Number(info.skippedSteps);
  return (
    <dl class="figures">
      <Figure name="state" value={stateName(state)} bad={state === 'RUN_STATE_LOST'} />
      <Figure name="step" value={step < 0 ? '–' : count(step)} />
      <Figure name={running ? 'last step' : 'ended'} value={newest > 0 ? age((now - newest) / 1000) : '–'} />
      {running && <Figure name="steps/s" value={live.stepsPerSecond > 0 ? number(live.stepsPerSecond) : '–'} />}
      <Figure name="overhead" value={percent(overhead)} bad={overhead > 0.05}
              title="The agent's share of step time on the training thread" />
      <Figure name="lost" value={`${count(lost)}`} bad={lost > 0} title="Steps that were recorded and did not arrive" />
      {skipped > 0 && <Figure name="skipped" value={count(skipped)} title="Steps that were not recorded, by choice" />}
      <Figure name="parameters" value={count(info.parameters)} />
      {info.ranks > 1 && <Figure name="ranks" value={`${info.ranks} of ${info.worldSize}`} bad={info.ranks < info.worldSize} />}
      {info.attempts > 1 && <Figure name="attempts" value={String(info.attempts)} />}
    </dl>
  );
}

export function RunBar({ runs, info, view, live }: Props) {
  return (
    <div class="run-bar">
      <Picker label="Run" runs={runs} value={view.run} onPick={choose} />
      <span class={`dot ${stateName(info?.state ?? '')}`} aria-hidden="true" />
      {info && <Figures info={info} live={live} />}
      {runs.length > 1 && (
        <label class="versus">
          beside
          <Picker label="A second run beside it" runs={runs.filter((one) => one.run !== view.run)} value={view.vs}
                  none="no other run" onPick={(vs) => setView({ vs })} />
        </label>
      )}
    </div>
  );
}
