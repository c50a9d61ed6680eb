// The page in Chromium, on runs that a real agent has written to a real collector.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { Collector, Trainer, endAll, heatMapDrawn, kPatience, openBrowser, tempDir, timesDrawn, until } from './support.mjs';

const kParameters = [
  ['encoder.0.weight', 12], ['encoder.0.bias', 3], ['encoder.1.weight', 12], ['encoder.1.bias', 3],
  ['decoder.weight', 8], ['decoder.bias', 2],
];

let collector;
before(async () => { collector = await Collector.start(tempDir()); });
after(async () => {
  await collector.stop();
  await endAll();
});

// A test's own browser, closed whatever happens; the page must have no complaint.
const inBrowser = (name, body, options) => test(name, async () => {
  const browser = await openBrowser(options);
  try {
    await body(browser);
    assert.deepEqual(browser.problems, []);
    assert.ok(browser.hosts.size <= 1, `asked ${[...browser.hosts].join(' and ')}`);
  } finally {
    await browser.context.close();
  }
});

async function train(run, commands, env) {
  const trainer = await Trainer.start(collector, run, kParameters, env);
  for (const command of commands) await trainer.tell(...[command].flat());
  await trainer.tell('flush');
  return trainer;
}

async function trained(run, commands, env) {
  await (await train(run, commands, env)).end();
}

const text = (page) => page.evaluate(() => document.body.innerText);
const has = (page, what) => until(page, (wanted) => document.body.innerText.includes(wanted), what);
const figure = (page, name) => page.evaluate((wanted) => [...document.querySelectorAll('.figure')]
  .find((one) => one.querySelector('dt').textContent === wanted)?.querySelector('dd').textContent, name);
const figureIs = (page, name, value) => until(page, ([n, v]) => [...document.querySelectorAll('.figure')]
  .some((one) => one.querySelector('dt').textContent === n && one.querySelector('dd').textContent === v), [name, value]);
const pins = (page) => page.evaluate(() => new URLSearchParams(location.search).getAll('pin'));
const rowsAre = (page, count) => until(page, (n) => document.querySelectorAll('.table-box tbody td.name').length === n, count);

// How many pixels of the heat map pass `test`, by a function of r, g, b.
const pixels = (page, test, map = 0) => page.evaluate(([source, index]) => {
  const canvas = document.querySelectorAll('.heat-box canvas:not(.over)')[index];
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const passes = new Function('r', 'g', 'b', `return ${source}`);
  let n = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255 && passes(data[i], data[i + 1], data[i + 2])) ++n;
  return n;
}, [test, map]);
const kMagenta = 'r === 255 && g === 0 && b === 200';
const kBrightest = 'r > 225 && g > 215 && b < 180 && b > 90';

inBrowser('A collector without a run says so, and shows the first one by itself', async ({ page }) => {
  const empty = await Collector.start(tempDir());
  await page.goto(empty.url);
  await has(page, 'No run yet');
  const trainer = await Trainer.start(empty, 'first', kParameters);
  await trainer.tell('steps 5');
  await heatMapDrawn(page);
  assert.match(page.url(), /\?run=first/);
  await figureIs(page, 'step', '4');
  await trainer.end();
  await page.goto('about:blank');
  await empty.stop();
});

inBrowser('A live run goes on without reload, over one stream', async ({ page, context }) => {
  const streams = [];
  context.on('request', (request) => request.url().includes('/api/v1/Watch') && streams.push(request.url()));
  const trainer = await train('live', ['steps 10']);
  await page.goto(`${collector.url}?run=live&pin=decoder.weight`);
  await heatMapDrawn(page);
  await figureIs(page, 'step', '9');
  await figureIs(page, 'state', 'running');
  const drawn = await timesDrawn(page);
  await trainer.tell('steps 15');
  await figureIs(page, 'step', '24');
  await heatMapDrawn(page, drawn + 1);
  await has(page, '25 columns');
  await trainer.end();
  await figureIs(page, 'state', 'finished');
  assert.equal(streams.length, 1);
});

