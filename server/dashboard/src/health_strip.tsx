// How many parameters are ill, by category; each count filters what is below.

import { inWords, kCategories, kMeanings, kTitles } from './health';
import type { Category, Health } from './health';
import { count, shortened } from './text';
import { setView } from './view';

const kFirst: Category[] = ['nonfinite', 'stalled', 'exploding', 'dead', 'vanishing'];

// `step`: up to which it was judged; -1: not at all, which is not the same as well.
export function HealthStrip({ health, active, silent, step }: { health: Health; active: string; silent: number; step: number }) {
  const worst = kFirst.find((category) => health[category].count > 0);
  return (
    <div class="health" role="group" aria-label="Health">
      {kCategories.map((category) => {
        const n = health[category].count;
        const on = active === category;
        const filters = category !== 'stalled';
        return (
          <button class={`${n > 0 ? 'ill' : ''} ${category}`} aria-pressed={on} title={kMeanings[category]}
                  disabled={!on && (n === 0 || !filters)} onClick={() => setView({ health: on ? '' : category })}>
            <b>{step < 0 && filters ? '–' : count(n)}</b> {kTitles[category]}
          </button>
        );
      })}
      <p class="words" role="status">
        {worst === undefined ? (step < 0 ? 'There are no statistics to judge by.' : `Nothing stands out at step ${step}.`)
          : <bdi>{inWords(worst, health[worst], (name) => shortened(name, 48), silent)}</bdi>}
      </p>
    </div>
  );
}
