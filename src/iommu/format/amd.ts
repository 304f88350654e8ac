/**
 * AMD-Vi structures in memory: device table, I/O page tables, command and event entries, interrupt remapping
 * entries, registers (AMD I/O Virtualization Technology specification, 48882, chapters 2 and 3).
 * Bits only: no behaviour of hardware or of Xen. High bit first, in the manual's order.
 */
import { bits, type Layout } from '../../base/layout.js';

/** Device table entry, 256 bits (2.2.2.1). The page table's root frame is in bits 51:12 of words 0 and 1. */
export const DTE = {
  LINT1_PASS: bits(5, 31),
  LINT0_PASS: bits(5, 30),
  INT_CTL: bits(5, 29, 28), // see INT_CTL
  NMI_PASS: bits(5, 26),
  EXT_INT_PASS: bits(5, 25),
  INIT_PASS: bits(5, 24),
  INT_ROOT_HI: bits(5, 19, 0), // Interrupt Table Root, bits 51:32
  INT_ROOT_LO: bits(4, 31, 6), // and bits 31:6
  IG: bits(4, 5), // Ignore unmapped interrupts
  INT_TAB_LEN: bits(4, 4, 1), // log2 of the entries
  IV: bits(4, 0), // Interrupt map Valid
  SYS_MGT: bits(3, 9, 8),
  EX: bits(3, 7), // allow EXclusion
  SD: bits(3, 6), // Snoop Disable
  CACHE: bits(3, 5),
  IOCTL: bits(3, 4, 3),
  SA: bits(3, 2), // Suppress All I/O page faults
  SE: bits(3, 1), // Suppress I/O page fault Events
  I: bits(3, 0), // IOTLB Enable
  DOMAIN_ID: bits(2, 15, 0),
  IW: bits(1, 30),
  IR: bits(1, 29),
  GV: bits(1, 23),
  MODE: bits(0, 11, 9), // Paging Mode: levels, 0 for none
  HAD: bits(0, 8, 7),
  TV: bits(0, 1), // Translation information Valid
  V: bits(0, 0), // Valid
} as const satisfies Layout;
export const DTE_WORDS = 8;
/** Most that DTE.INT_TAB_LEN may say: 2048 entries. */
export const INT_TAB_LEN_MAX = 11;
/** Values of DTE.INT_CTL (2.2.2.1, table 7). Like it, IOCTL and SYS_MGT abort everything at zero. */
export const INT_CTL = { ABORTED: 0, FORWARDED: 1, TRANSLATED: 2 } as const;
/** Bits of words 0 and 1 that must be zero while V is 1. */
export const DTE_RESERVED = { word0: 0x7c, word1: 0x8000_0000 | 0 } as const;

/** I/O page-table entry, 64 bits (2.2.3). Frame in bits 51:12. Xen keeps contiguity marks in IGN0. */
export const PTE = {
  IW: bits(1, 30),
  IR: bits(1, 29),
  FC: bits(1, 28), // Force Coherent
  U: bits(1, 27),
  NEXT_LEVEL: bits(0, 11, 9), // 0 and 7: a page; else the level of the table it points to
  D: bits(0, 6),
  A: bits(0, 5),
  IGN0: bits(0, 4, 1), // ignored by hardware
  PR: bits(0, 0), // Present
} as const satisfies Layout;
export const PTE_WORDS = 2;
/** Bits of word 1 that must be zero in a present entry. */
export const PTE_RESERVED1 = 0x07f0_0000;
export const MAX_LEVELS = 6;

/** Command opcodes (2.4): bits 31:28 of word 1. */
export const CMD = {
  COMPLETION_WAIT: 1,
  INVALIDATE_DEVTAB_ENTRY: 2,
  INVALIDATE_IOMMU_PAGES: 3,
  INVALIDATE_IOTLB_PAGES: 4,
  INVALIDATE_INTERRUPT_TABLE: 5,
  PREFETCH_IOMMU_PAGES: 6,
  COMPLETE_PPR_REQUEST: 7,
  INVALIDATE_IOMMU_ALL: 8,
} as const;
export const CMD_WORDS = 4;
export const CMD_OPCODE = bits(1, 31, 28);
/** COMPLETION_WAIT (2.4.1). Data to store in words 2 and 3. */
export const CMD_WAIT = {
  ADDR_HI: bits(1, 19, 0),
  ADDR_LO: bits(0, 31, 3),
  F: bits(0, 2), // Flush queue
  I: bits(0, 1), // Interrupt
  S: bits(0, 0), // Store
} as const satisfies Layout;
/** INVALIDATE_DEVTAB_ENTRY and INVALIDATE_INTERRUPT_TABLE (2.4.2, 2.4.5). */
export const CMD_DEVICE = { DEVICE_ID: bits(0, 15, 0) } as const satisfies Layout;
/** INVALIDATE_IOMMU_PAGES (2.4.3). Address bits 63:32 in word 3. */
export const CMD_PAGES = {
  ADDR_LO: bits(2, 31, 12),
  GN: bits(2, 2),
  PDE: bits(2, 1), // also drop cached page directory entries
  S: bits(2, 0), // Size: given by the lowest zero bit of the address
  DOMAIN_ID: bits(1, 15, 0),
} as const satisfies Layout;
/** INVALIDATE_IOTLB_PAGES (2.4.4). Address bits 63:32 in word 3. */
export const CMD_IOTLB = {
  ADDR_LO: bits(2, 31, 12),
  S: bits(2, 0),
  QUEUE_ID: bits(1, 15, 0),
  MAX_PEND: bits(0, 31, 24),
  DEVICE_ID: bits(0, 15, 0),
} as const satisfies Layout;

