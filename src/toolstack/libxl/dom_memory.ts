/** A guest's memory. @xen tools/libs/guest/xg_dom_x86.c meminit_pv, meminit_hvm */
import type { MemoryOp } from '../../hypervisor/public/memory.js';
import type { Co } from '../../sim/co.js';
import { settled } from './defaults.js';
import type { DomImage } from './dom_image.js';
import type { Libxl } from './libxl.js';
import type { Layout } from './rdm.js';
import { type BuildInfo, ERROR } from './types.js';

const PAGE = 4096;
const GB4 = 2 ** 32;
const ORDER_2M = 9;
const ORDER_1G = 18;
const PAGES_2M = 2 ** ORDER_2M;
const PAGES_1G = 2 ** ORDER_1G;
/** Extents of one call, so that a large guest stays interruptible. */
const BATCH_PV = 512;
const BATCH_HVM = 4;
const BATCH_PAGES = 1024 * 1024;
/** The VGA hole, 0xa0000 to 0xc0000, in pages. */
const VGA_HOLE = { start: 0xa0, end: 0xc0 };
/** Special pages of HVM: store, console and their neighbours, below 0xfeffc000 up to 0xff000000. */
const SPECIAL_START = 0xfeff8;
const SPECIAL_PAGES = 8;
/** Below them, for further device models. */
const IOREQ_SERVER_PAGES = 8;

/** First guest frame, first machine frame and pages of an extent. */
export interface Extent {
  readonly pfn: number;
  readonly mfn: number;
  readonly pages: number;
}

/** Extents of 2 MiB as long as Xen has them, then single pages. @returns undefined when they do not suffice. @xen meminit_pv */
export function* meminitPv(lx: Libxl, domid: number, end: number): Co<Extent[] | undefined> {
  const extents: Extent[] = [];
  let pfn = 0;
  for (let left = Math.floor(end / PAGES_2M); left > 0; ) {
    const count = Math.min(left, BATCH_PV);
    left -= count;
    const done = yield* populate(lx, domid, pfn, count, ORDER_2M, {}, extents);
    pfn += done * PAGES_2M;
  }
  while (pfn < end) {
    const count = Math.min(end - pfn, BATCH_PAGES);
    if ((yield* populate(lx, domid, pfn, count, 0, {}, extents)) < count) return undefined;
    pfn += count;
  }
  return extents;
}

/** @returns how many extents Xen had, at least 0 */
function* populate(
  lx: Libxl,
  domid: number,
  pfn: number,
  count: number,
  order: number,
  extra: { pod?: boolean },
  extents?: Extent[],
): Co<number> {
  const gfns = Array.from({ length: count }, (_, i) => pfn + i * 2 ** order);
  const op: MemoryOp & { cmd: 'populate_physmap' } = {
    cmd: 'populate_physmap',
    domid,
    gfns,
    order,
    ...extra,
  };
  const done = Math.max(0, yield* lx.xc.memoryOp(op));
  op.mfns?.forEach((mfn, i) => void extents?.push({ pfn: gfns[i]!, mfn, pages: 2 ** order }));
  return done;
}

