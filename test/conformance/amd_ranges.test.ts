/** Memory that AMD devices must reach, functions that the IVRS forgot, and what a unit keeps of many domains. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { iommuAllocDomid, iommuFreeDomid, iommuInitDomid } from '../../src/iommu/driver/domid.js';
import { FLUSHF, IOMMUF } from '../../src/iommu/driver/types.js';
import { IVMD_TYPE, type IvhdEntry, type Ivmd, type IvrsBlock } from '../../src/iommu/format/ivrs.js';
import { runAlone } from '../../src/sim/co.js';
import { DOMID } from '../../src/sim/frames.js';
import { AmdHost, type AmdHostOptions } from '../helpers/amd_services.js';
import { DEFAULT_ENTRIES, ivhd, ivmd } from '../helpers/amd_table.js';

const withBlocks = (blocks: readonly IvrsBlock[], o: AmdHostOptions = {}): AmdHost =>
  new AmdHost({ ...o, blocks: [ivhd(DEFAULT_ENTRIES), ...blocks] });
const unityOf = (host: AmdHost, bdf: number): string[] =>
  host.driver.state.mappings
    .get(0)!
    .unityMaps(bdf)
    .map(
      (m) => `${m.addr.toString(16)}+${m.length.toString(16)} ${m.read ? 'r' : '-'}${m.write ? 'w' : '-'}`,
    );
const REPAIRED = { amdIvmdReadFlag: () => 2 };

describe('ranges', () => {
  test('of a range of devices reach its first and its last, and neither neighbour', () => {
    const host = withBlocks([ivmd({ type: IVMD_TYPE.RANGE, deviceId: 0x308, auxData: 0x311 })]).boot([]);
    expect([0x307, 0x308, 0x30f, 0x311, 0x312].map((id) => unityOf(host, id).length)).toEqual([
      0, 1, 1, 1, 0,
    ]);
  });
  test('that begin or end within a page take all of it', () => {
    const host = withBlocks([ivmd({ start: 0x7000_0800, length: 0x900 })]).boot([]);
    expect(unityOf(host, 0x200)).toEqual(['70000000+2000 rw']);
  });
  test('once more with the same rights are one; beside each other they are two, the newest first', () => {
    const again = withBlocks([ivmd({}), ivmd({})]).boot([]);
    expect(unityOf(again, 0x200)).toEqual(['70000000+1000 rw']);
    const beside = withBlocks([ivmd({}), ivmd({ start: 0x7000_1000 }), ivmd({ start: 0x7000_4000 })]).boot(
      [],
    );
    expect(unityOf(beside, 0x200)).toEqual(['70004000+1000 rw', '70001000+1000 rw', '70000000+1000 rw']);
    const below = withBlocks([ivmd({ start: 0x7000_1000 }), ivmd({})]).boot([]);
    expect(unityOf(below, 0x200)).toHaveLength(2);
  });
  test('of one device that all have too become one of all', () => {
    const told = (blocks: readonly Ivmd[]): string[] => {
      const found: string[] = [];
      withBlocks(blocks)
        .boot([])
        .driver.ops.getReservedDeviceMemory((start, frames, sbdf) => {
          if (frames > 0) found.push(`${sbdf.toString(16)}: ${start.toString(16)}`);
          return sbdf === 0x300 || sbdf === 0x200 ? 1 : 0;
        });
      return found;
    };
    expect(told([ivmd({}), ivmd({ type: IVMD_TYPE.ALL })])).toEqual(['200: 70000']);
    expect(told([ivmd({ deviceId: 0x300 }), ivmd({})])).toEqual(['200: 70000', '300: 70000']);
  });
  test.each([
    ['a release before XSA-378', false, E.NODEV],
    ['a release after it', true, E.NODEV],
  ])('that overlap with other rights, in %s', (_what, apart) => {
    const host = withBlocks(
      [
        ivmd({ start: 0x7000_2000, length: 0x2000, flags: 3 }),
        ivmd({ start: 0x7000_1000, length: 0x2000, flags: 5 }),
        ivmd({ start: 0x7000_8000, length: 0x1000, flags: 3 }),
      ],
      { seams: { ...REPAIRED, amdKeepsRangesApart: () => apart } },
    );
    host.probe();
    const rc = runAlone(host.driver.setup());
    if (apart) {
      expect(rc).toBe(E.NODEV);
      expect(host.log.at(-2)).toBe('AMD-Vi: Error: IVMD: overlap [70001000,70003000) vs [70002000,70004000)');
      return;
    }
    // One range for all of it, with the rights of any.
    expect([rc, unityOf(host, 0x200)]).toEqual([0, ['70001000+8000 rw']]);
  });
  test('of the command line are of one device each, readable and writable', () => {
    const host = withBlocks([]);
    Object.assign(host.services, { extraRanges: [{ start: 0x7_0010, frames: 3, sbdfs: [0x200, 0x308] }] });
    host.boot([]);
    expect([unityOf(host, 0x200), unityOf(host, 0x308), unityOf(host, 0x309)]).toEqual([
      ['70010000+3000 rw'],
      ['70010000+3000 rw'],
      [],
    ]);
    const bad = withBlocks([]);
    Object.assign(bad.services, { extraRanges: [{ start: 0x10, frames: 1, sbdfs: [0x200] }] });
    expect([bad.probe(), runAlone(bad.driver.setup())]).toEqual([0, E.NODEV]);
  });
  test('need reserved memory: pages of RAM are refused wherever they are in the range', () => {
    const E820 = [
      { start: 0, end: 0x7000_0000, type: 'usable' },
      { start: 0x7000_0000, end: 0x7000_2000, type: 'reserved' },
      { start: 0x7000_2800, end: 0x7000_4800, type: 'usable' },
      { start: 0x7000_6000, end: 0x7000_8000, type: 'ACPI data' },
      { start: 0x1_0000_0000, end: 0x1_4000_0000, type: 'usable' },
    ] as const;
    const page = (start: number, length: number): string | undefined => {
      const host = withBlocks([ivmd({ start, length })], { e820: E820 });
      host.probe();
      runAlone(host.driver.setup());
      return host.log.find((l) => l.includes("can't be converted"))?.replace(/.*page at (\w+) .*/, '$1');
    };
    expect(page(0x7000_0000, 0x2000)).toBeUndefined();
    expect(page(0x7000_5000, 0x3000)).toBeUndefined();
    expect(page(0x6fff_f000, 0x2000)).toBe('6ffff000');
    expect(page(0x7000_1000, 0x4000)).toBe('70002000');
    expect(page(0x7000_3000, 0x1000)).toBe('70003000');
    expect(page(0x1_3fff_f000, 0x3000)).toBe('13ffff000');
  });
});

