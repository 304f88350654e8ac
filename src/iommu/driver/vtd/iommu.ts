/** VT-d behind the one door of the common code. @xen drivers/passthrough/vtd/iommu.c vtd_ops, intel_iommu_init_ops */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { type Co, hold } from '../../../sim/co.js';
import type {
  FlushAcc,
  GrdmFn,
  IommuDomain,
  IommuDriver,
  IommuOps,
  LookupResult,
  MsiDesc,
  MsiMsg,
  Pdev,
} from '../types.js';
import {
  intelIommuAddDevice,
  intelIommuAssignDevice,
  intelIommuEnableDevice,
  intelIommuRemoveDevice,
  reassignDeviceOwnership,
} from './assign.js';
import { cleanupDomidMap } from './did.js';
import { doIommuPageFault, faultInterrupts } from './faults.js';
import { iommuFlushIotlb } from './flush.js';
import { ioApicWriteRemapRte, msiFreeRemapEntries, msiMsgWriteRemapRte } from './intremap.js';
import { mapRun } from './map_run.js';
import { intelIommuLookupPage, intelIommuMapPage, intelIommuUnmapPage } from './pagetable.js';
import { intelIommuDomainInit } from './pte.js';
import { intelIommuQuarantineInit } from './quarantine.js';
import { intelIommuGetReservedDeviceMemory } from './rmrr.js';
import { adjustVtdIrqAffinities, intelIommuHwdomInit, vtdSetup } from './setup.js';
import type { Vtd } from './state.js';
import { vtdDumpIommuInfo, vtdDumpPageTables } from './utils.js';

export class VtdDriver implements IommuDriver, IommuOps {
  readonly vendor = 'vtd';
  constructor(readonly vtd: Vtd) {}

  get ops(): IommuOps {
    return this;
  }
  get pageSizes(): number {
    return this.vtd.pageSizes;
  }
  set pageSizes(sizes: number) {
    this.vtd.pageSizes = sizes;
  }
  /** Some guest got a device while interrupts are not remapped. @xen untrusted_msi */
  get untrustedMsi(): boolean {
    return this.vtd.untrustedMsi;
  }

  *setup(): Co<Rc> {
    return yield* vtdSetup(this.vtd);
  }
  units(): number {
    return this.vtd.drhds.length;
  }
  *updateIreFromApic(apic: number, apicId: number, pin: number, lo: number, hi: number): Co<Rc> {
    const rte = yield* ioApicWriteRemapRte(this.vtd, apic, apicId, pin, lo, hi);
    return typeof rte === 'number' ? rte : 0;
  }
  *updateIreFromMsi(descs: readonly MsiDesc[], nr: number, msg: MsiMsg | undefined): Co<Rc> {
    if (msg !== undefined) return yield* msiMsgWriteRemapRte(this.vtd, descs, nr, msg);
    yield* msiFreeRemapEntries(this.vtd, descs);
    return 0;
  }
  *init(d: IommuDomain): Co<Rc> {
    return intelIommuDomainInit(d);
  }
  *hwdomInit(d: IommuDomain): Co<void> {
    yield* intelIommuHwdomInit(this.vtd, d);
  }
  *quarantineInit(pdev: Pdev, scratchPage: boolean): Co<Rc> {
    return yield* intelIommuQuarantineInit(this.vtd, pdev, scratchPage);
  }
  *addDevice(devfn: number, pdev: Pdev): Co<Rc> {
    return yield* intelIommuAddDevice(this.vtd, devfn, pdev);
  }
  *enableDevice(pdev: Pdev): Co<Rc> {
    return intelIommuEnableDevice(this.vtd, pdev);
  }
  *removeDevice(devfn: number, pdev: Pdev): Co<Rc> {
    return yield* intelIommuRemoveDevice(this.vtd, devfn, pdev);
  }
  *assignDevice(d: IommuDomain, devfn: number, pdev: Pdev, flag: number): Co<Rc> {
    return yield* intelIommuAssignDevice(this.vtd, d, devfn, pdev, flag);
  }
  *reassignDevice(source: IommuDomain, target: IommuDomain, devfn: number, pdev: Pdev): Co<Rc> {
    return yield* reassignDeviceOwnership(this.vtd, source, target, devfn, pdev);
  }

  /** @xen intel_iommu_group_id */
  getDeviceGroupId(seg: number, bus: number, devfn: number): number {
    const { bridge } = this.vtd;
    bridge.bus = bus;
    bridge.devfn = devfn;
    if (this.vtd.s.findUpstreamBridge(seg, bridge) < 0) return E.NODEV;
    return (bridge.bus << 8) | bridge.devfn;
  }

  /** @xen iommu_domain_teardown */
  *teardown(d: IommuDomain): Co<void> {
    if (this.vtd.drhds.length === 0) return;
    this.vtd.s.identityMapTeardown(d);
    assert(d.iommu.pgdMfn === 0, 'the page tables are freed before');
    for (const drhd of this.vtd.drhds) cleanupDomidMap(drhd.iommu!, d.domid);
    d.iommu.usesNone();
  }

  /** @xen iommu_clear_root_pgtable */
  *clearRootPgtable(d: IommuDomain): Co<void> {
    using _mapping = yield* hold(d.iommu.mappingLock);
    d.iommu.pgdMfn = 0;
  }

  *mapPage(d: IommuDomain, dfn: number, mfn: number, flags: number, acc: FlushAcc): Co<Rc> {
    return yield* intelIommuMapPage(this.vtd, d, dfn, mfn, flags, acc);
  }
  mapRun(d: IommuDomain, dfn: number, mfn: number, most: number, flags: number, acc: FlushAcc): number {
    return mapRun(this.vtd, d, dfn, mfn, most, flags, acc);
  }
  *unmapPage(d: IommuDomain, dfn: number, order: number, acc: FlushAcc): Co<Rc> {
    return yield* intelIommuUnmapPage(this.vtd, d, dfn, order, acc);
  }
  *lookupPage(d: IommuDomain, dfn: number, out: LookupResult): Co<Rc> {
    return yield* intelIommuLookupPage(this.vtd, d, dfn, out);
  }
  *iotlbFlush(d: IommuDomain, dfn: number, pageCount: number, flushFlags: number): Co<Rc> {
    return yield* iommuFlushIotlb(this.vtd, d, dfn, pageCount, flushFlags);
  }
  getReservedDeviceMemory(fn: GrdmFn): Rc {
    return intelIommuGetReservedDeviceMemory(this.vtd, fn);
  }
  *dumpPageTables(d: IommuDomain): Co<void> {
    vtdDumpPageTables(this.vtd, d);
  }
  *dumpInfo(): Co<void> {
    vtdDumpIommuInfo(this.vtd);
  }
  *pollFaults(): Co<void> {
    yield* faultInterrupts(this.vtd);
    yield* doIommuPageFault(this.vtd);
  }
  *adjustIrqAffinities(): Co<void> {
    yield* adjustVtdIrqAffinities(this.vtd);
  }
}
