/**
 * Scalable mode (VT-d 3.4.3, 9.2 to 9.7) for requests without PASID: root, context, PASID directory and PASID table lead
 * to second-level tables, first-level tables or to none. What a request may do is kept in the same context cache and
 * IOTLB as in legacy mode. Nested translation, device TLBs and page requests of scalable mode are not built.
 */
import { FR, FR_SM } from '../../format/vtd.js';
import { deviates } from './quirks.js';
import { hawBits, type VtdState } from './state.js';

const P = 0x1;
const FPD = 0x2;
const FRAME_HI = 0xf_ffff;
const ROOT_RSVD_LO = 0xffe;
const CONTEXT_RSVD_LO = 0x1e0;
const CONTEXT_PDTS_SHIFT = 9;
const RID_PASID = 0xf_ffff;
const CONTEXT_RSVD_2 = 0xffe0_0000 | 0;
const DIRECTORY_RSVD_LO = 0xffc;
const PASID_RSVD_LO = 0xc00;
const PASID_AW_SHIFT = 2;
const PASID_PGTT_SHIFT = 6;
const PGTT = { FIRST: 1, SECOND: 2, NESTED: 3, PASS: 4 } as const;
const FLPM = 0xc;

// The info word of a context cache entry (translate.ts).
const KIND_PASS = 0x8;
const KIND_FIRST = 0x18;
const INFO_FPD = 0x20;
const NOWHERE = 0x7fff_ffff;
const FIRST_LEVELS = 4;
const FIRST_BITS = 48;

const frameOf = (lo: number, hi: number): number =>
  Math.min((hi & FRAME_HI) * 0x10_0000 + (lo >>> 12), NOWHERE);

/** Word index of entry `index` of a table of `words` words an entry; -1 where memory does not answer. */
function entryAt(s: VtdState, table: number, index: number, words: number): number {
  const frame = table + Math.floor((index * words) / 1024);
  return frame >= s.tableLimit ? -1 : s.tables.peek(frame) * 1024 + ((index * words) % 1024);
}

/** Leaves in `s.ctx` what requests of `rid` without PASID may do, or the reason why nothing. */
export function readScalable(s: VtdState, rid: number): void {
  const { ctx } = s;
  const m = s.tables.words;
  const root = entryAt(s, s.rootFrame, rid >>> 8, 4);
  ctx.reason = FR_SM.ROOT_ACCESS;
  if (root < 0) return;
  // The lower half is for devices 0 to 15, the upper one for 16 to 31.
  const half = root + ((rid & 0x80) === 0 ? 0 : 2);
  ctx.reason = FR_SM.ROOT_NOT_PRESENT;
  if ((m[half]! & P) === 0) return;
  ctx.reason = FR_SM.ROOT_RESERVED;
  if ((m[half]! & ROOT_RSVD_LO) !== 0 || (m[half + 1]! & s.beyondHaw) !== 0) return;
  const c = entryAt(s, frameOf(m[half]!, m[half + 1]!), rid & 0x7f, 8);
  ctx.reason = FR_SM.CONTEXT_ACCESS;
  if (c < 0) return;
  ctx.info = (m[c]! & FPD) !== 0 ? INFO_FPD : 0;
  ctx.reason = FR_SM.CONTEXT_NOT_PRESENT;
  if ((m[c]! & P) === 0) return;
  ctx.reason = FR_SM.CONTEXT_RESERVED;
  if ((m[c]! & CONTEXT_RSVD_LO) !== 0 || (m[c + 1]! & s.beyondHaw) !== 0) return;
  if ((m[c + 2]! & CONTEXT_RSVD_2) !== 0 || m[c + 3] !== 0) return;
  for (let w = 4; w < 8; w++) if (m[c + w] !== 0) return;
  readPasid(s, frameOf(m[c]!, m[c + 1]!), (m[c]! >>> CONTEXT_PDTS_SHIFT) & 7, m[c + 2]! & RID_PASID);
}

/** The directory's entry, then the table's: the PASID is bits 19:6 and 5:0 of their indices. */
function readPasid(s: VtdState, directory: number, size: number, pasid: number): void {
  const { ctx } = s;
  const m = s.tables.words;
  ctx.reason = FR_SM.CONTEXT_INVALID;
  if (pasid >>> 6 >= 1 << (size + 7)) return;
  const d = entryAt(s, directory, pasid >>> 6, 2);
  ctx.reason = FR_SM.DIRECTORY_ACCESS;
  if (d < 0) return;
  if ((m[d]! & FPD) !== 0) ctx.info |= INFO_FPD;
  ctx.reason = FR_SM.DIRECTORY_NOT_PRESENT;
  if ((m[d]! & P) === 0) return;
  ctx.reason = FR_SM.DIRECTORY_RESERVED;
  if ((m[d]! & DIRECTORY_RSVD_LO) !== 0 || (m[d + 1]! & s.beyondHaw) !== 0) return;
  const e = entryAt(s, frameOf(m[d]!, m[d + 1]!), pasid & 0x3f, 16);
  ctx.reason = FR_SM.PASID_ACCESS;
  if (e < 0) return;
  if ((m[e]! & FPD) !== 0) ctx.info |= INFO_FPD;
  ctx.reason = FR_SM.PASID_NOT_PRESENT;
  if ((m[e]! & P) === 0) return;
  ctx.reason = FR_SM.PASID_RESERVED;
  if ((m[e]! & PASID_RSVD_LO) !== 0 || (m[e + 1]! & s.beyondHaw) !== 0) return;
  decodePasid(s, e);
}

