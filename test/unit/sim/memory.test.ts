import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { XenBug } from '../../../src/base/assert.js';
import { EventStream, type StampedEvent } from '../../../src/sim/events.js';
import { Faults } from '../../../src/sim/faults.js';
import { DOMID, FRAME_TYPE, Frames, Heap, OWNER_FREE, OWNER_NONE } from '../../../src/sim/frames.js';
import { MmioMap } from '../../../src/sim/mmio.js';
import { Ram } from '../../../src/sim/ram.js';
import { restoreSnapshot, takeSnapshot } from '../../../src/sim/snapshot.js';

describe('memory', () => {
  test('holds what was written, byte by byte, and zero elsewhere', () => {
    const addr = fc.integer({ min: 0, max: 2 ** 39 - 1 });
    const write = fc.record({ addr, value: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(write, { maxLength: 60 }), addr, (writes, other) => {
        const ram = new Ram(2 ** 27);
        const model = new Map<number, number>();
        for (const w of writes) {
          ram.write8(w.addr, w.value);
          model.set(w.addr, w.value);
        }
        for (const a of [...model.keys(), other]) expect(ram.read8(a)).toBe(model.get(a) ?? 0);
        const frames = new Set([...model.keys()].map((a) => Math.floor(a / 4096)));
        expect(ram.touched).toBe(frames.size);
      }),
    );
  });

  test('is little-endian words', () => {
    const ram = new Ram(16);
    for (const [i, byte] of [0x78, 0x56, 0x34, 0x12].entries()) ram.write8(0x2000 + i, byte);
    expect(ram.read32(0x2000)).toBe(0x12345678);
  });

  test('costs nothing where it is only read or cleared', () => {
    const ram = new Ram(2 ** 27);
    expect(ram.read32(2 ** 38)).toBe(0);
    ram.clearFrame(12345);
    expect(ram.touched).toBe(0);
    ram.write32(0x5008, -1);
    ram.clearFrame(5);
    expect(ram.read32(0x5008)).toBe(0);
  });

  test('finds page tables where it finds every frame, whichever it found before', () => {
    const frame = fc.oneof(fc.nat(9), fc.integer({ min: 2 ** 31 - 2, max: 2 ** 31 + 2 }));
    const step = fc.record({ frame, level: fc.integer({ min: 1, max: 4 }), touch: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), fc.array(step, { maxLength: 40 }), (before, after) => {
        const ram = new Ram(2 ** 32);
        const play = (steps: typeof before): void => {
          for (const { frame, level, touch } of steps) {
            if (touch) ram.write32(frame * 4096, 1);
            expect(ram.peekTable(frame, level)).toBe(ram.peek(frame));
          }
        };
        play(before);
        const snapshot = takeSnapshot(ram);
        play(after);
        restoreSnapshot(snapshot);
        play(after);
      }),
      { numRuns: 30 },
    );
  });

  test('ends where the machine ends', () => {
    expect(() => new Ram(16).write32(16 * 4096, 1)).toThrow(XenBug);
  });
});

describe('the frame table', () => {
  test('agrees with one entry for each frame', () => {
    const change = fc.record({
      at: fc.nat(2047),
      count: fc.integer({ min: 1, max: 1200 }),
      owner: fc.nat(5),
    });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 20 }), (changes) => {
        const frames = new Frames(2048);
        const model = new Array<number>(2048).fill(OWNER_NONE);
        for (const { at, count, owner } of changes) {
          const n = Math.min(count, 2048 - at);
          frames.set(at, n, owner, FRAME_TYPE.writable);
          model.fill(owner, at, at + n);
        }
        expect(model.findIndex((owner, mfn) => frames.owner(mfn) !== owner)).toBe(-1);
      }),
    );
  });

  test('owns nothing outside the machine', () => {
    const frames = new Frames(10);
    expect([frames.owner(-1), frames.owner(10), frames.owner(Number.NaN)]).toEqual([
      OWNER_NONE,
      OWNER_NONE,
      OWNER_NONE,
    ]);
    expect(() => frames.set(9, 2, 1, FRAME_TYPE.none)).toThrow(XenBug);
  });

  test('counts references beyond the owner', () => {
    const frames = new Frames(10);
    frames.set(3, 1, 7, FRAME_TYPE.writable);
    expect([frames.getPage(3, 8), frames.getPage(3, 7), frames.count(3)]).toEqual([false, true, 2]);
    frames.putPage(3);
    expect(frames.count(3)).toBe(1);
    expect(() => frames.putPage(3)).toThrow(XenBug);
  });
});

