import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { handleKeys } from '../../../src/hypervisor/keyhandler.js';
import { RangeSet } from '../../../src/hypervisor/rangeset.js';
import { runAlone } from '../../../src/sim/co.js';
import { EventStream } from '../../../src/sim/events.js';
import { Faults } from '../../../src/sim/faults.js';
import { FRAME_TYPE, Frames, Heap, OWNER_FREE, OWNER_NONE } from '../../../src/sim/frames.js';
import { makeXen } from '../../helpers/xen.js';

describe('a range set', () => {
  test('is the set of its integers, in ranges that neither touch nor overlap', () => {
    const range = fc.tuple(fc.boolean(), fc.nat(40), fc.nat(8));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 30 }), fc.nat(40), fc.nat(8), (steps, from, more) => {
        const set = new RangeSet();
        const model = new Set<number>();
        for (const [add, s, n] of steps) {
          for (let i = s; i <= s + n; i++) add ? model.add(i) : model.delete(i);
          if (add) set.add(s, s + n);
          else set.remove(s, s + n);
        }
        const listed = set.list().flatMap((r) => Array.from({ length: r.e - r.s + 1 }, (_, i) => r.s + i));
        expect(listed).toEqual([...model].sort((a, b) => a - b));
        set.list().forEach((r, i, all) => {
          if (i > 0) expect(r.s).toBeGreaterThan(all[i - 1]!.e + 1);
        });
        const asked = Array.from({ length: more + 1 }, (_, i) => from + i);
        expect(set.contains(from, from + more)).toBe(asked.every((i) => model.has(i)));
        expect(set.overlaps(from, from + more)).toBe(asked.some((i) => model.has(i)));
        expect(set.isEmpty()).toBe(model.size === 0);
      }),
      { numRuns: 300, seed: 7 },
    );
  });
});

describe('the frame table', () => {
  test('owners and types of frames, whatever runs were set', () => {
    const step = fc.tuple(fc.nat(4095), fc.constantFrom(0, 3, 9, 10), fc.nat(5), fc.nat(6));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        const frames = new Frames(4096);
        const model = new Map<number, readonly [number, number]>();
        for (const [at, order, owner, type] of steps) {
          const count = Math.min(2 ** order, 4096 - at);
          frames.set(at, count, owner, type as 0);
          for (let i = 0; i < count; i++) model.set(at + i, [owner, type]);
        }
        for (let i = 0; i < 4096; i += 7) {
          expect([frames.owner(i), frames.type(i)]).toEqual(model.get(i) ?? [OWNER_NONE, FRAME_TYPE.none]);
        }
      }),
      { numRuns: 100, seed: 7 },
    );
  });

  test('a superpage that is split and made whole again a thousand times costs one piece', () => {
    const frames = new Frames(4096);
    for (let i = 0; i < 1000; i++) {
      frames.set(512, 512, 1, FRAME_TYPE.writable);
      frames.set(600, 1, 2, FRAME_TYPE.shared);
    }
    const { mixed } = frames as unknown as { mixed: Int32Array };
    expect(mixed.length).toBeLessThanOrEqual(8 * 512);
    expect([frames.owner(599), frames.owner(600), frames.owner(601)]).toEqual([1, 2, 1]);
  });
});

describe('the heap', () => {
  const make = (start: number, count: number) => {
    const frames = new Frames(0x1_0000);
    const heap = new Heap(frames, new Faults(), new EventStream());
    heap.addRange({ start, count });
    return { frames, heap };
  };

  test('hands out aligned blocks from the top, never the same frame twice', () => {
    const { frames, heap } = make(0x123, 0x4567);
    const taken = new Set<number>();
    for (let order = 9; heap.freeFrames > 0; order = (order + 3) % 11) {
      const mfn = heap.alloc(order, 1, FRAME_TYPE.writable);
      if (mfn < 0) {
        if (order === 0) break;
        continue;
      }
      expect(mfn % 2 ** order).toBe(0);
      for (let i = mfn; i < mfn + 2 ** order; i++) {
        expect(taken.has(i)).toBe(false);
        taken.add(i);
      }
    }
    expect([taken.size, heap.freeFrames]).toEqual([0x4567, 0]);
    expect([Math.min(...taken), frames.owner(0x122)]).toEqual([0x123, OWNER_NONE]);
  });

  test('joins what was freed in small pieces when a large one is wanted', () => {
    const { frames, heap } = make(0x200, 0x200);
    const singles = Array.from({ length: 0x200 }, () => heap.alloc(0, 1, FRAME_TYPE.writable));
    expect(heap.alloc(0, 1, FRAME_TYPE.writable)).toBe(-1);
    for (const mfn of singles) heap.release(mfn, 0);
    expect(heap.alloc(9, 2, FRAME_TYPE.writable)).toBe(0x200);
    expect(frames.owner(0x3ff)).toBe(2);
    heap.release(0x200, 9);
    expect([frames.owner(0x200), heap.freeFrames]).toEqual([OWNER_FREE, 0x200]);
    expect(() => heap.release(0x200, 0)).toThrow('twice');
  });
});

describe('console keys', () => {
  test('each known key answers, others say nothing, too many are refused', () => {
    const xen = makeXen();
    xen.console.setLevels('host', 'none');
    xen.news();
    expect(runAlone(handleKeys(xen, 'Z#'))).toBe(0);
    expect(xen.news()).toEqual([]);
    expect(runAlone(handleKeys(xen, 'QVo'))).toBe(0);
    const lines = xen.news();
    expect(lines).toContain('==== PCI devices ====');
    expect(lines).toContain('iommu info');
    expect(runAlone(handleKeys(xen, 'Q'.repeat(1025)))).toBe(-7);
  });

  test('q lists what a domain may use', () => {
    const xen = makeXen();
    const d = xen.guest(3);
    d.iomemCaps.add(0xfe600, 0xfe63f);
    d.ioportCaps.add(0xc000, 0xc000);
    d.irqCaps.add(10, 11);
    xen.news();
    runAlone(handleKeys(xen, 'q'));
    const lines = xen.news();
    const from = lines.indexOf('Rangesets belonging to domain 3:');
    expect(lines.slice(from + 1, from + 4)).toEqual([
      '    Interrupts { 10-11 }',
      '    I/O Memory { fe600-fe63f }',
      '    I/O Ports  { c000 }',
    ]);
  });
});
