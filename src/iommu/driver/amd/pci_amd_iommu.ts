/** Devices and domains: device table entries follow ownership. @xen drivers/passthrough/amd/pci_amd_iommu.c */
import { assert, panic } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { get, set } from '../../../base/layout.js';
import { formatSbdf, hex, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold, holdWrite } from '../../../sim/co.js';
import { DOMID } from '../../../sim/frames.js';
import { AMD_MMIO_BYTES, DTE } from '../../format/amd.js';
import { iommuAllocDomid, iommuFreeDomid } from '../domid.js';
import { type IommuDomain, PDEV_TYPE, type Pdev, XENLOG } from '../types.js';
import { disableAtsDevice, enableAtsDevice, pciAtsDevice, pciAtsEnabled } from './ats.js';
import {
  amdIommuSetIntremapTable,
  amdIommuSetRootPageTable,
  dteBefore,
  dteRoot,
  dteWritten,
  NON_ATOMIC,
  SET_ROOT_VALID,
  SET_ROOT_WITH_UNITY_MAP,
  setDeviceSettings,
  setDteAborting,
} from './dte.js';
import { amdIommuAllocIntremapTable, amdIommuFreeIntremapTable, gaEnabled } from './intremap_table.js';
import { ALL_PAGES, amdIommuFlushDevice, amdIommuFlushIotlb, hasIotlbCap } from './iommu_cmd.js';
import { amdIommuAllocRoot } from './iommu_map.js';
import type { IvrsMappings, UnityMap } from './ivrs_mappings.js';
import { amdIommuQuarantineTeardown } from './quarantine.js';
import { amdIommuGetPagingMode, findIommuForDevice, getDmaRequestorId } from './requestor.js';
import {
  type AmdUnit,
  type AmdVi,
  amdDebug,
  amdWarn,
  dteAt,
  getIvrsMappings,
  hash,
  quarantineSkip,
} from './state.js';
import { amdIommuReserveDomainUnityMap, amdIommuReserveDomainUnityUnmap } from './unity.js';

const bdfOf = (pdev: Pdev): number => pdev.sbdf & 0xffff;
const nameOf = (pdev: Pdev, devfn: number): string => formatSbdf(sbdfOf(pdev.seg, (pdev.bus << 8) | devfn));

/** @xen allocate_domain_resources */
function* allocateDomainResources(amd: AmdVi, d: IommuDomain): Co<Rc> {
  using _lock = yield* hold(d.iommu.mappingLock);
  return amdIommuAllocRoot(amd, d);
}

/** @xen any_pdev_behind_iommu */
function anyPdevBehindIommu(amd: AmdVi, d: IommuDomain, exclude: Pdev, unit: AmdUnit): boolean {
  for (let p = d.pdevList.first; p !== undefined; p = p.listNext)
    if (p !== exclude && findIommuForDevice(amd, p.seg, bdfOf(p)) === unit) return true;
  return false;
}

/** The device may use a translation cache of its own behind this unit. @xen use_ats */
const useAts = (amd: AmdVi, pdev: Pdev, unit: AmdUnit, ivrs: IvrsMappings, reqId: number): boolean =>
  amd.opts.ats && !ivrs.blockAts(reqId) && hasIotlbCap(unit) && pciAtsDevice(amd, pdev) !== 0;