/** Low memory around the VGA hole, then high memory, in the largest extents that fit and that Xen has. 0 or ERROR_FAIL. */
export function* meminitHvm(
  lx: Libxl,
  domid: number,
  b: BuildInfo,
  layout: Layout,
  image: DomImage,
): Co<number> {
  // More video memory than memory: in C the difference wraps to what no host has.
  if (layout.lowmemEnd < 0) return ERROR.FAIL;
  const targetPages = Math.floor((settled(b.targetMemkb) - settled(b.videoMemkb)) / 4);
  const low = Math.floor(layout.lowmemEnd / PAGE);
  const high = Math.floor(layout.highmemEnd / PAGE);
  const ranges: (readonly [number, number])[] = [[0, low]];
  if (high > 0) ranges.push([GB4 / PAGE, high]);
  const pod = ranges.reduce((n, [from, end]) => n + end - from, 0) > targetPages;
  const vga = b.type === 'hvm';
  for (const [from, end] of ranges)
    image.print(`range: start=0x${(from * PAGE).toString(16)} end=0x${(end * PAGE).toString(16)}`);
  if (pod) {
    const target = targetPages - (vga ? VGA_HOLE.end - VGA_HOLE.start : 0);
    const rc = yield* lx.xc.memoryOp({ cmd: 'set_pod_target', domid, targetPages: target });
    if (rc !== 0) return rc;
  }
  const extra = pod ? { pod } : {};
  const got: Sizes = { pages: 0, pages2M: 0, pages1G: 0 };
  if (vga && (yield* populate(lx, domid, 0, VGA_HOLE.start, 0, extra)) < VGA_HOLE.start) return ERROR.FAIL;
  for (const [from, end] of ranges) {
    // What lies below the hole's end is there already.
    const start = from === 0 && vga ? VGA_HOLE.end : from;
    if (start !== from) got.pages += VGA_HOLE.end;
    if ((yield* populateRange(lx, domid, [start, end], layout.mmioStart, extra, got)) !== 0) {
      image.print('Could not allocate memory for HVM guest.');
      return ERROR.FAIL;
    }
  }
  image.elf('PHYSICAL MEMORY ALLOCATION:');
  for (const [size, n] of [
    ['4KB', got.pages],
    ['2MB', got.pages2M],
    ['1GB', got.pages1G],
  ] as const)
    image.elf(`  ${size} PAGES: 0x${n.toString(16).padStart(16, '0')}`);
  return 0;
}

interface Sizes {
  pages: number;
  pages2M: number;
  pages1G: number;
}

/** Not more than up to the next boundary of `size`, and whole ones where there are some. */
function clip(pfn: number, count: number, size: number): number {
  const toBoundary = (size - (pfn % size)) % size;
  if (toBoundary !== 0 && count > toBoundary) return toBoundary;
  return count % size !== 0 && count > size ? count - (count % size) : count;
}

function* populateRange(
  lx: Libxl,
  domid: number,
  [start, end]: readonly [number, number],
  mmioStart: number,
  extra: { pod?: boolean },
  got: Sizes,
): Co<number> {
  for (let pfn = start; pfn < end; ) {
    const first = pfn;
    let count = clip(first, Math.min(end - first, PAGES_1G), PAGES_1G);
    const hole = (first + PAGES_1G) * PAGE > mmioStart && first * PAGE < GB4;
    if (count % PAGES_1G === 0 && first % PAGES_1G === 0 && !hole) {
      const done = yield* populate(lx, domid, pfn, count / PAGES_1G, ORDER_1G, extra);
      got.pages1G += done;
      pfn += done * PAGES_1G;
      count -= done * PAGES_1G;
    }
    if (count === 0) continue;
    count = clip(first, Math.min(count, PAGES_2M * BATCH_HVM), PAGES_2M);
    if (count % PAGES_2M === 0 && first % PAGES_2M === 0) {
      const done = yield* populate(lx, domid, pfn, count / PAGES_2M, ORDER_2M, extra);
      got.pages2M += done;
      pfn += done * PAGES_2M;
      count -= done * PAGES_2M;
    }
    if (count === 0) continue;
    if ((yield* populate(lx, domid, pfn, count, 0, extra)) < count) return ERROR.FAIL;
    got.pages += count;
    pfn += count;
  }
  return 0;
}

/** Pages that the guest shares with its helpers. 0 or ERROR_FAIL. @xen alloc_magic_pages_hvm */
export function* populateSpecial(lx: Libxl, domid: number, deviceModel: boolean): Co<number> {
  if ((yield* populate(lx, domid, SPECIAL_START, SPECIAL_PAGES, 0, {})) < SPECIAL_PAGES) return ERROR.FAIL;
  if (!deviceModel) return 0;
  const from = SPECIAL_START - IOREQ_SERVER_PAGES;
  const done = yield* populate(lx, domid, from, IOREQ_SERVER_PAGES, 0, {});
  return done < IOREQ_SERVER_PAGES ? ERROR.FAIL : 0;
}
