/** What Linux learns of a function when it finds it: header, capabilities, sizes. @linux drivers/pci/probe.c */
import { CAP, EXT_CAP, PCI } from '../../pci/registers.js';
import type { Co } from '../../sim/co.js';
import type { ConfigPort } from './config.js';
import {
  BRIDGE_RESOURCE,
  IORESOURCE,
  IOV_RESOURCE,
  type KernelPci,
  NO_RESOURCE,
  type Resource,
  ROM_RESOURCE,
} from './pci_dev.js';

const SIZEALIGN = 0x4_0000;
const CAPS_MAX = 48;
const EXT_CAPS_MAX = 480;
const EXT_CAP_DSN = 0x03;
const MSI_ENABLE = 0x0001;
const MSIX_ENABLE = 0x8000;

export function* setupDevice(config: ConfigPort, dev: KernelPci): Co<void> {
  const id = config.read(dev.sbdf, PCI.VENDOR_ID, 4);
  dev.vendor = id % 0x1_0000;
  dev.device = Math.floor(id / 0x1_0000);
  const classRev = config.read(dev.sbdf, PCI.REVISION_ID, 4);
  dev.revision = classRev & 0xff;
  dev.classCode = Math.floor(classRev / 256);
  dev.headerType = config.read(dev.sbdf, PCI.HEADER_TYPE, 1) & 0x7f;
  findCapabilities(config, dev);
  dev.pin = config.read(dev.sbdf, PCI.INTERRUPT_PIN, 1);
  // A pin that no device has cannot be routed.
  if (dev.pin > 4) dev.pin = 0;
  dev.irq = dev.pin === 0 ? 0 : config.read(dev.sbdf, PCI.INTERRUPT_LINE, 1);
  readSubsystem(config, dev);
  dev.resources = Array.from({ length: dev.headerType === 1 ? 17 : 13 }, () => NO_RESOURCE);
  const bars = dev.headerType === 0 ? 6 : dev.headerType === 1 ? 2 : 0;
  const rom = dev.headerType === 0 ? PCI.ROM_ADDRESS : PCI.ROM_ADDRESS1;
  yield* readBases(config, dev, bars, rom);
  if (dev.headerType === 1) readWindows(config, dev);
  if (dev.cap.sriov !== 0) yield* readVirtualBases(config, dev);
  yield* silence(config, dev, dev.cap.msi, MSI_ENABLE);
  yield* silence(config, dev, dev.cap.msix, MSIX_ENABLE);
}

/** Messages that firmware, or Xen, has left on are off until a driver wants them. @linux drivers/pci/msi/msi.c pci_msi_init */
function* silence(config: ConfigPort, dev: KernelPci, cap: number, enable: number): Co<void> {
  if (cap === 0) return;
  const control = config.read(dev.sbdf, cap + 2, 2);
  if ((control & enable) !== 0) yield* config.write(dev.sbdf, cap + 2, 2, control & ~enable);
}

function readSubsystem(config: ConfigPort, dev: KernelPci): void {
  if (dev.headerType === 0) {
    dev.subsystemVendor = config.read(dev.sbdf, PCI.SUBSYSTEM_VENDOR_ID, 2);
    dev.subsystemDevice = config.read(dev.sbdf, PCI.SUBSYSTEM_VENDOR_ID + 2, 2);
    return;
  }
  const at = findCapability(config, dev, 0x0d);
  if (at === 0) return;
  dev.subsystemVendor = config.read(dev.sbdf, at + 4, 2);
  dev.subsystemDevice = config.read(dev.sbdf, at + 6, 2);
}

/** Offset of a capability in the first 256 bytes, 0 when there is none. */
export function findCapability(config: ConfigPort, dev: KernelPci, id: number): number {
  if ((config.read(dev.sbdf, PCI.STATUS, 2) & 0x10) === 0) return 0;
  let at = config.read(dev.sbdf, PCI.CAPABILITY_LIST, 1) & 0xfc;
  for (let n = 0; n < CAPS_MAX && at >= 0x40; n++) {
    const head = config.read(dev.sbdf, at, 2);
    if ((head & 0xff) === 0xff) return 0;
    if ((head & 0xff) === id) return at;
    at = (head >>> 8) & 0xfc;
  }
  return 0;
}