/** Points the entry of `devfn` at the domain's table, or at the device's quarantine table. @xen amd_iommu_setup_domain_device */
function* amdIommuSetupDomainDevice(
  amd: AmdVi,
  domain: IommuDomain,
  unit: AmdUnit,
  devfn: number,
  pdev: Pdev,
): Co<Rc> {
  if (quarantineSkip(amd, domain, pdev)) return 0;
  const hd = domain.iommu;
  if (hd.pagingMode === 0 || unit.devTableMfn === 0)
    panic('Xen BUG at drivers/passthrough/amd/pci_amd_iommu.c');
  const rc = yield* allocateDomainResources(amd, domain);
  if (rc !== 0) return rc;

  const ivrs = getIvrsMappings(amd, unit.seg)!;
  const passthrough = amd.opts.hwdomPassthrough && domain === amd.s.hwdom;
  const unity = ivrs.unityMaps(getDmaRequestorId(ivrs, bdfOf(pdev))).length > 0;
  const srFlags = (passthrough ? 0 : SET_ROOT_VALID) | (unity ? SET_ROOT_WITH_UNITY_MAP : 0);
  const reqId = getDmaRequestorId(ivrs, (pdev.bus << 8) | devfn);
  const quarantined = domain === amd.s.domIo;
  const root = quarantined ? pdev.arch.rootMfn : hd.rootMfn;
  const domid = quarantined ? pdev.arch.pseudoDomid : domain.domid;

  const ret = yield* setDte(amd, domain, unit, devfn, pdev, reqId, root, domid, srFlags);
  if (ret !== 0) return ret;
  if (amd.opts.debug)
    amdDebug(
      amd,
      `Setup I/O page table: device id = ${hash(reqId)}, type = ${hash(pdev.type)}, ` +
        `root table = ${hash(root * 4096)}, domain = ${domid}, paging mode = ${hd.pagingMode}`,
    );
  assert(amd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  if (!useAts(amd, pdev, unit, ivrs, reqId)) return 0;
  const wasOn = pciAtsEnabled(amd, pdev);
  if (!wasOn && devfn === pdev.devfn) enableAtsDevice(amd, pdev, unit);
  if (!wasOn || amd.seams.amdMoveFlushesDevice()) yield* amdIommuFlushIotlb(amd, devfn, pdev, ALL_PAGES, 0);
  return 0;
}

/** The part of the above under the unit's lock, with the flush that follows. */
function* setDte(
  amd: AmdVi,
  domain: IommuDomain,
  unit: AmdUnit,
  devfn: number,
  pdev: Pdev,
  reqId: number,
  root: number,
  domid: number,
  srFlags: number,
): Co<Rc> {
  let flushDomid: number = DOMID.INVALID;
  {
    using _lock = yield* hold(unit.lock);
    const ivrs = getIvrsMappings(amd, unit.seg)!;
    const at = dteAt(amd, unit, reqId);
    const t = amd.s.ram.words;
    const mode = domain.iommu.pagingMode;
    const translates = get(t, at, DTE.V) === 1 && get(t, at, DTE.TV) === 1;
    if (translates && dteRoot(t, at) === root) return 0;
    const before = dteBefore(amd, unit, reqId);
    if (!translates) {
      const rc = amdIommuSetRootPageTable(amd, at, root, domid, mode, srFlags);
      if (rc !== 0) return rc;
      setDeviceSettings(amd, at, ivrs, reqId);
      if (useAts(amd, pdev, unit, ivrs, reqId)) set(t, at, DTE.I, 1);
    } else {
      flushDomid = amd.seams.amdPrevDomid(get(t, at, DTE.DOMAIN_ID));
      // An alias is shared: moving it would take the unity map from the others behind it.
      const aliased = reqId !== ((pdev.bus << 8) | devfn);
      if (!amd.seams.amdReplacesDteAtOnce()) {
        set(t, at, DTE.DOMAIN_ID, domid);
        dteWritten(amd, unit, reqId, before);
      }
      const rc =
        aliased && (srFlags & SET_ROOT_WITH_UNITY_MAP) !== 0
          ? E.OPNOTSUPP
          : amdIommuSetRootPageTable(amd, at, root, domid, mode, srFlags);
      if (rc < 0) return rc;
      if (rc === NON_ATOMIC) warnOfReassignment(amd, domain, unit, devfn, pdev);
    }
    dteWritten(amd, unit, reqId, before);
  }
  // Without translation before there is nothing of it in the TLB.
  yield* amdIommuFlushDevice(amd, unit, reqId, flushDomid);
  return 0;
}

/** Old id and new root stood together for a moment, which concerns whoever else uses the old id. */
function warnOfReassignment(amd: AmdVi, domain: IommuDomain, unit: AmdUnit, devfn: number, pdev: Pdev): void {
  const owner = pdev.domain!;
  if (domain === owner || owner.isDying || owner === amd.s.domIo) return;
  if (pdev.phantomStride === 0 && !anyPdevBehindIommu(amd, owner, pdev, unit)) return;
  amdWarn(amd, ` ${nameOf(pdev, devfn)}: reassignment may cause ${amd.s.pd(owner)} data corruption`);
}

/** The entry stops translating; its root and domain id stay behind. @xen amd_iommu_disable_domain_device */
function* amdIommuDisableDomainDevice(
  amd: AmdVi,
  domain: IommuDomain,
  unit: AmdUnit,
  devfn: number,
  pdev: Pdev,
): Co<void> {
  if (quarantineSkip(amd, domain, pdev) && amd.s.seams.amdDisableSkipsQuarantinedSource()) return;
  assert(amd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  if (pciAtsDevice(amd, pdev) !== 0 && pciAtsEnabled(amd, pdev)) disableAtsDevice(amd, pdev, unit);
  if (unit.devTableMfn === 0) panic('Xen BUG at drivers/passthrough/amd/pci_amd_iommu.c');
  const reqId = getDmaRequestorId(getIvrsMappings(amd, unit.seg)!, (pdev.bus << 8) | devfn);
  let prevDomid: number;
  {
    using _lock = yield* hold(unit.lock);
    const at = dteAt(amd, unit, reqId);
    const t = amd.s.ram.words;
    if (get(t, at, DTE.TV) === 0 && get(t, at, DTE.V) === 0) return;
    prevDomid = get(t, at, DTE.DOMAIN_ID);
    const before = dteBefore(amd, unit, reqId);
    setDteAborting(t, at);
    dteWritten(amd, unit, reqId, before);
  }
  yield* amdIommuFlushDevice(amd, unit, reqId, prevDomid);
  if (amd.opts.debug)
    amdDebug(
      amd,
      `Disable: device id = ${hash(reqId)}, domain = ${prevDomid}, paging mode = ${domain.iommu.pagingMode}`,
    );
}

/** Moves the device to the target's list. @xen reassign_device */
function* moveToList(pdev: Pdev, source: IommuDomain, target: IommuDomain): Co<void> {
  if (source.pciLock === undefined || target.pciLock === undefined) {
    source.pdevList.remove(pdev);
    target.pdevList.add(pdev);
    pdev.domain = target;
    return;
  }
  {
    using _lock = yield* holdWrite(source.pciLock);
    source.pdevList.remove(pdev);
  }
  pdev.domain = target;
  {
    using _lock = yield* holdWrite(target.pciLock);
    target.pdevList.add(pdev);
  }
}

/**
 * The unity maps that a domain holds for one call of the driver. Those of phantom functions come and go with their
 * device, since nobody knows after an error which of them were reached; V4: each with its own call.
 */
function unityMapsOf(amd: AmdVi, pdev: Pdev, devfn: number): readonly UnityMap[] {
  const ivrs = getIvrsMappings(amd, pdev.seg)!;
  const mapsAt = (fn: number): readonly UnityMap[] =>
    ivrs.unityMaps(getDmaRequestorId(ivrs, (pdev.bus << 8) | fn));
  if (pdev.phantomStride === 0 || amd.seams.amdCountsUnityPerFunction()) return mapsAt(devfn);
  if (devfn !== pdev.devfn) return [];
  const all = [...mapsAt(devfn)];
  for (let fn = devfn + pdev.phantomStride; fn >>> 3 === devfn >>> 3; fn += pdev.phantomStride)
    all.push(...mapsAt(fn));
  return all;
}

/** @xen reassign_device */
export function* reassignDevice(
  amd: AmdVi,
  source: IommuDomain,
  target: IommuDomain,
  devfn: number,
  pdev: Pdev,
): Co<Rc> {
  const unit = findIommuForDevice(amd, pdev.seg, bdfOf(pdev));
  if (unit === undefined) {
    const who = nameOf(pdev, devfn);
    amdWarn(amd, `failed to find IOMMU: ${who} cannot be assigned to ${amd.s.pd(target)}`);
    return E.NODEV;
  }
  if (!quarantineSkip(amd, target, pdev)) {
    if (!amd.seams.amdReassignsDirectly()) yield* amdIommuDisableDomainDevice(amd, source, unit, devfn, pdev);
    const rc = yield* amdIommuSetupDomainDevice(amd, target, unit, devfn, pdev);
    if (rc !== 0) return rc;
  } else yield* amdIommuDisableDomainDevice(amd, source, unit, devfn, pdev);

  if (devfn === pdev.devfn && pdev.domain !== target) yield* moveToList(pdev, source, target);

  // The hardware domain keeps its unity maps: firmware may still use them.
  if (source !== amd.s.hwdom && amd.seams.amdReleasesUnityMaps()) {
    const rc = yield* amdIommuReserveDomainUnityUnmap(amd, source, unityMapsOf(amd, pdev, devfn));
    if (rc !== 0) return rc;
  }
  if (amd.opts.debug)
    amdDebug(amd, `Re-assign ${nameOf(pdev, devfn)} from ${amd.s.pd(source)} to ${amd.s.pd(target)}`);
  return 0;
}

/** @xen amd_iommu_assign_device */
export function* amdIommuAssignDevice(
  amd: AmdVi,
  d: IommuDomain,
  devfn: number,
  pdev: Pdev,
  flag: number,
): Co<Rc> {
  const maps = unityMapsOf(amd, pdev, devfn);
  let rc = yield* amdIommuReserveDomainUnityMap(amd, d, maps, flag);
  if (rc === 0) rc = yield* reassignDevice(amd, pdev.domain!, d, devfn, pdev);
  if (rc === 0 || d === amd.s.hwdom) return rc;
  const ret = yield* amdIommuReserveDomainUnityUnmap(amd, d, maps);
  if (ret !== 0) {
    const who = `${hex(pdev.seg, 4)}:${hex(pdev.bus, 2)}:${hex(devfn >>> 3, 2)}.${devfn & 7}`;
    amd.s.printk(XENLOG.ERR, `AMD-Vi: unity-unmap for ${amd.s.pd(d)}/${who} failed (${ret})`);
    amd.s.domainCrash(d, 'amd/pci_amd_iommu.c amd_iommu_assign_device');
  }
  return rc;
}

/** @xen amd_iommu_add_device */
export function* amdIommuAddDevice(amd: AmdVi, devfn: number, pdev: Pdev): Co<Rc> {
  const owner = pdev.domain;
  if (owner === undefined) return E.INVAL;
  for (const unit of amd.units)
    if (pdev.seg === unit.seg && bdfOf(pdev) === unit.bdf) return owner === amd.s.hwdom ? 0 : E.NODEV;

  const unit = findIommuForDevice(amd, pdev.seg, bdfOf(pdev));
  if (unit === undefined) {
    if (pdev.type === PDEV_TYPE.PCI_HOST_BRIDGE && owner === amd.s.hwdom) {
      amdDebug(amd, `Skipping host bridge ${formatSbdf(pdev.sbdf)}`);
      return 0;
    }
    amdWarn(amd, `no IOMMU for ${nameOf(pdev, devfn)}; cannot be handed to ${amd.s.pd(owner)}`);
    return E.NODEV;
  }
  const ivrs = getIvrsMappings(amd, pdev.seg);
  const bdf = (pdev.bus << 8) | devfn;
  if (ivrs === undefined || !ivrs.valid(ivrs.requestor[bdf]!)) return E.PERM;

  const rc = yield* addIntremapTable(amd, unit, ivrs, bdf, pdev);
  if (rc !== 0) return rc;
  const maps = ivrs.unityMaps(ivrs.requestor[bdf]!);
  if ((yield* amdIommuReserveDomainUnityMap(amd, owner, maps, 0)) !== 0)
    amdWarn(amd, `${amd.s.pd(owner)}: unity mapping failed for ${nameOf(pdev, devfn)}`);

  let freshDomid = false;
  if (amd.opts.quarantine !== 'none' && pdev.arch.pseudoDomid === DOMID.INVALID) {
    pdev.arch.pseudoDomid = iommuAllocDomid(amd.s.pcidevsLock, amd.domidCursor, unit.domidMap!);
    if (pdev.arch.pseudoDomid === DOMID.INVALID) return E.NOSPC;
    freshDomid = true;
  }
  const ret = yield* amdIommuSetupDomainDevice(amd, owner, unit, devfn, pdev);
  if (ret !== 0 && freshDomid) {
    iommuFreeDomid(amd.s.pcidevsLock, pdev.arch.pseudoDomid, unit.domidMap!);
    pdev.arch.pseudoDomid = DOMID.INVALID;
  }
  return ret;
}

/** An interrupt table for a device that has none and sends messages. */
function* addIntremapTable(amd: AmdVi, unit: AmdUnit, ivrs: IvrsMappings, bdf: number, pdev: Pdev): Co<Rc> {
  if (amd.opts.intremap === 'off' || ivrs.requestor[bdf] !== bdf || ivrs.intremap.has(bdf)) return 0;
  if (pdev.msix !== undefined || pdev.msiMaxvec !== 0) {
    const table = amdIommuAllocIntremapTable(amd, unit, pdev.msix?.nrEntries ?? pdev.msiMaxvec);
    if (table === undefined) return E.NOMEM;
    ivrs.intremap.set(bdf, table);
  }
  {
    using _lock = yield* hold(unit.lock);
    const before = dteBefore(amd, unit, bdf);
    const at = dteAt(amd, unit, bdf);
    amdIommuSetIntremapTable(amd.s.ram.words, at, ivrs.intremap.get(bdf), gaEnabled(unit), true);
    dteWritten(amd, unit, bdf, before);
  }
  // The entry did not translate DMA, so the TLB has nothing of it.
  yield* amdIommuFlushDevice(amd, unit, bdf, DOMID.INVALID);
  return 0;
}

/** @xen amd_iommu_remove_device */
export function* amdIommuRemoveDevice(amd: AmdVi, devfn: number, pdev: Pdev): Co<Rc> {
  const owner = pdev.domain;
  if (owner === undefined) return E.INVAL;
  const unit = findIommuForDevice(amd, pdev.seg, bdfOf(pdev));
  if (unit === undefined) {
    const who = nameOf(pdev, devfn);
    amdWarn(amd, `failed to find IOMMU: ${who} cannot be removed from ${amd.s.pd(owner)}`);
    return E.NODEV;
  }
  yield* amdIommuDisableDomainDevice(amd, owner, unit, devfn, pdev);

  const ivrs = getIvrsMappings(amd, pdev.seg)!;
  const bdf = (pdev.bus << 8) | devfn;
  const maps = ivrs.unityMaps(ivrs.requestor[bdf]!);
  if ((yield* amdIommuReserveDomainUnityUnmap(amd, owner, maps)) !== 0)
    amdWarn(amd, `${amd.s.pd(owner)}: unity unmapping failed for ${nameOf(pdev, devfn)}`);

  if (devfn === pdev.devfn || amd.seams.amdTearsDownAtFirstFunction()) {
    yield* amdIommuQuarantineTeardown(amd, pdev);
    if (unit.domidMap !== undefined) iommuFreeDomid(amd.s.pcidevsLock, pdev.arch.pseudoDomid, unit.domidMap);
    pdev.arch.pseudoDomid = DOMID.INVALID;
  }
  const tableGoes = devfn === pdev.devfn || amd.seams.amdFreesInterruptTableTwice();
  if (tableGoes && amd.opts.amdPerdevIntremap && ivrs.requestor[bdf] === bdf)
    amdIommuFreeIntremapTable(amd, ivrs, bdf);
  return 0;
}

/** @xen amd_iommu_group_id */
export function amdIommuGroupId(amd: AmdVi, seg: number, bus: number, devfn: number): number {
  const bdf = (bus << 8) | devfn;
  const ivrs = getIvrsMappings(amd, seg);
  return ivrs !== undefined && bdf < amd.ivrsBdfEntries ? getDmaRequestorId(ivrs, bdf) : bdf;
}

/** Frames below the end of RAM. @xen get_upper_mfn_bound() + 1 */
function ramEnd(amd: AmdVi): number {
  let end = 0;
  for (const e of amd.s.e820) if (e.type === 'usable') end = Math.max(end, e.end);
  return Math.floor(end / 4096);
}

/** Chooses the levels of the domain's table. @xen amd_iommu_domain_init */
export function amdIommuDomainInit(amd: AmdVi, d: IommuDomain): Rc {
  const physEnd = 2 ** Math.ceil(Math.log2(amd.s.ram.frames));
  const frames = amd.seams.amdDomainFrames(d.isHvm, ramEnd(amd), physEnd);
  const levels = amdIommuGetPagingMode(amd, frames);
  if (levels < 0 && amd.seams.amdReportsPagingMode()) return levels;
  d.iommu.pagingMode = Math.max(levels, amd.minPagingMode);
  return 0;
}

/** @xen amd_iommu_hwdom_init */
export function* amdIommuHwdomInit(amd: AmdVi, d: IommuDomain): Co<void> {
  if ((yield* allocateDomainResources(amd, d)) !== 0)
    panic('Xen BUG at drivers/passthrough/amd/pci_amd_iommu.c');
  for (const unit of amd.units)
    amd.s.iomemDenyAccess(
      d,
      Math.floor(unit.mmioBase / 4096),
      Math.floor((unit.mmioBase + AMD_MMIO_BYTES - 1) / 4096),
    );
  // Workarounds come before the devices.
  yield* amd.s.archIommuHwdomInit(d);
  yield* amd.s.setupHwdomPciDevices(d, (devfn, pdev) => amdIommuAddDevice(amd, devfn, pdev));
}
