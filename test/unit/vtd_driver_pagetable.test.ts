/** I/O page tables: mapping, coalescing, splitting, contiguity marks, lookups, and which flush they ask for. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { Rng } from '../../src/base/rng.js';
import { FLUSHF, INVALID_DFN, IOMMUF } from '../../src/iommu/driver/types.js';
import { ptUpdateContigMarkers } from '../../src/iommu/driver/vtd/contig.js';
import { runAlone } from '../../src/sim/co.js';
import type { TestDomain } from '../helpers/services.js';
import { at, VtdHost, type VtdHostOptions } from '../helpers/vtd_host.js';

const RW = IOMMUF.readable | IOMMUF.writable;

function host(o: VtdHostOptions = {}) {
  const h = new VtdHost(o);
  const pdev = h.endpoint(at(2, 0));
  h.boot();
  const d = h.domain(1);
  h.assign(d, pdev);
  return { h, d };
}
function lookup(h: VtdHost, d: TestDomain, dfn: number): number {
  const out = { mfn: 0, flags: 0 };
  const rc = runAlone(h.driver.lookupPage(d, dfn, out));
  return rc === 0 ? out.mfn : rc;
}
/** Entry words at `level` on the way to `dfn`. */
function entryAt(h: VtdHost, d: TestDomain, dfn: number, level: number): { lo: number; hi: number } {
  let table = d.iommu.pgdMfn;
  for (let l = 4; ; l--) {
    const idx = Math.floor(dfn / 512 ** (l - 1)) % 512;
    const lo = h.s.ram.read32(table * 4096 + idx * 8);
    const hi = h.s.ram.read32(table * 4096 + idx * 8 + 4);
    if (l === level) return { lo: lo >>> 0, hi: hi >>> 0 };
    table = (hi & 0xf_ffff) * 2 ** 20 + (lo >>> 12);
  }
}

describe('mapping', () => {
  test('a mapped page is reached by DMA with its rights, looked up, and gone after unmap', () => {
    const { h, d } = host();
    expect(h.map(d, 0x8_1234_5678, 0x12_3456, 0, IOMMUF.readable)).toBe(0);
    expect(h.dma(2, 0, 0, 0x8_1234_5678, false)).toBe(0x12_3456);
    expect(h.dma(2, 0, 0, 0x8_1234_5678, true)).toBe(-5);
    expect(lookup(h, d, 0x8_1234_5678)).toBe(0x12_3456);
    expect(h.unmap(d, 0x8_1234_5678)).toBe(0);
    expect(lookup(h, d, 0x8_1234_5678)).toBe(E.NOENT);
    expect(h.dma(2, 0, 0, 0x8_1234_5678, false)).toBe(-6);
  });

  test('tables that become empty are freed, but not those a unit of fewest levels could start at', () => {
    const { h, d } = host();
    const before = d.iommu.pgtables.length;
    h.map(d, 0x8_1234_5678, 0x12_3456);
    expect(d.iommu.pgtables.length).toBe(before + 3);
    h.unmap(d, 0x8_1234_5678);
    expect(d.iommu.pgtables.length).toBe(before + 1);
    expect(h.s.queued.length).toBe(2);
  });

  test.each([0, 9, 18])(
    'FT-B09 of a dying domain nothing is mapped, order %i, and that is no error',
    (order) => {
      const { h, d } = host();
      expect(h.map(d, 2 ** 18, 2 ** 18, order)).toBe(0);
      const tables = d.iommu.pgtables.length;
      h.s.record();
      d.isDying = true;
      expect(h.map(d, 2 ** 20, 2 ** 20, order)).toBe(0);
      expect(lookup(h, d, 2 ** 20)).toBe(E.NOENT);
      expect([d.iommu.pgtables.length, h.descriptors()]).toEqual([tables, []]);
      // What was there stays until it is unmapped, and unmapping still works.
      expect(h.dma(2, 0, 0, 2 ** 18)).toBe(2 ** 18);
      expect(h.unmap(d, 2 ** 18, order)).toBe(0);
      expect(h.dma(2, 0, 0, 2 ** 18)).toBeLessThan(0);
    },
  );

  test('no memory for a table is -ENOMEM, and what was mapped stays', () => {
    const { h, d } = host();
    h.map(d, 0x200, 0x4_0000);
    h.s.faults.failNth(2, 'alloc');
    expect(h.map(d, 0x8_0000_0000, 5)).toBe(E.NOMEM);
    expect(lookup(h, d, 0x200)).toBe(0x4_0000);
  });

  test('mapping without the lock of the table throws', () => {
    const { h, d } = host();
    d.iommu.mappingLock.acquire();
    expect(() => runAlone(h.driver.mapPage(d, 1, 1, RW, { flags: 0 }))).toThrow(/not taken twice/);
  });

  test('snoop control sets SNP in leaves', () => {
    const { h, d } = host({ ecap: [0x00f0_0fca, 0] });
    h.map(d, 1, 0x4_0000);
    expect(entryAt(h, d, 1, 1).lo).toBe(0x4000_0803);
    expect(h.dma(2, 0, 0, 1)).toBe(0x4_0000);
  });

  test('a three-level unit starts one table further down', () => {
    // SAGAW 2: 39 bits.
    const { h, d } = host({ cap: [0x2226_0206, 0x00d2_008c] });
    h.map(d, 0x100, 0x4_0000);
    expect(h.entry(2, 0)).toMatchObject({
      aw: 1,
      root: entryAt(h, d, 0, 4).lo >>> 12 ? expect.anything() : 0,
    });
    expect(h.entry(2, 0).root).not.toBe(d.iommu.pgdMfn);
    expect(h.dma(2, 0, 0, 0x100)).toBe(0x4_0000);
  });

  test('units that do not snoop get every table written back', () => {
    const { h, d } = host({ ecap: [0x00f0_0f4a, 0] });
    expect(h.s.opts.nonCoherent).toBe(true);
    h.s.synced.length = 0;
    h.map(d, 0x100, 0x4_0000);
    expect(h.s.synced.at(-1)).toMatchObject({ first: 0x100 * 2, words: 2 });
    const coherent = host({ ecap: [0x00f0_0f4b, 0] });
    coherent.h.map(coherent.d, 0x100, 0x4_0000);
    expect(coherent.h.s.synced).toEqual([]);
  });
});

