/** Chipsets, firmware and units of odd kinds: what drivers/passthrough/vtd of 4.18.3 looks for and says. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { FLUSHF, PDEV_TYPE } from '../../src/iommu/driver/types.js';
import { mePhantomOf } from '../../src/iommu/driver/vtd/quirks.js';
import { SCOPE_TYPE } from '../../src/iommu/format/dmar.js';
import { DEFAULT_CAP, QEMU_CAP, QEMU_ECAP } from '../../src/iommu/hw/vtd/caps.js';
import { runAlone } from '../../src/sim/co.js';
import type { TestServices } from '../helpers/services.js';
import { at, drhd, scope, UNIT_BASE, VtdHost, type VtdHostOptions } from '../helpers/vtd_host.js';

const { ENDPOINT, IOAPIC } = SCOPE_TYPE;
const bytes = (...words: readonly (readonly [at: number, value: number])[]): Record<number, number> =>
  Object.fromEntries(
    words.flatMap(([offset, value]) => [0, 8, 16, 24].map((by, i) => [offset + i, (value >>> by) & 0xff])),
  );
/** A host whose function 00:00.0 has this id, and what else `more` adds. */
const chipset = (id: number, more: (s: TestServices) => void = () => {}, o: VtdHostOptions = {}): VtdHost =>
  new VtdHost({
    ...o,
    prepare: (s) => {
      s.addFunction(at(0, 0), id);
      more(s);
    },
  });

