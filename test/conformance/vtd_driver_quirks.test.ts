/** Hardware that Xen knows to be broken. @xen drivers/passthrough/vtd/quirks.c */
import { describe, expect, test } from 'vitest';
import { SCOPE_TYPE } from '../../src/iommu/format/dmar.js';
import { at, drhd, scope, VtdHost } from '../helpers/vtd_host.js';

const { ENDPOINT } = SCOPE_TYPE;

describe('the unit of a sound device to which firmware gave no TLB entries', () => {
  /** The device, the chipset's function at 00:14.0, its VTISOCHCTRL, and what the unit does then. */
  const azalia = (
    control: number,
    sound = 0x3a3e_8086,
    chipset = 0x342e_8086,
    more: [number, number][] = [],
  ) => {
    const h = new VtdHost({
      structures: [
        drhd([scope(ENDPOINT, 0, [0x1b, 0]), ...more.map((p) => scope(ENDPOINT, 0, p))], { all: false }),
      ],
      prepare: (s) => {
        s.addFunction(at(0, 0x1b), sound, { 11: 4 });
        for (const [dev, fn] of more) s.addFunction(at(0, dev, fn));
        const set = [0, 8, 16, 24].map((by, i) => [0x188 + i, (control >>> by) & 0xff]);
        s.addFunction(at(0, 0x14), chipset, Object.fromEntries(set));
      },
    }).boot();
    const on = h.units[0]!.read32(0x1c) >>> 31 === 1;
    return [on, h.s.console.filter((l) => /ISOC|chipset/.test(l)).map((l) => l.replace('[VT-D]', ''))];
  };
  const off = 'firmware did not enable TLB for sound device; disabling ISOCH VT-d engine';
  const cases: { what: string; seen: () => unknown; on: boolean; says: string[] }[] = [
    { what: 'none', seen: () => azalia(0), on: false, says: [` ${off}`] },
    { what: 'none, other bits set', seen: () => azalia(0xffff_ffe2), on: false, says: [` ${off}`] },
    { what: 'sixteen', seen: () => azalia(16), on: true, says: [] },
    {
      what: 'four',
      seen: () => azalia(4),
      on: true,
      says: [' Recommended TLB entries for ISOCH unit is 16; firmware set 4'],
    },
    {
      what: 'the other unit',
      seen: () => azalia(1),
      on: true,
      says: [' Inconsistency between chipset registers and ACPI tables'],
    },
    {
      what: 'no answer',
      seen: () => azalia(0xffff_ffff),
      on: true,
      says: [' Cannot access VTISOCHCTRL at this time'],
    },
    { what: 'another sound device', seen: () => azalia(0, 0x3a3f_8086), on: true, says: [] },
    { what: 'another vendor', seen: () => azalia(0, 0x3a3e_1022), on: true, says: [] },
    { what: 'another chipset', seen: () => azalia(0, 0x3a3e_8086, 0x3400_8086), on: true, says: [] },
    { what: 'two devices', seen: () => azalia(0, 0x3a3e_8086, 0x342e_8086, [[3, 0]]), on: true, says: [] },
  ];
  test.each(cases)('$what: on is $on', ({ seen, on, says }) => {
    expect(seen()).toEqual([on, says]);
  });
});
