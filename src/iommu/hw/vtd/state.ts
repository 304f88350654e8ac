/**
 * The state of one VT-d chip: registers, what they latched, and the caches. Everything hardware remembers is here, in
 * a few typed arrays and plain fields; the functions beside this file act on it.
 *
 * The caches live in one array, so that a translation that hits touches one object. IOTLB entries carry no domain id
 * but a stamp that stands for (domain id, generation): forgetting a whole domain is one new stamp, and a lookup
 * compares two words whatever the domain.
 */
import { notSo } from '../../../base/assert.js';
import { get } from '../../../base/layout.js';
import type { Clock } from '../../../sim/clock.js';
import type { EventStream } from '../../../sim/events.js';
import type { Ram } from '../../../sim/ram.js';
import type { Copies, CopiesItself, OwnCopy } from '../../../sim/snapshot_copies.js';
import { CAP, ECAP } from '../../format/vtd.js';
import { capabilityProblem } from '../../format/vtd_caps.js';
import type { VtdOptions } from './caps.js';
import { deviates } from './quirks.js';

/**
 * IOTLB, from word 0 of the cache array: sets of four ways, 16 words each: four page numbers, four stamps, four
 * frames, four metas (see translate.ts).
 */
export const TLB_SETS = 256;
export const TLB_SET_WORDS = 16;
/** Context cache, direct mapped by requester id: tag, index of the domain's stamp, table frame, info. */
export const CC_AT = TLB_SETS * TLB_SET_WORDS;
export const CC_ENTRIES = 256;
export const CC_WORDS = 4;
/** Bit above the 16-bit requester id in a valid tag. */
export const CC_VALID = 0x1_0000;
/** Domain id of each context cache entry, 0 for one without (VT-d 6.2.2.1). */
export const CC_DID_AT = CC_AT + CC_ENTRIES * CC_WORDS;
/** The way of each IOTLB set that is replaced next. */
export const VICTIM_AT = CC_DID_AT + CC_ENTRIES;
/** Index of the stamp of no domain: it is in no IOTLB entry. The stamps of domains follow. */
export const NO_STAMP = VICTIM_AT + TLB_SETS;

export const IEC_ENTRIES = 64;
/** Tag, then the four words of the entry. */
export const IEC_WORDS = 5;

/** What all units have until they cache something: machines are made more often than they run for long. */
const EMPTY_CACHE = new Int32Array(NO_STAMP + 1);
EMPTY_CACHE[NO_STAMP] = -1;
const NO_STAMPS = new Int32Array(256);
const EMPTY_IEC = new Int32Array(IEC_ENTRIES * IEC_WORDS);

/** Outcome of reading a context entry; a scratch pad, so that nothing is allocated. */
export class ContextResult {
  /** 0, or the fault reason. */
  reason = 0;
  /** Index of the domain's stamp. */
  stamp = NO_STAMP;
  root = 0;
  info = 0;
  did = 0;
}
/** Outcome of a page walk or an IOTLB hit; a scratch pad. */
export class WalkResult {
  /** 0, or the fault reason. */
  reason = 0;
  /** Low and high part of the page's first frame, 32 and 8 bits. */
  frameLo = 0;
  frameHi = 0;
  /** Readable 1, writable 2: over all levels. */
  perm = 0;
  /** 0: 4 KiB, 1: 2 MiB, 2: 1 GiB. */
  size = 0;
  /** The IOTLB itself refused: an entry was there and lacked the permission. */
  refusedByCache = false;
}

/** By what they depend on: units mostly have the same ones, and nobody writes to them. */
const knownReserved = new Map<number, Int32Array>();

/** Reserved bits of second-level entries (9.8): what QEMU and the manual agree on, level by level. */
function reservedOf(
  beyondHaw: number,
  pageSizes: number,
  snoopControl: boolean,
  transient: boolean,
): Int32Array {
  const addrHi = beyondHaw & 0xf_ffff;
  const key = addrHi | (pageSizes << 20) | (snoopControl ? 1 << 24 : 0) | (transient ? 1 << 25 : 0);
  const found = knownReserved.get(key);
  if (found !== undefined) return found;
  const r = new Int32Array(24);
  const tm = 0x4000_0000;
  const snp = 0x800;
  const ps = 0x80;
  for (let level = 1; level <= 5; level++) {
    const large = level === 2 || level === 3;
    const mayBeLeaf = level === 1 || (large && (pageSizes >> (level - 2)) % 2 === 1);
    r[level * 2] = snp | (level >= 4 ? ps : 0);
    r[level * 2 + 1] = addrHi | tm;
    const low = level === 2 ? 0x001f_f000 : level === 3 ? 0x3fff_f000 : 0;
    r[12 + level * 2] = (snoopControl ? 0 : snp) | low | (mayBeLeaf ? 0 : ps);
    r[12 + level * 2 + 1] = addrHi | (transient ? 0 : tm);
  }
  knownReserved.set(key, r);
  return r;
}

