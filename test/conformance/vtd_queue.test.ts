/** VT-d 6.5.2: the invalidation queue, its errors and its wait descriptors. */
import { describe, expect, test } from 'vitest';
import type { StampedEvent } from '../../src/sim/events.js';
import { caps, QIE, REG, Rig, TE, words64 } from '../support/vtd_rig.js';

const RID = 0x0300;
const IOTLB_GLOBAL = 0x12;
const WAIT = 5;
const SW = 0x20;
const IF = 0x10;
const FN = 0x40;
const IQE = 0x10;
const ITE = 0x40;
const STATUS = 0x900;

const ready = (options = {}): Rig => new Rig(options).on().queue();
const fsts = (rig: Rig): number => rig.unit.read32(REG.FSTS);
const head = (rig: Rig): number => rig.unit.read32(REG.IQH) / 16;

describe('the invalidation queue (6.5.2, 6.5.2.9)', () => {
  test('a wait with SW writes its data to the status address', () => {
    const rig = ready();
    rig.submit(WAIT | SW | FN, 0x5aa5_0001, STATUS * 4096 + 8, 0);
    expect(rig.word(STATUS, 2)).toBe(0x5aa5_0001);
    expect(head(rig)).toBe(1);
  });
  test('status addresses that differ above 4 GiB alone are two places', () => {
    const rig = ready();
    const far = STATUS + 2 ** 20;
    for (const [n, high] of [0, 1, 0, 1, 1, 0].entries()) {
      rig.submit(WAIT | SW, n + 1, STATUS * 4096, high);
      const held = [rig.word(STATUS, 0), rig.word(far, 0)];
      expect(held[high]).toBe(n + 1);
      expect(held[1 - high]).toBeLessThan(n + 1);
    }
  });
  test('a wait without SW writes nothing', () => {
    const rig = ready();
    rig.submit(WAIT, 0x5aa5_0001, STATUS * 4096 + 8, 0);
    expect(rig.word(STATUS, 2)).toBe(0);
    expect(head(rig)).toBe(1);
  });
  test('bits of the status address beyond those of the host are ignored', () => {
    const rig = new Rig().on().queue();
    const at = rig.frame();
    const [lo, hi] = words64(at);
    rig.submit(0x25, 0xfeed, lo, hi + 0x80);
    expect(rig.word(at, 0)).toBe(0xfeed);
  });
  test('a status address beyond memory is written nowhere', () => {
    const rig = ready();
    rig.submit(WAIT | SW, 1, 0, 0x70);
    expect(head(rig)).toBe(1);
    expect(fsts(rig)).toBe(0);
  });
  test('descriptors are executed in order, and the doorbell starts all that are queued', () => {
    const rig = ready();
    const seen: number[] = [];
    rig.events.attach((e) => {
      if (e.kind === 'descriptor') seen.push(e.words[0]! & 0xf);
    });
    rig.enqueue(1 | 0x10);
    rig.enqueue(IOTLB_GLOBAL);
    rig.enqueue(WAIT | SW, 1, STATUS * 4096, 0);
    rig.enqueue(4);
    expect(head(rig)).toBe(0);
    rig.ring();
    expect(head(rig)).toBe(4);
    expect(seen).toEqual([1, 2, 5, 4]);
  });
  test('nothing is fetched while the queue is off', () => {
    const rig = new Rig().on();
    rig.queueFrame = rig.frame();
    rig.unit.write64(REG.IQA, ...words64(rig.queueFrame));
    rig.submit(WAIT | SW, 7, STATUS * 4096, 0);
    expect(rig.word(STATUS, 0)).toBe(0);
    rig.unit.write32(REG.GCMD, TE + QIE);
    expect(rig.word(STATUS, 0)).toBe(7);
  });
  test('the head wraps at the end of the queue', () => {
    const rig = ready();
    for (let i = 1; i <= 300; i++) {
      rig.submit(WAIT | SW, i, STATUS * 4096, 0);
      expect(rig.word(STATUS, 0)).toBe(i);
    }
    expect(head(rig)).toBe(300 - 256);
  });
  test('a queue of size 1 has 512 descriptors in two frames', () => {
    const rig = new Rig().on();
    const frame = rig.frame();
    const second = rig.frame();
    expect(second).toBe(frame + 1);
    rig.unit.write64(REG.IQA, ...words64(frame, 1));
    rig.unit.write32(REG.GCMD, TE + QIE);
    for (let i = 0; i < 256; i++) rig.put(frame, i * 4, IOTLB_GLOBAL, 0, 0, 0);
    rig.put(second, 0, WAIT | SW, 0x77, STATUS * 4096, 0);
    rig.unit.write32(REG.IQT, 257 * 16);
    expect(rig.word(STATUS, 0)).toBe(0x77);
    expect(head(rig)).toBe(257);
  });
  test('switching the queue on resets the head', () => {
    const rig = ready();
    rig.submit(IOTLB_GLOBAL);
    expect(head(rig)).toBe(1);
    rig.unit.write32(REG.GCMD, TE);
    expect(rig.unit.read32(REG.GSTS) & QIE).toBe(0);
    rig.queue();
    expect(head(rig)).toBe(0);
  });
  test('a unit without queued invalidation cannot switch it on', () => {
    const rig = new Rig(caps([[2, 1, 1, 0]]));
    rig.unit.write32(REG.GCMD, QIE);
    expect(rig.unit.read32(REG.GSTS)).toBe(0);
  });
});

