import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { XenBug } from '../../../src/base/assert.js';
import { Rng } from '../../../src/base/rng.js';
import { Clock } from '../../../src/sim/clock.js';
import { EventStream } from '../../../src/sim/events.js';
import { Faults } from '../../../src/sim/faults.js';
import { DOMID, FRAME_TYPE, Frames, Heap } from '../../../src/sim/frames.js';
import { Ram } from '../../../src/sim/ram.js';
import { restoreSnapshot, takeSnapshot } from '../../../src/sim/snapshot.js';
import { dump } from '../../support/graph.js';

class Node {
  a: unknown = undefined;
  private b: unknown = 0;
  change(first: boolean, v: unknown): void {
    if (first) this.a = v;
    else this.b = v;
  }
  getB(): unknown {
    return this.b;
  }
}
class Other {
  readonly x = [1];
  y = 0.5;
}

type Value = unknown;
/** A graph of every kind of object, with cycles, and changes of every kind made to it by one generator. */
class Graph {
  readonly nodes: object[] = [];
  constructor(private readonly rng: Rng) {
    const makers = [
      () => new Node(),
      () => new Other(),
      () => [] as Value[],
      () => new Map<Value, Value>(),
      () => new Set<Value>(),
      () => new Int32Array(1 + rng.below(6)),
      () => new Float64Array(2),
      () => ({}),
      () => Object.create(null) as object,
    ];
    const n = 2 + rng.below(25);
    for (let i = 0; i < n; i++) this.nodes.push(makers[rng.below(makers.length)]!());
    this.nodes.unshift({ all: [...this.nodes] });
  }
  value(): Value {
    const primitives = [undefined, null, true, -0, 0, 1.5, 2 ** 40, 'text', Number.NaN];
    const at = this.rng.below(primitives.length + this.nodes.length);
    return at < primitives.length ? primitives[at] : this.nodes[at - primitives.length];
  }
  /** New objects come in too, and must be gone from the graph afterwards. */
  change(): void {
    const { rng } = this;
    const o = this.nodes[rng.below(this.nodes.length)]!;
    const value = rng.below(8) === 0 ? { fresh: this.value() } : this.value();
    if (o instanceof Node) o.change(rng.below(2) === 0, value);
    else if (o instanceof Other) o.y = rng.below(100) / 7;
    else if (Array.isArray(o)) changeArray(o, rng, value);
    else if (o instanceof Map) changeMap(o, rng, value, this.value());
    else if (o instanceof Set) rng.below(2) === 0 ? o.add(value) : o.delete([...o][0]);
    else if (ArrayBuffer.isView(o)) (o as Float64Array)[rng.below(6)] = rng.below(3) === 0 ? -0 : rng.next();
    else changeDictionary(o as Record<string, Value>, rng, value);
  }
}
function changeArray(a: Value[], rng: Rng, value: Value): void {
  const pick = rng.below(6);
  if (pick === 0) a.push(value);
  else if (pick === 1) a.pop();
  else if (pick === 2) a.length = rng.below(4);
  else if (pick === 3) a.reverse();
  else a[rng.below(5)] = value;
}
function changeMap(m: Map<Value, Value>, rng: Rng, value: Value, key: Value): void {
  if (rng.below(3) === 0) m.delete([...m.keys()][0]);
  else m.set(key, value);
}
function changeDictionary(o: Record<string, Value>, rng: Rng, value: Value): void {
  const keys = ['a', 'b', 'with space', '__proto__', 'constructor', 'a,b', '1'];
  const key = keys[rng.below(keys.length)]!;
  if (rng.below(3) === 0) delete o[key];
  else Object.defineProperty(o, key, { value, writable: true, enumerable: true, configurable: true });
}

