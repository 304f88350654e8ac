/**
 * Interrupt remapping (2.2.5): what a message-signalled interrupt becomes on its way to the CPU. The device table entry
 * decides by the kind of the interrupt; fixed and arbitrated ones go through the device's table. Virtual interrupts
 * (GuestMode) and the legacy lines LINT0 and LINT1, which no message can ask for, are not modelled.
 */
import { get } from '../../../base/layout.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import {
  AMD_REG,
  CONTROL,
  CONTROL_HI,
  DTE,
  EVENT,
  EVENT_FLAG,
  INT_CTL,
  INT_TAB_LEN_MAX,
  IRTE32,
  IRTE128,
} from '../../format/amd.js';
import { asSent, type Interrupt } from '../interrupt.js';
import { interruptEvent } from './event_log.js';
import { type AmdIommuState, DTE_CACHE, DTE_FLAG, DTE_KIND, IRT_CACHE, IRT_INDEX_BITS } from './state.js';
import { dteOf } from './translate.js';

/** Delivery modes that a message can ask for: bits 10:8 of its data. */
const KIND = { FIXED: 0, ARBITRATED: 1, SMI: 2, NMI: 4, INIT: 5, EXT_INT: 7 } as const;
const INDEX_MASK = (1 << IRT_INDEX_BITS) - 1;
/** A DTE field of words 4 and 5, as the cache has them beside each other. */
const inCache = (word: number): number => word - 4 + DTE_CACHE.INT_LO;
/** Why an interrupt is blocked. */
const BLOCKED = EVENT.IO_PAGE_FAULT;
const UNREADABLE = -1;

/** The interrupt, or minus the event code after the event was logged. */
export function remapInterrupt(
  u: AmdIommuState,
  rid: number,
  addrLo: number,
  data: number,
): Interrupt | number {
  if (!u.enabled) return asSent(addrLo, data);
  const e = dteOf(u, rid);
  const kind = u.dteCache[e + DTE_CACHE.KIND]!;
  if (kind === DTE_KIND.UNREADABLE) return refuse(u, e, rid, addrLo, EVENT.DEV_TABLE_HW_ERROR, 0, true);
  if (kind === DTE_KIND.ILLEGAL) return refuse(u, e, rid, addrLo, EVENT.ILLEGAL_DEV_TABLE_ENTRY, 0, true);
  if (field(u, e, DTE.IV) === 0) return asSent(addrLo, data);
  switch ((data >>> 8) & 7) {
    case KIND.FIXED:
    case KIND.ARBITRATED:
      return controlled(u, e, rid, addrLo, data);
    case KIND.SMI:
      return asSent(addrLo, data);
    case KIND.NMI:
      return passes(u, e, rid, addrLo, data, field(u, e, DTE.NMI_PASS));
    case KIND.INIT:
      return passes(u, e, rid, addrLo, data, field(u, e, DTE.INIT_PASS));
    case KIND.EXT_INT:
      return passes(u, e, rid, addrLo, data, field(u, e, DTE.EXT_INT_PASS));
    default:
      return passes(u, e, rid, addrLo, data, 0);
  }
}

const field = (u: AmdIommuState, e: number, f: (typeof DTE)[keyof typeof DTE]): number =>
  (u.dteCache[e + inCache(f.word)]! >>> f.lo) & f.mask;

function passes(
  u: AmdIommuState,
  e: number,
  rid: number,
  addrLo: number,
  data: number,
  pass: number,
): Interrupt | number {
  return pass === 1 ? asSent(addrLo, data) : refuse(u, e, rid, addrLo, BLOCKED, 0, wanted(u, e));
}

/** Fixed and arbitrated interrupts, as IntCtl says. */
function controlled(
  u: AmdIommuState,
  e: number,
  rid: number,
  addrLo: number,
  data: number,
): Interrupt | number {
  const len = field(u, e, DTE.INT_TAB_LEN);
  switch (field(u, e, DTE.INT_CTL)) {
    case INT_CTL.ABORTED:
      return refuse(u, e, rid, addrLo, BLOCKED, 0, wanted(u, e));
    case INT_CTL.FORWARDED:
      return asSent(addrLo, data);
    case INT_CTL.TRANSLATED:
      if (len <= INT_TAB_LEN_MAX) return throughTable(u, e, rid, addrLo, data & INDEX_MASK, 1 << len);
  }
  return refuse(u, e, rid, addrLo, EVENT.ILLEGAL_DEV_TABLE_ENTRY, 0, true);
}

