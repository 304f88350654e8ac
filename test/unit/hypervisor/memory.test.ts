import { describe, expect, test } from 'vitest';
import type { Domain } from '../../../src/hypervisor/domain.js';
import { allocXenFrame } from '../../../src/hypervisor/domain_ops.js';
import { memoryOp } from '../../../src/hypervisor/memory.js';
import { P2M, P2m } from '../../../src/hypervisor/mm/p2m.js';
import {
  guestPhysmapAddPage,
  guestPhysmapRemovePage,
  mapMmioRegions,
  p2mSetEntry,
} from '../../../src/hypervisor/mm/physmap.js';
import type { MemoryOp } from '../../../src/hypervisor/public/memory.js';
import { FLUSHF } from '../../../src/iommu/driver/types.js';
import { runAlone } from '../../../src/sim/co.js';
import { OWNER_FREE } from '../../../src/sim/frames.js';
import { makeXen, type TestXen } from '../../helpers/xen.js';

/** d1: an HVM guest, its device table kept in step (`sync`) or being its p2m (`shared`). */
function guest(how: 'sync' | 'shared' | 'none' = 'sync'): { xen: TestXen; d: Domain } {
  const xen = makeXen();
  const d = xen.guest(1, { hvm: true, iommu: how !== 'none' });
  d.p2m = new P2m(xen.ram, allocXenFrame(xen), () => allocXenFrame(xen));
  d.maxPages = 0x4000;
  d.iommu.needSync = how === 'sync';
  d.iommu.hapPtShare = how === 'shared';
  xen.vendor.pages.length = 0;
  return { xen, d };
}

const memory = (xen: TestXen, op: MemoryOp): number => runAlone(memoryOp(xen, op));
const populate = (xen: TestXen, gfns: readonly number[], order: number): number =>
  memory(xen, { cmd: 'populate_physmap', domid: 1, gfns, order });
const set = (xen: TestXen, d: Domain, gfn: number, mfn: number, order: number): number =>
  runAlone(p2mSetEntry(xen, d, gfn, mfn, order, mfn < 0 ? P2M.invalid : P2M.ramRw));

describe('the physical map', () => {
  test('pages are as large as both addresses allow', () => {
    const { xen, d } = guest('none');
    const orderAt = (gfn: number): number => d.p2m!.lookup(gfn).order;
    expect(set(xen, d, 0x200, 0x2400, 10)).toBe(0);
    expect([0x200, 0x3ff, 0x400, 0x5ff].map(orderAt)).toEqual([9, 9, 9, 9]);
    expect(set(xen, d, 0x800, 0x3001, 9)).toBe(0);
    expect([orderAt(0x800), d.p2m!.lookup(0x9ff).mfn]).toEqual([0, 0x3200]);
    expect(set(xen, d, 0xc00, 0x4000, 3)).toBe(0);
    expect([d.p2m!.lookup(0xc07).mfn, d.p2m!.lookup(0xc08).mfn]).toEqual([0x4007, -1]);
    expect(set(xen, d, 2 ** 18, 2 ** 18, 18)).toBe(0);
    expect(orderAt(2 ** 18 + 5)).toBe(18);
    expect(d.maxGfn()).toBe(2 ** 19 - 1);
  });

  test('a superpage is split where a part of it changes, and what stays keeps its frames', () => {
    const { xen, d } = guest('none');
    set(xen, d, 0x200, 0x2400, 9);
    expect(set(xen, d, 0x300, -1, 0)).toBe(0);
    const at = [0x200, 0x2ff, 0x300, 0x301, 0x3ff].map((g) => d.p2m!.lookup(g).mfn);
    expect(at).toEqual([0x2400, 0x24ff, -1, 0x2501, 0x25ff]);
    set(xen, d, 0, 0, 18);
    expect(set(xen, d, 0x345, 0x7777, 0)).toBe(0);
    expect([0x344, 0x345, 0x3_ffff].map((g) => d.p2m!.lookup(g).mfn)).toEqual([0x344, 0x7777, 0x3_ffff]);
  });

  test('tables that a superpage replaces are freed', () => {
    const { xen, d } = guest('none');
    set(xen, d, 0x200, 0x2400, 9);
    const free = xen.heap.freeFrames;
    set(xen, d, 0x201, 0x5000, 0);
    expect(xen.heap.freeFrames).toBe(free - 1);
    set(xen, d, 0x200, 0x2400, 9);
    expect([xen.heap.freeFrames, d.p2m!.lookup(0x201).mfn]).toEqual([free, 0x2401]);
    expect(new Set(d.p2m!.tables).size).toBe(d.p2m!.tables.length);
  });

  test('a split without memory fails and changes nothing', () => {
    const { xen, d } = guest('none');
    set(xen, d, 0x200, 0x2400, 9);
    xen.faults.failNth(1, 'alloc');
    expect(set(xen, d, 0x300, -1, 0)).toBe(-12);
    expect(d.p2m!.lookup(0x300)).toMatchObject({ mfn: 0x2500, order: 9 });
  });

  test('a hole is as large as the entry that is not there', () => {
    const { xen, d } = guest('none');
    expect(d.p2m!.lookup(0x200)).toMatchObject({ mfn: -1, order: 27 });
    set(xen, d, 0x200, 0x2400, 0);
    expect([d.p2m!.lookup(0x201).order, d.p2m!.lookup(0x400).order]).toEqual([0, 9]);
  });
});

