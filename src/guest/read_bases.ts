/** How a guest's kernel looks at the registers of a device: each with decoding off. @linux drivers/pci/probe.c */
import type { Co } from '../sim/co.js';
import type { GuestPci } from './environment.js';

const COMMAND = 4;
const DECODE = 3;
const FIRST = 0x10;
const BARS = 6;
const ROM = 0x30;
const ROM_MASK = 0xffff_f800;
const ALL_ONES = 0xffff_ffff;
const TYPE_64 = 4;

/** Every register is written and put back, there or not. @linux pci_read_bases */
export function* readBases(bus: GuestPci, devfn: number): Co<void> {
  yield* readRun(bus, devfn, FIRST);
  yield* readBase(bus, devfn, ROM, ROM_MASK);
}

/** Six registers from `first` on, of which one may take the next in. */
function* readRun(bus: GuestPci, devfn: number, first: number): Co<void> {
  for (let i = 0; i < BARS; i++) if (yield* readBase(bus, devfn, first + i * 4, ALL_ONES)) i += 1;
}

/** True for one that goes on in the next register. @linux __pci_read_base */
function* readBase(bus: GuestPci, devfn: number, reg: number, mask: number): Co<boolean> {
  const command = bus.configRead(devfn, COMMAND, 2);
  const decodes = (command & DECODE) !== 0;
  if (decodes) yield* bus.configWrite(devfn, COMMAND, 2, command & ~DECODE);
  const low = bus.configRead(devfn, reg, 4);
  yield* bus.configWrite(devfn, reg, 4, (low | mask) >>> 0);
  let changes = bus.configRead(devfn, reg, 4) !== low;
  yield* bus.configWrite(devfn, reg, 4, low);
  const wide = mask === ALL_ONES && (low & 7) === TYPE_64;
  if (wide) {
    const high = bus.configRead(devfn, reg + 4, 4);
    yield* bus.configWrite(devfn, reg + 4, 4, ALL_ONES);
    changes = bus.configRead(devfn, reg + 4, 4) !== high || changes;
    yield* bus.configWrite(devfn, reg + 4, 4, high);
  }
  if (decodes) yield* bus.configWrite(devfn, COMMAND, 2, command);
  // One whose size cannot be told is none.
  return wide && changes;
}

const SRIOV_CONTROL = 0x08;
const SRIOV_TOTAL = 0x0e;
const SRIOV_PAGE_SIZES = 0x1c;
const SRIOV_PAGE_SIZE = 0x20;
const SRIOV_BARS = 0x24;

/** Virtual functions are off, have the smallest pages, and registers of their own. @linux drivers/pci/iov.c sriov_init */
export function* readVirtual(bus: GuestPci, devfn: number, sriov: number): Co<void> {
  yield* bus.configWrite(devfn, sriov + SRIOV_CONTROL, 2, 0);
  if (bus.configRead(devfn, sriov + SRIOV_TOTAL, 2) === 0) return;
  const sizes = bus.configRead(devfn, sriov + SRIOV_PAGE_SIZES, 4);
  if (sizes === 0) return;
  yield* bus.configWrite(devfn, sriov + SRIOV_PAGE_SIZE, 4, (sizes & -sizes) >>> 0);
  yield* readRun(bus, devfn, sriov + SRIOV_BARS);
}