describe('larger pages', () => {
  test('FT-C23 512 contiguous pages become one 2 MiB entry; unmapping one splits it again', () => {
    const { h, d } = host();
    const before = d.iommu.pgtables.length;
    for (let i = 0; i < 512; i++) h.map(d, 0x200 + i, 0x4_0000 + i);
    expect(entryAt(h, d, 0x200, 2)).toEqual({ lo: 0x4000_0083, hi: 0 });
    expect(d.iommu.pgtables.length).toBe(before + 2);
    expect(h.dma(2, 0, 0, 0x3ff)).toBe(0x4_01ff);
    expect(lookup(h, d, 0x2ab)).toBe(0x4_00ab);

    expect(h.unmap(d, 0x2ab)).toBe(0);
    expect(entryAt(h, d, 0x200, 2).lo & 0x80).toBe(0);
    expect(h.dma(2, 0, 0, 0x2aa)).toBe(0x4_00aa);
    expect(h.dma(2, 0, 0, 0x2ab)).toBe(-5);
    expect(lookup(h, d, 0x2ac)).toBe(0x4_00ac);

    h.map(d, 0x2ab, 0x4_00ab);
    expect(entryAt(h, d, 0x200, 2)).toEqual({ lo: 0x4000_0083, hi: 0 });
  });

  test('FT-C23 a page out of step, or with other rights, keeps the table', () => {
    const { h, d } = host();
    for (let i = 0; i < 512; i++) h.map(d, 0x200 + i, 0x4_0001 + i);
    expect(entryAt(h, d, 0x200, 2).lo & 0x80).toBe(0);
    for (let i = 0; i < 512; i++) h.map(d, 0x400 + i, 0x4_0000 + i, 0, i === 77 ? IOMMUF.readable : RW);
    expect(entryAt(h, d, 0x400, 2).lo & 0x80).toBe(0);
  });

  test('FT-C23 512 pages of 2 MiB become one of 1 GiB, and unmapping 4 KiB splits both', () => {
    const { h, d } = host();
    for (let i = 0; i < 512; i++) h.map(d, 0x4_0000 + i * 512, 0x4_0000 + i * 512, 9);
    expect(entryAt(h, d, 0x4_0000, 3)).toEqual({ lo: 0x4000_0083, hi: 0 });
    expect(h.dma(2, 0, 0, 0x4_1234)).toBe(0x4_1234);
    h.unmap(d, 0x4_1234);
    expect(entryAt(h, d, 0x4_0000, 3).lo & 0x80).toBe(0);
    expect(entryAt(h, d, 0x4_1200, 2).lo & 0x80).toBe(0);
    expect(entryAt(h, d, 0x4_1400, 2).lo & 0x80).toBe(0x80);
    expect(lookup(h, d, 0x4_1235)).toBe(0x4_1235);
    expect(h.dma(2, 0, 0, 0x4_1234)).toBe(-5);
  });

  test('FT-C23 units without large pages never get one', () => {
    const { h, d } = host({ cap: [0x222f_0606, 0x00d2_0080] });
    expect(h.driver.pageSizes).toBe(4096);
    for (let i = 0; i < 512; i++) h.map(d, 0x200 + i, 0x4_0000 + i);
    expect(entryAt(h, d, 0x200, 2).lo & 0x80).toBe(0);
    expect(() => h.map(d, 0x400, 0x400, 9)).toThrow(/page size/);
  });

  test('a large page over a table frees the table, after the flush', () => {
    const { h, d } = host();
    h.map(d, 0x200, 0x5_0000);
    const tables = d.iommu.pgtables.length;
    h.map(d, 0x200, 0x4_0000, 9);
    expect(d.iommu.pgtables.length).toBe(tables - 1);
    expect(h.s.queued.length).toBe(1);
    expect(h.dma(2, 0, 0, 0x200)).toBe(0x4_0000);
    h.unmap(d, 0x200, 9);
    expect(h.dma(2, 0, 0, 0x200)).toBe(-5);
  });

  test('splitting without memory is -ENOMEM and leaves the large page', () => {
    const { h, d } = host();
    h.map(d, 0x200, 0x4_0000, 9);
    h.s.faults.failNth(1, 'alloc');
    expect(h.unmap(d, 0x201)).toBe(E.NOMEM);
    expect(h.dma(2, 0, 0, 0x201)).toBe(0x4_0001);
  });
});

