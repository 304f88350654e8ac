/** What Xen makes of an IVRS: units, requester ids, unity maps, levels, interrupt tables. */
import { describe, expect, test } from 'vitest';
import { HostCrash } from '../../src/base/assert.js';
import { E } from '../../src/base/errno.js';
import { amdFlaws, amdSeams } from '../../src/iommu/driver/amd/seams.js';
import {
  IVMD_TYPE,
  type IvhdEntry,
  type Ivmd,
  type IvrsBlock,
  makeIvrs,
} from '../../src/iommu/format/ivrs.js';
import { runAlone } from '../../src/sim/co.js';
import { AmdHost } from '../helpers/amd_services.js';
import { aliasRange, DEFAULT_ENTRIES, ivhd, ivmd, range, sbIoapic, UNIT_BASE } from '../helpers/amd_table.js';

const withBlocks = (...blocks: IvrsBlock[]): AmdHost =>
  new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), ...blocks] });
/** The console of a probe and, where that succeeds, of set-up; and the result. */
const bring = (host: AmdHost): { rc: number; lines: string[] } => {
  let rc = host.probe();
  if (rc === 0) rc = runAlone(host.driver.setup());
  return { rc, lines: host.log.filter((l) => !l.startsWith('- ') && !/Extended Features/.test(l)) };
};
const unityOf = (host: AmdHost, bdf: number): string[] =>
  host.driver.state.mappings
    .get(0)!
    .unityMaps(bdf)
    .map(
      (m) => `${m.addr.toString(16)}+${m.length.toString(16)} ${m.read ? 'r' : '-'}${m.write ? 'w' : '-'}`,
    );