inBrowser('The pointer tells parameter, step and value; a click pins, and Back takes it away', async ({ page }) => {
  await trained('pointed', ['steps 20']);
  await page.goto(`${collector.url}?run=pointed`);
  await heatMapDrawn(page);
  const canvas = page.locator('.heat canvas.over');
  const box = await canvas.boundingBox();
  await canvas.hover({ position: { x: box.width - 20, y: 20 } });
  const tip = page.locator('.tip');
  await tip.waitFor();
  assert.match(await tip.innerText(), /encoder\.0\.weight\s+step 19\s+[\d.]+/);
  await canvas.click({ position: { x: box.width - 20, y: 20 } });
  assert.deepEqual(await pins(page), ['encoder.0.weight']);
  await page.locator('.chips li', { hasText: 'encoder.0.weight' }).waitFor();
  await until(page, () => document.querySelectorAll('.panel .uplot').length >= 3);
  await page.goBack();
  await has(page, 'Nothing is pinned');
  assert.deepEqual(await pins(page), []);
  await page.goForward();
  await page.locator('.chips li').waitFor();
});

inBrowser('Keys reach everything: filter, heat map, pin, list of keys', async ({ page }) => {
  await trained('keys', ['steps 10']);
  await page.goto(`${collector.url}?run=keys`);
  await heatMapDrawn(page);
  await page.keyboard.press('?');
  await page.locator('.sheet').waitFor();
  await page.keyboard.press('Escape');
  await page.keyboard.press('/');
  await page.keyboard.type('^decoder');
  await until(page, () => document.querySelectorAll('.table-box tbody td.name').length === 2);
  assert.match(page.url(), /match=%5Edecoder/);
  await page.keyboard.press('Escape');
  await page.keyboard.press('h');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  await page.locator('.chips li').waitFor();
  assert.deepEqual(await pins(page), ['decoder.bias']);
  await page.keyboard.press('a');
  await until(page, () => document.querySelectorAll('.table-box tbody td.name').length === 6);
});

inBrowser('A pattern that RE2 refuses is said in its words', async ({ page, problems }) => {
  await trained('pattern', ['steps 5']);
  await page.goto(`${collector.url}?run=pattern&match=(`);
  await page.locator('.toolbar .note.bad').waitFor();
  assert.match(await page.locator('.toolbar .note.bad').innerText(), /missing \)/);
  problems.length = 0; // The console tells of each answer with status 400.
});

inBrowser('One NaN at one step is counted, filters, and shows in the map', async ({ page }) => {
  await trained('poisoned', ['steps 400', ['nan NAME', 'encoder.1.bias'], 'steps 400']);
  await page.goto(`${collector.url}?run=poisoned`);
  await heatMapDrawn(page);
  const chip = page.locator('.health button.nonfinite');
  await until(page, () => document.querySelector('.health button.nonfinite b')?.textContent === '1');
  await until(page, () => /^ended at step 4\d\d: grad of encoder\.1\.bias became non-finite .* at step 400 on rank 0$/
    .test(document.querySelector('.health .words .ended')?.innerText));
  assert.ok(await pixels(page, kMagenta) >= 8);
  await chip.click();
  await until(page, () => document.querySelectorAll('.table-box tbody td.name').length === 1);
  assert.match(page.url(), /health=nonfinite/);
  await chip.click();
  await until(page, () => document.querySelectorAll('.table-box tbody td.name').length === 6);
});

inBrowser('A spike of one step among twenty thousand shows at every zoom', async ({ page }) => {
  await trained('spiked', ['steps 12345', ['spike NAME 300', 'decoder.weight'], 'steps 7655']);
  for (const steps of [':', '10000:15000', '12300:12400', '12344:12347']) {
    await page.goto(`${collector.url}?run=spiked&steps=${steps}`);
    await heatMapDrawn(page);
    assert.ok(await pixels(page, kBrightest) >= 8, `steps ${steps}`);
  }
  await page.goto(`${collector.url}?run=spiked&steps=13000:20000`);
  await heatMapDrawn(page);
  const { rows: top } = await collector.ask('GetHeatMap', {
    run: 'spiked', statistic: 'grad.l2', match: '^decoder.weight$', max_buckets: 1 });
  assert.ok(top[0].worst[0] > 0);
});

