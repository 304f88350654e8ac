/**
 * DMA translation in legacy mode (VT-d chapters 3 and 9): requester id and bus frame in, machine frame out.
 * This is the data plane: plain functions on typed arrays, masks written by hand (a test compares them with the
 * layouts in iommu/format), no allocation. Page numbers of up to 45 bits are a low word and a high part.
 */
import { FR, FR_SM, PROTECTED } from '../../format/vtd.js';
import { recordFault } from './faults.js';
import { isProtected } from './protection.js';
import { deviates } from './quirks.js';
import { readScalable, scalableReason, walkFirstLevel } from './scalable.js';
import { hawBits, type VtdState } from './state.js';

// Bits of root and context entries.
const P = 0x1;
const FPD = 0x2;
const TT_SHIFT = 2;
const CONTEXT_RSVD_LO = 0xff0;
const ROOT_RSVD_LO = 0xffe;
const AW = 0x7;
const DID_SHIFT = 8;
// Bits of second-level entries.
const R = 0x1;
const W = 0x2;
const PS = 0x80;
const FRAME_HI = 0xf_ffff;

// Info word of a context cache entry: levels 2:0, kind 4:3, FPD 5, bits of a frame number 11:6, fault reason 19:12.
const LEVELS = 0x7;
const KIND = 0x18;
const KIND_PASS = 0x8;
const KIND_FAULT = 0x10;
const KIND_FIRST = 0x18;
const INFO_FPD = 0x20;
const INFO_ATS = 0x10_0000;

// Meta word of an IOTLB entry: permission 1:0, size 3:2, negative 4, page number's high part 17:5, wide 18 (the frame
// does not fit 31 bits), frame's high part 26:19 (of a negative entry: the fault reason), first-level 27.
const SIZE_SHIFT = 2;
const NEGATIVE = 0x10;
const PAGE_HI_SHIFT = 5;
const WIDE = 0x4_0000;
const FRAME_HI_SHIFT = 19;
/** Of a way's meta word: the page was found in first-level tables. */
export const FIRST_LEVEL = 0x800_0000;
/** What must agree beside page number and stamp for a plain 4 KiB hit, and for one of any kind. */
const KEY = 0x7_fffc;
const ANY_KEY = 0x3_ffec;

// The layout of the cache array again (see state.ts): a constant of another module costs a load wherever it is used.
const CC_AT = 4096;
const CC_VALID = 0x1_0000;
const CC_DID_AT = 5120;
const VICTIM_AT = 5376;
const NO_STAMP = 5632;
const TWO32 = 0x1_0000_0000;

/** The masks above, for the test that compares them with the layouts. */
export const HAND_MASKS = {
  P,
  FPD,
  TT_SHIFT,
  CONTEXT_RSVD_LO,
  ROOT_RSVD_LO,
  AW,
  DID_SHIFT,
  R,
  W,
  PS,
  CC_AT,
  CC_VALID,
  CC_DID_AT,
  VICTIM_AT,
  NO_STAMP,
} as const;

/**
 * Machine frame that a DMA of requester `rid` to bus frame `dfn` reaches, or the negative fault reason, after the
 * fault was recorded. Without translation (GSTS.TES clear) every frame that is not protected is its own.
 */
export function translate(s: VtdState, rid: number, dfn: number, write: boolean): number {
  if (!s.te) return unlessProtected(s, dfn);
  const m = s.cache;
  const c = CC_AT + (((rid ^ (rid >>> 8)) & 0xff) << 2);
  if (m[c] === (rid | CC_VALID)) {
    const at = m[c + 1]!;
    const stamp = m[at]!;
    const lo = dfn | 0;
    const want = (lo === dfn ? 0 : ((dfn / TWO32) | 0) << PAGE_HI_SHIFT) | (write ? W : R);
    const set = ((lo ^ (lo >>> 8) ^ at) & 0xff) << 4;
    let way = set;
    if (m[set] !== lo || m[set + 4] !== stamp) {
      if (m[set + 1] === lo && m[set + 5] === stamp) way = set + 1;
      else if (m[set + 2] === lo && m[set + 6] === stamp) way = set + 2;
      else if (m[set + 3] === lo && m[set + 7] === stamp) way = set + 3;
      else return missed(s, rid, dfn, write, c);
    }
    if ((m[way + 12]! & (KEY | want)) === want) return m[way + 8]!;
  }
  return translateSlowly(s, rid, dfn, write);
}

