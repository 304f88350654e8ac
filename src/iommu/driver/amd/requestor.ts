/** Which unit serves a function, and under which id. @xen drivers/passthrough/amd/pci_amd_iommu.c */
import { E } from '../../../base/errno.js';
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import { XENLOG } from '../types.js';
import type { IvrsMappings } from './ivrs_mappings.js';
import { type AmdUnit, type AmdVi, getIvrsMappings } from './state.js';

/** The unit that serves `bdf`, undefined when there is none. @xen find_iommu_for_device */
export function findIommuForDevice(amd: AmdVi, seg: number, bdf: number): AmdUnit | undefined {
  const ivrs = getIvrsMappings(amd, seg);
  if (ivrs === undefined || bdf >= amd.ivrsBdfEntries) return undefined;
  const found = ivrs.unit(bdf);
  if (found >= 0) return amd.units[found];
  if (!amd.initDone) return undefined;
  const bd0 = bdf & ~7;
  const unit0 = ivrs.unit(bd0);
  if (unit0 < 0 || amd.units[unit0]!.bdf === bdf) return undefined;
  ivrs.copy(bdf, bd0);
  const name = formatSbdf(sbdfOf(seg, bdf));
  amd.s.printk(XENLOG.WARNING, `${name} not found in ACPI tables; using same IOMMU as function 0`);
  ivrs.setUnit(bdf, unit0);
  return amd.units[unit0];
}

/** The id that indexes the device table for `bdf`; its own where both it and its alias are valid. @xen get_dma_requestor_id */
export function getDmaRequestorId(ivrs: IvrsMappings, bdf: number): number {
  const req = ivrs.requestor[bdf]!;
  return ivrs.valid(bdf) && ivrs.valid(req) ? bdf : req;
}

/** @xen amd_iommu_get_paging_mode: levels for that many frames, negative when the units have fewer */
export function amdIommuGetPagingMode(amd: AmdVi, maxFrames: number): number {
  let level = 1;
  for (let frames = maxFrames; frames > 512; frames = Math.ceil(frames / 512)) {
    level += 1;
    if (level > amd.maxPagingMode) return E.NOMEM;
  }
  return level;
}
