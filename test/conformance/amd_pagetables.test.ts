/** I/O page tables as Xen's driver writes them and as the unit walks them. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { FLUSHF, IOMMUF } from '../../src/iommu/driver/types.js';
import { runAlone } from '../../src/sim/co.js';
import { AmdHost } from '../helpers/amd_services.js';
import type { TestDomain } from '../helpers/test_domain.js';

const READ = IOMMUF.readable;
const WRITE = IOMMUF.writable;

/** A guest with the device 02:00.0. */
function guest(isHvm = true): { host: AmdHost; d: TestDomain } {
  const host = new AmdHost({ opts: { quarantine: 'none' } }).boot();
  const d = host.newDomain(7, isHvm);
  host.assign(d, host.pdev(0x200));
  return { host, d };
}
/** The entry for `dfn` at `level`: low and high word, undefined where there is no such table. */
function entry(host: AmdHost, d: TestDomain, dfn: number, level: number): [number, number] | undefined {
  let table = d.iommu.rootMfn;
  for (let l = d.iommu.pagingMode; ; l--) {
    const at = table * 4096 + (Math.floor(dfn / 512 ** (l - 1)) % 512) * 8;
    const lo = host.ram.read32(at) >>> 0;
    const hi = host.ram.read32(at + 4) >>> 0;
    if (l === level) return [lo, hi];
    if ((lo & 1) === 0 || ((lo >>> 9) & 7) === 0) return undefined;
    table = (hi & 0xfffff) * 0x100000 + (lo >>> 12);
  }
}
const flushFlags = (f: (acc: { flags: number }) => void): number => {
  const acc = { flags: 0 };
  f(acc);
  return acc.flags;
};

