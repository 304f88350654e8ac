/**
 * Chipsets that need special care. The IGD power erratum (snb_igd_quirk=) is not here: it hangs on registers that
 * nobody models. @xen drivers/passthrough/vtd/quirks.c
 */
import { formatSbdf, type Sbdf, sbdf } from '../../../base/sbdf.js';
import { type Pdev, XENLOG, type XenServices } from '../types.js';
import { type DrhdUnit, VTDPREFIX, type Vtd } from './state.js';

const IGD = sbdf(0, 0, 2, 0);
const GGC = 0x52;
const GGC_MEMORY_VT_ENABLED = 0x800;

const isCantiga = (id: number): boolean => id === 0x2a40_8086;
const isIronlake = (id: number): boolean =>
  id === 0x0040_8086 || id === 0x0044_8086 || id === 0x0062_8086 || id === 0x006a_8086;
const isCougarPoint = (id: number): boolean => id === 0x0100_8086 || id === 0x0104_8086;

/** Intel WLAN devices whose traffic the management engine sends under a phantom function of its own. */
const WLAN_CANTIGA: readonly number[] = [0x4232, 0x4235, 0x4236, 0x4237, 0x423a, 0x423b, 0x423c, 0x423d];
const WLAN_LATER: readonly number[] = [
  0x0087, 0x0089, 0x0082, 0x0085, 0x008f, 0x0090, 0x0091, 0x4238, 0x422b, 0x422c,
];

/**
 * The management engine's phantom function that shares the fate of (bus, devfn): a devfn on bus 0, or 0 for none.
 * @xen me_wifi_quirk
 */
export function mePhantomOf(vtd: Vtd, bus: number, devfn: number): number {
  const slot = vtd.meSlot;
  if (slot === 0) return 0;
  if (vtd.s.confRead(sbdf(0, 0, slot, 0), 0, 4) === 0xffff_ffff) return 0;
  const id = vtd.s.confRead(sbdf(0, bus, devfn >> 3, devfn & 7), 0, 4);
  const wlan = isCantiga(vtd.iohId) ? WLAN_CANTIGA : WLAN_LATER;
  return (id & 0xffff) === 0x8086 && wlan.includes(id >>> 16) ? (slot << 3) | 7 : 0;
}

/** @xen platform_quirks_init */
export function platformQuirksInit(vtd: Vtd): void {
  vtd.iohId = vtd.s.confRead(sbdf(0, 0, 0, 0), 0, 4);
  if (isCantiga(vtd.iohId)) vtd.meSlot = 3;
  else if (isIronlake(vtd.iohId) || isCougarPoint(vtd.iohId)) vtd.meSlot = 22;
  // Mobile 4 series forgets to announce that its write buffer needs flushing.
  if (isCantiga(vtd.iohId)) vtd.rwbfQuirk = true;
  if (vtd.opts.intremap !== 'off') tylersburgIntremapQuirk(vtd.s, vtd);
}

/** @xen tylersburg_intremap_quirk */
function tylersburgIntremapQuirk(s: XenServices, vtd: Vtd): void {
  // Xen asks each of 256 buses; nobody answers on the others.
  for (const bus of s.busesInUse(0)) {
    const port = sbdf(0, bus, 0, 0);
    const id = s.confRead(port, 0, 4);
    const x58 = id === 0x3405_8086;
    if (!x58 && id !== 0x3403_8086 && id !== 0x3406_8086) continue;
    const rev = s.confRead(port, 8, 1);
    if (!x58 && rev >= 0x22) continue;
    const what = x58
      ? `X58 chipset ${rev < 0x22 ? 'errata #62 and #69' : 'erratum #69'}`
      : '5500/5520 chipset errata #47 and #53';
    s.printk(XENLOG.WARNING, `${VTDPREFIX}Disabling IOMMU due to Intel ${what}`);
    vtd.opts.enable = false;
    return;
  }
}

/** @xen is_igd_vt_enabled_quirk */
export const isIgdVtEnabled = (vtd: Vtd): boolean =>
  !isIronlake(vtd.iohId) || (vtd.s.confRead(IGD, GGC, 2) & GGC_MEMORY_VT_ENABLED) !== 0;

/** Firmware may enable the sound device's own unit and give it no TLB entries. @xen is_azalia_tlb_enabled */
export function isAzaliaTlbEnabled(vtd: Vtd, drhd: DrhdUnit): boolean {
  const { s } = vtd;
  if (drhd.includeAll || drhd.scope.devices.length !== 1) return true;
  const azalia = ((drhd.segment << 16) | drhd.scope.devices[0]!) >>> 0;
  if (s.confRead(azalia, 0, 4) !== 0x3a3e_8086) return true;
  const smr = sbdf(drhd.segment, 0, 0x14, 0);
  if (s.confRead(smr, 0, 4) !== 0x342e_8086) return true;
  const vtisochctrl = s.confRead(smr, 0x188, 4);
  const warn = (text: string): void => s.printk(XENLOG.WARNING, `${VTDPREFIX} ${text}`);
  if (vtisochctrl === 0xffff_ffff) {
    warn('Cannot access VTISOCHCTRL at this time');
    return true;
  }
  if ((vtisochctrl & 1) !== 0) {
    warn('Inconsistency between chipset registers and ACPI tables');
    return true;
  }
  const entries = vtisochctrl & 0x1c;
  if (entries >= 16) return true;
  if (entries === 0) return false;
  warn(`Recommended TLB entries for ISOCH unit is 16; firmware set ${entries}`);
  return true;
}