describe('chipsets', () => {
  const later = [0x0087, 0x0089, 0x0082, 0x0085, 0x008f, 0x0090, 0x0091, 0x4238, 0x422b, 0x422c];
  const cantiga = [0x4232, 0x4235, 0x4236, 0x4237, 0x423a, 0x423b, 0x423c, 0x423d];
  test.each([
    ['Cantiga', 0x2a40_8086, 3, cantiga, later],
    ['Ironlake', 0x0040_8086, 22, later, cantiga],
    ['Ironlake', 0x0044_8086, 22, later, cantiga],
    ['Ironlake', 0x0062_8086, 22, later, cantiga],
    ['Ironlake', 0x006a_8086, 22, later, cantiga],
    ['Cougar Point', 0x0100_8086, 22, later, cantiga],
    ['Cougar Point', 0x0104_8086, 22, later, cantiga],
  ] as const)(
    'FT-C30 on %s (%i) the management engine sends for WLAN devices as 00:%i.7',
    (_n, id, slot, own, other) => {
      const phantom = (device: number, engine = slot as number, vendor = 0x8086): number => {
        const h = chipset(id, (s) => {
          s.addFunction(at(0, engine));
          s.addFunction(at(2, 0), device * 0x1_0000 + vendor);
        });
        runAlone(h.driver.setup());
        return mePhantomOf(h.driver.vtd, 2, 0);
      };
      for (const device of own) expect(phantom(device)).toBe(slot * 8 + 7);
      for (const device of [...other, 0x4239]) expect(phantom(device)).toBe(0);
      expect(phantom(own[0]!, slot, 0x1022)).toBe(0);
      // No management engine.
      expect(phantom(own[0]!, slot + 1)).toBe(0);
    },
  );
  test.each([0x2a41_8086, 0x0041_8086, 0x0101_8086])('FT-C30 no other chipset does: %i', (id) => {
    const h = chipset(id, (s) => {
      for (const dev of [at(0, 3), at(0, 22)]) s.addFunction(dev);
      s.addFunction(at(2, 0), 0x4238_8086);
    });
    runAlone(h.driver.setup());
    expect(mePhantomOf(h.driver.vtd, 2, 0)).toBe(0);
  });

  test('Cantiga forgets to say that its write buffer has to be flushed', () => {
    // GCMD.WBF, bit 27: once for each entry that was absent before.
    const flushes = (id: number): number => {
      const h = chipset(id, () => {}, { cap: [QEMU_CAP[0] & ~0x80, QEMU_CAP[1]] });
      h.endpoint(at(2, 0));
      h.s.record();
      h.boot();
      return h
        .registerWrites()
        .filter((w) => w.startsWith('18=') && (Number(`0x${w.slice(3)}`) & 0x800_0000) !== 0).length;
    };
    expect(flushes(0x2a40_8086)).toBeGreaterThan(0);
    expect(flushes(0x2a44_8086)).toBe(0);
  });

  test.each([
    [0x3403_8086, 0x21, '5500/5520 chipset errata #47 and #53'],
    [0x3406_8086, 0x13, '5500/5520 chipset errata #47 and #53'],
    [0x3405_8086, 0x21, 'X58 chipset errata #62 and #69'],
    [0x3405_8086, 0x22, 'X58 chipset erratum #69'],
    [0x3403_8086, 0x22, undefined],
    [0x3406_8086, 0x22, undefined],
    [0x3404_8086, 0x13, undefined],
  ])('interrupt remapping of chipset %i, stepping %i: %s', (id, rev, what) => {
    for (const bus of [0, 255]) {
      const h = (intremap: 'full' | 'off') =>
        new VtdHost({ opts: { intremap }, prepare: (s) => s.addFunction(at(bus, 0), id, { 8: rev }) });
      const on = h('full');
      expect(runAlone(on.driver.setup())).toBe(what === undefined ? 0 : E.NODEV);
      const lines = on.s.console.filter((l) => l.includes('Disabling'));
      expect(lines).toEqual(what === undefined ? [] : [`[VT-D]Disabling IOMMU due to Intel ${what}`]);
      expect(runAlone(h('off').driver.setup())).toBe(0);
    }
  });

  describe('platform errors that a guest could cause', () => {
    /** What is printed of function 00:01.0 with these bytes, and the function's config space. */
    const masked = (device: number, set: Record<number, number> = {}) => {
      const h = new VtdHost();
      h.s.addFunction(at(0, 1), device * 0x1_0000 + 0x8086, set);
      h.s.addPdev(at(0, 1), PDEV_TYPE.PCIE_BRIDGE);
      h.boot();
      const lines = h.s.console.filter((l) => /signaling|DMIBAR|AER/.test(l));
      return { h, lines, read: (offset: number) => h.s.confRead(at(0, 1), offset, 4) };
    };
    const who = 'on 0000:00:01.0';
    const aer = bytes([0x100, 0x0001_0001]);
    test.each([0x342e, 0x3728, 0x3c28])('VT-d error signaling of %i', (device) => {
      const { lines, read } = masked(device, bytes([0x1ac, 0x1234_5678]));
      expect([lines, read(0x1ac)]).toEqual([[`Masked VT-d error signaling ${who}`], 0x9234_5678]);
    });
    test.each([0x3400, 0x3411, 0x3420, 0x3421, 0x3700, 0x370f, 0x3720, 0x3724, 0x3c00, 0x3c0b])(
      'UR signaling of %i',
      (device) => {
        const { lines, read } = masked(device, aer);
        expect(lines).toEqual([`Masked UR signaling ${who}`]);
        expect([read(0x108), read(0x114), read(0x20c)]).toEqual([0x10_0000, 0x2000, 0x10]);
      },
    );
    test.each([
      0x33ff, 0x3412, 0x341f, 0x3422, 0x36ff, 0x3710, 0x371f, 0x3725, 0x3bff, 0x3c0c, 0x0041, 0x191e,
    ])('%i is none of them', (device) => {
      const { lines, read } = masked(device, aer);
      expect([lines, read(0x108), read(0x1ac)]).toEqual([[], 0, 0]);
    });
    test('what is masked already is said to be, unless one of the two is not', () => {
      const both = { ...aer, ...bytes([0x108, 0x10_0001], [0x114, 0x2000], [0x20c, 0x8000_0000]) };
      const found = masked(0x3400, both);
      expect(found.lines).toEqual([`Found masked UR signaling ${who}`]);
      expect(found.read(0x20c)).toBe(0x8000_0010);
      for (const [uncor, cor] of [
        [0x8010_0000, 0x8000_0000],
        [0x8000_0000, 0x8000_2000],
      ] as const) {
        const { lines, read } = masked(0x3400, { ...aer, ...bytes([0x108, uncor], [0x114, cor]) });
        expect(lines).toEqual([`Masked UR signaling ${who}`]);
        expect([read(0x108), read(0x114)]).toEqual([0x8010_0000, 0x8000_2000]);
      }
    });
    test('without AER a capability of the vendor of id 4 and revision 1 stands in, four bytes further on', () => {
      const vendor = (header: number) =>
        masked(
          0x3400,
          bytes([0x100, 0x1401_000b], [0x104, 0x0101_0003], [0x140, 0x0001_000b], [0x144, header]),
        );
      const stand = vendor(0x0241_0004 | 0);
      expect(stand.lines).toEqual([`Masked UR signaling ${who}`]);
      expect([stand.read(0x140 + 12), stand.read(0x140 + 24)]).toEqual([0x10_0000, 0x2000]);
      for (const header of [0x0241_0005, 0x0242_0004, 0x0240_0004])
        expect(vendor(header).lines).toEqual(['0000:00:01.0 without AER capability?']);
      expect(masked(0x3400).lines).toEqual(['0000:00:01.0 without AER capability?']);
    });
    test('UR signaling by DMIBAR, when that lies in reserved memory', () => {
      const dmi = (lo: number, hi = 0, device = 0x0044) => masked(device, bytes([0x68, lo], [0x6c, hi]));
      // Memory from 7ffd8000 to 80000000 is reserved.
      expect(dmi(0x7fff_0001).lines).toEqual([`Masked UR signaling ${who}`]);
      expect(dmi(0x7ffd_8001).lines).toEqual([`Masked UR signaling ${who}`]);
      expect(dmi(0x7fff_0001, 0x80).lines).toEqual([`Masked UR signaling ${who}`]);
      expect(dmi(0x7fff_0000).lines).toEqual([`Bogus DMIBAR 0x7fff0000 ${who}`]);
      expect(dmi(1).lines).toEqual([`Bogus DMIBAR 0x1 ${who}`]);
      expect(dmi(0x8000_0001).lines).toEqual([`Bogus DMIBAR 0x80000001 ${who}`]);
      expect(dmi(0x7ffd_7001).lines).toEqual([`Bogus DMIBAR 0x7ffd7001 ${who}`]);
      expect(dmi(0x7fff_0001, 1).lines).toEqual([`Bogus DMIBAR 0x17fff0001 ${who}`]);
      expect(dmi(0x7fff_0001, 0, 0x191f).lines).toEqual([`Masked UR signaling ${who}`]);
    });
    test('bit 20 at 1c8 of that page is set, and others stay', () => {
      const h = new VtdHost();
      const page = new Map<number, number>([[0x1c8, 0x8000_0001]]);
      h.s.mmio.add(0x7fff_0000, 4096, {
        read32: (offset) => page.get(offset) ?? 0,
        write32: (offset, value) => void page.set(offset, value >>> 0),
        write64: () => {},
      });
      h.s.addFunction(at(0, 1), 0x0044_8086, bytes([0x68, 0x7fff_0001]));
      h.s.addPdev(at(0, 1), PDEV_TYPE.PCIE_BRIDGE);
      h.boot();
      expect([...page]).toEqual([[0x1c8, 0x8010_0001]]);
    });
  });

  describe('units that firmware did not prepare', () => {
    const graphics = (ggc: number, o: VtdHostOptions = {}, id = 0x0044_8086) =>
      chipset(id, (s) => s.addFunction(at(0, 2), 0x1234_8086, { 11: 3, ...bytes([0x52, ggc]) }), {
        ...o,
        structures: [drhd([scope(ENDPOINT, 0, [2, 0])], { all: false })],
      });
    test('the unit of Ironlake graphics needs bit 11 of GGC', () => {
      const off = graphics(0xf7ff).boot();
      expect(off.s.console.at(-1)).toBe(
        '[VT-D] firmware did not enable IGD for VT properly; disabling IGD VT-d engine',
      );
      const on = (h: VtdHost): boolean => h.boot().units[0]!.read32(0x1c) >>> 31 === 1;
      expect(off.units[0]!.read32(0x1c) >>> 31).toBe(0);
      expect([on(graphics(0x800)), on(graphics(0, {}, 0x0100_8086))]).toEqual([true, true]);
    });
    test('with `iommu=force` Xen stops instead', () => {
      expect(() => graphics(0, { opts: { force: true } }).boot()).toThrow(
        'firmware did not enable IGD for VT properly; crash Xen for security purpose',
      );
      const sound = new VtdHost({
        opts: { force: true },
        structures: [drhd([scope(ENDPOINT, 0, [0x1b, 0])], { all: false })],
        prepare: (s) => {
          s.addFunction(at(0, 0x1b), 0x3a3e_8086, { 11: 4 });
          s.addFunction(at(0, 0x14), 0x342e_8086);
        },
      });
      expect(() => sound.boot()).toThrow(
        'firmware did not enable TLB for sound device; crash Xen for security purpose',
      );
    });
  });
});

