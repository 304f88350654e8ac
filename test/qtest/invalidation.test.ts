/**
 * What the IOTLB keeps and what each descriptor makes it forget (VT-d 6.5.2.3), seen through DMAs alone: the clauses
 * of QEMU's iotlb-inv tests.
 */
import { describe, expect, test } from 'vitest';
import { type BoardRig, UNIT } from './board_rig.js';
import { IOVA, L4, MODES, type Mode, QUEUE, ready, TARGET, trigger } from './translation_modes.js';

const MISMATCH = 0xdead_0004;
const STATUS = 0x1004_0000;
const OFFSET = IOVA % 4096;
/** Other pages that the leaf of IOVA, or of the page behind it, may lead to. */
const [OTHER, SECOND] = [TARGET + 0x10_0000, TARGET + 0x20_0000];

/** Points the leaf of `page` pages behind IOVA to `frame`, without a word to the unit. */
function point(rig: BoardRig, mode: Mode, page: number, frame: number): void {
  const index = (Math.floor(IOVA / 4096) + page) % 512;
  rig.write('q', L4 + 0x3000 + index * 8, BigInt(frame) | mode.leaf!);
}
/** Queues one descriptor and a wait with status write, and sees the status written. */
function invalidate(rig: BoardRig, lo: bigint, hi = 0n): void {
  rig.write('q', QUEUE, lo);
  rig.write('q', QUEUE + 8, hi);
  rig.write('q', QUEUE + 16, 0x5aa5_5aa5_0000_0025n);
  rig.write('q', QUEUE + 24, BigInt(STATUS));
  rig.write('q', UNIT + 0x88, 32);
  expect(rig.read('l', STATUS)).toBe(0x5aa5_5aa5n);
}

const DOMAIN = 0n;
const FORMS = [
  ['global', (1n << 4n) | 2n, 0n],
  ['domain', (2n << 4n) | (DOMAIN << 16n) | 2n, 0n],
  ['page', (3n << 4n) | (DOMAIN << 16n) | 2n, BigInt(IOVA - OFFSET)],
] as const;
const TRANSLATING = MODES.filter((mode) => mode.leaf !== undefined);

describe.each(TRANSLATING)('IOTLB of $name', (mode) => {
  test.each(FORMS)('a changed leaf is met only after a %s invalidation', (_name, lo, hi) => {
    const { rig } = ready(mode);
    expect(trigger(rig, IOVA, TARGET + OFFSET)).toBe(0);
    point(rig, mode, 0, OTHER);
    expect(trigger(rig, IOVA, OTHER + OFFSET)).toBe(MISMATCH);
    invalidate(rig, lo, hi);
    expect(trigger(rig, IOVA, OTHER + OFFSET)).toBe(0);
  });

  test('an invalidation of another domain changes nothing', () => {
    const { rig } = ready(mode);
    trigger(rig, IOVA, TARGET + OFFSET);
    point(rig, mode, 0, OTHER);
    rig.write('l', TARGET + OFFSET, 0);
    invalidate(rig, (2n << 4n) | (7n << 16n) | 2n);
    invalidate(rig, (3n << 4n) | (7n << 16n) | 2n, BigInt(IOVA - OFFSET));
    expect(trigger(rig, IOVA, TARGET + OFFSET)).toBe(0);
  });

  const firstLevel = mode.leaf !== 3n;
  test(`a page-selective one ${firstLevel ? 'takes all first-level pages of the domain' : 'leaves the next page'}`, () => {
    const { rig } = ready(mode);
    point(rig, mode, 1, SECOND);
    expect(trigger(rig, IOVA, TARGET + OFFSET)).toBe(0);
    expect(trigger(rig, IOVA + 4096, SECOND + OFFSET)).toBe(0);
    point(rig, mode, 0, OTHER);
    point(rig, mode, 1, OTHER);
    // What the device wrote there before would be taken for what it writes now.
    rig.write('l', SECOND + OFFSET, 0);
    invalidate(rig, FORMS[2][1], FORMS[2][2]);
    expect(trigger(rig, IOVA, OTHER + OFFSET)).toBe(0);
    expect(trigger(rig, IOVA + 4096, SECOND + OFFSET)).toBe(firstLevel ? MISMATCH : 0);
  });
});
