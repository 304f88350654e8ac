/** The order in which Xen reads fault records, and what it leaves for later. @xen drivers/passthrough/vtd/iommu.c */
import { describe, expect, test } from 'vitest';
import { QEMU_CAP } from '../../src/iommu/hw/vtd/caps.js';
import { runAlone } from '../../src/sim/co.js';
import { at, twoUnits, VtdHost } from '../helpers/vtd_host.js';

const FSTS = 0x34;
const FECTL = 0x38;
const PPF = 2;

/** A unit with four records; `fault` lets 02:00.0 of dom0 write to frames that dom0's table lacks. */
function fourRecords() {
  const h = new VtdHost({ cap: [QEMU_CAP[0], QEMU_CAP[1] | (3 << 8)] });
  h.endpoint(at(2, 0));
  const fault = (...dfns: number[]): void => {
    for (const dfn of dfns) h.dma(2, 0, 0, dfn);
  };
  /** Frames of the faults that one visit of the tasklet tells. */
  const poll = (): number[] => {
    h.s.console.length = 0;
    runAlone(h.driver.pollFaults());
    return h.s.console.flatMap((l) => {
      const addr = /fault addr ([0-9a-f]+)000$/.exec(l)?.[1];
      return addr === undefined ? [] : [Number.parseInt(addr, 16)];
    });
  };
  return { h, fault, poll };
}

const first = (h: VtdHost): number => (h.units[0]!.read32(FSTS) >>> 8) & 0xff;

describe('fault records', () => {
  test('FT-C28 reading begins where the unit says, and ends one behind the last record', () => {
    const { h, fault, poll } = fourRecords();
    h.boot();
    fault(1, 2);
    expect(poll()).toEqual([1, 2]);
    // Records 2, 3 and 0. Xen goes on to a fifth record before it turns round, and finds it empty.
    fault(3, 4, 5);
    expect(first(h)).toBe(2);
    expect(poll()).toEqual([3, 4]);
    // The first pending one is named when PPF is set (11.4.9), and it stays set: 0 and 1 wait until 2 is used again.
    expect([h.units[0]!.read32(FSTS) & PPF, first(h), poll()]).toEqual([PPF, 2, []]);
    fault(6, 7);
    expect(poll()).toEqual([7]);
  });

  test('FT-C28 each fault is charged to its device before the next is read', () => {
    const { h, fault, poll } = fourRecords();
    h.endpoint(at(3, 0));
    h.boot();
    fault(1);
    h.dma(3, 0, 0, 2);
    poll();
    expect(h.s.charged).toEqual(['0000:02:00.0', '0000:03:00.0']);
  });

  test('what is pending when Xen boots is cleared: the first record and the status, no more', () => {
    const { h } = fourRecords();
    const { regs } = h.units[0]!;
    const fro = 0x220 / 4;
    for (let i = 0; i < 4; i++) regs[fro + i * 4 + 3] = 0x8000_0005 | 0;
    regs[FSTS / 4] = PPF;
    h.s.record();
    h.boot();
    expect(h.registerWrites().filter((w) => /^2[2-5][0-9a-f]=/.test(w))).toEqual(['22c=80000000']);
    expect([0, 1, 2, 3].map((i) => regs[fro + i * 4 + 3]! < 0)).toEqual([false, true, true, true]);
  });

  test.each([0, 1])(
    'the interrupt is masked and let go at the unit that has faults, %i, and at no other',
    (which) => {
      const h = twoUnits();
      for (const where of [at(2, 0), at(6, 0)]) h.endpoint(where);
      h.boot();
      h.s.record();
      expect(h.dma(which === 0 ? 2 : 6, 0, 0, 1, true, which)).toBeLessThan(0);
      runAlone(h.driver.pollFaults());
      const masks = h.s.log.flatMap((e) =>
        e.kind === 'reg' && e.write && e.offset === FECTL ? [[e.unit, e.lo >>> 31]] : [],
      );
      expect(masks).toEqual([
        [which, 1],
        [which, 0],
      ]);
    },
  );
});
