import { amdBehaviour4_18, amdFlaws } from '../../iommu/driver/amd/seams.js';
import { everyFlaw } from './every.js';
import type { Release } from './release.js';
import { vtdBehaviour4_18, vtdFlaws, vtdFlaws4_18 } from './vtd.js';

/** July 2026: more backports than 4.18.3 has. The release that golden transcripts were recorded on. */
export const xen4_17_7: Release = {
  name: '4.17.7',
  major: 4,
  minor: 17,
  extra: '.7',
  behaviour: {
    ...amdBehaviour4_18,
    ...vtdBehaviour4_18,
    vtdFaultSuffix: () => '',
    hasPciLock: () => false,
    releaseResult: (sofar, rc) => (rc === 0 ? sofar : rc),
    vfNeedsPf: () => false,
    knowsDeviceReset: () => false,
    checksExtCfg: () => false,
    hwdomMapFromRanges: () => false,
    msiIsWrittenOnce: () => false,
    consoleThreshold: () => 2,
    domainInfoIsExact: () => false,
    countsSharedFrames: () => true,
    unmapNeedsTargetRight: () => true,
    mappingPortsGrantsThem: () => true,
    upcallOfEachVcpu: () => true,
    ioportMapDomainText: (domid) => `dom${domid}`,
    hvmRestoreText: (domid, name, instance) => `HVM${domid} restore: ${name} ${instance}`,
    ioportMapConflict: () => 0,
    crashLines: {
      'pci.c assign_device': 1479,
      'pci.c iommu_dev_iotlb_flush_timeout': 1563,
      'iommu.c iommu_map': 355,
      'iommu.c iommu_unmap': 427,
      'iommu.c iommu_iotlb_flush': 488,
      'iommu.c iommu_iotlb_flush_all': 513,
      'vtd/iommu.c domain_context_unmap_one': 1948,
      'vtd/iommu.c domain_context_unmap': 2013,
      'vtd/iommu.c intel_iommu_assign_device': 2941,
      'amd/iommu_map.c amd_iommu_map_page root': 447,
      'amd/iommu_map.c amd_iommu_map_page': 457,
      'amd/iommu_map.c amd_iommu_unmap_page': 526,
      'amd/pci_amd_iommu.c amd_iommu_assign_device': 534,
      'arch/x86/mm/p2m.c p2m_add_page': 673,
      'arch/x86/mm/p2m.c set_typed_p2m_entry': 1057,
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

/** December 2022: before the fix of XSA-449, as 4.17.1 to 4.17.3. */
export const xen4_17_0: Release = {
  ...xen4_17_7,
  name: '4.17.0',
  extra: '.0',
  behaviour: {
    ...xen4_17_7.behaviour,
    hasCapsLock: () => false,
    smallDomctlsTakeNoLock: () => false,
    nothingToMapNeedsNoRight: () => false,
    bindTellsMissingIommu: () => true,
    domctlDomainText: (domid) => `dom${domid}`,
  },
  flaws: { ...xen4_17_7.flaws, phantomAssignResult: () => 0 },
};
