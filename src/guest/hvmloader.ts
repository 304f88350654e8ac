/**
 * The part of a guest's firmware that gives its devices addresses. @xen tools/firmware/hvmloader/pci.c pci_setup
 */
import type { Co } from '../sim/co.js';
import type { GuestPci } from './environment.js';

const MEM_START = 0xf000_0000;
const MEM_END = 0xfc00_0000;
/** Where 64-bit registers go that do not fit below 4 GiB. */
const HIGH_START = 0x10_0000_0000;
const IO_START = 0xc000;

const ROM = 0x30;
const BAR_REGS = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, ROM];
const DISPLAY_VGA = 0x0300;
const DISPLAY_OTHER = 0x0380;

interface Bar {
  readonly devfn: number;
  readonly reg: number;
  readonly bytes: number;
  readonly io: boolean;
  readonly wide: boolean;
}

/** Sizes every register, biggest first, and turns decoding on. Functions that have addresses keep them. */
export function* pciSetup(bus: GuestPci): Co<void> {
  const bars: Bar[] = [];
  for (const devfn of bus.functions()) {
    if ((bus.configRead(devfn, 0x0e, 1) & 0x7f) !== 0) continue;
    bars.push(...(yield* sizeAll(bus, devfn)));
  }
  bars.sort((a, b) => b.bytes - a.bytes);
  let mem = MEM_START;
  let high = HIGH_START;
  let io = IO_START;
  for (const bar of bars) {
    const align = (base: number): number => Math.ceil(base / bar.bytes) * bar.bytes;
    let base: number;
    if (bar.io) {
      base = align(io);
      io = base + bar.bytes;
    } else if (align(mem) + bar.bytes <= MEM_END) {
      base = align(mem);
      mem = base + bar.bytes;
    } else if (bar.wide) {
      base = align(high);
      high = base + bar.bytes;
    } else continue;
    yield* bus.configWrite(bar.devfn, bar.reg, 4, (base % 2 ** 32) + (bar.io ? 1 : 0));
    if (bar.wide) yield* bus.configWrite(bar.devfn, bar.reg + 4, 4, Math.floor(base / 2 ** 32));
    const command = bus.configRead(bar.devfn, 4, 2);
    yield* bus.configWrite(bar.devfn, 4, 2, command | (bar.io ? 1 : 2));
  }
}

function* sizeAll(bus: GuestPci, devfn: number): Co<Bar[]> {
  const bars: Bar[] = [];
  for (const reg of BAR_REGS) {
    if (bars.at(-1)?.wide === true && bars.at(-1)?.reg === reg - 4) continue;
    const before = bus.configRead(devfn, reg, 4);
    yield* bus.configWrite(devfn, reg, 4, 0xffff_ffff);
    const mask = bus.configRead(devfn, reg, 4);
    yield* bus.configWrite(devfn, reg, 4, before);
    if (mask === 0 || mask === 0xffff_ffff) continue;
    const io = reg !== ROM && (mask & 1) !== 0;
    const wide = reg !== ROM && !io && (mask & 6) === 4;
    let bits = io ? mask & 0xfffc : (mask & (reg === ROM ? ~0x7ff : ~15)) >>> 0;
    let scale = 1;
    if (bits === 0 && wide) {
      const upper = bus.configRead(devfn, reg + 4, 4);
      yield* bus.configWrite(devfn, reg + 4, 4, 0xffff_ffff);
      bits = bus.configRead(devfn, reg + 4, 4);
      yield* bus.configWrite(devfn, reg + 4, 4, upper);
      scale = 2 ** 32;
    }
    if (bits !== 0) bars.push({ devfn, reg, bytes: ((bits & -bits) >>> 0) * scale, io, wide });
  }
  return bars;
}

const ROM_LOWEST = 16 * 2 ** 20;

/** SeaBIOS looks into the ROM of every device but displays. @seabios src/optionroms.c optionrom_setup, map_pcirom */
export function* optionRoms(bus: GuestPci): Co<void> {
  for (const devfn of bus.functions()) {
    const display = [DISPLAY_VGA, DISPLAY_OTHER].includes(bus.configRead(devfn, 0x0a, 2));
    if (display || (bus.configRead(devfn, 0x0e, 1) & 0x7f) !== 0) continue;
    const address = bus.configRead(devfn, ROM, 4);
    if (address < ROM_LOWEST) continue;
    yield* bus.configWrite(devfn, ROM, 4, address + 1);
    yield* bus.configWrite(devfn, ROM, 4, address);
  }
}
