// Whether one step's spike and one step's NaN show on the page among a million steps,
// at every zoom from all of them to a few.
//
//   tests/bench/page/run spike.mjs [--parameters N] [--steps N]
//
// Prints for each zoom how many pixels of the map have the colour of each; ends with 1
// if one has none.

import { parseArgs } from 'node:util';

import { Collector, Trainer, heatMapDrawn, openBrowser, tempDir } from '../../web/support.mjs';

const { values } = parseArgs({ options: {
  parameters: { type: 'string', default: '300' }, steps: { type: 'string', default: '1000000' },
} });
const parameters = Number(values.parameters);
const steps = Number(values.steps);
const at = { spike: Math.floor(steps * 0.4321), nan: Math.floor(steps * 0.6789) };

const collector = await Collector.start(tempDir());
const trainer = await Trainer.start(collector, 'long', Array.from({ length: parameters }, (_, i) => [`layer${i}.weight`, 4]));
const start = performance.now();
for (let step = 0; step < steps;) {
  if (step === at.spike) await trainer.tell('spike NAME 500', 'layer1.weight');
  if (step === at.nan) await trainer.tell('nan NAME', 'layer2.weight');
  const next = Math.min(steps, step + 2000, ...Object.values(at).filter((one) => one > step));
  await trainer.tell(`steps ${next - step}`);
  await trainer.tell('flush');
  step = next;
}
await trainer.end();
console.log(`${steps} steps of ${parameters} parameters in ${Math.round((performance.now() - start) / 1000)} s`);

const count = (page) => page.evaluate(() => {
  const canvas = document.querySelector('.heat-box canvas');
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let [spike, nan] = [0, 0];
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b] = [data[i], data[i + 1], data[i + 2]];
    if (r === 255 && g === 0 && b === 200) ++nan;
    if (r > 225 && g > 215 && b < 180 && b > 90) ++spike;
  }
  return { spike, nan };
});

const { context, page } = await openBrowser();
let failed = false;
for (let span = steps; span >= 8; span = Math.floor(span / 8)) {
  const seen = {};
  for (const [what, step] of Object.entries(at)) {
    const begin = Math.max(0, Math.min(steps - span, step - Math.floor(span / 3)));
    await page.goto(`${collector.url}?run=long&steps=${begin}:${begin + span}`);
    await heatMapDrawn(page);
    seen[what] = (await count(page))[what];
  }
  failed ||= seen.spike === 0 || seen.nan === 0;
  console.log(`${span} steps: spike ${seen.spike} pixels, NaN ${seen.nan} pixels`);
}
await context.close();
await collector.stop();
process.exit(failed ? 1 : 0);
