/**
 * Telling units what changed where that does not go smoothly: no room in the queue, an error half way, no memory.
 * @xen drivers/passthrough/vtd/iommu.c, qinval.c
 */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { QEMU_ECAP } from '../../src/iommu/hw/vtd/caps.js';
import { runAlone } from '../../src/sim/co.js';
import { hostWithGuest, twoUnits, UNIT_BASE, VtdHost } from '../helpers/vtd_host.js';

/** What the unit is told, and what it says. */
const [GCMD, GSTS] = [0x18, 0x1c];
/** Invalidation queue: head, tail and address. */
const [IQH, IQT, IQA] = [0x80, 0x88, 0x90];
const IOTLB_GLOBAL = 0x12;

describe('a queue', () => {
  /** Other CPUs have queued so much that only `room` descriptors fit; each takes the unit a microsecond. */
  function crowd(h: VtdHost, room: number): void {
    const unit = h.units[0]!;
    const frame = unit.read32(IQA + 4) * 2 ** 20 + (unit.read32(IQA) >>> 12);
    const [head, tail] = [unit.read32(IQH) / 16, unit.read32(IQT) / 16];
    expect(head).toBe(tail);
    for (let i = 0; i < 255 - room; i++) {
      const entry = frame * 4096 + ((tail + i) % 256) * 16;
      for (const [word, value] of [IOTLB_GLOBAL, 0, 0, 0].entries()) h.s.ram.write32(entry + word * 4, value);
    }
    unit.latencyNs = 1000;
    unit.write32(IQT, ((tail + 255 - room) % 256) * 16);
  }

  test.each([0, 1, 2])(
    'with room for %i more: who flushes waits, and returns when the page is gone from the unit',
    (room) => {
      const { h, pdev, d1 } = hostWithGuest();
      expect(h.assign(d1, pdev)).toBe(0);
      expect(h.dma(2, 0, 0, 0x100)).toBe(0x4_0000);
      crowd(h, room);
      expect(h.unmap(d1, 0x100)).toBe(0);
      expect(h.dma(2, 0, 0, 0x100)).toBeLessThan(0);
      expect(h.units[0]!.read32(IQH)).toBe(h.units[0]!.read32(IQT));
      const full = room < 2 ? ['[VT-D] IOMMU#0: no QI slot available'] : [];
      expect(h.s.console).toEqual(full);
      // The complaint is made once.
      crowd(h, 0);
      h.map(d1, 0x100, 0x4_0000);
      expect(h.unmap(d1, 0x100)).toBe(0);
      expect(h.s.console).toEqual(['[VT-D] IOMMU#0: no QI slot available']);
    },
  );
});

describe('flushing all units', () => {
  test.each([1, 2, 3, 4])(
    'that fails at step %i, of a context and an IOTLB flush each, is tried to its end and fails set-up',
    (nth) => {
      const h = twoUnits();
      h.s.record();
      h.s.faults.failNth(nth, 'flush');
      expect(runAlone(h.driver.setup())).toBe(E.IO);
      expect(h.s.faults.passed.get('flush')).toBe(4);
      // Global: a context cache, then an IOTLB, with both kinds of draining; interrupt entries before them.
      expect(h.descriptors().filter((d) => !d.startsWith('4 '))).toEqual(['11 0', 'd2 0', '11 0', 'd2 0']);
    },
  );

  test.each([1, 2, 3, 4])('that fails at step %i for dom0 is a warning, and units go on', (nth) => {
    const h = twoUnits();
    expect(runAlone(h.driver.setup())).toBe(0);
    for (const d of [h.s.domIo, h.s.hwdom]) runAlone(h.driver.init(d));
    h.s.console.length = 0;
    h.s.faults.failNth(nth, 'flush');
    runAlone(h.driver.hwdomInit(h.s.hwdom));
    expect(h.s.console).toEqual(['[VT-D] IOMMU flush all failed for hardware domain']);
    // Translation is on in both.
    expect(h.units.map((u) => u.read32(0x1c) >>> 31)).toEqual([1, 1]);
  });
});

