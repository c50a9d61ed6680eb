// The parts of the page that draw nothing, against slow and simple versions of them.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';

import { program } from './support.mjs';

const work = program('GRADTAP_WEB_WORK');
const { build } = createRequire(join(work, 'node_modules/vite/package.json'))('esbuild');

// A module of the page's source, for node.
async function load(name) {
  const { outputFiles } = await build({
    entryPoints: [join(work, 'src', name)], bundle: true, write: false, format: 'esm', platform: 'neutral',
    mainFields: ['module', 'main'], loader: { '.css': 'empty' }, jsx: 'automatic', jsxImportSource: 'preact',
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].text).toString('base64')}`);
}

// Numbers that are the same each time.
function generator(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const { HeatData, columnsFor, rangeOf } = await load('heat_data.ts');
const { PooledRows, columnsAt, scaleOf } = await load('heat_paint.ts');
const { tabulate } = await load('lines.ts');
const colors = await load('colors.ts');
const text = await load('text.ts');
const { labelsOf, nodeAt, treeOf } = await load('modules.ts');
const { readHeatMap } = await load('messages.ts');

// What the view needs of a browser.
globalThis.window = { addEventListener: () => {} };
globalThis.location = { pathname: '/', search: '', hash: '' };
const { kFirstView, parseView, urlOfView } = await load('view.ts');
const { alertOf, judge } = await load('health.ts');

const utf8 = new TextEncoder();

// An answer of one step a column.
function answerOf(steps, rows, cell) {
  return {
    attempt: 1, rank: 0, statistic: 'grad.l2', bucketSteps: 1, gaps: [],
    buckets: steps.map((step) => ({ first: step, last: step, recorded: 1, timeNs: step })),
    rows: Array.from({ length: rows }, (_, r) => ({
      name: () => `p${r}`, nameBytes: utf8.encode(`p${r}`),
      worst: new Uint8Array(Float32Array.from(steps, (step) => cell(r, step).value).buffer),
      flags: Uint8Array.from(steps, (step) => cell(r, step).flags),
    })),
  };
}

const range = (begin, end) => Array.from({ length: end - begin }, (_, i) => begin + i);

test('A heat map that grows step by step keeps the worst of each column, however often it folds', () => {
  const random = generator(3);
  const cells = new Map();
  const cell = (r, step) => {
    const key = `${r} ${step}`;
    if (!cells.has(key)) cells.set(key, { value: random() < 0.02 ? NaN : Math.fround(random()), flags: random() < 0.001 ? 1 : 0 });
    return cells.get(key);
  };
  const kRows = 3;
  const data = new HeatData(answerOf(range(0, 10), kRows, cell));
  const pooled = new PooledRows(data, Int32Array.from([0, 1, 2]), 2);
  let last = 10;
  while (last < 5000) {
    const next = last + 1 + Math.floor(random() * 60);
    assert.ok(data.append(answerOf(range(last, next), kRows, cell)));
    pooled.update();
    last = next;
  }
  assert.ok(data.columns <= data.capacity && data.refolded > 0);
  assert.equal(data.lastStep, last - 1);
  let begin = 0;
  data.buckets.forEach((bucket, c) => {
    assert.equal(bucket.first, begin);
    assert.equal(bucket.recorded, bucket.last - bucket.first + 1);
    begin = bucket.last + 1;
    const worst = range(0, kRows).map((r) => {
      const all = range(bucket.first, bucket.last + 1).map((step) => cell(r, step));
      const known = all.map((one) => one.value).filter((value) => !Number.isNaN(value));
      const expected = known.length ? Math.max(...known) : NaN;
      assert.ok(Object.is(data.worst[r * data.capacity + c], expected), `row ${r} column ${c}`);
      assert.equal(data.flags[r * data.capacity + c], all.reduce((flags, one) => flags | one.flags, 0));
      return expected;
    });
    // Two pixels of three rows: the middle one is part of both.
    for (const [y, rows] of [[0, [0, 1]], [1, [1, 2]]]) {
      const known = rows.map((r) => worst[r]).filter((value) => !Number.isNaN(value));
      assert.ok(Object.is(pooled.worst[y * data.capacity + c], known.length ? Math.max(...known) : NaN), `pixel ${y} column ${c}`);
    }
  });
});

test('Steps that are there already, other rows and another attempt are refused', () => {
  const cell = () => ({ value: 1, flags: 0 });
  const data = new HeatData(answerOf(range(0, 10), 2, cell));
  assert.equal(data.append(answerOf(range(9, 12), 2, cell)), false);
  assert.equal(data.append(answerOf(range(10, 12), 3, cell)), false);
  assert.equal(data.append({ ...answerOf(range(10, 12), 2, cell), attempt: 2 }), false);
  const renamed = answerOf(range(10, 12), 2, cell);
  renamed.rows[1].nameBytes = utf8.encode('p2');
  assert.equal(data.append(renamed), false);
  assert.equal(data.lastStep, 9);
  assert.ok(data.append(answerOf(range(10, 12), 2, cell)));
  assert.equal(data.lastStep, 11);
});

test('Each column has a pixel, and a pixel without one is a gap', () => {
  const random = generator(5);
  for (let round = 0; round < 50; ++round) {
    const steps = [];
    for (let step = 0; steps.length < 400; step += random() < 0.03 ? 80 : 1) steps.push(step);
    const data = new HeatData(answerOf(steps, 1, () => ({ value: 1, flags: 0 })));
    const width = 100 + Math.floor(random() * 1000);
    const scale = scaleOf(data);
    const at = columnsAt(data, scale, width);
    const seen = new Set();
    for (let x = 0; x < width; ++x) for (let c = at[2 * x]; c < at[2 * x + 1]; ++c) seen.add(c);
    assert.equal(seen.size, steps.length, `width ${width}`);
    const perPixel = (scale.end - scale.begin) / width;
    for (let x = 0; x < width; ++x) {
      const inside = steps.some((step) => step + 1 > scale.begin + x * perPixel && step < scale.begin + (x + 1) * perPixel);
      assert.equal(at[2 * x] < at[2 * x + 1], inside, `pixel ${x} of ${width}`);
    }
  }
});

test('One value far above the rest does not take their colours away', () => {
  const spiked = new HeatData(answerOf(range(0, 1000), 1, (_, step) => ({ value: step === 500 ? 1e9 : 1 + step / 1000, flags: 0 })));
  const { low, high, largest } = rangeOf(spiked, Int32Array.from([0]));
  assert.equal(largest, 1e9);
  assert.ok(low <= 1.1 && high < 10, `${low} to ${high}`);
  const nothing = new HeatData(answerOf(range(0, 10), 1, () => ({ value: NaN, flags: 2 })));
  const empty = rangeOf(nothing, Int32Array.from([0]));
  assert.ok(empty.low < empty.high);
  assert.equal(columnsFor(0), 1000);
  assert.ok(columnsFor(1e6) * 1e6 <= 3e8);
});

const seriesOf = (values, more = {}) => ({
  label: 'a', parameter: 'a', color: '#000000', dash: [], faint: false, nonFinite: undefined,
  data: { run: 'r', rank: 0, parameter: 'a', statistic: 'grad.l2', attempt: values.map(() => 1), step: values.map((_, i) => i),
          value: Float64Array.from(values), absent: new Set(), pointsBefore: values.length, ...more },
});

test('The colours of the map grow lighter all the way, and none is near that of NaN', () => {
  const linear = (v) => (v <= 10.31475 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  let before = -1;
  for (const pixel of colors.kMap) {
    const [r, g, b] = [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
    const luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    assert.ok(luminance >= before - 1e-3, `${r} ${g} ${b}`);
    before = luminance;
    assert.ok(Math.hypot(r - 255, g, b - 200) > 150, `${r} ${g} ${b}`);
  }
  assert.ok(before > 0.7);
});

test('A band keeps the extremes of the steps that share a column, and marks what is not finite', () => {
  const values = Array.from({ length: 20_000 }, (_, i) => 1 + (i % 7) / 10);
  values[7777] = 500;
  values[12_345] = 0.001;
  values[15_000] = NaN;
  const table = tabulate([seriesOf(values)], []);
  assert.ok(table.banded && table.steps.length <= 501);
  assert.equal(Math.max(...table.greatest[0].filter((v) => typeof v === 'number')), 500);
  assert.equal(Math.min(...table.least[0].filter((v) => typeof v === 'number')), 0.001);
  assert.deepEqual(table.nonFinite, [{ line: 0, step: 15_000 }]);
});

test('A line breaks at a gap that nobody chose, and absent values draw nothing', () => {
  const line = seriesOf([1, 2, 3, 4, 5, 6]);
  line.data.step = [0, 1, 2, 10, 11, 12];
  line.data.absent = new Set([5]);
  const gap = { attempt: 1, rank: 0, cause: 16, firstStep: 3, lastStep: 9, steps: 7, detail: '', lost: true };
  const broken = tabulate([line], [gap]);
  assert.equal(broken.middle[0][broken.steps.indexOf(3)], null);
  assert.equal(broken.middle[0][broken.steps.indexOf(12)], undefined);
  const calm = tabulate([line], [{ ...gap, cause: 1, lost: false }]);
  assert.equal(calm.steps.indexOf(3), -1);
});

test('Ratios that are zero or negative do not stop a logarithmic axis', () => {
  const table = tabulate([seriesOf([0, 1e-3, -1, 1e-2])], [], true);
  assert.ok(table.log);
  assert.deepEqual(table.zeros.map((mark) => mark.step), [0, 2]);
  assert.deepEqual(table.range, [1e-3, 1e-2]);
});

test('Modules stand together, have labels where there is room, and a click finds them', () => {
  const names = range(0, 100).flatMap((b) => range(0, 25).map((i) => `blocks.${b}.layer${i}.weight`));
  const tree = treeOf([...names, 'head.weight', 'head.bias']);
  assert.equal(tree.last, 2502);
  const labels = labelsOf(tree, 480 / 2502, 12);
  assert.ok(labels.length > 20 && labels.length <= 41, `${labels.length} labels`);
  labels.slice(1).forEach((label, i) => {
    if (labels[i].node.path.startsWith('blocks.')) assert.ok((label.node.first - labels[i].node.first) * 480 / 2502 >= 11.9 || label.node.path === 'head');
  });
  assert.equal(nodeAt(tree, labels, 25 * 41 + 3).path, 'blocks.41');
  assert.deepEqual(labelsOf(treeOf([]), 10, 12), []);
  assert.equal(treeOf(['a', 'a.b', 'a.b.c']).children[0].last, 3);
});

test('A view and its URL say the same, however long its names', () => {
  const parsed = (url) => {
    const { search, hash } = new URL(url, 'http://host');
    return parseView(search, hash);
  };
  assert.deepEqual(parsed(urlOfView(kFirstView)), kFirstView);
  const view = {
    run: 'a.b-c', vs: 'd', stat: 'update.ratio', match: '^(a|b)&c=#?\u{1f600}$', module: 'x.y', health: 'dead', steps: [-100, null],
    ranks: [0, 3], merged: false, attempt: 2, pins: ['a&b', '\0', '+ %20', 'é'], columns: ['grad.l2'], sort: '-name', role: 'weight', scalar: 'lr',
  };
  assert.deepEqual(parsed(urlOfView(view)), view);
  const long = { ...view, pins: Array.from({ length: 20 }, (_, i) => `${i}${'ü'.repeat(250)}`) };
  const url = urlOfView(long);
  assert.ok(url.split('#')[0].length < 4000);
  assert.deepEqual(parsed(url), long);
  assert.deepEqual(parseView('?steps=x:y&rank=-1,z&attempt=-5&cols=,', ''), kFirstView);
  assert.equal(parseView(`?${'pin=a&pin=b&'.repeat(50)}`, '').pins.length, 2);
});

// An answer of GetHealth; what is not said of a rule is that nothing breaks it.
function rulesOf(said) {
  const names = ['NONFINITE', 'EXPLODING', 'VANISHING', 'DEAD', 'UPDATE_RATIO', 'LOSS_SPIKE', 'STALLED', 'LOST_RANK'];
  return {
    attempt: 2, evaluated: true, step: '7',
    rules: names.map((name) => ({ rule: `HEALTH_RULE_${name}`, enabled: true, offenders: '0', parameters: '0', names: [], ...said[name] })),
  };
}

test('What the rules say is counted by parameters, and by offenders where there are none', () => {
  const health = judge(rulesOf({
    NONFINITE: { offenders: '3', parameters: '2', names: ['now', 'both'] },
    EXPLODING: { offenders: '9000', parameters: '5000', names: ['first', 'second'] },
    DEAD: { enabled: false },
    LOSS_SPIKE: { offenders: '1' },
    LOST_RANK: { offenders: '2' },
    UNKNOWN: { offenders: '1' },
  }), new Set(['both', 'earlier']), 0, true);
  const counts = Object.fromEntries(Object.entries(health).map(([category, one]) => [category, one.count]));
  assert.deepEqual(counts, {
    nonfinite: 3, exploding: 5000, vanishing: 0, dead: -1, update_ratio: 0, loss_spike: 1, stalled: 0, lost_rank: 2,
  });
  assert.deepEqual([...health.nonfinite.affected], ['now', 'both', 'earlier']);
  assert.deepEqual([...health.exploding.affected], ['first', 'second']);
  assert.deepEqual(Object.keys(health).filter((category) => !health[category].enabled), ['dead']);
  // A loss that is NaN is no parameter.
  assert.equal(judge(rulesOf({ NONFINITE: { offenders: '1' } }), new Set(), 2, true).nonfinite.count, 1);
});

test('What is not known is not called well', () => {
  const counts = (...said) => Object.values(judge(...said)).map((one) => one.count);
  const none = Array(8).fill(-1);
  assert.deepEqual(counts(undefined, undefined, 0, true), none);
  assert.deepEqual(counts(undefined, new Set(['a']), 0, true), [1, ...none.slice(1)]);
  assert.deepEqual(counts(undefined, new Set(), 0, true), [0, ...none.slice(1)]);
  assert.deepEqual(counts({ attempt: 0, evaluated: false, step: '0', rules: [] }, undefined, 0, true), none);
  // Of an older attempt the rules say nothing; without statistics only what needs none.
  assert.deepEqual(counts(rulesOf({ DEAD: { offenders: '1', parameters: '1', names: ['a'] } }), undefined, 1, true), none);
  assert.deepEqual(counts(rulesOf({}), undefined, 2, false), [-1, -1, -1, -1, -1, 0, 0, 0]);
  assert.ok(Object.values(judge(undefined, undefined, 0, true)).every((one) => one.enabled));
});

test('The alert that is said is the newest active one, else the newest', () => {
  const alert = (id, active) => ({ id: String(id), active });
  const answer = rulesOf({ STALLED: { alert: alert(3, true) }, DEAD: { alert: alert(9, false) }, NONFINITE: { alert: null } });
  assert.equal(alertOf({ answer: undefined, alerts: undefined }), undefined);
  assert.equal(alertOf({ answer: rulesOf({}), alerts: [] }), undefined);
  assert.equal(alertOf({ answer, alerts: [alert(40, false), alert(39, false)] }).id, '3');
  assert.equal(alertOf({ answer, alerts: [alert(10, true), alert(9, true)] }).id, '10');
  assert.equal(alertOf({ answer: undefined, alerts: [alert(40, false), alert(39, false)] }).id, '40');
  assert.equal(alertOf({ answer: rulesOf({ DEAD: { alert: alert(9, false) } }), alerts: undefined }).id, '9');
});

test('Names are shortened, made visible and quoted whatever they hold', () => {
  assert.equal(text.shortened('x'.repeat(100_000), 20).length, 20);
  assert.equal(text.visible('a\u202eb\0c'), 'a\\u202eb\\u0000c');
  for (const name of ['a.b', '\u{1f600}', 'x y', '(', '\n', "'", 'é']) {
    const quoted = text.quoted(name);
    assert.match(quoted, /^[\x21-\x7e]+$/);
    // RE2's escapes are JavaScript's, but for the braces' letter.
    const pattern = quoted.replace(/\\x\{/g, '\\u{').replace(/\\([^\w{])/g, (all, c) => (/[$()*+.?[\\\]^{|}/]/.test(c) ? all : c));
    assert.match(name, new RegExp(`^${pattern}$`, 'u'));
  }
  assert.equal(text.number(-0.00001234), '\u22121.23e\u22125');
  assert.equal(text.number(NaN), 'NaN');
});

test('A message that ends too early is an error, and what is unknown is passed over', () => {
  const row = [0x0a, 1, 0x61, 0x1a, 4, 0, 0, 0x80, 0x3f, 0x78, 1]; // "a", 1.0, and field 15.
  const bytes = Uint8Array.from([0x28, 1, 0x32, 4, 0x08, 5, 0x10, 5, 0x3a, row.length, ...row]);
  const answer = readHeatMap(bytes);
  assert.equal(answer.rows[0].name(), 'a');
  assert.deepEqual(answer.buckets, [{ first: 5, last: 5, recorded: 0, timeNs: 0 }]);
  for (let end = 1; end < bytes.length; ++end) {
    let rows = 0;
    try {
      rows = readHeatMap(bytes.subarray(0, end)).rows.length;
    } catch (error) {
      assert.ok(error instanceof RangeError, `${error}`);
    }
    assert.equal(rows, 0);
  }
  const negative = Uint8Array.from([0x32, 11, 0x08, 0xfb, ...Array(8).fill(0xff), 0x01]);
  assert.equal(readHeatMap(negative).buckets[0].first, -5);
});