export function findExtCapability(config: ConfigPort, dev: KernelPci, id: number): number {
  let at = 0x100;
  for (let n = 0; n < EXT_CAPS_MAX && at >= 0x100; n++) {
    const head = config.read(dev.sbdf, at, 4);
    if (head === 0 || head === 0xffff_ffff) return 0;
    if ((head & 0xffff) === id) return at;
    at = (head >>> 20) & 0xffc;
  }
  return 0;
}

function findCapabilities(config: ConfigPort, dev: KernelPci): void {
  dev.cap.pm = findCapability(config, dev, CAP.PM);
  dev.cap.vpd = findCapability(config, dev, CAP.VPD);
  dev.cap.express = findCapability(config, dev, CAP.EXP);
  dev.cap.msi = findCapability(config, dev, CAP.MSI);
  dev.cap.msix = findCapability(config, dev, CAP.MSIX);
  dev.cap.af = findCapability(config, dev, CAP.AF);
  if (dev.cap.express === 0) return;
  dev.expressType = (config.read(dev.sbdf, dev.cap.express + 2, 2) >>> 4) & 15;
  dev.cap.sriov = findExtCapability(config, dev, EXT_CAP.SRIOV);
  dev.cap.ari = findExtCapability(config, dev, EXT_CAP.ARI);
  dev.cap.serial = findExtCapability(config, dev, EXT_CAP_DSN);
}

/** Sizes each base address register the way Linux does: decoding off, all ones, read back, restore. */
function* readBases(config: ConfigPort, dev: KernelPci, count: number, romReg: number): Co<void> {
  const command = config.read(dev.sbdf, PCI.COMMAND, 2);
  if ((command & 3) !== 0) yield* config.write(dev.sbdf, PCI.COMMAND, 2, command & ~3);
  for (let i = 0; i < count; i++) {
    const base = yield* readBase(config, dev, PCI.BASE_ADDRESS_0 + 4 * i);
    dev.resources[i] = base.resource;
    if (base.wide) i++;
  }
  if (dev.headerType <= 1) {
    const rom = config.read(dev.sbdf, romReg, 4);
    const mask = (yield* sizeOf(config, dev, romReg, 0xffff_fffe)) & ~0x7ff;
    if (mask !== 0 && rom !== 0xffff_ffff) dev.resources[ROM_RESOURCE] = romResource(rom, mask >>> 0);
  }
  if ((command & 3) !== 0) yield* config.write(dev.sbdf, PCI.COMMAND, 2, command);
}

/** One register; a 64-bit one takes the next as well. @linux __pci_read_base */
function* readBase(
  config: ConfigPort,
  dev: KernelPci,
  reg: number,
): Co<{ resource: Resource; wide: boolean }> {
  const low = config.read(dev.sbdf, reg, 4);
  const lowSize = yield* sizeOf(config, dev, reg, 0xffff_ffff);
  if (lowSize === 0 || lowSize === 0xffff_ffff) return { resource: NO_RESOURCE, wide: false };
  const wide = (low & 7) === 4;
  const high = wide ? config.read(dev.sbdf, reg + 4, 4) : 0;
  const highSize = wide ? yield* sizeOf(config, dev, reg + 4, 0xffff_ffff) : 0xffff_ffff;
  return { resource: baseResource(low, high, lowSize, highSize), wide };
}

function* sizeOf(config: ConfigPort, dev: KernelPci, reg: number, probe: number): Co<number> {
  const before = config.read(dev.sbdf, reg, 4);
  yield* config.write(dev.sbdf, reg, 4, probe);
  const mask = config.read(dev.sbdf, reg, 4);
  yield* config.write(dev.sbdf, reg, 4, before);
  return mask;
}

function baseResource(low: number, high: number, lowMask: number, highMask: number): Resource {
  if ((low & 1) !== 0) {
    const bytes = (~(lowMask & ~3) & 0xffff) + 1;
    const start = low & 0xfffc;
    return { start, end: start + bytes - 1, flags: SIZEALIGN | IORESOURCE.IO | (low & 3) };
  }
  const wide = (low & 6) === 4;
  const bytes = 2 ** 64 - ((highMask >>> 0) * 2 ** 32 + ((lowMask & ~15) >>> 0));
  const start = (wide ? high * 2 ** 32 : 0) + ((low & ~15) >>> 0);
  const flags =
    SIZEALIGN |
    IORESOURCE.MEM |
    (low & 15) |
    ((low & 8) !== 0 ? IORESOURCE.PREFETCH : 0) |
    (wide ? IORESOURCE.MEM_64 : 0);
  return { start, end: start + exactBytes(bytes, lowMask, wide ? highMask : 0xffff_ffff) - 1, flags };
}