describe('features', () => {
  test.each<[string, number, string[]]>([
    ['nothing', 0, ['- Host Address Translation Size: 0']],
    ['XT', 1, ['- x2APIC', '- Host Address Translation Size: 0']],
    ['NX', 2, ['- NX bit', '- Host Address Translation Size: 0']],
    ['IA', 0x20, ['- Invalidate All Command', '- Host Address Translation Size: 0']],
    ['GA', 0x40, ['- Guest APIC', '- Host Address Translation Size: 0']],
    ['HATS', 0x4000_0000, ['- Host Address Translation Size: 0x1']],
    [
      'GT with its sizes',
      0x1000_0504 | 0x10,
      [
        '- Host Address Translation Size: 0',
        '- Guest Address Translation Size: 0x1',
        '- Guest CR3 Root Table Level: 0x2',
        '- Maximum PASID: 0x5',
      ],
    ],
  ])('of a short header with EFRSup are those of its attributes: %s', (_what, attr, lines) => {
    const { efr: _1, efr2: _2, ...basic } = ivhd(DEFAULT_ENTRIES, { type: 0x10, attr });
    const host = new AmdHost({ blocks: [basic], opts: { intremap: 'off' } }).boot([]);
    const told = new AmdHost({ blocks: [basic], opts: { intremap: 'off' } });
    told.probe();
    runAlone(told.driver.setup());
    // What else has no level or size is not listed.
    const zero = ['SMI', 'Guest Virtual', 'Dual', 'Device Table', 'Memory Access', 'VM Table'];
    const listed = told.log.filter((l) => l.startsWith('- ') && !zero.some((z) => l.includes(z)));
    expect(listed.filter((l) => !/: 0$/.test(l) || l.includes('Host Address'))).toEqual(lines);
    expect(host.driver.state.maxPagingMode).toBe(4 + ((attr >>> 30) & 3));
  });
  test('the unit with the fewest levels sets the limit', () => {
    const levels = (...hats: number[]): number => {
      const blocks = hats.map((h, i) =>
        ivhd(DEFAULT_ENTRIES, { efr: [h << 10, 0], deviceId: 2 + i * 0x100, base: 0xfeb8_0000 + i * 0x4000 }),
      );
      const host = new AmdHost({ blocks, opts: { intremap: 'off' } });
      host.probe();
      runAlone(host.driver.setup());
      return host.driver.state.maxPagingMode;
    };
    expect([levels(0), levels(1), levels(2), levels(2, 1), levels(1, 2)]).toEqual([4, 5, 6, 5, 5]);
  });
});