describe('contiguity marks', () => {
  /** What each mark must be, from the entries alone. */
  function expected(t: Int32Array): number[] {
    const kind = (i: number): string => {
      const lo = t[i * 2]!;
      if (lo === 0) return 'empty';
      // In step with its index, or contiguous with nothing.
      return ((lo >>> 12) & 511) === i ? `${(lo >>> 12) - i} ${lo & 0xfff}` : `odd ${i}`;
    };
    const kinds = Array.from({ length: 512 }, (_, i) => kind(i));
    return kinds.map((k, i) => {
      let order = 0;
      while (order < 9 && i % 2 ** (order + 1) === 0) {
        if (kinds.slice(i, i + 2 ** (order + 1)).some((other) => other !== k)) break;
        order++;
      }
      return order;
    });
  }
  const marks = (t: Int32Array): number[] =>
    Array.from({ length: 512 }, (_, i) => (t[i * 2 + 1]! >>> 20) & 0xf);

  test('FT-C23 after any series of writes each mark is the order of the run that starts there', () => {
    const rng = new Rng(7);
    const { h, d } = host();
    h.map(d, 0x200, 1);
    const table = ((): number => {
      const e = entryAt(h, d, 0x200, 2);
      return (e.hi & 0xf_ffff) * 2 ** 20 + (e.lo >>> 12);
    })();
    const base = h.s.ram.slot(table) * 1024;
    const view = (): Int32Array => h.s.ram.words.slice(base, base + 1024);
    for (let step = 0; step < 400; step++) {
      const first = rng.below(512);
      const count = Math.min(2 ** rng.below(7), 512 - first);
      const offset = rng.below(3) === 0 ? 1 : 0;
      for (let i = first; i < first + count; i++) {
        if (step % 3 === 0) h.unmap(d, 0x200 + i);
        else h.map(d, 0x200 + i, 0x4_0000 + i + offset);
      }
      // Keep the table: one page that belongs to nothing.
      h.map(d, 0x200 + 300, 0x7);
      expect(marks(view())).toEqual(expected(view()));
    }
  });

  test('an empty table of Xen carries marks 9, 0, 1, 0, 2, 0, 1, 0, 3 ... in bits 52 and up', () => {
    const { h, d } = host();
    h.map(d, 0x200 + 511, 1);
    const marksOf = (level: number, dfn: number): number => entryAt(h, d, dfn, level).hi >>> 20;
    expect([0, 1, 2, 3, 4, 8, 256, 508, 510].map((i) => marksOf(1, 0x200 + i))).toEqual([
      8, 0, 1, 0, 2, 3, 7, 1, 0,
    ]);
    expect(marksOf(4, 512 ** 3 * 2)).toBe(0);
  });

  test('an entry that still has a mark is not taken for a new one', () => {
    const t = new Int32Array(1024);
    t[3] = 1 << 20;
    expect(() => ptUpdateContigMarkers(t, 0, 1, 1, 1)).toThrow(/no mark yet/);
  });
});