/** Index of the entry for `page`, of which the lowest nine bits count; that of one that is absent, outside memory. */
function entryIn(slots: Int32Array, pieces: Int32Array, table: number, limit: number, page: number): number {
  if (table >= limit) return 0;
  return (slots[pieces[table >>> 10]! + (table & 1023)]! << 10) | ((page & 511) << 1);
}
/** Frame that an entry leads to, below 2^31. */
const frameIn = (lo: number, hi: number): number => ((hi & 0x7ff) << 20) | (lo >>> 12);

/**
 * A page that is not in the IOTLB as a 4 KiB page, for a requester whose context is cached: walks tables of three or
 * four levels whose entries are all plain, and leaves everything else to `resolve`. The levels are written out, and what
 * is odd at one of them is looked at in the end: in a loop V8 reads at each turn where the arrays lie.
 */
function missed(s: VtdState, rid: number, dfn: number, write: boolean, c: number): number {
  const m = s.cache;
  const lo = dfn | 0;
  const info = m[c + 3]!;
  const outside = lo >>> Math.min((info >>> 6) & 0x3f, 31);
  if (lo !== dfn || outside !== 0 || (info & KIND) !== 0 || s.tlbSizes > 1)
    return translateSlowly(s, rid, dfn, write);
  const { words, pieces, slots } = s.tables;
  const limit = Math.min(s.tableLimit, pieces.length << 10);
  const need = write ? W : R;
  const pointing = need | NOT_PLAIN;
  const oddHi = s.oddHi;
  let odd = (info & LEVELS) ^ 3;
  let perm = -1;
  let table = m[c + 2]!;
  if ((info & LEVELS) === 4) {
    const top = entryIn(slots, pieces, table, limit, lo >>> 27);
    const topLo = words[top]!;
    const topHi = words[top + 1]!;
    odd = ((topLo & pointing) ^ need) | (topHi & oddHi);
    perm = topLo;
    table = frameIn(topLo, topHi);
  }
  const upper = entryIn(slots, pieces, table, limit, lo >>> 18);
  const upperLo = words[upper]!;
  const upperHi = words[upper + 1]!;
  const middle = entryIn(slots, pieces, frameIn(upperLo, upperHi), limit, lo >>> 9);
  const middleLo = words[middle]!;
  const middleHi = words[middle + 1]!;
  const leaf = entryIn(slots, pieces, frameIn(middleLo, middleHi), limit, lo);
  const leafLo = words[leaf]!;
  const leafHi = words[leaf + 1]!;
  odd |= ((upperLo & pointing) ^ need) | ((middleLo & pointing) ^ need);
  odd |= ((leafLo & (need | s.oddLeafLo)) ^ need) | ((upperHi | middleHi | leafHi) & oddHi);
  if (odd !== 0) return translateSlowly(s, rid, dfn, write);
  const frame = frameIn(leafLo, leafHi);
  if (frame >>> 8 === INTERRUPT_RANGE) return translateSlowly(s, rid, dfn, write);
  const at = m[c + 1]!;
  const set = (lo ^ (lo >>> 8) ^ at) & 0xff;
  const victim = m[VICTIM_AT + set]!;
  const way = (set << 4) | victim;
  m[VICTIM_AT + set] = (victim + 1) & 3;
  s.tlbSizes = 1;
  m[way] = lo;
  m[way + 4] = m[at]!;
  m[way + 8] = frame;
  m[way + 12] = perm & upperLo & middleLo & leafLo & (R | W);
  return frame;
}
/** Bits 31:20 of every address of the interrupt range. */
const INTERRUPT_RANGE = 0xfee;
/** Bits of a pointing entry that the fast walk does not take: page size and snoop. */
const NOT_PLAIN = 0x880;

