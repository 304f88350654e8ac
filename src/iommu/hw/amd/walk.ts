/** Reads of memory on behalf of a request: the device table entry (2.2.2) and the page tables (2.2.3). */
import { get } from '../../../base/layout.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import {
  AMD_REG,
  DEV_TAB_SIZE,
  DTE,
  DTE_RESERVED,
  EVENT_FLAG,
  MAX_LEVELS,
  PTE_RESERVED1,
} from '../../format/amd.js';
import { EXT_FEATURE } from '../../format/amd_features.js';
import { domainSlot } from './caches.js';
import { type AmdIommuState, DTE_CACHE, DTE_FLAG, DTE_KIND, regWord } from './state.js';

const DTE_BYTES = 32;
const NEXT_LEVEL_SIZED = 7;

/** Decodes the DTE of `rid` into `into` at word `e`; see DTE_CACHE. */
export function decodeDte(u: AmdIommuState, rid: number, into: Int32Array, e: number): void {
  into[e + DTE_CACHE.TAG] = rid | 0x10000;
  into[e + DTE_CACHE.FLAGS] = 0;
  into[e + DTE_CACHE.PERM] = 0;
  const tableBytes = (get(u.regs, regWord(AMD_REG.DEV_TAB_BASE), DEV_TAB_SIZE) + 1) * 4096;
  if (rid * DTE_BYTES >= tableBytes) {
    into[e + DTE_CACHE.KIND] = DTE_KIND.ILLEGAL;
    return;
  }
  const mfn = u.frame(AMD_REG.DEV_TAB_BASE) + (rid >>> 7);
  if (mfn >= u.ram.frames) {
    into[e + DTE_CACHE.KIND] = DTE_KIND.UNREADABLE;
    return;
  }
  const at = u.ram.peek(mfn) * FRAME_WORDS + (rid & 127) * 8;
  // These hold whatever V says (2.2.2.1).
  into[e + DTE_CACHE.INT_LO] = u.ram.words[at + 4]!;
  into[e + DTE_CACHE.INT_HI] = u.ram.words[at + 5]!;
  decodeValid(u, u.ram.words, at, into, e);
}

function decodeValid(u: AmdIommuState, t: Int32Array, at: number, into: Int32Array, e: number): void {
  if (get(t, at, DTE.V) === 0) {
    into[e + DTE_CACHE.KIND] = DTE_KIND.PASS;
    return;
  }
  into[e + DTE_CACHE.FLAGS] =
    get(t, at, DTE.SA) * DTE_FLAG.SA +
    get(t, at, DTE.SE) * DTE_FLAG.SE +
    get(t, at, DTE.EX) * DTE_FLAG.EX +
    get(t, at, DTE.I) * DTE_FLAG.I;
  const mode = get(t, at, DTE.MODE);
  const reserved = (t[at]! & DTE_RESERVED.word0) !== 0 || (t[at + 1]! & DTE_RESERVED.word1) !== 0;
  if (reserved || (get(t, at, DTE.TV) === 1 && mode > maxLevels(u))) {
    into[e + DTE_CACHE.KIND] = DTE_KIND.ILLEGAL;
    return;
  }
  if (get(t, at, DTE.TV) === 0) {
    into[e + DTE_CACHE.KIND] = DTE_KIND.ABORT;
    return;
  }
  into[e + DTE_CACHE.KIND] = mode === 0 ? DTE_KIND.FLAT : DTE_KIND.WALK;
  into[e + DTE_CACHE.PERM] = get(t, at, DTE.IR) + 2 * get(t, at, DTE.IW);
  into[e + DTE_CACHE.MODE] = mode;
  into[e + DTE_CACHE.ROOT_LO] = (t[at]! >>> 12) & 0xf_ffff;
  into[e + DTE_CACHE.ROOT_HI] = t[at + 1]! & 0xf_ffff;
  into[e + DTE_CACHE.SLOT] = domainSlot(u, get(t, at, DTE.DOMAIN_ID));
}

/** Levels the unit can walk: HATS + 4, at most 6. */
const maxLevels = (u: AmdIommuState): number =>
  Math.min(4 + get(u.regs, regWord(AMD_REG.EXT_FEATURE), EXT_FEATURE.HATS), MAX_LEVELS);

/** Index into a table of `level` (1 to 6) for page `dfn`. */
const indexAt = (dfn: number, level: number): number =>
  level <= 3 && dfn < 0x8000_0000
    ? (dfn >>> (9 * (level - 1))) & 511
    : Math.floor(dfn / 2 ** (9 * (level - 1))) % 512;

/**
 * Walks from `root` at level `mode`. True: `u.walked` holds frame, permissions and order. False: `walked[4]` holds
 * the event flags, or -1 when a table lies outside memory.
 */
export function walk(u: AmdIommuState, root: number, mode: number, dfn: number): boolean {
  const ram = u.ram;
  const out = u.walked;
  out[4] = 0;
  if (dfn >= 2 ** (9 * mode)) return false;
  let table = root;
  let level = mode;
  let perm = 3;
  for (;;) {
    if (table >= ram.frames) {
      out[4] = -1;
      return false;
    }
    const at = ram.peek(table) * FRAME_WORDS + indexAt(dfn, level) * 2;
    const lo = ram.words[at]!;
    const hi = ram.words[at + 1]!;
    if ((lo & 1) === 0) return false;
    const next = (lo >>> 9) & 7;
    if ((hi & PTE_RESERVED1) !== 0 || (next >= level && next !== NEXT_LEVEL_SIZED)) {
      out[4] = EVENT_FLAG.RZ | EVENT_FLAG.PR;
      return false;
    }
    perm &= (hi >>> 29) & 3;
    const frame = (hi & 0xf_ffff) * 0x10_0000 + (lo >>> 12);
    if (next === 0 || next === NEXT_LEVEL_SIZED) {
      const order = next === 0 ? 9 * (level - 1) : sizedOrder(frame);
      return leaf(out, frame, dfn, perm, order);
    }
    // A table may be skipped only where the bits it would have resolved are zero.
    if (next < level - 1 && Math.floor(dfn / 2 ** (9 * next)) % 2 ** (9 * (level - 1 - next)) !== 0)
      return false;
    table = frame;
    level = next;
  }
}

/** Next Level 7: the lowest zero bit of the address gives the size, twice that bit's weight (table 15). */
function sizedOrder(frame: number): number {
  let order = 1;
  for (let f = frame; f % 2 === 1 && order < 40; f = Math.floor(f / 2)) order++;
  return order;
}

function leaf(out: Int32Array, frame: number, dfn: number, perm: number, order: number): boolean {
  const span = 2 ** order;
  const mfn = order === 0 ? frame : frame - (frame % span) + (dfn % span);
  out[0] = mfn | 0;
  out[1] = Math.floor(mfn / 2 ** 32);
  out[2] = perm;
  out[3] = order;
  return true;
}
