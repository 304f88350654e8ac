/** The IOMMU at boot and in the life of a domain. @xen drivers/passthrough/iommu.c, x86/iommu.c */
import { assert, panic } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import { XENLOG } from '../../iommu/driver/types.js';
import { type Co, hold, preemptPoint } from '../../sim/co.js';
import type { Domain } from '../domain.js';
import { composeMsiMsg } from '../irq/msi.js';
import { assignIrqVector } from '../irq/vectors.js';
import type { Xen } from '../xen.js';
import { platformOps } from './pci.js';
import { scanPciDevices } from './scan.js';

const PAGE_SIZE = 4096;

/** A PVH hardware domain lives behind a strict IOMMU. @xen check_hwdom_reqs, arch_iommu_check_autotranslated_hwdom */
function checkHwdomReqs(xen: Xen, d: Domain): void {
  if (xen.opts.hwdomNone || !d.isHvm) return;
  xen.opts.hwdomPassthrough = false;
  xen.opts.hwdomStrict = true;
  if (!d.iommuEnabled) panic('Presently, iommu must be enabled for PVH hardware domain');
}

/** @returns 0 or the vendor's error. @xen iommu_domain_init */
export function* iommuDomainInit(xen: Xen, d: Domain, noSharept: boolean): Co<Rc> {
  if (d === xen.hwdom && !d.isSystem) checkHwdomReqs(xen, d);
  if (!d.iommuEnabled) return 0;

  const hd = d.iommu;
  hd.node = -1;
  const rc = yield* platformOps(xen).init(d);
  if (rc !== 0 || d.isSystem) return rc;
  hd.hapPtShare = d.hap && xen.opts.hapPtShare && !noSharept;
  // All of RAM is mapped for a relaxed hardware domain, so that nothing has to follow its memory.
  if (d !== xen.hwdom || xen.opts.hwdomStrict) hd.needSync = !hd.hapPtShare;
  assert(!(hd.needSync && hd.hapPtShare), 'shared tables need no syncing');
  return 0;
}

/** @xen iommu_hwdom_init */
export function* iommuHwdomInit(xen: Xen, d: Domain): Co<void> {
  if (!d.iommuEnabled) return;
  yield* platformOps(xen).hwdomInit(d);
}

/** @xen iommu_domain_destroy, arch_iommu_domain_destroy */
export function* iommuDomainDestroy(xen: Xen, d: Domain): Co<void> {
  if (!d.iommuEnabled) return;
  if (xen.ops === undefined) return;
  yield* xen.ops.teardown(d);
  assert(d.iommu.pgtables.length === 0, 'no I/O page table outlives its domain');
}

/** @returns 0 or -ERESTART. @xen iommu_free_pgtables */
export function* iommuFreePgtables(xen: Xen, d: Domain): Co<Rc> {
  if (!d.iommuEnabled) return 0;
  // From here on nobody can map any more: whoever is at it has finished.
  if (d.iommu.mappingLock.owner !== undefined) yield* spinBarrier(d);
  yield* platformOps(xen).clearRootPgtable(d);
  let done = 0;
  const pool = d.iommu.pgtables;
  for (let mfn = pool.pop(); mfn !== undefined; mfn = pool.pop()) {
    xen.heap.release(mfn, 0);
    if (++done % 0x100 === 0) yield* preemptPoint(xen.cpus);
  }
  return 0;
}

/** @xen spin_barrier */
function* spinBarrier(d: Domain): Co<void> {
  using _mapping = yield* hold(d.iommu.mappingLock);
}

/** @returns 0, -ENODEV without a driver, or what the scan or the driver say. @xen iommu_hardware_setup */
function* iommuHardwareSetup(xen: Xen): Co<Rc> {
  const driver = xen.driver;
  if (driver === undefined) return E.NODEV;
  const scanned = yield* scanPciDevices(xen);
  if (scanned !== 0) return scanned;
  xen.ops = driver.ops;
  if (!xen.opts.superpages) xen.ops.pageSizes &= PAGE_SIZE;
  const rc = yield* driver.setup();
  if (rc === 0) takeFaultInterrupts(xen);
  if (xen.opts.intremap !== 'off' && xen.irqs.ioApic !== undefined) yield* xen.irqs.ioApic.restore();
  assert(xen.opts.superpages || xen.ops.pageSizes === PAGE_SIZE, 'superpages are off when told so');
  return rc;
}

