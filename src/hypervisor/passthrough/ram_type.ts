/** What the firmware's memory map says of a frame. @xen arch/x86/mm.c page_get_ram_type, arch/x86/e820.c */
import { type E820Entry, type LogLevel, XENLOG } from '../../iommu/driver/types.js';

/** @xen RAM_TYPE_* */
export const RAM_TYPE = { CONVENTIONAL: 1, RESERVED: 2, UNUSABLE: 4, ACPI: 8, UNKNOWN: 16 } as const;

const bitOf = (type: E820Entry['type']): number => {
  switch (type) {
    case 'usable':
      return RAM_TYPE.CONVENTIONAL;
    case 'reserved':
      return RAM_TYPE.RESERVED;
    case 'unusable':
      return RAM_TYPE.UNUSABLE;
    default:
      return RAM_TYPE.ACPI;
  }
};

/** All types that some byte of the frame has. `e820` is in ascending order. @xen page_get_ram_type */
export function pageGetRamType(e820: readonly E820Entry[], mfn: number): number {
  const addr = mfn * 4096;
  let type = 0;
  let last = 0;
  for (const entry of e820) {
    if (addr + 4096 > last && addr < entry.start) type |= RAM_TYPE.UNKNOWN;
    last = entry.end;
    if (addr + 4096 <= entry.start || addr >= entry.end) continue;
    type |= bitOf(entry.type);
  }
  return type === 0 ? RAM_TYPE.UNKNOWN : type;
}

/** True when every byte of [start, end) has that type. @xen e820_all_mapped */
export function e820AllMapped(
  e820: readonly E820Entry[],
  start: number,
  end: number,
  type: E820Entry['type'],
): boolean {
  let from = start;
  for (const entry of e820) {
    if (entry.type !== type || entry.start >= end || entry.end <= from) continue;
    if (entry.start <= from) from = entry.end;
    if (from >= end) return true;
  }
  return false;
}

/** Frames where the type may change, in no order and more than once. */
export function e820Boundaries(e820: readonly E820Entry[]): number[] {
  const at: number[] = [];
  for (const { start, end } of e820) {
    at.push(Math.floor(start / 4096), Math.ceil(start / 4096), Math.floor(end / 4096), Math.ceil(end / 4096));
  }
  return at;
}

/** Reserves [start, end) where the map says nothing. @xen e820_add_range */
function e820AddReserved(e820: E820Entry[], start: number, end: number): void {
  const at = e820.findIndex((e) => e.start >= end);
  const before = e820[at < 0 ? e820.length - 1 : at - 1];
  if (before?.type === 'reserved' && before.end === start) {
    e820.splice(e820.indexOf(before), 1, { ...before, end });
  } else e820.splice(at < 0 ? e820.length : at, 0, { start, end, type: 'reserved' });
}

interface MapOwner {
  readonly e820: E820Entry[];
  printk(level: LogLevel, text: string): void;
}

const hash = (n: number): string => (n === 0 ? '0' : `0x${n.toString(16)}`);

/**
 * Frames that firmware wants mapped for a device (`end` inclusive) must not be RAM; holes in the map become reserved.
 * @xen iommu_unity_region_ok
 */
export function iommuUnityRegionOk(xen: MapOwner, prefix: string, start: number, end: number): boolean {
  if (e820AllMapped(xen.e820, start * 4096, (end + 1) * 4096, 'reserved')) return true;
  const range = `[${hash(start * 4096)}, ${hash(end * 4096)}]`;
  xen.printk(XENLOG.WARNING, `${prefix}: ${range} is not (entirely) in reserved memory`);
  for (let mfn = start; mfn <= end; mfn++) {
    const type = pageGetRamType(xen.e820, mfn);
    if (type === RAM_TYPE.UNKNOWN) {
      e820AddReserved(xen.e820, mfn * 4096, (mfn + 1) * 4096);
      continue;
    }
    if ((type & (RAM_TYPE.RESERVED | RAM_TYPE.ACPI | RAM_TYPE.UNUSABLE)) !== 0) continue;
    const page = `0x${mfn.toString(16).padStart(3, '0')}`;
    xen.printk(XENLOG.ERR, `${prefix}: page at ${page} can't be converted`);
    return false;
  }
  return true;
}
