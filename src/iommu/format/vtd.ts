/**
 * VT-d structures in memory: root and context entries, second-level page-table entries, invalidation
 * descriptors, fault records, interrupt remapping entries (VT-d specification 5.1, chapters 9, 6.5 and 11).
 * Bits only: no behaviour of hardware or of Xen. High bit first, in the manual's order.
 */
import { bits, type Layout } from '../../base/layout.js';

/** Root entry, 128 bits (9.1). The context table's frame is in bits 51:12 of words 0 and 1. */
export const ROOT = { P: bits(0, 0) } as const satisfies Layout;
export const ROOT_WORDS = 4;

/** Context entry, legacy mode, 128 bits (9.3). The page table's frame is in bits 51:12 of words 0 and 1. */
export const CONTEXT = {
  DID: bits(2, 23, 8), // Domain Identifier
  AVAIL: bits(2, 6, 3), // ignored by hardware
  AW: bits(2, 2, 0), // Address Width: levels - 2
  TT: bits(0, 3, 2), // Translation Type
  FPD: bits(0, 1), // Fault Processing Disable
  P: bits(0, 0), // Present
} as const satisfies Layout;
export const CONTEXT_WORDS = 4;
/** Translation types (9.3): untranslated only, also ATS, pass-through. */
export const TT = { MULTI_LEVEL: 0, DEV_IOTLB: 1, PASS_THRU: 2 } as const;

/** Second-level entry, 64 bits (9.8). Frame in bits 51:12. Xen keeps contiguity marks in bits 55:52. */
export const SLPTE = {
  CONTIG: bits(1, 23, 20), // ignored by hardware; Xen's contiguity marker
  TM: bits(1, 30), // Transient Mapping, up to revision 3 and with device TLBs; reserved
  SNP: bits(0, 11), // Snoop; reserved without snoop control
  PS: bits(0, 7), // Page Size: a superpage
  W: bits(0, 1),
  R: bits(0, 0),
} as const satisfies Layout;
export const SLPTE_WORDS = 2;

/** Invalidation descriptor types (6.5.2): bits 3:0 of the first word. */
export const QI = {
  CONTEXT: 1,
  IOTLB: 2,
  DEV_IOTLB: 3,
  IEC: 4,
  WAIT: 5,
  PASID_IOTLB: 6,
  PASID_CACHE: 7,
} as const;
/** Granularities of context and IOTLB invalidation (6.5.2.1, 6.5.2.3). */
export const GRAN = { GLOBAL: 1, DOMAIN: 2, DEVICE_OR_PAGE: 3 } as const;
/** Context-cache invalidate descriptor. */
export const QI_CONTEXT = {
  FM: bits(1, 17, 16),
  SID: bits(1, 15, 0),
  DID: bits(0, 31, 16),
  G: bits(0, 5, 4),
} as const satisfies Layout;
/** IOTLB invalidate descriptor; the page frame is in bits 51:12 of words 2 and 3. */
export const QI_IOTLB = {
  DID: bits(0, 31, 16),
  DR: bits(0, 7),
  DW: bits(0, 6),
  G: bits(0, 5, 4),
  IH: bits(2, 6),
  AM: bits(2, 5, 0),
} as const satisfies Layout;
/** Device-TLB invalidate descriptor; address in words 2 and 3, S in bit 0 of word 2. */
export const QI_DEV_IOTLB = {
  SID: bits(1, 15, 0),
  MAX_INVS_PEND: bits(0, 20, 16),
  S: bits(2, 0),
} as const satisfies Layout;
/** Interrupt-entry-cache invalidate descriptor. */
export const QI_IEC = { IIDX: bits(1, 15, 0), IM: bits(0, 31, 27), G: bits(0, 4) } as const satisfies Layout;
/** Invalidation wait descriptor; status data in word 1, status address (4-byte aligned) in words 2 and 3. */
export const QI_WAIT = {
  SDATA: bits(1, 31, 0),
  FN: bits(0, 6),
  SW: bits(0, 5),
  IF: bits(0, 4),
} as const satisfies Layout;
export const QI_WORDS = 4;

/** Invalidation queue address register (11.4.9.3); the queue's first frame is in bits 51:12. */
export const IQA = {
  DW: bits(0, 11), // Descriptor Width: 256 bits, in units with scalable mode
  QS: bits(0, 2, 0), // 2^(QS + 8) descriptors of 128 bits
} as const satisfies Layout;
/** Head and tail registers hold a byte offset: descriptor number in bits 18:4 (11.4.9.1). */
export const IQ_INDEX = bits(0, 18, 4);

