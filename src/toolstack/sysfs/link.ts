/** What a PCI Express device's link can do and does. @linux drivers/pci/pci-sysfs.c, pci.c pcie_get_speed_cap */
import type { Dom0Kernel } from '../kernel/kernel.js';
import type { KernelPci } from '../kernel/pci_dev.js';

export const LINK_FILES = [
  'current_link_speed',
  'current_link_width',
  'max_link_speed',
  'max_link_width',
] as const;

const LNKCAP = 0x0c;
const LNKSTA = 0x12;
const LNKCAP2 = 0x2c;
/** By the number in the registers; LNKCAP2 has a bit for each. */
const SPEEDS = [
  'Unknown',
  '2.5 GT/s PCIe',
  '5.0 GT/s PCIe',
  '8.0 GT/s PCIe',
  '16.0 GT/s PCIe',
  '32.0 GT/s PCIe',
  '64.0 GT/s PCIe',
] as const;
const speed = (n: number): string => SPEEDS[n] ?? SPEEDS[0];
/** Endpoints and event collectors of the root complex have no link. */
const WITHOUT_LINK = [9, 10];

/** undefined for what is no such file. */
export function linkAttribute(kernel: Dom0Kernel, dev: KernelPci, name: string): string | undefined {
  if (!LINK_FILES.some((n) => n === name)) return undefined;
  const at = dev.cap.express;
  const linked = !WITHOUT_LINK.includes(dev.expressType);
  const read = (reg: number, bytes: 2 | 4): number =>
    linked ? kernel.config.read(dev.sbdf, at + reg, bytes) : 0;
  switch (name) {
    case 'current_link_speed':
      return speed(read(LNKSTA, 2) & 15);
    case 'current_link_width':
      return String((read(LNKSTA, 2) >>> 4) & 0x3f);
    case 'max_link_width':
      return String((read(LNKCAP, 4) >>> 4) & 0x3f);
    default: {
      const version = kernel.config.read(dev.sbdf, at + 2, 2) & 15;
      const supported = version > 1 ? (read(LNKCAP2, 4) >>> 1) & 0x7f : 0;
      return speed(supported === 0 ? read(LNKCAP, 4) & 15 : 32 - Math.clz32(supported));
    }
  }
}
