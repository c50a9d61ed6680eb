// The committed bundle is what its source builds, small, and asks nobody else.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { Collector, program, tempDir } from './support.mjs';

const work = program('GRADTAP_WEB_WORK');
const dist = join(work, 'dist');
const kMostBytes = 300 * 1024;

test('The committed bundle is what its source builds, byte for byte', () => {
  const fresh = tempDir();
  const tool = (name, ...args) => execFileSync(join(work, 'node_modules/.bin', name), args, { cwd: work, encoding: 'utf8' });
  tool('tsc', '--noEmit');
  tool('vite', 'build', '--outDir', fresh, '--emptyOutDir', '--logLevel', 'error');
  assert.deepEqual(readdirSync(fresh).sort(), readdirSync(dist).sort());
  for (const name of readdirSync(fresh)) {
    assert.ok(readFileSync(join(fresh, name)).equals(readFileSync(join(dist, name))),
              `dist/${name} is not what the source builds: npm run build in server/dashboard, and commit dist`);
  }
});

test('The collector serves the committed bundle and nothing else of that kind', async () => {
  const collector = await Collector.start(tempDir());
  for (const [path, name] of [['', 'index.html'], ['page.js', 'page.js'], ['page.css', 'page.css']]) {
    const response = await fetch(collector.url + path);
    assert.equal(response.status, 200);
    assert.ok(Buffer.from(await response.arrayBuffer()).equals(readFileSync(join(dist, name))), name);
    assert.match(response.headers.get('content-security-policy'), /^default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'/);
  }
  for (const path of ['index.html', 'page.js.map', 'pagexjs', 'src/main.tsx', 'page.js/', '..%2fpage.js']) {
    assert.equal((await fetch(collector.url + path)).status, 404, path);
  }
  await collector.stop();
});

test('All of it takes at most 300 KiB, compressed', () => {
  const bytes = readdirSync(dist).map((name) => gzipSync(readFileSync(join(dist, name))).length).reduce((a, b) => a + b);
  assert.ok(bytes > 0 && bytes <= kMostBytes, `${bytes} bytes`);
});

test('The document has no script or style of its own, and names no other host', () => {
  const html = readFileSync(join(dist, 'index.html'), 'utf8');
  assert.doesNotMatch(html, /<style|\sstyle=|\son\w+=|javascript:/i);
  assert.deepEqual([...html.matchAll(/<script[^>]*>/g)].map((one) => /src="\.\/page\.js"/.test(one[0])), [true]);
  for (const name of readdirSync(dist)) {
    const hosts = [...readFileSync(join(dist, name), 'utf8').matchAll(/https?:\/\/([\w.-]+)/g)].map((one) => one[1]);
    // The names of SVG and its relatives, which nobody asks.
    assert.deepEqual(hosts.filter((host) => host !== 'www.w3.org'), [], name);
  }
});

test('The lock file names no registry', () => {
  assert.doesNotMatch(readFileSync(join(work, 'package-lock.json'), 'utf8'), /"resolved"/);
});
