/** A device enters Xen's lists, and leaves them. @xen drivers/passthrough/pci.c alloc_pdev, free_pdev, pdev_type */
import { panic } from '../../base/assert.js';
import { formatSbdf, funcOf, hex, type Sbdf, sbdfOf, slotOf, withDevfn } from '../../base/sbdf.js';
import { PDEV_TYPE, Pdev, type PdevType, XENLOG } from '../../iommu/driver/types.js';
import type { PciSeg, Xen } from '../xen.js';
import { CAP_ID, PCI, pciConfRead8, pciConfRead16, pciConfRead32, pciFindCapOffset } from './config.js';
import { applyQuirks, checkPdev } from './device_check.js';
import { pdevMsiInit } from './msi.js';
import { bus2bridgeInherit, bus2bridgeSet } from './segment.js';

const CLASS_BRIDGE_HOST = 0x0600;
const CLASS_BRIDGE_PCI = 0x0604;
const EXP_FLAGS = 2;
const EXP_DEVCAP = 4;
const EXP_TYPE_PCI_BRIDGE = 7;
const EXP_TYPE_PCIE_BRIDGE = 8;

/** What kind of function it is: by class code first, then by its PCI Express capability. @xen pdev_type */
export function pdevType(xen: Xen, at: Sbdf): PdevType {
  const pos = pciFindCapOffset(xen, at, CAP_ID.EXP);
  switch (pciConfRead16(xen, at, PCI.CLASS_DEVICE)) {
    case CLASS_BRIDGE_PCI: {
      if (pos === 0) return PDEV_TYPE.LEGACY_PCI_BRIDGE;
      const port = (pciConfRead16(xen, at, pos + EXP_FLAGS) & 0xf0) >>> 4;
      if (port === EXP_TYPE_PCI_BRIDGE) return PDEV_TYPE.PCIE2PCI_BRIDGE;
      if (port === EXP_TYPE_PCIE_BRIDGE) return PDEV_TYPE.PCI2PCIE_BRIDGE;
      return PDEV_TYPE.PCIE_BRIDGE;
    }
    case CLASS_BRIDGE_HOST:
      return PDEV_TYPE.PCI_HOST_BRIDGE;
    case 0xffff:
      return PDEV_TYPE.UNKNOWN;
    default:
      return pos !== 0 ? PDEV_TYPE.PCIE_ENDPOINT : PDEV_TYPE.PCI;
  }
}

/** Does a function answer there? Some boards answer for empty slots. @xen pci_device_detect */
export function pciDeviceDetect(xen: Xen, at: Sbdf): boolean {
  const vendor = pciConfRead32(xen, at, PCI.VENDOR_ID);
  return vendor !== 0xffff_ffff && vendor !== 0 && vendor !== 0x0000_ffff && vendor !== 0xffff_0000;
}

/** Buses behind these bridges share requester ids. */
const conventionalBelow = (xen: Xen, type: PdevType): boolean =>
  type === PDEV_TYPE.PCIE2PCI_BRIDGE ||
  type === PDEV_TYPE.LEGACY_PCI_BRIDGE ||
  (type === PDEV_TYPE.PCI2PCIE_BRIDGE && xen.seams.mapsPci2pcieBuses());

/** The device, made on first use; undefined when memory is short. @xen alloc_pdev */
export function allocPdev(xen: Xen, pseg: PciSeg, bus: number, devfn: number): Pdev | undefined {
  const bdf = (bus << 8) | devfn;
  const known = pseg.alldevs.get(bdf);
  if (known !== undefined) return known;
  if (xen.faults.on && xen.faults.take('alloc')) return undefined;
  const pdev = new Pdev(sbdfOf(pseg.nr, bdf), xen.pdevLinks);
  if (pdevMsiInit(xen, pdev) !== 0) {
    xen.pdevLinks.leave(pdev.nr);
    return undefined;
  }
  pseg.alldevs.set(bdf, pdev);
  xen.pdevs.set(pdev.sbdf, pdev);

  pdev.type = pdevType(xen, pdev.sbdf);
  if (conventionalBelow(xen, pdev.type)) {
    const secBus = pciConfRead8(xen, pdev.sbdf, PCI.SECONDARY_BUS);
    const subBus = pciConfRead8(xen, pdev.sbdf, PCI.SUBORDINATE_BUS);
    bus2bridgeSet(xen, pseg, pdev, secBus, subBus);
  } else if (pdev.type === PDEV_TYPE.PCIE_ENDPOINT) {
    pdev.phantomStride = phantomStride(xen, pdev);
  } else if (pdev.type === PDEV_TYPE.UNKNOWN || pdev.type === PDEV_TYPE.PCI2PCIE_BRIDGE) {
    xen.services.printk(XENLOG.WARNING, `${formatSbdf(pdev.sbdf)}: unknown type ${pdev.type}`);
  }
  applyQuirks(xen, pdev);
  if (xen.seams.checksExtCfg()) pciCheckExtcfg(xen, pdev);
  else pdev.extCfg = true;
  checkPdev(xen, pdev);
  return pdev;
}

