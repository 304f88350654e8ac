/** Looks at a device when it is found: known errata, and error reporting switched off by `pci=`. @xen drivers/passthrough/pci.c */
import { formatSbdf, hex } from '../../base/sbdf.js';
import { type Pdev, XENLOG } from '../../iommu/driver/types.js';
import type { Xen } from '../xen.js';
import { PCI, pciConfRead8, pciConfRead16, pciConfWrite16 } from './config.js';

/** Intel home agents and power units whose BARs read non-zero values: errata HSE43, BDF2, BDX2. */
const IGNORE_BARS: readonly number[] = [0x2fc0, 0x6f60, 0x6fa0, 0x6fc0];

/** @xen apply_quirks */
export function applyQuirks(xen: Xen, pdev: Pdev): void {
  const vendor = pciConfRead16(xen, pdev.sbdf, PCI.VENDOR_ID);
  const device = pciConfRead16(xen, pdev.sbdf, PCI.DEVICE_ID);
  if (vendor === 0x8086 && IGNORE_BARS.includes(device)) pdev.ignoreBars = true;
}

/** Parity and abort bits: 15, 14, 13, 12, 11 and 8. */
const STATUS_CHECK = 0xf900;

/** Clears pending errors of what is not to be reported. @xen check_pdev */
export function checkPdev(xen: Xen, pdev: Pdev): void {
  const { maskSerr, maskPerr } = xen.pciOpts;
  const commandMask = (maskSerr ? PCI.COMMAND_SERR : 0) | (maskPerr ? PCI.COMMAND_PARITY : 0);
  const bridgeCtlMask =
    (maskSerr ? PCI.BRIDGE_CTL_SERR | PCI.BRIDGE_CTL_DTMR_SERR : 0) | (maskPerr ? PCI.BRIDGE_CTL_PARITY : 0);
  if (commandMask !== 0) {
    clearBits(xen, pdev, PCI.COMMAND, commandMask);
    clearStatus(xen, pdev, PCI.STATUS, 'status');
  }
  const header = pciConfRead8(xen, pdev.sbdf, PCI.HEADER_TYPE) & 0x7f;
  if (header !== PCI.HEADER_TYPE_BRIDGE || bridgeCtlMask === 0) return;
  clearBits(xen, pdev, PCI.BRIDGE_CONTROL, bridgeCtlMask);
  clearStatus(xen, pdev, PCI.SEC_STATUS, 'secondary status');
}

function clearBits(xen: Xen, pdev: Pdev, reg: number, mask: number): void {
  const val = pciConfRead16(xen, pdev.sbdf, reg);
  if ((val & mask) !== 0) pciConfWrite16(xen, pdev.sbdf, reg, val & ~mask);
}

function clearStatus(xen: Xen, pdev: Pdev, reg: number, what: string): void {
  const val = pciConfRead16(xen, pdev.sbdf, reg);
  if ((val & STATUS_CHECK) === 0) return;
  const change = `${hex(val, 4)} -> ${hex(val & ~STATUS_CHECK, 4)}`;
  xen.services.printk(XENLOG.INFO, `${formatSbdf(pdev.sbdf)} ${what} ${change}`);
  pciConfWrite16(xen, pdev.sbdf, reg, val & STATUS_CHECK);
}