/** 2^64 minus a mask is not exact in a double when the low half matters: take the lowest set bit instead. */
function exactBytes(approx: number, lowMask: number, highMask: number): number {
  const low = (lowMask & ~15) >>> 0;
  if (low !== 0) return (low & -low) >>> 0;
  return highMask === 0 ? approx : ((highMask & -highMask) >>> 0) * 2 ** 32;
}

const romResource = (rom: number, mask: number): Resource => {
  const start = (rom & ~0x7ff) >>> 0;
  const flags = SIZEALIGN | IORESOURCE.MEM | IORESOURCE.PREFETCH | IORESOURCE.READONLY | (rom & 1);
  return { start, end: start + ((mask & -mask) >>> 0) - 1, flags };
};

/** @linux pci_read_bridge_windows */
function readWindows(config: ConfigPort, dev: KernelPci): void {
  const r = (reg: number, bytes: number): number => config.read(dev.sbdf, reg, bytes);
  const ioBase = ((r(0x1c, 1) & 0xf0) << 8) + (r(0x30, 2) << 16);
  const ioLimit = ((r(0x1d, 1) & 0xf0) << 8) + (r(0x32, 2) << 16) + 0xfff;
  if (ioBase !== 0 && ioBase <= ioLimit)
    dev.resources[BRIDGE_RESOURCE] = { start: ioBase, end: ioLimit, flags: IORESOURCE.IO };
  const memBase = (r(0x20, 2) & 0xfff0) * 0x1_0000;
  const memLimit = (r(0x22, 2) & 0xfff0) * 0x1_0000 + 0xf_ffff;
  if (memBase !== 0 && memBase <= memLimit)
    dev.resources[BRIDGE_RESOURCE + 1] = { start: memBase, end: memLimit, flags: IORESOURCE.MEM };
  const wide = (r(0x24, 2) & 15) === 1;
  const upper = (reg: number): number => (wide ? r(reg, 4) * 2 ** 32 : 0);
  const pfBase = (r(0x24, 2) & 0xfff0) * 0x1_0000 + upper(0x28);
  const pfLimit = (r(0x26, 2) & 0xfff0) * 0x1_0000 + 0xf_ffff + upper(0x2c);
  if (pfBase !== 0 && pfBase <= pfLimit) {
    const flags = IORESOURCE.MEM | IORESOURCE.PREFETCH | (wide ? IORESOURCE.MEM_64 | 1 : 0);
    dev.resources[BRIDGE_RESOURCE + 2] = { start: pfBase, end: pfLimit, flags };
  }
}

/** The windows that all virtual functions share, one part each. @linux drivers/pci/iov.c sriov_init */
function* readVirtualBases(config: ConfigPort, dev: KernelPci): Co<void> {
  const total = config.read(dev.sbdf, dev.cap.sriov + 0x0e, 2);
  for (let i = 0; i < 6; i++) {
    const { resource, wide } = yield* readBase(config, dev, dev.cap.sriov + 0x24 + 4 * i);
    const { end, flags, start } = resource;
    // Firmware gave it no addresses.
    if (start !== 0 && total !== 0)
      dev.resources[IOV_RESOURCE + i] = { start, end: start + (end - start + 1) * total - 1, flags };
    if (wide) i++;
  }
}

/** The boot VGA device answers with the BIOS's copy of its ROM. @linux arch/x86/pci/fixup.c pci_fixup_video */
export function fixupVideo(config: ConfigPort, dev: KernelPci): void {
  if (dev.classCode >>> 8 !== 0x0300) return;
  for (let bridge = dev.bus.self; bridge !== undefined; bridge = bridge.bus.self) {
    if ((config.read(bridge.sbdf, PCI.BRIDGE_CONTROL, 2) & 8) === 0) return;
  }
  if ((config.read(dev.sbdf, PCI.COMMAND, 2) & 3) === 0) return;
  dev.resources[ROM_RESOURCE] = { start: 0xc_0000, end: 0xd_ffff, flags: IORESOURCE.MEM | 0x12 };
}
