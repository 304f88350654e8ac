import fc from 'fast-check';
/** The parts of a machine that copy themselves: what must be noticed for that to be right. */
import { describe, expect, test } from 'vitest';
import { contextGlobal, iotlbGlobal } from '../../src/iommu/hw/vtd/caches.js';
import { DOMID, FRAME_TYPE, Frames } from '../../src/sim/frames.js';
import { Ram } from '../../src/sim/ram.js';
import { restoreSnapshot, takeSnapshot } from '../../src/sim/snapshot.js';
import { Table } from '../../src/sim/table.js';
import { dump } from '../support/graph.js';
import { Rig } from '../support/vtd_rig.js';

/** A machine goes back to what it was: to the snapshot it came from, and to one from before that one. */
function goesBack(root: object, ...changes: (() => void)[]): void {
  const first = { text: dump(root), snapshot: takeSnapshot(root) };
  for (const change of changes) {
    change();
    restoreSnapshot(first.snapshot);
    expect(dump(root)).toBe(first.text);
    change();
    const second = { text: dump(root), snapshot: takeSnapshot(root) };
    for (const other of changes) {
      other();
      restoreSnapshot(second.snapshot);
      expect(dump(root)).toBe(second.text);
    }
    for (const back of [first, second, first]) {
      restoreSnapshot(back.snapshot);
      expect(dump(root)).toBe(back.text);
    }
  }
}

describe('memory goes back', () => {
  test('when frames were written, zeroed, touched for the first time, and beyond what there was room for', () => {
    const ram = new Ram(2 ** 24);
    ram.write32(0x5000, 7);
    ram.write32(0x6000, 8);
    goesBack(
      { ram },
      () => ram.write32(0x5008, 9),
      () => ram.clearFrame(6),
      () => ram.write8(0x7001, 3),
      () => {
        for (let mfn = 0; mfn < 80; mfn++) ram.write32(mfn * 4096, mfn + 1);
      },
      () => ram.write32(0x1234_5000, 1),
    );
  });

  test('where somebody writes who has kept the place of a frame', () => {
    const ram = new Ram(2 ** 20);
    const at = ram.hold(5) * 1024;
    goesBack({ ram }, () => {
      ram.words[at + 3]! += 1;
    });
  });

  test('of hardware that sees only what is written back', () => {
    const ram = new Ram(2 ** 20);
    const seen = ram.withUnsnooped();
    ram.write32(0x5000, 7);
    ram.writeBack(5, 0, 1);
    goesBack({ ram }, () => {
      ram.write32(0x5000, seen.read32(0x5000) + 1);
      ram.writeBack(5, 0, 1);
    });
  });
});

test('the frame table goes back when frames of one piece, of many, and of new ones changed hands', () => {
  const frames = new Frames(2 ** 16);
  frames.set(0, 2 ** 16, DOMID.INVALID, FRAME_TYPE.none);
  frames.set(3, 1, 1, FRAME_TYPE.writable);
  goesBack(
    { frames },
    () => frames.set(4, 1, 2, FRAME_TYPE.writable),
    () => frames.set(512, 1024, 3, FRAME_TYPE.writable),
    () => frames.set(0, 1024, 3, FRAME_TYPE.writable),
    () => {
      for (let mfn = 0; mfn < 20; mfn++) frames.set(mfn * 512 + 7, 1, 4, FRAME_TYPE.writable);
    },
    () => frames.set(600, 3000, 5, FRAME_TYPE.writable),
  );
});

test('a table goes back, in the order it had, when entries were added, replaced, moved and taken away', () => {
  const table = new Table<number, object>();
  for (let i = 0; i < 4; i++) table.set(i, { i });
  goesBack(
    { table },
    () => table.set(9, {}),
    () => table.set(1, {}),
    () => {
      const again = table.get(0)!;
      table.delete(0);
      table.set(0, again);
    },
    () => table.delete(2),
    () => table.clear(),
  );
});

