/**
 * `xpsim replay` of each recording, field by field. The recording is what is expected; the table below says only how many
 * lines may still differ, and what it does not name must be equal.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Replay, replay } from '../../src/cli/replay.js';
import differing from './replay_differing.json' with { type: 'json' };

const GOLDEN = path.resolve('../shared/golden');
const present = fs.existsSync(GOLDEN);
const recordings = present ? fs.readdirSync(GOLDEN).filter((n) => /^\d/.test(n)) : [];
/** Of the lines that are in scope by kind, at most this part may be hidden. */
const HIDDEN_MAX = 0.05;
const SECONDS_MAX = 20;

const allowed = (name: string, field: string): number =>
  (differing as Record<string, Record<string, number>>)[name]?.[field] ?? 0;

describe.skipIf(!present)('replay of ../shared/golden', () => {
  const done = new Map<string, Replay>();
  const of = (name: string): Replay => {
    const known = done.get(name) ?? replay(path.join(GOLDEN, name));
    done.set(name, known);
    return known;
  };

  test.each(recordings)(
    '%s: every field is equal, but for the lines that are known to differ',
    (name) => {
      const { fields } = of(name).totals;
      const counts = [...fields].map(([field, t]) => [field, t.compared - t.equal] as const);
      expect(counts.length).toBeGreaterThan(4);
      expect(counts.filter(([field, n]) => n > allowed(name, field))).toEqual([]);
    },
    SECONDS_MAX * 1000,
  );

  test(
    'at most 5 % of what is in scope by kind is hidden, over all and in each recording',
    () => {
      const hidden = recordings.map((name) => of(name).totals.hidden);
      for (const h of hidden) expect(h.lines / h.of).toBeLessThanOrEqual(HIDDEN_MAX);
      const sum = (key: 'lines' | 'of'): number => hidden.reduce((n, h) => n + h[key], 0);
      expect(sum('lines') / sum('of')).toBeLessThanOrEqual(HIDDEN_MAX);
    },
    SECONDS_MAX * 1000,
  );

  test(
    'the table names no recording and no field that is equal by now',
    () => {
      const stale = Object.entries(differing).flatMap(([name, fields]) =>
        Object.keys(fields).filter((field) => {
          const t = recordings.includes(name)
            ? [...of(name).totals.fields].find(([f]) => f === field)?.[1]
            : undefined;
          return t === undefined || t.compared === t.equal;
        }),
      );
      expect(stale).toEqual([]);
    },
    SECONDS_MAX * 1000,
  );

  test("without a walk of its tables, four lines of five of a guest's dump are equal", () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'xpsim-replay-'));
    const from = path.join(GOLDEN, '50-debug-keys-and-slpt');
    for (const file of ['ops.json', 'qemu-cmdline.txt'])
      fs.copyFileSync(path.join(from, file), path.join(dir, file));
    const { records } = replay(dir, { topology: path.join(GOLDEN, 'topology.json') });
    fs.rmSync(dir, { recursive: true });
    const dump = records.find((r) => r.theirs.cmd === 'xl debug-keys o')!;
    const ours = new Set(dump.ours.xen_log);
    const missing = dump.theirs.xen_log.filter((l) => !ours.has(l));
    expect(dump.theirs.xen_log.length).toBe(5500);
    // Two superpages have page tables of processes besides.
    expect(missing.length).toBeLessThanOrEqual(2 * 512);
  });

  // W4: real Xen frees the interrupt table of the device twice there.
  test('a command that kills Xen leaves its last words, and nothing is heard of the host after it', () => {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'xpsim-replay-'));
    const from = path.join(GOLDEN, '43-amdvi-phantom');
    const [boot, any] = JSON.parse(fs.readFileSync(path.join(from, 'ops.json'), 'utf8'));
    const remove = 'echo 1 > /sys/bus/pci/devices/0000:02:00.0/remove';
    const commands = ['xl list', remove, 'xl list'].map((cmd) => ({ ...any, cmd }));
    fs.writeFileSync(path.join(dir, 'ops.json'), JSON.stringify([boot, ...commands]));
    fs.copyFileSync(path.join(from, 'qemu-cmdline.txt'), path.join(dir, 'qemu-cmdline.txt'));
    const ours = replay(dir, { topology: path.join(GOLDEN, 'topology.json') }).records.map((r) => r.ours);
    fs.rmSync(dir, { recursive: true });
    expect(ours.map((r) => r.exit)).toEqual([0, 0, -999, -999]);
    expect(ours[2]!.xen_log!.slice(-7).map((l) => l.slice(0, 40))).toEqual([
      '(XEN) ',
      '(XEN) **********************************',
      '(XEN) Panic on CPU 0:',
      '(XEN) Xen BUG at common/page_alloc.c',
      '(XEN) **********************************',
      '(XEN) ',
      "(XEN) Manual reset required ('noreboot' ",
    ]);
    expect(ours[3]!.xen_log).toEqual([]);
  });
});
