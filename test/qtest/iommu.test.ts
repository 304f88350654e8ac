/** What QEMU's intel-iommu-test and iommu-intel-test ask of a board, clause by clause, through the same protocol. */
import { describe, expect, test } from 'vitest';
import { BoardRig, UNIT } from './board_rig.js';

const BASE = 0x1000_0000;
const IOVA = 0x1020_0567;
const TARGET = BASE + 0x10_0000;
const [ROOT, CONTEXT, L4, QUEUE, DIRECTORY, PASIDS] = [0, 0x1000, 0x1_0000, 0x2_0000, 0x3_0000, 0x3_1000].map(
  (o) => BASE + o,
) as [number, number, number, number, number, number];
const TESTDEV_BAR = 0xe000_0000;

const bits = (value: bigint, hi: number, lo: number): number =>
  Number((value >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n));

describe('registers of a unit with scalable mode and first-level translation', () => {
  const rig = new BoardRig('-M q35 -device intel-iommu,scalable-mode=on,fsts=on');
  const cap = rig.reg(0x08);
  const ecap = rig.reg(0x10);

  test('CAP is what QEMU 11 has: fault records at 0x220, one of them, 64 Ki domains, page-selective flushes', () => {
    expect(cap & ~(1n << 63n)).toBe(0x01d2008c222f0606n);
    expect([bits(cap, 33, 24) * 16, bits(cap, 47, 40) + 1, bits(cap, 2, 0)]).toEqual([0x220, 1, 6]);
    expect([bits(cap, 39, 39), bits(cap, 53, 48), bits(cap, 37, 34)]).toEqual([1, 18, 3]);
  });
  test('SAGAW offers 39 and 48 bits and MGAW is 48', () => {
    expect(bits(cap, 12, 8)).toBe(0b110);
    expect(bits(cap, 21, 16)).toBe(47);
  });
  test('ECAP has the queue, interrupt remapping, scalable mode and first-level tables, IOTLB at 0xf0', () => {
    expect(ecap).toBe(0x0000_8800_00f0_0f4an);
    expect([bits(ecap, 1, 1), bits(ecap, 3, 3), bits(ecap, 43, 43), bits(ecap, 47, 47)]).toEqual([
      1, 1, 1, 1,
    ]);
    expect(bits(ecap, 17, 8) * 16).toBe(0xf0);
  });
  test('a system reset gives every register its first value back, and says so by an event', () => {
    const before = rig.say(`read ${UNIT} 0x230`);
    rig.write('l', UNIT + 0x3c, 0x55);
    rig.write('q', UNIT + 0x20, 0x1234_5000);
    rig.write('l', UNIT + 0x18, 0x4000_0000);
    expect(rig.say(`read ${UNIT} 0x230`)).not.toBe(before);
    const [event, reply] = rig.reset() as [{ event: string }, { return: object }];
    expect(event.event).toBe('RESET');
    expect(reply.return).toEqual({});
    expect(rig.say(`read ${UNIT} 0x230`)).toBe(before);
  });
});

test('the default unit of QEMU 7.2 has its capabilities, and older property names mean the same', () => {
  const old = new BoardRig('-M q35 -device intel-iommu,intremap=on,aw-bits=48');
  expect([old.reg(8), old.reg(0x10)]).toEqual([0x00d2_008c_222f_0606n, 0xf0_0f4an]);
  const named = new BoardRig('-M q35 -device intel-iommu,x-scalable-mode=on,x-flts=on');
  expect(named.reg(0x10)).toBe(0x0000_8800_00f0_0f4an);
});

/** The tables of one mode: which, and the properties of the unit that has them. */
interface Mode {
  readonly name: string;
  readonly unit: string;
  readonly scalable: boolean;
  readonly build: (rig: BoardRig, devfn: number) => void;
  readonly lands: number;
}

