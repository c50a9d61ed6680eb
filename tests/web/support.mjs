// What the tests of the page share: a collector, trainers and a browser, each a
// process of the test's own, and gone with it.
//
// Waits end on what is waited for; their limit is for a test that has failed.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export const kPatience = 120_000;

export const program = (name) => {
  const path = process.env[name];
  if (!path) throw new Error(`${name} has to name the program`);
  return path;
};

const dirs = [];

export function tempDir() {
  dirs.push(mkdtempSync(join(tmpdir(), 'gradtap-web-')));
  return dirs[dirs.length - 1];
}

// One line after the other; undefined at the end.
function linesOf(stream) {
  const iterator = createInterface({ input: stream })[Symbol.asyncIterator]();
  return async () => {
    const { value, done } = await iterator.next();
    return done ? undefined : value;
  };
}

const children = new Set();
const browsers = new Set();
// What a failed test has left would keep this process alive.
export const endAll = () => {
  children.forEach((child) => child.kill('SIGKILL'));
  return Promise.all([...browsers].map((context) => context.close().catch(() => undefined)));
};
process.on('exit', () => {
  endAll();
  dirs.forEach((dir) => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));
});

export function start(path, args, env = {}) {
  const child = spawn(path, args, {
    env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'ignore'],
  });
  children.add(child);
  child.ended = new Promise((resolve) => child.on('exit', (code, signal) => {
    children.delete(child);
    resolve(code ?? signal);
  }));
  child.next = linesOf(child.stdout);
  return child;
}

export class Collector {
  // `http` 0: any port. `more`: further arguments.
  static async start(dir, http = 0, more = []) {
    const collector = new Collector();
    collector.dir = dir;
    collector.process = start(program('GRADTAPD'), [
      '--data-dir', dir, '--grpc-listen', '127.0.0.1:0', '--http-listen', `127.0.0.1:${http}`, ...more]);
    const line = await collector.process.next();
    const found = /grpc=(\S+) http=(\S+)/.exec(line ?? '');
    if (!found) throw new Error(`the collector did not start: ${line}`);
    [, collector.grpc, collector.http] = found;
    collector.url = `http://${collector.http}/`;
    return collector;
  }

  async stop(signal = 'SIGTERM') {
    this.process.kill(signal);
    await this.process.ended;
  }

  async ask(method, fields = {}) {
    const response = await fetch(`${this.url}api/v1/${method}`, {
      method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(fields),
    });
    if (!response.ok) throw new Error(await response.text());
    return response.json();
  }
}

const hex = (text) => Buffer.from(text, 'utf8').toString('hex');

// A training program with a real agent: see trainer.cc for what it can be told.
export class Trainer {
  // `parameters`: [name, elements] each.
  static async start(collector, run, parameters, env = {}) {
    const dir = tempDir();
    const trainer = new Trainer();
    trainer.process = start(program('GRADTAP_WEB_TRAINER'), [], {
      GRADTAP_COLLECTOR: collector.grpc, GRADTAP_RUN: run, GRADTAP_RING_FOLDER: dir, GRADTAP_SPOOL: 'off',
      GRADTAP_LOG: 'off', OMP_NUM_THREADS: '1', ...env,
    });
    for (const [name, numel] of parameters) trainer.process.stdin.write(`parameter ${hex(name)} ${numel}\n`);
    for (let i = 0; i < parameters.length; ++i) await trainer.answer();
    await trainer.tell('begin');
    return trainer;
  }

  async answer() {
    const line = await this.process.next();
    if (line !== 'ok') throw new Error(`the trainer says: ${line}`);
  }

  // `name` instead of NAME in a command.
  async tell(command, name) {
    this.process.stdin.write(`${name === undefined ? command : command.replace('NAME', hex(name))}\n`);
    await this.answer();
  }

  async end() {
    this.process.stdin.end('quit\n');
    await this.process.ended;
  }
}

// A page in a browser of its own. `problems` collects what the console and the page
// report, and `hosts` every host that was asked for anything.
export async function openBrowser(options = {}) {
  const require = createRequire(join(program('GRADTAP_WEB_WORK'), 'package.json'));
  const { chromium } = require('playwright-core');
  const context = await chromium.launchPersistentContext(tempDir(), {
    executablePath: program('GRADTAP_CHROMIUM'), headless: true, viewport: { width: 1280, height: 900 }, ...options,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
           '--disable-component-update', '--disable-sync'],
  });
  browsers.add(context);
  context.setDefaultTimeout(kPatience);
  const page = context.pages()[0] ?? (await context.newPage());
  const problems = [];
  const hosts = new Set();
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') problems.push(message.text());
  });
  page.on('dialog', (dialog) => {
    problems.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.protocol !== 'data:') hosts.add(url.host);
  });
  return { context, page, problems, hosts };
}

// Until `test` in the page gives something true; returns that.
export async function until(page, test, argument) {
  const handle = await page.waitForFunction(test, argument, { timeout: kPatience, polling: 100 });
  return handle.jsonValue();
}

// How often the heat maps of the page have been drawn; at least `times`.
// The counts of canvases that have gone are not among them.
export const timesDrawn = (page) => page.evaluate(() => [...document.querySelectorAll('.heat-box canvas')]
  .reduce((sum, one) => sum + Number(one.dataset.drawn ?? 0), 0));
export const heatMapDrawn = (page, times = 1) => until(page, (n) => [...document.querySelectorAll('.heat-box canvas')]
  .reduce((sum, one) => sum + Number(one.dataset.drawn ?? 0), 0) >= n, times);
