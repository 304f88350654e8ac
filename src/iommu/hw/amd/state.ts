/** What one AMD IOMMU holds: its registers and its caches. The functions beside this file work on it. */
import type { EventStream } from '../../../sim/events.js';
import type { Ram } from '../../../sim/ram.js';
import { AMD_REG } from '../../format/amd.js';

/** Registers below 0x200 and between 0x2000 and 0x2100 exist; the rest of the region reads as zero. */
const LOW_BYTES = 0x200;
const HIGH_BASE = 0x2000;
const HIGH_BYTES = 0x100;
const REG_WORDS = (LOW_BYTES + HIGH_BYTES) / 4;
/** Words of the registers that every command touches. */
export const CMD_HEAD_WORD = LOW_BYTES >>> 2;
export const CMD_TAIL_WORD = (LOW_BYTES + 8) >>> 2;

/** Index of the register word at `offset`, -1 where there is none. */
export function regWord(offset: number): number {
  if (offset < LOW_BYTES) return offset >>> 2;
  if (offset >= HIGH_BASE && offset < HIGH_BASE + HIGH_BYTES) return (LOW_BYTES + offset - HIGH_BASE) >>> 2;
  return -1;
}

/**
 * DTE cache: direct mapped, sixteen words an entry. It keeps what hardware decodes from a DTE, so that a DTE
 * changed in memory has no effect until INVALIDATE_DEVTAB_ENTRY.
 */
export const DTE_CACHE = {
  ENTRIES: 256,
  SHIFT: 4, // log2 of the words of an entry
  TAG: 0, //  rid | 0x10000, 0 for an empty entry
  KIND: 1, // DTE_KIND
  PERM: 2, // bit 0: IR, bit 1: IW
  MODE: 3,
  ROOT_LO: 4,
  ROOT_HI: 5,
  SLOT: 6, // index into `gens`
  FLAGS: 7, // DTE_FLAG
  INT_LO: 8, // words 4 and 5 as they are: what the entry says of interrupts
  INT_HI: 9,
} as const;
/** What the DTE says about DMA: V=0, V=1 TV=0, page tables, permissions alone (Mode 0), or nonsense. */
export const DTE_KIND = { PASS: 0, ABORT: 1, WALK: 2, FLAT: 3, ILLEGAL: 4, UNREADABLE: 5 } as const;
export const DTE_FLAG = { SA: 1, SE: 2, EX: 4, REPORTED: 8, I: 16 } as const;

/** Bits of the number of an entry in its table. */
export const IRT_INDEX_BITS = 11;
/**
 * Cache of interrupt remapping entries: direct mapped. An entry changed in memory has no effect until
 * INVALIDATE_INTERRUPT_TABLE. Entries that are off are not kept.
 */
export const IRT_CACHE = {
  ENTRIES: 256,
  WORDS: 5,
  TAG: 0, //  rid and index, plus 1; 0 for an empty entry
  ENTRY: 1, // its words, one or four of them
} as const;

/**
 * IOTLB: four ways, four words an entry. The tag is the page and the *generation* of its domain id: a domain-wide
 * invalidation deals the domain a new generation, which makes all its entries unreachable at once.
 */
export const TLB = {
  SETS: 256,
  WAYS: 4,
  SHIFT: 2,
  DFN_LO: 0,
  GEN: 1, //   0 for an empty entry
  MFN_LO: 2,
  FLAGS: 3, // bit 0: IR, bit 1: IW, 7:2 order of the page it came from, 15:8 dfn bits 39:32, 23:16 mfn bits 39:32
} as const;

export interface AmdIommuOptions {
  /** Number of the unit in events. */
  readonly unit: number;
  readonly seg: number;
  /** Extended feature register, low and high word. */
  readonly features: readonly [number, number];
  /** DTE, register and command events go there. */
  readonly events: EventStream;
  readonly ram: Ram;
}

export class AmdIommuState {
  readonly unit: number;
  readonly seg: number;
  readonly ram: Ram;
  readonly events: EventStream;
  /** Called when the unit raises its MSI. The machine connects it. */
  onMsi: (() => void) | undefined = undefined;
  /** A unit whose fetch engine is stuck: commands wait until `resume()`. */
  stalled = false;
  /** QEMU's unit, up to 7.2 at least, blocks requests without logging them. */
  logsRequests = true;

  readonly regs = new Int32Array(REG_WORDS);
  /** CONTROL.IommuEn, which every request asks for. */
  enabled = false;
  /** The command ring as its base register describes it: first frame, bytes. */
  cmdBase = 0;
  cmdBytes = 16;
  /** STATUS.CmdBufRun. */
  cmdRunning = false;
  /** The exclusion range is on. */
  exclusion = false;

  readonly dteCache = new Int32Array(DTE_CACHE.ENTRIES << DTE_CACHE.SHIFT);
  readonly irtCache = new Int32Array(IRT_CACHE.ENTRIES * IRT_CACHE.WORDS);
  readonly tlb = new Int32Array((TLB.SETS * TLB.WAYS) << TLB.SHIFT);
  /** Next way to replace, by set. */
  readonly victim = new Uint8Array(TLB.SETS);
  /** Slot of each domain id seen, and by slot: the current generation, and whether pieces of superpages are cached. */
  readonly slots = new Map<number, number>();
  gens = new Int32Array(16);
  domids = new Int32Array(16);
  super = new Uint8Array(16);
  nextGen = 1;
  /** Result of the last walk: frame (low, high), permissions, order; on failure the event flags. */
  readonly walked = new Int32Array(5);

  constructor(options: AmdIommuOptions) {
    this.unit = options.unit;
    this.seg = options.seg;
    this.ram = options.ram;
    this.events = options.events;
    const at = regWord(AMD_REG.EXT_FEATURE);
    this.regs[at] = options.features[0];
    this.regs[at + 1] = options.features[1];
  }

  /** Low word of a 64-bit register. */
  lo(offset: number): number {
    return this.regs[regWord(offset)]!;
  }
  hi(offset: number): number {
    return this.regs[regWord(offset) + 1]!;
  }
  setLo(offset: number, value: number): void {
    this.regs[regWord(offset)] = value;
  }
  /** Bits 51:12 of a base register, as a frame. */
  frame(offset: number): number {
    return (this.hi(offset) & 0xf_ffff) * 0x10_0000 + (this.lo(offset) >>> 12);
  }
}
