/** Small decisions of the drivers that releases or historical bugs make differently; called from one place each. */
import type { Rc } from '../../base/errno.js';

/** Seams of the VT-d driver. A profile names those it replaces; the rest is correct (vtd/seams.ts). */
export interface VtdSeams {
  /** Set-up refuses CPUs without CMPXCHG16B: 4.18.6, 4.19.3 and later. */
  vtdRequiresCx16(): boolean;
  /** An RMRR outside reserved memory is refused: 4.19.0 and later. */
  vtdRmrrMustBeReserved(): boolean;
  /** SATC structures of the DMAR are read: 4.19.0 and later. */
  vtdReadsSatc(): boolean;
  /** A context table that could not be allocated is noticed: 4.21.0 and later. Before, frame 0 stands in for it. */
  vtdNoticesMissingContextTable(): boolean;
  /** V1: devfn from which a failed alias mapping is undone. Every release takes the bridge's. */
  vtdAliasUndoDevfn(own: number, bridge: number): number;
  /** An interrupt source that cannot be told is an error: 4.21.0 and later. */
  vtdReportsUnknownMsiSource(): boolean;
  /** V5: quarantining again a device with reserved ranges but no scratch page clears frame 0. Every release does. */
  vtdClearsUnsetLeaf(): boolean;
  /** V6: the id of a bridge follows the sibling quarantined last. No release does. */
  vtdAliasFollowsQuarantine(): boolean;
  /** W2: a domain that was refused a conventional device gives back the id it was dealt. No release does. */
  vtdFreesIdOfRefused(): boolean;
  /** NX-05: a domain whose mapping failed and was undone gives back the id it was dealt. Since 4.17 (e6252a51fa). */
  vtdFreesIdOfFailed(): boolean;
  /** V9: a device with ATS forgets its own translations when its entry is replaced. In no release does it. */
  vtdMoveFlushesDevice(): boolean;
  /** A device that does not answer a flush in time is given up on. Every release waits for ever since 4.16. */
  vtdGivesUpOnDevice(): boolean;
  /** Such a device goes to d[XEN]. NX-01; since, it is marked as broken. */
  vtdHidesSilentDevice(): boolean;
  /** A device goes to its new owner by one change of its entry. XSA-400: it was unmapped, then mapped. */
  vtdReassignsDirectly(): boolean;
  /** Reserved ranges are mapped after the context entry and unmapped before it. XSA-400, XSA-386. */
  vtdRmrrFollowsContext(): boolean;
  /** The result of unmapping a reserved range ends a reassignment. XSA-386: success did. */
  vtdRmrrUnmapEnds(rc: Rc): boolean;
  /** The levels that a unit lacks are skipped for tables shared with the p2m too. XSA-390. */
  vtdSkipsLevelsOfShared(): boolean;
  /** The root that a caller gave for the entry. XSA-450: forgotten. */
  vtdGivenRoot(pgdMfn: number): number;
  /** Reserved ranges are in the table of a quarantined device. XSA-400. */
  vtdQuarantineMapsReserved(): boolean;
  /** Each quarantined device has a scratch page of its own. */
  vtdOwnScratchPage(): boolean;
  /** FLUSHF of an entry that was present and is gone. XSA-78: as if it had been absent. */
  vtdUnmapFlush(): number;
  /** Order of a flush of everything, -1 for the whole domain. */
  vtdFlushAllOrder(): number;
  /** A failed alias mapping is undone. */
  vtdUndoesAliasFailure(): boolean;
  /** A range that two devices share may be given away with one of them. */
  vtdMaySplitRmrr(relaxed: boolean): boolean;
  /** Behind a PCIe-to-PCI bridge, function 0 of device 0 of the secondary bus is mapped too. */
  vtdMapsSecondaryBus(): boolean;
  /** What the CPU wrote to tables is written back for units that do not snoop. XSA-321. */
  vtdWritesBack(): boolean;
  /** W3: so are those of a quarantine with scratch pages. No release does. */
  vtdWritesBackScratch(): boolean;
  /** The first device with a translation cache needs memory for a copy of its unit; the newest keeps a list there. */
  vtdAllocatesAtsUnit(): boolean;
  /** V13: a domain's flushes reach a unit before its first device is there. In every release some time after. */
  vtdCountsUnitFirst(): boolean;
  /** W8: entries of a bridge go although the flush for the device behind it failed. In every release they stay. */
  vtdUnmapGoesOn(): boolean;
  /** Interrupts of devices behind a legacy bridge are accepted by bus number. XSA-33. */
  vtdLegacyBridgeByBus(): boolean;
  /** First interrupt entry of a group of MSIs, given the last entry of the free run. Every release takes the last. */
  vtdMsiGroupFirst(last: number, vectors: number): number;
}