describe('functions that the IVRS forgot', () => {
  const forgotten = (
    entry: IvhdEntry,
    blocks: readonly IvrsBlock[] = [],
    o: AmdHostOptions = {},
  ): AmdHost => {
    const host = new AmdHost({ ...o, blocks: [ivhd([...DEFAULT_ENTRIES, entry]), ...blocks] });
    if (o.opts?.ats === true) host.configOf(0xa03).set([0x0f, 0, 0, 0, 8, 0, 0, 0], 0x100);
    host.boot([{ bdf: 0xa00 }]);
    const pdev = host.addPdev({ bdf: 0xa03 });
    pdev.domain = host.dom0;
    host.dom0.pdevList.add(pdev);
    expect(host.add(pdev)).toBe(0);
    return host;
  };
  const words = (host: AmdHost): number[] =>
    host.dte(0xa03).flatMap((q) => [Number.parseInt(q.slice(10), 16), Number.parseInt(q.slice(2, 10), 16)]);
  test('have the data, ranges and interrupt table of function 0', () => {
    const host = forgotten({ type: 2, id: 0xa00, data: 0x30 }, [ivmd({ deviceId: 0xa00 })]);
    expect(words(host)[3]! & 0x300).toBe(0x300);
    expect(unityOf(host, 0xa03)).toEqual(['70000000+1000 rw']);
    const { intremap } = host.driver.state.mappings.get(0)!;
    expect(intremap.get(0xa03)).toBe(intremap.get(0xa00));
    expect(host.driver.ops.getDeviceGroupId(0, 0xa, 3)).toBe(0xa03);
  });
  test('may not use ATS where function 0 may not', () => {
    const ats = { opts: { ats: true, quarantine: 'none' } } as const;
    const on = (ext: number): boolean =>
      forgotten({ type: 70, id: 0xa00, data: 0, ext }, [], ats).configOf(0xa03)[0x107] === 0x80;
    expect([on(0x8000_0000), on(0)]).toEqual([false, true]);
  });
  test('go by the alias that function 0 has', () => {
    const alias: IvhdEntry = { type: 66, id: 0xa00, data: 0, byte4: 0, usedId: 0x300, byte7: 0 };
    const host = forgotten(alias);
    expect(host.driver.ops.getDeviceGroupId(0, 0xa, 3)).toBe(0x300);
  });
});

describe('quarantine', () => {
  test.each([
    ['basic', 'basic'],
    ['scratch-page', 'scratch-page'],
  ] as const)(
    '%s: a device with a range keeps it, and what it writes elsewhere lands nowhere else',
    (_what, mode) => {
      const host = withBlocks([ivmd({ length: 0x2000 }), ivmd({ deviceId: 0x300, start: 0x7010_0000 })], {
        opts: { quarantine: mode },
        seams: { amdQuarantineMapsReserved: () => true },
      }).boot([{ bdf: 0x200 }, { bdf: 0x300 }]);
      for (const bdf of [0x200, 0x300]) {
        expect(host.assign(host.domIo, host.pdev(bdf))).toBe(0);
        expect([host.domIo.iommu.identityMaps, host.domIo.iommu.rootMfn, host.domIo.iommu.pgtables]).toEqual([
          [],
          0,
          [],
        ]);
      }
      expect([0x7_0000, 0x7_0001].map((f) => host.dma(0x200, f))).toEqual([0x7_0000, 0x7_0001]);
      expect(host.dma(0x300, 0x7_0100)).toBe(0x7_0100);
      const { leafMfn, rootMfn } = host.pdev(0x200).arch;
      expect(rootMfn).not.toBe(0);
      const elsewhere = mode === 'basic' ? -1 : leafMfn;
      expect([0x6_ffff, 0x7_0002, 0x7_0100, 0, 0x3ff_ffff].map((f) => host.dma(0x200, f))).toEqual(
        Array(5).fill(elsewhere),
      );
      const tables = host.allocated.size;
      expect(host.remove(host.pdev(0x200))).toBe(0);
      expect(host.allocated.size).toBeLessThan(tables - 3);
      expect([host.pdev(0x200).arch.rootMfn, host.pdev(0x200).arch.leafMfn]).toEqual([0, 0]);
    },
  );
});

