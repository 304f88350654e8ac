/** A memory request through the unit (2.1.4, 2.2): device table entry, exclusion range, IOTLB, page walk. */
import { get } from '../../../base/layout.js';
import { AMD_REG, EVENT, EVENT_FLAG, EXCL } from '../../format/amd.js';
import { tlbFill, tlbSet } from './caches.js';
import { dmaEvent } from './event_log.js';
import { type AmdIommuState, DTE_CACHE, DTE_FLAG, DTE_KIND, regWord, TLB } from './state.js';
import { decodeDte, walk } from './walk.js';

const NO_PAGE = -2;

/** Where the cache has the device table entry of `rid`, read now if it was not there. */
export function dteOf(u: AmdIommuState, rid: number): number {
  const e = ((rid ^ (rid >>> 8)) & (DTE_CACHE.ENTRIES - 1)) << DTE_CACHE.SHIFT;
  if (u.dteCache[e] !== (rid | 0x10000)) decodeDte(u, rid, u.dteCache, e);
  return e;
}

/** Machine frame for a request of `rid` at bus frame `dfn`, or -1 when it is aborted; aborts are logged. */
export function translate(u: AmdIommuState, rid: number, dfn: number, write: boolean): number {
  if (!u.enabled) return dfn;
  const c = u.dteCache;
  const e = ((rid ^ (rid >>> 8)) & (DTE_CACHE.ENTRIES - 1)) << DTE_CACHE.SHIFT;
  if (c[e] !== (rid | 0x10000)) decodeDte(u, rid, c, e);
  if (u.exclusion && excluded(u, c[e + DTE_CACHE.FLAGS]!, dfn)) return dfn;
  if (c[e + DTE_CACHE.KIND] !== DTE_KIND.WALK) return withoutTables(u, c, e, rid, dfn, write);
  const gen = u.gens[c[e + DTE_CACHE.SLOT]!]!;
  const need = write ? 2 : 1;
  const t = u.tlb;
  const hi = dfn < 0x8000_0000 ? 0 : Math.floor(dfn / 0x1_0000_0000);
  let w = tlbSet(dfn, gen);
  const end = w + (TLB.WAYS << TLB.SHIFT);
  for (; w < end; w += 1 << TLB.SHIFT) {
    if (t[w] === (dfn | 0) && t[w + TLB.GEN] === gen) {
      const flags = t[w + TLB.FLAGS]!;
      if (((flags >>> 8) & 0xff) !== hi) continue;
      if ((flags & c[e + DTE_CACHE.PERM]! & need) === 0) return denied(u, c, e, rid, dfn, write);
      const mfnHi = (flags >>> 16) & 0xff;
      return mfnHi === 0 ? t[w + TLB.MFN_LO]! >>> 0 : mfnHi * 2 ** 32 + (t[w + TLB.MFN_LO]! >>> 0);
    }
  }
  return miss(u, c, e, rid, dfn, write);
}

/** Bits 39:32 of a bus frame are all that an IOTLB entry can hold: 52-bit bus addresses. */
const DFN_LIMIT = 2 ** 40;

function miss(u: AmdIommuState, c: Int32Array, e: number, rid: number, dfn: number, write: boolean): number {
  const root = c[e + DTE_CACHE.ROOT_HI]! * 0x10_0000 + c[e + DTE_CACHE.ROOT_LO]!;
  if (!walk(u, root, c[e + DTE_CACHE.MODE]!, dfn)) {
    const flags = u.walked[4]!;
    if (flags >= 0) return pageFault(u, c, e, rid, dfn, write, flags);
    return report(u, EVENT.PAGE_TABLE_HW_ERROR, c, e, rid, dfn, write, 0);
  }
  if (dfn < DFN_LIMIT) tlbFill(u, c[e + DTE_CACHE.SLOT]!, dfn);
  const w = u.walked;
  if ((w[2]! & c[e + DTE_CACHE.PERM]! & (write ? 2 : 1)) === 0) return denied(u, c, e, rid, dfn, write);
  return w[1]! * 2 ** 32 + (w[0]! >>> 0);
}

/** V=0 lets everything through; TV=0 aborts; Mode 0 asks only for the permission; the rest is an illegal entry. */
function withoutTables(
  u: AmdIommuState,
  c: Int32Array,
  e: number,
  rid: number,
  dfn: number,
  write: boolean,
): number {
  switch (c[e + DTE_CACHE.KIND]) {
    case DTE_KIND.PASS:
      return dfn;
    case DTE_KIND.FLAT:
      if ((c[e + DTE_CACHE.PERM]! & (write ? 2 : 1)) !== 0) return dfn;
      return denied(u, c, e, rid, dfn, write);
    case DTE_KIND.ABORT:
      return pageFault(u, c, e, rid, dfn, write, 0);
    case DTE_KIND.UNREADABLE:
      return report(u, EVENT.DEV_TABLE_HW_ERROR, c, e, rid, dfn, write, 0);
    default:
      return report(u, EVENT.ILLEGAL_DEV_TABLE_ENTRY, c, e, rid, dfn, write, 0);
  }
}

