/** Ranges that firmware wants mapped one to one for a device: RMRRs and unity maps. @xen drivers/passthrough/x86/iommu.c */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import {
  DEV_RDM_RELAXED,
  type IdentityMap,
  IOMMUF,
  type P2mAccess,
  XENLOG,
} from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import type { Domain } from '../domain.js';
import { P2M } from '../mm/p2m.js';
import { p2mSetEntry } from '../mm/physmap.js';
import type { Xen } from '../xen.js';
import { iommuLegacyMap, iommuLegacyUnmap } from './iommu.js';
import { pcidevsLocked } from './segment.js';

/**
 * Maps frames `base` to `end` (inclusive) for one more holder, or for one less with access 'x'.
 * @returns 0, -EADDRINUSE, -ENOENT, -ENOMEM, -ENXIO, -EBUSY. @xen iommu_identity_mapping
 */
export function* iommuIdentityMapping(
  xen: Xen,
  d: Domain,
  access: P2mAccess,
  base: number,
  end: number,
  flag: number,
): Co<Rc> {
  assert(pcidevsLocked(xen), 'pcidevs lock is held');
  assert(base <= end, 'the range is not empty');
  const maps = d.iommu.identityMaps;
  for (let i = 0; i < maps.length; i++) {
    const map = maps[i]!;
    if (map.base === base && map.end === end) {
      if (access === 'x') return yield* dropHolder(xen, d, map);
      if (map.access !== access) return E.ADDRINUSE;
      map.count += 1;
      return 0;
    }
    if (end >= map.base && map.end >= base) return E.ADDRINUSE;
  }
  if (access === 'x') return E.NOENT;

  // Entered ahead of the mapping, so that the range is found when it has to be cleaned up.
  const map: IdentityMap = { base, end, access, count: 1 };
  if (xen.seams.identityEnteredFirst()) {
    if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
    maps.push(map);
  }
  for (let pfn = base; pfn <= end; pfn++) {
    const err = yield* setIdentityP2mEntry(xen, d, pfn, access, flag);
    if (err === 0) continue;
    if (pfn === base && maps.includes(map)) maps.splice(maps.indexOf(map), 1);
    return err;
  }
  if (xen.seams.identityEnteredFirst()) return 0;
  if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  maps.push(map);
  return 0;
}

function* dropHolder(xen: Xen, d: Domain, map: IdentityMap): Co<Rc> {
  map.count = xen.seams.identityHolders(map.count) - 1;
  if (map.count > 0) return 0;
  let ret: Rc = 0;
  for (let pfn = map.base; pfn <= map.end; pfn++) {
    if ((yield* clearIdentityP2mEntry(xen, d, pfn)) !== 0) ret = E.NXIO;
  }
  const maps = d.iommu.identityMaps;
  maps.splice(maps.indexOf(map), 1);
  return ret;
}

/** @xen iommu_identity_map_teardown */
export function iommuIdentityMapTeardown(d: Domain): void {
  const maps = d.iommu.identityMaps;
  if (maps.length > 0) maps.length = 0;
}

/** @xen p2m_access_to_iommu_flags */
const accessFlags = (access: P2mAccess): number =>
  (access === 'rw' || access === 'r' ? IOMMUF.readable : 0) |
  (access === 'rw' || access === 'w' ? IOMMUF.writable : 0);

/** @xen set_identity_p2m_entry, p2m_add_identity_entry */
export function* setIdentityP2mEntry(
  xen: Xen,
  d: Domain,
  gfn: number,
  access: P2mAccess,
  flag: number,
): Co<Rc> {
  if (d.p2m === undefined) {
    return d.iommuEnabled ? yield* iommuLegacyMap(xen, d, gfn, gfn, 1, accessFlags(access)) : 0;
  }
  const writable = access !== 'r';
  const old = d.p2m.lookup(gfn);
  if (old.type === P2M.invalid || old.type === P2M.mmioDm) {
    return yield* p2mSetEntry(xen, d, gfn, gfn, 0, P2M.mmioDirect, writable);
  }
  if (old.mfn === gfn && old.type === P2M.mmioDirect && old.writable === writable) return 0;
  const at = `d${d.domid}:${gfn.toString(16)}`;
  xen.services.printk(
    XENLOG.G_WARNING,
    `Cannot setup identity map ${at}, gfn already mapped to ${mfnText(old.mfn)}.`,
  );
  return (flag & DEV_RDM_RELAXED) !== 0 ? 0 : E.BUSY;
}

/** @xen clear_identity_p2m_entry, p2m_remove_identity_entry */
export function* clearIdentityP2mEntry(xen: Xen, d: Domain, gfn: number): Co<Rc> {
  if (d.p2m === undefined) return d.iommuEnabled ? yield* iommuLegacyUnmap(xen, d, gfn, 1) : 0;
  const old = d.p2m.lookup(gfn);
  if (old.type === P2M.mmioDirect && old.mfn === gfn) {
    return yield* p2mSetEntry(xen, d, gfn, -1, 0, P2M.invalid);
  }
  if (old.mfn >= 0) {
    const at = `${xen.services.pd(d)}:${gfn.toString(16)}`;
    xen.services.printk(
      XENLOG.G_WARNING,
      `non-identity map ${at} not cleared (mapped to ${mfnText(old.mfn)})`,
    );
  }
  return 0;
}

/** INVALID_MFN is all ones. */
const mfnText = (mfn: number): string => (mfn < 0 ? 'f'.repeat(16) : mfn.toString(16));
