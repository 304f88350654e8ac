import { expect, test } from 'vitest';
import { readBases } from '../../src/guest/read_bases.js';
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
