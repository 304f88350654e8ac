/**
 * The recorded VT-d board under Xen 4.17.7: its boot, and its devices going to guests and back. Compared are Xen's
 * own lines, the order of register writes and invalidations, and every context entry. What the guests themselves do
 * (page tables, interrupts) is left out; addresses of tables are compared up to renaming.
 */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { parseSbdf, type Sbdf } from '../../src/base/sbdf.js';
import type { VtdDriver } from '../../src/iommu/driver/vtd/iommu.js';
import { Machine } from '../../src/machine.js';
import { runAlone } from '../../src/sim/co.js';
import type { StampedEvent } from '../../src/sim/events.js';
import { q35 } from '../helpers/q35.js';

const GOLDEN = path.resolve('../shared/golden');
const there = fs.existsSync(GOLDEN);

interface Entry {
  readonly lo: string;
  readonly hi: string;
}
interface Record {
  readonly cmd: string;
  readonly xen_cmdline?: string;
  readonly xen_log?: readonly string[];
  readonly vtd_trace?: readonly string[];
  readonly context_entries?: { readonly [bdf: string]: Entry };
  readonly context_entries_changed?: {
    readonly [bdf: string]: { readonly before: Entry | null; readonly after: Entry | null };
  };
}
const recording = (name: string): Record[] =>
  JSON.parse(fs.readFileSync(path.join(GOLDEN, name, 'ops.json'), 'utf8')) as Record[];