describe('memory', () => {
  test('that is short for the table of a narrow unit is -ENOMEM, whatever stands in frame 0', () => {
    // SAGAW 2: three levels, so that the root is looked up one table further down.
    const { h, pdev } = hostWithGuest({ cap: [0x2226_0206, 0x00d2_008c] });
    const d2 = h.domain(2);
    h.s.ram.write32(0, 0xf000_ff53);
    h.s.faults.failNth(1, 'alloc');
    expect(h.assign(d2, pdev)).toBe(E.NOMEM);
    expect(h.entry(2, 0).did).toBe(0);
  });

  test.each([
    { count: 127, pages: 1 },
    { count: 128, pages: 2 },
    { count: 255, pages: 2 },
    { count: 256, pages: 4 },
  ])(
    'the queue for $count CPUs, $pages pages, is written back page by page to a unit that does not snoop',
    ({ count, pages }) => {
      const h = new VtdHost({ cpu: { count }, ecap: [QEMU_ECAP[0] & ~1, QEMU_ECAP[1]] });
      expect(runAlone(h.driver.setup())).toBe(0);
      const unit = h.units[0]!;
      const first = unit.read32(IQA + 4) * 2 ** 20 + (unit.read32(IQA) >>> 12);
      expect(2 ** (unit.read32(IQA) & 7)).toBe(pages);
      const whole = h.s.synced.filter((s) => s.first === 0 && s.words === 1024).map((s) => s.mfn);
      const queue = Array.from({ length: pages }, (_, i) => first + i);
      expect(queue.filter((mfn) => whole.includes(mfn))).toEqual(queue);
      expect(whole).not.toContain(first - 1);
    },
  );
});

test('a unit may take a second to do what it is told, and no nanosecond more', () => {
  const setUp = (ns: number): number => {
    const h = new VtdHost();
    const unit = h.units[0]!;
    const [read32, write32] = [unit.read32.bind(unit), unit.write32.bind(unit)];
    let told = false;
    unit.write32 = (offset, value) => {
      told = offset === GCMD;
      write32(offset, value);
    };
    unit.read32 = (offset) => {
      if (offset !== GSTS || !told) return read32(offset);
      told = false;
      h.s.clock.advance(ns);
      return 0;
    };
    return runAlone(h.driver.setup());
  };
  expect(setUp(1e9)).toBe(0);
  expect(() => setUp(1e9 + 1)).toThrow('DMAR hardware malfunction');
});

test('FT-C12 what a buffering unit is to find, it finds: each entry, and each page that is mapped or taken', () => {
  const cap = [0x222f_0616, 0x00d2_008c] as const;
  const { h, pdev, d1 } = hostWithGuest({ cap, units: [{ base: UNIT_BASE, buffered: true }] });
  h.assign(h.s.domIo, pdev);
  h.assign(d1, pdev);
  for (const dfn of [0x100, 0x300, 0x101]) {
    expect(h.map(d1, dfn, 0x4000 + dfn)).toBe(0);
    expect(h.dma(2, 0, 0, dfn)).toBe(0x4000 + dfn);
  }
  expect(h.unmap(d1, 0x300)).toBe(0);
  expect(h.dma(2, 0, 0, 0x300)).toBe(-5);
  h.reassign(d1, h.s.domIo, pdev);
  expect(h.dma(2, 0, 0, 0x100)).toBe(-2);
});

test('FT-C12 a unit that caches what is absent is told of each entry, and needs no flush of its buffer then', () => {
  const { h, pdev, d1 } = hostWithGuest({ cap: [0x222f_0696, 0x00d2_008c] });
  h.assign(h.s.domIo, pdev);
  h.s.record();
  h.assign(d1, pdev);
  expect([h.registerWrites(), h.descriptors().length]).toEqual([[], 2]);
});