/** 0, 1, 2 or 4: what the device announces, else what `pci-phantom=` says of its slot. @xen alloc_pdev */
function phantomStride(xen: Xen, pdev: Pdev): number {
  const pos = pciFindCapOffset(xen, pdev.sbdf, CAP_ID.EXP);
  if (pos === 0) panic('Xen BUG at drivers/passthrough/pci.c');
  const func = funcOf(pdev.devfn);
  const announced = (pciConfRead16(xen, pdev.sbdf, pos + EXP_DEVCAP) & 0x18) >>> 3;
  if (announced !== 0) {
    const stride = 8 >> announced;
    return func >= stride ? 0 : stride;
  }
  for (const o of xen.pciPhantoms) {
    if (o.seg !== pdev.seg || o.bus !== pdev.bus || o.slot !== slotOf(pdev.devfn) || o.stride <= func)
      continue;
    let stride = o.stride;
    // Candidates wrap within the slot: once they come round, all have been looked at.
    for (let fn = (func + stride) & 7; fn > func; fn = (fn + stride) & 7) {
      const candidate = withDevfn(pdev.sbdf, (pdev.devfn & 0xf8) | fn);
      const absent =
        pciConfRead16(xen, candidate, PCI.VENDOR_ID) === 0xffff &&
        pciConfRead16(xen, candidate, PCI.DEVICE_ID) === 0xffff;
      if (absent || !xen.seams.phantomsGiveWay()) continue;
      stride <<= 1;
      const slot = `${hex(o.seg, 4)}:${hex(o.bus, 2)}:${hex(o.slot, 2)}`;
      xen.services.printk(
        XENLOG.WARNING,
        `${formatSbdf(candidate)} looks to be a real device; bumping ${slot} stride to ${stride}`,
      );
      fn = func;
    }
    return stride & 7;
  }
  return 0;
}

/** @xen free_pdev */
export function freePdev(xen: Xen, pseg: PciSeg, pdev: Pdev): void {
  if (conventionalBelow(xen, pdev.type)) {
    const secBus = pciConfRead8(xen, pdev.sbdf, PCI.SECONDARY_BUS);
    const subBus = pciConfRead8(xen, pdev.sbdf, PCI.SUBORDINATE_BUS);
    bus2bridgeInherit(xen, pseg, pdev, secBus, subBus);
  }
  pseg.alldevs.delete(pdev.sbdf & 0xffff);
  xen.pdevs.delete(pdev.sbdf);
  xen.pdevLinks.leave(pdev.nr);
  pdev.msix = undefined;
}

/**
 * The others of the ring that a physical function and its virtual ones make. One that was announced as virtual once
 * stays in it, whatever it is said to be later. @xen pdev->vf_list
 */
export function vfRing(pseg: PciSeg, pdev: Pdev): Pdev[] {
  const pf = pdev.pfPdev ?? pdev;
  const ring: Pdev[] = [];
  for (const p of pseg.alldevs.values()) {
    if (p !== pdev && (p.pfPdev === pf || (p === pf && pf !== pdev))) ring.push(p);
  }
  return ring;
}

const CFG_SPACE_SIZE = 256;
const CFG_SPACE_EXP_SIZE = 4096;
const PCIX_STATUS = 4;
const PCIX_STATUS_266_533 = 0x4000_0000 | 0x8000_0000;

/** Can the 4 KiB of extended configuration space be reached? @xen pci_check_extcfg */
export function pciCheckExtcfg(xen: Xen, pdev: Pdev): void {
  pdev.extCfg = false;
  if (pdev.type === PDEV_TYPE.UNKNOWN) return;
  if (pdev.type === PDEV_TYPE.LEGACY_PCI_BRIDGE || pdev.type === PDEV_TYPE.PCI) {
    const pos = pciFindCapOffset(xen, pdev.sbdf, CAP_ID.PCIX);
    if (pos === 0 || (pciConfRead32(xen, pdev.sbdf, pos + PCIX_STATUS) & PCIX_STATUS_266_533) === 0) return;
  }
  if (pciConfRead32(xen, pdev.sbdf, CFG_SPACE_SIZE) === 0xffff_ffff) return;
  if (xen.pciOpts.quirks && aliasesBaseSpace(xen, pdev)) {
    xen.services.printk(XENLOG.WARNING, `${formatSbdf(pdev.sbdf)}: extended config space aliases base one`);
    return;
  }
  pdev.extCfg = true;
}

/** Some bridges drop the upper address bits, so that the first 256 bytes repeat. */
function aliasesBaseSpace(xen: Xen, pdev: Pdev): boolean {
  const sig = pciConfRead32(xen, pdev.sbdf, PCI.VENDOR_ID);
  for (let pos = CFG_SPACE_SIZE; pos < CFG_SPACE_EXP_SIZE; pos += CFG_SPACE_SIZE) {
    if (pciConfRead32(xen, pdev.sbdf, pos) !== sig) return false;
  }
  return true;
}
