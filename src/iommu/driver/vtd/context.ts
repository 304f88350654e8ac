/**
 * One context entry: writing it so that no DMA meets a half-written one, flushing what it replaced, and undoing it
 * when the flush fails. @xen drivers/passthrough/vtd/iommu.c
 */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { formatSbdf, hex, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { DOMID } from '../../../sim/frames.js';
import { CONTEXT_WORDS, TT } from '../../format/vtd.js';
import { DOMID_MASK } from '../domid.js';
import { type IommuDomain, type Pdev, XENLOG } from '../types.js';
import { forgetTranslations } from './ats.js';
import type { ContextEntry } from './context_entry.js';
import { contextEntryAt, contextTableOf, copyQuad } from './context_table.js';
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
const setType = (entry: ContextEntry, type: number): void => {
  entry.w0 = (entry.w0 & ~TT_MASK) | (type << TT_SHIFT);
};

/** What replaceEntry() says when it wrote the entry. */
const REPLACED = 2;
/** There was no entry to empty. */
const ABSENT = 1;

/** A device that goes to d[IO] without a table there gets no entry. @xen QUARANTINE_SKIP */
export const quarantineSkip = (d: IommuDomain, pgdMfn: number): boolean =>
  d.domid === DOMID.IO && pgdMfn === 0;
/** @xen DEVICE_DOMID */
export const deviceDomid = (d: IommuDomain, pdev: Pdev): number =>
  d.domid !== DOMID.IO ? d.domid : pdev.arch.pseudoDomid;
/** @xen DEVICE_PGTABLE */
export const devicePgtable = (d: IommuDomain, pdev: Pdev): number =>
  d.domid !== DOMID.IO ? d.iommu.pgdMfn : pdev.arch.rootMfn;

/** Whose entry this is: sets `iommu.prevDid` and `iommu.prevDom`. @returns -ESRCH for an id that nobody has */
function findPrevious(vtd: Vtd, iommu: VtdIommu, pdev: Pdev | undefined): Rc {
  iommu.prevDid = 0;
  iommu.prevDom = undefined;
  const { old } = iommu;
  return (old.w0 & P) === 0 ? 0 : findOwner(vtd, iommu, pdev, didOf(old.w2));
}

function findOwner(vtd: Vtd, iommu: VtdIommu, pdev: Pdev | undefined, did: number): Rc {
  iommu.prevDid = did;
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
  iommu.lctxt.setFrame(root);
  setType(iommu.lctxt, vtd.opts.ats && iommu.devIotlb ? TT.DEV_IOTLB : TT.MULTI_LEVEL);
  return 0;
}

/** What an entry has that was not there before. */
function makePresent(entry: ContextEntry, levels: number): void {
  entry.w2 = (entry.w2 & ~AW) | (levels - 2);
  entry.w3 = 0;
  entry.w0 = (entry.w0 & ~FPD) | P;
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
  const at = contextEntryAt(iommu, bus, devfn);
  if (at === 0) return E.NOMEM;
  const { old, lctxt, ram } = iommu;
  old.load(ram.words, at);
  lctxt.copy(old);
  let rc = findPrevious(vtd, iommu, pdev);
  if (rc === 0) rc = yield* setTranslation(vtd, d, iommu, pgdMfn);
  if (rc === 0) rc = contextSetDomainId(vtd, lctxt, domid, iommu);
  if (rc !== 0) return rc;

  if (iommu.prevDom === undefined) {
    makePresent(lctxt, iommu.nrPtLevels);
  } else if (iommu.prevDom === d && !isOfSibling(vtd, iommu, pdev, d, domid)) {
    // V6: an alias of a quarantined sibling keeps that one's table. Debug builds of Xen stop here.
    return pdev === undefined ? 0 : PREV_PRESENT;
  }
  const bdf = (bus << 8) | devfn;
  if (vtd.writesInSteps) storeInSteps(vtd, iommu, at, bdf, mode);
  else if (compareEntry(iommu, at)) writeWords(vtd, iommu, at, bdf, 0, 3);
  else return unexpectedEntry(vtd, iommu, at, bdf, d, pdev);
  return REPLACED;
}

/** Something else has written the entry meanwhile. */
function unexpectedEntry(
  vtd: Vtd,
  iommu: VtdIommu,
  at: number,
  bdf: number,
  d: IommuDomain,
  pdev: Pdev | undefined,
): Rc {
  if (pdev !== undefined) checkCleanupDomidMap(vtd, d, pdev, iommu);
  const { words } = vtd.s.ram;
  const { old } = iommu;
  const found = quad(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
  const expected = quad(old.w0, old.w1, old.w2, old.w3);
  const sbdf = formatSbdf(sbdfOf(iommu.drhd.segment, bdf));
  vtd.s.printk(XENLOG.ERR, `${sbdf}: unexpected context entry ${found} (expected ${expected})`);
  return E.ILSEQ;
}
const quad = (w0: number, w1: number, w2: number, w3: number): string =>
  `${hexq(w2, w3).padStart(16, '0')}_${hexq(w0, w1).padStart(16, '0')}`;

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
function storeInSteps(vtd: Vtd, iommu: VtdIommu, at: number, bdf: number, mode: number): void {
  const { lctxt, ram } = iommu;
  if (iommu.prevDom === undefined || (mode & MAP.withRmrr) === 0) {
    const present = lctxt.w0;
    lctxt.w0 = ram.words[at]! & ~1;
    writeWords(vtd, iommu, at, bdf, 0, 0);
    lctxt.w0 = present;
    writeWords(vtd, iommu, at, bdf, 2, 3);
    writeWords(vtd, iommu, at, bdf, 0, 1);
  } else {
    // The reserved range must stay reachable: entry never absent, id last.
    if ((mode & (MAP.ownerDying | MAP.singleDevice)) === 0) {
      const sbdf = formatSbdf(sbdfOf(iommu.drhd.segment, bdf));
      const text = `${sbdf}: reassignment may cause ${vtd.s.pd(iommu.prevDom)} data corruption`;
      vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX} ${text}`);
    }
    writeWords(vtd, iommu, at, bdf, 0, 1);
    writeWords(vtd, iommu, at, bdf, 2, 3);
  }
}

/** Is the entry what it was? Fault site `cmpxchg`: as if something else had written it. */
const compareEntry = (iommu: VtdIommu, at: number): boolean =>
  !(iommu.faults.on && iommu.faults.take('cmpxchg')) && iommu.old.isAt(iommu.ram.words, at);

/** Copies words `first` to `last` of the entry under construction to memory, as one store. */
function writeWords(vtd: Vtd, iommu: VtdIommu, at: number, bdf: number, first: number, last: number): void {
  const { words } = iommu.ram;
  const { lctxt } = iommu;
  const before = vtd.s.events.on ? copyQuad(words, at) : undefined;
  if (first === 0) {
    words[at] = lctxt.w0;
    if (last > 0) words[at + 1] = lctxt.w1;
  }
  if (last === 3) {
    words[at + 2] = lctxt.w2;
    words[at + 3] = lctxt.w3;
  }
  if (vtd.opts.nonCoherent) {
    vtd.s.syncCache(contextTableOf(iommu, bdf >> 8), (bdf & 0xff) * CONTEXT_WORDS, CONTEXT_WORDS);
  }
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
  domain: IommuDomain,
  iommu: VtdIommu,
  bus: number,
  devfn: number,
  pdev: Pdev | undefined,
  domid: number,
  pgdMfn: number,
  mode: number,
): Co<number> {
  const { vtd } = iommu;
  if (quarantineSkip(domain, pgdMfn)) return 0;
  assert(vtd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  const isNew = !domain.iommu.uses(iommu.index) && vtd.seams.vtdCountsUnitFirst();
  if (isNew) domain.iommu.setUses(iommu.index, true);
  const done = yield* replaceEntry(vtd, domain, iommu, bus, devfn, pdev, domid, pgdMfn, mode);
  if (done !== REPLACED) {
    if (isNew) domain.iommu.setUses(iommu.index, false);
    return done;
  }
  const { prevDid, prevDom } = iommu;

  let rc = yield* flushContextEntry(iommu, prevDid, (bus << 8) | devfn, prevDom === undefined);
  if (rc === 0 && pdev?.atsEnabled === true && vtd.seams.vtdMoveFlushesDevice())
    rc = yield* forgetTranslations(iommu, pdev, prevDid);
  domain.iommu.setUses(iommu.index, true);

  if (rc === 0 && vtd.meSlot !== 0)
    rc = yield* mapMePhantom(vtd, domain, iommu, bus, devfn, domid, pgdMfn, mode);
  if (rc !== 0) {
    if ((mode & MAP.errorRecovery) === 0)
      yield* undoMapping(vtd, domain, iommu, bus, devfn, pdev, prevDom, mode);
    return rc;
  }
  return pdev !== undefined && prevDom !== undefined ? PREV_PRESENT : 0;
}

/** The management engine's phantom function goes where its owner goes. @xen me_wifi_quirk */
function* mapMePhantom(
  vtd: Vtd,
  domain: IommuDomain,
  iommu: VtdIommu,
  bus: number,
  devfn: number,
  domid: number,
  pgdMfn: number,
  mode: number,
): Co<Rc> {
  const me = iommu.drhd.segment === 0 ? mePhantomOf(vtd, bus, devfn) : 0;
  if (me === 0) return 0;
  const unit = acpiFindMatchedDrhdUnit(vtd, vtd.s.pciGetPdev(me & ~7))!.iommu!;
  return yield* domainContextMappingOne(domain, unit, 0, me, undefined, domid, pgdMfn, mode);
}

/** Back to the previous owner, or to no entry; when that worked, `domain` has nothing of it. */
function* undoMapping(
  vtd: Vtd,
  domain: IommuDomain,
  iommu: VtdIommu,
  bus: number,
  devfn: number,
  pdev: Pdev | undefined,
  prevDom: IommuDomain | undefined,
  mode: number,
): Co<void> {
  let rc = 0;
  // An alias that was quarantined loses its entry: its table was another device's.
  if (prevDom === undefined || (prevDom === vtd.s.domIo && pdev === undefined)) {
    rc = yield* domainContextUnmapOne(domain, iommu, bus, devfn);
  } else {
    const domid = pdev === undefined ? prevDom.domid : deviceDomid(prevDom, pdev);
    const pgdMfn = pdev === undefined ? prevDom.iommu.pgdMfn : devicePgtable(prevDom, pdev);
    const back = (mode & MAP.withRmrr) | MAP.errorRecovery;
    rc = yield* domainContextMappingOne(prevDom, iommu, bus, devfn, pdev, domid, pgdMfn, back);
    rc = Math.min(rc, 0);
  }
  if (rc === 0 && pdev?.devfn === devfn && vtd.seams.vtdFreesIdOfFailed())
    checkCleanupDomidMap(vtd, domain, pdev, iommu);
}

/**
 * Takes (bus, devfn) from whoever has it. A failure crashes a guest, or is only reported when it is dying.
 * @xen domain_context_unmap_one
 */
export function* domainContextUnmapOne(
  domain: IommuDomain,
  iommu: VtdIommu,
  bus: number,
  devfn: number,
): Co<Rc> {
  const { vtd } = iommu;
  assert(vtd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  let rc: Rc = ABSENT;
  {
    using _unit = yield* hold(iommu.lock);
    const at = contextEntryAt(iommu, bus, devfn);
    const { words } = iommu.ram;
    if (at !== 0 && (words[at]! & P) !== 0) {
      const did = didOf(words[at + 2]!);
      iommu.lctxt.clear();
      const bdf = (bus << 8) | devfn;
      writeWords(vtd, iommu, at, bdf, 0, 3);
      rc = yield* flushContextEntry(iommu, did, bdf, false);
    }
  }
  if (rc === ABSENT) return 0;
  if (rc === 0 && vtd.meSlot !== 0) rc = yield* unmapMePhantom(vtd, domain, iommu, bus, devfn);
  if (rc === 0 || domain === vtd.s.hwdom || domain === vtd.s.domIo) return rc;
  if (!domain.isDying) {
    vtd.s.domainCrash(domain, 'vtd/iommu.c domain_context_unmap_one');
    return rc;
  }
  const where = `${hex(iommu.drhd.segment, 4)}:${hex(bus, 2)}:${hex(devfn >> 3, 2)}.${devfn & 7}`;
  vtd.s.printk(XENLOG.ERR, `${vtd.s.pd(domain)}: error ${rc} unmapping ${where}`);
  return 0;
}

/** @xen me_wifi_quirk */
function* unmapMePhantom(vtd: Vtd, domain: IommuDomain, iommu: VtdIommu, bus: number, devfn: number): Co<Rc> {
  const me = iommu.drhd.segment === 0 ? mePhantomOf(vtd, bus, devfn) : 0;
  if (me === 0) return 0;
  const unit = acpiFindMatchedDrhdUnit(vtd, vtd.s.pciGetPdev(me & ~7))!.iommu!;
  return yield* domainContextUnmapOne(domain, unit, 0, me);
}