/** A frame that is reached without tables. */
const unlessProtected = (s: VtdState, mfn: number): number =>
  s.protects && isProtected(s, mfn) ? -PROTECTED : mfn;

/** Everything else: other page sizes, faults, contexts that are not cached, addresses above 2^44. */
function translateSlowly(s: VtdState, rid: number, dfn: number, write: boolean): number {
  s.walk.refusedByCache = false;
  const found = resolve(s, rid, dfn, write, true);
  if (found >= 0 || found === -PROTECTED) return found;
  if (s.walk.refusedByCache && deviates(s, 'hit-without-permission-is-silent')) return found;
  const unhidden = found === -FR.CONTEXT_RESERVED && deviates(s, 'reserved-context-is-not-hidden');
  recordFault(s, rid, dfn, write, -found, !unhidden && contextHidesFaults(s, -found));
  return found;
}

/** What `translate` would answer now, from the same caches, without a fault record and without filling a cache. */
export function probe(s: VtdState, rid: number, dfn: number, write: boolean): number {
  return s.te ? resolve(s, rid, dfn, write, false) : unlessProtected(s, dfn);
}

/** Through the context cache, then the IOTLB, then the tables. Fills what it missed when `fill` says so. */
function resolve(s: VtdState, rid: number, dfn: number, write: boolean, fill: boolean): number {
  contextOf(s, rid, fill);
  const ctx = s.ctx;
  if (ctx.reason !== 0) return -ctx.reason;
  const info = ctx.info;
  const lo = dfn | 0;
  const hi = lo === dfn ? 0 : (dfn / TWO32) | 0;
  const bits = (info >>> 6) & 0x3f;
  const inside = bits < 32 ? hi === 0 && lo >>> bits === 0 : hi >>> (bits - 32) === 0;
  const kind = info & KIND;
  if (!inside && !(kind === KIND_PASS && deviates(s, 'pass-through-any-address')))
    return -scalableReason(s, FR.BEYOND_MGAW, kind);
  if (kind === KIND_PASS) return unlessProtected(s, dfn);
  const need = write ? W : R;
  const w = s.walk;
  if (!lookup(s, ctx.stamp, lo, hi)) fetch(s, lo, hi, need, fill);
  else if ((w.perm & need) === 0 && w.reason === 0) {
    w.refusedByCache = kind !== KIND_FIRST;
    // A first-level page that was only read was cached as such: its D bit is not set yet.
    if (kind === KIND_FIRST) {
      const stale = findWay(s, ctx.stamp, lo, hi, w.size);
      if (fill && stale >= 0) s.cache[stale + 4] = 0;
      fetch(s, lo, hi, need, fill);
    }
  }
  if (w.reason !== 0) return -scalableReason(s, w.reason, kind);
  if ((w.perm & need) === 0) return -scalableReason(s, write ? FR.WRITE : FR.READ, kind);
  const offset = w.size === 0 ? 0 : lo & (w.size === 1 ? 0x1ff : 0x3_ffff);
  if (w.frameHi === 0 && w.frameLo >= 0) return w.frameLo | offset;
  return w.frameHi * TWO32 + ((w.frameLo | offset) >>> 0);
}

/** Walks the tables of the context in `s.ctx`, and caches what is found when `fill` says so. */
function fetch(s: VtdState, lo: number, hi: number, need: number, fill: boolean): void {
  const { root, info, stamp } = s.ctx;
  const w = s.walk;
  if ((info & KIND) === KIND_FIRST) walkFirstLevel(s, root, info & LEVELS, lo, hi, need === W, fill);
  else walkTables(s, root, info & LEVELS, lo, hi, need);
  if (w.reason === 0 && touchesInterruptRange(w.frameLo, w.frameHi, w.size) && !keepsOutOfRange(s, lo)) {
    w.reason = FR.INTERRUPT_ADDR;
    w.perm = 0;
    return;
  }
  if (fill && (w.reason === 0 || (s.keepsAbsent && w.perm === 0))) {
    insert(s, stamp, lo, hi, (info & KIND) === KIND_FIRST ? FIRST_LEVEL : 0);
  }
}