inBrowser('Steps that were skipped are a gap in the map, with their cause', async ({ page }) => {
  await trained('gaps', ['steps 50', 'skip 40', 'steps 50']);
  await page.goto(`${collector.url}?run=gaps`);
  await heatMapDrawn(page);
  await has(page, '40 steps skipped');
  const canvas = page.locator('.heat canvas.over');
  const box = await canvas.boundingBox();
  await canvas.hover({ position: { x: 200 + (box.width - 208) / 2, y: 40 } });
  await until(page, () => document.querySelector('.tip')?.innerText.includes('skipped by the loop'));
});

inBrowser('Steps without statistics are not called well', async ({ page, problems }) => {
  await trained('scalars', ['step 1', 'steps 30'], { GRADTAP_INTERVAL: '1000' });
  await page.goto(`${collector.url}?run=scalars`);
  await has(page, 'There are no statistics to judge by');
  await has(page, 'None of these steps has statistics');
  await until(page, () => document.querySelectorAll('.scalar .uplot').length === 1);
  assert.ok(!(await text(page)).includes('Nothing stands out'));
  problems.length = 0; // The console tells of each answer with status 404.
});

inBrowser('A weight that no step changes is dead', async ({ page }) => {
  const trainer = await train('frozen', ['steps 20', ['freeze NAME', 'encoder.0.bias'], 'steps 150']);
  await page.goto(`${collector.url}?run=frozen&health=dead`);
  await until(page, () => document.querySelector('.health button.dead b')?.textContent === '1');
  await until(page, () => document.querySelectorAll('.table-box tbody td.name').length === 1);
  assert.match(await page.locator('.table-box tbody td.name').innerText(), /encoder\.0\.bias/);
  await has(page, 'encoder.0.bias was not updated for');
  await trainer.end();
});

inBrowser('An alert comes in the words of the rule, opens its view, and ends', async ({ page }) => {
  const trainer = await train('alarmed', ['steps 300']);
  await page.goto(`${collector.url}?run=alarmed`);
  await has(page, 'Nothing stands out at step 299');
  assert.equal(await page.locator('.health button[aria-expanded]').count(), 0);
  await trainer.tell('nan NAME', 'encoder.1.bias');
  await trainer.tell('steps 3');
  const words = page.locator('.health .words button:not(.ended)', { hasText: 'grad of encoder.1.bias became non-finite' });
  await words.waitFor();
  await until(page, () => document.querySelector('.health button.nonfinite b').textContent === '1');
  await words.click();
  await until(page, () => document.querySelectorAll('.chips li:not(.plain)').length === 1);
  const { alerts: [alert] } = await collector.ask('ListAlerts', { run: 'alarmed' });
  const parts = (url) => [...new URL(url, collector.url).searchParams].sort().join(' & ');
  // What is usual is not spelled out.
  assert.equal(parts(page.url()), parts(alert.link.replace('&stat=grad.l2', '')));
  assert.match(parts(page.url()), /^attempt,1 & pin,encoder\.1\.bias & rank,0 & run,alarmed & steps,200:401$/);
  await heatMapDrawn(page);
  assert.ok(await pixels(page, kMagenta) >= 8);
  await trainer.tell('steps 200');
  await until(page, () => /^ended at step \d+: grad of encoder/.test(document.querySelector('.health .words .ended')?.innerText));
  await trainer.end();
});