describe('page tables', () => {
  test('a page has FC, IR, IW and next level 0; a table the level below and both permissions', () => {
    const { host, d } = guest();
    host.map(d, 0x1234, 0x5678, 0, READ);
    expect(entry(host, d, 0x1234, 1)).toEqual([0x0567_8001, 0x3000_0000]);
    const [lo, hi] = entry(host, d, 0x1234, 2)!;
    expect([(lo >>> 9) & 7, hi >>> 0]).toEqual([1, 0x6000_0005]);
    expect([host.dma(0x200, 0x1234, false), host.dma(0x200, 0x1234, true)]).toEqual([0x5678, -1]);
  });

  test('an empty table carries contiguity marks, as a recorded one does', () => {
    const { host, d } = guest();
    host.map(d, 0x1fc * 512 + 1, 0x5678);
    // 71b-amd-events, record 44: `L2[1fe] = 2 np`; record 15: entry 0 of an L1 carries 7 beside its page.
    expect(entry(host, d, 0x1fe * 512, 2)).toEqual([0x2, 0]);
    expect(entry(host, d, 0x1fc * 512 + 4, 1)).toEqual([0x4, 0]);
    expect(entry(host, d, 0x1fc * 512, 1)).toEqual([0, 0]);
  });

  test('512 pages in a row become one page of 2 MiB, and their table is freed after the flush', () => {
    const { host, d } = guest();
    let freed = 0;
    for (let i = 0; i < 512; i++) {
      const order = (i * 5) % 512; // not in ascending order
      host.map(d, 0x8000 + order, 0x4_0000 + order);
      freed = host.queued.length;
      if (i < 511) expect(freed).toBe(0);
    }
    expect(freed).toBe(1);
    expect(entry(host, d, 0x8000, 2)).toEqual([0x4000_0001, 0x7000_0000]);
    expect(host.dma(0x200, 0x8000 + 77)).toBe(0x4_0000 + 77);
    host.drain();
    // Unmapping one page splits it again; the others stay.
    host.unmap(d, 0x8000 + 77);
    expect([host.dma(0x200, 0x8000 + 77), host.dma(0x200, 0x8000 + 78)]).toEqual([-1, 0x4_0000 + 78]);
  });

  test('pages that are not contiguous, or differ in permission, stay small', () => {
    const { host, d } = guest();
    for (let i = 0; i < 512; i++) host.map(d, 0x8000 + i, 0x4_0001 + i);
    for (let i = 0; i < 512; i++) host.map(d, 0x8200 + i, 0x5_0000 + i, 0, i === 300 ? READ : READ | WRITE);
    expect(host.queued).toEqual([]);
    expect([entry(host, d, 0x8000, 1), entry(host, d, 0x8200, 1)].every((e) => e !== undefined)).toBe(true);
  });

  test.each([
    ['filled and then linked, with the rights of the page', {}, ['1 f']],
    [
      'linked while it was empty, in releases up to 4.14',
      { amdFillsBeforeLinking: () => false },
      ['1 0', '1 f'],
    ],
  ])('the table in the place of a large page is %s', (_what, seams, told) => {
    const host = new AmdHost({ opts: { quarantine: 'none' }, seams }).boot();
    const d = host.newDomain(7, true);
    host.map(d, 0x200, 0x12_3400, 9);
    const seen: string[] = [];
    host.events.attach((e) => {
      if (e.kind !== 'entry' || e.table !== 'pte') return;
      const [lo, hi] = e.after as [number, number];
      const level = (lo >>> 9) & 7;
      if (level === 0) return;
      const below = ((hi & 0xf_ffff) * 2 ** 20 + (lo >>> 12)) * 4096;
      seen.push(`${level} ${(host.ram.read32(below + 8 * 15) >>> 12) % 16 === 15 ? 'f' : '0'}`);
    });
    expect(host.unmap(d, 0x2ff)).toBe(0);
    expect(seen).toEqual(told);
  });

  test('what is flushed: nothing when added, one page when changed, everything when tables went', () => {
    const { host, d } = guest();
    const { ops } = host.driver;
    const map = (dfn: number, mfn: number): number =>
      flushFlags((acc) => runAlone(ops.mapPage(d, dfn, mfn, READ | WRITE, acc)));
    const unmap = (dfn: number): number => flushFlags((acc) => runAlone(ops.unmapPage(d, dfn, 0, acc)));
    expect(map(0x8001, 1)).toBe(FLUSHF.added);
    expect(map(0x8001, 1)).toBe(FLUSHF.added);
    expect(map(0x8001, 2)).toBe(FLUSHF.added | FLUSHF.modified);
    expect(map(0x8002, 2)).toBe(FLUSHF.added);
    expect(unmap(0x8002)).toBe(FLUSHF.modified);
    expect(unmap(0x8002)).toBe(0);
    expect(unmap(0x8001)).toBe(FLUSHF.modified | FLUSHF.all);
    expect(unmap(0x9999_0000)).toBe(0);
  });

  test.each([
    [1, FLUSHF.modified, 'pages_inval 7 8003 0'],
    [5, FLUSHF.modified, 'pages_inval 7 80ff 9'],
    [513, FLUSHF.modified, 'pages_inval 7 1ffff 18'],
    [5, FLUSHF.modified | FLUSHF.all, 'all'],
    [2 ** 18, FLUSHF.modified, 'all'],
  ])(
    'a flush of %i pages with flags %i commands the smallest window that covers them',
    (count, flags, expected) => {
      const { host, d } = guest();
      const seen: string[] = [];
      host.events.attach((e) => {
        if (e.kind === 'hw') seen.push(`${e.what} ${e.args.map((a) => a.toString(16)).join(' ')}`);
      });
      runAlone(host.driver.ops.iotlbFlush(d, 0x8003, count, flags));
      const [, , dfn, order] = seen[0]!.split(' ');
      if (expected === 'all') expect(Number.parseInt(order!, 16)).toBeGreaterThan(40);
      else expect(`pages_inval 7 ${dfn} ${Number.parseInt(order!, 16)}`).toBe(expected);
      expect(seen.length).toBe(1);
    },
  );

  test('without the flag `modified` nothing is commanded', () => {
    const { host, d } = guest();
    expect(host.commands(() => runAlone(host.driver.ops.iotlbFlush(d, 1, 1, FLUSHF.added)))).toEqual([]);
  });

  test('nothing is mapped for a dying domain, with success', () => {
    const { host, d } = guest();
    d.isDying = true;
    expect(host.map(d, 0x1234, 0x5678)).toBe(0);
    expect(host.dma(0x200, 0x1234)).toBe(-1);
  });

  test('a frame that the table cannot name crashes the domain on mapping, and is no error on unmapping', () => {
    const { host, d } = guest(false);
    expect(host.unmap(d, 512 ** 3)).toBe(0);
    expect([host.map(d, 512 ** 3, 1), d.crashed]).toEqual([E.FAULT, true]);
    expect(host.log.at(-1)).toBe('AMD-Vi: Error: invalid IO pagetable entry dfn = 8000000');
  });

  test('memory that runs out crashes the domain with its line, and maps nothing', () => {
    const { host, d } = guest();
    host.faults.failNth(2);
    expect([host.map(d, 0x1234, 0x5678), d.crashed]).toEqual([E.FAULT, true]);
    expect(host.log).toEqual([
      'AMD-Vi: Error: cannot allocate I/O page table',
      'AMD-Vi: Error: invalid IO pagetable entry dfn = 1234',
    ]);
    expect(host.dma(0x200, 0x1234)).toBe(-1);
    const fresh = host.newDomain(8);
    host.faults.failNth(1);
    expect([host.map(fresh, 0x1234, 0x5678), fresh.crashed]).toEqual([E.NOMEM, true]);
    expect(host.log.at(-1)).toBe('AMD-Vi: Error: root table alloc failed, dfn = 1234');
  });

  test('FT-D15 key o lists pages with two spaces between the columns', () => {
    const { host, d } = guest();
    host.map(d, 0x1234, 0x5678, 0, READ);
    host.map(d, 0x8000, 0x4_0000, 9);
    expect(host.lines(() => runAlone(host.driver.ops.dumpPageTables(d)))).toEqual([
      'AMD IOMMU d7 table has 4 levels',
      '   dfn: 00001234  mfn: 00005678  r-',
      '  dfn: 00008000  mfn: 00040000  rw',
    ]);
    expect(host.lines(() => runAlone(host.driver.ops.dumpPageTables(host.newDomain(8))))).toEqual([]);
  });

  test('DMA sees exactly what was mapped last, whatever the order and size of maps and unmaps', () => {
    const op = fc.record({
      map: fc.boolean(),
      // Two neighbouring 2 MiB blocks, in two gigabytes.
      at: fc
        .tuple(fc.constantFrom(0x40000, 0x80000), fc.nat(1), fc.nat(511))
        .map(([g, b, i]) => g + b * 512 + i),
      order: fc.constantFrom(0, 0, 0, 9, 18),
      run: fc.constantFrom(1, 2, 40, 512),
      mfn: fc.constantFrom(0x100000, 0x200000, 0x240000),
      write: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(op, { minLength: 1, maxLength: 25 }), (ops) => {
        const { host, d } = guest();
        const model = new Map<number, { mfn: number; write: boolean }>();
        for (const o of ops) {
          const span = 2 ** o.order;
          const start = o.at - (o.at % span);
          for (let i = 0; i < (o.order === 0 ? o.run : 1); i++) {
            const dfn = start + i * span;
            const mfn = o.mfn + (dfn % 0x40000);
            if (o.map) host.map(d, dfn, mfn, o.order, o.write ? READ | WRITE : READ);
            else host.unmap(d, dfn, o.order);
            for (let p = 0; p < span; p += o.order === 18 ? 4093 : 1) {
              if (o.map) model.set(dfn + p, { mfn: mfn + p, write: o.write });
              else model.delete(dfn + p);
            }
            // A gigabyte is sampled, so what was known of it in between is forgotten.
            if (o.order === 18)
              for (const k of model.keys())
                if (k >= dfn && k < dfn + span && (k - dfn) % 4093 !== 0) model.delete(k);
          }
          host.drain();
          for (const [dfn, m] of model) {
            if (host.dma(0x200, dfn, false) !== m.mfn) return false;
            if (host.dma(0x200, dfn, true) !== (m.write ? m.mfn : -1)) return false;
          }
        }
        // Everything goes: only the root is left, and the table below it, which Xen keeps.
        for (const block of [0x40000, 0x80000]) host.unmap(d, block, 18);
        host.drain();
        return d.iommu.pgtables.length <= 2;
      }),
      { numRuns: 25 },
    );
  });
});
