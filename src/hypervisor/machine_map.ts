/** The machine's memory map as dom0 hears of it. @xen arch/x86/mm.c XENMEM_machine_memory_map */
import { paddrFrames } from './cpu.js';
import type { MemoryRange } from './public/memory.js';
import type { Xen } from './xen.js';

const PAGE = 4096;
const IOAPIC_FRAME = 0xfec00;
const TYPES = { usable: 1, reserved: 2, 'ACPI data': 3, 'ACPI NVS': 4, unusable: 5 } as const;

/** The firmware's map; between its entries, what dom0 may not reach and the I/O APIC are reserved. */
export function machineMemoryMap(xen: Xen): MemoryRange[] {
  const map: MemoryRange[] = [];
  const frames = paddrFrames(xen.cpu);
  let at = 0;
  const reach = (s: number, e: number): void => {
    if (s > at && s < frames) map.push({ start: at * PAGE, bytes: (s - at) * PAGE, type: TYPES.reserved });
    at = e + 1;
  };
  /** Up to, not including, `end`. */
  const gap = (end: number): void => {
    for (const r of xen.hwdom.iomemCaps.list()) {
      const [s, e] = [Math.max(r.s, at), Math.min(r.e, end - 1)];
      if (s > e) continue;
      if (s > IOAPIC_FRAME || e < IOAPIC_FRAME) reach(s, e);
      else {
        if (s < IOAPIC_FRAME) reach(s, IOAPIC_FRAME - 1);
        if (e > IOAPIC_FRAME) reach(IOAPIC_FRAME + 1, e);
      }
    }
    reach(end, end);
  };
  for (const { start, end, type } of xen.e820) {
    if (Math.floor(start / PAGE) > at) gap(Math.floor(start / PAGE));
    map.push({ start, bytes: end - start, type: TYPES[type] });
    at = Math.ceil(end / PAGE);
  }
  gap(Number.POSITIVE_INFINITY);
  return map;
}
