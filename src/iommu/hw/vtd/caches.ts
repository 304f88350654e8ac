/**
 * Invalidation of the context cache, the IOTLB and the interrupt entry cache (VT-d 6.2, 6.5). Each forgets exactly what
 * it is asked to forget, as hardware is allowed to: what software did not invalidate stays and is used.
 */
import { deviates } from './quirks.js';
import {
  CC_AT,
  CC_DID_AT,
  CC_ENTRIES,
  CC_VALID,
  CC_WORDS,
  IEC_ENTRIES,
  IEC_WORDS,
  NO_STAMP,
  TLB_SET_WORDS,
  TLB_SETS,
  type VtdState,
} from './state.js';
import { FIRST_LEVEL, findWay } from './translate.js';

/** Pages up to this number are looked up one by one; for more, the whole IOTLB is looked through. */
const PROBE_MAX = 8;

/** Tells whoever listens what the unit did. */
export function tell(s: VtdState, what: string, ...args: number[]): void {
  s.events.emit({ kind: 'hw', unit: s.index, what, args });
}

export function contextGlobal(s: VtdState): void {
  if (s.events.on) tell(s, 'contextGlobal');
  if (!s.ccUsed) return;
  s.cache.fill(0, CC_AT, CC_DID_AT);
  s.ccUsed = false;
}

export function contextDomain(s: VtdState, did: number): void {
  if (s.events.on) tell(s, 'contextDomain', did);
  const id = did & s.didMask;
  for (let e = 0; e < CC_ENTRIES; e++) if (s.cache[CC_DID_AT + e] === id) s.cache[CC_AT + e * CC_WORDS] = 0;
}

/**
 * The entries of one requester, or of the functions that `fm` masks out, *within the domain* (11.4.6.1): an entry that
 * was cached with another domain id stays.
 */
export function contextDevice(s: VtdState, did: number, sid: number, fm: number): void {
  if (s.events.on) tell(s, 'contextDevice', did, sid, fm);
  forgetContext(s, did, sid);
  if (fm !== 0) forgetNeighbours(s, did, sid, fm);
}

function forgetNeighbours(s: VtdState, did: number, sid: number, fm: number): void {
  const ignored = fm === 1 ? 4 : fm === 2 ? 6 : 7;
  for (let fn = 0; fn < 8; fn++) if ((fn & ~ignored) === 0) forgetContext(s, did, (sid & ~ignored) | fn);
}

function forgetContext(s: VtdState, did: number, rid: number): void {
  const m = s.cache;
  const e = (rid ^ (rid >>> 8)) & (CC_ENTRIES - 1);
  const at = CC_AT + e * CC_WORDS;
  if (m[at]! !== (rid | CC_VALID)) return;
  const cached = m[CC_DID_AT + e]!;
  const ignored = s.scalable || deviates(s, 'context-device-ignores-domain');
  if (cached === did || cached === (did & s.didMask) || ignored) m[at] = 0;
}

export function iotlbGlobal(s: VtdState): void {
  if (s.events.on) tell(s, 'iotlbGlobal');
  wipe(s);
}

function wipe(s: VtdState): void {
  if (s.tlbSizes === 0) return;
  s.cache.fill(0, 0, CC_AT);
  s.tlbSizes = 0;
}

export function iotlbDomain(s: VtdState, did: number): void {
  if (s.events.on) tell(s, 'iotlbDomain', did);
  // Of an empty IOTLB there is nothing to forget.
  if (s.tlbSizes !== 0) renewStamp(s, did);
}

/** A new stamp for the domain: its old entries match nothing any more. */
function renewStamp(s: VtdState, did: number): void {
  const at = s.findStamp(did);
  if (at === NO_STAMP) return;
  if (s.nextStamp === 0x7fff_ffff) renumber(s);
  s.cache[at] = s.nextStamp++;
}

/** Stamps are about to run out: forget everything, which hardware always may, and count from one again. */
function renumber(s: VtdState): void {
  wipe(s);
  s.nextStamp = 1;
  for (let at = NO_STAMP + 1; at < s.cache.length; at++) s.cache[at] = s.nextStamp++;
}

/**
 * The pages of one domain that overlap 2^am frames from `dfn`, whatever their size; of first-level pages, whose
 * addresses software does not name this way, all of the domain (6.5.2.3).
 */
