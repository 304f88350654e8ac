/** Pages of PV guests for others, and for other guests. @xen common/memory.c memory_exchange, common/grant_table.c */
import { describe, expect, test } from 'vitest';
import { E } from '../../../src/base/errno.js';
import { type Domain, DYING } from '../../../src/hypervisor/domain.js';
import { allocXenFrame } from '../../../src/hypervisor/domain_ops.js';
import { memoryOp } from '../../../src/hypervisor/memory.js';
import { P2m } from '../../../src/hypervisor/mm/p2m.js';
import type { MemoryOp } from '../../../src/hypervisor/public/memory.js';
import { runAlone } from '../../../src/sim/co.js';
import { OWNER_FREE } from '../../../src/sim/frames.js';
import { makeXen, type TestXen } from '../../helpers/xen.js';

type Exchange = Extract<MemoryOp, { cmd: 'exchange' }>;

/** d1 and d2: PV guests whose devices' tables are kept in step. */
function guests(): { xen: TestXen; d: Domain; e: Domain } {
  const xen = makeXen();
  const [d, e] = [1, 2].map((domid) => {
    const one = xen.guest(domid);
    one.maxPages = 64;
    one.iommu.needSync = true;
    return one;
  }) as [Domain, Domain];
  return { xen, d, e };
}
/** What the driver was asked to do, flushes apart. */
const calls = (xen: TestXen): string[] => xen.vendor.pages.flatMap((p) => (p.op === 'flush' ? [] : [p.op]));
const memory = (xen: TestXen, op: MemoryOp): number => runAlone(memoryOp(xen, op));
const populate = (xen: TestXen, gfns: readonly number[], order = 0): number =>
  memory(xen, { cmd: 'populate_physmap', domid: 1, gfns, order });
const exchange = (xen: TestXen, more: Partial<Exchange>): { rc: number; mfns: number[] | undefined } => {
  const op: Exchange = { cmd: 'exchange', domid: 1, gfns: [], order: 0, outGfns: [], outOrder: 0, ...more };
  return { rc: memory(xen, op), mfns: op.mfns };
};

describe('XENMEM_exchange', () => {
  test('a page leaves the table of devices, then goes; a new one has its number', () => {
    const { xen, d } = guests();
    populate(xen, [0x10, 0x11]);
    const old = d.pvGfns.get(0x10)!;
    xen.vendor.pages.length = 0;
    const { rc, mfns } = exchange(xen, { gfns: [0x10], outGfns: [0x10] });
    expect([rc, mfns]).toEqual([0, [d.pvGfns.get(0x10)]]);
    expect(calls(xen)).toEqual(['unmap', 'map']);
    expect([d.totPages, d.extents.length, xen.frames.owner(mfns![0]!)]).toEqual([2, 2, 1]);
    expect(mfns![0] === old ? 1 : xen.frames.owner(old)).toBe(mfns![0] === old ? 1 : OWNER_FREE);
  });

  test('four small pages for one of four, and back', () => {
    const { xen, d } = guests();
    populate(xen, [1, 2, 3, 4]);
    const gfns = [1, 2, 3, 4];
    const { rc, mfns } = exchange(xen, { gfns, outGfns: [8], outOrder: 2 });
    expect([rc, mfns?.length, d.totPages, d.extents]).toEqual([0, 1, 4, [{ mfn: mfns![0], order: 2 }]]);
    expect([...d.pvGfns.keys()]).toEqual([8]);
    for (let k = 1; k < 4; k++) d.pvGfns.set(8 + k, mfns![0]! + k);
    expect(exchange(xen, { gfns: [8], order: 2, outGfns: gfns }).rc).toBe(0);
    expect([...d.pvGfns.keys()].sort()).toEqual(gfns);
    expect(d.extents.map((x) => x.order)).toEqual([0, 0, 0, 0]);
  });

  test('who may not: sizes that differ, orders too large, pages that are not there, guests with a p2m', () => {
    const { xen, d } = guests();
    populate(xen, [1]);
    expect(exchange(xen, { gfns: [1], outGfns: [1, 2] }).rc).toBe(E.INVAL);
    expect(exchange(xen, { gfns: [1], order: 19, outGfns: [1], outOrder: 19 }).rc).toBe(E.PERM);
    expect(exchange(xen, { gfns: [7], outGfns: [7] }).rc).toBe(E.INVAL);
    expect(exchange(xen, { domid: 9 }).rc).toBe(E.SRCH);
    const before = d.pvGfns.get(1);
    d.p2m = new P2m(xen.ram, allocXenFrame(xen), () => allocXenFrame(xen));
    d.p2m.lookup = () => ({ mfn: before!, order: 0, type: 0, writable: true });
    expect(exchange(xen, { gfns: [1], outGfns: [1] }).rc).toBe(E.OPNOTSUPP);
    expect(d.pvGfns.get(1)).toBe(before);
  });

  test('without memory for the new ones the old ones stay the guest’s, out of reach of devices', () => {
    const { xen, d } = guests();
    populate(xen, [1, 2]);
    xen.vendor.pages.length = 0;
    xen.faults.failNth(1, 'alloc');
    expect(exchange(xen, { gfns: [1], outGfns: [1] }).rc).toBe(E.NOMEM);
    expect([d.extents.length, d.totPages, d.pvGfns.size]).toEqual([2, 2, 2]);
    expect(calls(xen)).toEqual(['unmap']);
  });
});

describe('GNTTABOP_transfer', () => {
  const transfer = (xen: TestXen, gfn: number, to = 2): number =>
    memory(xen, { cmd: 'gnttab_transfer', domid: 1, gfn, to, toGfn: 0x20 });

  test('the page is the other guest’s, in its devices’ reach and in no other', () => {
    const { xen, d, e } = guests();
    populate(xen, [1, 2]);
    const mfn = d.pvGfns.get(1)!;
    xen.vendor.pages.length = 0;
    expect(transfer(xen, 1)).toBe(0);
    expect([d.totPages, e.totPages, xen.frames.owner(mfn)]).toEqual([1, 1, 2]);
    expect([d.pvGfns.has(1), e.pvGfns.get(0x20), e.extents]).toEqual([false, mfn, [{ mfn, order: 0 }]]);
    expect(calls(xen)).toEqual(['unmap', 'map']);
  });

  test.each([
    ['a domain that is not there', (_e: Domain) => 9],
    [
      'a dying one',
      (e: Domain) => {
        e.dying = DYING.dying;
        return 2;
      },
    ],
    [
      'one that has all it may have',
      (e: Domain) => {
        e.maxPages = 0;
        return 2;
      },
    ],
  ])('%s gets nothing, and the page is free', (_what, to) => {
    const { xen, d, e } = guests();
    populate(xen, [1]);
    const mfn = d.pvGfns.get(1)!;
    expect(transfer(xen, 1, to(e))).toBe(E.INVAL);
    expect([xen.frames.owner(mfn), d.totPages, e.totPages]).toEqual([OWNER_FREE, 0, 0]);
    expect(transfer(xen, 1)).toBe(E.INVAL);
  });
});
