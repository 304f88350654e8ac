/** Configuration space in memory, as the MCFG table describes it. @xen arch/x86/x86_64/mmconfig-shared.c */
import { type E820Entry, XENLOG } from '../iommu/driver/types.js';
import { allocPseg } from './passthrough/segment.js';
import type { Xen } from './xen.js';

/** The window of a range of buses of one segment; `base` is that of bus 0, in bytes. */
export interface McfgWindow {
  readonly base: number;
  readonly seg: number;
  readonly firstBus: number;
  readonly lastBus: number;
}

const BUS_BYTES = 2 ** 20;
const BYTES_MIN = 16 * 2 ** 20;
const hex = (n: number, width = 1): string => n.toString(16).padStart(width, '0');

/** @xen acpi_mmcfg_init, pci_mmcfg_reject_broken */
export function acpiMmcfgInit(xen: Xen, windows: readonly McfgWindow[]): void {
  if (xen.seams.mcfgForgetsSegments()) pciSegmentsInit(xen);
  for (const [i, w] of windows.entries()) {
    const buses = `${hex(w.firstBus, 2)} - ${hex(w.lastBus, 2)}`;
    xen.console.printk(
      XENLOG.WARNING,
      `PCI: MCFG configuration ${i}: base ${hex(w.base)} segment ${hex(w.seg, 4)} buses ${buses}`,
    );
    const lastBus = reservedUpTo(xen, w, i);
    if (lastBus === undefined) notUsed(xen, w);
    else enable(xen, { ...w, lastBus });
  }
}

/** Empty segments; what was known of their devices is lost. @xen pci_segments_init */
function pciSegmentsInit(xen: Xen): void {
  for (const pseg of [...xen.segs.values()]) {
    for (const pdev of pseg.alldevs.values()) {
      pdev.domain?.pdevList.remove(pdev);
      xen.pdevLinks.leave(pdev.nr);
    }
    xen.segs.delete(pseg.nr);
    allocPseg(xen, pseg.nr);
  }
  xen.pdevs.clear();
}

/** The last bus whose part of the window firmware has reserved; undefined when that is too little. @xen is_mmconf_reserved */
function reservedUpTo(xen: Xen, w: McfgWindow, i: number): number | undefined {
  const start = w.base + w.firstBus * BUS_BYTES;
  const whole = (w.lastBus + 1 - w.firstBus) * BUS_BYTES;
  let size = whole;
  while (!allReserved(xen.e820, start, start + size)) {
    size /= 2;
    if (size < BYTES_MIN) break;
  }
  if (size < BYTES_MIN && size !== whole) return undefined;
  xen.console.printk(XENLOG.WARNING, `PCI: MCFG area at ${hex(start)} reserved in E820`);
  if (size === whole) return w.lastBus;
  const lastBus = w.firstBus + size / BUS_BYTES - 1;
  xen.console.printk(
    XENLOG.WARNING,
    `PCI: updated MCFG configuration ${i}: base ${hex(w.base)} segment ${w.seg} buses ${w.firstBus} - ${lastBus}`,
  );
  return lastBus;
}

/** Ranges are in ascending order. @xen e820_all_mapped */
function allReserved(e820: readonly E820Entry[], start: number, end: number): boolean {
  let from = start;
  for (const e of e820) {
    if (e.type !== 'reserved' || e.start > from || e.end <= from) continue;
    from = e.end;
    if (from >= end) return true;
  }
  return false;
}

/** dom0 may read the window, not write it. @xen pci_mmcfg_arch_enable */
function enable(xen: Xen, w: McfgWindow): void {
  const [seg, first, last] = [hex(w.seg, 4), hex(w.firstBus, 2), hex(w.lastBus, 2)];
  xen.console.printk(XENLOG.INFO, `PCI: Using MCFG for segment ${seg} bus ${first}-${last}`);
  const frame = (bus: number): number => w.base / 4096 + bus * 0x100;
  xen.mmioRo.add(frame(w.firstBus), frame(w.lastBus + 1) - 1);
}

/** @xen pci_mmcfg_arch_disable */
function notUsed(xen: Xen, w: McfgWindow): void {
  const [seg, first, last] = [hex(w.seg, 4), hex(w.firstBus, 2), hex(w.lastBus, 2)];
  xen.console.printk(XENLOG.WARNING, `PCI: Not using MCFG for segment ${seg} bus ${first}-${last}`);
}
