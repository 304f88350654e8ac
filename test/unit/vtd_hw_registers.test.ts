/** The register page of a VT-d unit. Offsets, reset values and masks are the manual's (11.4), stated here again. */
import { expect, test } from 'vitest';
import { capabilityProblem } from '../../src/iommu/format/vtd_caps.js';
import { DEFAULT_CAP, DEFAULT_ECAP, QEMU_CAP, QEMU_CAP_CM, QEMU_ECAP } from '../../src/iommu/hw/vtd/caps.js';
import { CFI, caps, IRE, QIE, REG, Rig, SIRTP, SRTP, TE } from '../support/vtd_rig.js';

/** Offset, value after reset, bits that keep what is written. */
const registers: readonly (readonly [string, number, number, number])[] = [
  ['VER', 0x00, 0x10, 0],
  ['CAP low', 0x08, DEFAULT_CAP[0] >>> 0, 0],
  ['CAP high', 0x0c, DEFAULT_CAP[1] >>> 0, 0],
  ['ECAP low', 0x10, DEFAULT_ECAP[0] >>> 0, 0],
  ['ECAP high', 0x14, DEFAULT_ECAP[1] >>> 0, 0],
  ['GSTS', 0x1c, 0, 0],
  ['RTADDR low', 0x20, 0, 0xffff_f000],
  ['RTADDR high', 0x24, 0, 0xffff_ffff],
  ['FSTS', 0x34, 0, 0],
  ['FECTL', 0x38, 0x8000_0000, 0x8000_0000],
  ['FEDATA', 0x3c, 0, 0xffff_ffff],
  ['FEADDR', 0x40, 0, 0xffff_fffc],
  ['FEUADDR', 0x44, 0, 0xffff_ffff],
  ['PMEN', 0x64, 0, 0],
  ['IQH', 0x80, 0, 0],
  ['IQT', 0x88, 0, 0x7fff0],
  ['IQA low', 0x90, 0, 0xffff_f007],
  ['IQA high', 0x94, 0, 0xffff_ffff],
  ['ICS', 0x9c, 0, 0],
  ['IECTL', 0xa0, 0x8000_0000, 0x8000_0000],
  ['IEDATA', 0xa4, 0, 0xffff_ffff],
  ['IEADDR', 0xa8, 0, 0xffff_fffc],
  ['IEUADDR', 0xac, 0, 0xffff_ffff],
  ['IRTA low', 0xb8, 0, 0xffff_f80f],
  ['IRTA high', 0xbc, 0, 0xffff_ffff],
  ['IVA low', 0x500, 0, 0],
  ['IVA high', 0x504, 0, 0],
  ['FRCD word 0', 0x400, 0, 0],
  ['FRCD word 3', 0x40c, 0, 0],
  ['a reserved offset', 0x30, 0, 0],
  ['the last word of the page', 0xffc, 0, 0],
];
test.each(registers)(
  '%s at %i has its reset value and keeps exactly its writable bits',
  (_n, at, reset, rw) => {
    const { unit } = new Rig();
    expect(unit.read32(at)).toBe(reset);
    unit.write32(at, 0xffff_ffff);
    expect(unit.read32(at)).toBe((reset | rw) >>> 0);
    unit.write32(at, 0);
    expect(unit.read32(at)).toBe((reset & ~rw) >>> 0);
    if (at === 0x1c) return; // the other half is GCMD, and does things
    const again = new Rig().unit;
    again.write64(at & ~7, 0xffff_ffff, 0xffff_ffff);
    expect(again.read32(at)).toBe((reset | rw) >>> 0);
    again.reset();
    expect(again.read32(at)).toBe(reset);
  },
);

test('bytes and half words of a register can be read', () => {
  const { unit } = new Rig();
  unit.write32(REG.FEDATA, 0x1234_5678);
  expect(unit.read32(REG.FEDATA + 1) & 0xff).toBe(0x56);
  expect(unit.read32(REG.FEDATA + 2) & 0xffff).toBe(0x1234);
});

test('GCMD reads as zero, and GSTS shows what was switched on or latched', () => {
  const { unit } = new Rig();
  let expected = 0;
  for (const bit of [SRTP, QIE, SIRTP, IRE, CFI, TE]) {
    expected += bit;
    // Software ORs GSTS into GCMD, one-shot bits included, as Xen does.
    unit.write32(REG.GCMD, expected);
    expect(unit.read32(REG.GCMD)).toBe(0);
    expect(unit.read32(REG.GSTS)).toBe(expected);
  }
  unit.write32(REG.GCMD, 0);
  expect(unit.read32(REG.GSTS)).toBe(SRTP + SIRTP);
});

test('a write buffer flush is done at once', () => {
  const { unit } = new Rig(caps([[0, 4, 4, 1]]));
  unit.write32(REG.GCMD, 0x0800_0000);
  expect(unit.read32(REG.GSTS)).toBe(0);
});

test('the boot of the recorded board ends with GSTS c7000000', () => {
  const { unit } = new Rig({ cap: QEMU_CAP, ecap: QEMU_ECAP, haw: 48 });
  expect([unit.read32(0x0c), unit.read32(0x08)]).toEqual([0xd2008c, 0x222f0606]);
  expect([unit.read32(0x14), unit.read32(0x10)]).toEqual([0, 0xf00f4a]);
  const commands = [0x400_0000, 0x500_0000, 0x700_0000, 0x4700_0000, 0xc700_0000];
  for (const c of commands) unit.write32(REG.GCMD, c);
  expect(unit.read32(REG.GSTS)).toBe(0xc700_0000);
  // Fault record at 0x220, IOTLB registers at 0xf0.
  unit.write64(0x20, 0, 0x7_0000);
  unit.write32(REG.GCMD, 0xc700_0000);
  unit.translate(8, 1, true);
  expect(unit.read32(0x22c)).toBe(0x8000_0008);
});

test('caching mode of the recorded board is CAP bit 7', () => {
  expect(QEMU_CAP_CM[0] - QEMU_CAP[0]).toBe(0x80);
});

test('capabilities whose registers overlap or leave the page are found before a unit is made', () => {
  expect(capabilityProblem(DEFAULT_CAP, DEFAULT_ECAP)).toBeUndefined();
  expect(capabilityProblem(QEMU_CAP, QEMU_ECAP)).toBeUndefined();
  const problem = (word: number, hi: number, lo: number, value: number): string | undefined => {
    const c = caps([[word, hi, lo, value]]);
    return capabilityProblem(c.cap, c.ecap);
  };
  expect(problem(0, 31, 24, 0x05)).toMatch(/fixed/);
  expect(problem(2, 17, 8, 0x0b)).toMatch(/fixed/);
  expect(problem(1, 15, 8, 255)).toMatch(/beyond/);
  expect(problem(2, 17, 8, 0x3ff)).toMatch(/beyond/);
  expect(problem(2, 17, 8, 0x40)).toMatch(/overlap/);
});

test('a unit whose firmware claims an impossible address width still works', () => {
  for (const haw of [0, 1, 256]) expect(new Rig({ haw }).on().unit.translate(8, 1, false)).toBe(-1);
});