describe('units', () => {
  /** `cap` with SAGAW, bits 12:8. */
  const widths = (sagaw: number, o: VtdHostOptions = {}) =>
    new VtdHost({ ...o, cap: [(DEFAULT_CAP[0] & ~0x1f00) | (sagaw << 8), DEFAULT_CAP[1]] });
  test('three or four levels, and more are said not to be used, once', () => {
    const levels = (h: VtdHost): number => h.driver.vtd.drhds[0]!.iommu!.nrPtLevels;
    expect([2, 4, 6].map((s) => levels(widths(s)))).toEqual([3, 4, 4]);
    const five = widths(0xe);
    expect(five.s.console).toEqual(['[VT-D] Unhandled bits in SAGAW 0xe']);
    expect(levels(five)).toBe(4);
    const passing = widths(0xe, {
      opts: { hwdomPassthrough: true },
      units: [{ base: UNIT_BASE }, { base: 0xfed9_1000 }],
      structures: [drhd([], { base: 0xfed9_1000, seg: 1 }), drhd([])],
    });
    expect(passing.s.console).toEqual(['[VT-D] Unhandled bits in SAGAW 0xe, disabling passthrough']);
    expect(passing.s.opts.hwdomPassthrough).toBe(false);
  });
  test('a unit that snoops not makes all tables be written back', () => {
    expect(new VtdHost({ ecap: [QEMU_ECAP[0] & ~1, QEMU_ECAP[1]] }).s.opts.nonCoherent).toBe(true);
    expect(new VtdHost({ ecap: [QEMU_ECAP[0] | 1, QEMU_ECAP[1]] }).s.opts.nonCoherent).toBe(false);
  });
  test('what one unit lacks is used by none: passthrough, interrupt remapping, snooping', () => {
    const set = (clear: number, opts: VtdHostOptions['opts']) => {
      const h = new VtdHost({ ecap: [QEMU_ECAP[0] & ~clear, QEMU_ECAP[1]], opts: { ...opts } });
      expect(runAlone(h.driver.setup())).toBe(0);
      return h.s.opts;
    };
    expect(set(1 << 6, { hwdomPassthrough: true }).hwdomPassthrough).toBe(false);
    expect(set(0, { hwdomPassthrough: true }).hwdomPassthrough).toBe((QEMU_ECAP[0] & (1 << 6)) !== 0);
    expect(set(1 << 3, {}).intremap).toBe('off');
    expect(set(1 << 7, {}).snoop).toBe(false);
  });
});