test('a table answers as a map does, whatever was looked up before a change', () => {
  const step = fc.tuple(fc.constantFrom('get', 'set', 'delete', 'clear', 'back'), fc.nat(2));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const table = new Table<number, object>();
      let map = new Map<number, object>();
      const { copy } = table.copyItself();
      for (const [what, key] of steps) {
        const value = { key };
        if (what === 'set') for (const m of [table, map]) m.set(key, value);
        else if (what === 'delete') for (const m of [table, map]) m.delete(key);
        else if (what === 'clear') for (const m of [table, map]) m.clear();
        else if (what === 'back') {
          copy.restore();
          map = new Map();
        }
        expect(table.get(key)).toBe(map.get(key));
      }
    }),
  );
});

test('a table of thousands answers as a map does, and goes back', () => {
  const key = fc.oneof(
    fc.nat(0xffff),
    fc.nat(3),
    fc.integer({ min: 0xfffe, max: 0x1_0002 }),
    fc.integer({ min: -3, max: -1 }),
  );
  const step = fc.tuple(fc.constantFrom('set', 'delete', 'clear', 'back'), key);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.nat(3000), (steps, many) => {
      const entries = Array.from({ length: many }, (_, i) => [(i * 23) % 0x1_0003, { i }] as const);
      const table = new Table<number, object>();
      for (const [at, value] of entries) table.set(at, value);
      const start = new Map(table);
      let map = new Map(start);
      const { copy } = table.copyItself();
      for (const [what, at] of steps) {
        const value = { at };
        if (what === 'set') for (const m of [table, map]) m.set(at, value);
        else if (what === 'delete') for (const m of [table, map]) m.delete(at);
        else if (what === 'clear') for (const m of [table, map]) m.clear();
        else {
          copy.restore();
          map = new Map(start);
        }
        for (const k of [at, -1, 0, 23, 0xffff, 0x1_0000]) expect(table.get(k)).toBe(map.get(k));
      }
      for (const [at] of entries) if (table.get(at) !== map.get(at)) expect.fail(`${at}`);
      expect([...table.keys()]).toEqual([...map.keys()]);
    }),
    { numRuns: 50 },
  );
});

test('the caches of a unit go back when they were filled, emptied and made larger', () => {
  const rig = new Rig().on();
  const root = rig.frame();
  rig.context(0x10, { root });
  rig.map(root, 4, 5, 77);
  rig.map(root, 4, 6, 78);
  const { unit } = rig;
  const read = (rid: number, dfn: number): void => void unit.translate(rid, dfn, false);
  read(0x10, 5);
  iotlbGlobal(unit);
  contextGlobal(unit);
  goesBack(
    { unit },
    () => read(0x10, 6),
    () => {
      read(0x10, 5);
      iotlbGlobal(unit);
    },
    () => {
      read(0x10, 6);
      contextGlobal(unit);
    },
    () => {
      // What was cached stays behind in the array that is replaced.
      read(0x10, 5);
      rig.context(0x18, { root, did: 0x1234 });
      read(0x18, 5);
      iotlbGlobal(unit);
      contextGlobal(unit);
    },
  );
});

test('memory goes back where a unit writes the status of waits, again and again to one place', () => {
  const rig = new Rig().on().queue();
  const at = rig.frame() * 4096 + 8;
  let data = 0;
  const wait = (): void => rig.submit(0x25, ++data, at, 0);
  wait();
  goesBack({ rig }, wait);
});

test('memory that grew leaves nothing behind in slots that another snapshot does not have', () => {
  const ram = new Ram(4096);
  const fill = (from: number, to: number): void => {
    for (let mfn = from; mfn < to; mfn++)
      for (let w = 0; w < 1024; w += 100) ram.write32(mfn * 4096 + w * 4, -1);
  };
  fill(0, 5);
  const small = takeSnapshot(ram);
  fill(5, 20);
  const large = takeSnapshot(ram);
  fill(20, 30);
  restoreSnapshot(small);
  restoreSnapshot(large);
  ram.write32(40 * 4096, 7);
  expect([0, 400, 800].map((at) => ram.read32(40 * 4096 + at))).toEqual([7, 0, 0]);
});