function decodePasid(s: VtdState, e: number): void {
  const { ctx } = s;
  const m = s.tables.words;
  const type = (m[e]! >>> PASID_PGTT_SHIFT) & 7;
  const aw = (m[e]! >>> PASID_AW_SHIFT) & 7;
  ctx.reason = FR_SM.PASID_INVALID;
  ctx.did = m[e + 2]! & s.didMask;
  if (type === PGTT.PASS) {
    if (!s.passThrough) return;
    ctx.info |= KIND_PASS | ((Math.min(s.mgawBits, hawBits(s.opts)) - 12) << 6);
  } else if (type === PGTT.SECOND) {
    if (!s.secondLevelScalable || ((s.sagaw >> aw) & 1) === 0) return;
    ctx.root = frameOf(m[e]!, m[e + 1]!);
    ctx.info |= (aw + 2) | ((Math.min(s.mgawBits, 30 + 9 * aw) - 12) << 6);
  } else if (type === PGTT.FIRST) {
    if (!s.firstLevel || (m[e + 4]! & FLPM) !== 0) return;
    ctx.root = frameOf(m[e + 4]!, m[e + 5]!);
    // Addresses are canonical: the upper half of them lies beyond what the bus can say.
    ctx.info |= FIRST_LEVELS | KIND_FIRST | ((FIRST_BITS - 1 - 12) << 6);
  } else return;
  ctx.reason = 0;
}

// First-level entries (9.7).
const FL_P = 0x1;
const FL_RW = 0x2;
const FL_US = 0x4;
const FL_A = 0x20;
const FL_D = 0x40;
const FL_PS = 0x80;

/**
 * First-level walk from `root`, leaving the page in `s.walk`. With `fill` the A bits of what was used are set, and D of a
 * page that is written. Requests have user privilege: every level must allow it.
 */
export function walkFirstLevel(
  s: VtdState,
  root: number,
  levels: number,
  lo: number,
  hi: number,
  write: boolean,
  fill: boolean,
): void {
  const w = s.walk;
  let table = root;
  let writable = true;
  w.perm = 0;
  for (let level = levels; ; level--) {
    w.reason = level === levels ? FR_SM.FL_ROOT_ACCESS : FR_SM.FL_ACCESS;
    if (table >= s.tableLimit) return;
    const shift = 9 * (level - 1);
    const index = (level === 4 ? (lo >>> shift) | (hi << 5) : lo >>> shift) & 511;
    const at = s.tables.peek(table) * 1024 + index * 2;
    const elo = s.tables.words[at]!;
    const ehi = s.tables.words[at + 1]!;
    w.reason = FR_SM.FL_NOT_PRESENT;
    if ((elo & FL_P) === 0) return;
    const leaf = level === 1 || (elo & FL_PS) !== 0;
    w.reason = FR_SM.FL_RESERVED;
    if (firstLevelReserved(s, level, leaf, elo, ehi)) return;
    w.reason = FR_SM.FL_USER;
    if ((elo & FL_US) === 0) return;
    writable &&= (elo & FL_RW) !== 0;
    if (fill) s.tables.words[s.tables.slot(table) * 1024 + index * 2] = elo | FL_A;
    if (!leaf) {
      table = frameOf(elo, ehi);
      continue;
    }
    w.reason = write && !writable ? FR_SM.WRITE : 0;
    if (w.reason !== 0) return;
    const dirty = (elo & FL_D) !== 0 || write;
    if (fill && write) s.tables.words[s.tables.slot(table) * 1024 + index * 2] = elo | FL_A | FL_D;
    w.perm = writable && dirty ? 3 : 1;
    w.size = level - 1;
    // Bit 12 of a large page is a memory type, no address.
    const low = level === 1 ? 0 : 2 ** shift - 1;
    w.frameLo = (((ehi & FRAME_HI) << 20) | (elo >>> 12)) & ~low;
    w.frameHi = (ehi & FRAME_HI) >>> 12;
    return;
  }
}

/** Page size at a level that has none, low address bits of a large page, address bits beyond the host's. */
function firstLevelReserved(s: VtdState, level: number, leaf: boolean, elo: number, ehi: number): boolean {
  if ((ehi & s.beyondHaw & FRAME_HI) !== 0) return true;
  if (!leaf || level === 1) return false;
  if (level >= 4 || (level === 3 && !s.firstLevel1G)) return true;
  return (elo & (level === 2 ? 0x001f_e000 : 0x3fff_e000)) !== 0;
}

/**
 * The reason as scalable mode names it (7.1.3, table 30); `kind` is that of the context entry. Where no access at all is
 * permitted, that is what is wrong, and not that this one is refused.
 */
export function scalableReason(s: VtdState, reason: number, kind: number): number {
  if (!s.scalable) return legacyReason(s, reason);
  const first = kind === KIND_FIRST;
  switch (reason) {
    case FR.BEYOND_MGAW:
      return first ? FR_SM.FL_NOT_CANONICAL : kind === KIND_PASS ? FR_SM.BEYOND_HAW : FR_SM.BEYOND_WIDTH;
    case FR.WRITE:
    case FR.READ:
      if (!first && s.walk.perm === 0) return FR_SM.SL_NOT_PRESENT;
      return reason === FR.WRITE ? FR_SM.WRITE : FR_SM.READ;
    case FR.CONTEXT_INVALID:
      return FR_SM.SL_ROOT_ACCESS;
    case FR.TABLE_ACCESS:
      return FR_SM.SL_ACCESS;
    case FR.PTE_RESERVED:
      return FR_SM.SL_RESERVED;
    case FR.INTERRUPT_ADDR:
      return FR_SM.INTERRUPT_ADDR;
    default:
      return reason;
  }
}

function legacyReason(s: VtdState, reason: number): number {
  const named =
    s.scalableMode && reason === FR.INTERRUPT_ADDR && deviates(s, 'interrupt-reason-by-capability');
  return named ? FR_SM.INTERRUPT_ADDR : reason;
}
