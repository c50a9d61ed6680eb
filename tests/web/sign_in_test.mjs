// How a browser brings a token: Chromium before a collector that asks for one.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { Collector, endAll, openBrowser, program, tempDir, until } from './support.mjs';

after(endAll);

const tokenOf = (dir, role) => execFileSync(
  program('GRADTAPD'), ['token', 'create', '--data-dir', dir, '--name', 'browser', '--role', role],
  { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();

const formIsThere = (page) => until(page, () => document.querySelector('input[name=token]') !== null);
const pageIsThere = (page) => until(page, () => document.querySelector('script[src]') !== null
  && document.querySelector('input[name=token]') === null);
const statusOf = (page, path) => page.evaluate(async (at) => (await fetch(at)).status, path);

async function send(page, token) {
  await page.fill('input[name=token]', token);
  await Promise.all([page.waitForNavigation(), page.click('button')]);
}

// Signs in where a link leads to, and stays there.
async function signsIn(url, dir, options) {
  const token = tokenOf(dir, 'read');
  const { context, page, problems } = await openBrowser(options);
  try {
    await page.goto(`${url}?run=a%20b&stat=grad.l2#below`);
    await formIsThere(page);
    await send(page, 'gradtap_00000000_<script>alert(1)</script>');
    await formIsThere(page);
    await send(page, token);
    await pageIsThere(page);
    assert.equal(new URL(page.url()).searchParams.get('run'), 'a b');
    assert.equal(await statusOf(page, '/api/v1/ListRuns'), 200);
    // No script of the page has it, nor anybody who sees its address.
    assert.equal(await page.evaluate(() => document.cookie), '');
    assert.ok(!page.url().includes(token));
    const [cookie] = await context.cookies();
    assert.equal(cookie.value, token);
    assert.equal(cookie.sameSite, 'Strict');
    assert.equal(cookie.httpOnly, true);
    assert.equal(cookie.secure, url.startsWith('https'));
    // The form's own answers, and the page's question for a run that is not there.
    const unexpected = problems.filter((one) => !/status of (401|404)/.test(one));
    assert.deepEqual(unexpected, []);
  } finally {
    await context.close();
  }
}

test('a browser on the same machine signs in', async () => {
  const dir = join(tempDir(), 'data');
  tokenOf(dir, 'admin');  // Tokens are asked for from the start.
  const collector = await Collector.start(dir);
  await signsIn(collector.url, dir);
  await collector.stop();
});

test('over TLS the cookie is for TLS alone', async () => {
  const folder = tempDir();
  const dir = join(folder, 'data');
  const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
  execFileSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=server', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert],
  { stdio: 'ignore' });
  tokenOf(dir, 'admin');
  const collector = await Collector.start(dir, 0, ['--tls-cert', cert, '--tls-key', key]);
  await signsIn(`https://${collector.http}/`, dir, { ignoreHTTPSErrors: true });
  await collector.stop();
});

test('a writer\'s token shows nothing', async () => {
  const dir = join(tempDir(), 'data');
  const token = tokenOf(dir, 'write');
  const collector = await Collector.start(dir);
  const { context, page } = await openBrowser();
  try {
    await page.goto(collector.url);
    await formIsThere(page);
    await send(page, token);
    await formIsThere(page);
    assert.match(await page.evaluate(() => document.body.innerText), /role read/);
    assert.deepEqual(await context.cookies(), []);
  } finally {
    await context.close();
    await collector.stop();
  }
});