const between = (id: number, first: number, last: number): boolean => id >= first && id <= last;
const isMaskReg = (id: number): boolean => id === 0x342e || id === 0x3728 || id === 0x3c28;
const isIohPort = (id: number): boolean =>
  between(id, 0x3400, 0x3411) ||
  between(id, 0x3420, 0x3421) ||
  between(id, 0x3700, 0x370f) ||
  between(id, 0x3720, 0x3724) ||
  between(id, 0x3c00, 0x3c0b);
const DMIBAR_IDS: ReadonlySet<number> = new Set([
  0x0040, 0x0044, 0x0048, 0x0100, 0x0104, 0x0108, 0x0150, 0x0154, 0x0158, 0x0a00, 0x0a04, 0x0a08, 0x0a0f,
  0x0c00, 0x0c04, 0x0c08, 0x0c0f, 0x0d00, 0x0d04, 0x0d08, 0x0d0f, 0x1600, 0x1604, 0x1608, 0x160f, 0x1610,
  0x1614, 0x1618, 0x1900, 0x1904, 0x1908, 0x190c, 0x190f, 0x1910, 0x1918, 0x191f,
]);

/** Keeps chipset functions from raising platform errors for faults that a guest can cause. @xen pci_vtd_quirk */
export function pciVtdQuirk(vtd: Vtd, pdev: Pdev): void {
  if (!pdev.arch.vtdMayQuirk) return;
  const { s } = vtd;
  const id = s.confRead(pdev.sbdf, 0, 4);
  const device = id >>> 16;
  if ((id & 0xffff) !== 0x8086) pdev.arch.vtdMayQuirk = false;
  else if (isMaskReg(device)) {
    s.confWrite(pdev.sbdf, 0x1ac, 4, (s.confRead(pdev.sbdf, 0x1ac, 4) | 0x8000_0000) >>> 0);
    s.printk(XENLOG.INFO, `Masked VT-d error signaling on ${formatSbdf(pdev.sbdf)}`);
  } else if (isIohPort(device)) maskUrSignaling(s, pdev.sbdf);
  else if (DMIBAR_IDS.has(device)) maskDmiUrSignaling(s, pdev.sbdf);
  else pdev.arch.vtdMayQuirk = false;
}

const EXT_CAP_ERR = 1;
const EXT_CAP_VNDR = 0xb;
const UNCOR_MASK = 8;
const COR_MASK = 0x14;
const UNC_UNSUP = 0x10_0000;
const COR_ADV_NFAT = 0x2000;

/** Position of the error registers: of the AER capability, or of the vendor's stand-in. */
function aerPosition(s: XenServices, dev: Sbdf): number {
  const aer = s.pciFindExtCap(dev, EXT_CAP_ERR);
  if (aer !== 0) return aer;
  let pos = s.pciFindExtCap(dev, EXT_CAP_VNDR);
  for (let hops = 0; pos !== 0 && hops < 480; hops++) {
    const header = s.confRead(dev, pos, 4);
    const vendor = s.confRead(dev, pos + 4, 4);
    if ((header & 0xffff) === EXT_CAP_VNDR && (vendor & 0xf_ffff) === 0x1_0004) return pos + 4;
    pos = header >>> 20;
  }
  return 0;
}

function maskUrSignaling(s: XenServices, dev: Sbdf): void {
  const pos = aerPosition(s, dev);
  if (pos === 0) {
    s.printk(XENLOG.WARNING, `${formatSbdf(dev)} without AER capability?`);
    return;
  }
  const uncor = s.confRead(dev, pos + UNCOR_MASK, 4);
  const cor = s.confRead(dev, pos + COR_MASK, 4);
  let action = 'Found masked';
  if ((uncor & UNC_UNSUP) === 0 || (cor & COR_ADV_NFAT) === 0) {
    s.confWrite(dev, pos + UNCOR_MASK, 4, (uncor | UNC_UNSUP) >>> 0);
    s.confWrite(dev, pos + COR_MASK, 4, (cor | COR_ADV_NFAT) >>> 0);
    action = 'Masked';
  }
  s.confWrite(dev, 0x20c, 4, (s.confRead(dev, 0x20c, 4) | 0x10) >>> 0);
  s.printk(XENLOG.INFO, `${action} UR signaling on ${formatSbdf(dev)}`);
}

function maskDmiUrSignaling(s: XenServices, dev: Sbdf): void {
  const lo = s.confRead(dev, 0x68, 4);
  const hi = s.confRead(dev, 0x6c, 4);
  const pa = (hi & 0x7f) * 2 ** 32 + ((lo & 0xffff_f000) >>> 0);
  const reserved = s.e820.some((e) => e.type === 'reserved' && pa >= e.start && pa < e.end);
  if ((lo & 1) === 0 || pa === 0 || !reserved) {
    const bar = hi === 0 ? lo.toString(16) : hi.toString(16) + lo.toString(16).padStart(8, '0');
    s.printk(XENLOG.WARNING, `Bogus DMIBAR ${bar === '0' ? '0' : `0x${bar}`} on ${formatSbdf(dev)}`);
    return;
  }
  const region = s.mmio.find(pa);
  const offset = pa - (region?.base ?? 0) + 0x1c8;
  if (region !== undefined) region.device.write32(offset, region.device.read32(offset) | 0x10_0000);
  s.printk(XENLOG.INFO, `Masked UR signaling on ${formatSbdf(dev)}`);
}
