/** What libxc finds in a kernel file. @xen tools/libs/guest/xg_dom_bzimageloader.c, xg_dom_elfloader.c, xen/common/libelf */
import type { BootKernel } from '../../base/boot_file.js';
import { type DomImage, x } from './dom_image.js';

const ELF_BINARY = 160;
const NONE = 0xffff_ffff_ffff_ffffn;

/** XEN_ELFNOTE_*, by type. @xen include/public/elfnote.h */
const NOTES: Readonly<Record<number, string>> = {
  1: 'ENTRY',
  2: 'HYPERCALL_PAGE',
  3: 'VIRT_BASE',
  4: 'PADDR_OFFSET',
  5: 'XEN_VERSION',
  6: 'GUEST_OS',
  7: 'GUEST_VERSION',
  8: 'LOADER',
  9: 'PAE_MODE',
  10: 'FEATURES',
  11: 'BSD_SYMTAB',
  12: 'HV_START_LOW',
  14: 'SUSPEND_CANCEL',
  15: 'INIT_P2M',
  16: 'MOD_START_PFN',
  17: 'SUPPORTED_FEATURES',
  18: 'PHYS32_ENTRY',
};

/** Where a PV kernel is to lie. */
export interface PvParms {
  readonly virtBase: bigint;
  readonly virtStart: bigint;
  readonly virtEnd: bigint;
  readonly virtHypercall: bigint | undefined;
  /** Of the list of machine frames, when it is not behind the kernel. */
  readonly p2mBase: bigint | undefined;
  /** The initial page tables do not map the first module. */
  readonly unmappedInitrd: boolean;
}

/** Lowest and highest address of what is loaded. */
export function extent(kernel: BootKernel): { start: number; end: number } {
  return {
    start: Math.min(...kernel.segments.map((s) => s.paddr)),
    end: Math.max(...kernel.segments.map((s) => s.paddr + s.memBytes)),
  };
}

/** @xen xc_dom_find_loader */
export function findLoader(image: DomImage, kernel: BootKernel, kind: 'hvmloader' | 'bzimage'): void {
  const trying = (name: string): void => image.print(`xc_dom_find_loader: trying ${name} loader ... `);
  trying('multiboot-binary');
  image.print('loader probe failed');
  trying('HVM-generic');
  if (kind === 'bzimage') {
    image.print('loader probe failed');
    trying('Linux bzImage');
    unpack(image, kernel);
  }
  image.print('loader probe OK');
}

function unpack(image: DomImage, { payload }: BootKernel): void {
  if (payload === undefined) return;
  image.external(payload.unpackedBytes);
  image.print(`${payload.method}: Saw data stream end`);
  const sizes = `${x(payload.bytes)} -> ${x(payload.unpackedBytes)}`;
  image.print(`_xc_try_lzma_decode: ${payload.method} decompress OK, ${sizes}`);
}

/** @xen elf_parse_binary */
export function parseBinary(image: DomImage, kernel: BootKernel): void {
  image.malloc(ELF_BINARY);
  for (const s of kernel.segments) image.elf(`ELF: phdr: paddr=${x(s.paddr)} memsz=${x(s.memBytes)}`);
  const { start, end } = extent(kernel);
  image.elf(`ELF: memory: ${x(start)} -> ${x(end)}`);
}

/** A `#` in printf leaves zero bare. */
const hash = (n: bigint): string => (n === 0n ? '0' : x(n));

/** @xen elf_xen_parse_note, elf_xen_addr_calc_check */
export function parseNotes(image: DomImage, kernel: BootKernel): PvParms {
  const numbers = new Map<string, bigint>();
  for (const [type, value] of kernel.notes) {
    const name = NOTES[type];
    if (name === undefined) image.elf(`ELF: note: unknown (${x(type)})`);
    else image.elf(`ELF: note: ${name} = ${typeof value === 'string' ? `"${value}"` : hash(value)}`);
    if (name !== undefined && typeof value === 'bigint') numbers.set(name, value);
  }
  const { start, end } = extent(kernel);
  const virtBase = numbers.get('VIRT_BASE') ?? 0n;
  const paddrOffset = numbers.get('PADDR_OFFSET') ?? 0n;
  const offset = virtBase - paddrOffset;
  const p2mBase = numbers.get('INIT_P2M');
  const parms: PvParms = {
    virtBase,
    virtStart: BigInt(start) + offset,
    virtEnd: BigInt(end) + offset,
    virtHypercall: numbers.get('HYPERCALL_PAGE'),
    p2mBase: p2mBase !== undefined && p2mBase < virtBase ? p2mBase : undefined,
    unmappedInitrd: (numbers.get('MOD_START_PFN') ?? 0n) !== 0n,
  };
  image.elf('ELF: addresses:');
  for (const [name, value] of [
    ['virt_base', virtBase],
    ['elf_paddr_offset', paddrOffset],
    ['virt_offset', offset],
    ['virt_kstart', parms.virtStart],
    ['virt_kend', parms.virtEnd],
    ['virt_entry', numbers.get('ENTRY') ?? NONE],
    ['p2m_base', p2mBase ?? NONE],
  ] as const)
    image.elf(`    ${name.padEnd(16)} = ${x(value)}`);
  return parms;
}

/** @xen elf_load_binary */
export function loadBinary(image: DomImage, kernel: BootKernel, at: number): void {
  const { start } = extent(kernel);
  kernel.segments.forEach((s, i) => {
    const to = at + s.paddr - start;
    image.elf(`ELF: phdr ${i} at ${x(to)} -> ${x(to + s.fileBytes)}`);
  });
}