describe('tables that do not fit together', () => {
  const broken = () => {
    const host = new AmdHost({ opts: { verbose: true } }).boot();
    const d = host.newDomain(7, true);
    host.map(d, 0x1234, 0x5678);
    host.map(d, 0x4_0000, 0x9000);
    host.assign(d, host.pdev(0x200));
    // Level 4 has one entry, level 3 two: the second of them is said to lead to level 3.
    const table = (frame: number, index: number): number =>
      (host.ram.read32(frame * 4096 + index * 8 + 4) % 0x10_0000) * 0x10_0000 +
      (host.ram.read32(frame * 4096 + index * 8) >>> 12);
    const l3 = table(d.iommu.rootMfn, 0);
    const at = l3 * 4096 + 8;
    host.ram.write32(at, (host.ram.read32(at) & ~0xe00) | (3 << 9));
    return { host, d };
  };
  test('key o names the level it found and the one it expected, and goes on', () => {
    const { host, d } = broken();
    expect(host.lines(() => runAlone(host.driver.ops.dumpPageTables(d)))).toEqual([
      'AMD IOMMU d7 table has 4 levels',
      '   dfn: 00001234  mfn: 00005678  rw',
      'AMD IOMMU table error. next_level = 3, expected 2',
    ]);
  });
  test('after a fault the walk ends there', () => {
    const { host } = broken();
    host.dma(0x200, 0x4_0000);
    const lines = host.lines(() => runAlone(host.driver.ops.pollFaults()));
    expect(lines.at(-1)).toBe('  L3[001]: next: 3');
    expect(lines.at(-2)).toMatch(/^ {2}L3\[001\] = 6[0-9a-f]+ rw$/);
  });
  test('entries are told with their rights', () => {
    const { host, d } = broken();
    host.map(d, 0x1235, 0x5679, 0, IOMMUF.readable);
    host.map(d, 0x1236, 0xf_0000_0001, 0, IOMMUF.writable);
    expect(host.lines(() => runAlone(host.driver.ops.dumpPageTables(d))).slice(1, 4)).toEqual([
      '   dfn: 00001234  mfn: 00005678  rw',
      '   dfn: 00001235  mfn: 00005679  r-',
      '   dfn: 00001236  mfn: f00000001  -w',
    ]);
  });
});

describe('pseudo domain ids', () => {
  test('are given back with the device', () => {
    const host = new AmdHost().boot([{ bdf: 0x200 }, { bdf: 0x300 }]);
    const { domidMap } = host.driver.state.units[0]!;
    const of = (bdf: number): number => host.pdev(bdf).arch.pseudoDomid;
    const [first, second] = [of(0x200), of(0x300)];
    expect([first, second]).toEqual([0x8000, 0x8001]);
    expect(host.remove(host.pdev(0x300))).toBe(0);
    expect([of(0x300), domidMap!.test(0), domidMap!.test(1)]).toEqual([DOMID.INVALID, true, false]);
    // The search goes on behind the last.
    expect(host.add(host.pdev(0x300))).toBe(0);
    expect([of(0x300), domidMap!.test(1), domidMap!.test(2)]).toEqual([0x8002, false, true]);
  });
  test('are dealt in turn, from the beginning again at the end, until there is none', () => {
    const host = new AmdHost();
    host.pcidevsLock.acquire();
    const map = iommuInitDomid(0x8003);
    const cursor = { start: 0 };
    const take = (): number => iommuAllocDomid(host.pcidevsLock, cursor, map);
    expect([take(), take(), take(), take()]).toEqual([0x8000, 0x8001, 0x8002, 0x8004]);
    const all = new Set<number>();
    for (let id = take(); id !== DOMID.INVALID; id = take()) all.add(id);
    // 32,768 ids, of which one was reserved and four dealt before.
    expect([all.size, Math.min(...all), Math.max(...all)]).toEqual([32_768 - 5, 0x8005, 0xffff]);
    iommuFreeDomid(host.pcidevsLock, 0x9234, map);
    iommuFreeDomid(host.pcidevsLock, DOMID.INVALID, map);
    expect([take(), take()]).toEqual([0x9234, DOMID.INVALID]);
    iommuFreeDomid(host.pcidevsLock, 0x9234, map);
    expect(() => iommuFreeDomid(host.pcidevsLock, 0x9234, map)).toThrow('Xen BUG');
    host.pcidevsLock.release();
  });
});