/** Where the log of faults lies that software set, how many records it has, and the next one of them. */
export class FaultLog {
  /** Faults go there, and not into registers. */
  on = false;
  frame = 0;
  records = 0;
  at = 0;
}

/** Host address width. Firmware may claim anything; no host has less than 32 or more than 52 bits. */
export const hawBits = (opts: VtdOptions): number => Math.min(Math.max(opts.haw, 32), 52);

/** What an interrupt of the unit itself is about: a fault, or a wait descriptor with IF. */
export type UnitInterrupt = 'fault' | 'completion';

/** Byte offset of the first fault record. */
function faultRecords(caps: Int32Array): number {
  return (get(caps, 0, CAP.FRO_HI) * 256 + get(caps, 0, CAP.FRO_LO)) * 16;
}

/** Bytes of the register page that are used: up to the last fault record, or the IOTLB registers. */
function registerBytes(opts: VtdOptions): number {
  const caps = Int32Array.of(opts.cap[0], opts.cap[1], opts.ecap[0], opts.ecap[1]);
  return Math.max(faultRecords(caps) + (get(caps, 0, CAP.NFR) + 1) * 16, get(caps, 2, ECAP.IRO) * 16 + 16);
}

export class VtdState implements CopiesItself {
  // What the queue and translations read comes first: V8 keeps what it has read of the first thirty fields only.
  /** The register page as far as it is used, one word a register. */
  readonly regs = new Int32Array(registerBytes(this.opts) / 4);
  /** IOTLB, context cache and stamps; grows when domain ids of a new range are seen. Nobody fills EMPTY_CACHE. */
  cache = EMPTY_CACHE;
  ccUsed = false;
  /** Page sizes that may be cached: bit 0 4 KiB, bit 1 2 MiB, bit 2 1 GiB. 0: the IOTLB is empty. */
  tlbSizes = 0;
  /** Index of the first of 256 stamps that share bits 15:8 of the domain id, 0 while none of them was seen. */
  stampDir = NO_STAMPS;
  nextStamp = 1;

  /** Where the queue lies and how long it is, 0 while it is off, and the offset up to which descriptors are fetched. */
  queueFrame = 0;
  queueBytes = 0;
  /** Byte of RAM's words at which a queue of one page lies, 0 unless drainPair() may look there. */
  queueAt = 0;
  fetchedTo = 0;
  latencyNs = this.opts.latencyNs ?? 0;
  /** A slow unit has a descriptor in work. */
  draining = false;
  /** Address of the status that a wait wrote last, as its descriptor has it, and the index into RAM's words. */
  statusLo = -1;
  statusHi = -1;
  statusAt = -1;
  /** Type of the descriptor fetched last. */
  lastType = 0;
  /** Devices take their time: a wait behind a request to one of them is not done until `devicesAnswer()`. */
  devicesBusy = false;
  /** A request to a device is out since they are busy. */
  awaitsDevice = false;

  /** Memory as walks of root, context, page and interrupt tables see it; the queue is always coherent. */
  readonly tables: Ram;
  readonly index: number;
  readonly segment: number;
  /** Byte offset and number of the fault recording registers, byte offset of the IOTLB registers. */
  readonly fro: number;
  readonly records: number;
  readonly iro: number;
  readonly collapseFaults: boolean;

