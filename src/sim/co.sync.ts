/**
 * The synchronous edition of co.ts: one vCPU, nothing to wait for. The build puts this file in its place.
 * `hold` asserts that the lock is free, since nobody could ever release it.
 */
import type { Clock } from './clock.js';
import type { Cpus, RwGuard, RwLock, SpinLock } from './locks.js';

export type YieldPoint = never;
export type Co<T> = T;

export const EDITION: 'co' | 'sync' = 'sync';

export function hold(lock: SpinLock): SpinLock {
  lock.take();
  return lock;
}

export function holdRead(lock: RwLock): RwGuard {
  lock.checkBeforeWait();
  lock.acquire(false);
  return lock.readGuard;
}

export function holdWrite(lock: RwLock): RwGuard {
  lock.checkBeforeWait();
  lock.acquire(true);
  return lock.writeGuard;
}

export function pause(clock: Clock, ns: number): void {
  clock.advance(ns);
}

export function preemptPoint(_cpus: Cpus): void {}

export function runAlone<T>(value: T): T {
  return value;
}

export const describe = (at: YieldPoint): string => String(at);