const denied = (
  u: AmdIommuState,
  c: Int32Array,
  e: number,
  rid: number,
  dfn: number,
  write: boolean,
): number => pageFault(u, c, e, rid, dfn, write, EVENT_FLAG.PE | EVENT_FLAG.PR);

/** SA suppresses every page fault of the device, SE all but the first since its DTE was read. */
function pageFault(
  u: AmdIommuState,
  c: Int32Array,
  e: number,
  rid: number,
  dfn: number,
  write: boolean,
  flags: number,
): number {
  const f = c[e + DTE_CACHE.FLAGS]!;
  const log = (f & DTE_FLAG.SA) === 0 && ((f & DTE_FLAG.SE) === 0 || (f & DTE_FLAG.REPORTED) === 0);
  c[e + DTE_CACHE.FLAGS] = f | DTE_FLAG.REPORTED;
  return report(u, EVENT.IO_PAGE_FAULT, c, e, rid, dfn, write, flags, log);
}

function report(
  u: AmdIommuState,
  code: number,
  c: Int32Array,
  e: number,
  rid: number,
  dfn: number,
  write: boolean,
  flags: number,
  log = true,
): number {
  const kind = c[e + DTE_CACHE.KIND];
  const known = kind === DTE_KIND.WALK || kind === DTE_KIND.FLAT;
  const domid = known ? u.domids[c[e + DTE_CACHE.SLOT]!]! : 0;
  dmaEvent(u, code, rid, domid, dfn, write, flags, log);
  return -1;
}

/** In the exclusion range, and either the range is for all or the DTE says EX (3.4.5). */
function excluded(u: AmdIommuState, dteFlags: number, dfn: number): boolean {
  if (dfn < u.frame(AMD_REG.EXCL_BASE) || dfn > u.frame(AMD_REG.EXCL_LIMIT)) return false;
  return get(u.regs, regWord(AMD_REG.EXCL_BASE), EXCL.ALLOW) === 1 || (dteFlags & DTE_FLAG.EX) !== 0;
}

/** What `translate` would answer now, caches included, leaving no trace. */
export function probe(u: AmdIommuState, rid: number, dfn: number, write: boolean): number {
  if (!u.enabled) return dfn;
  const e = ((rid ^ (rid >>> 8)) & (DTE_CACHE.ENTRIES - 1)) << DTE_CACHE.SHIFT;
  const c = u.dteCache.slice(e, e + (1 << DTE_CACHE.SHIFT));
  if (c[0] !== (rid | 0x10000)) decodeDte(u, rid, c, 0);
  if (u.exclusion && excluded(u, c[DTE_CACHE.FLAGS]!, dfn)) return dfn;
  const need = write ? 2 : 1;
  const allowed = c[DTE_CACHE.PERM]! & need;
  if (c[DTE_CACHE.KIND] === DTE_KIND.PASS) return dfn;
  if (c[DTE_CACHE.KIND] === DTE_KIND.FLAT) return allowed !== 0 ? dfn : -1;
  if (c[DTE_CACHE.KIND] !== DTE_KIND.WALK) return -1;
  const cached = probeTlb(u, c[DTE_CACHE.SLOT]!, dfn, allowed);
  if (cached !== NO_PAGE) return cached;
  const root = c[DTE_CACHE.ROOT_HI]! * 0x10_0000 + c[DTE_CACHE.ROOT_LO]!;
  if (!walk(u, root, c[DTE_CACHE.MODE]!, dfn) || (u.walked[2]! & allowed) === 0) return -1;
  return u.walked[1]! * 2 ** 32 + (u.walked[0]! >>> 0);
}

function probeTlb(u: AmdIommuState, slot: number, dfn: number, allowed: number): number {
  const gen = u.gens[slot]!;
  const t = u.tlb;
  const hi = Math.floor(dfn / 2 ** 32);
  const start = tlbSet(dfn, gen);
  for (let w = start; w < start + (TLB.WAYS << TLB.SHIFT); w += 1 << TLB.SHIFT) {
    const flags = t[w + TLB.FLAGS]!;
    if (t[w] !== (dfn | 0) || t[w + TLB.GEN] !== gen || ((flags >>> 8) & 0xff) !== hi) continue;
    return (flags & allowed) === 0 ? -1 : ((flags >>> 16) & 0xff) * 2 ** 32 + (t[w + TLB.MFN_LO]! >>> 0);
  }
  return NO_PAGE;
}
