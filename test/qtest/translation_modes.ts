/** A board whose unit translates in one of its modes, with QEMU's test device behind it. */
import { expect } from 'vitest';
import { BoardRig, UNIT } from './board_rig.js';

const BASE = 0x1000_0000;
export const IOVA = 0x1020_0567;
export const TARGET = BASE + 0x10_0000;
export const [ROOT, CONTEXT, L4, QUEUE, DIRECTORY, PASIDS] = [
  0, 0x1000, 0x1_0000, 0x2_0000, 0x3_0000, 0x3_1000,
].map((o) => BASE + o) as [number, number, number, number, number, number];
export const TESTDEV_BAR = 0xe000_0000;

/** The tables of one mode: which, and the properties of the unit that has them. */
export interface Mode {
  readonly name: string;
  readonly unit: string;
  readonly scalable: boolean;
  readonly build: (rig: BoardRig, devfn: number) => void;
  readonly lands: number;
  /** Bits of a leaf beside the frame, where there are tables. */
  readonly leaf?: bigint;
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

export const MODES: readonly Mode[] = [
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
    leaf: 3n,
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
    leaf: 3n,
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
    leaf: 0x67n,
    build: (rig, devfn) => {
      tables(rig, 0x27n, 0x67n);
      scalable(rig, devfn, 1n | (1n << 6n), BigInt(L4));
    },
  },
];

/** A board with the test device behind the unit, programmed as QEMU's helper does it. */
export function ready(mode: Mode): { rig: BoardRig; devfn: number } {
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
export function trigger(rig: BoardRig, iova: number, physical: number, bytes = 4): number {
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
