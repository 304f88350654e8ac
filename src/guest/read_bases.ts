/** How a guest's kernel looks at the registers of a device: each with decoding off. @linux drivers/pci/probe.c */
import type { Co } from '../sim/co.js';
import type { GuestPci } from './environment.js';

const COMMAND = 4;
const DECODE = 3;
const ROM = 0x30;
const ROM_MASK = 0xffff_f800;
const TYPE_64 = 4;

/** Every register is written and put back, there or not. @linux pci_read_bases, __pci_read_base */
export function* readBases(bus: GuestPci, devfn: number): Co<void> {
  for (let reg = 0x10; reg <= 0x24; reg += 4) if (yield* readBase(bus, devfn, reg, 0xffff_ffff)) reg += 4;
  yield* readBase(bus, devfn, ROM, ROM_MASK);
}

/** True for one that goes on in the next register. */
function* readBase(bus: GuestPci, devfn: number, reg: number, mask: number): Co<boolean> {
  const command = bus.configRead(devfn, COMMAND, 2);
  const decodes = (command & DECODE) !== 0;
  if (decodes) yield* bus.configWrite(devfn, COMMAND, 2, command & ~DECODE);
  const low = bus.configRead(devfn, reg, 4);
  yield* bus.configWrite(devfn, reg, 4, (low | mask) >>> 0);
  yield* bus.configWrite(devfn, reg, 4, low);
  const wide = reg !== ROM && (low & 7) === TYPE_64;
  if (wide) {
    const high = bus.configRead(devfn, reg + 4, 4);
    yield* bus.configWrite(devfn, reg + 4, 4, 0xffff_ffff);
    yield* bus.configWrite(devfn, reg + 4, 4, high);
  }
  if (decodes) yield* bus.configWrite(devfn, COMMAND, 2, command);
  return wide;
}
