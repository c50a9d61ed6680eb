// Fifty names that a model could have and nobody wants: none runs as a script, none
// breaks the layout, each can be pinned, linked to and copied as a command.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { Collector, Trainer, endAll, heatMapDrawn, openBrowser, program, tempDir, until } from './support.mjs';

const kNames = [
  '<script>window.hacked=1</script>', '<img src=x onerror=window.hacked=1>', '"><svg/onload=window.hacked=1>',
  "'-window.hacked=1-'", 'javascript:window.hacked=1', '</title><script>window.hacked=1</script>', '<!--', ']]>',
  '<iframe srcdoc="<script>parent.hacked=1</script>">', '<style>*{display:none}</style>', '<base href=//evil.example>',
  '<a href="javascript:window.hacked=1">x</a>', '&lt;script&gt;', '&#60;b&#62;', '${window.hacked=1}', '{{constructor}}',
  "=cmd|' /C calc'!A0", '+1+1', '-2+3', '@SUM(A1:A9)', '"quoted", "twice"', "it's", '`touch /tmp/hacked`', '$(touch /tmp/hacked)',
  'a;touch /tmp/hacked;b', 'a\\b\\\\c\\', 'nul\0nul', 'line\nline', 'carriage\r\nreturn', 'tab\ttab', 'bell\u0007\u001b[31mred\u001b[0m',
  '\u202egnp.exe', '\u2067\u05e9\u05dc\u05d5\u05dd\u2069', 'zero\u200bwidth\ufeff', 'z\u0351\u036b\u0343\u036a\u0302algo'.repeat(9),
  '\u{1f4a5}\u{1f9d1}\u200d\u{1f52c}\u{1f600}', '\u00a0\u3000', '__proto__', 'constructor', 'hasOwnProperty', '../../etc/passwd',
  '%00%3Cscript%3E', 'a=b&c=d#e?f', '(((((', '[a-', '.*', '^$|x', '.'.repeat(400), 'w'.repeat(100_000), '<b>'.repeat(33_334),
];

let collector;
let names; // As the agent has stored them.

before(async () => {
  assert.equal(kNames.length, 50);
  collector = await Collector.start(tempDir());
  const trainer = await Trainer.start(collector, 'hostile', kNames.map((name) => [name, 4]));
  await trainer.tell('steps 20');
  await trainer.tell('nan NAME', kNames[0]);
  await trainer.tell('steps 5');
  await trainer.tell('flush');
  await trainer.end();
  ({ parameters: names } = await collector.ask('ListParameters', { run: 'hostile' }));
  names = names.map((one) => one.name);
  assert.equal(new Set(names).size, 50);
});
after(async () => {
  await collector.stop();
  await endAll();
});

const query = (fields) => `${collector.url}?${new URLSearchParams([['run', 'hostile'], ...fields])}`;

// What must hold whatever stands on the page.
async function assertCalm(page, problems) {
  assert.deepEqual(problems, []);
  const seen = await page.evaluate(() => ({
    hacked: window.hacked, title: document.title, scripts: document.scripts.length,
    strangers: document.querySelectorAll('img, iframe, object, embed, base, style, a:not(.mark), b b').length,
    wide: document.documentElement.scrollWidth - innerWidth,
    heights: [...new Set([...document.querySelectorAll('.table-box tbody tr:not([style])')].map((row) => row.offsetHeight))],
    chips: Math.max(0, ...[...document.querySelectorAll('.chips li')].map((one) => one.offsetHeight)),
  }));
  assert.equal(seen.hacked, undefined);
  assert.equal(seen.title, 'hostile · gradtap');
  assert.equal(seen.scripts, 1);
  assert.equal(seen.strangers, 0);
  assert.ok(seen.wide <= 0, `${seen.wide} pixels too wide`);
  assert.equal(seen.heights.length, 1, `rows of ${seen.heights} pixels`);
  assert.ok(seen.heights[0] <= 30, `rows of ${seen.heights} pixels`);
  assert.ok(seen.chips <= 40, `a chip of ${seen.chips} pixels`);
}

test('None of fifty hostile names runs or breaks the layout, in any part of the page', async () => {
  const { context, page, problems, hosts } = await openBrowser();
  for (const width of [1280, 400]) {
    await page.setViewportSize({ width, height: 900 });
    await page.goto(query([['sort', 'name']]));
    await heatMapDrawn(page);
    await until(page, () => document.querySelectorAll('.table-box tbody td.name').length > 20);
    await assertCalm(page, problems);
    const canvas = page.locator('.heat canvas.over');
    const box = await canvas.boundingBox();
    for (let y = 20; y < 460; y += 45) {
      await canvas.hover({ position: { x: box.width - 40, y } });
      await page.locator('.tip').waitFor();
    }
    await assertCalm(page, problems);
    await page.locator('.table-box').evaluate((box) => { box.scrollTop = box.scrollHeight; });
    await until(page, () => document.querySelectorAll('.table-box tbody tr[aria-rowindex="51"]').length === 1);
    await assertCalm(page, problems);
    await page.locator('.health button[aria-expanded]').click();
    await page.locator('.alerts tbody button', { hasText: kNames[0] }).waitFor();
    await assertCalm(page, problems);
    await page.locator('.health .words button', { hasText: kNames[0] }).click();
    await page.locator('.chips li bdi', { hasText: kNames[0] }).waitFor();
    await heatMapDrawn(page);
    await until(page, () => document.querySelectorAll('.table-box tbody td.name').length > 20);
    await assertCalm(page, problems);
  }
  assert.equal(hosts.size, 1);
  await context.close();
});

