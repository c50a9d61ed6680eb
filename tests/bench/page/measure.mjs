// What the page costs: bytes, the first heat map of many parameters, and the main
// thread's share while a run goes on.
//
//   tests/bench/page/run [--parameters N] [--steps N]
//
// The click is the choice of a run; the picture is there when its first frame after
// the drawing has been painted. Prints numbers, judges none.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';

import { Collector, Trainer, heatMapDrawn, openBrowser, program, tempDir, timesDrawn } from '../../web/support.mjs';

const { values } = parseArgs({ options: {
  parameters: { type: 'string', default: '10000' }, steps: { type: 'string', default: '1000' },
  repeat: { type: 'string', default: '5' }, seconds: { type: 'string', default: '15' },
} });
const parameters = Number(values.parameters);
const steps = Number(values.steps);

function bundle() {
  const dist = join(program('GRADTAP_WEB_WORK'), 'dist');
  const sizes = readdirSync(dist).map((name) => gzipSync(readFileSync(join(dist, name)), { level: 6 }).length);
  console.log(`bundle: ${(sizes.reduce((a, b) => a + b) / 1024).toFixed(1)} KiB gzip in ${sizes.length} files`);
}

const name = (i) => `blocks.${Math.floor(i / 100)}.layer${Math.floor(i / 4) % 25}.${['weight', 'bias', 'scale', 'shift'][i % 4]}`;

// Milliseconds from choosing the run to the first frame with its heat map.
async function firstPicture(collector, repeat) {
  const times = [];
  for (let i = 0; i < repeat; ++i) {
    const { context, page } = await openBrowser();
    await page.goto(`${collector.url}?run=small`);
    await heatMapDrawn(page);
    times.push(await page.evaluate(async () => {
      const picker = document.querySelector('select[aria-label="Run"]');
      const old = document.querySelector('.heat-box canvas');
      const start = performance.now();
      picker.value = 'large';
      picker.dispatchEvent(new Event('change', { bubbles: true }));
      const there = () => {
        const canvas = document.querySelector('.heat-box canvas');
        return canvas !== null && canvas !== old && canvas.dataset.drawn !== undefined;
      };
      while (!there()) await new Promise(requestAnimationFrame);
      await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
      return performance.now() - start;
    }));
    await context.close();
  }
  times.sort((a, b) => a - b);
  console.log(`first heat map of ${parameters} parameters x ${steps} steps: median ${Math.round(times[times.length >> 1])} ms, ` +
    `worst ${Math.round(times[times.length - 1])} ms of ${repeat}`);
}

// Of the page's main thread, while the run goes on.
async function live(collector, trainer, seconds) {
  const { context, page } = await openBrowser();
  await page.goto(`${collector.url}?run=large`);
  await heatMapDrawn(page);
  const pace = trainer.tell(`pace ${20 * (seconds + 10)} 50`);
  await heatMapDrawn(page, 10);
  const session = await context.newCDPSession(page);
  await session.send('Performance.enable');
  const read = async () => {
    const { metrics } = await session.send('Performance.getMetrics');
    const of = (key) => metrics.find((one) => one.name === key).value;
    const drawn = await timesDrawn(page);
    return { layout: of('LayoutDuration') + of('RecalcStyleDuration'), task: of('TaskDuration'), script: of('ScriptDuration'), at: of('Timestamp'), drawn };
  };
  const before = await read();
  await page.waitForTimeout(1000 * seconds);
  const after = await read();
  const wall = after.at - before.at;
  console.log(`live: ${((after.drawn - before.drawn) / wall).toFixed(1)} heat maps a second, main thread ` +
    `${Math.round((100 * (after.task - before.task)) / wall)} % busy, of it scripts ${Math.round((100 * (after.script - before.script)) / wall)} %, ` +
    `layout ${Math.round((100 * (after.layout - before.layout)) / wall)} %`);
  await pace;
  await context.close();
}

bundle();
const collector = await Collector.start(tempDir());
const small = await Trainer.start(collector, 'small', [['a.weight', 16], ['a.bias', 4]]);
await small.tell('steps 20');
await small.tell('flush');
await small.end();
const large = await Trainer.start(collector, 'large', Array.from({ length: parameters }, (_, i) => [name(i), 16]));
for (let done = 0; done < steps; done += 50) {
  await large.tell(`steps ${Math.min(50, steps - done)}`);
  await large.tell('flush');
}
await firstPicture(collector, Number(values.repeat));
await live(collector, large, Number(values.seconds));
await large.end();
await collector.stop();
process.exit(0);
