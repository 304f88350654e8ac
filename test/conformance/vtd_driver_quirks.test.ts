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
  const LATER = [0x0087, 0x0089, 0x0082, 0x0085, 0x008f, 0x0090, 0x0091, 0x4238, 0x422b, 0x422c];
  const CANTIGA = [0x4232, 0x4235, 0x4236, 0x4237, 0x423a, 0x423b, 0x423c, 0x423d];

  test.each(LATER)('FT-C30 device %i with an Ironlake or Cougar Point chipset: 0:16.7', (id) => {
    for (const chipset of [0x0040, 0x0044, 0x0062, 0x006a, 0x0100, 0x0104]) {
      expect(phantomOf(22, intel(chipset), intel(id))).toBe(1);
    }
    expect(phantomOf(3, intel(0x2a40), intel(id))).toBe(-1);
  });
  test.each(CANTIGA)('FT-C30 device %i with a Cantiga chipset: 0:03.7', (id) => {
    expect(phantomOf(3, intel(0x2a40), intel(id))).toBe(1);
    expect(phantomOf(22, intel(0x0044), intel(id))).toBe(-1);
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
  test('FT-C30 not without an engine, not for another device, vendor or chipset', () => {
    expect(phantomOf(22, intel(0x0044), intel(0x4238), false)).toBe(-1);
    expect(phantomOf(22, intel(0x0044), intel(0x4239))).toBe(-1);
    expect(phantomOf(22, intel(0x0044), 0x4238_10ec)).toBe(-1);
    expect(phantomOf(22, intel(0x0048), intel(0x4238))).toBe(-1);
  });
});

describe('the unit of the graphics', () => {
  /** Chipset, class of 00:02.0, its GGC, options, further scopes; whether the unit translates, and what Xen says. */
  const igd = (o: {
    chipset?: number;
    base?: number;
    ggc?: number;
    igfx?: boolean;
    force?: boolean;
    more?: [number, number];
  }) => {
    const scopes = [
      scope(ENDPOINT, 0, [2, 0]),
      ...(o.more === undefined ? [] : [scope(ENDPOINT, 0, o.more)]),
    ];
    const h = new VtdHost({
      opts: { igfx: o.igfx ?? true, force: o.force ?? false },
      structures: [drhd(scopes, { all: false })],
      prepare: (s) => {
        s.addFunction(at(0, 0), o.chipset ?? 0x0044_8086);
        s.addFunction(at(0, 2), 0x0046_8086, { 11: o.base ?? 3, 83: (o.ggc ?? 0) >> 8 });
        s.addFunction(at(0, 3), 0x1234_8086);
      },
    }).boot();
    return [
      h.units[0]!.read32(0x1c) >>> 31 === 1,
      h.s.console.filter((l) => /IGD|igfx/.test(l)).map((l) => l.replace('[VT-D] ', '')),
    ];
  };
  const firmware = 'firmware did not enable IGD for VT properly';
  const off = 'disabling IGD VT-d engine';

  test('FT-C31 stays off when Ironlake firmware did not prepare it, which iommu=force does not survive', () => {
    for (const id of [0x0040, 0x0044, 0x0062, 0x006a]) {
      expect(igd({ chipset: id * 2 ** 16 + 0x8086 })).toEqual([false, [`${firmware}; ${off}`]]);
    }
    expect(igd({ ggc: 0x0800 })).toEqual([true, []]);
    expect(igd({ ggc: 0xf7ff })).toEqual([false, [`${firmware}; ${off}`]]);
    expect(igd({ chipset: 0x0100_8086 })).toEqual([true, []]);
    expect(() => igd({ force: true })).toThrow(`${firmware}; crash Xen for security purpose`);
  });
  test('FT-C31 iommu=no-igfx is about units of displays alone', () => {
    const said = [false, [`passed iommu=no-igfx option; ${off}`]];
    expect(igd({ igfx: false, force: true })).toEqual(said);
    expect(igd({ igfx: false, more: [3, 0] })).toEqual([true, []]);
    expect(igd({ igfx: false, base: 4 })).toEqual([true, []]);
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
