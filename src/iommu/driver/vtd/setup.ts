/** Starting the units, and handing the hardware domain its devices. @xen drivers/passthrough/vtd/iommu.c */
import { panic } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { type Co, hold } from '../../../sim/co.js';
import { GCMD, VTD_REG } from '../../format/vtd.js';
import { type IommuDomain, type Pdev, XENLOG } from '../types.js';
import { domainContextMapping } from './device_context.js';
import { ioapicToIommu } from './drhd.js';
import { clearFaultBits, dmaMsiMask } from './faults.js';
import { iommuFlushAll } from './flush.js';
import { disableIntremap, enableIntremap } from './intremap.js';
import { disableQinval, enableQinval, hasRegisterBasedInvalidation } from './qinval.js';
import { isAzaliaTlbEnabled, isIgdVtEnabled, platformQuirksInit } from './quirks.js';
import { rmrrMapping } from './rmrr.js';
import {
  type DrhdUnit,
  dmarReadl,
  dmarWritel,
  dmarWriteMaddr,
  FLUSH,
  regVirtual,
  VTDPREFIX,
  type Vtd,
  type VtdIommu,
} from './state.js';
import { disablePmr } from './utils.js';
import { iommuWaitOp } from './wait.js';

const PAGE_SIZE_2M = 1 << 21;
const PAGE_SIZE_1G = 1 << 30;
/** Dynamic vectors are dealt from here in steps of eight. @xen FIRST_DYNAMIC_VECTOR */
const FIRST_VECTOR = 0x30;

/** Its own interrupt, for faults: requesting it starts it. @xen iommu_set_interrupt */
function* iommuSetInterrupt(iommu: VtdIommu): Co<void> {
  const vector = FIRST_VECTOR + 8 * iommu.index;
  // Logical destination CPU 0, lowest priority, edge.
  iommu.msi.data = 0x4100 | (vector & 0xff);
  iommu.msi.addressLo = 0xfee0_100c;
  yield* dmaMsiMask(iommu, false);
}

/** @xen adjust_irq_affinity, dma_msi_set_affinity */
function* adjustIrqAffinity(iommu: VtdIommu): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  dmarWritel(iommu, VTD_REG.FEDATA, iommu.msi.data);
  dmarWritel(iommu, VTD_REG.FEADDR, iommu.msi.addressLo);
}

/** @xen adjust_vtd_irq_affinities */
export function* adjustVtdIrqAffinities(vtd: Vtd): Co<void> {
  for (const drhd of vtd.drhds) yield* adjustIrqAffinity(drhd.iommu!);
}

/** @xen iommu_set_root_entry */
function* iommuSetRootEntry(iommu: VtdIommu): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  dmarWriteMaddr(iommu, VTD_REG.RTADDR, iommu.rootMfn, 0);
  const sts = dmarReadl(iommu, VTD_REG.GSTS);
  dmarWritel(iommu, VTD_REG.GCMD, (sts | GCMD.SRTP) >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.GSTS, GCMD.SRTP, true);
}

/** @returns -EIO when a unit can neither queue nor take requests by register. @xen init_vtd_hw */
function* initVtdHw(vtd: Vtd): Co<Rc> {
  for (const drhd of vtd.drhds) {
    const iommu = drhd.iommu!;
    yield* adjustIrqAffinity(iommu);
    yield* clearFaultBits(iommu);
    yield* disableIntremap(iommu);
    yield* disableQinval(iommu);
    yield* dmaMsiMask(iommu, false);
  }
  for (const drhd of vtd.drhds) {
    const iommu = drhd.iommu!;
    if ((yield* enableQinval(iommu)) === 0) continue;
    if (!hasRegisterBasedInvalidation(iommu)) return E.IO;
    iommu.flush = FLUSH.register;
  }
  yield* startIntremap(vtd);
  for (const drhd of vtd.drhds) yield* iommuSetRootEntry(drhd.iommu!);
  return yield* iommuFlushAll(vtd);
}