/** The I/O APIC in the order in which the rest of the boot comes to it. @xen arch/x86/setup.c __start_xen */
function* bringUpInterrupts(xen: Xen): Co<void> {
  const { ioApic } = xen.irqs;
  if (ioApic === undefined) return;
  yield* ioApic.setUp(xen.irqs);
  yield* ioApic.setUpSerial(xen.irqs);
  yield* ioApic.aim(xen.irqs);
}

/** Each unit reports its faults by an interrupt of its own: the first ones that are no lines. */
function takeFaultInterrupts(xen: Xen): void {
  const ops = platformOps(xen);
  const units = ops.units?.() ?? 1;
  for (let i = 0; i < units; i++) {
    const desc = xen.irqs.desc(xen.nrIrqsGsi + i);
    assignIrqVector(xen.irqs, desc);
    desc.handler = ops.vendor === 'vtd' ? 'dma_msi' : 'amd_iommu_msi';
    desc.disabled = false;
    desc.cpuMask = 1;
    desc.affinity = 1;
    desc.action =
      ops.vendor === 'vtd'
        ? 'drivers/passthrough/vtd/iommu.c#iommu_page_fault'
        : 'drivers/passthrough/amd/iommu_init.c#iommu_interrupt_handler';
    ops.setFaultMessage?.(i, composeMsiMsg(desc.vector, desc.cpuMask));
  }
}

/** @returns 0 when the IOMMU is on. @throws HostCrash when it is required and cannot be. @xen iommu_setup */
export function* iommuSetup(xen: Xen): Co<Rc> {
  const o = xen.opts;
  const forceIntremap = o.force && o.intremap !== 'off';
  if (o.hwdomStrict) o.hwdomPassthrough = false;
  let rc: Rc = E.NODEV;
  if (o.enable) {
    rc = yield* iommuHardwareSetup(xen);
    if (rc === 0) rc = checkPageSizes(xen);
    xen.iommuEnabled = rc === 0;
  }
  if (!xen.iommuEnabled) o.intremap = 'off';
  if ((o.force && !xen.iommuEnabled) || (forceIntremap && o.intremap === 'off')) {
    const what = xen.iommuEnabled ? 'Interrupt Remapping' : 'IOMMU';
    panic(`Couldn't enable ${what} and iommu=required/force`);
  }
  if (o.intremap === 'off') o.intpost = false;

  const print = (text: string): void => xen.services.printk(XENLOG.WARNING, text);
  print(`I/O virtualisation ${xen.iommuEnabled ? 'en' : 'dis'}abled`);
  if (!xen.iommuEnabled) {
    o.hwdomPassthrough = false;
    o.hwdomStrict = false;
    yield* bringUpInterrupts(xen);
    return rc;
  }
  if ((yield* iommuQuarantineInit(xen)) !== 0) panic('Could not set up quarantine');
  print(` - Dom0 mode: ${o.hwdomPassthrough ? 'Passthrough' : o.hwdomStrict ? 'Strict' : 'Relaxed'}`);
  print(`Interrupt remapping ${o.intremap !== 'off' ? 'en' : 'dis'}abled`);
  yield* bringUpInterrupts(xen);
  const ops = platformOps(xen);
  if (ops.adjustIrqAffinities !== undefined) yield* ops.adjustIrqAffinities();
  return rc;
}

/** The smallest page a driver can map must be Xen's own. */
function checkPageSizes(xen: Xen): Rc {
  const sizes = platformOps(xen).pageSizes;
  if ((sizes & -sizes) === PAGE_SIZE) return 0;
  xen.services.printk(XENLOG.ERR, `IOMMU: page size mask ${sizes.toString(16)} unsupported`);
  return sizes !== 0 ? E.PERM : E.NODATA;
}

/** d[IO] owns devices that nobody may use. @xen iommu_quarantine_init */
function* iommuQuarantineInit(xen: Xen): Co<Rc> {
  xen.domIo.iommuEnabled = true;
  return yield* iommuDomainInit(xen, xen.domIo, false);
}

/** Key 'o'. @xen iommu_dump_page_tables */
export function* dumpIommuPageTables(xen: Xen): Co<void> {
  if (!xen.iommuEnabled) return;
  for (const d of [...xen.domains.values()].sort((a, b) => a.domid - b.domid)) {
    if (d === xen.hwdom || !d.iommuEnabled) continue;
    if (d.iommu.hapPtShare) xen.console.printAlways(`${xen.services.pd(d)} sharing page tables`);
    else yield* platformOps(xen).dumpPageTables(d);
  }
}

/** Key 'V'. */
export function* dumpIommuInfo(xen: Xen): Co<void> {
  if (xen.iommuEnabled) yield* platformOps(xen).dumpInfo();
}