  // What a few capability bits allow, unpacked once.
  /** Caching mode: what is absent or malformed is cached too (6.1). */
  readonly keepsAbsent: boolean;
  readonly sagaw: number;
  readonly mgawBits: number;
  readonly passThrough: boolean;
  readonly deviceTlbs: boolean;
  readonly namesPhysical: boolean;
  /** Writes of the CPU may wait in buffers of the root complex until they are flushed. */
  readonly writeBuffer: boolean;
  readonly intRemap: boolean;
  readonly queued: boolean;
  readonly eim: boolean;
  readonly pageSelective: boolean;
  readonly scalableMode: boolean;
  readonly firstLevel: boolean;
  readonly firstLevel1G: boolean;
  readonly secondLevelScalable: boolean;
  readonly protectsLow: boolean;
  readonly protectsHigh: boolean;
  /** Reads of no bytes may go to pages that can only be written. */
  readonly zeroLengthReads: boolean;
  /** Setting a root table, or a table of interrupts, makes the unit forget what it cached of the last one. */
  readonly forgetsWithRoot: boolean;
  readonly forgetsWithInterruptTable: boolean;
  /** Bits of a context entry's upper word that are reserved: those of a domain id which the unit does not have, too. */
  readonly contextReserved: number;
  /** Version 6 ended invalidation by register. */
  readonly registerInvalidation: boolean;
  /** Bits of a domain id that the unit looks at. */
  readonly didMask: number;
  /** Largest address mask of a page-selective invalidation. */
  readonly mamv: number;
  /** Reserved bits: for level l, words 2l and 2l+1 of a pointing entry, and 12 further of a leaf. */
  readonly reserved: Int32Array;
  /** Bits of an address's high word that lie beyond the host address width. */
  readonly beyondHaw: number;
  /** Tables at or above this frame cannot be read. */
  readonly tableLimit: number;
  /** Bits of a second-level entry that send a walk off the fast path: reserved ones, and frames of 2^31 and above. */
  readonly oddHi: number;
  readonly oddLeafLo: number;

  // What GCMD switched on or latched.
  te = false;
  ire = false;
  qie = false;
  /** Interrupts in compatibility format pass (CFI). */
  compatPass = false;
  rootFrame = 0;
  irFrame = 0;
  irEntries = 0;
  irX2apic = false;

  /** Interrupt entry cache: direct mapped, tag (index + 1) and the entry. */
  iec = EMPTY_IEC;

  /** Next fault record to be used. */
  faultAt = 0;
  /** Last address written to IVA. */
  ivaLo = 0;
  ivaHi = 0;
  /** Source id and function mask last written to CCMD. */
  ccmdSid = 0;
  ccmdFm = 0;
  /** Root table latched for scalable mode (RTADDR.TTM). */
  scalable = false;
  /** Root table latched with a mode that the unit does not have: every request faults. */
  modeless = false;
  /** Bytes of a descriptor: 16, or 32 with IQA.DW. */
  descriptorBytes = 16;
  /** Protected memory is enabled. */
  protects = false;
  /** Advanced fault logging, once software asked for it. */
  faultLog: FaultLog | undefined = undefined;

  readonly ctx = new ContextResult();
  readonly walk = new WalkResult();

  /** Set by the machine: a message-signalled interrupt of this unit; an x2APIC id has its bits 31:8 in `addrHi`. */
  onInterrupt: (kind: UnitInterrupt, addrLo: number, data: number, addrHi: number) => void = () => {};
  /** Set by the machine: tells a device to forget `frames` translations from `dfn`; false when it does not answer. */
  onDeviceTlb: (rid: number, dfn: number, frames: number) => boolean = () => true;

  constructor(
    readonly ram: Ram,
    readonly events: EventStream,
    readonly clock: Clock,
    readonly opts: VtdOptions,
  ) {
    this.tables = opts.unsnooped === true || opts.buffered === true ? ram.withUnsnooped() : ram;
    this.index = opts.index;
    this.segment = opts.segment;
    const caps = Int32Array.of(opts.cap[0], opts.cap[1], opts.ecap[0], opts.ecap[1]);
    this.fro = faultRecords(caps);
    this.records = get(caps, 0, CAP.NFR) + 1;
    this.iro = get(caps, 2, ECAP.IRO) * 16;
    const problem = capabilityProblem(opts.cap, opts.ecap);
    if (problem !== undefined) notSo(`a unit is sound: ${problem}`);
    this.collapseFaults = opts.collapseFaults ?? false;
    this.keepsAbsent = get(caps, 0, CAP.CM) === 1 && !deviates(this, 'absent-is-not-cached');
    this.sagaw = get(caps, 0, CAP.SAGAW);
    this.mgawBits = get(caps, 0, CAP.MGAW) + 1;
    this.passThrough = get(caps, 2, ECAP.PT) === 1;
    this.deviceTlbs = get(caps, 2, ECAP.DT) === 1;
    this.intRemap = get(caps, 2, ECAP.IR) === 1;
    this.queued = get(caps, 2, ECAP.QI) === 1;
    this.eim = get(caps, 2, ECAP.EIM) === 1;
    this.pageSelective = get(caps, 0, CAP.PSI) === 1;
    this.scalableMode = get(caps, 2, ECAP.SMTS) === 1;
    this.firstLevel = get(caps, 2, ECAP.FLTS) === 1;
    this.secondLevelScalable = get(caps, 2, ECAP.SLTS) === 1;
    this.firstLevel1G = get(caps, 0, CAP.FL1GP) === 1;
    this.namesPhysical = get(caps, 2, ECAP.DIT) === 1;
    this.writeBuffer = get(caps, 0, CAP.RWBF) === 1;
    this.protectsLow = get(caps, 0, CAP.PLMR) === 1;
    this.protectsHigh = get(caps, 0, CAP.PHMR) === 1;
    this.zeroLengthReads = get(caps, 0, CAP.ZLR) === 1;
    this.forgetsWithRoot = get(caps, 0, CAP.ESRTPS) === 1;
    this.forgetsWithInterruptTable = get(caps, 0, CAP.ESIRTPS) === 1;
    this.registerInvalidation = opts.version < 0x60;
    this.didMask = (1 << Math.min(4 + 2 * get(caps, 0, CAP.ND), 16)) - 1;
    this.contextReserved = 0xff00_0080 | ((0xffff & ~this.didMask) << 8);
    this.mamv = get(caps, 0, CAP.MAMV);
    this.beyondHaw = ~((1 << (hawBits(opts) - 32)) - 1);
    this.tableLimit = Math.min(ram.frames, 0x7fff_ffff);
    this.reserved = reservedOf(
      this.beyondHaw,
      get(caps, 0, CAP.SLLPS),
      get(caps, 2, ECAP.SC) === 1 || (this.scalableMode && deviates(this, 'snoop-with-scalable-mode')),
      this.deviceTlbs && deviates(this, 'transient-mapping'),
    );
    this.oddHi = this.reserved[3]! | this.reserved[15]! | 0xf_f800;
    this.oddLeafLo = this.reserved[14]!;
  }