/** Context command register (11.4.6.1). */
export const CCMD = {
  ICC: bits(1, 31), // Invalidate Context-Cache: set to start, cleared when done
  CIRG: bits(1, 30, 29), // granularity asked for
  CAIG: bits(1, 28, 27), // granularity performed
  FM: bits(1, 1, 0),
  SID: bits(0, 31, 16),
  DID: bits(0, 15, 0),
} as const satisfies Layout;
/** IOTLB invalidate register (11.4.6.2), 8 bytes after the invalidate address register at ECAP.IRO. */
export const IOTLB = {
  IVT: bits(1, 31),
  IIRG: bits(1, 29, 28),
  IAIG: bits(1, 26, 25),
  DR: bits(1, 17),
  DW: bits(1, 16),
  DID: bits(1, 15, 0),
} as const satisfies Layout;
/** Invalidate address register (11.4.6.3); the page frame is in bits 51:12. */
export const IVA = { IH: bits(0, 6), AM: bits(0, 5, 0) } as const satisfies Layout;

/** Fault status register (11.4.7). */
export const FSTS = {
  FRI: bits(0, 15, 8), // index of the first pending fault record
  ITE: bits(0, 6), // Invalidation Time-out Error
  ICE: bits(0, 5), // Invalidation Completion Error
  IQE: bits(0, 4), // Invalidation Queue Error
  APF: bits(0, 3),
  AFO: bits(0, 2),
  PPF: bits(0, 1), // Primary Pending Fault
  PFO: bits(0, 0), // Primary Fault Overflow
} as const satisfies Layout;
/** Advanced fault log register, of revisions up to 3; the log's first frame is in bits 63:12. */
export const AFLOG = {
  FLS: bits(0, 11, 9), // 2^FLS frames
} as const satisfies Layout;
/** Fault event and invalidation event control (11.4.7, 11.4.9): Interrupt Mask, Interrupt Pending. */
export const EVENT_CTL = { IM: bits(0, 31), IP: bits(0, 30) } as const satisfies Layout;
/** Invalidation queue error record (11.4.9.9). */
export const IQERCD = {
  ICESID: bits(1, 31, 16), // who completed an invalidation that was not asked for
  ITESID: bits(1, 15, 0), // who did not answer one
  IQEI: bits(0, 3, 0),
} as const satisfies Layout;
/** What was wrong with the queue (IQEI). */
export const QUEUE_ERROR = {
  TAIL: 1,
  FETCH: 2,
  TYPE: 3,
  RESERVED: 4,
  WIDTH: 5,
  TAIL_MISALIGNED: 6,
  TABLE_MODE: 7,
} as const;
/** Invalidation completion status (11.4.9.5). */
export const ICS = { IWC: bits(0, 0) } as const satisfies Layout;
/** Interrupt remapping table address (11.4.10); the table's frame is in bits 51:12. */
export const IRTA = {
  EIME: bits(0, 11), // x2APIC destinations
  S: bits(0, 3, 0), // 2^(S + 1) entries
} as const satisfies Layout;

/** Fault recording register, 128 bits (11.4.7). The page frame is in bits 51:12 of words 0 and 1. */
export const FRCD = {
  F: bits(3, 31),
  T: bits(3, 30), // 1: read
  AT: bits(3, 29, 28),
  FR: bits(3, 7, 0), // Fault Reason
  SID: bits(2, 15, 0),
} as const satisfies Layout;
export const FRCD_WORDS = 4;

/** Source validation types and qualifiers of an interrupt remapping entry. */
export const SVT = { NONE: 0, SID: 1, BUS: 2 } as const;

/** Interrupt remapping entry, 128 bits (9.10). */
export const IRTE = {
  SVT: bits(2, 19, 18),
  SQ: bits(2, 17, 16),
  SID: bits(2, 15, 0),
  DST: bits(1, 31, 0),
  V: bits(0, 23, 16),
  IM: bits(0, 15),
  AVAIL: bits(0, 11, 8),
  DLM: bits(0, 7, 5),
  TM: bits(0, 4),
  RH: bits(0, 3),
  DM: bits(0, 2),
  FPD: bits(0, 1),
  P: bits(0, 0),
} as const satisfies Layout;
export const IRTE_WORDS = 4;

/** Offsets within the register page (11.4). */
export const VTD_REG = {
  VER: 0x00,
  CAP: 0x08,
  ECAP: 0x10,
  GCMD: 0x18,
  GSTS: 0x1c,
  RTADDR: 0x20,
  CCMD: 0x28,
  FSTS: 0x34,
  FECTL: 0x38,
  FEDATA: 0x3c,
  FEADDR: 0x40,
  FEUADDR: 0x44,
  AFLOG: 0x58,
  PMEN: 0x64,
  PLMBASE: 0x68,
  PLMLIMIT: 0x6c,
  PHMBASE: 0x70,
  PHMLIMIT: 0x78,
  IQH: 0x80,
  IQT: 0x88,
  IQA: 0x90,
  ICS: 0x9c,
  IECTL: 0xa0,
  IEDATA: 0xa4,
  IEADDR: 0xa8,
  IEUADDR: 0xac,
  IQERCD: 0xb0,
  IRTA: 0xb8,
} as const;

/** GCMD and GSTS bits (11.4.4). */
export const GCMD = {
  TE: 0x8000_0000 | 0,
  SRTP: 0x4000_0000,
  SFL: 0x2000_0000,
  EAFL: 0x1000_0000,
  WBF: 0x0800_0000,
  QIE: 0x0400_0000,
  IRE: 0x0200_0000,
  SIRTP: 0x0100_0000,
  CFI: 0x0080_0000,
} as const;