const vtdLines = (lines: readonly string[]): string[] =>
  lines
    .flatMap((l) => l.split('\n'))
    .map((l) => l.replace(/^\(XEN\) /, ''))
    .filter((l) => /^\[VT-D\]|^Intel VT-d|assign \(/.test(l));

/** Invalidations of context entries, each with the one of its pages, as `sid-and-did did`. */
function flushPairs(words: readonly (readonly [number, number])[]): string[] {
  const pairs: string[] = [];
  let context = '';
  for (const [hi, lo] of words) {
    const type = lo & 0xf;
    const gran = (lo >>> 4) & 3;
    if (type === 1) context = `${hi.toString(16)} ${lo.toString(16)}`;
    else if (type === 2 && gran !== 3 && context !== '') {
      pairs.push(`${context}, ${lo.toString(16)}`);
      context = '';
    }
  }
  return pairs;
}
function recordedPairs(trace: readonly string[]): string[] {
  const words = trace.flatMap((l): [number, number][] => {
    const m = /^vtd_inv_desc invalidate desc type \S+ high 0x[0-9a-f]+ low 0x([0-9a-f]+)/.exec(l);
    if (m === null) return [];
    const low = m[1]!.padStart(16, '0');
    return [[Number.parseInt(low.slice(0, 8), 16), Number.parseInt(low.slice(8), 16)]];
  });
  return flushPairs(words);
}

class Board {
  readonly log: StampedEvent[] = [];
  readonly m: Machine;
  readonly roots = new Map<string, number>();

  constructor(cmdline: string, cachingMode: boolean) {
    const host = q35('vtd');
    const unit = { ...host.vtdUnits![0]!, cap: [0x222f_0686, 0x00d2_008c] as const };
    this.m = Machine.boot(cachingMode ? { ...host, vtdUnits: [unit] } : host, {
      release: '4.17',
      cmdline,
      sinks: [(e) => this.log.push(e)],
    });
  }
  lines(): string[] {
    return vtdLines(this.log.flatMap((e) => (e.kind === 'console' ? [e.text] : [])));
  }
  pairs(): string[] {
    const words = this.log.flatMap((e): [number, number][] =>
      e.kind === 'descriptor' ? [[e.words[1]! >>> 0, e.words[0]! >>> 0]] : [],
    );
    return flushPairs(words);
  }
  domctl(cmd: 'assign_device' | 'deassign_device', domid: number, machineSbdf: Sbdf, flags: number): number {
    return runAlone(this.m.hypercalls.domctl({ cmd, domid, dev: 0, machineSbdf, flags }));
  }
  ensureDomain(domid: number): void {
    if (this.m.xen.domains.has(domid)) return;
    const flags = { hvm: false, hap: false, iommu: true };
    const op = { cmd: 'createdomain', domid, flags, iommuNoSharept: false, maxVcpus: 1, handle: '' } as const;
    expect(runAlone(this.m.hypercalls.domctl(op))).toBe(0);
  }

  /** `lo hi` of an entry; the table's address becomes the one recorded for it. */
  entry(bdf: string, theirs: Entry | null): string {
    const dev = parseSbdf(bdf)!;
    const { ram } = this.m.xen;
    const root = (this.m.xen.driver as VtdDriver).vtd.drhds[0]!.iommu!.rootMfn;
    const table = frameAt(
      ram.read32(root * 4096 + (dev >>> 8) * 16),
      ram.read32(root * 4096 + (dev >>> 8) * 16 + 4),
    );
    if (table === 0) return 'absent';
    const w = [0, 4, 8, 12].map((i) => ram.read32(table * 4096 + (dev & 0xff) * 16 + i));
    if ((w[0]! & 1) === 0) return 'absent';
    const ours = frameAt(w[0]!, w[1]!);
    const name = theirs === null ? '?' : theirs.lo.slice(0, -3);
    // Domains that come and go may get the frames of former ones.
    const key = `${name} ${w[2]}`;
    if (!this.roots.has(key)) this.roots.set(key, ours);
    const shown = this.roots.get(key) === ours ? name : `another table than ${name}`;
    return `${shown}${(w[0]! & 0xfff).toString(16).padStart(3, '0')} ${(w[2]! >>> 0).toString(16)}`;
  }
}
const frameAt = (lo: number, hi: number): number => (hi & 0xf_ffff) * 2 ** 20 + (lo >>> 12);
const entryText = (e: Entry | null): string =>
  e === null ? 'absent' : `${e.lo} ${Number.parseInt(e.hi, 16).toString(16)}`;

/** What a recorded command asked of Xen, told by the line each request leaves. */
function play(b: Board, r: Record): void {
  const done = new Set<string>();
  for (const line of vtdLines(r.xen_log ?? [])) {
    const m =
      /^\[VT-D\]d(\d+|\[IO\]):[^:]+:(?: skip)? ?(?:map |unmap )?([0-9a-f:.]+)(?: map| unmap)?$/.exec(line) ??
      /^d(\d+): assign \(([0-9a-f:.]+)\) failed/.exec(line);
    if (m === null) continue;
    const dev = parseSbdf(m[2]!)!;
    // Phantom functions come with their device.
    if (!b.m.xen.pdevs.has(dev) || done.has(m[2]!)) continue;
    done.add(m[2]!);
    const relaxed = /risky/.test((r.xen_log ?? []).join(' ')) ? 1 : 0;
    const d = Number(m[1] === '[IO]' ? 0 : m[1]);
    if (/assignable-add/.test(r.cmd)) b.domctl('assign_device', 0x7ff1, dev, 1);
    else if (/assignable-remove/.test(r.cmd)) b.domctl('deassign_device', 0x7ff1, dev, 0);
    else if (/create|attach/.test(r.cmd)) {
      b.ensureDomain(d);
      b.domctl('assign_device', d, dev, relaxed);
    } else b.domctl('deassign_device', b.m.xen.pdevs.get(dev)!.domain!.domid, dev, 0);
  }
}

const NAMES = [
  '01-vtd-assignable',
  '02b-vtd-pv-clean',
  '03-vtd-topology',
  '10-phantom',
  '11-quarantine-scratch',
  '18-rmrr',
  '21-caching-mode',
  '32-rmrr-shared',
];

describe.skipIf(!there)('recordings of VT-d boards', () => {
  test.each(NAMES)('%s: the boot', (name) => {
    const boot = recording(name)[0]!;
    const b = new Board(boot.xen_cmdline!, name.startsWith('21'));
    expect(b.lines()).toEqual(vtdLines(boot.xen_log!));
    expect(b.pairs()).toEqual(recordedPairs(boot.vtd_trace!));
    const mask = (w: string): string => w.replace(/^(20|90|b8)=[0-9a-f]+([0-9a-f]{3})$/, '$1=FRAME$2');
    const writes = b.log.flatMap((e) =>
      e.kind === 'reg' && e.write && e.offset !== 0x88
        ? [`${e.offset.toString(16)}=${e.lo.toString(16)}`]
        : [],
    );
    const recorded = boot.vtd_trace!.flatMap((l) => {
      const m = /^vtd_reg_write addr 0x([0-9a-f]+) size \S+ value 0x([0-9a-f]+)/.exec(l);
      return m === null ? [] : [`${m[1]}=${m[2]}`];
    });
    expect(writes.map(mask)).toEqual(recorded.map(mask));
    for (const [bdf, e] of Object.entries(boot.context_entries!)) expect(b.entry(bdf, e)).toBe(entryText(e));
  });

  test.each(NAMES)('%s: devices move as recorded', (name) => {
    const [boot, ...rest] = recording(name);
    const b = new Board(boot!.xen_cmdline!, name.startsWith('21'));
    for (const [bdf, e] of Object.entries(boot!.context_entries!)) b.entry(bdf, e);
    let moved = 0;
    for (const [i, r] of rest.entries()) {
      // Virtual functions appear in the middle of this one: from there on another machine is needed.
      if (/sriov_numvfs/.test(r.cmd)) break;
      const theirs = vtdLines(r.xen_log ?? []);
      if (theirs.length === 0) continue;
      b.log.length = 0;
      play(b, r);
      const what = `${i + 1} ${r.cmd}`;
      expect([what, ...b.lines()]).toEqual([what, ...theirs]);
      expect([what, ...b.pairs()]).toEqual([what, ...recordedPairs(r.vtd_trace ?? [])]);
      for (const [bdf, { after }] of Object.entries(r.context_entries_changed ?? {})) {
        expect([what, bdf, b.entry(bdf, after)]).toEqual([what, bdf, entryText(after)]);
      }
      moved++;
    }
    expect(moved).toBeGreaterThan(4);
  });
});
