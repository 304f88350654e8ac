/**
 * `e820_host`: a PV guest's memory map with the machine's holes, so that the guest leaves room where its devices are.
 * Only the log shows it here. @xen tools/libs/light/libxl_x86.c e820_host_sanitize, e820_sanitize
 */
import { hex } from '../../base/sbdf.js';
import { STRUCT } from '../hypercall_buffers.js';
import { settled } from './defaults.js';
import type { Libxl } from './libxl.js';
import { EVENT } from './lines_event.js';
import type { BuildInfo } from './types.js';

const E820 = { none: 0, ram: 1, reserved: 2, acpi: 3, nvs: 4, unusable: 5 } as const;
const NAMES = ['Unknown', 'RAM', 'Reserved', 'ACPI', 'ACPI NVS', 'Unusable'] as const;
/** Bytes of an entry as Xen takes it. */
const E820_ENTRY = 20;
const MB = 2 ** 20;
const GB4 = 2 ** 32;
const PAGE = 4096;

interface Entry {
  start: number;
  bytes: number;
  type: number;
}

export function logE820Host(lx: Libxl, b: BuildInfo): void {
  if (!lx.event.on || b.type !== 'pv' || b.pv.e820Host !== true) return;
  const limitKb = settled(b.targetMemkb);
  const balloonKb = settled(b.maxMemkb) - limitKb + settled(b.pv.slackMemkb);
  const from = lx.xc.hv
    .machineMemoryMap()
    .map((e): Entry => (e.start > MB ? { ...e } : { start: 0, bytes: 0, type: E820.none }));
  const devices = from.filter((e) => e.type !== E820.ram && e.type !== E820.unusable && e.type !== E820.none);
  const start = Math.min(2 ** 64, ...devices.map((e) => e.start));
  const startKb = start > 1024 ? Math.floor(start / 1024) : 0;
  const deltaKb = startKb > 0 && limitKb > startKb ? limitKb - startKb : 0;
  const ramEnd = (limitKb - deltaKb) * 1024;
  const pfn = (a: number): string => (a / PAGE < 1 ? '0' : hex(Math.floor(a / PAGE), 1));
  lx.log.debug(
    EVENT.e820Memory,
    `Memory: ${limitKb}kB End of RAM: 0x${pfn(ramEnd)} (PFN) Delta: ${deltaKb}kB, ` +
      `PCI start: ${startKb}kB (0x${pfn(start)} PFN), Balloon ${balloonKb}kB\n`,
  );
  const map: Entry[] = [{ start: 0, bytes: ramEnd, type: E820.ram }];
  hideRam(from, ramEnd);
  if (start > ramEnd) closeGap(from, map, ramEnd, start);
  map.push(...from.filter((e) => e.type !== E820.ram && e.type !== E820.none));
  if (balloonKb > 0 || deltaKb > 0)
    map.push({ start: GB4, bytes: (deltaKb + balloonKb) * 1024, type: E820.ram });
  lx.xc.buffers.other('machineMap');
  lx.xc.buffers.call(map.length * E820_ENTRY, 24, STRUCT.memoryCall);
  for (const e of map)
    lx.log.debug(
      EVENT.e820Entry,
      `:\t[${pfn(e.start)} -> ${pfn(e.start + e.bytes)}] ${NAMES[e.type] ?? NAMES[0]}`,
    );
}

/** The machine's RAM below 4 GiB becomes unusable above the guest's, and goes where the guest has its own. */
function hideRam(from: readonly Entry[], ramEnd: number): void {
  for (const e of from) {
    const end = e.start + e.bytes;
    if (e.type === E820.unusable || end < ramEnd) e.type = E820.none;
    if (e.type !== E820.ram || e.start >= GB4) continue;
    if (e.start < ramEnd) {
      e.bytes -= ramEnd - e.start;
      e.start = ramEnd;
    }
    if (end > ramEnd) e.type = E820.unusable;
  }
}

/** Between the guest's RAM and the first device nothing is free for devices. */
function closeGap(from: readonly Entry[], map: Entry[], ramEnd: number, start: number): void {
  const there = from.find((e) => e.type === E820.unusable && e.start === ramEnd);
  if (there === undefined) map.push({ start: ramEnd, bytes: start - ramEnd, type: E820.unusable });
  else there.bytes = start - ramEnd;
}
