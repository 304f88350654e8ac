/**
 * What the recorded hosts build guests from: Debian's kernel 6.1.192-2, hvmloader of Xen 4.17 and SeaBIOS 1.16.2, whose
 * headers and notes are the packages', and the recorder's own RAM disk.
 */
import type { BootFiles } from '../../base/boot_file.js';

export const KERNEL = '/h1/vmlinuz';
export const INITRD = '/h1/initrdU.gz';

export const BOOT_FILES: BootFiles = {
  [KERNEL]: {
    bytes: 8_247_232,
    kernel: {
      payload: { method: 'XZ', bytes: 0x7b_f070, unpackedBytes: 0x3ed_a7b4 },
      segments: [
        { paddr: 0x100_0000, memBytes: 0x18e_a9f0, fileBytes: 0x18e_a9f0 },
        { paddr: 0x2a0_0000, memBytes: 0x64_4000, fileBytes: 0x64_4000 },
        { paddr: 0x304_4000, memBytes: 0x3_5000, fileBytes: 0x3_5000 },
        { paddr: 0x307_9000, memBytes: 0x198_7000, fileBytes: 0x198_7000 },
      ],
      notes: [
        [6, 'linux'],
        [7, '2.6'],
        [5, 'xen-3.0'],
        [3, 0xffff_ffff_8000_0000n],
        [15, 0x80_0000_0000n],
        [1, 0xffff_ffff_8307_91c0n],
        [10, '!writable_page_tables|pae_pgdir_above_4gb'],
        [17, 0x8801n],
        [9, 'yes'],
        [8, 'generic'],
        [13, 1n],
        [14, 1n],
        [16, 1n],
        [12, 0xffff_8000_0000_0000n],
        [4, 0n],
        [18, 0x100_0850n],
      ],
    },
  },
  [INITRD]: { bytes: 0x13_d106, unpackedBytes: 0x29_4810 },
  '/usr/lib/xen-4.17/boot/hvmloader': {
    bytes: 173_724,
    kernel: {
      segments: [{ paddr: 0x10_0000, memBytes: 0x3_3f40, fileBytes: 0x2_a4c0 }],
      notes: [],
    },
  },
  '/usr/share/seabios/bios-256k.bin': { bytes: 0x4_0000 },
};
