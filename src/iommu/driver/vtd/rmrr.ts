/** Reserved ranges and the devices they belong to. @xen drivers/passthrough/vtd/dmar.h, iommu.c */
import type { Rc } from '../../../base/errno.js';
import { sbdfOf } from '../../../base/sbdf.js';
import type { Co } from '../../../sim/co.js';
import type { GrdmFn, IommuDomain, P2mAccess } from '../types.js';
import type { RmrrUnit, Vtd } from './state.js';

/** Does the range list this function? An entry for 00:00.0 ends the list. @xen for_each_rmrr_device */
export function rmrrCovers(rmrr: RmrrUnit, seg: number, bdf: number): boolean {
  if (rmrr.segment !== seg) return false;
  const { devices } = rmrr.scope;
  for (let i = 0; i < devices.length && devices[i] !== 0; i++) if (devices[i] === bdf) return true;
  return false;
}

export function hasRmrr(vtd: Vtd, seg: number, bdf: number): boolean {
  for (let i = 0; i < vtd.rmrrs.length; i++) if (rmrrCovers(vtd.rmrrs[i]!, seg, bdf)) return true;
  return false;
}

/** Maps, or with access 'x' unmaps, one range. @xen iommu_identity_mapping */
export function* rmrrMapping(
  vtd: Vtd,
  d: IommuDomain,
  access: P2mAccess,
  rmrr: RmrrUnit,
  flag: number,
): Co<Rc> {
  const first = Math.floor(rmrr.base / 4096);
  return yield* vtd.s.identityMapping(d, access, first, Math.ceil(rmrr.end / 4096) - 1, flag);
}

/** `[7ffe0000,7ffe3fff]` */
export const rangeText = (r: RmrrUnit): string => `[${r.base.toString(16)},${r.end.toString(16)}]`;

/** @xen intel_iommu_get_reserved_device_memory */
export function intelIommuGetReservedDeviceMemory(vtd: Vtd, fn: GrdmFn): Rc {
  for (const rmrr of vtd.rmrrs) {
    const start = Math.floor(rmrr.base / 4096);
    for (const bdf of rmrr.scope.devices) {
      if (bdf === 0) break;
      const rc = fn(start, Math.ceil(rmrr.end / 4096) - start, sbdfOf(rmrr.segment, bdf));
      if (rc < 0) return rc;
      if (rc > 0) break;
    }
  }
  return 0;
}
