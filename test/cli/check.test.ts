/** xpsim check and xpsim replay TOKEN, as they are shipped. */
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { witnesses } from '../../src/check/witnesses.js';
import { ensureBuilt, ROOT } from '../support/built.js';

const tmp = fs.mkdtempSync(path.join(os.tmpdir(), 'xpsim-check-'));
const at = (name: string): string => path.join(tmp, name);
const xpsim = (...args: string[]) =>
  spawnSync(process.execPath, [path.join(ROOT, 'bin/xpsim'), ...args], { encoding: 'utf8', cwd: tmp });
beforeAll(() => ensureBuilt(), 240_000);
afterAll(() => fs.rmSync(tmp, { recursive: true }));

/** The flaw R1 of every release: found at once. */
const flawed = ['check', '--vendor', 'amd', '--runs', '200', '--commands', '20'];
const tokenIn = (text: string): string => /replay: (xp1\.\S+)/.exec(text)?.[1] ?? '';

test('a run on the fixed profile reports what it reached, and holds', () => {
  const r = xpsim('check', '--fixed', '--runs', '12', '--require', 'assign 0,dma lands', '--no-store');
  expect(r.stderr).toBe('xpsim: 2 blocks of up to 20 histories\n');
  expect(r.status).toBe(0);
  expect(r.stdout).toContain('24 histories, 1440 commands, no violation');
  expect(r.stdout).toMatch(/assign {7}\w+ \d+.* ok \d+/);
  expect(r.stdout).toContain('move dom0 -> guest: ');
  expect(r.stdout).toContain('seam phantomAssignResult: ');
});

test('what is required and never reached fails the run', () => {
  const r = xpsim(
    'check',
    '--fixed',
    '--vendor',
    'vtd',
    '--runs',
    '1',
    '--commands',
    '1',
    '--require',
    'usual',
  );
  expect(r.status).toBe(1);
  expect(r.stdout).toContain('never reached: roll-back\n');
});

describe('a failure', () => {
  const r = (): ReturnType<typeof xpsim> => xpsim(...flawed, '--store', 'store', '--timeline', 'trace.json');
  test('is kept, replayed first, and replayed by its token', () => {
    const first = r();
    expect(first.status).toBe(1);
    const token = tokenIn(first.stdout);
    const violation = /^(?:INV-[A-Z0-9-]+|ASSERT): .*$/m.exec(first.stdout)?.[0] ?? 'none';
    expect(fs.readdirSync(at('store'))).toHaveLength(1);
    const again = xpsim('replay', token);
    expect(again.status).toBe(1);
    expect(again.stdout).toContain(violation);
    expect(again.stdout).toMatch(/^ {2}1 {2}\w+/m);
    const second = r();
    expect(second.status).toBe(1);
    expect(second.stderr).toContain('still fails');
    expect(second.stdout).toContain(violation);
  });

  test('leaves a timeline with tracks of vCPUs, devices and IOMMUs', () => {
    fs.rmSync(at('store'), { recursive: true, force: true });
    r();
    expect(JSON.parse(fs.readFileSync(at('trace.json'), 'utf8'))).toHaveProperty('traceEvents');
    // What a run finds first differs with what is drawn: the tracks of one history that is known.
    xpsim('replay', witnesses.R1!, '--timeline', 'trace.json');
    const { traceEvents } = JSON.parse(fs.readFileSync(at('trace.json'), 'utf8')) as {
      traceEvents: { ph: string; pid: number; tid: number; ts: number; args?: { name?: string } }[];
    };
    const names = traceEvents.filter((e) => e.ph === 'M').map((e) => e.args!.name!);
    expect(names).toEqual(expect.arrayContaining(['vCPUs', 'devices', 'IOMMUs', 'cpu0', 'iommu0']));
    expect(names.some((n) => /^0000:[0-9a-f]{2}:/.test(n))).toBe(true);
    const spans = traceEvents.filter((e) => e.pid === 1 && e.tid === 0);
    expect(spans.filter((e) => e.ph === 'B').length).toBeGreaterThan(3);
    expect(spans.filter((e) => e.ph === 'B')).toHaveLength(spans.filter((e) => e.ph === 'E').length);
  });

  test('of another release, profile or vendor is not asked, and stays', () => {
    const other = xpsim('check', '--fixed', '--vendor', 'amd', '--runs', '1', '--store', 'store');
    expect(other.status).toBe(0);
    expect(fs.readdirSync(at('store'))).toHaveLength(1);
  });

  test('that holds again is forgotten', () => {
    const held = xpsim('check', '--fixed', '--vendor', 'amd', '--runs', '1', '--store', 'held');
    expect(held.status).toBe(0);
    fs.mkdirSync(at('held'));
    const holds = tokenIn(r().stdout);
    const text = Buffer.from(holds.slice(4), 'base64url')
      .toString('utf8')
      .replace('"fixed":false', '"fixed":true');
    fs.writeFileSync(at('held/a.txt'), `replay: xp1.${Buffer.from(text).toString('base64url')}\n`);
    const then = xpsim('check', '--fixed', '--vendor', 'amd', '--runs', '1', '--store', 'held');
    expect(then.stderr).toContain('holds now');
    expect(fs.readdirSync(at('held'))).toEqual([]);
  });
});