inBrowser('The alerts of a run are a list that keys open, each with its view', async ({ page }) => {
  const trainer = await train('twice', ['steps 50', ['nan NAME', 'decoder.bias'], 'steps 150', ['nan NAME', 'encoder.0.bias'],
    ['nan NAME', 'encoder.1.bias'], 'steps 2']);
  await page.goto(`${collector.url}?run=twice`);
  const button = page.locator('.health button[aria-expanded]', { hasText: '2 alerts' });
  await button.focus();
  await page.keyboard.press('Enter');
  await until(page, () => document.querySelectorAll('.alerts tbody tr').length === 2);
  const lines = await page.evaluate(() => [...document.querySelectorAll('.alerts tbody tr')]
    .map((row) => [...row.cells].slice(0, 5).map((cell) => cell.innerText).join(' | ')));
  assert.equal(lines[0], 'non-finite | 200 | 0 | 2 | active');
  assert.match(lines[1], /^non-finite \| 50 \| 0 \| 1 \| ended at step \d+$/);
  await page.locator('.alerts tbody tr').nth(1).locator('button').focus();
  await page.keyboard.press('Enter');
  await until(page, () => location.search.includes('pin=decoder.bias'));
  assert.match(page.url(), /steps=0%3A151/);
  await button.focus();
  await page.keyboard.press('Space');
  await until(page, () => document.querySelector('.alerts') === null);
  await trainer.end();
});

inBrowser('A rule that is switched off is not shown, and one that was a filter can be taken back', async ({ page }) => {
  const rules = join(tempDir(), 'rules');
  writeFileSync(rules, 'dead { disabled: true } loss_spike { disabled: true }');
  const own = await Collector.start(tempDir(), 0, ['--rules', rules]);
  const trainer = await Trainer.start(own, 'without', kParameters);
  await trainer.tell('steps 20');
  await trainer.tell('flush');
  const chips = () => page.evaluate(() => [...document.querySelectorAll('.health button[aria-pressed]')].map((one) => one.innerText));
  await page.goto(`${own.url}?run=without`);
  await has(page, 'Nothing stands out at step 19');
  await until(page, () => document.querySelector('.health button.nonfinite b').textContent === '0');
  assert.deepEqual(await chips(), ['0 non-finite', '0 exploding', '0 vanishing', '0 update ratio', '0 stalled', '0 lost rank']);
  await page.goto(`${own.url}?run=without&health=dead`);
  await has(page, 'Nothing stands out at step 19');
  await until(page, () => document.querySelectorAll('.table-box tbody td.name').length === 6);
  await page.locator('.health button.dead[aria-pressed="true"]').click();
  await until(page, () => document.querySelector('.health button.dead') === null);
  await trainer.end();
  await page.goto('about:blank');
  await own.stop();
});

inBrowser('Without an answer of the rules the page goes on, and calls nothing well', async ({ page, problems }) => {
  await trained('untold', ['steps 20', ['nan NAME', 'decoder.bias'], 'steps 20']);
  for (const method of ['GetHealth', 'ListAlerts']) {
    await page.route(`**/api/v1/${method}?*`, (route) => route.fulfill({ status: 404, json: { code: 'NOT_FOUND', message: 'no such method' } }));
  }
  await page.goto(`${collector.url}?run=untold&health=dead`);
  await has(page, 'The collector does not say what its rules have found');
  await until(page, () => document.querySelector('.health button.nonfinite b').textContent === '1');
  assert.deepEqual(await page.locator('.health button b').allInnerTexts(), ['1', ...Array(7).fill('–')]);
  await until(page, () => document.querySelectorAll('.table-box tbody td.name').length === 6);
  await heatMapDrawn(page);
  problems.length = 0; // The console tells of each answer with status 404.
});

inBrowser('A run that is not there is said, and shows when it begins', async ({ page }) => {
  await page.goto(`${collector.url}?run=later`);
  await has(page, 'There is no run later here');
  const trainer = await train('later', ['steps 3']);
  await heatMapDrawn(page);
  await figureIs(page, 'step', '2');
  await trainer.end();
});