describe('descriptors that are refused (6.5.2, 6.5.2.11)', () => {
  const bad: readonly (readonly [string, readonly number[]])[] = [
    ['type 0', [0]],
    ['type 6, which legacy mode does not have', [6]],
    ['type 15', [15]],
    ['a type extension in bits 11:9', [IOTLB_GLOBAL | 0x200]],
    ['context cache with granularity 0', [1]],
    ['context cache with bit 6', [0x51]],
    ['context cache with bit 50', [0x11, 1 << 18]],
    ['context cache with an upper half', [0x11, 0, 1]],
    ['IOTLB with granularity 0', [2]],
    ['IOTLB with bit 8', [IOTLB_GLOBAL | 0x100]],
    ['IOTLB with bits 63:32', [IOTLB_GLOBAL, 1]],
    ['IOTLB with bits 11:7 of the address', [0x32, 0, 0x80]],
    ['IOTLB by page with a mask beyond MAMV', [0x32, 0, 19]],
    ['a device TLB while the unit supports none', [3, RID]],
    ['interrupt entry with bit 5', [0x24]],
    ['interrupt entry with bits 63:48', [4, 1 << 16]],
    ['interrupt entry with an upper half', [4, 0, 0, 1]],
    ['a wait with bit 7', [WAIT | 0x80]],
    ['a wait with an unaligned address', [WAIT, 0, 1]],
  ];
  test.each(bad)('%s sets IQE, and the head stays at it', (_says, words) => {
    const rig = ready();
    rig.enqueue(IOTLB_GLOBAL);
    rig.enqueue(...words);
    rig.enqueue(WAIT | SW, 1, STATUS * 4096, 0);
    rig.ring();
    expect(fsts(rig)).toBe(IQE);
    expect(head(rig)).toBe(1);
    expect(rig.word(STATUS, 0)).toBe(0);
  });
  test.each([
    ['nothing besides', [3, RID], 0],
    ['bits 11:4', [0x13, RID], IQE],
    ['bits 51:48', [3, RID | 0x1_0000], IQE],
    ['bits 11:1 of the address', [3, RID, 2], IQE],
    ['bit 11 of the address', [3, RID, 0x800], IQE],
    ['a physical function, which the unit wants not', [3 | 0x1000, RID], IQE],
    ['the rest of it', [3, (RID | 0x8000_0000) >>> 0], IQE],
  ])('a device TLB with %s set', (_says, words, status) => {
    const rig = ready(caps([[2, 2, 2, 1]]));
    rig.submit(...words);
    expect(fsts(rig) & IQE).toBe(status);
  });
  test('pages of the IOTLB cannot be named to a unit without PSI', () => {
    const rig = new Rig(caps([[1, 7, 7, 0]])).on().queue();
    rig.submit(0x32 + (1 << 16), 0, 0x1000, 0);
    expect(rig.unit.read32(REG.FSTS) & IQE).toBe(IQE);
    expect(rig.unit.read32(0xb0) & 0xf).toBe(4);
  });
  test('after IQE is cleared the head descriptor is fetched again', () => {
    const rig = ready();
    rig.enqueue(0xf);
    rig.submit(WAIT | SW, 1, STATUS * 4096, 0);
    rig.unit.write32(REG.IQT, 2 * 16);
    expect(rig.word(STATUS, 0)).toBe(0);
    rig.put(rig.queueFrame, 0, IOTLB_GLOBAL);
    rig.unit.write32(REG.FSTS, IQE);
    expect(fsts(rig)).toBe(0);
    expect(rig.word(STATUS, 0)).toBe(1);
    expect(head(rig)).toBe(2);
  });
  test('cleared without repair it is refused again', () => {
    const rig = ready();
    rig.submit(0xf);
    rig.unit.write32(REG.FSTS, IQE);
    expect(fsts(rig)).toBe(IQE);
  });
  test('a tail beyond the queue is an error', () => {
    const rig = ready();
    rig.unit.write32(REG.IQT, 256 * 16);
    expect(fsts(rig)).toBe(IQE);
  });
  test('a queue beyond physical memory is an error', () => {
    const rig = new Rig();
    rig.unit.write64(REG.IQA, 0, 0x70);
    rig.unit.write32(REG.GCMD, QIE);
    rig.unit.write32(REG.IQT, 16);
    expect(fsts(rig)).toBe(IQE);
  });
  test('IQE raises the fault event', () => {
    const rig = ready();
    rig.unit.write32(REG.FEADDR, 0xfee0_1000);
    rig.unit.write32(REG.FEDATA, 0x41);
    rig.unit.write32(REG.FECTL, 0);
    rig.submit(0xf);
    expect(rig.interrupts).toEqual(['fault fee01000 41']);
  });
});