describe('restoring', () => {
  test('puts back any graph of objects, as often as asked, whatever happened in between', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(60), fc.nat(60), (seed, before, after) => {
        const rng = new Rng(seed);
        const graph = new Graph(rng);
        const root = graph.nodes[0]!;
        for (let i = 0; i < before; i++) graph.change();
        const was = dump(root);
        const snapshot = takeSnapshot(root);
        expect(dump(root)).toBe(was);
        for (let round = 0; round < 3; round++) {
          for (let i = 0; i < after; i++) graph.change();
          restoreSnapshot(snapshot);
          expect(dump(root)).toBe(was);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('works in the objects themselves, so that references held elsewhere see it', () => {
    const node = new Node();
    const root = { node, list: [node] };
    const snapshot = takeSnapshot(root);
    node.change(false, 'changed');
    root.list.length = 0;
    restoreSnapshot(snapshot);
    expect(node.getB()).toBe(0);
    expect(root.list[0]).toBe(node);
  });

  test('brings back an array that growth has replaced', () => {
    const ram = new Ram(2 ** 20);
    ram.write32(0x1000, 7);
    const { words } = ram;
    const snapshot = takeSnapshot(ram);
    for (let mfn = 0; mfn < 100; mfn++) ram.write32(mfn * 4096 + 8, mfn + 1);
    expect(ram.words).not.toBe(words);
    restoreSnapshot(snapshot);
    expect(ram.words).toBe(words);
    expect([ram.read32(0x1000), ram.read32(0x1008), ram.read32(0x5008), ram.touched]).toEqual([7, 0, 0, 1]);
  });

  test('brings back a machine of memory, frames, heap and clock', () => {
    const machine = {
      frames: new Frames(4096),
      faults: new Faults(),
      events: new EventStream(),
      clock: new Clock(),
    };
    const heap = new Heap(machine.frames, machine.faults, machine.events);
    heap.addRange({ start: 512, count: 2048 });
    const root = { machine, heap };
    const alarm = machine.clock.after(50, () => {});
    const take = () => Array.from({ length: 9 }, (_, i) => heap.alloc(i % 4, 1, FRAME_TYPE.writable));
    const snapshot = takeSnapshot(root);
    const first = take();
    machine.clock.advance(100);
    restoreSnapshot(snapshot);
    expect(machine.clock.nowNs).toBe(0);
    machine.clock.cancel(alarm);
    expect(machine.frames.owner(first[0]!)).toBe(DOMID.INVALID);
    expect(take()).toEqual(first);
  });

  test('keeps the order of a map, a set and the keys of an object', () => {
    const root = {
      map: new Map([
        ['a', 1],
        ['b', 2],
      ]),
      set: new Set([1, 2]),
      dictionary: { a: 1, b: 2 } as Record<string, number>,
    };
    const snapshot = takeSnapshot(root);
    root.map.delete('a');
    root.map.set('a', 1);
    root.set.delete(1);
    root.set.add(1);
    delete root.dictionary.a;
    root.dictionary.a = 1;
    restoreSnapshot(snapshot);
    expect([...root.map.keys()]).toEqual(['a', 'b']);
    expect([...root.set]).toEqual([1, 2]);
    expect(Object.keys(root.dictionary)).toEqual(['a', 'b']);
  });

  test('reaches what a frozen object refers to', () => {
    const inner = { n: 1 };
    const root = Object.freeze({ inner, list: Object.freeze([inner]) });
    const snapshot = takeSnapshot(root);
    inner.n = 2;
    restoreSnapshot(snapshot);
    expect(inner.n).toBe(1);
  });

  test('leaves alone what is constant, functions and accessors', () => {
    const table = { n: 1, row: [1] };
    const calls: number[] = [];
    const root = {
      table,
      f: () => calls.push(1),
      get g(): number {
        calls.push(2);
        return 1;
      },
    };
    const snapshot = takeSnapshot(root, { constants: [{ table }] });
    table.n = 2;
    table.row.push(2);
    restoreSnapshot(snapshot);
    expect(table).toEqual({ n: 2, row: [1, 2] });
    expect(() => takeSnapshot(table, { constants: [root] })).toThrow(XenBug);
    expect(calls).toEqual([]);
  });
});

describe('a machine that is not at rest', () => {
  function* co(): Generator<number> {
    yield 1;
  }
  test.each([
    ['a vCPU in the middle', co(), 'Generator'],
    ['a promise', Promise.resolve(), 'Promise'],
    ['a weak map', new WeakMap(), 'WeakMap'],
    ['words that are no numbers', new BigInt64Array(1), 'BigInt64Array'],
  ])('has %s, which is refused', (_what, held, name) => {
    expect(() => takeSnapshot({ deep: [{ held }] })).toThrow(XenBug);
    expect(() => takeSnapshot({ deep: [{ held }] })).toThrow(name);
  });
});