function tables(rig: BoardRig, flags: bigint, leafFlags: bigint): void {
  for (let level = 4; level >= 1; level--) {
    const index = Math.floor(IOVA / 2 ** (12 + 9 * (level - 1))) % 512;
    const next = level === 1 ? TARGET : L4 + (5 - level) * 0x1000;
    rig.write('q', L4 + (4 - level) * 0x1000 + index * 8, BigInt(next) | (level === 1 ? leafFlags : flags));
  }
}
function legacy(rig: BoardRig, devfn: number, lo: bigint): void {
  rig.write('q', CONTEXT + devfn * 16, lo);
  rig.write('q', CONTEXT + devfn * 16 + 8, 2);
}
function scalable(rig: BoardRig, devfn: number, entry: bigint, third = 0n): void {
  rig.write('q', CONTEXT + devfn * 32, BigInt(DIRECTORY) | 1n);
  rig.write('q', DIRECTORY, BigInt(PASIDS) | 1n);
  rig.write('q', PASIDS, entry);
  rig.write('q', PASIDS + 16, third);
}

const MODES: readonly Mode[] = [
  {
    name: 'legacy pass-through',
    unit: '',
    scalable: false,
    lands: IOVA,
    build: (rig, devfn) => legacy(rig, devfn, 1n | (2n << 2n)),
  },
  {
    name: 'legacy four-level',
    unit: '',
    scalable: false,
    lands: TARGET + 0x567,
    build: (rig, devfn) => {
      tables(rig, 3n, 3n);
      legacy(rig, devfn, BigInt(L4) | 1n);
    },
  },
  {
    name: 'scalable pass-through',
    unit: ',scalable-mode=on',
    scalable: true,
    lands: IOVA,
    build: (rig, devfn) => scalable(rig, devfn, 1n | (4n << 6n)),
  },
  {
    name: 'scalable second-level',
    unit: ',scalable-mode=on',
    scalable: true,
    lands: TARGET + 0x567,
    build: (rig, devfn) => {
      tables(rig, 3n, 3n);
      scalable(rig, devfn, BigInt(L4) | 1n | (2n << 6n) | (2n << 2n));
    },
  },
  {
    name: 'scalable first-level',
    unit: ',scalable-mode=on,flts=on',
    scalable: true,
    lands: TARGET + 0x567,
    build: (rig, devfn) => {
      tables(rig, 0x27n, 0x67n);
      scalable(rig, devfn, 1n | (1n << 6n), BigInt(L4));
    },
  },
];

/** A board with the test device behind the unit, programmed as QEMU's helper does it. */
function ready(mode: Mode): { rig: BoardRig; devfn: number } {
  const rig = new BoardRig(
    `-machine q35 -smp 1 -m 512 -net none -device intel-iommu${mode.unit} -device iommu-testdev`,
  );
  const devfn = rig.scan().get('1b36:0005')!;
  rig.configWrite(devfn, 0x10, 'l', TESTDEV_BAR);
  rig.configWrite(devfn, 0x04, 'w', 6);
  rig.write('q', ROOT, BigInt(CONTEXT) | 1n);
  mode.build(rig, devfn);
  rig.write('q', UNIT + 0x20, BigInt(ROOT) | (mode.scalable ? 0x400n : 0n));
  rig.write('l', UNIT + 0x18, 0x4000_0000);
  expect(rig.read('l', UNIT + 0x1c) & 0x4000_0000n).toBe(0x4000_0000n);
  rig.write('q', UNIT + 0x90, QUEUE);
  rig.write('q', UNIT + 0x88, 0);
  rig.write('l', UNIT + 0x18, 0x4400_0000);
  expect(rig.read('l', UNIT + 0x1c) & 0x0400_0000n).toBe(0x0400_0000n);
  rig.write('l', UNIT + 0x38, 0);
  rig.write('l', UNIT + 0x40, 0xfee0_0000);
  rig.write('l', UNIT + 0x18, 0xc400_0000);
  expect(rig.read('l', UNIT + 0x1c) & 0x8000_0000n).toBe(0x8000_0000n);
  return { rig, devfn };
}