describe('a unit with many domains', () => {
  test('keeps the translations of each apart, and forgets those of one', () => {
    const rids = Array.from({ length: 40 }, (_, i) => 0x200 + i * 8);
    const host = new AmdHost({ opts: { quarantine: 'none' } }).boot(rids.map((bdf) => ({ bdf })));
    const all = rids.map((rid, i) => {
      const d = host.newDomain(100 + i, true);
      host.map(d, 0x10, 0x1000 + i);
      host.map(d, 0x200, 0x4000 * (i + 1), 9);
      expect(host.assign(d, host.pdev(rid))).toBe(0);
      return { rid, d, i };
    });
    const ask = (): number[][] => all.map(({ rid }) => [host.dma(rid, 0x10), host.dma(rid, 0x2ff)]);
    const right = all.map(({ i }) => [0x1000 + i, 0x4000 * (i + 1) + 0xff]);
    expect([ask(), ask()]).toEqual([right, right]);
    const cached = (): number[] =>
      [...new Set(host.unit.cachedTranslations().map((t) => t.domid))].sort((a, b) => a - b);
    expect(cached()).toEqual(all.map(({ i }) => 100 + i));
    expect(
      host.unit
        .cachedDevices()
        .map((d) => [d.rid, d.domid])
        .sort((a, b) => a[0]! - b[0]!)
        .slice(0, 2),
    ).toEqual([
      [0x200, 100],
      [0x208, 101],
    ]);
    runAlone(host.driver.ops.iotlbFlush(all[17]!.d, 0, 0, FLUSHF.all | FLUSHF.modified));
    expect(cached()).toEqual(all.filter(({ i }) => i !== 17).map(({ i }) => 100 + i));
    expect(ask()).toEqual(right);
  });
  test('a window forgets the pages in it, small and large, and no neighbour', () => {
    const left = (dfn: number, count: number): number[] => {
      const host = new AmdHost().boot();
      const d = host.newDomain(7, true);
      host.assign(d, host.pdev(0x200));
      const small = [0x11ff, 0x1200, 0x13ff, 0x1400, 0x12_3456];
      for (const f of small) host.map(d, f, f + 0x8000);
      host.map(d, 0x2000, 0x2_0000, 9, IOMMUF.readable | IOMMUF.writable);
      for (const f of [...small, 0x20aa]) host.dma(0x200, f);
      runAlone(host.driver.ops.iotlbFlush(d, dfn, count, FLUSHF.modified));
      const found = host.unit.cachedTranslations().map((t) => t.dfn);
      return [...new Set(found)].sort((a, b) => a - b);
    };
    const all = left(0x5000, 1);
    expect(all).toHaveLength(6);
    expect(all.slice(0, 4)).toEqual([0x11ff, 0x1200, 0x13ff, 0x1400]);
    expect(left(0x1200, 1)).toEqual(all.filter((f) => f !== 0x1200));
    expect(left(0x1201, 3)).toEqual(all.filter((f) => f !== 0x1200 && f !== 0x13ff));
    expect(left(0x12_3456, 1)).toEqual(all.filter((f) => f !== 0x12_3456));
    expect(left(0x20bb, 1)).toEqual(all.filter((f) => f < 0x2000 || f > 0x21ff));
    expect(left(0x1000, 513)).toEqual([0x12_3456]);
  });
});