test('Each of them can be pinned by a link, and its lines are those of no other', async () => {
  const { context, page, problems } = await openBrowser();
  for (let i = 0; i < names.length; i += 10) {
    const some = names.slice(i, i + 10);
    await page.goto(query(some.map((name) => ['pin', name])));
    await until(page, (n) => document.querySelectorAll('.chips li:not(.plain)').length === n, some.length);
    await until(page, () => document.querySelectorAll('.panel .uplot').length >= 3);
    await heatMapDrawn(page);
    assert.equal(await page.evaluate(() => document.querySelectorAll('.note.bad').length), 0);
    await page.locator('.ridges .note').waitFor();
    await assertCalm(page, problems);
  }
  await context.close();
});

test('Whatever a link says, it is text', async () => {
  const { context, page, problems } = await openBrowser();
  for (const name of kNames.filter((one) => one.length < 500)) {
    const fields = ['run', 'vs', 'stat', 'match', 'in', 'health', 'steps', 'rank', 'attempt', 'pin', 'cols', 'sort', 'role', 'scalar'];
    await page.goto(`${collector.url}?${new URLSearchParams(fields.map((field) => [field, name]))}`);
    await until(page, () => document.body.innerText.includes('There is no run'));
    // The same with a run that is there: what makes no sense is refused in words.
    await page.goto(`${collector.url}?${new URLSearchParams(fields.slice(1).map((field) => [field, name]))}&run=hostile`);
    await until(page, () => document.querySelector('.toolbar') !== null && document.querySelector('.note.bad') !== null);
    const seen = await page.evaluate(() => [window.hacked, document.scripts.length, document.querySelectorAll('img, iframe, base, style').length,
                                            document.documentElement.scrollWidth <= innerWidth]);
    assert.deepEqual(seen, [undefined, 1, 0, true], name);
  }
  // The console tells of what the collector refused, a stream more than it has among
  // it (those of pages that have gone end with the next sign of life), and of nothing else.
  assert.deepEqual(problems.filter((one) => !/status of (400|404|503)/.test(one)), []);
  await context.close();
});

const run = promisify(execFile);

// What the button with this label has copied.
async function copied(page, label) {
  await page.evaluate(() => navigator.clipboard.writeText(''));
  await page.locator('.copy button', { hasText: label }).click();
  const line = await until(page, () => navigator.clipboard.readText());
  assert.match(line, /^[\x20-\x7e]+$/);
  return line;
}

// The programs of this build, and the collector of this test.
function shellEnvironment() {
  const bin = tempDir();
  symlinkSync(program('GRADTAP'), join(bin, 'gradtap'));
  return { ...process.env, PATH: `${bin}:${process.env.PATH}`, GRADTAP_COLLECTOR: collector.grpc };
}

test('A view of the heat map, of a module or of two runs is a line for the shell, too', async () => {
  const { context, page } = await openBrowser({ permissions: ['clipboard-read', 'clipboard-write'] });
  const env = shellEnvironment();
  const other = await Trainer.start(collector, 'other', [['<b>', 4], ['a.b', 4], ['a.c', 4], ['ab', 4]]);
  await other.tell('steps 30');
  await other.tell('flush');
  await other.end();
  const views = [
    [[['run', 'hostile'], ['match', '^<[si]'], ['steps', '-5:'], ['stat', 'weight.rms']], 'rows', /^<[si]/, 5],
    [[['run', 'other'], ['in', 'a']], 'rows', /^a\./, 30],
    [[['run', 'other'], ['match', '\u{1f600}|^ab$'], ['steps', '3:9']], 'rows', /^ab$/, 6],
    [[['run', 'other'], ['vs', 'hostile']], 'rows', /^$/],
  ];
  for (const [fields, rows, wanted, columns] of views) {
    await page.goto(`${collector.url}?${new URLSearchParams(fields)}`);
    await heatMapDrawn(page);
    for (const [label, more] of [['gradtap', ' --json'], ['curl', '']]) {
      const line = await copied(page, label);
      const { stdout } = await run('bash', ['-c', line + more], { env, maxBuffer: 1 << 28 });
      const answer = JSON.parse(stdout);
      assert.ok(answer[rows].length > 0, line);
      for (const row of answer[rows]) assert.match(row.parameter, wanted, line);
      if (columns) assert.equal(answer.buckets.reduce((sum, one) => sum + one.recorded, 0), columns, line);
    }
  }
  await context.close();
});

test('The lines for gradtap and curl are plain ASCII and ask for exactly what is pinned', async () => {
  const { context, page, problems } = await openBrowser({ permissions: ['clipboard-read', 'clipboard-write'] });
  const env = shellEnvironment();
  for (let i = 0; i < names.length; i += 5) {
    const some = names.slice(i, i + 5);
    await page.goto(query(some.map((name) => ['pin', name])));
    await until(page, (n) => document.querySelectorAll('.chips li:not(.plain)').length === n, some.length);
    for (const [label, more] of [['gradtap', ' --json'], ['curl', '']]) {
      const line = await copied(page, label);
      const { stdout } = await run('bash', ['-c', line + more], { env, maxBuffer: 1 << 28 });
      const found = new Set(JSON.parse(stdout).series.map((one) => one.parameter));
      assert.deepEqual([...found].sort(), [...some].sort(), line);
    }
  }
  assert.deepEqual(problems, []);
  await context.close();
});
