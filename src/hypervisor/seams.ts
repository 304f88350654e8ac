/**
 * Small decisions that releases or historical bugs make differently. `correct` is how the newest Xen decides, without
 * its known flaws; profiles (releases/) and bugs replace single ones. Core code calls each seam from one place and
 * never tests a version.
 */
import { E, type Rc } from '../base/errno.js';
import type { CrashSite, DriverSeams, IommuOptions } from '../iommu/driver/types.js';
import { P2M, type P2mType } from './mm/p2m.js';

/** A range of guest ports forwarded to machine ports. */
export interface IoportMap {
  readonly gport: number;
  readonly mport: number;
  readonly np: number;
}

export interface Seams extends DriverSeams {
  /** Domains guard their device list by a rwlock of their own, and vPCI follows each assignment. */
  hasPciLock(): boolean;
  /** Domains guard their rights by a rwlock of their own. */
  hasCapsLock(): boolean;
  /** The result of assigning a phantom function, as the loop in assign_device() takes it. XSA-449. */
  phantomAssignResult(rc: Rc): Rc;
  /** Error of pci_release_devices(): `sofar` from earlier devices, `rc` from this one. */
  releaseResult(sofar: Rc, rc: Rc): Rc;
  /**
   * W11: devices that will not leave a dying domain are set aside, and put back in front of its list; else they stay.
   * The newest sets them aside.
   */
  releaseSetsFailuresAside(): boolean;
  /** A physical function whose virtual functions are still there is not removed. */
  pfWithVfsStays(): boolean;
  /** A virtual function is refused while its physical function is unknown; older Xen adds the latter itself. */
  vfNeedsPf(): boolean;
  /** Dom0 can tell that it has reset a device: PHYSDEVOP_pci_device_reset. */
  knowsDeviceReset(): boolean;
  /** The loop over VF BARs goes on to the next one after a BAR in I/O space; older Xen repeats it for ever. */
  vfIoBarIsSkipped(): boolean;
  /** Buses behind a PCI-to-PCIe bridge are entered in bus2bridge. */
  mapsPci2pcieBuses(): boolean;
  /** Whether extended config space is reachable is checked once a device is found. @xen pci_check_extcfg */
  checksExtCfg(): boolean;
  /** Dom0's identity map is built from E820 ranges and its I/O rights; older Xen asks for each frame in turn. */
  hwdomMapFromRanges(): boolean;
  /**
   * Reading MCFG starts the list of segments anew, after the AMD driver has hidden its own function: dom0 gets it.
   * @xen pci_segments_init, until 4.20
   */
  mcfgForgetsSegments(): boolean;
  /** Questions, rights, mappings and bound interrupts do without the domctl lock. */
  smallDomctlsTakeNoLock(): boolean;
  /** Unmapping device memory needs the right of the target beside that of the caller. */
  unmapNeedsTargetRight(): boolean;
  /** Mapping device memory is nothing for a PV guest, whatever its rights; older Xen looks at them first. */
  nothingToMapNeedsNoRight(): boolean;
  /** Mapping ports gives the right to them, and unmapping takes it; newer Xen wants it to be there, and leaves it. */
  mappingPortsGrantsThem(): boolean;
  /** Binding an interrupt in a domain without IOMMU leaves a line. */
  bindTellsMissingIommu(): boolean;
  /** A domain in the messages of memory_mapping and bind_pt_irq. */
  domctlDomainText(domid: number): string;
  /** What Xen says of a part of an HVM guest's state that is set. */
  hvmRestoreText(domid: number, name: string, instance: number): string;
  /** Each virtual CPU's upcall vector is told, not only the first one's. */
  upcallOfEachVcpu(): boolean;
  ioportMapDomainText(domid: number): string;
  /** 0 when a port mapping may be added or removed beside those in `maps`. */
  ioportMapConflict(maps: readonly IoportMap[], gport: number, mport: number, np: number, add: boolean): Rc;
  /** Host messages of this level and above need `loglvl=`. */
  consoleThreshold(): number;
  /** A query for a domain's info answers for that id alone; older Xen goes on to the next one alive. */
  domainInfoIsExact(): boolean;
  /** Key 'q' tells of memory sharing also where Xen is built without it. */
  countsSharedFrames(): boolean;
  /** A device that leaves a domain goes to quarantine. XSA-302, XSA-306: not always. */
  quarantinesLeaving(flag: boolean, mode: IommuOptions['quarantine']): boolean;
  /** A device that would not leave keeps a dying domain from being taken apart. */
  releaseErrorStops(rc: Rc): boolean;
  /** What a guest's memory operations must not touch in its physical map. XSA-378: everything was theirs. */
  guestMayChange(type: P2mType): boolean;
  /** A reserved range is entered in the books before it is mapped. XSA-460: after. */
  identityEnteredFirst(): boolean;
  /** Holders of a reserved range are counted. */
  identityHolders(count: number): number;
  /** A page is flushed at once when it is freed, even amid a batch. XSA-346. */
  freeingFlushesAtOnce(): boolean;
  /** Tables that a larger page took the place of are freed once nothing can walk them. XSA-480: at once. */
  tablesOutliveFlush(): boolean;
  /** A batch that failed ends the suppression of flushes as one that succeeded. XSA-80. */
  failedBatchEnds(): boolean;
  /** W9: the page at which a batch stopped is flushed too. In no release is it. */
  batchFlushesWhereItStopped(): boolean;
  /** W10: a group of vectors of which one fails leaves nothing behind. In no release does it. */
  groupIsTakenBackWhole(): boolean;
  /** The result of taking a page out of the physical map, as the code that frees it takes it. XSA-222. */
  removalResult(rc: Rc): Rc;
  /** `pci-phantom=` gives way to functions that are there. */
  phantomsGiveWay(): boolean;
  /** Frames of a range given by `rmrr=` or `ivmd=`. */
  extraRangeFrames(frames: number): number;
  /** Messages of a device are for its owner alone. XSA-237: for whoever was named. */
  msiNeedsOwner(): boolean;
  /** An interrupt that has its message is not given it again. XSA-237: what was there was taken apart. */
  msiTwiceIsRefused(): boolean;
  /** Retargeting a message starts from what Xen wrote last. XSA-337: from what the device says. */
  msiIsRemembered(): boolean;
  /** Where remapping names the message's entry as before, the device is not told it again. Since 4.21. */
  msiIsWrittenOnce(): boolean;
  /** Interrupts that a dying guest had bound stay on its list, to be unmapped. XSA-360: they were forgotten. */
  cleaningKeepsPirqs(): boolean;
  /** Cleaning stops at an interrupt in flight. XSA-395: it went on, and the next one's result hid it. */
  cleaningStopsInFlight(): boolean;
  /** W7: cleaning waits until nothing is in flight. No release waits for more than one round. */
  cleaningAsksAgain(): boolean;
  /** Devices leave a dying domain together with their messages. NX-21. */
  leavingFreesMessages(): boolean;
  /** W5: a removed device's messages leave the domain that had them. In no release do they. */
  removalUnmapsMessages(): boolean;
  /** Log-dirty mode is refused to a domain with devices. */
  logDirtyRefusesDevices(): boolean;
  /** Where "domain_crash called from" points to. */
  readonly crashLines: Readonly<Record<CrashSite, number>>;
}

