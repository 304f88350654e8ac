import { amdBehaviour4_18, amdFlaws } from '../../iommu/driver/amd/seams.js';
import { everyFlaw } from './every.js';
import type { Release } from './release.js';
import { vtdBehaviour4_18, vtdFlaws, vtdFlaws4_18 } from './vtd.js';

/** August 2024: the release that the seed document describes, and the default. */
export const xen4_18_3: Release = {
  name: '4.18.3',
  major: 4,
  minor: 18,
  extra: '.3',
  behaviour: {
    ...amdBehaviour4_18,
    ...vtdBehaviour4_18,
    vtdFaultSuffix: () => '',
    hasPciLock: () => false,
    hasCapsLock: () => false,
    releaseResult: (sofar, rc) => (rc === 0 ? sofar : rc),
    vfNeedsPf: () => false,
    knowsDeviceReset: () => false,
    checksExtCfg: () => false,
    hwdomMapFromRanges: () => false,
    msiIsWrittenOnce: () => false,
    smallDomctlsTakeNoLock: () => false,
    nothingToMapNeedsNoRight: () => false,
    mappingPortsGrantsThem: () => true,
    bindTellsMissingIommu: () => true,
    unmapNeedsTargetRight: () => true,
    domctlDomainText: (domid) => `dom${domid}`,
    hvmRestoreText: (domid, name, instance) => `HVM${domid} restore: ${name} ${instance}`,
    upcallOfEachVcpu: () => true,
    ioportMapDomainText: (domid) => `dom${domid}`,
    ioportMapConflict: () => 0,
    crashLines: {
      'pci.c assign_device': 1472,
      'pci.c iommu_dev_iotlb_flush_timeout': 1556,
      'iommu.c iommu_map': 366,
      'iommu.c iommu_unmap': 438,
      'iommu.c iommu_iotlb_flush': 499,
      'iommu.c iommu_iotlb_flush_all': 524,
      'vtd/iommu.c domain_context_unmap_one': 1945,
      'vtd/iommu.c domain_context_unmap': 2010,
      'vtd/iommu.c intel_iommu_assign_device': 2937,
      'amd/iommu_map.c amd_iommu_map_page root': 447,
      'amd/iommu_map.c amd_iommu_map_page': 457,
      'amd/iommu_map.c amd_iommu_unmap_page': 526,
      'amd/pci_amd_iommu.c amd_iommu_assign_device': 534,
      'arch/x86/mm/p2m.c p2m_add_page': 656,
      'arch/x86/mm/p2m.c set_typed_p2m_entry': 1042,
    },
  },
  flaws: {
    ...amdFlaws,
    ...vtdFlaws,
    ...vtdFlaws4_18,
    amdDisableSkipsQuarantinedSource: () => true,
    pfWithVfsStays: () => false,
    vfIoBarIsSkipped: () => false,
    mapsPci2pcieBuses: () => false,
    mcfgForgetsSegments: () => true,
    ...everyFlaw,
  },
};

/** November 2023: before the fix of XSA-449. */
export const xen4_18_0: Release = {
  ...xen4_18_3,
  name: '4.18.0',
  extra: '.0',
  flaws: { ...xen4_18_3.flaws, phantomAssignResult: () => 0 },
};