describe('completion interrupts (6.5.2.10, 11.4.9)', () => {
  test('a wait with IF sets IWC and sends the completion message', () => {
    const rig = ready();
    rig.unit.write32(REG.IEADDR, 0xfee0_2000);
    rig.unit.write32(REG.IEDATA, 0x42);
    rig.unit.write32(REG.IECTL, 0);
    rig.submit(WAIT | IF);
    expect(rig.unit.read32(REG.ICS)).toBe(1);
    expect(rig.interrupts).toEqual(['completion fee02000 42']);
    rig.submit(WAIT | IF);
    expect(rig.interrupts).toHaveLength(1);
    rig.unit.write32(REG.ICS, 1);
    expect(rig.unit.read32(REG.ICS)).toBe(0);
    rig.submit(WAIT | IF);
    expect(rig.interrupts).toHaveLength(2);
  });
  test('while masked it is pending, and goes out when the mask is cleared', () => {
    const rig = ready();
    rig.submit(WAIT | IF);
    expect(rig.interrupts).toEqual([]);
    expect(rig.unit.read32(REG.IECTL)).toBe(0xc000_0000);
    rig.unit.write32(REG.IECTL, 0);
    expect(rig.interrupts).toHaveLength(1);
    expect(rig.unit.read32(REG.IECTL)).toBe(0);
  });
  test('a pending one that software has seen in ICS is not sent later', () => {
    const rig = ready();
    rig.submit(WAIT | IF);
    rig.unit.write32(REG.ICS, 1);
    expect(rig.unit.read32(REG.IECTL)).toBe(0x8000_0000);
    rig.unit.write32(REG.IECTL, 0);
    expect(rig.interrupts).toEqual([]);
  });
});