  /** Index of a domain's stamp, NO_STAMP while it has none. Bits that the unit's ids do not have are passed over. */
  findStamp(did: number): number {
    const first = this.stampDir[did >>> 8]!;
    return first === 0 ? this.findUnseen(did) : first + (did & 0xff);
  }
  private findUnseen(did: number): number {
    return did > this.didMask ? this.findStamp(did & this.didMask) : NO_STAMP;
  }

  /** Index of a domain's stamp; makes one for it and its 255 neighbours on first sight. */
  stampOf(did: number): number {
    if (this.stampDir[did >>> 8] === 0) {
      const first = this.cache.length;
      const grown = new Int32Array(first + 256);
      grown.set(this.cache);
      for (let i = 0; i < 256; i++) grown[first + i] = this.nextStamp++;
      this.cache = grown;
      if (this.stampDir === NO_STAMPS) this.stampDir = new Int32Array(256);
      this.stampDir[did >>> 8] = first;
    }
    return this.stampDir[did >>> 8]! + (did & 0xff);
  }

  /** A cache that may be filled. */
  ownCache(): Int32Array {
    if (this.cache === EMPTY_CACHE) this.cache = EMPTY_CACHE.slice();
    return this.cache;
  }

  /** An interrupt entry cache that may be filled. */
  ownIec(): Int32Array {
    if (this.iec === EMPTY_IEC) this.iec = EMPTY_IEC.slice();
    return this.iec;
  }

  copyItself(): OwnCopy {
    // Nobody writes to `reserved` once it is made.
    return { words: [this.cache, NO_STAMPS, EMPTY_IEC, this.reserved], copy: new CacheCopy(this) };
  }
}

/** The caches in a snapshot. Most machines are copied and restored with empty ones, and those are empty already. */
class CacheCopy implements Copies {
  readonly size = 1;
  private readonly target: Int32Array;
  private readonly tlb: Int32Array | undefined;
  private readonly contexts: Int32Array | undefined;
  private readonly others: Int32Array;
  constructor(private readonly s: VtdState) {
    this.target = s.cache;
    this.tlb = s.tlbSizes === 0 ? undefined : s.cache.slice(0, CC_AT);
    this.contexts = s.ccUsed ? s.cache.slice(CC_AT, CC_DID_AT) : undefined;
    this.others = s.cache.slice(CC_DID_AT);
  }
  restore(): void {
    const { s, target } = this;
    const replaced = s.cache !== target;
    if (this.tlb !== undefined) target.set(this.tlb);
    else if (target !== EMPTY_CACHE && (replaced || s.tlbSizes !== 0)) target.fill(0, 0, CC_AT);
    if (this.contexts !== undefined) target.set(this.contexts, CC_AT);
    else if (target !== EMPTY_CACHE && (replaced || s.ccUsed)) target.fill(0, CC_AT, CC_DID_AT);
    if (target !== EMPTY_CACHE) target.set(this.others, CC_DID_AT);
  }
}
