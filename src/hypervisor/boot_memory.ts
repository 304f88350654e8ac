/** Where Xen puts itself, and what is left for its heap. @xen arch/x86/setup.c __start_xen, end_boot_allocator */
import { KnownBy } from '../base/same.js';
import type { E820Entry } from '../iommu/driver/types.js';
import { DOMID, FRAME_TYPE, type RamRange } from '../sim/frames.js';
import type { Xen } from './xen.js';

/** Low memory that the heap never hands out: real-mode area and kernel image. */
const LOW_FRAMES = 256;
const SUPERPAGE = 512;
/** Xen's image is moved to the highest 6 MiB of low memory that superpages cover. @xen reloc_size */
const IMAGE_FRAMES = 3 * SUPERPAGE;
/** What it keeps of them: not the first superpage, nor what only booting needs. Frames from the start of the image. */
const IMAGE_KEPT = [
  [0x200, 0x3b7],
  [0x45b, 0x472],
  [0x572, 0x5a7],
] as const;

/** Beside the frame table: page tables, per-CPU data, console, domains. What key `m` leaves of a recorded host with one CPU. */
const XEN_OTHER_FRAMES = 1634;
/** @xen sizeof(struct page_info) */
const PAGE_INFO_BYTES = 32;
/** Order of the first thing that Xen takes from its heap. */
const FIRST_ORDER = 5;

/** What the boot loader loaded for dom0. */
export interface ImageSizes {
  readonly kernelBytes: number;
  readonly initrdBytes: number;
}

/** dom0's kernel and initial RAM disk as the boot loader left them. */
export interface BootImages {
  readonly kernel: RamRange;
  readonly initrd: RamRange;
}

/** Whole frames of RAM, `end` exclusive. */
interface Frames {
  readonly start: number;
  readonly end: number;
}
const known = new KnownBy((e820: readonly E820Entry[]): readonly Frames[] =>
  e820
    .filter((e) => e.type === 'usable')
    .map((e) => ({ start: Math.ceil(e.start / 4096), end: Math.floor(e.end / 4096) })),
);

/** @xen total_pages */
export function totalPages(e820: readonly E820Entry[]): number {
  let sum = 0;
  for (const r of known.of(e820)) sum += Math.max(0, r.end - r.start);
  return sum;
}

/**
 * Hands RAM to the heap, less what Xen and the low megabyte keep; where sizes of images are given, less those and Xen's
 * own tables too. @returns where the images are
 */
export function initHeap(xen: Xen, sizes: ImageSizes | undefined): BootImages | undefined {
  const ram = known.of(xen.e820);
  const low = ram.filter((r) => r.end <= 0x10_0000 && r.end - r.start > 2 * IMAGE_FRAMES).at(-1);
  const top = ram.at(-1);
  let images: BootImages | undefined;
  if (sizes !== undefined) xen.heap.tellLowZonesApart();
  for (const r of ram) {
    if (r.end <= r.start) continue;
    let { end } = r;
    // What the heap gets below is free, and the rest Xen's own.
    if (sizes !== undefined) keep(xen, r.start, r.end);
    if (r === low) end = placeImage(xen, r.end, sizes !== undefined);
    if (r === top && sizes !== undefined) {
      images = modulesBelow(end, sizes);
      const table = Math.ceil((totalPages(xen.e820) * PAGE_INFO_BYTES) / (SUPERPAGE * 4096)) * SUPERPAGE;
      end = images.kernel.start - table - XEN_OTHER_FRAMES;
    }
    const start = Math.max(r.start, LOW_FRAMES);
    if (sizes === undefined) {
      keep(xen, r.start, Math.min(start, r.end));
      keep(xen, end, r.end);
    }
    if (r !== top || images === undefined) {
      addRange(xen, start, end);
      continue;
    }
    // What does not fill a superpage comes after the first thing that Xen takes: that opens a large block.
    const whole = Math.floor(end / SUPERPAGE) * SUPERPAGE;
    addRange(xen, start, whole);
    xen.heap.alloc(FIRST_ORDER, DOMID.XEN, FRAME_TYPE.xenheap);
    addRange(xen, Math.max(start, whole), end);
  }
  return images;
}

/** Xen's image below `end`, and what is above it for the heap. @returns where the rest ends */
function placeImage(xen: Xen, end: number, exactly: boolean): number {
  const image = Math.floor(end / SUPERPAGE) * SUPERPAGE - IMAGE_FRAMES;
  if (!exactly) {
    xen.xenRanges.add(image, end - 1);
    return image;
  }
  // Above the image first: what is freed last is handed out first.
  addRange(xen, image + IMAGE_KEPT.at(-1)![1], end);
  let from = image;
  for (const [first, behind] of IMAGE_KEPT) {
    xen.xenRanges.add(image + first, image + behind - 1);
    addRange(xen, from, image + first);
    from = image + behind;
  }
  return image;
}

function addRange(xen: Xen, start: number, end: number): void {
  if (end > start) xen.heap.addRange({ start, count: end - start });
}

function keep(xen: Xen, start: number, end: number): void {
  if (end > start) xen.frames.set(start, end - start, DOMID.XEN, FRAME_TYPE.xenheap);
}

function modulesBelow(end: number, sizes: ImageSizes): BootImages {
  const [kernel, initrd] = [sizes.kernelBytes, sizes.initrdBytes].map((n) => Math.ceil(n / 4096)) as [
    number,
    number,
  ];
  return {
    initrd: { start: end - initrd, count: initrd },
    kernel: { start: end - initrd - kernel, count: kernel },
  };
}