test('shards add up to the whole run, and a missing or foreign one is refused', () => {
  const args = [
    'check',
    '--fixed',
    '--runs',
    '21',
    '--commands',
    '10',
    '--seed',
    '3',
    '--json',
    '--no-store',
  ];
  const whole = xpsim(...args);
  for (const i of [1, 2]) fs.writeFileSync(at(`${i}.json`), xpsim(...args, '--shard', `${i}/2`).stdout);
  const merged = xpsim('check', 'merge', '--json', at('1.json'), at('2.json'));
  expect(merged.status).toBe(0);
  expect(JSON.parse(merged.stdout)).toEqual(JSON.parse(whole.stdout));
  const half = xpsim('check', 'merge', at('1.json'));
  expect(half.status).toBe(1);
  expect(half.stderr).toContain('2 of 4 blocks are in none of the files');
  const twice = xpsim('check', 'merge', at('1.json'), at('1.json'));
  expect(twice.status).toBe(3);
  expect(twice.stderr).toContain('name each shard once');
  fs.writeFileSync(at('3.json'), '{}');
  expect(xpsim('check', 'merge', at('3.json')).status).toBe(3);
});

test('a run says the same with one thread and with three, to the violation', () => {
  const alone = xpsim(...flawed, '--no-store', '--workers', '1');
  const shared = xpsim(...flawed, '--no-store', '--workers', '3');
  expect(alone.status).toBe(1);
  expect(shared.stdout).toBe(alone.stdout);
  expect(xpsim(...flawed, '--workers', '0').status).toBe(2);
});

test("one's own machine is a machine to check", () => {
  const host = path.join(ROOT, 'examples/gpu-passthrough/host');
  const r = xpsim('check', '--host', host, '--fixed', '--runs', '12', '--no-store');
  expect(r.status).toBe(0);
  expect(r.stdout).toContain('12 histories, 720 commands, no violation');
  expect(r.stdout).toContain('move guest -> quarantine: ');
});

test('the example of docs/check.md runs', () => {
  const file = path.join(ROOT, 'examples/isolation/isolation.test.mjs');
  const r = spawnSync(process.execPath, ['--test', file], { encoding: 'utf8' });
  expect(r.stdout).toContain('pass 1');
  expect(r.status).toBe(0);
});

test('Ctrl-C ends a run with its report and 130', async () => {
  const child = spawn(
    process.execPath,
    [path.join(ROOT, 'bin/xpsim'), 'check', '--fixed', '--runs', '100000'],
    {
      cwd: tmp,
    },
  );
  let out = '';
  let err = '';
  child.stdout.on('data', (d: Buffer) => {
    out += d.toString();
  });
  child.stderr.on('data', (d: Buffer) => {
    err += d.toString();
  });
  await new Promise((resolve) => child.stderr.once('data', resolve));
  child.kill('SIGINT');
  const code = await new Promise((resolve) => child.on('exit', resolve));
  expect(code).toBe(130);
  expect(out).toMatch(/: \d+ histories, \d+ commands, no violation/);
  expect(err).toMatch(/interrupted; \d+ histories ran/);
});

test('xpsim explore tells the schedules of a pair', () => {
  const r = xpsim(
    'explore',
    '--fixed',
    '--vendor',
    'amd',
    '--start',
    'with dom0',
    '--pair',
    'assign to PV,destroy PV',
  );
  expect(r.status).toBe(0);
  expect(r.stdout).toMatch(/^amd with dom0 assign to PV +destroy PV +\d+ {2}-22\/0 -3\/0 0\/0\n1 pairs, /);
  const calls = 'assign to PV,quarantine,device group';
  const three = xpsim('explore', '--fixed', '--vendor', 'amd', '--start', 'with dom0', '--pair', calls);
  expect(three.stdout).toMatch(
    /^amd with dom0 assign to PV +quarantine +device group +\d+ {2}.*\n1 sets, \d+ schedules, no/,
  );
  const sets = ['--vcpus', '3', '--sets', '2', '--bound', '5'];
  const drawn = xpsim('explore', '--fixed', '--vendor', 'amd', '--start', 'with PV', ...sets);
  expect(drawn.stdout).toMatch(/\n2 sets, \d+ schedules, (?:\d complete, )?no violation\n$/);
  expect(xpsim('explore', '--vcpus', '5').status).toBe(2);
  const odd = xpsim('explore', '--pair', 'nothing,destroy PV');
  expect(odd.status).toBe(3);
  expect(odd.stderr).toContain('choose from: assign to HVM');
});

test.each([
  [['check', '--shard', '3/2'], 2, '2/4 is the second of four parts'],
  [['check', '--vendor', 'sparc'], 2, 'vtd, amd'],
  [['check', '--host', '/nowhere'], 3, 'no such file'],
  [['replay', 'xp1.abc'], 3, 'is not a replay token'],
])('%j exits %i', (args, code, text) => {
  const r = xpsim(...args);
  expect(r.status).toBe(code);
  expect(r.stderr).toContain(text);
});
