// Whether one step's spike and one step's NaN show among a million steps, at every zoom
// from all of them to a few: on the page, in the API's series and heat maps, in CSV.
//
//   tests/bench/page/run spike.mjs [--parameters N] [--steps N]
//
// Prints for each zoom how many pixels of the map have the colour of each, and in what of
// the rest each is at its step, of answers with 10 and with 1,000 points; ends with 1 if
// one is missing anywhere.

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

// Of both: the parameter, and the statistic that shows it in a series.
const of = { spike: ['layer1.weight', 'grad.l2'], nan: ['layer2.weight', 'grad.nonfinite'] };
const number = (text) => Number(text === 'Infinity' ? Infinity : text);
// [step, value] each: the one of the step is far above all others.
const standsOut = (points, step) => {
  const others = points.filter(([at]) => at !== step).map(([, value]) => value);
  const found = points.find(([at]) => at === step);
  return found !== undefined && found[1] > 10 * Math.max(0, ...others);
};

const inSeries = async (what, steps, points) => {
  const [name, statistic] = of[what];
  const { series } = await collector.ask('GetSeries', {
    runs: ['long'], statistics: [statistic], match: `^${name}$`, steps, max_points: points });
  return standsOut(series[0].step.map((step, i) => [Number(step), number(series[0].value[i])]), at[what]);
};

const inCsv = async (what, steps, points) => {
  const [name, statistic] = of[what];
  const fields = new URLSearchParams({ runs: 'long', statistics: statistic, match: `^${name}$`,
    'steps.begin': steps.begin, 'steps.end': steps.end, max_points: points });
  const text = await (await fetch(`${collector.url}csv/GetSeries?${fields}`)).text();
  const rows = text.trim().split(/\r?\n/).slice(1).map((line) => line.split(','));
  return standsOut(rows.map((row) => [Number(row[3]), number(row[7])]), at[what]);
};

const inHeatMap = async (what, steps, points) => {
  const [name] = of[what];
  const map = await collector.ask('GetHeatMap', {
    run: 'long', statistic: 'grad.l2', match: `^${name}$`, steps, max_buckets: points });
  const bucket = map.buckets.findIndex(({ firstStep, lastStep }) => Number(firstStep) <= at[what] && at[what] <= Number(lastStep));
  const [row] = map.rows;
  if (what === 'nan') return (Buffer.from(row.flags, 'base64')[bucket] & 1) !== 0;
  return standsOut(row.worst.map((worst, i) => [i, number(worst)]), bucket);
};

const answers = async (what, steps) => {
  const missing = [];
  for (const points of [10, 1000]) {
    if (!await inSeries(what, steps, points)) missing.push(`series of ${points}`);
    if (!await inCsv(what, steps, points)) missing.push(`CSV of ${points}`);
    if (!await inHeatMap(what, steps, points)) missing.push(`heat map of ${points}`);
  }
  return missing;
};

const { context, page } = await openBrowser();
let failed = false;
for (let span = steps; span >= 8; span = Math.floor(span / 8)) {
  const seen = {};
  const missing = [];
  for (const [what, step] of Object.entries(at)) {
    const begin = Math.max(0, Math.min(steps - span, step - Math.floor(span / 3)));
    await page.goto(`${collector.url}?run=long&steps=${begin}:${begin + span}`);
    await heatMapDrawn(page);
    seen[what] = (await count(page))[what];
    missing.push(...(await answers(what, { begin, end: begin + span })).map((where) => `${what} in ${where}`));
  }
  failed ||= seen.spike === 0 || seen.nan === 0 || missing.length > 0;
  console.log(`${span} steps: spike ${seen.spike} pixels, NaN ${seen.nan} pixels; ${
    missing.length > 0 ? `missing: ${missing.join(', ')}` : 'both in series, CSV and heat maps'}`);
}
await context.close();
await collector.stop();
process.exit(failed ? 1 : 0);
