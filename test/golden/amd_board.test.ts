/** The recorded AMD board under Xen 4.17.7: its boot, and its devices going to a guest and back. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { amdBehaviour4_18, amdFlaws } from '../../src/iommu/driver/amd/seams.js';
import type { PdevType } from '../../src/iommu/driver/types.js';
import { runAlone } from '../../src/sim/co.js';
import { AmdHost } from '../helpers/amd_services.js';

const GOLDEN = path.resolve('../shared/golden');
const there = fs.existsSync(GOLDEN);

interface Record {
  readonly cmd: string;
  readonly xen_log?: readonly string[];
  readonly vtd_trace?: readonly string[];
  readonly amd_devtab?: { readonly dtes: { readonly [bdf: string]: readonly string[] } };
  readonly context_entries_changed?: {
    readonly [bdf: string]: { readonly before: readonly string[]; readonly after: readonly string[] };
  };
}

const recording = (name: string): Record[] =>
  JSON.parse(fs.readFileSync(path.join(GOLDEN, name, 'ops.json'), 'utf8')) as Record[];
const amdLines = (r: Record): string[] =>
  (r.xen_log ?? [])
    .join('\n')
    .split('\n')
    .map((l) => l.replace(/^\(XEN\) /, ''))
    .filter((l) => /^AMD-Vi|^- /.test(l));
const ridOf = (bdf: string): number => {
  const [bus, dev, fn] = bdf.split(/[:.]/).map((h) => Number.parseInt(h, 16));
  return (bus! << 8) | (dev! << 3) | fn!;
};

/** Addresses of tables differ from boot to boot; whether there is one does not. */
const maskLine = (l: string): string => l.replace(/root table = 0x[0-9a-f]+/, 'root table = ADDR');
const maskDte = (dte: readonly string[]): string[] => {
  const [q0, q1, q2, q3] = dte.map((q) => BigInt(q));
  const frame = 0xf_ffff_ffff_f000n;
  const root = (q: bigint, mask: bigint): bigint => (q & ~mask) | ((q & mask) === 0n ? 0n : 0x1000n);
  const hex = (q: bigint): string => `0x${q.toString(16).padStart(16, '0')}`;
  return [root(q0!, frame), q1!, root(q2!, 0xf_ffff_ffff_ffc0n), q3!].map(hex);
};

/** The recorded board: devices in bus order with type and messages as the recording shows them. */
function board(records: readonly Record[], stride = 0): AmdHost {
  const boot = records[0]!;
  const dtes = boot.amd_devtab!.dtes;
  const host = new AmdHost({
    table: new Uint8Array(fs.readFileSync(path.join(GOLDEN, '40-amdvi/ivrs.bin'))),
    opts: { debug: true, verbose: true },
    seams: { ...amdBehaviour4_18, ...amdFlaws, amdDisableSkipsQuarantinedSource: () => true },
    e820: [
      { start: 0, end: 0x9fc00, type: 'usable' },
      { start: 0x100000, end: 0x7ffd8000, type: 'usable' },
      { start: 0x1_0000_0000, end: 0x1_4000_0000, type: 'usable' },
    ],
    htTunnel: true,
    msiPos: 0x60,
  });
  expect(host.probe()).toBe(0);
  const setups = amdLines(boot).filter((l) => l.includes('Setup I/O page table'));
  const topology = JSON.parse(fs.readFileSync(path.join(GOLDEN, 'topology.json'), 'utf8')) as {
    devices: readonly { readonly bdf: string }[];
  };
  const bdfs = topology.devices.map((d) => d.bdf.replace(/^0000:/, ''));
  const rids = bdfs.map(ridOf).sort((a, b) => a - b);
  let line = 0;
  for (const rid of rids) {
    const name = Object.keys(dtes).find((k) => ridOf(k) === rid);
    const q2 = BigInt(name === undefined ? 0 : dtes[name]![2]!);
    const pdev = host.addPdev({
      bdf: rid,
      stride: rid === 0x200 ? stride : 0,
      msi: (q2 & 0xf_ffff_ffff_ffc0n) === 0n || rid >>> 8 === 9 || rid === 0xf0 ? 0 : 1,
    });
    pdev.type = Number.parseInt(/type = (0x)?([0-9a-f]+)/.exec(setups[line]!)![2]!, 16) as PdevType;
    line += rid === 0x200 && stride > 0 ? 8 : 1;
  }
  expect(line).toBe(setups.length);
  expect(runAlone(host.driver.setup())).toBe(0);
  for (const d of [host.domIo, host.dom0]) runAlone(host.driver.ops.init(d));
  runAlone(host.driver.ops.hwdomInit(host.dom0));
  return host;
}