/** Arms and triggers the device; its result register. */
function trigger(rig: BoardRig, iova: number, physical: number, bytes = 4): number {
  for (const [at, value] of [
    [0x04, iova],
    [0x08, 0],
    [0x1c, physical],
    [0x20, 0],
    [0x0c, bytes],
    [0x18, 0],
    [0x14, 1],
  ] as const)
    rig.write('l', TESTDEV_BAR + at, value);
  expect(rig.read('l', TESTDEV_BAR + 0x10)).toBe(0xffff_fffen);
  rig.read('l', TESTDEV_BAR);
  return Number(rig.read('l', TESTDEV_BAR + 0x10));
}

describe.each(MODES)('iommu-testdev through $name', (mode) => {
  test('a write lands where the tables lead, and nowhere else', () => {
    const { rig } = ready(mode);
    expect(trigger(rig, IOVA, mode.lands)).toBe(0);
    expect(rig.say(`read ${mode.lands} 4`)).toBe('0x78563412');
    expect(rig.read('l', UNIT + 0x34)).toBe(0n);
  });
  test('a look at another address finds something else', () => {
    const { rig } = ready(mode);
    expect(trigger(rig, IOVA, mode.lands + 64)).toBe(0xdead_0004);
  });
});

describe('iommu-testdev itself', () => {
  test('a trigger that was not armed, or has no length, moves nothing', () => {
    const { rig } = ready(MODES[0]!);
    rig.read('l', TESTDEV_BAR);
    expect(rig.read('l', TESTDEV_BAR + 0x10)).toBe(0xdead_0005n);
    expect(trigger(rig, IOVA, IOVA, 0)).toBe(0xdead_0001);
  });
  test('space and secure bit must agree', () => {
    const { rig } = ready(MODES[0]!);
    rig.write('l', TESTDEV_BAR + 0x0c, 4);
    rig.write('l', TESTDEV_BAR + 0x18, 0b1011);
    rig.write('l', TESTDEV_BAR + 0x14, 1);
    rig.read('l', TESTDEV_BAR);
    expect(rig.read('l', TESTDEV_BAR + 0x10)).toBe(0xdead_0006n);
  });
  test('a refused write is told apart, and the unit records who asked for what', () => {
    const { rig, devfn } = ready(MODES[1]!);
    expect(trigger(rig, 0x7000_0000, TARGET)).toBe(0xdead_0002);
    expect(rig.read('q', UNIT + 0x220)).toBe(0x7000_0000n);
    expect(rig.read('q', UNIT + 0x228)).toBe(0x8000_0005_0000_0000n | BigInt(devfn));
    expect(rig.read('l', UNIT + 0x34)).toBe(2n);
  });
  test('a translation that was used stays in the IOTLB until it is invalidated by the queue', () => {
    const { rig } = ready(MODES[1]!);
    expect(trigger(rig, IOVA, TARGET + 0x567)).toBe(0);
    const leaf = L4 + 0x3000 + (Math.floor(IOVA / 4096) % 512) * 8;
    rig.write('q', leaf, BigInt(TARGET + 0x1000) | 3n);
    expect(trigger(rig, IOVA, TARGET + 0x567)).toBe(0);
    // Page-selective for domain 0, then a wait that writes its status.
    rig.write('q', QUEUE, 0x32);
    rig.write('q', QUEUE + 8, Math.floor(IOVA / 4096) * 4096);
    rig.write('q', QUEUE + 16, 0x5aa5_0000_0025n);
    rig.write('q', QUEUE + 24, QUEUE + 0x1000);
    rig.write('q', UNIT + 0x88, 0x20);
    expect(rig.read('q', UNIT + 0x80)).toBe(0x20n);
    expect(rig.read('l', QUEUE + 0x1000)).toBe(0x5aa5n);
    expect(trigger(rig, IOVA, TARGET + 0x1567)).toBe(0);
  });
});