describe('the heap', () => {
  const make = (count: number) => {
    const frames = new Frames(8192);
    const faults = new Faults();
    const events = new EventStream();
    const heap = new Heap(frames, faults, events);
    heap.addRange({ start: 100, count });
    return { frames, faults, events, heap };
  };

  test('never hands a frame out twice, aligns blocks, and ends where it began', () => {
    const step = fc.record({ order: fc.nat(5), free: fc.boolean(), pick: fc.nat() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const { frames, heap } = make(1000);
        const live: { mfn: number; order: number }[] = [];
        for (const { order, free, pick } of steps) {
          if (free && live.length > 0) {
            const [block] = live.splice(pick % live.length, 1);
            heap.release(block!.mfn, block!.order);
            continue;
          }
          const mfn = heap.alloc(order, 1, FRAME_TYPE.writable);
          if (mfn < 0) continue;
          expect(mfn % 2 ** order).toBe(0);
          for (const b of live) expect(mfn + 2 ** order <= b.mfn || b.mfn + 2 ** b.order <= mfn).toBe(true);
          live.push({ mfn, order });
        }
        const used = live.reduce((sum, b) => sum + 2 ** b.order, 0);
        expect(heap.freeFrames).toBe(1000 - used);
        for (const b of live) heap.release(b.mfn, b.order);
        expect(heap.freeFrames).toBe(heap.totalFrames);
        for (let mfn = 100; mfn < 1100; mfn++) expect(frames.owner(mfn)).toBe(OWNER_FREE);
      }),
    );
  });

  test('joins what was freed in pieces before it gives up', () => {
    const { heap } = make(256);
    const pieces = Array.from({ length: 256 }, () => heap.alloc(0, DOMID.XEN, FRAME_TYPE.xenheap));
    expect(heap.alloc(0, 1, FRAME_TYPE.writable)).toBe(-1);
    for (const mfn of pieces) heap.release(mfn, 0);
    // Frames 100..355 hold one aligned block of 128.
    expect(heap.alloc(7, 1, FRAME_TYPE.writable)).toBe(128);
    expect(heap.alloc(8, 1, FRAME_TYPE.writable)).toBe(-1);
  });

  test('asserts against a double free', () => {
    const { heap } = make(16);
    const mfn = heap.alloc(0, 1, FRAME_TYPE.writable);
    heap.release(mfn, 0);
    expect(() => heap.release(mfn, 0)).toThrow('not freed twice');
  });

  test('fails the allocation that is asked to fail, once', () => {
    const { heap, faults } = make(64);
    faults.failNth(3);
    const got = Array.from({ length: 5 }, () => heap.alloc(0, 1, FRAME_TYPE.writable) >= 0);
    expect(got).toEqual([true, true, false, true, true]);
    expect([faults.hit, faults.passed.get('alloc')]).toEqual([['alloc'], 5]);
    faults.failNth(1, 'flush');
    expect(heap.alloc(0, 1, FRAME_TYPE.writable)).toBeGreaterThan(0);
    faults.disarm();
    expect(faults.on).toBe(false);
  });
});

describe('the event stream', () => {
  test('numbers and stamps events, for as long as somebody listens', () => {
    const events = new EventStream();
    const seen: StampedEvent[] = [];
    events.stamp = () => ({ t: 5, cpu: 1, dom: 2 });
    expect(events.on).toBe(false);
    const detach = events.attach((e) => void seen.push(e));
    events.emit({ kind: 'command', cmd: 'xl list' });
    events.emit({ kind: 'command', cmd: 'xl info' });
    detach();
    detach();
    expect(events.on).toBe(false);
    expect(seen).toEqual([
      { kind: 'command', cmd: 'xl list', seq: 0, t: 5, cpu: 1, dom: 2 },
      { kind: 'command', cmd: 'xl info', seq: 1, t: 5, cpu: 1, dom: 2 },
    ]);
  });
});

describe('memory-mapped registers', () => {
  test('are found by the addresses they cover', () => {
    const device = { read32: () => 0, write32: () => {}, write64: () => {} };
    const map = new MmioMap();
    map.add(0xfed9_0000, 0x1000, device);
    expect(map.find(0xfed9_0fff)?.device).toBe(device);
    expect([map.find(0xfed8_ffff), map.find(0xfed9_1000)]).toEqual([undefined, undefined]);
  });
});