describe('devices see what the guest sees', () => {
  const ops = (xen: TestXen): string[] => xen.vendor.pages.map((p) => p.op);

  test('a separate table is mapped and unmapped with it', () => {
    const { xen, d } = guest('sync');
    set(xen, d, 0x200, 0x2400, 9);
    expect(ops(xen)).toContain('map');
    xen.vendor.pages.length = 0;
    set(xen, d, 0x200, 0x2400, 9);
    expect(ops(xen)).toEqual([]);
    set(xen, d, 0x200, -1, 9);
    expect(ops(xen)).toContain('unmap');
  });

  test('a shared table is flushed: added, and modified where something was there', () => {
    const { xen, d } = guest('shared');
    set(xen, d, 0x200, 0x2400, 0);
    set(xen, d, 0x200, 0x2500, 0);
    // The first page of the range is a hole, others are not: a flush all the same.
    set(xen, d, 0x201, 0x2600, 0);
    set(xen, d, 0x200, -1, 0);
    set(xen, d, 0x200, -1, 9);
    expect(xen.vendor.pages.map((p) => [p.dfn, p.order, p.flags])).toEqual([
      [0x200, 1, FLUSHF.added],
      [0x200, 1, FLUSHF.added | FLUSHF.modified],
      [0x201, 1, FLUSHF.added],
      [0x200, 1, FLUSHF.modified],
      [0x200, 512, FLUSHF.modified],
    ]);
  });

  test('RAM does not replace device memory: the guest dies', () => {
    const { xen, d } = guest('none');
    runAlone(mapMmioRegions(xen, d, 0x205, 1, 0xf_e000));
    xen.news();
    expect(runAlone(guestPhysmapAddPage(xen, d, 0x200, 0x2400, 9))).toBe(-1);
    expect(xen.news().slice(0, 2)).toEqual([
      'd1: GFN 0x205 (0xfe000,5,7) -> (0x2405,0,7) not permitted',
      'domain_crash called from arch/x86/mm/p2m.c:656',
    ]);
    expect([d.crashed, d.p2m!.lookup(0x200).mfn]).toEqual([true, -1]);
  });

  test('what is mapped elsewhere is not removed', () => {
    const { xen, d } = guest('none');
    set(xen, d, 0x200, 0x2400, 9);
    set(xen, d, 0x210, 0x7000, 0);
    expect(runAlone(guestPhysmapRemovePage(xen, d, 0x200, 0x2400, 9))).toBe(-84);
    expect(d.p2m!.lookup(0x200).mfn).toBe(0x2400);
    set(xen, d, 0x210, -1, 0);
    expect(runAlone(guestPhysmapRemovePage(xen, d, 0x200, 0x2400, 9))).toBe(0);
    expect(d.p2m!.lookup(0x3ff).mfn).toBe(-1);
  });
});

describe('populating', () => {
  test('extents of any order become the guest’s, until its limit', () => {
    const { xen, d } = guest();
    d.maxPages = 512 + 8 + 1;
    expect(populate(xen, [0x200, 0x400], 9)).toBe(1);
    expect(populate(xen, [0x800], 3)).toBe(1);
    expect(populate(xen, [1, 2], 0)).toBe(1);
    expect(d.totPages).toBe(521);
    const { mfn } = d.p2m!.lookup(0x807);
    expect([xen.frames.owner(mfn), d.p2m!.lookup(0x808).mfn]).toEqual([1, -1]);
    expect(memory(xen, { cmd: 'maximum_gpfn', domid: 1 })).toBe(0x807);
    expect(populate(xen, [0], 19)).toBe(-22);
  });

  test('a PV guest is told the machine frames', () => {
    const xen = makeXen();
    const d = xen.guest(1);
    d.maxPages = 16;
    const op: MemoryOp = { cmd: 'populate_physmap', domid: 1, gfns: [0, 1], order: 1 };
    expect(memory(xen, op)).toBe(2);
    expect(op.mfns!.map((m) => xen.frames.owner(m))).toEqual([1, 1]);
    expect(memory(xen, { cmd: 'maximum_gpfn', domid: 1 })).toBe(Math.max(...op.mfns!) + 1);
  });

  test('a dying guest gets nothing', () => {
    const { xen, d } = guest();
    d.dying = 1;
    expect(populate(xen, [1], 0)).toBe(0);
  });
});