describe('flushes', () => {
  test('FT-C13 an aligned power of two is flushed by page, everything else by domain', () => {
    const { h, d } = host();
    const flush = (dfn: number, count: number, flags: number = FLUSHF.modified): string => {
      h.s.log.length = 0;
      expect(runAlone(h.driver.iotlbFlush(d, dfn, count, flags))).toBe(0);
      return h.descriptors().join(',');
    };
    h.s.record();
    expect(flush(0x3660b, 1)).toBe('100f2 3660b000');
    expect(flush(0x100, 0x40)).toBe('100f2 100006');
    expect(flush(0x140, 0x80)).toBe('100e2 0');
    expect(flush(0x100, 3)).toBe('100e2 0');
    // MAMV is 18.
    expect(flush(0, 2 ** 18)).toBe('100f2 12');
    expect(flush(0, 2 ** 19)).toBe('100e2 0');
    expect(flush(INVALID_DFN, 0, FLUSHF.all | FLUSHF.modified)).toBe('100e2 0');
    // Nothing that was present changed: nothing is cached.
    expect(flush(0x100, 1, FLUSHF.added)).toBe('');
    expect(() => flush(INVALID_DFN, 1)).toThrow(/names what changed/);
  });

  test('FT-C13 without a queue address and mask go to one register, the request to the next', () => {
    const { h, d } = host({ opts: { qinval: false } });
    h.s.record();
    const written = (dfn: number, count: number): string[] => {
      h.s.log.length = 0;
      runAlone(h.driver.iotlbFlush(d, dfn, count, FLUSHF.modified));
      return h.registerWrites();
    };
    // ECAP.IRO is 0xf. IVT, granularity 3 of a page or 2 of the domain, reads and writes drained, id 1.
    expect(written(0x3_660b, 1)).toEqual(['f0=3660b000', 'f8=b003000100000000']);
    expect(written(0xf_1234_5640, 0x40)).toEqual(['f0=f12345640006', 'f8=b003000100000000']);
    expect(written(0, 3)).toEqual(['f8=a003000100000000']);
  });

  test('FT-C13 a unit without page-selective requests flushes the domain', () => {
    const { h, d } = host({ cap: [0x222f_0606, 0x00d2_000c] });
    h.s.record();
    runAlone(h.driver.iotlbFlush(d, 1, 1, FLUSHF.modified));
    expect(h.descriptors()).toEqual(['100e2 0']);
  });

  test('a domain is flushed only on units that hold an entry of it', () => {
    const h = new VtdHost({
      units: [{ base: 0xfed9_0000 }, { base: 0xfed9_1000 }],
      structures: [
        { kind: 'drhd', flags: 0, size: 0, segment: 0, base: 0xfed9_1000, scopes: [] },
        { kind: 'drhd', flags: 1, size: 0, segment: 0, base: 0xfed9_0000, scopes: [] },
      ],
    });
    const pdev = h.endpoint(at(2, 0));
    h.boot();
    const d = h.domain(1);
    h.assign(d, pdev);
    h.s.record();
    runAlone(h.driver.iotlbFlush(d, 1, 1, FLUSHF.modified));
    const units = h.s.log.flatMap((e) => (e.kind === 'descriptor' ? [e.unit] : []));
    expect(new Set(units)).toEqual(new Set([0]));
  });
});

describe('shared EPT', () => {
  test('FT-C22 the entry gets the p2m root, and map, unmap and lookup leave it to the p2m', () => {
    const h = new VtdHost();
    const pdev = h.endpoint(at(2, 0));
    h.boot();
    expect(h.s.opts.hapPtShare).toBe(true);
    const d = h.domain(1);
    d.iommu.hapPtShare = true;
    d.p2mRoot = 0x3_0000;
    expect(h.assign(d, pdev)).toBe(0);
    expect(h.entry(2, 0).root).toBe(0x3_0000);
    expect(h.map(d, 1, 1)).toBe(0);
    expect(h.unmap(d, 1)).toBe(0);
    expect(d.iommu.pgdMfn).toBe(0);
    expect(lookup(h, d, 1)).toBe(E.OPNOTSUPP);
  });
});
