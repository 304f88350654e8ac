/** The reduced exploration comes by every end state, answer and error that the whole one does. */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { kitCalls, smallMachine, starts } from '../../src/check/calls.js';
import { explorePair } from '../../src/check/explore.js';
import type { Vendor } from '../../src/check/machines.js';
import type { World } from '../../src/check/world.js';
import { Accesses } from '../../src/sim/accesses.js';
import { type Co, hold, preemptPoint } from '../../src/sim/co.js';
import { EventStream } from '../../src/sim/events.js';
import { Cpus, SpinLock } from '../../src/sim/locks.js';
import { type Choose, forEverySchedule, run } from '../../src/sim/schedule.js';
import { forEveryClass } from '../../src/sim/schedule_reduced.js';

/** A few words in each kind of container, and two locks. */
class Board {
  readonly events = new EventStream();
  readonly cpus = new Cpus(3, this.events);
  readonly locks = [new SpinLock(this.cpus, 'a', 1), new SpinLock(this.cpus, 'b', 2)];
  readonly words = new Int32Array(2);
  readonly map = new Map<number, number>();
  readonly list: number[] = [];
  readonly part = { x: 0 };
  readonly sums = [{ sum: 0 }, { sum: 0 }, { sum: 0 }];

  reset(): void {
    this.words.fill(0);
    this.map.clear();
    this.list.length = 0;
    this.part.x = 0;
    for (const s of this.sums) s.sum = 0;
  }
  end(): string {
    return JSON.stringify([[...this.words], [...this.map].sort(), this.list, this.part.x, this.sums]);
  }
}

type Op =
  | { readonly do: 'read' | 'write'; readonly at: 0 | 1 | 2 | 3 }
  | { readonly do: 'turn' | 'map' | 'push' };
interface Section {
  readonly lock: 0 | 1 | undefined;
  readonly ops: readonly Op[];
}

function* program(b: Board, cpu: number, sections: readonly Section[]): Co<void> {
  for (const s of sections) {
    if (s.lock === undefined) yield* steps(b, cpu, s.ops);
    else yield* locked(b, cpu, s);
  }
}
function* locked(b: Board, cpu: number, s: Section): Co<void> {
  using _l = yield* hold(b.locks[s.lock!]!);
  yield* steps(b, cpu, s.ops);
}
function* steps(b: Board, cpu: number, ops: readonly Op[]): Co<void> {
  const mine = b.sums[cpu]!;
  for (const op of ops) {
    if (op.do === 'turn') yield* preemptPoint(b.cpus);
    else if (op.do === 'map') b.map.set(cpu % 2, b.map.size + mine.sum);
    else if (op.do === 'push') b.list.push(cpu);
    else if (op.do !== 'read' && op.do !== 'write') continue;
    else if (op.at >= 2) {
      if (op.do === 'read') mine.sum = mine.sum * 3 + b.part.x + (b.map.get(0) ?? 7);
      else b.part.x = mine.sum + cpu + 1;
    } else if (op.do === 'read') mine.sum = mine.sum * 3 + b.words[op.at]!;
    else b.words[op.at] = mine.sum + cpu + 1;
  }
}

const once = (b: Board, programs: readonly (readonly Section[])[], choose: Choose): void => {
  const tasks = programs.map((p, i) => ({ cpu: b.cpus.list[i]!, co: program(b, i, p) }));
  run(b.cpus, tasks, choose);
};

function everyEnd(programs: readonly (readonly Section[])[]): { ends: string[]; runs: number } {
  const ends = new Set<string>();
  const runs = forEverySchedule((choose) => {
    const b = new Board();
    once(b, programs, choose);
    ends.add(b.end());
  });
  return { ends: [...ends].sort(), runs };
}

function reducedEnds(programs: readonly (readonly Section[])[]): { ends: string[]; runs: number } {
  const ends = new Set<string>();
  const b = new Board();
  const accesses = new Accesses(new Set<object>([b.events, b.cpus, ...b.cpus.list]), () => false);
  accesses.watch(b);
  const r = forEveryClass(accesses, false, (steering, finished) => {
    b.reset();
    for (const lock of b.locks) expect(lock.owner).toBeUndefined();
    once(b, programs, steering.choose);
    if (finished()) ends.add(b.end());
    else for (const lock of b.locks) Object.assign(lock, { holder: -1, again: 0 });
    for (const cpu of b.cpus.list) Object.assign(cpu, { topOrder: -1 });
  });
  return { ends: [...ends].sort(), runs: r.schedules + r.redundant };
}