describe('what firmware left on', () => {
  test('protected memory regions are switched off, and the wait is for their status', () => {
    const h = new VtdHost();
    const unit = h.units[0]!;
    const [PMEN, EPM] = [0x64, 0x8000_0000];
    const [read32, write32] = [unit.read32.bind(unit), unit.write32.bind(unit)];
    let pmen = (EPM | 0x7ffe | 1) >>> 0;
    const written: number[] = [];
    let looks = 0;
    unit.read32 = (offset) => {
      if (offset !== PMEN) return read32(offset);
      if (written.length > 0 && ++looks === 3) pmen &= ~1;
      return pmen >>> 0;
    };
    unit.write32 = (offset, value) => {
      if (offset !== PMEN) return write32(offset, value);
      written.push(value);
      pmen = (value & ~1) | (pmen & 1);
    };
    h.boot();
    expect([written, looks, pmen]).toEqual([[0x7fff], 3, 0x7ffe]);
  });
  test('nothing is written where they are off', () => {
    const h = new VtdHost();
    h.s.record();
    h.boot();
    expect(h.registerWrites().filter((w) => w.startsWith('64='))).toEqual([]);
  });
  test('interrupts in compatibility format that pass are warned of', () => {
    const h = new VtdHost();
    h.units[0]!.write32(0x18, 0x80_0000);
    expect(h.units[0]!.read32(0x1c)).toBe(0x80_0000);
    expect(runAlone(h.driver.setup())).toBe(0);
    expect(h.s.console).toContain(
      '[VT-D] Compatibility Format Interrupts permitted on IOMMU #0: Device pass-through will be insecure',
    );
  });
  test('extended interrupt mode is switched off with remapping', () => {
    const [IRTA, EIME] = [0xb8, 0x800];
    for (const [eim, left] of [
      [1 << 4, 0],
      [0, EIME],
    ] as const) {
      const h = new VtdHost({
        opts: { intremap: 'off' },
        ecap: [(QEMU_ECAP[0] & ~0x10) | eim, QEMU_ECAP[1]],
      });
      const unit = h.units[0]!;
      unit.regs[IRTA >>> 2] = EIME;
      unit.write32(0x18, 0x0200_0000);
      expect(unit.read32(0x1c)).toBe(0x0200_0000);
      expect(runAlone(h.driver.setup())).toBe(0);
      expect([unit.read32(0x1c) & 0x0200_0000, unit.read32(IRTA) & EIME]).toEqual([0, left]);
    }
  });
  test('a queue is switched off where Xen shall not use it', () => {
    const h = new VtdHost({ opts: { qinval: false } });
    h.units[0]!.write32(0x18, 0x0400_0000);
    expect(h.units[0]!.read32(0x1c)).toBe(0x0400_0000);
    expect(runAlone(h.driver.setup())).toBe(0);
    expect(h.units[0]!.read32(0x1c) & 0x0400_0000).toBe(0);
  });
  test('of sixteen fault records one is cleared', () => {
    const h = new VtdHost({ cap: [QEMU_CAP[0], (QEMU_CAP[1] & ~0xff00) | (1 << 8)] });
    const unit = h.units[0]!;
    const F = 0x8000_0000 | 0;
    const base = unit.fro >>> 2;
    unit.regs[base + 3] = F;
    unit.regs[base + 7] = F;
    unit.regs[0x34 >>> 2] = 2;
    runAlone(h.driver.setup());
    expect([unit.regs[base + 3]! & F, unit.regs[base + 7]! & F]).toEqual([0, F]);
  });
});

