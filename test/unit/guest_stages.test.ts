/** What a recording's console tells of its guests: when each got how far, and what they printed. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ConsoleLog } from '../../src/cli/golden/console_log.js';
import { GuestStages } from '../../src/cli/golden/guest_stages.js';
import type { GoldenRecord } from '../../src/cli/golden/recording.js';

let dir = '';
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'xpsim-console-'));
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

const record = (r: Partial<GoldenRecord>): GoldenRecord => ({
  cmd: 'true',
  stdout: '',
  stderr: '',
  xen_log: [],
  dom0_kernel_log: [],
  vtd_trace: [],
  ...r,
});
const MAPPED = '(XEN) memory_map:add: d1 gfn=f1040 mfn=fe640 nr=20';
const UNMAPPED = '(XEN) memory_map:remove: d1 gfn=f1040 mfn=fe640 nr=20';
const UPCALL = '(XEN) d1v0: upcall vector f3';
const BOOT = record({ xen_log: ['(XEN) Xen version'] });
const CREATE = record({
  xen_log: ['(XEN) HVM d1v0 save: CPU'],
  debug_keys: { Q: ['(XEN) ==== PCI devices ===='] },
});
const LATER = record({ xen_log: [UNMAPPED] });
const RECORDS = [BOOT, CREATE, record({}), LATER];

function serial(...lines: string[]): ConsoleLog {
  const text = lines.map((l) => `${l}\r\n`).join('');
  fs.writeFileSync(path.join(dir, 'serial-full.log.gz'), gzipSync(text));
  return new ConsoleLog(dir, RECORDS);
}
const whole = (): ConsoleLog =>
  serial(
    '(XEN) Xen version',
    '[    0.000000] dom0',
    '(XEN) HVM d1v0 save: CPU',
    '(d1) HVM Loader',
    '(XEN) ==== PCI devices ====',
    '(d1) SeaBIOS',
    MAPPED,
    '(d1) Booting from ROM...',
    UPCALL,
    UNMAPPED,
  );

describe('the whole console', () => {
  test('gives each record the lines of guests among and behind its own', () => {
    const log = whole();
    expect(log.shown(1)).toEqual(['(XEN) HVM d1v0 save: CPU', '(d1) HVM Loader']);
    expect(log.shown(1, 'Q')).toEqual([
      '(XEN) ==== PCI devices ====',
      '(d1) SeaBIOS',
      '(d1) Booting from ROM...',
    ]);
    expect(log.missed(1, ['Q'])).toEqual([MAPPED, UPCALL]);
  });
  test('is not needed: records have lines of their own', () => {
    const log = new ConsoleLog(dir, [record({ xen_log: ['(d1) HVM Loader', MAPPED] })]);
    expect(log.shown(0)).toEqual(['(d1) HVM Loader', MAPPED]);
    expect(log.missed(0, [])).toEqual([]);
  });
  test('that does not unpack is refused', () => {
    fs.writeFileSync(path.join(dir, 'serial-full.log.gz'), 'no');
    expect(() => new ConsoleLog(dir, RECORDS)).toThrow('cannot be unpacked');
  });

  test('where all lines are alike the search for a record gives up, and the record has what it has', () => {
    const alike = '(XEN) alike';
    const many = record({ xen_log: [...Array<string>(100_000).fill(alike), MAPPED] });
    fs.writeFileSync(path.join(dir, 'serial-full.log.gz'), gzipSync(`${alike}\r\n`.repeat(200_000)));
    const log = new ConsoleLog(dir, [many]);
    expect(log.shown(0)).toHaveLength(100_001);
    expect(log.missed(0, [])).toEqual([]);
  });
});

describe('a guest with firmware', () => {
  const at = (stages: GuestStages, n: number) => {
    stages.now = n;
    return [stages.begins(1), stages.kernelRuns(1, 0), stages.answers(1, 0), stages.unseen];
  };
  test('gets from stage to stage where the console says so, between two records too', () => {
    const stages = new GuestStages(RECORDS, whole());
    expect([1, 2, 3].map((n) => at(stages, n))).toEqual([
      [false, false, false, false],
      [true, true, false, true],
      [true, true, false, false],
    ]);
    stages.running = true;
    expect(at(stages, 3)).toEqual([true, true, true, false]);
  });
  test('maps its devices in the record that makes it when that record has the lines', () => {
    const own = [BOOT, record({ xen_log: [MAPPED] })];
    const stages = new GuestStages(own, new ConsoleLog(dir, own));
    stages.now = 1;
    expect(stages.ownFirmware(1)).toBe(true);
    expect(stages.ownFirmware(2)).toBe(false);
  });
  test('whose kernel came up while a debug key printed is up at the next command', () => {
    const keyed = [BOOT, record({ debug_keys: { Q: [UPCALL] } }), record({})];
    const stages = new GuestStages(keyed, new ConsoleLog(dir, keyed));
    stages.now = 1;
    stages.running = true;
    expect(stages.kernelRuns(1, 0)).toBe(false);
    stages.now = 2;
    expect(stages.kernelRuns(1, 0)).toBe(true);
  });
  test('of which nothing is told is up after a minute, unless others are told of', () => {
    const none = new GuestStages([BOOT], new ConsoleLog(dir, [BOOT]));
    expect([none.kernelRuns(1, 59e9), none.kernelRuns(1, 60e9), none.answers(1, 60e9)]).toEqual([
      false,
      true,
      true,
    ]);
    const others = new GuestStages(RECORDS, whole());
    expect(others.kernelRuns(2, 600e9)).toBe(false);
  });
});