/** Event codes (2.5): bits 31:28 of word 1. */
export const EVENT = {
  ILLEGAL_DEV_TABLE_ENTRY: 1,
  IO_PAGE_FAULT: 2,
  DEV_TABLE_HW_ERROR: 3,
  PAGE_TABLE_HW_ERROR: 4,
  ILLEGAL_COMMAND_ERROR: 5,
  COMMAND_HW_ERROR: 6,
  IOTLB_INV_TIMEOUT: 7,
  INVALID_DEV_REQUEST: 8,
} as const;
export const EVENT_WORDS = 4;
/** Fields of an event; words 2 and 3 hold the address. */
export const EVENT_ENTRY = {
  CODE: bits(1, 31, 28),
  FLAGS: bits(1, 27, 16), // see EVENT_FLAG
  DOMAIN_ID: bits(1, 15, 0),
  DEVICE_ID: bits(0, 15, 0),
} as const satisfies Layout;
/** Bits of EVENT_ENTRY.FLAGS (2.5.2). */
export const EVENT_FLAG = {
  TR: 0x100, // translation request
  RZ: 0x080, // reserved bit set, or a level that cannot be
  PE: 0x040, // permission
  RW: 0x020, // write
  PR: 0x010, // the page was present
  I: 0x008, // interrupt
  US: 0x004,
  NX: 0x002,
  GN: 0x001,
} as const;

/** Interrupt remapping entry, 32 bits (2.2.5.1). */
export const IRTE32 = {
  VECTOR: bits(0, 23, 16),
  DEST: bits(0, 15, 8),
  GUEST_MODE: bits(0, 7),
  DM: bits(0, 6),
  RQ_EOI: bits(0, 5),
  INT_TYPE: bits(0, 4, 2),
  SUP_IOPF: bits(0, 1),
  REMAP_EN: bits(0, 0),
} as const satisfies Layout;
export const IRTE32_WORDS = 1;
/** The same in 128 bits (2.2.5.2), used when the guest APIC feature is on. */
export const IRTE128 = {
  DEST_HI: bits(3, 31, 24),
  VECTOR: bits(2, 7, 0),
  DEST_LO: bits(0, 31, 8),
  GUEST_MODE: bits(0, 7),
  DM: bits(0, 6),
  RQ_EOI: bits(0, 5),
  INT_TYPE: bits(0, 4, 2),
  SUP_IOPF: bits(0, 1),
  REMAP_EN: bits(0, 0),
} as const satisfies Layout;
export const IRTE128_WORDS = 4;

/** Offsets within the register region (3.4); all registers have 64 bits. */
export const AMD_REG = {
  DEV_TAB_BASE: 0x00,
  CMD_BUF_BASE: 0x08,
  EVENT_LOG_BASE: 0x10,
  CONTROL: 0x18,
  EXCL_BASE: 0x20,
  EXCL_LIMIT: 0x28,
  EXT_FEATURE: 0x30,
  PPR_LOG_BASE: 0x38,
  CMD_BUF_HEAD: 0x2000,
  CMD_BUF_TAIL: 0x2008,
  EVENT_LOG_HEAD: 0x2010,
  EVENT_LOG_TAIL: 0x2018,
  STATUS: 0x2020,
  PPR_LOG_HEAD: 0x2030,
  PPR_LOG_TAIL: 0x2038,
} as const;
export const AMD_MMIO_BYTES = 0x4000;
/** Bits of the ring pointers (3.4.13). */
export const RING_PTR_MASK = 0x7_fff0;

/** Device table base (3.4.1): size in 4 KiB pages, less one. */
export const DEV_TAB_SIZE = bits(0, 8, 0);
/** Base registers of the rings (3.4.2, 3.4.3): log2 of the entries, 8 to 15, in word 1. */
export const RING_LENGTH = bits(1, 27, 24);
/** Exclusion range (3.4.5). */
export const EXCL = { ALLOW: bits(0, 1), EX_EN: bits(0, 0) } as const satisfies Layout;

/** Control register (3.4.4), bits of word 0. */
export const CONTROL = {
  GA_EN: 1 << 17,
  GT_EN: 1 << 16,
  PPR_EN: 1 << 15,
  PPR_INT_EN: 1 << 14,
  PPR_LOG_EN: 1 << 13,
  CMD_BUF_EN: 1 << 12,
  ISOC: 1 << 11,
  COHERENT: 1 << 10,
  RES_PASS_PW: 1 << 9,
  PASS_PW: 1 << 8,
  COM_WAIT_INT_EN: 1 << 4,
  EVENT_INT_EN: 1 << 3,
  EVENT_LOG_EN: 1 << 2,
  HT_TUN_EN: 1 << 1,
  IOMMU_EN: 1 << 0,
} as const;

/** The same, bits of word 1. */
export const CONTROL_HI = { XT_EN: 1 << 18 } as const;

/** Status register (3.4.14). */
export const STATUS = {
  PPR_LOG_INT: 1 << 6,
  PPR_LOG_OVERFLOW: 1 << 5,
  CMD_BUF_RUN: 1 << 4,
  EVENT_LOG_RUN: 1 << 3,
  COM_WAIT_INT: 1 << 2,
  EVENT_LOG_INT: 1 << 1,
  EVENT_OVERFLOW: 1 << 0,
} as const;