export function iotlbPages(s: VtdState, did: number, dfn: number, am: number): void {
  const frames = am < 31 ? 1 << am : 2 ** am;
  const first = am === 0 ? dfn : dfn - (dfn % frames);
  if (s.events.on) tell(s, 'iotlbPages', did, first, am);
  const at = s.findStamp(did);
  if (at === NO_STAMP || s.tlbSizes === 0) return;
  if (s.scalable && s.firstLevel) forgetFirstLevel(s, at);
  if (deviates(s, 'page-flush-compares-8-bits')) {
    forgetLowBits(s, at, dfn, am);
    return;
  }
  if (frames > PROBE_MAX) {
    forgetRange(s, at, first, frames);
    return;
  }
  for (let page = first; page < first + frames; page++) forgetPage(s, at, page, 0);
  if ((s.tlbSizes & 2) !== 0) forgetPage(s, at, Math.floor(first / 512), 1);
  if ((s.tlbSizes & 4) !== 0) forgetPage(s, at, Math.floor(first / 262_144), 2);
}

function forgetFirstLevel(s: VtdState, at: number): void {
  const m = s.cache;
  for (let set = 0; set < TLB_SETS; set++) {
    for (let way = set * TLB_SET_WORDS; way < set * TLB_SET_WORDS + 4; way++) {
      if (m[way + 4] === m[at] && (m[way + 12]! & FIRST_LEVEL) !== 0) m[way + 4] = 0;
    }
  }
}

/** As QEMU before 9.2: only bits 7:0 of page numbers are compared, so pages are forgotten that nobody named. */
function forgetLowBits(s: VtdState, at: number, dfn: number, am: number): void {
  const mask = am >= 8 ? 0 : (~((1 << am) - 1) & 0xff) >>> 0;
  for (let set = 0; set < TLB_SETS; set++) {
    for (let way = set * TLB_SET_WORDS; way < set * TLB_SET_WORDS + 4; way++) {
      if (s.cache[way + 4] !== s.cache[at]) continue;
      const frames = wayFrames(s, way);
      const first = wayPage(s, way) * frames;
      const same = ((first % 256) & mask) === ((dfn % 256) & mask);
      if (same || (dfn >= first && dfn < first + frames)) s.cache[way + 4] = 0;
    }
  }
}

function forgetPage(s: VtdState, at: number, page: number, size: number): void {
  const lo = page | 0;
  const hi = lo === page ? 0 : Math.floor(page / 0x1_0000_0000);
  for (let way = findWay(s, at, lo, hi, size); way >= 0; way = findWay(s, at, lo, hi, size)) {
    s.cache[way + 4] = 0;
  }
}

function forgetRange(s: VtdState, at: number, first: number, frames: number): void {
  const m = s.cache;
  for (let set = 0; set < TLB_SETS; set++) {
    for (let way = set * TLB_SET_WORDS; way < set * TLB_SET_WORDS + 4; way++) {
      if (m[way + 4] !== m[at]) continue;
      const size = wayFrames(s, way);
      const start = wayPage(s, way) * size;
      if (start < first + frames && start + size > first) m[way + 4] = 0;
    }
  }
}

/** Page number of a way, in pages of its own size. */
export const wayPage = (s: VtdState, way: number): number =>
  ((s.cache[way + 12]! >>> 5) & 0x1fff) * 0x1_0000_0000 + (s.cache[way]! >>> 0);
/** First machine frame of a way. */
export const wayFrame = (s: VtdState, way: number): number =>
  ((s.cache[way + 12]! >>> 19) & 0xff) * 0x1_0000_0000 + (s.cache[way + 8]! >>> 0);
/** 4 KiB frames that a way covers. */
export const wayFrames = (s: VtdState, way: number): number => 512 ** ((s.cache[way + 12]! >>> 2) & 3);

export function iecGlobal(s: VtdState): void {
  if (s.events.on) tell(s, 'iecGlobal');
  s.iec.fill(0);
}

/** 2^im entries from `index`. */
export function iecIndex(s: VtdState, index: number, im: number): void {
  if (s.events.on) tell(s, 'iecIndex', index, im);
  const first = index - (index % 2 ** im);
  for (let e = 0; e < IEC_ENTRIES; e++) {
    const cached = s.iec[e * IEC_WORDS]! - 1;
    if (cached >= first && cached < first + 2 ** im) s.iec[e * IEC_WORDS] = 0;
  }
}