describe('scopes', () => {
  test('with `iommu=verbose` an HPET and a kind that nobody knows are told of; the latter is no graphics unit', () => {
    const h = new VtdHost({
      opts: { verbose: true, igfx: false },
      structures: [
        drhd([scope(4, 0xff, [0, 0]), scope(7, 0, [3, 0]), scope(ENDPOINT, 0, [2, 0])], { all: false }),
      ],
      prepare: (s) => s.addFunction(at(0, 2), 0x1234_8086, { 11: 3 }),
    }).boot();
    expect(h.s.console).toContain('[VT-D] MSI HPET: 0000:ff:00.0');
    expect(h.s.console).toContain('[VT-D]Unknown scope type 0x7');
    expect(h.units[0]!.read32(0x1c) >>> 31).toBe(1);
    expect(h.driver.vtd.drhds[0]!.scope.devices).toEqual([0xff00, 0x10]);
  });
  test.each([
    ['graphics alone', [scope(ENDPOINT, 0, [2, 0])], 0],
    ['graphics elsewhere', [scope(ENDPOINT, 0, [3, 0])], 0],
    ['graphics and an I/O APIC', [scope(ENDPOINT, 0, [2, 0]), scope(IOAPIC, 0xff, [0, 0])], 1],
    ['another device', [scope(ENDPOINT, 0, [4, 0])], 1],
    ['graphics and another device', [scope(ENDPOINT, 0, [2, 0]), scope(ENDPOINT, 0, [4, 0])], 1],
    ['a device that does not answer', [scope(ENDPOINT, 0, [9, 0])], 0],
  ])('FT-C31 %s: iommu=no-igfx leaves the unit on: %i', (_what, scopes, on) => {
    const h = new VtdHost({
      opts: { igfx: false },
      structures: [drhd(scopes, { all: false })],
      prepare: (s) => {
        for (const dev of [2, 3]) s.addFunction(at(0, dev), 0x1234_8086, { 11: 3 });
        s.addFunction(at(0, 4), 0x1234_8086, { 11: 2 });
      },
    }).boot();
    expect(h.units[0]!.read32(0x1c) >>> 31).toBe(on);
    expect(h.driver.vtd.igdDrhdAddress).toBe(scopes[0]!.path[0]!.dev === 2 ? UNIT_BASE : 0);
    if (on === 0) expect(h.s.console.at(-1)).toContain('passed iommu=no-igfx option');
  });
});

