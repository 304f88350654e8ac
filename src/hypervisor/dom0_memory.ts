/** dom0's memory: as Xen's domain builder hands it out, and as its kernel arranges it before it looks at devices. */
import { panic } from '../base/assert.js';
import { FLUSHF, type FlushAcc, IOMMUF, XENLOG } from '../iommu/driver/types.js';
import type { Co } from '../sim/co.js';
import { FRAME_TYPE } from '../sim/frames.js';
import { ORDER_MAX } from '../sim/zone.js';
import type { BootImages } from './boot_memory.js';
import type { Domain, Extent } from './domain.js';
import { iommuIotlbFlushAll, iommuMap } from './passthrough/iommu.js';
import type { Xen } from './xen.js';

/** Kernel, its page tables and the list of frames come in one block. @xen dom0_construct_pv, v_end */
const KERNEL_ORDER = 15;

/**
 * A strict dom0 has its memory mapped here, not with the ranges of iommu_hwdom_init(). Page tables, which Xen takes out
 * of the mapping again, are not modelled, but for the flush that this asks for.
 * @xen arch/x86/pv/dom0_build.c dom0_construct_pv, iommu_memory_setup
 */
export function* allocDom0Memory(
  xen: Xen,
  d: Domain,
  pages: number,
  images: BootImages | undefined,
): Co<void> {
  const chunks: Extent[] = [];
  let left = pages;
  if (images !== undefined && left > 2 ** KERNEL_ORDER + images.initrd.count) {
    const mfn = xen.heap.alloc(KERNEL_ORDER, 0, FRAME_TYPE.writable);
    if (mfn < 0) panic('Not enough RAM for DOM0 reservation');
    xen.frames.set(images.initrd.start, images.initrd.count, 0, FRAME_TYPE.writable);
    chunks.push(
      { mfn, order: KERNEL_ORDER },
      ...blocks(images.initrd.start, images.initrd.start + images.initrd.count),
    );
    left -= 2 ** KERNEL_ORDER + images.initrd.count;
  }
  allocChunks(xen, left, chunks);
  if (images !== undefined) xen.heap.addRange(images.kernel);
  d.extents.push(...(images === undefined ? chunks : exchangeBounceBuffer(xen, chunks, pages)));
  d.totPages = pages;
  yield* mapStrict(xen, d);
}

/** Of the largest block that so many frames hold. */
const orderWithin = (frames: number): number => 31 - Math.clz32(Math.min(frames, 1 << ORDER_MAX));

/** Never more than half of what is left is asked for, nor a larger block than before. @xen alloc_chunk */
function allocChunks(xen: Xen, pages: number, into: Extent[]): void {
  let left = pages;
  let last: number = ORDER_MAX;
  while (left > 0) {
    let order = Math.min(last, orderWithin(left));
    let mfn = xen.heap.alloc(order, 0, FRAME_TYPE.writable);
    while (mfn < 0) {
      if (order === 0) panic('Not enough RAM for domain 0 allocation');
      order -= 1;
      mfn = xen.heap.alloc(order, 0, FRAME_TYPE.writable);
    }
    into.push({ mfn, order });
    last = order;
    left -= 1 << order;
  }
}

/** Linux's buffer for devices that reach little memory: 64 MiB. */
const BOUNCE_FRAMES = 0x4000;
/** What Linux has taken from the top of its memory before: the array of its pages, and tables of fixed size. */
const BOUNCE_BELOW_FRAMES = 0x3608;
const PAGES_PER_PAGE_OF_STRUCT_PAGE = 64;
/** Below 4 GiB, where every device reaches it. */
const BOUNCE_LIMIT = 0x10_0000;

/**
 * dom0's kernel exchanges the frames of its bounce buffer for the lowest that there are; its own go back to the heap.
 * @linux drivers/xen/swiotlb-xen.c xen_swiotlb_fixup; @xen common/memory.c memory_exchange
 */
function exchangeBounceBuffer(xen: Xen, chunks: readonly Extent[], pages: number): Extent[] {
  const end = pages - Math.floor(pages / PAGES_PER_PAGE_OF_STRUCT_PAGE) - BOUNCE_BELOW_FRAMES;
  const start = end - BOUNCE_FRAMES;
  if (start < 2 ** KERNEL_ORDER) return [...chunks];
  const lowest = takeLowest(xen);
  if (lowest === undefined) return [...chunks];
  const kept: Extent[] = [];
  let pfn = 0;
  for (const chunk of chunks) {
    const from = Math.max(0, start - pfn);
    const behind = Math.min(2 ** chunk.order, end - pfn);
    pfn += 2 ** chunk.order;
    if (from >= behind) {
      kept.push(chunk);
      continue;
    }
    kept.push(...blocks(chunk.mfn, chunk.mfn + from));
    for (const b of blocks(chunk.mfn + from, chunk.mfn + behind)) xen.heap.release(b.mfn, b.order);
    kept.push(...blocks(chunk.mfn + behind, chunk.mfn + 2 ** chunk.order));
  }
  return [...kept, ...lowest];
}

function takeLowest(xen: Xen): Extent[] | undefined {
  const taken: Extent[] = [];
  for (let left = BOUNCE_FRAMES; left > 0; ) {
    const block = xen.heap.takeLowest(left, 0, FRAME_TYPE.writable);
    if (block === undefined || block.mfn >= BOUNCE_LIMIT) {
      for (const b of block === undefined ? taken : [...taken, block]) xen.heap.release(b.mfn, b.order);
      return undefined;
    }
    taken.push(block);
    left -= 2 ** block.order;
  }
  return taken;
}

/** A range of frames in blocks that are aligned to their size. */
function blocks(start: number, end: number): Extent[] {
  const all: Extent[] = [];
  for (let at = start; at < end; ) {
    let order = 0;
    while (order < ORDER_MAX && at % 2 ** (order + 1) === 0 && at + 2 ** (order + 1) <= end) order += 1;
    all.push({ mfn: at, order });
    at += 2 ** order;
  }
  return all;
}

function* mapStrict(xen: Xen, d: Domain): Co<void> {
  if (!d.iommu.needSync) return;
  // The first page tables are in that memory, and were taken out of the mapping again.
  const acc: FlushAcc = { flags: FLUSHF.modified };
  const mapping = IOMMUF.readable | IOMMUF.writable | IOMMUF.preempt;
  for (const { mfn, order } of d.extents) {
    const rc = yield* iommuMap(xen, d, mfn, mfn, 2 ** order, mapping, acc);
    if (rc === 0) continue;
    const range = `[${mfn.toString(16)},${(mfn + 2 ** order).toString(16)})`;
    xen.console.printk(XENLOG.ERR, `pre-mapping chunk MFN ${range} into IOMMU failed: ${rc}`);
  }
  yield* iommuIotlbFlushAll(xen, d, acc.flags);
}
