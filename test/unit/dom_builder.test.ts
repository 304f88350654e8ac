/** What libxc's domain builder tells, and what it takes to know it. Addresses follow from tools/libs/guest/xg_dom_x86.c. */
import { describe, expect, test } from 'vitest';
import type { BootFiles } from '../../src/base/boot_file.js';
import { BOOT_FILES } from '../../src/cli/golden/boot_files.js';
import { xlHost } from './xl_host.js';

const KERNEL = '/h1/vmlinuz';
const PV = `name="g"\ntype="pv"\nmemory=160\nkernel="${KERNEL}"\n`;

function verbose(text: string, bootFiles?: BootFiles, ...options: string[]): string[] {
  const h = xlHost({
    files: { '/cfg': text, '/h1/small': 'kernel', '/h1/plain': 'ramdisk', '/h1/other': 'text' },
    adapt: (host) => ({ ...host, dom0: { ...host.dom0, ...(bootFiles === undefined ? {} : { bootFiles }) } }),
  });
  const { err } = h.xl(...options, 'create', '/cfg');
  return err.split('\n').filter((l) => /^(?:domainbuilder|xc):/.test(l));
}
const details = (lines: readonly string[]): string[] =>
  lines.map((l) => l.replace(/^(?:domainbuilder|xc): detail: /, ''));

/** 8 MiB of kernel at 16 MiB, linked at the top of the address space; its page tables lie behind it. */
const SMALL: BootFiles = {
  '/h1/small': {
    bytes: 50_000,
    kernel: {
      payload: { method: 'XZ', bytes: 40_000, unpackedBytes: 0x80_0000 },
      segments: [{ paddr: 0x100_0000, memBytes: 0x80_0000, fileBytes: 0x1000 }],
      notes: [
        [3, 0xffff_ffff_8000_0000n],
        [2, 0xffff_ffff_8100_1000n],
        [99, 1n],
      ],
    },
  },
  '/h1/plain': { bytes: 0x3001 },
};
const SMALL_PV = 'name="g"\ntype="pv"\nmemory=64\nkernel="/h1/small"\nramdisk="/h1/plain"\n';

describe("the domain builder's words", () => {
  test('without knowledge of the kernel there are none, nor without -v', () => {
    expect(verbose(PV, undefined, '-vvv').filter((l) => l.startsWith('domainbuilder'))).toEqual([]);
    expect(verbose(SMALL_PV, SMALL)).toEqual([]);
  });

  test('-v tells them: libxc speaks at the level DETAIL', () => {
    expect(verbose(SMALL_PV, SMALL, '-v')[0]).toBe(
      'domainbuilder: detail: xc_dom_allocate: cmdline="", features=""',
    );
  });

  test('a kernel that does not say where its list of frames goes has modules, list and page tables behind it', () => {
    const told = details(verbose(SMALL_PV, SMALL, '-v'));
    expect(told.filter((l) => l.startsWith('xc_dom_alloc_'))).toEqual([
      'xc_dom_alloc_segment:   kernel       : 0xffffffff81000000 -> 0xffffffff81800000  (pfn 0x1000 + 0x800 pages)',
      'xc_dom_alloc_segment:   module0      : 0xffffffff81800000 -> 0xffffffff81803001  (pfn 0x1800 + 0x4 pages)',
      'xc_dom_alloc_segment:   phys2mach    : 0xffffffff81804000 -> 0xffffffff81824000  (pfn 0x1804 + 0x20 pages)',
      'xc_dom_alloc_page   :   start info   : 0xffffffff81824000 (pfn 0x1824)',
      'xc_dom_alloc_page   :   xenstore     : 0xffffffff81825000 (pfn 0x1825)',
      'xc_dom_alloc_page   :   console      : 0xffffffff81826000 (pfn 0x1826)',
      // One table a level, and 14 of 2 MiB each up to 0xffffffff81c00000.
      'xc_dom_alloc_segment:   page tables  : 0xffffffff81827000 -> 0xffffffff81838000  (pfn 0x1827 + 0x11 pages)',
      'xc_dom_alloc_page   :   boot stack   : 0xffffffff81838000 (pfn 0x1838)',
    ]);
    expect(told).toContain('xc_dom_build_image  : virt_pgtab_end : 0xffffffff81c00000');
    expect(told).toContain('setup_hypercall_page: vaddr=0xffffffff81001000 pfn=0x1001');
    expect(told).toContain('ELF: note: unknown (0x63)');
    expect(told).toContain('    p2m_base         = 0xffffffffffffffff');
  });

  // Structures of libxc on x86-64, a block for each mapping and 24 bytes for each page mapped.
  test("an HVM guest's loader and firmware take 5,961 bytes of the builder with a command line of 24 characters", () => {
    const hvm =
      'name="g"\ntype="hvm"\nmemory=160\nvga="none"\nvnc=0\nkernel="/h1/vmlinuz"\nextra="console=ttyS0 loglevel=6"\n';
    const files = { ...BOOT_FILES };
    const at18 = { ...files, '/usr/lib/xen-4.18/boot/hvmloader': files['/usr/lib/xen-4.17/boot/hvmloader']! };
    const told = details(verbose(hvm, at18, '-v'));
    expect(told).toContain('      malloc             : 5961 bytes');
    expect(told).toContain('      domU mmap          : 468 kB');
    expect(told).toContain('  2MB PAGES: 0x000000000000004f');
  });
});

describe('files of a kernel that are not there', () => {
  test('PV: where it failed, and that no memory was asked for', () => {
    expect(verbose(PV.replace(KERNEL, '/nope'))).toEqual([
      "xc: error: panic: xg_dom_core.c:205: failed to open file '/nope': No such file or directory: Internal error",
    ]);
  });

  test('PVH: libxl says in which function, and that it has no firmware then', () => {
    const h = xlHost({ files: { '/cfg': 'name="g"\ntype="pvh"\nmemory=64\nkernel="/nope"\n' } });
    const { err } = h.xl('create', '/cfg');
    expect(err.split('\n').slice(1, 4)).toEqual([
      "xc: error: panic: xg_dom_core.c:205: failed to open file '/nope': No such file or directory: Internal error",
      'libxl: error: libxl_dom.c:937:libxl__domain_firmware: xc_dom_kernel_file failed: No such file or directory',
      'libxl: error: libxl_dom.c:1103:libxl__build_hvm: initializing domain firmware failed',
    ]);
  });
});

// tools/libs/guest/xg_dom_core.c xc_dom_chk_alloc_pages; the places are those of 4.18.3.
describe('a guest with too little memory for its kernel', () => {
  test('is refused with the segment that did not fit, and nothing is told after it', () => {
    const told = verbose(SMALL_PV.replace('memory=64', 'memory=20'), SMALL, '-v');
    expect(told.slice(-2)).toEqual([
      'domainbuilder: detail: xc_dom_build_image: called',
      'xc: error: panic: xg_dom_core.c:536: xc_dom_chk_alloc_pages: ' +
        'segment kernel too large (0x800 > 0x1400 - 0x1000 pages): Out of memory',
    ]);
  });

  test('a file that is known to be no kernel has no loader', () => {
    const files = { ...SMALL, '/h1/plain': SMALL['/h1/plain']! };
    expect(verbose('name="g"\ntype="pv"\nmemory=64\nkernel="/h1/other"\n', files)).toEqual([
      'xc: error: panic: xg_dom_core.c:689: xc_dom_find_loader: no loader found: Invalid kernel',
    ]);
  });
});
