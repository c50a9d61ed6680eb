// What the rules say of a run: how much breaks each, the newest alert in words, and
// the alerts. Counts of parameters filter what is below; an alert opens its own view.

import { useState } from 'preact/hooks';

import { alertOf, isFilter, kCategories, kMeanings, kTitles } from './health';
import type { Alert, Category, Health, HealthAnswer, Said } from './health';
import { count, plural, visible } from './text';
import { parseView, setView } from './view';

function open(alert: Alert): void {
  const { search, hash } = new URL(alert.link, location.href);
  setView(parseView(search, hash));
}

// What there is to say where there is no alert.
function quiet(answer: HealthAnswer | undefined, attempt: number, measured: boolean, wrong: boolean): string {
  if (!measured) return 'There are no statistics to judge by.';
  if (answer === undefined) return 'The collector does not say what its rules have found.';
  if (!answer.evaluated) return 'The rules have not looked at this run.';
  if (attempt !== 0 && attempt !== answer.attempt) return `The rules are about attempt ${answer.attempt}.`;
  return `${wrong ? 'No rule is broken' : 'Nothing stands out'} at step ${answer.step}.`;
}

const endOf = (alert: Alert): string => (alert.endedStep === '-1' ? 'ended' : `ended at step ${alert.endedStep}`);

// Why, where that is not that all was quiet.
const kEnds: Record<string, string> = { ALERT_END_RUN_ENDED: ', with its attempt', ALERT_END_EXPIRED: ', for its age' };

function Words({ said, quietly }: { said: Said | undefined; quietly: string }) {
  const alert = said && alertOf(said);
  return (
    <p class="words" role="status">
      {said === undefined ? '' : alert === undefined ? quietly : (
        <button class={alert.active ? 'link' : 'link ended'} title={visible(alert.summary)} onClick={() => open(alert)}>
          {!alert.active && `${endOf(alert)}: `}
          <bdi>{visible(alert.summary)}</bdi>
        </button>
      )}
    </p>
  );
}

const titleOf = (rule: string): string => {
  const name = rule.replace(/^HEALTH_RULE_/, '').toLowerCase();
  return kTitles[name as Category] ?? visible(name);
};

function Alerts({ alerts, omitted }: { alerts: Alert[]; omitted: number }) {
  return (
    <div class="alerts-box wide" id="alerts" tabIndex={0} aria-label="Alerts">
      <table class="alerts">
        <thead><tr><th>rule</th><th class="n">first step</th><th class="n">rank</th><th class="n">how many</th><th>now</th><th>alert</th></tr></thead>
        <tbody>
          {alerts.map((one) => (
            <tr key={one.id} class={one.active ? '' : 'faint'}>
              <td>{titleOf(one.rule)}</td>
              <td class="n">{one.firstStep === '-1' ? '–' : count(Number(one.firstStep))}</td>
              <td class="n">{one.rank}</td>
              <td class="n">{count(Number(one.offenders))}</td>
              <td>{one.active ? 'active' : endOf(one) + (kEnds[one.end] ?? '')}</td>
              <td><button class="link" onClick={() => open(one)}><bdi>{visible(one.summary)}</bdi></button></td>
            </tr>
          ))}
        </tbody>
      </table>
      {omitted > 0 && <p class="note">{plural(omitted, 'older alert is', 'older alerts are')} not listed here.</p>}
    </div>
  );
}

// `said` undefined: not asked yet. `attempt` and `measured` as for `judge`.
export function HealthStrip({ health, said, active, attempt, measured }: {
  health: Health; said: Said | undefined; active: string; attempt: number; measured: boolean;
}) {
  const [listed, setListed] = useState(false);
  const { alerts = [], omitted = 0 } = said ?? {};
  const shown = kCategories.filter((category) => health[category].enabled || active === category);
  return (
    <div class="health" role="group" aria-label="Health">
      {shown.map((category) => {
        const { count: n, affected } = health[category];
        const on = active === category;
        const named = isFilter(category) && affected.size < n && affected.size > 0 ? `; ${count(affected.size)} of them by name` : '';
        return (
          <button class={`${n > 0 ? 'ill' : ''} ${category}`} aria-pressed={on} title={kMeanings[category] + named}
                  disabled={!on && affected.size === 0} onClick={() => setView({ health: on ? '' : category })}>
            <b>{n < 0 ? '–' : count(n)}</b> {kTitles[category]}
          </button>
        );
      })}
      <Words said={said} quietly={quiet(said?.answer, attempt, measured, health.nonfinite.count > 0)} />
      {alerts.length > 0 && (
        <button aria-expanded={listed} aria-controls="alerts" onClick={() => setListed(!listed)}>
          {plural(alerts.length + omitted, 'alert')}
        </button>
      )}
      {listed && alerts.length > 0 && <Alerts alerts={alerts} omitted={omitted} />}
    </div>
  );
}