/** Seams of the AMD-Vi driver. A profile names those it replaces; the rest is correct (amd/seams.ts). */
export interface AmdSeams {
  /** Set-up refuses CPUs without CMPXCHG16B: 4.18.5, 4.19.3 and later. */
  amdRequiresCx16(): boolean;
  /**
   * Frames a domain's table must reach: by the CPU's address width from 4.19.0 on; before, a PV domain's by the end
   * of RAM. `ramEnd` and `physEnd` are frames, exclusive.
   */
  amdDomainFrames(isHvm: boolean, ramEnd: number, physEnd: number): number;
  /** A table that would need more levels than the unit has is an error: 4.19.0 and later. */
  amdReportsPagingMode(): boolean;
  /** IVMD memory is checked by iommu_unity_region_ok(): 4.19.0 and later. Before, by AMD's own code and texts. */
  amdUsesUnityRegionOk(): boolean;
  /** An IVMD for a device without IOMMU is ignored: 4.18.4, 4.19.1 and later. Before, set-up fails. */
  amdIgnoresIvmdWithoutIommu(): boolean;
  /** What firmware left in the unit is only disabled: 4.21.2, 4.22.0 and later. Before, the whole register region is zeroed. */
  amdDisablesFirmwareIommu(): boolean;
  /** The MSI is enabled once at set-up, not twice: 4.20.0 and later. */
  amdEnablesMsiOnce(): boolean;
  /**
   * An interrupt entry in use is replaced at once and flushed afterwards: 4.18.5, 4.19.2, 4.20.0 and later. Before, it is
   * off meanwhile, and an interrupt that comes then is lost.
   */
  amdUpdatesIrteInPlace(): boolean;
  /**
   * The id from whose table a device's messages get their entries. Every release takes the device's own, which has no
   * table when it is known by an alias only: Xen dies of its first message.
   */
  amdIntremapTableId(bdf: number, reqId: number): number;
  /** IVMD flag that allows reads. Every release takes the one for writes. */
  amdIvmdReadFlag(): number;
  /** Size flag of INVALIDATE_IOTLB_PAGES. Every release loses it. */
  amdIotlbSizeFlag(wanted: number): number;
  /** V4: unity maps are taken and dropped in the call for each function, phantom ones too. Every release does. */
  amdCountsUnityPerFunction(): boolean;
  /**
   * V2: the quarantine table goes with the first function removed, which is a phantom function where there are any.
   * Every release does.
   */
  amdTearsDownAtFirstFunction(): boolean;
  /** W4: so does the interrupt table that all functions share, and the last one frees it again. Every release does. */
  amdFreesInterruptTableTwice(): boolean;
  /** V5: entering a quarantine that has a table but no page of its own clears machine frame 0. Every release does. */
  amdClearsFrameZero(): boolean;
  /** W1: unity maps are left out of quarantine tables, since d[IO] is exempt from them. Every release does. */
  amdQuarantineLosesUnity(): boolean;
  /** Each device has an interrupt table of its own, unless an option says otherwise. XSA-36: all shared one. */
  amdTableForEachDevice(): boolean;
  /** An entry that translates is replaced at once. XSA-347: field by field. */
  amdReplacesDteAtOnce(): boolean;
  /** A device goes to its new owner by one change of its entry. XSA-400: it was disabled, then set up. */
  amdReassignsDirectly(): boolean;
  /** Ranges of one device stay apart. XSA-378: one range from the first to the last. */
  amdKeepsRangesApart(): boolean;
  /** Unity maps leave the domain with the device. XSA-378. */
  amdReleasesUnityMaps(): boolean;
  /** Domain id whose pages are flushed after an entry was replaced. XSA-442: none. */
  amdPrevDomid(domid: number): number;
  /** Levels of a quarantine table, given those of its entry. XSA-445: 4. */
  amdQuarantineLevels(levels: number): number;
  /** Reserved ranges are in the table of a quarantined device. XSA-400. */
  amdQuarantineMapsReserved(): boolean;
  /** An entry was present, by its two words. */
  amdWasPresent(lo: number, hi: number): boolean;
  /** FLUSHF of a page put in the place of another. XSA-275: none. */
  amdReplaceFlush(): number;
  /** A superpage is split aside, then replaced. */
  amdFillsBeforeLinking(): boolean;
  /** The pieces of a split superpage have its rights. NX-09: all of them. */
  amdSplitKeepsRights(): boolean;
  /** A completion wait goes on until the unit has answered. XSA-373: for a while. */
  amdWaitsForEver(): boolean;
  /** V10: a device with ATS forgets its own translations when its entry is replaced. In no release does it. */
  amdMoveFlushesDevice(): boolean;
  /** V11: a flush passes over devices without the ATS capability. Every release stops at a BUG. */
  amdAsksWhoHasAts(): boolean;
}
