/**
 * Code that may lose the CPU. A `Co<T>` is a generator that yields what it waits for; call it with `yield*`.
 * Plain functions cannot be interrupted. The build erases this edition to a synchronous one (co.sync.ts stands
 * in for this file there): `function*` and `yield*` are dropped and `using x = yield* hold(…)` becomes try and release.
 */
import { assert, XenBug } from '../base/assert.js';
import { LIMITS } from '../base/limits.js';
import type { Clock } from './clock.js';
import type { Cpus, RwGuard, RwLock, SpinLock } from './locks.js';

/** What a vCPU waits for when it gives up the physical CPU: a lock, or only a turn. */
export type YieldPoint = SpinLock | RwGuard | 'pause' | 'preempt';
export type Co<T> = Generator<YieldPoint, T, void>;

/** Which edition this is: the generators, or the erased one. */
export const EDITION: 'co' | 'sync' = 'co';

/** Takes a lock until the end of the enclosing block: `using _ = yield* hold(lock);` */
export function* hold(lock: SpinLock): Co<SpinLock> {
  lock.checkBeforeWait();
  if (lock.cpus.exploring) yield lock;
  while (!lock.isFreeForCurrent()) yield lock;
  lock.acquire();
  return lock;
}

export function* holdRead(lock: RwLock): Co<RwGuard> {
  return yield* holdRw(lock, lock.readGuard);
}

export function* holdWrite(lock: RwLock): Co<RwGuard> {
  return yield* holdRw(lock, lock.writeGuard);
}

function* holdRw(lock: RwLock, guard: RwGuard): Co<RwGuard> {
  lock.checkBeforeWait();
  if (lock.cpus.exploring) yield guard;
  while (!lock.isFree(guard.write)) yield guard;
  lock.acquire(guard.write);
  return guard;
}

/** One turn of a loop that waits for hardware: cpu_relax(). Simulated time moves on by `ns`. */
export function* pause(clock: Clock, ns: number): Co<void> {
  clock.advance(ns);
  yield 'pause';
}

/** Where Xen would check for pending softirqs or preemption; nothing happens unless a schedule is explored. */
export function* preemptPoint(cpus: Cpus): Co<void> {
  if (cpus.exploring) yield 'preempt';
}

/** Runs alone, with no other vCPU: boot, the command line, and tests that are not about races. */
export function runAlone<T>(co: Co<T>): T {
  for (let steps = 0; steps < LIMITS.stepsMax; steps++) {
    const step = co.next();
    if (step.done === true) return step.value;
    assert(
      typeof step.value === 'string',
      `no lock is waited for by a vCPU that runs alone (${describe(step.value)})`,
    );
  }
  throw new XenBug(`still running after ${LIMITS.stepsMax} steps`);
}

export const describe = (at: YieldPoint): string =>
  typeof at === 'string' ? at : 'lock' in at ? at.lock.name : at.name;