describe.skipIf(!there)('the recorded AMD board', () => {
  test('prints the same lines while it boots', () => {
    const records = recording('40-amdvi');
    const host = board(records);
    const ours = host.log.filter((l) => /^AMD-Vi|^- /.test(l)).map(maskLine);
    const theirs = amdLines(records[0]!)
      .map(maskLine)
      .filter((l) => !/^- Dom0 mode/.test(l));
    expect(ours).toEqual(theirs);
    expect(host.dom0.iommu.pagingMode).toBe(3);
  });

  test.each([
    ['40-amdvi', 0],
    ['43-amdvi-phantom', 1],
  ])('%s: every device table entry is as recorded', (name, stride) => {
    const records = recording(name);
    const host = board(records, stride);
    const theirs = records[0]!.amd_devtab!.dtes;
    const different: string[] = [];
    for (const [bdf, dte] of Object.entries(theirs)) {
      const ours = maskDte(host.dte(ridOf(bdf))).join();
      if (ours !== maskDte(dte).join()) different.push(`${bdf}: ${ours} recorded ${maskDte(dte).join()}`);
    }
    expect(different).toEqual([]);
    expect(Object.keys(theirs).length).toBe(4096);
  });

  test('control ends as recorded, and every step of it', () => {
    const host = board(recording('40-amdvi'));
    expect(host.unit.read32(0x18)).toBe(0x1f40f);
    expect(host.unit.read32(0x2020)).toBe(0x18);
    // Base registers: 32 pages of device table, rings of 256 and 512 entries.
    expect([
      host.unit.read32(0) & 0xfff,
      host.unit.read32(0xc) >>> 24,
      host.unit.read32(0x14) >>> 24,
    ]).toEqual([0x1f, 8, 9]);
  });

  /** Commands of the recording that concern devices, without the flushes of a guest's own page tables. */
  const deviceCommands = (r: Record): string[] =>
    (r.vtd_trace ?? []).flatMap((l) => {
      const dev = /devid: (\S+) invalidated$/.exec(l);
      if (dev !== null) return [`devtab_inval ${ridOf(dev[1]!).toString(16)}`];
      const pages = /pages for domain 0x(\w+) invalidated$/.exec(l);
      return pages === null ? [] : [`pages_inval ${pages[1]}`];
    });

  test.each([
    ['40-amdvi', 0x200, 0, [3, 4, 6, 8, 9, 11]],
    ['40-amdvi', 0x908, 0, [12, 13]],
    ['43-amdvi-phantom', 0x200, 1, [3, 4, 6, 8, 9, 11]],
  ])(
    '%s: %i (stride %i) goes to a guest and back with the recorded lines, entries and commands',
    (name, rid, stride, steps) => {
      const records = recording(name);
      const host = board(records, stride);
      const pdev = host.pdev(rid);
      const guests = new Map([1, 2].map((id) => [id, host.newDomain(id)]));
      let owner = host.dom0;
      for (const step of steps) {
        const r = records[step]!;
        const moves = amdLines(r).filter((l) => l.includes('Re-assign'));
        const to = / to (d\S+)$/.exec(moves[moves.length - 1]!)![1]!;
        const target =
          to === 'd[IO]' ? host.domIo : to === 'd0' ? host.dom0 : guests.get(Number(to.slice(1)))!;
        let lines: string[] = [];
        const commands = host.commands(() => {
          lines = host.lines(() => {
            const guest = owner !== host.dom0 && owner !== host.domIo;
            const leaves = guest || target === host.dom0;
            expect(leaves ? host.deassign(owner, target, pdev) : host.assign(target, pdev)).toBe(0);
          });
        });
        owner = target;
        expect(lines.map(maskLine)).toEqual(amdLines(r).map(maskLine));
        const recorded = deviceCommands(r);
        // A guest's flushes are timing dependent: only those beside a device table entry are the assignment's.
        if (target === host.domIo || target === host.dom0)
          expect(recorded).toEqual(expect.arrayContaining(commands));
        else
          expect(commands).toEqual(
            recorded.filter((c, i) => c.startsWith('dev') || recorded[i - 1]?.startsWith('dev')),
          );
        for (const [bdf, { after }] of Object.entries(r.context_entries_changed ?? {}))
          expect(maskDte(host.dte(ridOf(bdf)))).toEqual(maskDte(after));
      }
    },
  );
});