/**
 * Of a large page around the interrupt range, the 4 KiB that is asked for: true when it lies beside the range. It alone
 * is left in `s.walk`, so that the cache cannot lead another request into the range.
 */
function keepsOutOfRange(s: VtdState, lo: number): boolean {
  const w = s.walk;
  if (w.size === 0 || deviates(s, 'interrupt-range-by-page')) return false;
  w.frameLo |= lo & (w.size === 1 ? 0x1ff : 0x3_ffff);
  w.size = 0;
  return w.frameLo >>> 8 !== INTERRUPT_RANGE;
}

/** A page that overlaps 0xFEE00000 to 0xFEEFFFFF: no table may lead a request there (3.14). */
const touchesInterruptRange = (frameLo: number, frameHi: number, size: number): boolean =>
  frameHi === 0 && frameLo <= 0xfeeff && frameLo >= 0 && frameLo + 512 ** size > 0xfee00;

/** Leaves the context of `rid` in `s.ctx`, from the cache or from memory. */
function contextOf(s: VtdState, rid: number, fill: boolean): void {
  const ctx = s.ctx;
  const e = (rid ^ (rid >>> 8)) & 0xff;
  const c = CC_AT + (e << 2);
  if (s.cache[c] === (rid | CC_VALID)) {
    ctx.stamp = s.cache[c + 1]!;
    ctx.root = s.cache[c + 2]!;
    ctx.info = s.cache[c + 3]!;
    ctx.reason = (ctx.info & KIND) === KIND_FAULT ? (ctx.info >>> 12) & 0xff : 0;
    return;
  }
  readContext(s, rid, fill);
  if (!fill || (ctx.reason !== 0 && !s.keepsAbsent)) return;
  const m = s.ownCache();
  m[c] = rid | CC_VALID;
  m[c + 1] = ctx.stamp;
  m[c + 2] = ctx.root;
  m[c + 3] = ctx.info | (ctx.reason !== 0 ? KIND_FAULT | (ctx.reason << 12) : 0);
  m[CC_DID_AT + e] = ctx.reason !== 0 ? 0 : ctx.did;
  s.ccUsed = true;
}

/** Root entry, then context entry, in the manual's order of checks (7.1.3). */
function readContext(s: VtdState, rid: number, fill: boolean): void {
  const ctx = s.ctx;
  ctx.stamp = NO_STAMP;
  ctx.root = 0;
  ctx.info = 0;
  ctx.did = 0;
  ctx.reason = FR.ROOT_ACCESS;
  if (s.modeless) {
    ctx.reason = FR_SM.TABLE_MODE;
    return;
  }
  if (s.scalable) {
    readScalable(s, rid);
    if (ctx.reason === 0 && (ctx.info & KIND) !== KIND_PASS)
      ctx.stamp = fill ? s.stampOf(ctx.did) : s.findStamp(ctx.did);
    return;
  }
  if (s.rootFrame >= s.tableLimit) return;
  const words = s.tables.words;
  const r = s.tables.peek(s.rootFrame) * 1024 + (rid >>> 8) * 4;
  const rootLo = words[r]!;
  const rootHi = words[r + 1]!;
  ctx.reason = FR.ROOT_NOT_PRESENT;
  if ((rootLo & P) === 0) return;
  ctx.reason = FR.ROOT_RESERVED;
  if ((rootLo & ROOT_RSVD_LO) !== 0 || (rootHi & s.beyondHaw) !== 0) return;
  if (words[r + 2] !== 0 || words[r + 3] !== 0) return;
  const table = (rootHi & FRAME_HI) * 0x10_0000 + (rootLo >>> 12);
  ctx.reason = FR.CONTEXT_ACCESS;
  if (table >= s.tableLimit) return;
  const e = s.tables.peek(table) * 1024 + (rid & 0xff) * 4;
  decodeContext(s, words[e]!, words[e + 1]!, words[e + 2]!, words[e + 3]!);
  if (ctx.reason === 0 && (ctx.info & KIND) === 0)
    ctx.stamp = fill ? s.stampOf(ctx.did) : s.findStamp(ctx.did);
}

