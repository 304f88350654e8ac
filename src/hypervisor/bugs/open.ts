/**
 * Open findings: mistakes of today's releases that no advisory names. What is known of them stays here until Xen's
 * security team has it (SECURITY.md). The seams are those that `--fixed` repairs.
 */
import type { Bug } from './bug.js';

const EVERY = '4.17.7, 4.18.3 and 4.23-unstable as of August 2026';

export const openFindings: readonly Bug[] = [
  {
    id: 'R1',
    title: 'AMD: phantom functions stay on the table of dom0 when a device is quarantined from dom0',
    year: 2026,
    releases: EVERY,
    mechanism:
      'The primary function moves to d[IO] first. For each phantom function the source is then d[IO] itself, which has no table, and disabling the entry returns before it has done anything.',
    fix: 'The entry is disabled whatever its source.',
    source: 'recorded on 4.17.7; amd_iommu_disable_domain_device()',
    seams: { amdDisableSkipsQuarantinedSource: () => true },
    breaks: ['INV-I5', 'INV-P1'],
    environment: {
      vendor: 'amd',
      machine: { quarantine: 'basic', slots: ['phantom1'] },
      ops: ['assign', 'quarantine', 'deassign', 'release'],
    },
  },
  {
    id: 'V1',
    title: "VT-d: a failed alias is undone for the bridge's function number, not the device's",
    year: 2026,
    releases: EVERY,
    mechanism:
      "Looking for the bridge overwrites the variable that holds the device's function number. When the alias cannot be mapped, the undo works on the wrong entry and the device's own stays with the new domain.",
    fix: 'The number of the device is kept for the undo.',
    source: 'vtd/iommu.c domain_context_mapping(), read',
    seams: { vtdAliasUndoDevfn: (_own, bridge) => bridge },
    breaks: ['INV-I2', 'INV-O6'],
    environment: {
      vendor: 'vtd',
      machine: { slots: ['legacyBridge', 'pcieToPci'], dom0: 'strict', fewIds: false },
      ops: ['assign', 'fail', 'deassign'],
    },
  },
  {
    id: 'V2',
    title: 'AMD: removing a quarantined device frees its table under the functions still to come',
    year: 2026,
    releases: EVERY,
    mechanism:
      'The first phantom function removed takes the quarantine table with it. Without a table the later ones are skipped, and go on translating through freed pages.',
    fix: 'The table goes with the last function.',
    source: 'amd_iommu_remove_device(), read',
    seams: { amdTearsDownAtFirstFunction: () => true, amdDisableSkipsQuarantinedSource: () => true },
    breaks: ['INV-I2', 'INV-F7'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['phantom1'], quarantine: 'scratch-page' },
      ops: ['quarantine', 'remove', 'assign'],
    },
  },
  {
    id: 'V3',
    title: 'AMD: phantom functions keep the table of dom0 after their device is gone',
    year: 2026,
    releases: EVERY,
    mechanism:
      'What R1 leaves behind is skipped again when the device is removed: nobody knows the device any more, and its phantom ids translate for dom0.',
    fix: 'That of R1.',
    source: 'amd_iommu_remove_device(), read',
    seams: { amdDisableSkipsQuarantinedSource: () => true },
    breaks: ['INV-I5', 'INV-P1'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['phantom1'], quarantine: 'basic' },
      ops: ['quarantine', 'remove', 'assign'],
    },
  },
  {
    id: 'V4',
    title: 'AMD: holders of a unity map are miscounted where phantom functions have it too',
    year: 2026,
    releases: EVERY,
    mechanism:
      'Assigning a phantom function reassigns it within the domain, which drops the reference that was just taken. A second device that has the range loses it when the first one leaves.',
    fix: 'A move within one domain drops nothing.',
    source: 'amd reassign_device(), read',
    seams: { amdCountsUnityPerFunction: () => true },
    breaks: ['INV-F11'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['phantom1', 'endpoint'], reserved: 0, sharedReserved: true, reservedByOption: true },
      ops: ['assign', 'deassign'],
    },
  },
  {
    id: 'V5',
    title: 'basic quarantine of a device with reserved ranges clears machine frame 0',
    year: 2026,
    releases: EVERY,
    mechanism:
      'Coming back into quarantine clears the scratch page of the device. In basic mode there is none, and the field that names it is still 0.',
    fix: 'Nothing is cleared where there is no page.',
    source: 'intel_iommu_quarantine_init(), amd_iommu_quarantine_init(), read',
    seams: { vtdClearsUnsetLeaf: () => true, amdClearsFrameZero: () => true },
    breaks: ['INV-Q3'],
    environment: {
      vendor: 'vtd',
      machine: { slots: ['endpoint'], reserved: 0, quarantine: 'basic' },
      ops: ['quarantine', 'release', 'assign', 'deassign'],
    },
  },
  {
    id: 'V6',
    title: 'VT-d: the id of a bridge keeps the scratch table of the sibling quarantined first',
    year: 2026,
    releases: EVERY,
    mechanism:
      "An alias that belongs to d[IO] already is left as it is, though each quarantined device has a table of its own. Requests of the second sibling then land on the first one's page. Debug builds stop at an assertion.",
    fix: 'The entry is replaced when it carries the id of another device.',
    source: 'domain_context_mapping_one(), read',
    seams: { vtdAliasFollowsQuarantine: () => false },
    breaks: ['INV-I4'],
    environment: {
      vendor: 'vtd',
      machine: { slots: ['pcieToPci'], quarantine: 'scratch-page' },
      ops: ['quarantine', 'release', 'assign', 'deassign'],
    },
  },
  {
    id: 'W1',
    title: 'AMD: quarantine tables never get the unity maps of their device',
    year: 2026,
    releases: EVERY,
    mechanism:
      'Making a quarantine table lends its root to d[IO] and maps the unity ranges for d[IO]. The function that maps them returns at once for d[IO], whatever it holds, so the table stays without them: memory that firmware names for the device is out of reach, or with scratch pages leads to the scratch page.',
    fix: 'd[IO] is exempt only while it has no table.',
    source: 'amd_iommu_reserve_domain_unity_map(), read',
    seams: { amdQuarantineLosesUnity: () => true },
    breaks: ['INV-F11'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['endpoint'], reserved: 0, quarantine: 'basic' },
      ops: ['quarantine', 'release', 'assign', 'deassign'],
    },
  },
  {
    id: 'W2',
    title: 'VT-d: a domain that was refused a conventional device keeps the domain id it was dealt',
    year: 2026,
    releases: EVERY,
    mechanism:
      'On units that deal domain ids out, the own entry of the device takes an id for the new domain before the alias is refused (-95, or an error). Going back gives the entry to the owner again and leaves the id dealt until the domain dies: as many refused domains as the unit has ids, and nothing can be assigned any more.',
    fix: 'The id is given back when nothing of the domain is behind the unit.',
    source: 'vtd/iommu.c domain_context_mapping(), read; shows once V1 is repaired',
    seams: { vtdFreesIdOfRefused: () => false },
    breaks: ['INV-D6'],
    environment: {
      vendor: 'vtd',
      machine: { slots: ['legacyBridge', 'pcieToPci'], fewIds: true, reserved: 0 },
      ops: ['assign', 'deassign', 'fail'],
    },
  },
  {
    id: 'W3',
    title: 'VT-d: tables of the scratch-page quarantine are not written back for units that do not snoop',
    year: 2026,
    releases: EVERY,
    mechanism:
      'Each new table is written back while it is empty, and then filled by plain stores. A unit that reads memory past the caches finds it empty until the lines happen to be evicted: the device faults where its scratch page was promised. Containment is not touched.',
    fix: 'The tables are written back once they are filled.',
    source: 'vtd/iommu.c fill_qpt(), read',
    seams: { vtdWritesBackScratch: () => false },
    breaks: ['INV-I5'],
    environment: {
      vendor: 'vtd',
      machine: { slots: ['endpoint'], unsnooped: true, quarantine: 'scratch-page' },
      ops: ['quarantine', 'release', 'assign', 'deassign'],
    },
  },
  {
    id: 'W4',
    title: 'AMD: removing a device with phantom functions frees its interrupt table twice',
    year: 2026,
    releases: EVERY,
    mechanism:
      'Phantom functions share the interrupt table of their device. They are removed before it, and the first of them frees the table. Freeing looks ahead for others that share it, but the device is behind: it keeps the pointer, frees the pages again, and that is a BUG.',
    fix: 'The table goes with the device itself.',
    source: 'amd_iommu_remove_device(), amd_iommu_free_intremap_table(); read at the three tags',
    seams: { amdFreesInterruptTableTwice: () => true },
    breaks: ['ASSERT'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['phantom1'], quarantine: 'basic' },
      ops: ['quarantine', 'remove', 'assign'],
    },
  },
  {
    id: 'V9',
    title: 'VT-d: a device with ATS keeps its own translations when it changes hands',
    year: 2026,
    releases: `${EVERY}, with the option ats`,
    mechanism:
      'A flush by domain id reaches the device TLBs of those devices whose entry carries that id. When an entry is replaced, the flush for the previous id comes after the new entry is there, so that the device itself is passed over. Until something resets it, it goes on with translated requests to what its previous owner had.',
    fix: 'The device is told to forget everything when its entry has been replaced.',
    source:
      'device_in_domain(), as domain_context_mapping_one() comes to it; read, and found by the properties',
    seams: { vtdMoveFlushesDevice: () => false },
    breaks: ['INV-F4'],
    environment: {
      vendor: 'vtd',
      machine: { slots: ['endpoint'], ats: true },
      ops: ['ats', 'assign', 'deassign'],
    },
  },
  {
    id: 'V10',
    title: 'AMD: a device with ATS keeps its own translations when it changes hands',
    year: 2026,
    releases: `${EVERY}, with the option ats`,
    mechanism:
      'When an entry is replaced the unit forgets the entry and the pages of the previous domain. The device is told to forget only where ATS is switched on in the same call. From one owner straight to the next, or to a quarantine with scratch pages, ATS stays on, and the device goes on with translated requests to what its previous owner had.',
    fix: 'The device is told to forget everything when its entry has been replaced.',
    source: 'amd_iommu_setup_domain_device(), amd_iommu_flush_device(); read, and found by the properties',
    seams: { amdMoveFlushesDevice: () => false },
    breaks: ['INV-F4'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['endpoint'], ats: true },
      ops: ['ats', 'assign', 'deassign'],
    },
  },
  {
    id: 'V11',
    title: 'AMD: with ATS a guest whose device has none ends the host when a page is unmapped',
    year: 2026,
    releases: `${EVERY}, with the option ats`,
    mechanism:
      'A flush of a domain asks each of its devices whether ATS is on, and that question is a BUG for a device without the capability. One such device in a guest is enough: the next page that the guest gives back stops the host.',
    fix: 'Devices without the capability are passed over.',
    source: 'amd_iommu_flush_iotlb(), pci_ats_enabled(); read, and found by the properties',
    seams: { amdAsksWhoHasAts: () => false },
    breaks: ['ASSERT'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['legacyDevice', 'endpoint'], ats: true },
      ops: ['assign', 'deassign', 'populate', 'decrease'],
    },
  },
  {
    id: 'V12',
    title: 'AMD: a device with ATS that is to forget everything is told to forget one page',
    year: 2026,
    releases: `${EVERY}, with the option ats`,
    mechanism:
      'INVALIDATE_IOTLB_PAGES says by a flag that its address stands for a range. The flag is shifted by its mask where its position is meant, which leaves nothing of it. So a flush of a large page, or of all pages, reaches one page of the range, and the device keeps the rest.',
    fix: 'The flag is shifted by its position.',
    source: 'invalidate_iotlb_pages(); read, and found by the properties',
    seams: { amdIotlbSizeFlag: () => 0 },
    breaks: ['INV-F4'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['endpoint'], ats: true },
      ops: ['ats', 'assign', 'deassign', 'populate', 'decrease', 'move'],
    },
  },
  {
    id: 'V13',
    title: "VT-d: a page leaves a guest while its first device arrives, and the device's unit is not told",
    year: 2026,
    releases: EVERY,
    mechanism:
      'Whether a flush of a domain reaches a unit is decided by a bitmap of the units that its devices are behind. The bit of a unit is set after the context entry of the first device there is live and has been flushed. A page that the guest gives back in between, on another vCPU, is flushed in the units counted so far: not in the one that translates for the device already. The page goes back to the heap with requests on their way to it, or in the IOTLB.',
    fix: 'The unit is counted before the entry is written.',
    source:
      'domain_context_mapping_one(), iommu_flush_iotlb(); read, and found between two vCPUs by what devices reach',
    seams: { vtdCountsUnitFirst: () => false },
    breaks: ['INV-I7'],
    environment: {
      vendor: 'vtd',
      calls: ['assign to PV', 'deassign from PV', 'populate PV', 'decrease PV', 'exchange PV', 'destroy PV'],
    },
  },
  {
    id: 'W7',
    title: 'interrupts in flight to a dying guest are waited for once',
    year: 2026,
    releases: `${EVERY}, with the fix of XSA-360`,
    mechanism:
      'Unbinding an interrupt whose softirq is pending on another CPU puts the destruction off. When it is taken up again nothing is bound any more, so that nobody asks whether the softirq has run by now: the structures go, and it comes to a guest without them. Debug builds stop at an assertion; others return, since the softirq looks again.',
    fix: 'What is in flight is asked for each time.',
    source: 'pci_clean_dpci_irq(), read',
    seams: { cleaningAsksAgain: () => false },
    breaks: ['INV-IRQ-LIFE'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true, slots: ['endpoint'] },
      ops: ['assign', 'mapMsi', 'bindMsi', 'raise', 'destroy'],
    },
  },
  {
    id: 'W5',
    title: 'a device that is removed leaves its interrupts on the list of its guest',
    year: 2026,
    releases: EVERY,
    mechanism:
      "PHYSDEVOP_pci_device_remove frees the messages of a device, and their interrupts, whoever has them. The guest's list still names them. Unbinding one that was bound, as the end of an HVM guest does, is a BUG() of the hypervisor; and a number that was dealt to another guest meanwhile is unmapped under that one.",
    fix: 'The domain that has them loses them first.',
    source: 'pci_remove_device(), destroy_irq(), __pirq_guest_unbind(), read',
    seams: { removalUnmapsMessages: () => false },
    breaks: ['INV-IRQ-LIFE'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true, slots: ['endpoint'] },
      ops: ['assign', 'mapMsi', 'bindMsi', 'remove', 'destroy'],
    },
  },
  {
    id: 'W6',
    title: 'VT-d: several vectors of a device overwrite the interrupt entries behind them',
    year: 2026,
    releases: EVERY,
    mechanism:
      'Looking for a run of free entries ends at its last one, which is then taken for the first. The group reaches past the run, into entries of other devices: theirs are overwritten, and freed under them later.',
    fix: 'The first entry of the run is used.',
    source: 'alloc_remap_entry(), msi_msg_to_remap_entry(), read',
    seams: { vtdMsiGroupFirst: (last) => last },
    breaks: ['INV-I10', 'INV-IRQ-LIFE'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true, slots: ['endpoint', 'endpoint'] },
      ops: ['assign', 'mapMsi', 'unmapMsi'],
    },
  },
  {
    id: 'W8',
    title: 'VT-d: a failed flush leaves the entries of the bridge above',
    year: 2026,
    releases: EVERY,
    mechanism:
      'Taking a conventional device away empties its own entry first, then those of the bridge. When the flush for the first fails, the second never comes, and the error is dropped: the device is removed, or its quarantine tables are freed, with the ids of the bridge translating for whoever had it. Today the units of these releases are waited for without end, so that only a chipset quirk or a broken topology leads there.',
    fix: 'The entries of the bridge are emptied too.',
    source: 'vtd/iommu.c domain_context_unmap(), read',
    seams: { vtdUnmapGoesOn: () => false },
    breaks: ['INV-I4'],
    environment: {
      vendor: 'vtd',
      machine: { slots: ['pcieToPci', 'legacyBridge'] },
      ops: ['failFlush', 'remove'],
    },
  },
  {
    id: 'W9',
    title: 'the page at which a batch of moves stops is not flushed',
    year: 2026,
    releases: EVERY,
    mechanism:
      'A batch that moves pages within the physical map flushes what it has moved in its end. The page at which it failed was taken from its old address already: the IOTLB goes on with it. The guest still owns that page, so that nobody else is reached.',
    fix: 'One page more is flushed after an error.',
    source: 'common/memory.c xenmem_add_to_physmap(), read',
    seams: { batchFlushesWhereItStopped: () => false },
    breaks: ['INV-F5', 'INV-I7'],
    environment: {
      vendor: 'amd',
      machine: { slots: ['endpoint'] },
      ops: ['assign', 'dma', 'move', 'fail'],
    },
  },
  {
    id: 'W10',
    title: 'several vectors of a device are taken back by halves',
    year: 2026,
    releases: EVERY,
    mechanism:
      "When a later vector of a group cannot be mapped, the map from interrupts to pirqs is put right, and that from pirqs to interrupts is not: the guest keeps pirqs that stand for interrupts which are gone, and soon another device's. Where memory was short the new interrupt itself is forgotten too, with its vector. When the guest ends, Xen takes those pirqs apart, and writes through a null pointer for the entry that is no longer there.",
    fix: 'Each pirq of the group is cleared, and the interrupt is noted before anything can fail.',
    source: 'map_domain_pirq(), cleanup_domain_irq_pirq(), clear_domain_irq_pirq(), read',
    seams: { groupIsTakenBackWhole: () => false },
    breaks: ['INV-IRQ-LIFE'],
    environment: {
      vendor: 'vtd',
      machine: { messages: true, slots: ['endpoint'] },
      ops: ['assign', 'fail', 'mapMsi', 'destroy'],
    },
  },
  {
    id: 'W11',
    title: 'a unit is forgotten while a device that would not leave is behind it',
    year: 2026,
    releases: '4.23-unstable as of August 2026',
    mechanism:
      'When a domain dies, a device that cannot be taken from it is set aside, out of the list of its devices. The next one leaves well, and finds nobody else of the domain behind its unit: the unit is taken off those that are told of the domain, and its id there becomes free. The device set aside still has its entry, so that it goes on with what the IOTLB knows of pages that are freed.',
    fix: 'Devices that fail stay in the list, as in releases before.',
    source: 'pci_release_devices(), vtd/iommu.c check_cleanup_domid_map(), read',
    seams: { releaseSetsFailuresAside: () => true },
    breaks: ['INV-I6', 'INV-D4'],
    environment: {
      vendor: 'vtd',
      machine: { slots: ['endpoint', 'legacyDevice'] },
      ops: ['assign', 'fail', 'destroy', 'exchange'],
    },
  },
];
