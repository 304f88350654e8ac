import { expect, test } from 'vitest';
import { readBases, readVirtual } from '../../src/guest/read_bases.js';
import { type Co, runAlone } from '../../src/sim/co.js';

/** One function: a 64-bit register, an I/O register, no ROM; it keeps what is written to its command register. */
class Bus {
  readonly commands: number[] = [];
  private readonly words = new Map<number, number>([
    [4, 0x0107],
    [0x10, 0xf000_0004],
    [0x18, 0xc001],
  ]);
  functions(): number[] {
    return [0];
  }
  configRead(_devfn: number, reg: number, bytes: number): number {
    return (this.words.get(reg) ?? 0) % 2 ** (8 * bytes);
  }
  *configWrite(_devfn: number, reg: number, bytes: number, value: number): Co<void> {
    if (reg === 4) this.commands.push(value);
    if (bytes === 4 || reg === 4) this.words.set(reg, value);
  }
  value(reg: number): number {
    return this.words.get(reg) ?? 0;
  }
}

// Linux 6.1 drivers/pci/probe.c: six registers and the ROM, less the upper half of a wide one, each with decoding off.
test('a kernel turns decoding off and on once a register, and leaves every register as it was', () => {
  const bus = new Bus();
  runAlone(readBases(bus, 0));
  expect(bus.commands).toEqual(new Array(6).fill([0x0104, 0x0107]).flat());
  expect([0x10, 0x14, 0x18, 0x1c, 0x30].map((reg) => bus.value(reg))).toEqual([0xf000_0004, 0, 0xc001, 0, 0]);
});

/** Registers that take no writes, as those of a capability that pciback does not let a guest change. */
class Closed extends Bus {
  readonly refused: number[] = [];
  override *configWrite(devfn: number, reg: number, bytes: number, value: number): Co<void> {
    if (reg >= 0x100) this.refused.push(reg);
    else yield* super.configWrite(devfn, reg, bytes, value);
  }
  override configRead(devfn: number, reg: number, bytes: number): number {
    // SR-IOV at 0x120: four virtual functions, 4 KiB pages, a 64-bit register.
    const sriov = new Map([
      [0x12e, 4],
      [0x13c, 0x553],
      [0x144, 0xfe40_0004],
    ]);
    return sriov.get(reg) ?? super.configRead(devfn, reg, bytes);
  }
}

// Linux 6.1 drivers/pci/iov.c sriov_init; a register whose size cannot be told is none, and the next one is looked at.
test('registers of virtual functions are looked at like the others, after what else SR-IOV has', () => {
  const bus = new Closed();
  runAlone(readVirtual(bus, 0, 0x120));
  expect(bus.commands).toHaveLength(12);
  expect([...new Set(bus.refused)]).toEqual([0x128, 0x140, 0x144, 0x148, 0x14c, 0x150, 0x154, 0x158]);
});
