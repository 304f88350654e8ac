/** Pages that change hands: for others of the same domain, or to another domain. @xen common/memory.c, common/grant_table.c */
import { E, type Rc } from '../base/errno.js';
import type { Co } from '../sim/co.js';
import { FRAME_TYPE } from '../sim/frames.js';
import type { Domain } from './domain.js';
import { takeExtent } from './extents.js';
import { guestPhysmapAddPage } from './mm/physmap.js';
import { iommuLegacyUnmap } from './passthrough/iommu.js';
import type { MemoryOp } from './public/memory.js';
import type { Xen } from './xen.js';

/** Largest extent a caller may ask for. @xen max_order() of dom0 */
const ORDER_MAX = 18;
const PAGE_SHIFT = 12;
const SUPERPAGE_ORDER = 9;
const SUPERPAGE = 512;

/**
 * A page leaves its domain, and its device's reach, while nobody else has it. The page stays in `totPages`.
 * @returns 0, -EOPNOTSUPP for guests with a p2m, -EINVAL, or an error of the IOMMU. @xen arch/x86/mm.c steal_page
 */
function* stealPage(xen: Xen, d: Domain, mfn: number): Co<Rc> {
  if (d.p2m !== undefined) return E.OPNOTSUPP;
  if (!takeExtent(d, mfn, 0)) return E.INVAL;
  const rc = d.iommu.needSync ? yield* iommuLegacyUnmap(xen, d, mfn, 1) : 0;
  if (rc !== 0) d.extents.push({ mfn, order: 0 });
  return rc;
}

/**
 * Extents of a PV guest for new ones, chunk by chunk. `op.mfns` has the new ones.
 * @returns 0, or the error of the chunk that failed: its pages are the guest's again. @xen memory_exchange
 */
export function* memoryExchange(xen: Xen, d: Domain, op: Extract<MemoryOp, { cmd: 'exchange' }>): Co<Rc> {
  const { gfns, order, outGfns, outOrder } = op;
  if (Math.max(order, outOrder) > ORDER_MAX) return E.PERM;
  if (gfns.length * 2 ** order !== outGfns.length * 2 ** outOrder) return E.INVAL;
  const inPerChunk = 2 ** Math.max(outOrder - order, 0);
  const outPerChunk = 2 ** Math.max(order - outOrder, 0);
  op.mfns = [];
  for (let i = 0; i * inPerChunk < gfns.length; i++) {
    const from = gfns.slice(i * inPerChunk, (i + 1) * inPerChunk);
    const to = outGfns.slice(i * outPerChunk, (i + 1) * outPerChunk);
    const rc = yield* exchangeChunk(xen, d, op, from, to, op.mfns);
    if (rc !== 0) return rc;
  }
  return 0;
}

function* exchangeChunk(
  xen: Xen,
  d: Domain,
  { order, outOrder, addressBits }: Extract<MemoryOp, { cmd: 'exchange' }>,
  from: readonly number[],
  to: readonly number[],
  mfns: number[],
): Co<Rc> {
  const stolen: { gfn: number; mfn: number }[] = [];
  let rc: Rc = 0;
  for (const first of from) {
    for (let k = 0; k < 2 ** order && rc === 0; k++) {
      const mfn = d.p2m?.lookup(first + k).mfn ?? pvFrame(d, first + k);
      rc = mfn < 0 ? E.INVAL : yield* stealPage(xen, d, mfn);
      if (rc === 0) stolen.push({ gfn: first + k, mfn });
    }
  }
  const fresh: number[] = [];
  for (let j = 0; j < to.length && rc === 0; j++) {
    const mfn =
      addressBits === undefined
        ? xen.heap.alloc(outOrder, d.domid, FRAME_TYPE.writable)
        : xen.heap.allocBelow(outOrder, d.domid, FRAME_TYPE.writable, addressBits - PAGE_SHIFT);
    if (mfn < 0) rc = E.NOMEM;
    else fresh.push(mfn);
  }
  if (rc !== 0) {
    for (const mfn of fresh) xen.heap.release(mfn, outOrder);
    for (const { mfn } of stolen) d.extents.push({ mfn, order: 0 });
    return rc;
  }
  for (const { gfn } of stolen) d.pvGfns.delete(gfn);
  releaseAll(
    xen,
    stolen.map((s) => s.mfn),
  );
  for (const [j, mfn] of fresh.entries()) {
    d.extents.push({ mfn, order: outOrder });
    mfns.push(mfn);
    const added = yield* guestPhysmapAddPage(xen, d, to[j]!, mfn, outOrder);
    if (rc === 0) rc = added;
  }
  return rc;
}

/** A frame of a PV guest, -1 for none; a superpage is known page by page from then on. */
function pvFrame(d: Domain, gfn: number): number {
  const first = gfn - (gfn % SUPERPAGE);
  const mfn = d.pvGfns.get(first);
  if (mfn !== undefined && d.extents.find((x) => x.mfn === mfn)?.order === SUPERPAGE_ORDER)
    for (let i = 0; i < SUPERPAGE; i++) d.pvGfns.set(first + i, mfn + i);
  return d.pvGfns.get(gfn) ?? -1;
}

/** What makes one block goes back as one: the heap joins buddies late. */
function releaseAll(xen: Xen, mfns: readonly number[]): void {
  const order = Math.log2(mfns.length);
  const block = Number.isInteger(order) && mfns[0]! % mfns.length === 0;
  if (block && mfns.every((mfn, i) => mfn === mfns[0]! + i)) xen.heap.release(mfns[0]!, order);
  else for (const mfn of mfns) xen.heap.release(mfn, 0);
}

/**
 * A page of a PV guest becomes another domain's, at `toGfn`. It is freed where that one may not have it.
 * @returns 0 or -EINVAL. @xen gnttab_transfer
 */
export function* transferPage(
  xen: Xen,
  d: Domain,
  op: Extract<MemoryOp, { cmd: 'gnttab_transfer' }>,
): Co<Rc> {
  const mfn = d.pvGfns.get(op.gfn) ?? -1;
  if (mfn < 0 || (yield* stealPage(xen, d, mfn)) !== 0) return E.INVAL;
  d.totPages -= 1;
  d.pvGfns.delete(op.gfn);
  const e = xen.domains.get(op.to);
  if (e === undefined || e.isDying || e.totPages >= e.maxPages) {
    xen.heap.release(mfn, 0);
    return E.INVAL;
  }
  xen.frames.set(mfn, 1, e.domid, FRAME_TYPE.writable);
  if (xen.events.on) xen.events.emit({ kind: 'alloc', mfn, order: 0, owner: e.domid, free: false });
  e.extents.push({ mfn, order: 0 });
  e.totPages += 1;
  return yield* guestPhysmapAddPage(xen, e, op.toGfn, mfn, 0);
}
