/** Hardware that Xen knows to be broken. @xen drivers/passthrough/vtd/quirks.c */
import { describe, expect, test } from 'vitest';
import { PDEV_TYPE } from '../../src/iommu/driver/types.js';
import { SCOPE_TYPE } from '../../src/iommu/format/dmar.js';
import { runAlone } from '../../src/sim/co.js';
import { at, drhd, scope, VtdHost } from '../helpers/vtd_host.js';

const { ENDPOINT } = SCOPE_TYPE;

describe('the management engine sends for a WLAN device under a function of its own', () => {
  /** Id of the context entry of function 7 of `slot` once d1 has the device, -1 for none. */
  const phantomOf = (slot: number, chipset: number, wlan: number, engine = true): number => {
    const h = new VtdHost({
      prepare: (s) => {
        s.addFunction(at(0, 0), chipset);
        if (engine) s.addFunction(at(0, slot), 0x1234_8086);
        s.addFunction(at(2, 0), wlan);
      },
    });
    const pdev = h.endpoint(at(2, 0));
    if (engine) h.s.addPdev(at(0, slot), PDEV_TYPE.PCIE_ENDPOINT);
    h.boot();
    expect(h.assign(h.domain(1), pdev)).toBe(0);
    const entry = h.entry(0, slot * 8 + 7);
    return entry.p === 1 ? entry.did : -1;
  };
  const intel = (id: number): number => id * 2 ** 16 + 0x8086;
  test('FT-C30 its entry follows the device, on both kinds of chipset', () => {
    expect(phantomOf(22, intel(0x0044), intel(0x4238))).toBe(1);
    expect(phantomOf(3, intel(0x2a40), intel(0x4232))).toBe(1);
  });
  test('FT-C30 a device that had no entry takes none from the engine, which another device has by now', () => {
    const h = new VtdHost({
      prepare: (s) => {
        s.addFunction(at(0, 0), intel(0x0044));
        s.addFunction(at(0, 22), 0x1234_8086);
        for (const bus of [2, 3]) s.addFunction(at(bus, 0), intel(0x4238));
      },
    });
    const [first, second] = [2, 3].map((bus) => h.endpoint(at(bus, 0)));
    h.s.addPdev(at(0, 22), PDEV_TYPE.PCIE_ENDPOINT);
    h.boot();
    h.assign(h.s.domIo, second!);
    h.assign(h.domain(1), first!);
    expect(h.entry(0, 0xb7)).toMatchObject({ p: 1, did: 1 });
    expect(h.locked(() => runAlone(h.driver.removeDevice(0, second!)))).toBe(0);
    expect(h.entry(0, 0xb7)).toMatchObject({ p: 1, did: 1 });
  });
  test('FT-C30 not without an engine, nor for another device', () => {
    expect(phantomOf(22, intel(0x0044), intel(0x4238), false)).toBe(-1);
    expect(phantomOf(22, intel(0x0044), intel(0x4239))).toBe(-1);
  });
});

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
