/** Every entry of a page table that a driver writes is an event: where it lies, what it was, and what it is. */
import { expect, test } from 'vitest';
import { IOMMUF } from '../../src/iommu/driver/types.js';
import type { EventStream } from '../../src/sim/events.js';
import type { Ram } from '../../src/sim/ram.js';
import { AmdHost } from '../helpers/amd_services.js';
import { VtdHost } from '../helpers/vtd_host.js';

const READ = IOMMUF.readable;
const BOTH = IOMMUF.readable | IOMMUF.writable;

interface Guest {
  readonly ram: Ram;
  readonly events: EventStream;
  readonly root: () => number;
  readonly map: (dfn: number, mfn: number, order: number, flags: number) => number;
  readonly unmap: (dfn: number, order: number) => number;
  /** Low and high word without contiguity marks, which change beside the entry that is written. */
  readonly bare: (lo: number, hi: number) => readonly [number, number];
  readonly isPresent: (lo: number) => boolean;
  /** Does a present entry lead to another table? */
  readonly leadsOn: (lo: number, level: number) => boolean;
}
const LEVELS = 4;

const ofAmd = (): Guest => {
  const host = new AmdHost().boot();
  const d = host.newDomain(7, true);
  return {
    ram: host.ram,
    events: host.events,
    root: () => d.iommu.rootMfn,
    map: (dfn, mfn, order, flags) => host.map(d, dfn, mfn, order, flags),
    unmap: (dfn, order) => host.unmap(d, dfn, order),
    bare: (lo, hi) => [(lo & ~0x1e) >>> 0, hi],
    isPresent: (lo) => (lo & 1) !== 0,
    leadsOn: (lo) => ((lo >>> 9) & 7) !== 0,
  };
};
const ofIntel = (): Guest => {
  const host = new VtdHost().boot();
  const d = host.domain(7);
  return {
    ram: host.s.ram,
    events: host.s.events,
    root: () => d.iommu.pgdMfn,
    map: (dfn, mfn, order, flags) => host.map(d, dfn, mfn, order, flags),
    unmap: (dfn, order) => host.unmap(d, dfn, order),
    bare: (lo, hi) => [lo, (hi & 0xf_ffff) >>> 0],
    isPresent: (lo) => (lo & 3) !== 0,
    leadsOn: (lo, level) => level > 1 && (lo & 0x80) === 0,
  };
};

test.each([
  ['AMD-Vi', ofAmd],
  ['VT-d', ofIntel],
] as const)('%s: each event holds the entry before and after, at its address in memory', (_name, guest) => {
  const g = guest();
  const { bare } = g;
  const word = (addr: number): number => g.ram.read32(addr) >>> 0;
  /** What is known of each entry, by address: without marks. */
  const known = new Map<number, readonly [number, number]>();
  let events = 0;
  g.events.attach((e) => {
    if (e.kind !== 'entry' || e.table !== 'pte') return;
    events += 1;
    const before = known.get(e.id) ?? [0, 0];
    expect(bare(e.before[0]!, e.before[1]!)).toEqual(before);
    expect(e.after).toEqual([word(e.id), word(e.id + 4)]);
    // Page tables belong to no unit.
    expect(e.unit).toBe(-1);
    expect(e.before).not.toEqual(e.after);
    known.set(e.id, bare(e.after[0]!, e.after[1]!));
  });
  /** Present entries below a table, by address; each must be known as it is. */
  const check = (table: number, level: number): number => {
    let found = 0;
    for (let i = 0; i < 512; i++) {
      const addr = table * 4096 + i * 8;
      const [lo, hi] = [word(addr), word(addr + 4)];
      if (!g.isPresent(lo)) continue;
      found += 1;
      expect([addr, known.get(addr)]).toEqual([addr, bare(lo, hi)]);
      if (g.leadsOn(lo, level)) found += check((hi % 0x10_0000) * 0x10_0000 + (lo >>> 12), level - 1);
    }
    return found;
  };
  const all = (): number => check(g.root(), LEVELS);

  expect(g.map(0x1000, 0x12_3456, 0, BOTH)).toBe(0);
  // A page, and the tables on the way to it.
  expect([all(), events]).toEqual([4, 4]);
  g.map(0x1001, 0xf_0123_4567, 0, READ);
  g.map(0x1001, 0xf_0123_4568, 0, BOTH);
  g.map(0x51ff, 0x8_0000, 0, READ);
  expect([all(), events]).toEqual([7, 8]);
  g.map(0x8000, 0x6_0000, 9, BOTH);
  g.map(0x4_0000, 0x8_0000, 18, READ);
  expect([all(), events]).toEqual([9, 10]);
  // The same again changes nothing.
  g.map(0x8000, 0x6_0000, 9, BOTH);
  expect(events).toBe(10);
  g.unmap(0x1001, 0);
  g.unmap(0x8000, 9);
  expect([all(), events]).toEqual([7, 12]);
  g.unmap(0x4_0000, 18);
  expect(all()).toBe(6);
});

test('AMD-Vi: each change of a device table entry is an event, with the entry before and after', () => {
  const host = new AmdHost().boot();
  const table = host.driver.state.units[0]!.devTableMfn * 4096;
  const words = (rid: number): number[] =>
    Array.from({ length: 8 }, (_, i) => host.ram.read32(table + rid * 32 + i * 4) >>> 0);
  const rids = [0x200, 0x210];
  const known = new Map(rids.map((rid) => [rid, words(rid)]));
  let events = 0;
  host.events.attach((e) => {
    if (e.kind !== 'entry' || e.table !== 'dte') return;
    events += 1;
    expect([e.unit, e.before, e.after]).toEqual([0, known.get(e.id), words(e.id)]);
    known.set(e.id, words(e.id));
  });
  const d = host.newDomain(7);
  const late = host.addPdev({ bdf: 0x210 });
  late.domain = host.dom0;
  host.dom0.pdevList.add(late);
  for (const step of [
    () => host.add(late),
    () => host.assign(d, late),
    () => host.deassign(d, host.domIo, late),
    () => host.remove(host.pdev(0x200)),
  ]) {
    events = 0;
    expect(step()).toBe(0);
    expect(events).toBeGreaterThan(0);
    expect(rids.map((rid) => known.get(rid))).toEqual(rids.map(words));
  }
});
