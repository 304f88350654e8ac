/** Which unit is responsible for a device. @xen drivers/passthrough/vtd/dmar.c */
import { type Pdev, VTD_UNIT } from '../types.js';
import type { AtsrUnit, DrhdUnit, Vtd, VtdIommu } from './state.js';

/**
 * The unit of a device, or undefined. The answer is kept in the device: units never change after the table was read.
 * @xen acpi_find_matched_drhd_unit
 */
export function acpiFindMatchedDrhdUnit(vtd: Vtd, pdev: Pdev | undefined): DrhdUnit | undefined {
  if (pdev === undefined) return undefined;
  const { vtdUnit } = pdev.arch;
  return vtdUnit >= 0 ? vtd.drhds[vtdUnit] : findMatched(vtd, pdev);
}

function findMatched(vtd: Vtd, pdev: Pdev): DrhdUnit | undefined {
  if (pdev.arch.vtdUnit === VTD_UNIT.unknown) pdev.arch.vtdUnit = findUnit(vtd, pdev);
  return pdev.arch.vtdUnit < 0 ? undefined : vtd.drhds[pdev.arch.vtdUnit];
}

function findUnit(vtd: Vtd, pdev: Pdev): number {
  let bus = pdev.bus;
  let devfn = pdev.devfn;
  // A virtual function is behind the unit of its physical one; an ARI function number is no address to scope.
  if (pdev.isVirtfn) {
    bus = pdev.physfn.bus;
    devfn = pdev.isExtfn ? 0 : pdev.physfn.devfn;
  } else if (pdev.isExtfn) devfn = 0;

  const bdf = (bus << 8) | devfn;
  let includeAll: number = VTD_UNIT.none;
  for (let i = 0; i < vtd.drhds.length; i++) {
    const drhd = vtd.drhds[i]!;
    if (drhd.segment !== pdev.seg) continue;
    if (drhd.scope.devices.includes(bdf) || drhd.scope.hasBus(bus)) return i;
    if (drhd.includeAll) includeAll = i;
  }
  return includeAll;
}

/** @xen acpi_find_matched_atsr_unit */
export function acpiFindMatchedAtsrUnit(vtd: Vtd, pdev: Pdev): AtsrUnit | undefined {
  let allPorts: AtsrUnit | undefined;
  for (const atsr of vtd.atsrs) {
    if (atsr.segment !== pdev.seg) continue;
    if (atsr.scope.hasBus(pdev.bus)) return atsr;
    if (atsr.allPorts) allPorts = atsr;
  }
  return allPorts;
}

/** @xen ioapic_to_drhd */
export const ioapicToDrhd = (vtd: Vtd, apicId: number): DrhdUnit | undefined =>
  vtd.drhds.find((drhd) => drhd.ioapics.some((a) => a.id === apicId));
/** @xen ioapic_to_iommu */
export const ioapicToIommu = (vtd: Vtd, apicId: number): VtdIommu | undefined =>
  ioapicToDrhd(vtd, apicId)?.iommu;
