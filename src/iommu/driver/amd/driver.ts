/** The driver as Xen's common code sees it. @xen drivers/passthrough/amd/pci_amd_iommu.c */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { type Co, hold } from '../../../sim/co.js';
import {
  type FlushAcc,
  type GrdmFn,
  type IommuDomain,
  type IommuDriver,
  type IommuOps,
  type MsiDesc,
  type MsiMsg,
  type Pdev,
  XENLOG,
} from '../types.js';
import { amdDumpPageTables } from './dump.js';
import { doAmdIommuIrq, iommuInterruptHandler } from './event_log.js';
import { amdIommuDumpIntremapTables } from './intremap_table.js';
import { amdIommuInit, setUnitMessage } from './iommu_init.js';
import { amdIommuIoapicUpdateIre, amdIommuMsiMsgUpdateIre } from './iommu_intr.js';
import { amdIommuFlushIotlbPages, amdIommuMapPage, amdIommuUnmapPage } from './iommu_map.js';
import {
  amdIommuAddDevice,
  amdIommuAssignDevice,
  amdIommuDomainInit,
  amdIommuGroupId,
  amdIommuHwdomInit,
  amdIommuRemoveDevice,
  reassignDevice,
} from './pci_amd_iommu.js';
import { amdIommuQuarantineInit } from './quarantine.js';
import { type AmdVi, amdError, say } from './state.js';
import { amdIommuGetReservedDeviceMemory } from './unity.js';

const PAGE_SIZES = 2 ** 12 + 2 ** 21 + 2 ** 30;

/** @xen _iommu_ops */
class AmdIommuOps implements IommuOps {
  readonly vendor = 'amd';
  pageSizes = PAGE_SIZES;
  readonly enableDevice = undefined;
  readonly lookupPage = undefined;

  constructor(private readonly amd: AmdVi) {}

  *init(d: IommuDomain): Co<Rc> {
    return amdIommuDomainInit(this.amd, d);
  }
  *hwdomInit(d: IommuDomain): Co<void> {
    yield* amdIommuHwdomInit(this.amd, d);
  }
  *quarantineInit(pdev: Pdev, scratchPage: boolean): Co<Rc> {
    return yield* amdIommuQuarantineInit(this.amd, pdev, scratchPage);
  }
  *addDevice(devfn: number, pdev: Pdev): Co<Rc> {
    return yield* amdIommuAddDevice(this.amd, devfn, pdev);
  }
  *removeDevice(devfn: number, pdev: Pdev): Co<Rc> {
    return yield* amdIommuRemoveDevice(this.amd, devfn, pdev);
  }
  *assignDevice(d: IommuDomain, devfn: number, pdev: Pdev, flag: number): Co<Rc> {
    return yield* amdIommuAssignDevice(this.amd, d, devfn, pdev, flag);
  }
  *reassignDevice(source: IommuDomain, target: IommuDomain, devfn: number, pdev: Pdev): Co<Rc> {
    return yield* reassignDevice(this.amd, source, target, devfn, pdev);
  }
  getDeviceGroupId(seg: number, bus: number, devfn: number): number {
    return amdIommuGroupId(this.amd, seg, bus, devfn);
  }
  /** @xen amd_iommu_domain_destroy */
  *teardown(d: IommuDomain): Co<void> {
    this.amd.s.identityMapTeardown(d);
    assert(d.iommu.rootMfn === 0, 'the page tables are gone before the domain is');
  }
  /** @xen amd_iommu_clear_root_pgtable */
  *clearRootPgtable(d: IommuDomain): Co<void> {
    using _lock = yield* hold(d.iommu.mappingLock);
    d.iommu.rootMfn = 0;
  }
  *mapPage(d: IommuDomain, dfn: number, mfn: number, flags: number, acc: FlushAcc): Co<Rc> {
    return yield* amdIommuMapPage(this.amd, d, dfn, mfn, flags, acc);
  }
  *unmapPage(d: IommuDomain, dfn: number, order: number, acc: FlushAcc): Co<Rc> {
    return yield* amdIommuUnmapPage(this.amd, d, dfn, order, acc);
  }
  *iotlbFlush(d: IommuDomain, dfn: number, pageCount: number, flushFlags: number): Co<Rc> {
    return yield* amdIommuFlushIotlbPages(this.amd, d, dfn, pageCount, flushFlags);
  }
  getReservedDeviceMemory(fn: GrdmFn): Rc {
    return amdIommuGetReservedDeviceMemory(this.amd, fn);
  }
  *dumpPageTables(d: IommuDomain): Co<void> {
    yield* amdDumpPageTables(this.amd, d);
  }
  *dumpInfo(): Co<void> {
    if (this.amd.opts.intremap !== 'off') yield* amdIommuDumpIntremapTables(this.amd);
  }
  *updateIreFromApic(_apic: number, apicId: number, pin: number, lo: number, hi: number): Co<Rc> {
    return yield* amdIommuIoapicUpdateIre(this.amd, apicId, pin, lo, hi);
  }
  *updateIreFromMsi(descs: readonly MsiDesc[], nr: number, msg: MsiMsg | undefined): Co<Rc> {
    return yield* amdIommuMsiMsgUpdateIre(this.amd, descs, nr, msg);
  }
  units(): number {
    return this.amd.units.length;
  }
  setFaultMessage(unit: number, msg: MsiMsg): void {
    setUnitMessage(this.amd, this.amd.units[unit]!, msg);
  }
  *pollFaults(): Co<void> {
    yield* doAmdIommuIrq(this.amd);
  }
}

/** Made by acpiIvrsInit() from an IVRS that names at least one usable unit. @xen _iommu_init_ops */
export class AmdIommu implements IommuDriver {
  readonly ops: IommuOps;
  constructor(readonly state: AmdVi) {
    this.ops = new AmdIommuOps(state);
  }

  /** @xen iov_detect */
  *setup(): Co<Rc> {
    const amd = this.state;
    if (!amd.opts.enable && amd.opts.intremap === 'off') return 0;
    if (amd.seams.amdRequiresCx16() && !amd.s.cpu.cx16) {
      amdError(amd, 'no CMPXCHG16B support, disabling IOMMU');
      return E.NODEV;
    }
    if ((yield* amdIommuInit(amd)) !== 0) {
      say(amd, 'AMD-Vi: Error initialization');
      return E.NODEV;
    }
    amd.initDone = true;
    if (!amd.opts.amdPerdevIntremap)
      amd.s.printk(
        XENLOG.WARNING,
        'AMD-Vi: Using global interrupt remap table is not recommended (see XSA-36)!',
      );
    return 0;
  }

  /** The interrupt of one unit; ops.pollFaults is the tasklet that it schedules. @xen iommu_interrupt_handler */
  *interrupt(unit: number): Co<void> {
    const u = this.state.units[unit];
    if (u !== undefined) yield* iommuInterruptHandler(u);
  }
}