describe('device TLB invalidation (6.5.2.5)', () => {
  const withDt = (): { rig: Rig; told: number[][] } => {
    const rig = ready(caps([[2, 2, 2, 1]]));
    const told: number[][] = [];
    rig.unit.onDeviceTlb = (...args) => {
      told.push(args);
      return true;
    };
    return { rig, told };
  };
  test.each([
    ['one page', [0x1234 * 4096, 0], [RID, 0x1234, 1]],
    ['two pages', [0x1234 * 4096 + 1, 0], [RID, 0x1234, 2]],
    ['four pages', [0x1235 * 4096 + 1, 0], [RID, 0x1234, 4]],
    ['2 MiB', [0x12ff * 4096 + 1, 0], [RID, 0x1200, 512]],
    ['everything', [0xffff_f001, 0x7fff_ffff], [RID, 0, 2 ** 52]],
  ])('names %s by the lowest clear address bit', (_says, addr, expected) => {
    const { rig, told } = withDt();
    rig.submit(3, RID, ...(addr as number[]));
    expect(told).toEqual([expected]);
  });
  test('a device that does not answer sets ITE; waits behind it are aborted', () => {
    const { rig } = withDt();
    rig.unit.onDeviceTlb = () => false;
    rig.enqueue(3, RID);
    rig.enqueue(WAIT | SW, 1, STATUS * 4096, 0);
    rig.ring();
    expect(fsts(rig)).toBe(ITE);
    expect(rig.word(STATUS, 0)).toBe(0);
    expect(head(rig)).toBe(2);
  });
  test('a wait behind a device that is busy is done when that answers, and one before it at once', () => {
    const { rig } = withDt();
    rig.unit.devicesBusy = true;
    rig.submit(WAIT | SW, 1, STATUS * 4096, 0);
    expect(rig.word(STATUS, 0)).toBe(1);
    rig.enqueue(3, RID);
    rig.enqueue(WAIT | SW, 2, STATUS * 4096, 0);
    rig.ring();
    expect(rig.word(STATUS, 0)).toBe(1);
    rig.unit.devicesAnswer();
    expect(rig.word(STATUS, 0)).toBe(2);
    expect(head(rig)).toBe(3);
  });
  test('after ITE nothing is fetched until it is cleared', () => {
    const { rig } = withDt();
    rig.unit.onDeviceTlb = () => false;
    rig.submit(3, RID);
    rig.submit(WAIT | SW, 2, STATUS * 4096, 0);
    expect(head(rig)).toBe(1);
    expect(rig.word(STATUS, 0)).toBe(0);
    rig.unit.write32(REG.FSTS, ITE);
    expect(rig.word(STATUS, 0)).toBe(2);
    expect(head(rig)).toBe(2);
  });
});

describe('a slow unit (6.5.2)', () => {
  test('works one descriptor at a time, and stale translations live until then', () => {
    const rig = ready({ latencyNs: 500 });
    const root = rig.device(RID);
    rig.map(root, 4, 5, 0x5555);
    rig.unit.translate(RID, 5, true);
    rig.unmap(root, 4, 5);
    rig.enqueue(IOTLB_GLOBAL);
    rig.enqueue(WAIT | SW, 1, STATUS * 4096, 0);
    rig.ring();
    expect(rig.unit.translate(RID, 5, true)).toBe(0x5555);
    rig.clock.advance(499);
    expect(rig.unit.translate(RID, 5, true)).toBe(0x5555);
    rig.clock.advance(1);
    expect(rig.unit.translate(RID, 5, true)).toBe(-5);
    expect(rig.word(STATUS, 0)).toBe(0);
    rig.clock.advance(500);
    expect(rig.word(STATUS, 0)).toBe(1);
  });
});

describe('what an observer sees (6.5.2)', () => {
  test('registers, descriptors and what they did, in order', () => {
    const rig = ready();
    const seen: StampedEvent[] = [];
    rig.events.attach((e) => seen.push(e));
    rig.submit(0x32 | (7 << 16), 0, 0x1234 * 4096 + 1, 0);
    expect(seen.map(({ seq, t, cpu, dom, ...e }) => e)).toEqual([
      { kind: 'reg', unit: 0, write: true, offset: REG.IQT, size: 4, lo: 16, hi: 0 },
      { kind: 'descriptor', unit: 0, words: [0x7_0032, 0, 0x1234001, 0] },
      { kind: 'hw', unit: 0, what: 'iotlbPages', args: [7, 0x1234, 1] },
    ]);
  });
});