function throughTable(
  u: AmdIommuState,
  e: number,
  rid: number,
  addrLo: number,
  index: number,
  entries: number,
): Interrupt | number {
  if (index >= entries) return refuse(u, e, rid, addrLo, BLOCKED, 0, wanted(u, e));
  const at = fetch(u, e, rid, index);
  if (at === UNREADABLE) return refuse(u, e, rid, addrLo, EVENT.PAGE_TABLE_HW_ERROR, 0, true);
  const c = u.irtCache;
  const log = wanted(u, e) && get(c, at, IRTE32.SUP_IOPF) === 0;
  if (get(c, at, IRTE32.REMAP_EN) === 0) {
    c[at - IRT_CACHE.ENTRY] = 0;
    return refuse(u, e, rid, addrLo, BLOCKED, 0, log);
  }
  if (get(c, at, IRTE32.GUEST_MODE) === 1 || get(c, at, IRTE32.INT_TYPE) > KIND.ARBITRATED)
    return refuse(u, e, rid, addrLo, BLOCKED, EVENT_FLAG.RZ | EVENT_FLAG.PR, log);
  const wide = isWide(u);
  return {
    vector: wide ? get(c, at, IRTE128.VECTOR) : get(c, at, IRTE32.VECTOR),
    dest: wide ? wideDest(u, at) : get(c, at, IRTE32.DEST),
    logical: get(c, at, IRTE32.DM) === 1,
    deliveryMode: get(c, at, IRTE32.INT_TYPE),
    level: false,
    redirectionHint: get(c, at, IRTE32.RQ_EOI) === 1,
  };
}

const isWide = (u: AmdIommuState): boolean => (u.lo(AMD_REG.CONTROL) & CONTROL.GA_EN) !== 0;

/** 32 bits with XTEn, else eight. */
function wideDest(u: AmdIommuState, at: number): number {
  const low = get(u.irtCache, at, IRTE128.DEST_LO);
  if ((u.hi(AMD_REG.CONTROL) & CONTROL_HI.XT_EN) === 0) return low & 0xff;
  return get(u.irtCache, at, IRTE128.DEST_HI) * 2 ** 24 + low;
}

/** Index of the entry's first word in the cache, filled from memory if need be; UNREADABLE beyond the end of memory. */
function fetch(u: AmdIommuState, e: number, rid: number, index: number): number {
  const c = u.irtCache;
  const tag = rid * (INDEX_MASK + 1) + index + 1;
  const slot = (rid ^ (rid >>> 8) ^ index) & (IRT_CACHE.ENTRIES - 1);
  const at = slot * IRT_CACHE.WORDS;
  if (c[at] === tag) return at + IRT_CACHE.ENTRY;
  const words = isWide(u) ? 4 : 1;
  const low = (u.dteCache[e + DTE_CACHE.INT_LO]! & ~0x3f) >>> 0;
  const high = u.dteCache[e + DTE_CACHE.INT_HI]! & 0xf_ffff;
  const address = high * 2 ** 32 + low + index * words * 4;
  const mfn = Math.floor(address / 4096);
  if (mfn >= u.ram.frames) return UNREADABLE;
  const from = u.ram.peek(mfn) * FRAME_WORDS + (address % 4096) / 4;
  for (let w = 0; w < words; w++) c[at + IRT_CACHE.ENTRY + w] = u.ram.words[from + w]!;
  c[at] = tag;
  return at + IRT_CACHE.ENTRY;
}

/** Blocked interrupts are logged unless the DTE says that nobody wants to know: IG, or SA. */
const wanted = (u: AmdIommuState, e: number): boolean =>
  field(u, e, DTE.IG) === 0 && (u.dteCache[e + DTE_CACHE.FLAGS]! & DTE_FLAG.SA) === 0;

function refuse(
  u: AmdIommuState,
  e: number,
  rid: number,
  addrLo: number,
  code: number,
  flags: number,
  log: boolean,
): number {
  const kind = u.dteCache[e + DTE_CACHE.KIND]!;
  const known = kind === DTE_KIND.WALK || kind === DTE_KIND.FLAT;
  const domid = known ? u.domids[u.dteCache[e + DTE_CACHE.SLOT]!]! : 0;
  interruptEvent(u, code, rid, domid, addrLo, flags, log);
  return -code;
}
