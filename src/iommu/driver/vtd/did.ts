/**
 * Domain ids as a unit knows them. A unit with full-width ids uses Xen's own (or, with caching mode, their
 * complement, since id 0 tags what is not present there); a narrower one deals its ids out of a map.
 * @xen drivers/passthrough/vtd/iommu.c
 */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { DOMID } from '../../../sim/frames.js';
import { DOMID_MASK } from '../domid.js';
import type { IommuDomain, Pdev } from '../types.js';
import type { ContextEntry } from './context_entry.js';
import { acpiFindMatchedDrhdUnit } from './drhd.js';
import type { Vtd, VtdIommu } from './state.js';

/** Bits 87:72 of a context entry, in its third word. */
export const DID_MASK = 0xff_ff00;

/** Its own inverse. @xen convert_domid */
export const convertDomid = (iommu: VtdIommu, domid: number): number =>
  iommu.cachingMode ? ~domid & 0xffff : domid;

/** Prepares the map of a unit that has too few ids. @xen iommu_alloc */
export function initDomidMap(iommu: VtdIommu): void {
  if (iommu.ndoms > DOMID_MASK * 2 + (iommu.cachingMode ? 1 : 0)) return;
  iommu.domidMap = new Int32Array(iommu.ndoms).fill(-1);
  // Id 0 tags entries that are not present: nobody may have it.
  if (iommu.cachingMode) {
    iommu.domidMap[0] = DOMID.INVALID;
    iommu.lowestFreeDid = 1;
  }
}

/** The hardware id of `domid`, -1 when it has none. @xen get_iommu_did */
export function getIommuDid(iommu: VtdIommu, domid: number): number {
  if (iommu.domidMap === undefined) return convertDomid(iommu, domid);
  return iommu.didOfDomid.get(domid) ?? -1;
}

/**
 * Deals `domid` an id and stores it in the entry under construction, unless that is undefined.
 * @returns -EBUSY when the unit has no id left. @xen context_set_domain_id
 */
export function contextSetDomainId(
  vtd: Vtd,
  entry: ContextEntry | undefined,
  domid: number,
  iommu: VtdIommu,
): Rc {
  assert(vtd.s.pcidevsLock.heldByCurrent(), 'pcidevs lock is held');
  let did = iommu.domidMap === undefined ? convertDomid(iommu, domid) : getIommuDid(iommu, domid);
  if (did < 0) {
    did = dealDid(iommu, domid);
    if (did < 0) return E.BUSY;
  }
  if (entry !== undefined) entry.w2 = (entry.w2 & ~DID_MASK) | (did << 8);
  return 0;
}

function dealDid(iommu: VtdIommu, domid: number): number {
  const map = iommu.domidMap!;
  let did = iommu.lowestFreeDid;
  while (did < map.length && map[did] !== -1) did++;
  iommu.lowestFreeDid = did;
  if (did >= map.length) return -1;
  map[did] = domid;
  iommu.didOfDomid.set(domid, did);
  iommu.lowestFreeDid = did + 1;
  return did;
}

/** @xen cleanup_domid_map */
export function cleanupDomidMap(iommu: VtdIommu, domid: number): void {
  const map = iommu.domidMap;
  if (map === undefined) return;
  const did = iommu.didOfDomid.get(domid);
  if (did === undefined) return;
  map[did] = -1;
  iommu.didOfDomid.delete(domid);
  iommu.lowestFreeDid = Math.min(iommu.lowestFreeDid, did);
}

/** Whose id a hardware id is; DOMID.INVALID for nobody's. @xen did_to_domain_id */
export function didToDomainId(iommu: VtdIommu, did: number): number {
  if (did >= iommu.ndoms) return DOMID.INVALID;
  if (iommu.domidMap === undefined) return convertDomid(iommu, did);
  const domid = iommu.domidMap[did]!;
  return domid === -1 ? DOMID.INVALID : domid;
}

/** @xen any_pdev_behind_iommu */
export function anyPdevBehindIommu(
  vtd: Vtd,
  d: IommuDomain,
  exclude: Pdev | undefined,
  iommu: VtdIommu,
): boolean {
  for (let p = d.pdevList.first; p !== undefined; p = p.listNext) {
    if (p !== exclude && acpiFindMatchedDrhdUnit(vtd, p)?.iommu === iommu) return true;
  }
  return false;
}

/**
 * Forgets that `d` uses the unit, and frees its id, when `exclude` was its last device behind it. Hidden devices
 * belong to d[XEN] but work for the hardware domain. @xen check_cleanup_domid_map
 */
export function checkCleanupDomidMap(
  vtd: Vtd,
  d: IommuDomain,
  exclude: Pdev | undefined,
  iommu: VtdIommu,
): void {
  if (d.domid === DOMID.IO) return;
  if (anyPdevBehindIommu(vtd, d, exclude, iommu)) return;
  if (d === vtd.s.hwdom && anyPdevBehindIommu(vtd, vtd.s.domXen, exclude, iommu)) return;
  d.iommu.setUses(iommu.index, false);
  cleanupDomidMap(iommu, d.domid);
}
