/**
 * A guest's image on its way into memory: how far it has come, what it takes of the builder's own memory, and what
 * `xl -v` hears of both. @xen tools/libs/guest/xg_dom_core.c
 */
import { CREATE } from './lines_create.js';
import type { Log } from './log.js';

const PAGE = 4096;
/** Sizes of libxc's structures on x86-64. */
const SIZE = { image: 1952, parms: 632, memBlock: 32, phys: 32, mmapEntry: 24 } as const;
/** Blocks from here on are told of one by one. */
const LARGE = 100 * 1024;
const KB = 1024;
const MB = 1024 * 1024;
/** Where the first mapping of a process lies; the next ones lie below. */
const MMAP_TOP = 0x7f00_0000_0000;

export const x = (n: number | bigint): string => `0x${n.toString(16)}`;

/** @xen print_mem */
function amount(name: string, bytes: number): string {
  const text =
    bytes > 32 * MB
      ? `${Math.floor(bytes / MB)} MB`
      : bytes > 32 * KB
        ? `${Math.floor(bytes / KB)} kB`
        : `${bytes} bytes`;
  return `${name.padEnd(24)} : ${text}`;
}

export class DomImage {
  /** Guest frame and virtual address that are next. */
  pfn = 0;
  virt = 0n;
  /** What the guest has. */
  totalPages = Number.POSITIVE_INFINITY;
  /** The guest has too little memory; nothing more is told. */
  failed = false;
  private malloced = SIZE.image + SIZE.parms;
  private anonymous = 0;
  private mappedFiles = 0;
  private mappedGuest = 0;
  private mmapAt = MMAP_TOP;

  constructor(
    private readonly log: Log,
    cmdline: string | undefined,
  ) {
    this.print(`xc_dom_allocate: cmdline="${cmdline ?? ''}", features=""`);
    if (cmdline !== undefined) this.malloc(cmdline.length + 1);
  }

  print(text: string): void {
    if (!this.failed) this.log.domainBuilder(text);
  }

  elf(text: string): void {
    if (!this.failed) this.log.libxc(text);
  }

  malloc(bytes: number): void {
    this.malloced += SIZE.memBlock + bytes;
    if (bytes > LARGE) this.print(amount('xc_dom_malloc', bytes));
  }

  /** A structure of the builder's that is in no block of its own. */
  private(bytes: number): void {
    this.malloced += bytes;
  }

  file(call: string, path: string, bytes: number): void {
    this.print(`${call}: filename="${path}"`);
    this.malloced += SIZE.memBlock;
    this.mappedFiles += bytes;
    if (bytes > LARGE) this.print(amount('xc_dom_malloc_filemap', bytes));
  }

  /** Memory that a decompressor has filled. */
  external(bytes: number): void {
    this.malloced += SIZE.memBlock;
    this.anonymous += bytes;
  }

  /** Where so many pages of the guest are seen. */
  mmap(pages: number): number {
    this.mmapAt -= pages * PAGE;
    return this.mmapAt;
  }

  /** @xen xc_dom_pfn_to_ptr_retcount, where the pages are not mapped yet */
  mapPages(pfn: number, pages: number): number {
    this.malloc(SIZE.phys);
    this.malloc(pages * SIZE.mmapEntry);
    this.mappedGuest += pages * PAGE;
    const at = this.mmap(pages);
    this.print(`xc_dom_pfn_to_ptr_retcount: domU mapping: pfn ${x(pfn)}+${x(pages)} at ${x(at)}`);
    return at;
  }

  /** @returns where it is mapped. @xen xc_dom_alloc_segment */
  segment(name: string, start: bigint, bytes: number): number {
    if (start !== 0n) this.pad(start);
    const [pfn, from, pages] = [this.pfn, this.virt, Math.ceil(bytes / PAGE)];
    this.take(name, pages);
    const at = this.mapPages(pfn, pages);
    const frames = `(pfn ${x(pfn)} + ${x(pages)} pages)`;
    this.print(
      `${'xc_dom_alloc_segment'}:   ${name.padEnd(12)} : ${x(from)} -> ${x(from + BigInt(bytes))}  ${frames}`,
    );
    return at;
  }

  /** @returns its frame. @xen xc_dom_alloc_page */
  page(name: string): number {
    const { pfn, virt } = this;
    this.take(name, 1);
    this.print(`${'xc_dom_alloc_page'.padEnd(20)}:   ${name.padEnd(12)} : ${x(virt)} (pfn ${x(pfn)})`);
    return pfn;
  }

  /** @xen xc_dom_alloc_pad */
  pad(to: bigint): void {
    this.take('padding', Number(to - this.virt) / PAGE);
  }

  /** @xen xc_dom_chk_alloc_pages */
  private take(name: string, pages: number): void {
    const total = this.totalPages;
    if (!this.failed && (pages > total || this.pfn > total || pages > total - this.pfn)) {
      const room = `(${x(pages)} > ${x(total)} - ${x(this.pfn)} pages)`;
      const text = `xc_dom_chk_alloc_pages: segment ${name} too large ${room}`;
      this.log.panic(CREATE.segmentTooLarge, text, 'Out of memory');
      this.failed = true;
    }
    this.pfn += pages;
    this.virt += BigInt(pages * PAGE);
  }

  /** @xen xc_dom_log_memory_footprint */
  footprint(): void {
    this.print('domain builder memory footprint');
    this.print('   allocated');
    this.print(amount('      malloc', this.malloced));
    this.print(amount('      anon mmap', this.anonymous));
    this.print('   mapped');
    this.print(amount('      file mmap', this.mappedFiles));
    this.print(amount('      domU mmap', this.mappedGuest));
  }
}