inBrowser('A collector that goes away is said, and the page goes on when it is back', async ({ page, problems }) => {
  const dir = tempDir();
  const first = await Collector.start(dir);
  let trainer = await Trainer.start(first, 'away', kParameters);
  await trainer.tell('steps 5');
  await trainer.tell('flush');
  await page.goto(`${first.url}?run=away`);
  await figureIs(page, 'step', '4');
  await heatMapDrawn(page);
  await first.stop('SIGKILL');
  await has(page, 'The collector does not answer');
  // What was there stays, however often the page asks in vain.
  for (let i = 0; i < 3; ++i) await page.waitForRequest((request) => request.url().includes('/api/v1/'));
  await page.waitForRequest((request) => request.url().includes('/api/v1/Watch'));
  await page.waitForRequest((request) => request.url().includes('/api/v1/Watch'));
  assert.equal(await figure(page, 'step'), '4');
  assert.ok(await pixels(page, 'r + g + b > 0') > 1000);
  await trainer.end();
  const second = await Collector.start(dir, Number(first.http.split(':')[1]));
  await until(page, () => !document.body.innerText.includes('The collector does not answer'));
  trainer = await Trainer.start(second, 'away', kParameters);
  await trainer.tell('step 5');
  await trainer.tell('steps 5');
  await figureIs(page, 'step', '9');
  await trainer.end();
  await page.goto('about:blank');
  await second.stop();
  problems.length = 0; // The console tells of each request that nobody answered.
});

inBrowser('Where one has all the streams that one may have the page goes on by asking', async ({ page, problems }) => {
  const crowded = await Collector.start(tempDir());
  const trainer = await Trainer.start(crowded, 'crowded', kParameters);
  await trainer.tell('steps 5');
  await trainer.tell('flush');
  const abort = new AbortController();
  const readers = await Promise.all(Array.from({ length: 24 }, () =>
    fetch(`${crowded.url}api/v1/Watch?run=crowded&statistics=scalar.*`, { signal: abort.signal })));
  assert.deepEqual([...new Set(readers.map((one) => one.status))], [200]);
  await page.goto(`${crowded.url}?run=crowded`);
  await figureIs(page, 'step', '4');
  await has(page, '5 columns');
  await trainer.tell('steps 5');
  await figureIs(page, 'step', '9');
  await has(page, '10 columns');
  await page.goto('about:blank');  // It goes on asking for a stream until then.
  assert.match(problems.join(), /503/);
  assert.deepEqual(problems.filter((one) => !one.includes('503')), []);
  problems.length = 0;
  abort.abort();
  await Promise.all(readers.map((one) => one.text().catch(() => {})));
  await trainer.end();
  await crowded.stop();
});

inBrowser('A tab that nobody sees gives its stream back, and catches up when it is seen', async ({ page }) => {
  const own = await Collector.start(tempDir());
  const trainer = await Trainer.start(own, 'hidden', kParameters);
  await trainer.tell('steps 5');
  await trainer.tell('flush');
  await page.goto(`${own.url}?run=hidden`);
  await figureIs(page, 'step', '4');
  await heatMapDrawn(page);
  const show = (hidden) => page.evaluate((is) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => is });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  const watches = async () => (await own.ask('GetStatus')).openWatches;
  assert.equal(await watches(), 1);
  await show(true);
  // The collector notices with its next sign of life.
  const end = Date.now() + kPatience;
  while ((await watches()) > 0 && Date.now() < end) await page.waitForTimeout(200);
  assert.equal(await watches(), 0);
  await trainer.tell('steps 5');
  await trainer.tell('flush');
  await show(false);
  await figureIs(page, 'step', '9');
  await has(page, '10 columns');
  await trainer.end();
  await page.goto('about:blank');
  await own.stop();
});