describe('the table', () => {
  test('FT-D08 a wrong checksum ends it', () => {
    const table = makeIvrs([ivhd(DEFAULT_ENTRIES)], 1);
    table[20]! += 1;
    const host = new AmdHost({ table });
    expect(host.probe()).toBe(E.NODEV);
    expect(host.log).toEqual(['AMD-Vi: Error: IVRS: invalid checksum 0x1']);
  });

  test('FT-D08 the highest type that Xen knows is used: 11h with EFRSup, never 40h', () => {
    const types = [0x10, 0x11, 0x40].map((type) => ivhd(DEFAULT_ENTRIES, { type }));
    const plain = types.map((b) => {
      const { efr: _1, efr2: _2, ...rest } = b;
      return b.type === 0x10 ? rest : b;
    });
    const used = (info: number): number => {
      const host = new AmdHost({ blocks: plain, info });
      expect(host.probe()).toBe(0);
      expect(host.driver.state.units.length).toBe(1);
      return host.driver.state.ivhdType;
    };
    expect([used(1), used(0)]).toEqual([0x11, 0x10]);
    const none = new AmdHost({ blocks: [types[2]!] });
    expect([none.probe(), none.log]).toEqual([E.NODEV, ['Cannot find supported IVHD type.']]);
  });

  test('FT-D08 ids: single ones, ranges, aliases, function 0 of what is missing rounded up', () => {
    const host = new AmdHost({
      entries: [
        { type: 2, id: 8, data: 0xd7 },
        ...range(0x100, 0x10f),
        ...aliasRange(0x200, 0x207, 0x100),
        sbIoapic,
      ],
    });
    host.boot([]);
    const ivrs = host.driver.state.mappings.get(0)!;
    expect(host.driver.state.ivrsBdfEntries).toBe(0x208);
    expect([ivrs.requestor[0x105], ivrs.requestor[0x203]]).toEqual([0x105, 0x100]);
    expect([ivrs.valid(8), ivrs.valid(9), ivrs.valid(0x10f), ivrs.valid(0x203)]).toEqual([
      true,
      false,
      true,
      false,
    ]);
    // Interrupt pass bits of the entry: INIT, ExtInt, NMI, LINT0, LINT1; system management 1.
    expect(host.dte(8)[2]).toMatch(/^0xc7/);
    expect(host.dte(8)[1]).toBe('0x0000010000000000');
    // Ids that nobody named abort; named ones pass until they have an owner.
    expect([host.dma(0x10f, 5), host.dma(0x110, 5)]).toEqual([5, -1]);
  });

  test.each<[string, readonly IvhdEntry[], string]>([
    [
      'FT-D08 a range without end',
      [range(8, 16)[0]!, { type: 2, id: 16, data: 0 }],
      'IVHD: invalid range: End_Type 0x2',
    ],
    ['a range that ends where it began', range(8, 8), 'IVHD: invalid range: Last Dev_Id 0x8'],
    [
      'an alias beyond all ids',
      aliasRange(8, 9, 0x8000).map((e) => ({ ...e, type: e.type === 67 ? 66 : 2 })),
      'IVHD: invalid Alias Dev_Id 0x8000',
    ],
    ['FT-D08 an unknown I/O APIC', [sbIoapic], 'IVHD Error: Invalid IO-APIC 0'],
    ['an unknown variety', [{ ...sbIoapic, byte7: 9 }], 'Unrecognized IVHD special variety 0x9'],
    [
      'FT-D08 two I/O APICs of one id',
      [sbIoapic, { ...sbIoapic, usedId: 0xa8 }],
      'IVHD: conflicting IO-APIC 0 entries',
    ],
  ])('%s ends set-up with its line', (what, entries, message) => {
    const ioapicIds = what.includes('unknown I/O APIC') ? [5] : [0];
    const { rc, lines } = bring(new AmdHost({ entries, ioapicIds }));
    expect(rc).toBe(E.NODEV);
    expect(lines.at(-2)).toMatch(new RegExp(`(^|Error: )${message}$`));
    expect(lines.at(-1)).toBe('AMD-Vi: Error initialization');
  });

  test('an unknown device entry, or a block of no length, does not get past Xen', () => {
    const { rc, lines } = bring(new AmdHost({ entries: [{ type: 5, id: 0, data: 0 }] }));
    expect([rc, lines[0]]).toEqual([E.NODEV, 'AMD-Vi: Warning: IVHD: unknown device type 0x5']);
    const table = makeIvrs([ivhd([])], 1);
    table[50] = 0;
    table[9] = (table[9]! + 40) & 0xff;
    expect(() => new AmdHost({ table }).probe()).toThrow(HostCrash);
  });

  test('a block shorter than the header of the longer form is refused, whatever its type', () => {
    // 24 bytes of header: two entries of 4 are 8 too few, four of them just enough.
    const few = [2, 3].map((id) => ({ type: 2, id: id * 8, data: 0 }));
    const { rc, lines } = bring(new AmdHost({ blocks: [ivhd(few, { type: 0x10 })] }));
    expect([rc, lines.filter((l) => l.includes('IVHD block'))]).toEqual([
      E.NODEV,
      ['AMD-Vi: Error: invalid IVHD block length'],
    ]);
    const four = [2, 3, 4, 5].map((id) => ({ type: 2, id: id * 8, data: 0 }));
    expect(bring(new AmdHost({ blocks: [ivhd(four, { type: 0x10 })], opts: { intremap: 'off' } })).rc).toBe(
      0,
    );
  });

  test('with `iommu=debug` each block is told of, and the one that is used was told of before', () => {
    const blocks = [ivhd(DEFAULT_ENTRIES), ivmd({}), ivmd({ deviceId: 0x300, start: 0x7010_0000 })];
    const { lines } = bring(new AmdHost({ blocks, opts: { debug: true } }));
    const length = 40 + DEFAULT_ENTRIES.reduce((n, e) => n + (e.type < 64 ? 4 : 8), 0);
    const told = lines.filter((l) => l.includes('IVRS Block: ')).map((l) => l.replace(/^.*IVRS Block: /, ''));
    const own = `type 0x11 flags 0xb0 len 0x${length.toString(16)} id 0x2`;
    expect(told[0]).toBe(`Found ${own}`);
    expect(told.slice(1)).toEqual([
      own,
      'type 0x21 flags 0x7 len 0x20 id 0x200',
      'type 0x21 flags 0x7 len 0x20 id 0x300',
    ]);
  });

  test('the south bridge I/O APIC must be there, unless interrupts are not remapped', () => {
    const entries = range(0x100, 0x1ff);
    const { rc, lines } = bring(new AmdHost({ entries }));
    expect([rc, lines[0]]).toEqual([E.NODEV, 'No southbridge IO-APIC found in IVRS table']);
    expect(bring(new AmdHost({ entries, opts: { intremap: 'off' } })).rc).toBe(0);
    expect(bring(new AmdHost({ entries: DEFAULT_ENTRIES, ioapicIds: [0, 3] })).lines[0]).toBe(
      'IVHD Error: no information for IO-APIC 0x3',
    );
  });

  test('a unit that config space does not confirm is none', () => {
    const host = new AmdHost();
    host.configOf(host.unitBdf).set([0x0f, 0x64, 0x0f, 0x19], 0x40);
    expect(host.probe()).toBe(E.NODEV);
  });

  test('a failed set-up leaves nothing behind, and no allocation that fails leaks', () => {
    for (let n = 1; n < 12; n++) {
      const host = new AmdHost();
      expect(host.probe()).toBe(0);
      host.addPdev({ bdf: 0x200 });
      host.faults.failNth(n);
      let rc = -1;
      try {
        rc = runAlone(host.driver.setup());
      } catch (error) {
        expect(String(error)).toMatch(/No memory for 0000:.*'s IRT/);
        continue;
      }
      if (host.faults.hit.length === 0) {
        expect(rc).toBe(0);
        return;
      }
      expect([rc, host.allocated.size, host.opts.intremap]).toEqual([E.NODEV, 0, 'off']);
    }
    throw new Error('set-up has more allocations than this test knows');
  });
});

describe('memory for devices', () => {
  test("FT-D09 an exclusion range is the unit's; one that cannot join it becomes a unity map", () => {
    const host = withBlocks(
      ivmd({ flags: 8, deviceId: 0x100, length: 0x3000 }),
      ivmd({ flags: 8, deviceId: 0x200, start: 0x7000_3000 }),
      ivmd({ flags: 8, deviceId: 0x300, start: 0x7080_0000 }),
    );
    host.boot([{ bdf: 0x100 }, { bdf: 0x200 }, { bdf: 0x300 }]);
    expect(host.driver.state.units[0]!.exclusion).toEqual({
      enable: true,
      allowAll: false,
      base: 0x7000_0000,
      limit: 0x7000_3000,
    });
    expect([unityOf(host, 0x100), unityOf(host, 0x200), unityOf(host, 0x300)]).toEqual([
      [],
      [],
      ['70800000+1000 rw'],
    ]);
    const d = host.newDomain(7);
    for (const bdf of [0x100, 0x300]) host.assign(d, host.pdev(bdf));
    // The excluded device passes where the range is, whoever owns it; the other reaches its own range only.
    expect([host.dma(0x100, 0x7_0001), host.dma(0x100, 0x7_0800)]).toEqual([0x7_0001, 0x7_0800]);
    expect([host.dma(0x300, 0x7_0001), host.dma(0x300, 0x7_0800)]).toEqual([-1, 0x7_0800]);
    expect([host.unit.read32(0x20), host.unit.read32(0x28)]).toEqual([0x7000_0001, 0x7000_3000]);
  });

  test.each([
    ['a release', amdFlaws, ['-w', 'r-']],
    ['the repaired driver', {}, ['r-', '-w']],
  ])('FT-D10 read and write flags of an IVMD: %s', (_what, seams, [forRead, forWrite]) => {
    const host = new AmdHost({
      blocks: [ivhd(DEFAULT_ENTRIES), ivmd({ flags: 3 }), ivmd({ flags: 5, deviceId: 0x300 })],
      seams,
    });
    host.boot([]);
    expect(unityOf(host, 0x200)).toEqual([`70000000+1000 ${forRead}`]);
    expect(unityOf(host, 0x300)).toEqual([`70000000+1000 ${forWrite}`]);
  });

  test('ranges for all, for a range of devices and for a unit reach them all', () => {
    const all = withBlocks(ivmd({ type: IVMD_TYPE.ALL })).boot([]);
    expect([unityOf(all, 0), unityOf(all, 0x9ff)]).toEqual([['70000000+1000 rw'], ['70000000+1000 rw']]);
    const some = withBlocks(ivmd({ type: IVMD_TYPE.RANGE, deviceId: 0x908, auxData: 0x90f })).boot([]);
    expect([unityOf(some, 0x907), unityOf(some, 0x908), unityOf(some, 0x900)]).toEqual([
      [],
      ['70000000+1000 rw'],
      ['70000000+1000 rw'],
    ]);
    const unit = withBlocks(ivmd({ type: IVMD_TYPE.IOMMU, deviceId: 2, auxData: 0x40 })).boot([]);
    expect(unityOf(unit, 0x300)).toEqual(['70000000+1000 rw']);
    const told: string[] = [];
    some.driver.ops.getReservedDeviceMemory((start, frames, sbdf) => {
      if (frames > 0) told.push(`${sbdf.toString(16)} ${start.toString(16)}+${frames}`);
      return sbdf === 0x909 ? 1 : 0;
    });
    expect(told).toContain('909 70000+1');
  });

  test.each<[string, Partial<Ivmd>, string]>([
    [
      'overlapping another',
      { start: 0x7000_0000, length: 0x2000 },
      'Error: IVMD: overlap [70000000,70002000) vs [70000000,70001000)',
    ],
    ['in RAM', { deviceId: 0x300, start: 0x10_0000 }, "Error: IVMD: page at 100000 can't be converted"],
    ['without a purpose', { deviceId: 0x300, flags: 0 }, 'Error: IVMD: invalid flag field'],
    ['for no device', { deviceId: 0xff00 }, 'Error: IVMD: invalid Dev_Id 0xff00'],
    ["for nobody's device", { deviceId: 0x700 }, 'Error: IVMD: no IOMMU for Dev_Id 0x700'],
  ])('a range %s ends set-up', (_what, change, message) => {
    const { rc, lines } = bring(withBlocks(ivmd({}), ivmd(change)));
    expect(rc).toBe(E.NODEV);
    expect(lines.at(-2)).toBe(`AMD-Vi: ${message}`);
  });

  test('a range outside all memory is taken, one that no unit can address is ignored, both with a warning', () => {
    const { rc, lines } = bring(
      withBlocks(ivmd({ start: 0x9000_0000 }), ivmd({ deviceId: 0x300, start: 2 ** 52 })),
    );
    expect(rc).toBe(0);
    expect(lines.slice(0, 2)).toEqual([
      'AMD-Vi: Warning: IVMD: [90000000,90001000) is not (entirely) in reserved memory',
      'AMD-Vi: Warning: IVMD: [10000000000000,10000000001000) is not IOMMU addressable',
    ]);
  });

  test("newer releases ignore a range for nobody's device", () => {
    const host = new AmdHost({
      blocks: [ivhd(DEFAULT_ENTRIES), ivmd({ deviceId: 0x700 })],
      seams: { amdIgnoresIvmdWithoutIommu: () => true },
    });
    const { rc, lines } = bring(host);
    expect([rc, lines[0]]).toEqual([
      0,
      'AMD-Vi: Warning: IVMD: no IOMMU for device 0000:07:00.0 - ignoring constrain',
    ]);
  });
});

describe('levels and tables', () => {
  test('FT-D13 HVM domains have four levels, PV domains what memory and unity maps need', () => {
    const host = new AmdHost().boot();
    expect([host.newDomain(1, true).iommu.pagingMode, host.newDomain(2).iommu.pagingMode]).toEqual([4, 3]);
    const high = new AmdHost({
      blocks: [ivhd(DEFAULT_ENTRIES), ivmd({ start: 2 ** 49 })],
      e820: [
        { start: 0, end: 2 ** 40, type: 'usable' },
        { start: 2 ** 49, end: 2 ** 50, type: 'reserved' },
      ],
    }).boot([]);
    expect([high.newDomain(1, true).iommu.pagingMode, high.newDomain(2).iommu.pagingMode]).toEqual([5, 5]);
  });

  test('FT-D13 more than the hardware has: releases before 4.19 fall back to the minimum, later ones fail', () => {
    // HATS 0: four levels.
    const options = {
      features: [0x21d3, 0] as const,
      e820: [{ start: 0, end: 2 ** 49, type: 'usable' as const }],
      info: 0,
    };
    const old = new AmdHost({ ...options, blocks: [basic()] }).boot([]);
    expect(old.newDomain(2).iommu.pagingMode).toBe(1);
    const now = new AmdHost({ ...options, blocks: [basic()], seams: { amdReportsPagingMode: () => true } });
    expect(now.probe()).toBe(0);
    expect(runAlone(now.driver.setup())).toBe(0);
    expect(runAlone(now.driver.ops.init(now.dom0))).toBe(E.NOMEM);
  });

  test('the newest release sizes PV tables by the address width', () => {
    const host = new AmdHost({ seams: { amdDomainFrames: amdSeams.correct.amdDomainFrames } }).boot();
    expect(host.newDomain(2).iommu.pagingMode).toBe(4);
  });

  test('FT-D14 each device that sends messages has a table of its own, in pages for its messages', () => {
    const host = new AmdHost().boot([
      { bdf: 0x200, msi: 32 },
      { bdf: 0x208, msi: 2048 },
      { bdf: 0x300, msi: 0 },
    ]);
    const table = (bdf: number): number => Number(BigInt(host.dte(bdf)[2]!) & 0xf_ffff_ffff_ffc0n);
    const entries = (bdf: number): number => 2 ** Number((BigInt(host.dte(bdf)[2]!) >> 1n) & 15n);
    expect([entries(0x200), entries(0x208)]).toEqual([1024, 2048]);
    expect([table(0x200) === table(0x208), table(0x300), host.dte(0x300)[2]!.slice(0, 3)]).toEqual([
      false,
      0,
      '0x0',
    ]);
  });

  test('FT-D14 with one table for all, every entry has it, and Xen says what it thinks of that', () => {
    const host = new AmdHost({ opts: { amdPerdevIntremap: false } });
    const { lines } = bring(host);
    expect(lines.at(-1)).toBe('AMD-Vi: Using global interrupt remap table is not recommended (see XSA-36)!');
    expect(host.dte(0x200)[2]).toBe(host.dte(0x300)[2]);
    expect(host.lines(() => runAlone(host.driver.ops.dumpInfo()))).toEqual([
      '--- Dumping Shared IOMMU Interrupt Remapping Table ---',
    ]);
  });

  test('key V lists entries that are in use', () => {
    const host = new AmdHost().boot();
    const table = host.driver.state.mappings.get(0)!.intremap.get(0x200)!;
    host.ram.write32(table.mfn * 4096 + 3 * 4, 0x0030_0001);
    expect(host.lines(() => runAlone(host.driver.ops.dumpInfo()))).toEqual([
      '--- Dumping Per-dev IOMMU Interrupt Remapping Table ---',
      '  0000:02:00.0:',
      '    IRTE[003] 00300001',
    ]);
  });

  test('older releases clear the registers byte by byte, the newest writes the control register once', () => {
    for (const [newest, sizes] of [
      [true, [8]],
      [false, [1, 1, 1, 1, 1, 1, 1, 1]],
    ] as const) {
      const host = new AmdHost({ seams: { amdDisablesFirmwareIommu: () => newest } });
      const seen: number[] = [];
      const off = host.events.attach((e) => {
        if (e.kind === 'reg' && e.offset >= 0x18 && e.offset < 0x20 && e.lo === 0) seen.push(e.size);
      });
      bring(host);
      off();
      expect(seen).toEqual(sizes);
    }
  });

  test('a unit that firmware left on is stopped by the newest release, and zeroed by older ones', () => {
    for (const newest of [true, false]) {
      const host = new AmdHost({ seams: { amdDisablesFirmwareIommu: () => newest } });
      host.unit.write64(0x18, 1, 0);
      const { rc, lines } = bring(host);
      expect(rc).toBe(0);
      expect(lines.includes('AMD-Vi: IOMMU 0000:00:00.2 enabled by firmware (ctrl 0000000000000001)')).toBe(
        newest,
      );
    }
  });

  test('two units share the device table of their segment, and both are told of every change', () => {
    const second = ivhd(range(0x400, 0x4ff), { deviceId: 0x0502, base: UNIT_BASE + 0x4000 });
    const host = new AmdHost({ blocks: [ivhd(DEFAULT_ENTRIES), second] }).boot([
      { bdf: 0x200 },
      { bdf: 0x400 },
    ]);
    expect(host.units.map((u) => u.frame(0))).toEqual([host.unit.frame(0), host.unit.frame(0)]);
    const d = host.newDomain(7);
    host.map(d, 0x10, 0x5555);
    expect(host.commands(() => host.assign(d, host.pdev(0x400)))).toEqual([
      'devtab_inval 400',
      'pages_inval 0',
    ]);
    expect(host.units[1]!.translate(0x400, 0x10, true)).toBe(0x5555);
    expect(host.commands(() => host.unmap(d, 0x10))).toEqual(['pages_inval 7', 'pages_inval 7']);
    expect(host.units[1]!.translate(0x400, 0x10, true)).toBe(-1);
    // Pseudo ids of different units are from different maps, by one cursor.
    const pseudo = [0x200, 0x400].map((bdf) => host.pdev(bdf).arch.pseudoDomid);
    expect(pseudo).toEqual([0x8000, 0x8001]);
  });

  test('a unit without an MSI capability is none', () => {
    const host = new AmdHost();
    host.configOf(host.unitBdf)[host.msiPos] = 0;
    expect([host.probe(), host.log]).toEqual([E.NODEV, []]);
  });
});

function basic(): IvrsBlock {
  const { efr: _1, efr2: _2, ...rest } = ivhd(DEFAULT_ENTRIES, { type: 0x10 });
  return rest;
}