/** Capability register (11.4.2), words 0 and 1 of the pair. */
export const CAP = {
  ESRTPS: bits(1, 31), // a root table that is set makes the unit forget translations
  ESIRTPS: bits(1, 30), // an interrupt table that is set makes it forget entries
  PI: bits(1, 27),
  FL1GP: bits(1, 24),
  DRD: bits(1, 23),
  DWD: bits(1, 22),
  MAMV: bits(1, 21, 16),
  NFR: bits(1, 15, 8),
  PSI: bits(1, 7),
  SLLPS: bits(1, 5, 2), // bit 0: 2 MiB, bit 1: 1 GiB
  FRO_HI: bits(1, 1, 0),
  FRO_LO: bits(0, 31, 24),
  ZLR: bits(0, 22),
  MGAW: bits(0, 21, 16),
  SAGAW: bits(0, 12, 8),
  CM: bits(0, 7),
  PHMR: bits(0, 6),
  PLMR: bits(0, 5),
  RWBF: bits(0, 4),
  AFL: bits(0, 3), // revisions up to 3
  ND: bits(0, 2, 0),
} as const satisfies Layout;

/** Extended capability register (11.4.3). */
export const ECAP = {
  FLTS: bits(1, 15), // first-level translation, in scalable mode
  SLTS: bits(1, 14), // second-level translation, in scalable mode
  SMTS: bits(1, 11),
  DIT: bits(1, 9), // device-TLB descriptors name the physical function
  PASID: bits(1, 8),
  SRS: bits(0, 31), // requests of supervisor privilege
  MHMV: bits(0, 23, 20),
  IRO: bits(0, 17, 8),
  SC: bits(0, 7),
  PT: bits(0, 6),
  EIM: bits(0, 4),
  IR: bits(0, 3),
  DT: bits(0, 2),
  QI: bits(0, 1),
  C: bits(0, 0),
} as const satisfies Layout;

/** Fault reasons of DMA requests in legacy mode (7.1.3). */
export const FR = {
  ROOT_NOT_PRESENT: 1,
  CONTEXT_NOT_PRESENT: 2,
  CONTEXT_INVALID: 3,
  BEYOND_MGAW: 4,
  WRITE: 5,
  READ: 6,
  TABLE_ACCESS: 7,
  ROOT_ACCESS: 8,
  CONTEXT_ACCESS: 9,
  ROOT_RESERVED: 0xa,
  CONTEXT_RESERVED: 0xb,
  PTE_RESERVED: 0xc,
  TT_BLOCKED: 0xd,
  INTERRUPT_ADDR: 0xe,
} as const;
/** In place of a fault reason: refused by protected memory, which is no fault and never recorded (11.4.8). */
export const PROTECTED = 0x100;

/** Fault reasons of DMA requests in scalable mode (7.1.3). */
export const FR_SM = {
  TABLE_MODE: 0x30,
  ROOT_ACCESS: 0x38,
  ROOT_NOT_PRESENT: 0x39,
  ROOT_RESERVED: 0x3a,
  CONTEXT_ACCESS: 0x40,
  CONTEXT_NOT_PRESENT: 0x41,
  CONTEXT_RESERVED: 0x42,
  CONTEXT_INVALID: 0x43,
  DIRECTORY_ACCESS: 0x50,
  DIRECTORY_NOT_PRESENT: 0x51,
  DIRECTORY_RESERVED: 0x52,
  PASID_ACCESS: 0x58,
  PASID_NOT_PRESENT: 0x59,
  PASID_RESERVED: 0x5a,
  PASID_INVALID: 0x5b,
  FL_ACCESS: 0x70,
  FL_NOT_PRESENT: 0x71,
  FL_RESERVED: 0x72,
  FL_ROOT_ACCESS: 0x73,
  SL_ACCESS: 0x78,
  SL_NOT_PRESENT: 0x79,
  SL_RESERVED: 0x7a,
  SL_ROOT_ACCESS: 0x7b,
  FL_NOT_CANONICAL: 0x80,
  FL_USER: 0x81,
  BEYOND_HAW: 0x83,
  BEYOND_WIDTH: 0x84,
  WRITE: 0x85,
  READ: 0x86,
  INTERRUPT_ADDR: 0x87,
} as const;

/** Fault reasons of interrupt requests (7.2.3, table 23). */
export const FR_INTR = {
  REQUEST_RESERVED: 0x20,
  INDEX_BEYOND: 0x21,
  NOT_PRESENT: 0x22,
  TABLE_ACCESS: 0x23,
  ENTRY_RESERVED: 0x24,
  COMPAT_BLOCKED: 0x25,
  SOURCE_INVALID: 0x26,
} as const;
/** Frames of the interrupt address range: a write there is an interrupt, never a DMA (3.14). */
export const INTERRUPT_FRAMES = { first: 0xfee00, last: 0xfeeff } as const;
