/**
 * One context entry: writing it so that no DMA meets a half-written one, flushing what it replaced, and undoing it
 * when the flush fails. @xen drivers/passthrough/vtd/iommu.c
 */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { setFrame } from '../../../base/layout.js';
import { formatSbdf, hex, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { DOMID } from '../../../sim/frames.js';
import { CONTEXT_WORDS, TT } from '../../format/vtd.js';
import { DOMID_MASK } from '../domid.js';
import { type IommuDomain, type Pdev, XENLOG } from '../types.js';
import { forgetTranslations } from './ats.js';
import { busToContextMaddr, contextEntryAt, copyQuad } from './context_table.js';
import { checkCleanupDomidMap, contextSetDomainId, didToDomainId, getIommuDid } from './did.js';
import { acpiFindMatchedDrhdUnit } from './drhd.js';
import { flushContextEntry } from './flush.js';
import { domainPgd } from './pte.js';
import { mePhantomOf } from './quirks.js';
import { hexq, VTDPREFIX, type Vtd, type VtdIommu } from './state.js';

/** What a mapping is part of. @xen MAP_WITH_RMRR, MAP_OWNER_DYING, MAP_SINGLE_DEVICE, MAP_ERROR_RECOVERY */
export const MAP = { withRmrr: 1, ownerDying: 2, singleDevice: 4, errorRecovery: 8 } as const;
/** The main request of a device found its entry present before. Xen returns 1. */
export const PREV_PRESENT = 1;
// Fields of a context entry, by hand: entries are written at each move of a device. A test compares them with CONTEXT.
const P = 1;
const FPD = 2;
const TT_MASK = 0xc;
const TT_SHIFT = 2;
const AW = 7;
const DID_SHIFT = 8;
export const CONTEXT_BITS = { P, FPD, TT_MASK, TT_SHIFT, AW, DID_SHIFT } as const;
const didOf = (word2: number): number => (word2 >>> DID_SHIFT) & 0xffff;
const setType = (entry: Int32Array, type: number): void => {
  entry[0] = (entry[0]! & ~TT_MASK) | (type << TT_SHIFT);
};

/** What replaceEntry() says when it wrote the entry. */
const REPLACED = 2;

/** A device that goes to d[IO] without a table there gets no entry. @xen QUARANTINE_SKIP */
export const quarantineSkip = (vtd: Vtd, d: IommuDomain, pgdMfn: number): boolean =>
  d === vtd.s.domIo && pgdMfn === 0;
/** @xen DEVICE_DOMID */
export const deviceDomid = (vtd: Vtd, d: IommuDomain, pdev: Pdev): number =>
  d !== vtd.s.domIo ? d.domid : pdev.arch.pseudoDomid;
/** @xen DEVICE_PGTABLE */
export const devicePgtable = (vtd: Vtd, d: IommuDomain, pdev: Pdev): number =>
  d !== vtd.s.domIo ? d.iommu.pgdMfn : pdev.arch.rootMfn;

/** Whose entry this is: sets `iommu.prevDid` and `iommu.prevDom`. @returns -ESRCH for an id that nobody has */
function findPrevious(vtd: Vtd, iommu: VtdIommu, pdev: Pdev | undefined): Rc {
  iommu.prevDid = 0;
  iommu.prevDom = undefined;
  const { old } = iommu;
  if ((old[0]! & P) === 0) return 0;
  iommu.prevDid = didOf(old[2]!);
  const domid = didToDomainId(iommu, iommu.prevDid);
  if (domid < DOMID.FIRST_RESERVED) iommu.prevDom = vtd.s.domainById(domid);
  else if (pdev !== undefined ? domid === pdev.arch.pseudoDomid : domid > DOMID_MASK) {
    iommu.prevDom = vtd.s.domIo;
  }
  return iommu.prevDom === undefined ? E.SRCH : 0;
}

/** Table and translation type of the entry under construction. */
function* setTranslation(vtd: Vtd, d: IommuDomain, iommu: VtdIommu, pgdMfn: number): Co<Rc> {
  if (vtd.opts.hwdomPassthrough && d === vtd.s.hwdom) {
    setType(iommu.lctxt, TT.PASS_THRU);
    return 0;
  }
  using _mapping = yield* hold(d.iommu.mappingLock);
  const root = domainPgd(vtd, d, pgdMfn, iommu.nrPtLevels);
  if (root === 0) return E.NOMEM;
  setFrame(iommu.lctxt, 0, root);
  setType(iommu.lctxt, vtd.opts.ats && iommu.devIotlb ? TT.DEV_IOTLB : TT.MULTI_LEVEL);
  return 0;
}

/**
 * Writes the entry of (bus, devfn). @returns REPLACED; 0 or PREV_PRESENT when it is `d`'s already; an errno.
 * @xen domain_context_mapping_one, its locked part
 */
function* replaceEntry(
  vtd: Vtd,
  d: IommuDomain,
  iommu: VtdIommu,
  bus: number,
  devfn: number,
  pdev: Pdev | undefined,
  domid: number,
  pgdMfn: number,
  mode: number,
): Co<number> {
  using _lock = yield* hold(iommu.lock);
  const table = busToContextMaddr(iommu, bus);
  if (table === 0 && vtd.seams.vtdNoticesMissingContextTable()) return E.NOMEM;
  const { old, lctxt, ram } = iommu;
  const at = contextEntryAt(iommu, table, devfn);
  const { words } = ram;
  lctxt[0] = old[0] = words[at]!;
  lctxt[1] = old[1] = words[at + 1]!;
  lctxt[2] = old[2] = words[at + 2]!;
  lctxt[3] = old[3] = words[at + 3]!;
  let rc = findPrevious(vtd, iommu, pdev);
  if (rc !== 0) return rc;
  rc = yield* setTranslation(vtd, d, iommu, pgdMfn);
  if (rc !== 0) return rc;
  rc = contextSetDomainId(vtd, lctxt, domid, iommu);
  if (rc !== 0) return rc;

  if (iommu.prevDom === undefined) {
    lctxt[2] = (lctxt[2]! & ~AW) | (iommu.nrPtLevels - 2);
    lctxt[3] = 0;
    lctxt[0] = (lctxt[0]! & ~FPD) | P;
  } else if (iommu.prevDom === d && !isOfSibling(vtd, iommu, pdev, d, domid)) {
    // V6: an alias of a quarantined sibling keeps that one's table. Debug builds of Xen stop here.
    return pdev === undefined ? 0 : PREV_PRESENT;
  }
  const bdf = (bus << 8) | devfn;
  if (!vtd.s.cpu.cx16) storeInSteps(vtd, iommu, table, at, bdf, mode);
  else if (compareEntry(vtd, iommu, at)) writeWords(vtd, iommu, table, at, bdf, 0, 3);
  else {
    if (pdev !== undefined) checkCleanupDomidMap(vtd, d, pdev, iommu);
    printUnexpected(vtd, iommu, at, bdf);
    return E.ILSEQ;
  }
  return REPLACED;
}

/** V6: the entry of an alias that a quarantined sibling left, under that one's id. */
const isOfSibling = (
  vtd: Vtd,
  iommu: VtdIommu,
  pdev: Pdev | undefined,
  d: IommuDomain,
  domid: number,
): boolean =>
  pdev === undefined &&
  d === vtd.s.domIo &&
  iommu.prevDid !== getIommuDid(iommu, domid) &&
  vtd.seams.vtdAliasFollowsQuarantine();

/** What a CPU does that cannot write an entry in one go. */
function storeInSteps(vtd: Vtd, iommu: VtdIommu, table: number, at: number, bdf: number, mode: number): void {
  const { words } = iommu.ram;
  if (iommu.prevDom === undefined || (mode & MAP.withRmrr) === 0) {
    const present = iommu.lctxt[0]!;
    iommu.lctxt[0] = words[at]! & ~1;
    writeWords(vtd, iommu, table, at, bdf, 0, 0);
    iommu.lctxt[0] = present;
    writeWords(vtd, iommu, table, at, bdf, 2, 3);
    writeWords(vtd, iommu, table, at, bdf, 0, 1);
  } else {
    // The reserved range must stay reachable: entry never absent, id last.
    if ((mode & (MAP.ownerDying | MAP.singleDevice)) === 0) {
      const sbdf = formatSbdf(sbdfOf(iommu.drhd.segment, bdf));
      const text = `${sbdf}: reassignment may cause ${vtd.s.pd(iommu.prevDom)} data corruption`;
      vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX} ${text}`);
    }
    writeWords(vtd, iommu, table, at, bdf, 0, 1);
    writeWords(vtd, iommu, table, at, bdf, 2, 3);
  }
}

/** Is the entry what it was? Fault site `cmpxchg`: as if something else had written it. */
function compareEntry(vtd: Vtd, iommu: VtdIommu, at: number): boolean {
  if (vtd.s.faults.on && vtd.s.faults.take('cmpxchg')) return false;
  const { words } = vtd.s.ram;
  const { old } = iommu;
  return (
    words[at] === old[0] && words[at + 1] === old[1] && words[at + 2] === old[2] && words[at + 3] === old[3]
  );
}

function printUnexpected(vtd: Vtd, iommu: VtdIommu, at: number, bdf: number): void {
  const { words } = vtd.s.ram;
  const quad = (t: Int32Array, i: number): string =>
    `${hexq(t[i + 2]!, t[i + 3]!).padStart(16, '0')}_${hexq(t[i]!, t[i + 1]!).padStart(16, '0')}`;
  const sbdf = formatSbdf(sbdfOf(iommu.drhd.segment, bdf));
  vtd.s.printk(
    XENLOG.ERR,
    `${sbdf}: unexpected context entry ${quad(words, at)} (expected ${quad(iommu.old, 0)})`,
  );
}

/** Copies words `first` to `last` of the entry under construction to memory, as one store. */
function writeWords(
  vtd: Vtd,
  iommu: VtdIommu,
  table: number,
  at: number,
  bdf: number,
  first: number,
  last: number,
): void {
  const { words } = iommu.ram;
  const { lctxt } = iommu;
  const before = vtd.s.events.on ? copyQuad(words, at) : undefined;
  if (first === 0) {
    words[at] = lctxt[0]!;
    if (last > 0) words[at + 1] = lctxt[1]!;
  }
  if (last === 3) {
    words[at + 2] = lctxt[2]!;
    words[at + 3] = lctxt[3]!;
  }
  if (vtd.opts.nonCoherent) vtd.s.syncCache(table, (bdf & 0xff) * CONTEXT_WORDS, CONTEXT_WORDS);
  if (before !== undefined) {
    const after = copyQuad(words, at);
    vtd.s.events.emit({ kind: 'entry', unit: iommu.index, table: 'context', id: bdf, before, after });
  }
}

/**
 * Gives (bus, devfn) to `domain`. `pdev` is undefined for ids that are not the device's own: a bridge's, an alias.
 * `domid` and `pgdMfn` are the domain's or, in quarantine, the device's.
 * @returns 0, PREV_PRESENT, or an errno. @xen domain_context_mapping_one
 */
export function* domainContextMappingOne(
  vtd: Vtd,
  domain: IommuDomain,
  iommu: VtdIommu,
  bus: number,
  devfn: number,
  pdev: Pdev | undefined,
  domid: number,
  pgdMfn: number,
  mode: number,
): Co<number> {
  if (quarantineSkip(vtd, domain, pgdMfn)) return 0;
  assert(vtd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  const isNew = vtd.seams.vtdCountsUnitFirst() && !domain.iommu.uses(iommu.index);
  if (isNew) domain.iommu.setUses(iommu.index, true);
  const done = yield* replaceEntry(vtd, domain, iommu, bus, devfn, pdev, domid, pgdMfn, mode);
  if (done !== REPLACED) {
    if (isNew) domain.iommu.setUses(iommu.index, false);
    return done;
  }
  const { prevDid, prevDom } = iommu;

  let rc = yield* flushContextEntry(iommu, prevDid, (bus << 8) | devfn, prevDom === undefined);
  if (rc === 0 && pdev?.ats.enabled === true && vtd.seams.vtdMoveFlushesDevice())
    rc = yield* forgetTranslations(iommu, pdev, prevDid);
  domain.iommu.setUses(iommu.index, true);

  const me = rc === 0 && iommu.drhd.segment === 0 && vtd.meSlot !== 0 ? mePhantomOf(vtd, bus, devfn) : 0;
  if (me !== 0) {
    const unit = acpiFindMatchedDrhdUnit(vtd, vtd.s.pciGetPdev(me & ~7))!.iommu!;
    rc = yield* domainContextMappingOne(vtd, domain, unit, 0, me, undefined, domid, pgdMfn, mode);
  }
  if (rc !== 0 && (mode & MAP.errorRecovery) === 0) {
    const undone = yield* undoMapping(vtd, domain, iommu, bus, devfn, pdev, prevDom, mode);
    if (undone && pdev?.devfn === devfn) checkCleanupDomidMap(vtd, domain, pdev, iommu);
  }
  if (rc !== 0) return rc;
  return pdev !== undefined && prevDom !== undefined ? PREV_PRESENT : 0;
}

/** Back to the previous owner, or to no entry. True when that worked. */
function* undoMapping(
  vtd: Vtd,
  domain: IommuDomain,
  iommu: VtdIommu,
  bus: number,
  devfn: number,
  pdev: Pdev | undefined,
  prevDom: IommuDomain | undefined,
  mode: number,
): Co<boolean> {
  // An alias that was quarantined loses its entry: its table was another device's.
  if (prevDom === undefined || (prevDom === vtd.s.domIo && pdev === undefined)) {
    return (yield* domainContextUnmapOne(vtd, domain, iommu, bus, devfn)) === 0;
  }
  const domid = pdev === undefined ? prevDom.domid : deviceDomid(vtd, prevDom, pdev);
  const pgdMfn = pdev === undefined ? prevDom.iommu.pgdMfn : devicePgtable(vtd, prevDom, pdev);
  const back = (mode & MAP.withRmrr) | MAP.errorRecovery;
  const rc = yield* domainContextMappingOne(vtd, prevDom, iommu, bus, devfn, pdev, domid, pgdMfn, back);
  return rc >= 0;
}

/** Empties the entry and flushes it, all under the unit's lock. @returns 0 also when it was absent */
function* clearEntry(vtd: Vtd, iommu: VtdIommu, bus: number, devfn: number): Co<Rc> {
  using _unit = yield* hold(iommu.lock);
  const table = busToContextMaddr(iommu, bus);
  if (table === 0 && vtd.seams.vtdNoticesMissingContextTable()) return 0;
  const at = contextEntryAt(iommu, table, devfn);
  const { words } = vtd.s.ram;
  if ((words[at]! & P) === 0) return 0;
  const did = didOf(words[at + 2]!);
  const { lctxt } = iommu;
  lctxt[0] = lctxt[1] = lctxt[2] = lctxt[3] = 0;
  const bdf = (bus << 8) | devfn;
  writeWords(vtd, iommu, table, at, bdf, 0, 3);
  return yield* flushContextEntry(iommu, did, bdf, false);
}

/**
 * Takes (bus, devfn) from whoever has it. A failure crashes a guest, or is only reported when it is dying.
 * @xen domain_context_unmap_one
 */
export function* domainContextUnmapOne(
  vtd: Vtd,
  domain: IommuDomain,
  iommu: VtdIommu,
  bus: number,
  devfn: number,
): Co<Rc> {
  assert(vtd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  let rc = yield* clearEntry(vtd, iommu, bus, devfn);
  const seg = iommu.drhd.segment;
  const me = rc === 0 && seg === 0 && vtd.meSlot !== 0 ? mePhantomOf(vtd, bus, devfn) : 0;
  if (me !== 0) {
    const unit = acpiFindMatchedDrhdUnit(vtd, vtd.s.pciGetPdev(me & ~7))!.iommu!;
    rc = yield* domainContextUnmapOne(vtd, domain, unit, 0, me);
  }
  if (rc !== 0 && domain !== vtd.s.hwdom && domain !== vtd.s.domIo) {
    if (domain.isDying) {
      const where = `${hex(seg, 4)}:${hex(bus, 2)}:${hex(devfn >> 3, 2)}.${devfn & 7}`;
      vtd.s.printk(XENLOG.ERR, `${vtd.s.pd(domain)}: error ${rc} unmapping ${where}`);
      rc = 0;
    } else vtd.s.domainCrash(domain, 'vtd/iommu.c domain_context_unmap_one');
  }
  return rc;
}