/** @xen XEN_DOMCTL_ioport_mapping: exact ranges only, and no overlap or touch */
function exactIoportMap(
  maps: readonly IoportMap[],
  _gport: number,
  mport: number,
  np: number,
  add: boolean,
): Rc {
  for (const m of maps) {
    if (m.mport === mport && m.np === np) return 0;
    if (add && mport + np >= m.mport && m.mport + m.np >= mport) return E.BUSY;
  }
  return add ? 0 : E.NOENT;
}

export const correct: Seams = Object.freeze<Seams>({
  vtdFaultSuffix: (unit) => ` on iommu:${unit}`,
  amdDisableSkipsQuarantinedSource: () => false,
  hasPciLock: () => true,
  hasCapsLock: () => true,
  phantomAssignResult: (rc) => rc,
  releaseResult: (sofar, rc) => (sofar === 0 ? rc : sofar),
  releaseSetsFailuresAside: () => false,
  pfWithVfsStays: () => true,
  vfNeedsPf: () => true,
  knowsDeviceReset: () => true,
  vfIoBarIsSkipped: () => true,
  mapsPci2pcieBuses: () => true,
  checksExtCfg: () => true,
  hwdomMapFromRanges: () => true,
  mcfgForgetsSegments: () => false,
  smallDomctlsTakeNoLock: () => true,
  unmapNeedsTargetRight: () => false,
  consoleThreshold: () => 3,
  domainInfoIsExact: () => true,
  countsSharedFrames: () => false,
  nothingToMapNeedsNoRight: () => true,
  mappingPortsGrantsThem: () => false,
  bindTellsMissingIommu: () => false,
  domctlDomainText: (domid) => `d${domid}`,
  hvmRestoreText: (domid, name, instance) => `HVM restore d${domid}: ${name} ${instance}`,
  upcallOfEachVcpu: () => false,
  ioportMapDomainText: (domid) => `d${domid}`,
  ioportMapConflict: exactIoportMap,
  quarantinesLeaving: (flag, mode) => flag || mode !== 'none',
  releaseErrorStops: (rc) => rc !== 0,
  guestMayChange: (type) => type !== P2M.mmioDirect,
  identityEnteredFirst: () => true,
  identityHolders: (count) => count,
  freeingFlushesAtOnce: () => true,
  tablesOutliveFlush: () => true,
  failedBatchEnds: () => true,
  batchFlushesWhereItStopped: () => true,
  groupIsTakenBackWhole: () => true,
  removalResult: (rc) => rc,
  phantomsGiveWay: () => true,
  extraRangeFrames: (frames) => frames,
  msiNeedsOwner: () => true,
  msiTwiceIsRefused: () => true,
  msiIsRemembered: () => true,
  msiIsWrittenOnce: () => true,
  cleaningKeepsPirqs: () => true,
  cleaningStopsInFlight: () => true,
  cleaningAsksAgain: () => true,
  leavingFreesMessages: () => false,
  removalUnmapsMessages: () => true,
  logDirtyRefusesDevices: () => true,
  crashLines: Object.freeze({
    'pci.c assign_device': 1669,
    'pci.c iommu_dev_iotlb_flush_timeout': 1753,
    'iommu.c iommu_map': 368,
    'iommu.c iommu_unmap': 440,
    'iommu.c iommu_iotlb_flush': 501,
    'iommu.c iommu_iotlb_flush_all': 526,
    'vtd/iommu.c domain_context_unmap_one': 1932,
    'vtd/iommu.c domain_context_unmap': 1997,
    'vtd/iommu.c intel_iommu_assign_device': 2933,
    'amd/iommu_map.c amd_iommu_map_page root': 433,
    'amd/iommu_map.c amd_iommu_map_page': 443,
    'amd/iommu_map.c amd_iommu_unmap_page': 512,
    'amd/pci_amd_iommu.c amd_iommu_assign_device': 545,
    'arch/x86/mm/p2m.c p2m_add_page': 696,
    'arch/x86/mm/p2m.c set_typed_p2m_entry': 1095,
  }),
});

/** `correct` with single decisions replaced; later overrides win. Spread, since objects made by assigning are slow. */
export function withSeams(...overrides: readonly Partial<Seams>[]): Seams {
  let seams: Seams = correct;
  for (const some of overrides) seams = { ...seams, ...some };
  return Object.freeze(seams);
}