/** All units or none, and only when each I/O APIC is behind one. */
function* startIntremap(vtd: Vtd): Co<void> {
  const { opts } = vtd;
  if (opts.intremap === 'off') return;
  if ((vtd.s.ioapicIds ?? []).some((id) => ioapicToIommu(vtd, id) === undefined)) {
    opts.intremap = 'off';
    return;
  }
  for (const drhd of vtd.drhds) {
    if ((yield* enableIntremap(drhd.iommu!)) === 0) continue;
    opts.intremap = 'off';
    for (const other of vtd.drhds) yield* disableIntremap(other.iommu!);
    return;
  }
}

/** EPT pages can be shared when the unit knows every size that EPT uses. @xen vtd_ept_page_compatible */
function vtdEptPageCompatible(vtd: Vtd, iommu: VtdIommu): boolean {
  const { cpu } = vtd.s;
  // A CPU without the capability register: reading it faults on Intel, and yields zero under emulators.
  if (cpu.vendor !== 'intel') return true;
  if (!cpu.hap) return false;
  const large = vtd.opts.superpages;
  return (!cpu.hap2m || (iommu.sps2m && large)) && (!cpu.hap1g || (iommu.sps1g && large));
}

/** Switches off what this unit cannot do. */
function restrictFeatures(vtd: Vtd, iommu: VtdIommu): void {
  const { opts } = vtd;
  const sizes = `${iommu.sps2m ? ', 2MB' : ''}${iommu.sps1g ? ', 1GB' : ''}`;
  vtd.s.printk(XENLOG.WARNING, `Intel VT-d iommu ${iommu.index} supported page sizes: 4kB${sizes}`);
  if (!iommu.snoopControl) opts.snoop = false;
  if (!iommu.passThrough) opts.hwdomPassthrough = false;
  if (!iommu.queuedInval) opts.qinval = false;
  if (!iommu.intrRemap) opts.intremap = 'off';
  if (!iommu.intrPost || opts.intremap === 'off' || !vtd.s.cpu.cx16) opts.intpost = false;
  if (!vtdEptPageCompatible(vtd, iommu)) opts.hapPtShare = false;
}

function printFeatures(vtd: Vtd): void {
  const { opts } = vtd;
  const say = (on: boolean, what: string): void =>
    vtd.s.printk(XENLOG.WARNING, `Intel VT-d ${what} ${on ? '' : 'not '}enabled.`);
  say(opts.snoop, 'Snoop Control');
  say(opts.hwdomPassthrough, 'Dom0 DMA Passthrough');
  say(opts.qinval, 'Queued Invalidation');
  say(opts.intremap !== 'off', 'Interrupt Remapping');
  say(opts.intpost, 'Posted Interrupt');
  say(opts.hapPtShare, 'Shared EPT tables');
}

/**
 * Finds out what all units have in common, and starts them. A failure switches the features off again.
 * @returns -ENODEV without usable unit, -EIO. @xen vtd_setup
 */
export function* vtdSetup(vtd: Vtd): Co<Rc> {
  const ret = yield* trySetup(vtd);
  if (ret !== 0) {
    vtd.opts.hwdomPassthrough = false;
    vtd.opts.qinval = false;
    vtd.opts.intremap = 'off';
    vtd.opts.intpost = false;
  }
  return ret;
}

