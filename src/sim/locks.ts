import { XenBug } from '../base/assert.js';
import type { EventStream } from './events.js';

/** One physical CPU and what it runs now: Xen's `current` and `smp_processor_id()`. */
export class Cpu {
  /** Locks held, innermost last; a recursive lock stands once. */
  readonly held: Lock[] = [];
  constructor(
    readonly id: number,
    /** Domain whose vCPU runs here: hypercalls are its. */
    public domid = 0,
  ) {}
}

/** The CPUs of a machine. The scheduler sets `current` before it resumes a vCPU. */
export class Cpus {
  readonly list: readonly Cpu[];
  current: Cpu;
  /** True while a schedule explorer drives: every `hold` then yields first. */
  exploring = false;
  constructor(
    n: number,
    readonly events: EventStream,
  ) {
    this.list = Array.from({ length: n }, (_, i) => new Cpu(i));
    this.current = this.list[0]!;
  }
}

export type Lock = SpinLock | RwLock;

/** Locks are taken on every path, so that the text of a failed assertion is only made when it is needed. */
function notSo(what: string): never {
  throw new XenBug(`not so: ${what}`);
}

/** Asserts what a debug Xen asserts before spinning: no recursion where none is allowed, and rising ranks. */
function checkOrder(lock: Lock, cpu: Cpu): void {
  const { held } = cpu;
  if (held.length === 0) return;
  const top = held[held.length - 1]!;
  if (top.rank >= lock.rank) notSo(`${lock.name} ranks above ${top.name}, held by cpu${cpu.id}`);
}

function pushHeld(lock: Lock, cpu: Cpu): void {
  cpu.held.push(lock);
  const ev = lock.cpus.events;
  if (ev.on) ev.emit({ kind: 'lock', lock: lock.name, action: 'acquire' });
}

function popHeld(lock: Lock, cpu: Cpu): void {
  const held = cpu.held;
  if (held[held.length - 1] === lock) held.pop();
  else {
    const at = held.lastIndexOf(lock);
    if (at < 0) notSo(`${lock.name} is held by cpu${cpu.id}`);
    held.splice(at, 1);
  }
  const ev = lock.cpus.events;
  if (ev.on) ev.emit({ kind: 'lock', lock: lock.name, action: 'release' });
}

/** @xen common/spinlock.c, with the recursion of rspin_lock() where `recursive` */
export class SpinLock implements Disposable {
  owner: Cpu | undefined = undefined;
  depth = 0;
  constructor(
    readonly cpus: Cpus,
    readonly name: string,
    readonly rank: number,
    readonly recursive = false,
  ) {}
  heldByCurrent(): boolean {
    return this.owner === this.cpus.current;
  }
  isFreeForCurrent(): boolean {
    return this.owner === undefined || (this.recursive && this.owner === this.cpus.current);
  }
  /** Called before waiting: a re-entry of a plain lock, or a falling rank, is a bug wherever it happens. */
  checkBeforeWait(): void {
    const cpu = this.cpus.current;
    if (this.owner !== cpu) checkOrder(this, cpu);
    else if (!this.recursive) notSo(`${this.name} is not taken twice by cpu${cpu.id}`);
  }
  /** Takes the lock; it must be free for the current CPU. */
  acquire(): void {
    const cpu = this.cpus.current;
    if (!this.isFreeForCurrent()) notSo(`${this.name} is free for cpu${cpu.id}`);
    if (this.depth === 0) pushHeld(this, cpu);
    this.owner = cpu;
    this.depth += 1;
  }
  release(): void {
    const cpu = this.cpus.current;
    if (this.depth === 0 || this.owner !== cpu) {
      notSo(`${this.name} is held by the cpu${cpu.id} that releases it`);
    }
    this.depth -= 1;
    if (this.depth > 0) return;
    this.owner = undefined;
    popHeld(this, cpu);
  }
  [Symbol.dispose](): void {
    this.release();
  }
}

/** One side of a rwlock as a guard of `using`. */
export class RwGuard implements Disposable {
  constructor(
    readonly lock: RwLock,
    readonly write: boolean,
  ) {}
  release(): void {
    if (this.write) this.lock.releaseWrite();
    else this.lock.releaseRead();
  }
  [Symbol.dispose](): void {
    this.release();
  }
}

/** @xen common/rwlock.c */
export class RwLock {
  readonly readers: Cpu[] = [];
  writer: Cpu | undefined = undefined;
  readonly readGuard: RwGuard;
  readonly writeGuard: RwGuard;
  constructor(
    readonly cpus: Cpus,
    readonly name: string,
    readonly rank: number,
  ) {
    this.readGuard = new RwGuard(this, false);
    this.writeGuard = new RwGuard(this, true);
  }
  writeHeldByCurrent(): boolean {
    return this.writer === this.cpus.current;
  }
  isFree(write: boolean): boolean {
    return this.writer === undefined && (!write || this.readers.length === 0);
  }
  checkBeforeWait(): void {
    const cpu = this.cpus.current;
    if (this.writer === cpu || this.readers.includes(cpu)) {
      notSo(`${this.name} is not taken twice by cpu${cpu.id}`);
    }
    checkOrder(this, cpu);
  }
  acquire(write: boolean): void {
    if (!this.isFree(write)) notSo(`${this.name} is free`);
    const cpu = this.cpus.current;
    if (write) this.writer = cpu;
    else this.readers.push(cpu);
    pushHeld(this, cpu);
  }
  releaseWrite(): void {
    if (this.writer !== this.cpus.current) notSo(`${this.name} is held for writing`);
    this.writer = undefined;
    popHeld(this, this.cpus.current);
  }
  releaseRead(): void {
    const at = this.readers.indexOf(this.cpus.current);
    if (at < 0) notSo(`${this.name} is held for reading`);
    this.readers.splice(at, 1);
    popHeld(this, this.cpus.current);
  }
}