test('a queue has two slots for each CPU and one more, in whole pages, and all of them are used', () => {
  const h = new VtdHost({ cpu: { count: 200 } });
  const pdev = h.endpoint(at(2, 0));
  h.boot();
  const d = h.domain(1);
  h.assign(d, pdev);
  const flush = (): unknown => runAlone(h.driver.iotlbFlush(d, 0, 0, FLUSHF.all | FLUSHF.modified));
  for (let n = 0; n < 300; n++) expect(flush()).toBe(0);
  h.s.record();
  for (let n = 0; n < 300; n++) expect(flush()).toBe(0);
  // 401 slots of 16 bytes: two pages, which IQA says. Id 1, drains, granularity 2, type 2.
  expect(h.units[0]!.read32(0x90) & 7).toBe(1);
  expect(h.descriptors()).toEqual(Array(300).fill('100e2 0'));
  expect(h.units[0]!.read32(0x34)).toBe(0);
});

test('FT-C32 key V shows a posted entry with the address of its descriptor, in 64 bits', () => {
  const h = new VtdHost({ structures: [drhd([scope(IOAPIC, 0xff, [0, 0])], { all: true })], ioapicIds: [0] });
  h.boot();
  const [lo, hi] = [0xb8, 0xbc].map((offset) => h.units[0]!.read32(offset));
  const entry = hi! * 2 ** 32 + Math.floor(lo! / 4096) * 4096 + 3 * 16;
  // P, AVAIL 5, URG, IM, vector 38h; the low half of the address from bit 6 on; SVT 1, SID 02:00.0; the high half.
  const words = [0x0038_c501, 0x2bcd_ef40, 0x0004_0200, 0x0000_0012];
  for (const [i, word] of words.entries()) h.s.ram.write32(entry + i * 4, word | 0);
  h.s.console.length = 0;
  runAlone(h.driver.dumpInfo());
  expect(h.s.console).toContain('P:  0003:  1   0  0200 38    5   0       122bcdef40    1 1');
  // pda_l is a bit-field of 26 bits: as an int its top bit is the sign. gcc -O2 prints the same for struct iremap_entry.
  h.s.ram.write32(entry + 4, 0x8765_4380 | 0);
  runAlone(h.driver.dumpInfo());
  expect(h.s.console).toContain('P:  0003:  1   0  0200 38    5   0 ffffffff87654380    1 1');
});

test('memory that firmware protected until translation is on is let go after that', () => {
  const h = new VtdHost({ cap: [QEMU_CAP[0] | 0x60, QEMU_CAP[1]] });
  const unit = h.units[0]!;
  const PMEN = 0x64;
  unit.write32(0x68, 0x10_0000);
  unit.write32(0x6c, 0x10_0000);
  unit.write32(PMEN, 0x8000_0000);
  expect(unit.translate(0x10, 0x100, true)).toBeLessThan(0);
  const writes: string[] = [];
  h.s.events.attach((e) => {
    if (e.kind === 'reg' && e.write && (e.offset === PMEN || e.offset === 0x18))
      writes.push(e.offset === PMEN ? `PMEN ${e.lo}` : `TE ${e.lo >>> 31}`);
  });
  h.boot();
  expect(unit.read32(PMEN)).toBe(0);
  expect(writes.slice(-3)).toEqual(['TE 0', 'TE 1', 'PMEN 1']);
});