describe('taking memory back', () => {
  const decrease = (xen: TestXen, gfns: readonly number[], order: number): number =>
    memory(xen, { cmd: 'decrease_reservation', domid: 1, gfns, order });

  test('a page of a larger extent is freed, the rest stays', () => {
    const { xen, d } = guest();
    populate(xen, [0x200], 9);
    const { mfn } = d.p2m!.lookup(0x2ff);
    expect(decrease(xen, [0x2ff], 0)).toBe(1);
    expect([xen.frames.owner(mfn), xen.frames.owner(mfn - 1), xen.frames.owner(mfn + 1)]).toEqual([
      OWNER_FREE,
      1,
      1,
    ]);
    expect([d.totPages, d.p2m!.lookup(0x2ff).mfn]).toEqual([511, -1]);
    expect(d.extents.reduce((n, x) => n + 2 ** x.order, 0)).toBe(511);
  });

  test('holes and device memory stay as they are', () => {
    const { xen, d } = guest();
    populate(xen, [1, 2], 0);
    runAlone(mapMmioRegions(xen, d, 3, 1, 0xf_e000));
    expect(decrease(xen, [1, 9, 2], 0)).toBe(1);
    expect(decrease(xen, [3], 0)).toBe(0);
    expect(d.p2m!.lookup(3).mfn).toBe(0xf_e000);
    expect(memory(xen, { cmd: 'remove_from_physmap', domid: 1, gfn: 9 })).toBe(-22);
    expect(memory(xen, { cmd: 'remove_from_physmap', domid: 1, gfn: 2 })).toBe(0);
    expect(d.totPages).toBe(1);
  });
});

describe('reserved device memory', () => {
  const ask = (xen: TestXen, flags: number, bdf: number, maxEntries: number) => {
    const op: Extract<MemoryOp, { cmd: 'reserved_device_memory_map' }> = {
      cmd: 'reserved_device_memory_map',
      flags,
      sbdf: bdf,
      maxEntries,
    };
    const rc = memory(xen, op);
    return { rc, needed: op.needed, entries: op.entries };
  };
  const RANGES = [
    [0x80, 2, [0x100, 0x101]],
    [0x90, 1, [0x200]],
  ] as const;
  const withRanges = (): TestXen => {
    const xen = makeXen();
    xen.vendor.getReservedDeviceMemory = (each) => {
      for (const [start, frames, bdfs] of RANGES) {
        // Whom it concerns is told once.
        for (const bdf of bdfs) if (each(start, frames, bdf) !== 0) break;
      }
      return 0;
    };
    return xen;
  };
  const FIRST = { startPfn: 0x80, nrPages: 2 };
  const SECOND = { startPfn: 0x90, nrPages: 1 };

  test('FT-B18 a list too short gets -105 and the count that is needed, then the list', () => {
    const xen = withRanges();
    expect(ask(xen, 1, 0, 0)).toMatchObject({ rc: -105, needed: 2 });
    expect(ask(xen, 1, 0, 1).rc).toBe(-105);
    expect(ask(xen, 1, 0, 2)).toEqual({ rc: 0, needed: 2, entries: [FIRST, SECOND] });
  });

  // common/memory.c get_reserved_device_memory: a count of 0 is the AMD driver's question whether it is wanted.
  test('a range of no frames is a question, not a range', () => {
    const xen = makeXen();
    const answers: number[] = [];
    xen.vendor.getReservedDeviceMemory = (each) => {
      answers.push(each(0, 0, 0x100), each(0, 0, 0x200), each(0x90, 1, 0x200));
      return 0;
    };
    expect(ask(xen, 0, 0x200, 4)).toEqual({ rc: 0, needed: 1, entries: [SECOND] });
    expect(answers).toEqual([0, 1, 1]);
  });

  test('one device has its own ranges only', () => {
    const xen = withRanges();
    expect(ask(xen, 0, 0x200, 4)).toEqual({ rc: 0, needed: 1, entries: [SECOND] });
    expect(ask(xen, 0, 0x300, 4)).toEqual({ rc: 0, needed: 0, entries: [] });
    expect(ask(xen, 2, 0x200, 4).rc).toBe(-22);
  });
});
