/** How a PV guest's kernel, page tables and list of frames are laid out. @xen tools/libs/guest/xg_dom_core.c, xg_dom_x86.c */
import type { BootFile } from '../../base/boot_file.js';
import type { DomImage } from './dom_image.js';
import { x } from './dom_image.js';
import { loadBinary, type PvParms } from './dom_kernel.js';
import type { Extent } from './dom_memory.js';

const PAGE = 4096;
const LEVELS = 4;
const VIRT_MASK = 2n ** 48n - 1n;
const MASK_4M = 2n ** 22n - 1n;
/** The boot stack, and 512 KiB that the guest may use before it has page tables of its own. */
const EXTRA_PAGES = 1 + (512 * 1024) / PAGE;

interface Range {
  readonly from: bigint;
  readonly to: bigint;
}

interface Tables {
  readonly pages: number;
  readonly levels: readonly Range[];
}

/** Page tables of one more mapping; what those of the `earlier` ones cover does not count again. @xen count_pgtables */
function countTables(
  image: DomImage,
  earlier: readonly (readonly Range[])[],
  from: bigint,
  to: bigint,
): Tables {
  let pages = earlier.length === 0 ? 1 : 0;
  const levels: Range[] = [];
  for (let level = LEVELS - 2; level >= 0; level--) {
    const bits = 12 + (level + 1) * 9;
    const mask = 2n ** BigInt(bits) - 1n;
    const whole = { from: from & VIRT_MASK & ~mask, to: (to & VIRT_MASK) | mask };
    const range = missing(
      whole,
      earlier.map((l) => l[levels.length]!),
    );
    levels.push(range);
    const n = range.from < range.to ? Number((range.to - range.from) >> BigInt(bits)) + 1 : 0;
    const span = `${wide(range.from)} -> ${wide(range.to)}`;
    image.print(`count_pgtables: ${wide(mask)}/${bits}: ${span}, ${n} table(s)`);
    pages += n;
  }
  return { pages, levels };
}

const wide = (v: bigint): string => `0x${v.toString(16).padStart(16, '0')}`;

function missing({ from, to }: Range, covered: readonly Range[]): Range {
  let [first, last] = [from, to];
  for (const has of covered) {
    if (has.from === has.to) continue;
    if (first >= has.from && last <= has.to) return { from: 0n, to: 0n };
    if (first >= has.from && first <= has.to) first = has.to + 1n;
    if (last >= has.from && last <= has.to) last = has.from - 1n;
  }
  return { from: first, to: last };
}

/** Guest frames of what the guest is told of. */
export interface PvLayout {
  readonly startInfo: number;
  readonly xenstore: number;
  readonly console: number;
  readonly pageTables: number;
}

/** @returns undefined where the guest has too little memory. @xen xc_dom_build_image */
export function layOutPv(
  image: DomImage,
  kernel: BootFile,
  parms: PvParms,
  modules: readonly BootFile[],
  totalPages: number,
): PvLayout | undefined {
  image.print('xc_dom_build_image: called');
  image.virt = parms.virtBase;
  const bytes = Number(parms.virtEnd - parms.virtStart);
  loadBinary(image, kernel.kernel!, image.segment('kernel', parms.virtStart, bytes));
  if (!parms.unmappedInitrd) for (const [i, m] of modules.entries()) buildModule(image, m, i);
  if (parms.p2mBase === undefined) buildFrameList(image, [], undefined, totalPages);
  const [startInfo, xenstore, console] = [
    image.page('start info'),
    image.page('xenstore'),
    image.page('console'),
  ];
  const { tables, end, first } = buildTables(image, parms);
  image.page('boot stack');
  image.print(`${'xc_dom_build_image'.padEnd(20)}: virt_alloc_end : ${x(image.virt)}`);
  image.print(`${'xc_dom_build_image'.padEnd(20)}: virt_pgtab_end : ${x(end)}`);
  image.pad(end);
  if (parms.unmappedInitrd) for (const [i, m] of modules.entries()) buildModule(image, m, i);
  if (parms.p2mBase !== undefined) buildFrameList(image, [tables.levels], parms.p2mBase, totalPages);
  return image.failed ? undefined : { startInfo, xenstore, console, pageTables: first };
}

/** @xen alloc_pgtables_pv */
function buildTables(
  image: DomImage,
  { virtBase }: PvParms,
): { readonly tables: Tables; readonly end: bigint; readonly first: number } {
  for (let pages = EXTRA_PAGES; ; ) {
    const last = ((image.virt + BigInt(pages * PAGE)) | MASK_4M) + 1n;
    const tables = countTables(image, [], virtBase, last - 1n);
    pages = tables.pages + EXTRA_PAGES;
    if (image.virt + BigInt(pages * PAGE) > last) continue;
    const first = image.pfn;
    image.segment('page tables', 0n, tables.pages * PAGE);
    return { tables, end: last, first };
  }
}

/** @xen xc_dom_build_module */
function buildModule(image: DomImage, file: BootFile, index: number): void {
  const { bytes, unpackedBytes = 0 } = file;
  image.segment(`module${index}`, 0n, Math.max(bytes, unpackedBytes));
  if (unpackedBytes > 0) image.print(`xc_dom_do_gunzip: unzip ok, ${x(bytes)} -> ${x(unpackedBytes)}`);
}

/** @xen alloc_p2m_list_x86_64 */
function buildFrameList(
  image: DomImage,
  earlier: readonly (readonly Range[])[],
  base: bigint | undefined,
  totalPages: number,
): void {
  let bytes = Math.ceil((totalPages * 8) / PAGE) * PAGE;
  if (base !== undefined) bytes += countTables(image, earlier, base, base + BigInt(bytes) - 1n).pages * PAGE;
  image.segment('phys2mach', 0n, bytes);
}

/** The image is complete: what is told of its start. @xen xc_dom_boot_image, xc_dom_gnttab_init */
export function bootPv(
  image: DomImage,
  parms: PvParms,
  layout: PvLayout,
  extents: readonly Extent[],
  domid: number,
  sharedInfo: number,
): void {
  const mfn = (pfn: number): string => x(machineFrame(extents, pfn));
  image.print('xc_dom_boot_image: called');
  image.mapPages(layout.startInfo, 1);
  image.print('start_info_x86_64: called');
  if (parms.virtHypercall !== undefined) {
    const pfn = (parms.virtHypercall - parms.virtBase) / BigInt(PAGE);
    image.print(`setup_hypercall_page: vaddr=${x(parms.virtHypercall)} pfn=${x(pfn)}`);
  }
  image.footprint();
  image.print(`bootlate_pv: shared_info: pfn 0x0, mfn ${x(sharedInfo)}`);
  image.print('shared_info_x86_64: called');
  image.print('vcpu_x86_64: called');
  image.print(`vcpu_x86_64: cr3: pfn ${x(layout.pageTables)} mfn ${mfn(layout.pageTables)}`);
  image.print(`xc_dom_set_gnttab_entry: d${domid} gnt[0] -> d0 ${mfn(layout.console)}`);
  image.print(`xc_dom_set_gnttab_entry: d${domid} gnt[1] -> d0 ${mfn(layout.xenstore)}`);
}

function machineFrame(extents: readonly Extent[], pfn: number): number {
  const extent = extents.find((e) => pfn >= e.pfn && pfn < e.pfn + e.pages);
  return extent === undefined ? 0 : extent.mfn + (pfn - extent.pfn);
}
