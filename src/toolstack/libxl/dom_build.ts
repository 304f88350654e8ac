/** What the builder tells of an image before its memory is there, and of an HVM guest's. @xen tools/libs/guest/xg_dom_core.c */
import type { BootFile } from '../../base/boot_file.js';
import type { DomImage } from './dom_image.js';
import { x } from './dom_image.js';
import { extent, findLoader, loadBinary, type PvParms, parseBinary, parseNotes } from './dom_kernel.js';
import type { Libxl } from './libxl.js';
import type { Layout } from './rdm.js';

const PAGE = 4096;
const ARCH_PRIVATE_PV = 344;
const MAP_ENTRY = 24;
/** struct hvm_start_info; two modules with room for their command lines. */
const START_INFO = 56 + 2 * (32 + 1024);

/** @xen xc_dom_boot_xen_init */
function xenInit(lx: Libxl, image: DomImage): void {
  const v = lx.xc.version();
  image.print(`xc_dom_boot_xen_init: ver ${v.major}.${v.minor}, caps ${v.capabilities}`);
}

/** @xen xc_dom_compat_check, xc_dom_mem_init */
function compatAndMemory(lx: Libxl, image: DomImage, type: string, pages: number): void {
  for (const item of lx.xc
    .version()
    .capabilities.split(' ')
    .filter((c) => c !== ''))
    image.print(`xc_dom_compat_check: supported guest type: ${item}${item === type ? ' <= matches' : ''}`);
  image.print(`xc_dom_mem_init: mem ${Math.floor(pages / 256)} MB, pages ${x(pages)} pages, 4k each`);
  image.print(`xc_dom_mem_init: ${x(pages)} pages`);
  image.print('xc_dom_boot_mem_init: called');
}

/** A PV kernel found, and its list of frames made. @xen xc_dom_parse_image, meminit_pv */
export function parsePv(lx: Libxl, image: DomImage, file: BootFile, pages: number): PvParms {
  const kernel = file.kernel!;
  xenInit(lx, image);
  image.print('xc_dom_parse_image: called');
  findLoader(image, kernel, 'bzimage');
  parseBinary(image, kernel);
  const parms = parseNotes(image, kernel);
  const type = 'xen-3.0-x86_64';
  image.print(`xc_dom_parse_elf_kernel: ${type}: ${x(parms.virtStart)} -> ${x(parms.virtEnd)}`);
  image.private(ARCH_PRIVATE_PV);
  compatAndMemory(lx, image, type, pages);
  image.print(`x86_compat: guest ${type}, address size 64`);
  image.malloc(pages * 8);
  image.totalPages = pages;
  return parms;
}

/** @xen xc_dom_parse_hvm_kernel */
export function parseHvm(lx: Libxl, image: DomImage, file: BootFile, layout: Layout): void {
  const kernel = file.kernel!;
  xenInit(lx, image);
  image.print('xc_dom_parse_image: called');
  findLoader(image, kernel, 'hvmloader');
  parseBinary(image, kernel);
  const high = layout.highmemEnd === 0 ? 0 : layout.highmemEnd - 2 ** 32;
  compatAndMemory(lx, image, 'hvm-3.0-x86_32', (layout.lowmemEnd + high) / PAGE);
}

/** The loader, its firmware and what they are told. @xen xc_dom_load_hvm_kernel, alloc_magic_pages_hvm */
export function layOutHvm(image: DomImage, file: BootFile, biosBytes: number, mapEntries: number): void {
  const kernel = file.kernel!;
  const { start, end } = extent(kernel);
  image.print('xc_dom_build_image: called');
  image.segment('kernel', BigInt(start), end - start);
  loadBinary(image, kernel, image.mmap(Math.ceil((end - start) / PAGE)));
  if (biosBytes > 0) image.segment('System Firmware module', 0n, biosBytes);
  image.segment('HVM start info', 0n, START_INFO + mapEntries * MAP_ENTRY);
  image.print(`${'xc_dom_build_image'.padEnd(20)}: virt_alloc_end : ${x(image.virt)}`);
  image.print(`${'xc_dom_build_image'.padEnd(20)}: virt_pgtab_end : 0x0`);
  image.print('xc_dom_boot_image: called');
  image.footprint();
}