/** Checks and unpacks the four words of a context entry (9.3). */
function decodeContext(s: VtdState, w0: number, w1: number, w2: number, w3: number): void {
  const ctx = s.ctx;
  ctx.info = (w0 & FPD) !== 0 ? INFO_FPD : 0;
  ctx.reason = FR.CONTEXT_NOT_PRESENT;
  if ((w0 & P) === 0) return;
  ctx.reason = FR.CONTEXT_RESERVED;
  if ((w0 & CONTEXT_RSVD_LO) !== 0 || (w1 & s.beyondHaw) !== 0) return;
  if ((w2 & s.contextReserved) !== 0 || w3 !== 0) return;
  ctx.reason = FR.CONTEXT_INVALID;
  const aw = w2 & AW;
  const tt = (w0 >>> TT_SHIFT) & 3;
  if (!supportsWidth(s, aw, tt === 2)) return;
  if (tt === 3 || (tt === 2 && !s.passThrough) || (tt === 1 && !s.deviceTlbs)) return;
  ctx.reason = 0;
  ctx.did = (w2 >>> DID_SHIFT) & 0xffff;
  ctx.root = Math.min((w1 & FRAME_HI) * 0x10_0000 + (w0 >>> 12), 0x7fff_ffff);
  const bits = Math.min(s.mgawBits, 30 + 9 * aw, tt === 2 ? hawBits(s.opts) : 64) - 12;
  ctx.info |= (aw + 2) | (bits << 6) | (tt === 2 ? KIND_PASS : 0) | (tt === 1 ? INFO_ATS : 0);
}

/** AW is one of SAGAW's, and where nothing is walked it is the largest of them (9.3). */
const supportsWidth = (s: VtdState, aw: number, passThrough: boolean): boolean =>
  ((s.sagaw >> aw) & 1) === 1 &&
  (!passThrough || s.sagaw >> (aw + 1) === 0 || deviates(s, 'pass-through-any-width'));

/** True when the context in `s.ctx` lets the device keep translations of its own. */
export const contextAllowsAts = (s: VtdState): boolean => (s.ctx.info & INFO_ATS) !== 0;
/** Leaves the context of `rid` in `s.ctx` and says 0, or the fault reason. */
export function context(s: VtdState, rid: number, fill: boolean): number {
  contextOf(s, rid, fill);
  return s.ctx.reason;
}
/** A fault under the context in `s.ctx` is not to be recorded. Tables that memory does not answer for always are. */
export const contextHidesFaults = (s: VtdState, reason: number): boolean =>
  (s.ctx.info & INFO_FPD) !== 0 && reason !== FR_SM.DIRECTORY_ACCESS && reason !== FR_SM.PASID_ACCESS;

/** Finds a cached translation of any size, or a cached fault; leaves it in `s.walk`. */
function lookup(s: VtdState, at: number, lo: number, hi: number): boolean {
  let way = findWay(s, at, lo, hi, 0);
  if (way < 0 && (s.tlbSizes & 2) !== 0) way = findWay(s, at, (lo >>> 9) | (hi << 23), hi >>> 9, 1);
  // No page number has more than 45 bits.
  if (way < 0 && (s.tlbSizes & 4) !== 0) way = findWay(s, at, (lo >>> 18) | (hi << 14), 0, 2);
  if (way < 0) return false;
  const w = s.walk;
  const meta = s.cache[way + 12]!;
  const high = (meta >>> FRAME_HI_SHIFT) & 0xff;
  const negative = (meta & NEGATIVE) !== 0;
  w.perm = meta & 3;
  w.size = (meta >>> SIZE_SHIFT) & 3;
  w.frameLo = s.cache[way + 8]!;
  w.frameHi = negative ? 0 : high;
  // A cached "not permitted" has reason 0: it depends on the request.
  w.reason = negative ? high : 0;
  return true;
}

/** Index of the way that holds a page of one size, -1 when none does. `lo` and `hi` count pages of that size. */
export function findWay(s: VtdState, at: number, lo: number, hi: number, size: number): number {
  const m = s.cache;
  const stamp = m[at]!;
  const set = ((lo ^ (lo >>> 8) ^ at) & 0xff) << 4;
  const key = (hi << PAGE_HI_SHIFT) | (size << SIZE_SHIFT);
  for (let way = set; way < set + 4; way++) {
    if (m[way] === lo && m[way + 4] === stamp && (m[way + 12]! & ANY_KEY) === key) return way;
  }
  return -1;
}