function* trySetup(vtd: Vtd): Co<Rc> {
  const { opts, s } = vtd;
  if (!s.cpu.cx16 && vtd.seams.vtdRequiresCx16()) {
    s.printk(XENLOG.ERR, `${VTDPREFIX}no CMPXCHG16B support, disabling IOMMU`);
    return E.NODEV;
  }
  if (vtd.drhds.length === 0) return E.NODEV;
  platformQuirksInit(vtd);
  if (!opts.enable) return E.NODEV;

  let registerInvalidation = true;
  let large = opts.superpages ? PAGE_SIZE_2M | PAGE_SIZE_1G : 0;
  for (const drhd of vtd.drhds) {
    const iommu = drhd.iommu!;
    restrictFeatures(vtd, iommu);
    if (!iommu.sps2m) large &= ~PAGE_SIZE_2M;
    if (!iommu.sps1g) large &= ~PAGE_SIZE_1G;
    if (!hasRegisterBasedInvalidation(iommu)) registerInvalidation = false;
    yield* iommuSetInterrupt(iommu);
  }
  if (!opts.qinval && !registerInvalidation) return E.NODEV;
  // The interrupt entry cache can only be flushed through the queue.
  if (!opts.qinval) opts.intremap = 'off';
  printFeatures(vtd);
  const ret = yield* initVtdHw(vtd);
  if (ret === 0) vtd.pageSizes |= large;
  return ret;
}

/** @xen iommu_enable_translation */
function* iommuEnableTranslation(vtd: Vtd, drhd: DrhdUnit): Co<void> {
  const iommu = drhd.iommu!;
  const refuse = refusal(vtd, drhd);
  if (refuse !== '') {
    vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX} ${refuse}`);
    return;
  }
  if (vtd.opts.verbose) {
    vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX}iommu_enable_translation: iommu->reg = ${regVirtual(iommu)}`);
  }
  yield* switchTranslationOn(iommu);
  yield* disablePmr(iommu);
}

/** Why the unit stays off: graphics by option, or firmware that did not prepare it. */
function refusal(vtd: Vtd, drhd: DrhdUnit): string {
  if (drhd.gfxOnly) {
    const disabling = 'disabling IGD VT-d engine';
    if (!vtd.opts.igfx) return `passed iommu=no-igfx option; ${disabling}`;
    if (!isIgdVtEnabled(vtd)) {
      const why = 'firmware did not enable IGD for VT properly';
      if (vtd.opts.force) panic(`${why}; crash Xen for security purpose`);
      return `${why}; ${disabling}`;
    }
  }
  if (!isAzaliaTlbEnabled(vtd, drhd)) {
    const why = 'firmware did not enable TLB for sound device';
    if (vtd.opts.force) panic(`${why}; crash Xen for security purpose`);
    return `${why}; disabling ISOCH VT-d engine`;
  }
  return '';
}

function* switchTranslationOn(iommu: VtdIommu): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  const sts = dmarReadl(iommu, VTD_REG.GSTS);
  dmarWritel(iommu, VTD_REG.GCMD, (sts | GCMD.TE) >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.GSTS, GCMD.TE, true);
}

/** @xen setup_hwdom_rmrr */
function* setupHwdomRmrr(vtd: Vtd, d: IommuDomain): Co<void> {
  using _pcidevs = yield* hold(vtd.s.pcidevsLock);
  for (const rmrr of vtd.rmrrs) {
    for (const bdf of rmrr.scope.devices) {
      if (bdf === 0) break;
      yield* rmrrMapping(vtd, d, 'rw', rmrr, 0);
    }
  }
}

/** @xen setup_hwdom_device */
export function* setupHwdomDevice(vtd: Vtd, devfn: number, pdev: Pdev): Co<Rc> {
  return yield* domainContextMapping(vtd, pdev.domain ?? vtd.s.hwdom, devfn, pdev);
}

/** Entries and tables first, then translation. @xen intel_iommu_hwdom_init */
export function* intelIommuHwdomInit(vtd: Vtd, d: IommuDomain): Co<void> {
  yield* vtd.s.setupHwdomPciDevices(d, (devfn, pdev) => setupHwdomDevice(vtd, devfn, pdev));
  yield* setupHwdomRmrr(vtd, d);
  yield* vtd.s.archIommuHwdomInit(d);
  if ((yield* iommuFlushAll(vtd)) !== 0) {
    vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX} IOMMU flush all failed for hardware domain`);
  }
  for (const drhd of vtd.drhds) {
    const frame = Math.floor(drhd.address / 4096);
    vtd.s.iomemDenyAccess(d, frame, frame);
    yield* iommuEnableTranslation(vtd, drhd);
  }
}
