/** Xen's own accesses to configuration space. @xen drivers/pci/pci.c, arch/x86/x86_64/pci.c */
import type { Sbdf } from '../../base/sbdf.js';
import type { Pdev } from '../../iommu/driver/types.js';
import type { Hardware } from '../xen.js';

/** What a machine without the device answers. */
type Bus = Pick<Hardware, 'pci'>;

export const pciConfRead8 = (xen: Bus, sbdf: Sbdf, reg: number): number => xen.pci.configRead(sbdf, reg, 1);
export const pciConfRead16 = (xen: Bus, sbdf: Sbdf, reg: number): number => xen.pci.configRead(sbdf, reg, 2);
export const pciConfRead32 = (xen: Bus, sbdf: Sbdf, reg: number): number => xen.pci.configRead(sbdf, reg, 4);
export const pciConfWrite16 = (xen: Bus, sbdf: Sbdf, reg: number, value: number): void =>
  xen.pci.configWrite(sbdf, reg, 2, value & 0xffff);
export const pciConfWrite32 = (xen: Bus, sbdf: Sbdf, reg: number, value: number): void =>
  xen.pci.configWrite(sbdf, reg, 4, value >>> 0);

/** Registers and bits that Xen names. @xen include/xen/pci_regs.h */
export const PCI = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  COMMAND_MEMORY: 0x2,
  COMMAND_MASTER: 0x4,
  COMMAND_PARITY: 0x40,
  COMMAND_SERR: 0x100,
  STATUS: 0x06,
  STATUS_CAP_LIST: 0x10,
  CLASS_DEVICE: 0x0a,
  HEADER_TYPE: 0x0e,
  HEADER_TYPE_BRIDGE: 1,
  SECONDARY_BUS: 0x19,
  SUBORDINATE_BUS: 0x1a,
  SEC_STATUS: 0x1e,
  CAPABILITY_LIST: 0x34,
  BRIDGE_CONTROL: 0x3e,
  BRIDGE_CTL_PARITY: 0x01,
  BRIDGE_CTL_SERR: 0x02,
  BRIDGE_CTL_DTMR_SERR: 0x800,
} as const;

export const CAP_ID = { MSI: 0x05, PCIX: 0x07, EXP: 0x10, MSIX: 0x11 } as const;
export const EXT_CAP_ID = { ACS: 0x0d, SRIOV: 0x10 } as const;

/** Capabilities a list may have before it is taken for a loop. */
const MAX_CAPS = 48;
const MAX_EXT_CAPS = 480;

/** Offset of a capability in the first 256 bytes, 0 when there is none. @xen pci_find_cap_offset */
export function pciFindCapOffset(xen: Bus, sbdf: Sbdf, cap: number): number {
  if ((pciConfRead16(xen, sbdf, PCI.STATUS) & PCI.STATUS_CAP_LIST) === 0) return 0;
  let pos: number = PCI.CAPABILITY_LIST;
  for (let n = 0; n < MAX_CAPS; n++) {
    pos = pciConfRead8(xen, sbdf, pos);
    if (pos < 0x40) break;
    pos &= ~3;
    const id = pciConfRead8(xen, sbdf, pos);
    if (id === 0xff) break;
    if (id === cap) return pos;
    pos += 1;
  }
  return 0;
}

/** The same for a known device: 0 too where its extended space is out of reach. @xen pci_find_ext_capability */
export const pdevFindExtCapability = (xen: Bus, pdev: Pdev, cap: number): number =>
  pdev.extCfg ? pciFindExtCapability(xen, pdev.sbdf, cap) : 0;

/** Offset of an extended capability, 0 when there is none. @xen pci_find_next_ext_capability */
export function pciFindExtCapability(xen: Bus, sbdf: Sbdf, cap: number): number {
  let pos = 0x100;
  let header = pciConfRead32(xen, sbdf, pos);
  if (header === 0 || header === 0xffff_ffff) return 0;
  for (let n = 0; n < MAX_EXT_CAPS; n++) {
    if ((header & 0xffff) === cap) return pos;
    pos = (header >>> 20) & 0xffc;
    if (pos < 0x100) break;
    header = pciConfRead32(xen, sbdf, pos);
  }
  return 0;
}