inBrowser('Ranks stand side by side, and older attempts faintly behind', async ({ page, context }) => {
  const rank = (n) => ({ GRADTAP_RANK: String(n), GRADTAP_WORLD_SIZE: '2', GRADTAP_LAUNCH: 'one' });
  const zero = await train('ranks', ['steps 30'], rank(0));
  const one = await train('ranks', ['steps 20', ['nan NAME', 'decoder.bias'], 'steps 10'], rank(1));
  await zero.end();
  await one.end();
  await trained('ranks', ['step 20', 'steps 30'], { ...rank(0), GRADTAP_LAUNCH: 'two' });
  await page.goto(`${collector.url}?run=ranks&rank=0,1&attempt=1&pin=decoder.bias`);
  await until(page, () => document.querySelectorAll('.heat-box').length === 2);
  await heatMapDrawn(page, 2);
  assert.equal(await pixels(page, kMagenta, 0), 0);
  assert.ok(await pixels(page, kMagenta, 1) >= 8);
  const older = [];
  context.on('response', (response) => response.url().includes('attempt=1') && older.push(response));
  await page.goto(`${collector.url}?run=ranks&pin=decoder.bias`);
  await until(page, () => document.querySelectorAll('.panel .uplot').length >= 3);
  assert.ok(older.length > 0 && older.every((response) => response.ok()));
  // Of rank 0 the second attempt's line ends at step 49; the first one's goes on behind it to 29.
  await page.locator('.panel .u-over').first().hover({ position: { x: 60, y: 60 } });
  await page.locator('.readout').first().waitFor();
  await figureIs(page, 'attempts', '2');
  // What the rules say is about all ranks and the newest attempt; an alert opens its own.
  await until(page, () => document.querySelector('.health button.exploding b').textContent === '0');
  await page.locator('.health .words .ended', { hasText: /^ended at step 29: .* at step 20 on rank 1$/ }).click();
  await until(page, () => /attempt=1/.test(location.search) && /rank=1/.test(location.search));
  await until(page, () => document.querySelector('.health button.exploding b').textContent === '–');
  await until(page, () => document.querySelector('.health button.nonfinite b').textContent === '1');
});

inBrowser('Two runs stand side by side, with the ranking of their comparison', async ({ page }) => {
  await trained('good', ['steps 60']);
  await trained('other', ['steps 40', ['spike NAME 50', 'encoder.1.weight'], 'steps 20']);
  await page.goto(`${collector.url}?run=good&vs=other`);
  await until(page, () => document.querySelectorAll('.heat-box').length === 2);
  await heatMapDrawn(page, 2);
  await has(page, '60 common steps');
  await page.locator('.ranking tbody button', { hasText: 'encoder' }).first().click();
  await page.locator('.chips li').waitFor();
});

inBrowser('Histograms are drawn where there are some', async ({ page }) => {
  await trained('histograms', ['steps 40'], { GRADTAP_HISTOGRAM_INTERVAL: '5' });
  await page.goto(`${collector.url}?run=histograms&pin=encoder.0.weight&role=weight`);
  await page.locator('.ridges canvas').waitFor();
  await has(page, '8 steps, bins are powers of two');
  await page.goto(`${collector.url}?run=good&pin=encoder.0.weight`);
  await has(page, 'GRADTAP_HISTOGRAM_INTERVAL');
});

inBrowser('Light and dark follow the system until the user chooses', async ({ page }) => {
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.goto(`${collector.url}?run=good`);
  const dark = await background();
  await page.emulateMedia({ colorScheme: 'light' });
  const light = await background();
  assert.notEqual(dark, light);
  await heatMapDrawn(page);
  await page.keyboard.press('t');
  await page.keyboard.press('t');
  assert.equal(await background(), dark);
  await page.reload();
  assert.equal(await background(), dark);
});

inBrowser('Nothing is wider than the window, on a phone or on a wall', async ({ page }) => {
  for (const width of [360, 768, 1280, 1920]) {
    await page.setViewportSize({ width, height: 900 });
    await page.goto(`${collector.url}?run=good&vs=other&pin=encoder.0.weight&pin=decoder.bias`);
    await heatMapDrawn(page, 2);
    await has(page, 'common steps');
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${wide} at ${width}`);
  }
  await rowsAre(page, 6);
  await has(page, 'encoder.0.weight');
});