const op: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('read', 'write'), at: fc.constantFrom(0, 1, 2, 3) }),
  },
  { weight: 2, arbitrary: fc.constant({ do: 'turn' } as const) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('map', 'push') }) },
) as fc.Arbitrary<Op>;
const section = fc.record({ lock: fc.constantFrom(undefined, 0, 1), ops: fc.array(op, { maxLength: 4 }) });
const short = fc.array(section, { minLength: 1, maxLength: 2 });

describe('forEveryClass', () => {
  test('comes by every end of random programs of two CPUs, with no more runs', () => {
    let saved = 0;
    fc.assert(
      fc.property(short, short, (a, z) => {
        const all = everyEnd([a, z]);
        const some = reducedEnds([a, z]);
        expect(some.ends).toEqual(all.ends);
        expect(some.runs).toBeLessThanOrEqual(all.runs);
        saved += all.runs - some.runs;
      }),
      { numRuns: 300 },
    );
    expect(saved).toBeGreaterThan(100);
  });

  test('and of three', () => {
    const tiny = fc.array(
      fc.record({ lock: fc.constantFrom(undefined, 0), ops: fc.array(op, { maxLength: 2 }) }),
      {
        minLength: 1,
        maxLength: 1,
      },
    );
    fc.assert(
      fc.property(tiny, tiny, tiny, (a, y, z) => {
        expect(reducedEnds([a, y, z]).ends).toEqual(everyEnd([a, y, z]).ends);
      }),
      { numRuns: 200 },
    );
  });
});

/** Everything that Xen and devices could tell apart. */
function endOf(w: World): string {
  const { frames, heap, ram } = w.machine.hw;
  const { domains, pdevs } = w.machine.xen;
  const hash = createHash('sha1');
  for (let mfn = 0; mfn < 0x3_f000; mfn++) {
    const slot = ram.peek(mfn);
    if (slot === 0) continue;
    hash.update(`${mfn} ${frames.owner(mfn)} `).update(ram.words.subarray(slot * 1024, slot * 1024 + 1024));
  }
  const devices = [...pdevs.values()].map((p) => [p.sbdf, p.domain?.domid, p.broken, p.quarantine]);
  const guests = [...domains.values()].map((d) => [d.domid, d.isDying, d.crashed, d.extents.length]);
  return JSON.stringify([devices, guests, heap.freeFrames, hash.digest('hex')]);
}

const pairs: [Vendor, string, string, string][] = [
  ['vtd', 'with dom0', 'assign to HVM', 'assign to PV'],
  ['vtd', 'with dom0', 'assign to PV', 'destroy PV'],
  ['vtd', 'with dom0', 'assign to HVM', 'populate PV'],
  ['vtd', 'with PV', 'remove device', 'deassign from PV'],
  ['amd', 'with dom0', 'assign to PV', 'destroy PV'],
  ['amd', 'with dom0', 'assign to HVM', 'populate PV'],
  ['amd', 'with PV', 'quarantine', 'deassign from PV'],
];

test.each(pairs)('%s, %s: %s and %s end as under every schedule', (vendor, start, a, z) => {
  const pair = {
    machine: smallMachine(vendor),
    before: starts[start]!,
    calls: [kitCalls[a]!, kitCalls[z]!] as const,
  };
  const all = explorePair(pair, { unreduced: true, adversary: false, ends: endOf });
  const some = explorePair(pair, { adversary: false, ends: endOf });
  expect([...some.ends].sort()).toEqual([...all.ends].sort());
  // With devices that look on, units have recorded more or fewer of their faults.
  const watched = explorePair(pair);
  for (const r of [some, watched]) {
    expect([...r.outcomes.keys()].sort()).toEqual([...all.outcomes.keys()].sort());
    expect(r.schedules).toBeLessThan(all.schedules);
  }
});