/**
 * Second-level walk from `root` (9.8). A level that lacks the permission asked for ends it with reason 5 or 6,
 * before its reserved bits are looked at; permissions of all levels are combined.
 */
function walkTables(s: VtdState, root: number, levels: number, lo: number, hi: number, need: number): void {
  const w = s.walk;
  const ram = s.tables;
  const words = ram.words;
  const pieces = ram.pieces;
  const slots = ram.slots;
  const reserved = s.reserved;
  const limit = s.tableLimit;
  let table = root;
  let perm = R | W;
  w.size = 0;
  w.perm = 0;
  w.frameLo = 0;
  w.frameHi = 0;
  for (let level = levels; ; level--) {
    if (table >= limit) {
      // The first table is named by the context entry, which then is what is wrong (7.1.3).
      w.reason = level === levels ? FR.CONTEXT_INVALID : FR.TABLE_ACCESS;
      return;
    }
    let index = level === 5 ? hi >>> 4 : lo >>> (9 * (level - 1));
    if (level === 4) index |= hi << 5;
    const piece = table >>> 10;
    const slot = piece < pieces.length ? slots[pieces[piece]! + (table & 1023)]! : 0;
    const at = (slot << 10) + ((index & 511) << 1);
    const elo = words[at]!;
    const ehi = words[at + 1]!;
    if ((elo & need) === 0) {
      w.reason = need === W ? FR.WRITE : FR.READ;
      w.perm = perm & elo;
      return;
    }
    perm &= elo;
    const leaf = level === 1 || ((elo & PS) !== 0 && level <= 3);
    const mask = leaf ? 12 + level * 2 : level * 2;
    if (((elo & reserved[mask]!) | (ehi & reserved[mask + 1]!)) !== 0) {
      w.reason = FR.PTE_RESERVED;
      return;
    }
    const frameHi = ehi & FRAME_HI;
    if (leaf) {
      w.reason = 0;
      w.perm = perm;
      w.size = level - 1;
      w.frameLo = (frameHi << 20) | (elo >>> 12);
      w.frameHi = frameHi >>> 12;
      return;
    }
    table = frameHi < 0x800 ? (frameHi << 20) | (elo >>> 12) : 0x7fff_ffff;
  }
}

/** Caches what `s.walk` holds: a translation, or (with caching mode, 6.1) that the page is absent or malformed. */
function insert(s: VtdState, at: number, lo: number, hi: number, origin: number): void {
  const w = s.walk;
  const size = w.reason === 0 ? w.size : 0;
  let pageLo = lo;
  let pageHi = hi;
  if (size === 1) {
    pageLo = (lo >>> 9) | (hi << 23);
    pageHi = hi >>> 9;
  } else if (size === 2) {
    pageLo = (lo >>> 18) | (hi << 14);
    pageHi = hi >>> 18;
  }
  const m = s.ownCache();
  const set = (pageLo ^ (pageLo >>> 8) ^ at) & 0xff;
  const way = (set << 4) + m[VICTIM_AT + set]!;
  m[VICTIM_AT + set] = (m[VICTIM_AT + set]! + 1) & 3;
  s.tlbSizes |= 1 << size;
  m[way] = pageLo;
  m[way + 4] = m[at]!;
  m[way + 8] = w.frameLo;
  // A refusal for want of permission is cached without a reason: another kind of access has another one.
  const kept = w.reason === FR.READ || w.reason === FR.WRITE ? 0 : w.reason;
  const wide = w.frameHi !== 0 || w.frameLo < 0 ? WIDE | (w.frameHi << FRAME_HI_SHIFT) : 0;
  m[way + 12] =
    origin |
    (pageHi << PAGE_HI_SHIFT) |
    (size << SIZE_SHIFT) |
    (w.reason === 0 ? w.perm | wide : NEGATIVE | (kept << FRAME_HI_SHIFT));
}
