/** Boot: every function that answers is listed, and dom0 gets what nobody else has. @xen drivers/passthrough/pci.c */
import { E, type Rc } from '../../base/errno.js';
import { formatSbdf, sbdf, slotOf } from '../../base/sbdf.js';
import { type IommuDomain, type Pdev, XENLOG } from '../../iommu/driver/types.js';
import { type Co, hold, holdWrite } from '../../sim/co.js';
import type { PciSeg, Xen } from '../xen.js';
import { PCI, pciConfRead8 } from './config.js';
import { listAdd } from './pci.js';
import { allocPdev, pciDeviceDetect } from './pdev.js';
import { segmentsAscending } from './segment.js';
import { vpciAssignDevice } from './vpci.js';

const SLOTS = 32;
const FUNCS = 8;
const MULTIFUNCTION = 0x80;

/** @returns 0 or -ENOMEM. @xen scan_pci_devices */
export function* scanPciDevices(xen: Xen): Co<Rc> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  for (const pseg of segmentsAscending(xen)) {
    // Xen asks each of 256 buses; those on which nobody answers are left out.
    for (const bus of xen.pci.busesInUse(pseg.nr)) {
      const rc = scanBus(xen, pseg, bus);
      if (rc !== 0) return rc;
    }
  }
  return 0;
}

/** Function 0 decides: absent ends the slot, and without the multifunction bit it is the only one. */
function scanBus(xen: Xen, pseg: PciSeg, bus: number): Rc {
  for (let dev = 0; dev < SLOTS; dev++) {
    for (let func = 0; func < FUNCS; func++) {
      const at = sbdf(pseg.nr, bus, dev, func);
      if (!pciDeviceDetect(xen, at)) {
        if (func === 0) break;
        continue;
      }
      if (allocPdev(xen, pseg, bus, (dev << 3) | func) === undefined) {
        xen.services.printk(XENLOG.WARNING, `${formatSbdf(at)}: alloc_pdev failed`);
        return E.NOMEM;
      }
      if (func === 0 && (pciConfRead8(xen, at, PCI.HEADER_TYPE) & MULTIFUNCTION) === 0) break;
    }
  }
  return 0;
}

/** Most lists of devices are in order already. */
function ascending(keys: Iterable<number>): readonly number[] {
  const list: number[] = [];
  let sorted = true;
  for (const key of keys) {
    if (list.length > 0 && key < list[list.length - 1]!) sorted = false;
    list.push(key);
  }
  return sorted ? list : list.sort((a, b) => a - b);
}

/**
 * Gives every device without owner to `d` and calls `handler` for it and its phantoms. Hidden devices get the same
 * treatment, without changing hands. The lock is let go between buses, or between devices when Xen is talkative.
 * @xen setup_hwdom_pci_devices
 */
export function* setupHwdomPciDevices(
  xen: Xen,
  d: IommuDomain,
  handler: (devfn: number, pdev: Pdev) => Co<Rc>,
): Co<void> {
  for (const pseg of segmentsAscending(xen)) {
    const bdfs = ascending(pseg.alldevs.keys());
    let i = 0;
    while (i < bdfs.length) {
      let last = i + 1;
      if (!xen.opts.verbose) while (last < bdfs.length && bdfs[last]! >> 8 === bdfs[i]! >> 8) last++;
      yield* setupSome(xen, pseg, d, bdfs, i, last, handler);
      xen.services.processPendingSoftirqs();
      i = last;
    }
  }
}

function* setupSome(
  xen: Xen,
  pseg: PciSeg,
  d: IommuDomain,
  bdfs: readonly number[],
  first: number,
  last: number,
  handler: (devfn: number, pdev: Pdev) => Co<Rc>,
): Co<void> {
  using _pcidevs = yield* hold(xen.pcidevsLock);
  for (let i = first; i < last; i++) {
    const pdev = pseg.alldevs.get(bdfs[i]!);
    if (pdev === undefined) continue;
    if (pdev.domain === undefined) {
      pdev.domain = d;
      yield* listAdd(d, pdev);
      yield* setupOneHwdomDevice(xen, d, pdev, handler);
    } else if (pdev.domain === xen.domXen) {
      pdev.domain = d;
      yield* setupOneHwdomDevice(xen, d, pdev, handler);
      pdev.domain = xen.domXen;
    } else if (pdev.domain !== d) {
      xen.services.printk(XENLOG.WARNING, `Dom${pdev.domain.domid} owning ${formatSbdf(pdev.sbdf)}?`);
    }
  }
}

/** @xen setup_one_hwdom_device: an error on the device itself ends it, one on a phantom does not */
function* setupOneHwdomDevice(
  xen: Xen,
  d: IommuDomain,
  pdev: Pdev,
  handler: (devfn: number, pdev: Pdev) => Co<Rc>,
): Co<void> {
  let devfn = pdev.devfn;
  do {
    const err = yield* handler(devfn, pdev);
    if (err !== 0) {
      const what = `setup ${formatSbdf(pdev.sbdf)} for d${d.domid} failed (${err})`;
      xen.services.printk(XENLOG.ERR, what);
      if (devfn === pdev.devfn) return;
    }
    devfn += pdev.phantomStride;
  } while (devfn !== pdev.devfn && slotOf(devfn) === slotOf(pdev.devfn));

  const err = yield* attachVpci(xen, d, pdev);
  if (err !== 0) xen.services.printk(XENLOG.ERR, `setup of vPCI for d${d.domid} failed: ${err}`);
}

function* attachVpci(xen: Xen, d: IommuDomain, pdev: Pdev): Co<Rc> {
  if (d.pciLock === undefined) return vpciAssignDevice(xen, pdev);
  using _pci = yield* holdWrite(d.pciLock);
  return vpciAssignDevice(xen, pdev);
}
