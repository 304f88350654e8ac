import { notSo } from '../base/assert.js';
import type { EventStream } from './events.js';

/** One physical CPU and what it runs now: Xen's `current` and `smp_processor_id()`. */
export class Cpu {
  /** The lock taken last; each lock names the one that its holder took before it. */
  top: Lock | undefined = undefined;
  constructor(
    readonly id: number,
    /** Domain whose vCPU runs here: hypercalls are its. */
    public domid = 0,
  ) {}
  /** Locks held, innermost last; a recursive lock stands once. */
  get held(): Lock[] {
    const held: Lock[] = [];
    for (let lock = this.top; lock !== undefined; lock = lock.outerOn(this)) held.unshift(lock);
    return held;
  }
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
/** No CPU has this id. */
const NOBODY = -1;

/** Asserts what a debug Xen asserts before spinning: no recursion where none is allowed, and rising ranks. */
function checkOrder(lock: Lock, cpu: Cpu): void {
  const { top } = cpu;
  if (!ranksAbove(lock, top)) notSo(`${lock.name} ranks above ${top!.name}, held by cpu${cpu.id}`);
}

const ranksAbove = (lock: Lock, top: Lock | undefined): boolean => top === undefined || top.rank < lock.rank;

/** Locks may be given back in any order: takes one out from under others. */
function unlink(lock: Lock, cpu: Cpu): void {
  let inner = cpu.top;
  while (inner !== undefined && inner.outerOn(cpu) !== lock) inner = inner.outerOn(cpu);
  if (inner === undefined) notSo(`${lock.name} is held by cpu${cpu.id}`);
  inner.setOuter(cpu, lock.outerOn(cpu));
}

const tell = (lock: Lock, action: 'acquire' | 'release'): void =>
  lock.cpus.events.emit({ kind: 'lock', lock: lock.name, action });

/** @xen common/spinlock.c, with the recursion of rspin_lock() where `recursive` */
export class SpinLock implements Disposable {
  /** Id of the CPU that holds it, NOBODY else. */
  private holder = NOBODY;
  depth = 0;
  /** The lock that the holder took before this one. */
  private outer: Lock | undefined = undefined;
  constructor(
    readonly cpus: Cpus,
    readonly name: string,
    readonly rank: number,
    readonly recursive = false,
  ) {}
  get owner(): Cpu | undefined {
    return this.holder === NOBODY ? undefined : this.cpus.list[this.holder];
  }
  heldByCurrent(): boolean {
    return this.holder === this.cpus.current.id;
  }
  isFreeForCurrent(): boolean {
    return this.holder === NOBODY || (this.recursive && this.holder === this.cpus.current.id);
  }
  outerOn(_cpu: Cpu): Lock | undefined {
    return this.outer;
  }
  setOuter(_cpu: Cpu, outer: Lock | undefined): void {
    this.outer = outer;
  }
  /** Called before waiting: a re-entry of a plain lock, or a falling rank, is a bug wherever it happens. */
  checkBeforeWait(): void {
    const cpu = this.cpus.current;
    if (this.holder !== cpu.id) checkOrder(this, cpu);
    else if (!this.recursive) notSo(`${this.name} is not taken twice by cpu${cpu.id}`);
  }
  /** Takes the lock; it must be free for the current CPU. */
  acquire(): void {
    const cpu = this.cpus.current;
    if (this.holder === NOBODY) this.enter(cpu);
    else if (this.isFreeForCurrent()) this.depth += 1;
    else notSo(`${this.name} is free for cpu${cpu.id}`);
  }
  private enter(cpu: Cpu): void {
    this.holder = cpu.id;
    this.depth = 1;
    this.outer = cpu.top;
    cpu.top = this;
    if (this.cpus.events.on) tell(this, 'acquire');
  }
  /** The check before waiting and the taking in one step, where nobody else can hold it. */
  take(): void {
    const cpu = this.cpus.current;
    if (this.holder === NOBODY && ranksAbove(this, cpu.top)) this.enter(cpu);
    else {
      this.checkBeforeWait();
      this.acquire();
    }
  }
  release(): void {
    const cpu = this.cpus.current;
    if (this.holder !== cpu.id) notSo(`${this.name} is held by the cpu${cpu.id} that releases it`);
    this.depth -= 1;
    if (this.depth === 0) this.leave(cpu);
  }
  private leave(cpu: Cpu): void {
    this.holder = NOBODY;
    if (cpu.top === this) cpu.top = this.outer;
    else unlink(this, cpu);
    if (this.cpus.events.on) tell(this, 'release');
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
  /** The lock that each holder took before this one, by CPU. */
  private readonly outers: (Lock | undefined)[] = [];
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
  outerOn(cpu: Cpu): Lock | undefined {
    return this.outers[cpu.id];
  }
  setOuter(cpu: Cpu, outer: Lock | undefined): void {
    this.outers[cpu.id] = outer;
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
    this.outers[cpu.id] = cpu.top;
    cpu.top = this;
    if (this.cpus.events.on) tell(this, 'acquire');
  }
  releaseWrite(): void {
    if (this.writer !== this.cpus.current) notSo(`${this.name} is held for writing`);
    this.writer = undefined;
    this.leave(this.cpus.current);
  }
  releaseRead(): void {
    const at = this.readers.indexOf(this.cpus.current);
    if (at < 0) notSo(`${this.name} is held for reading`);
    this.readers.splice(at, 1);
    this.leave(this.cpus.current);
  }
  private leave(cpu: Cpu): void {
    if (cpu.top === this) cpu.top = this.outers[cpu.id];
    else unlink(this, cpu);
    if (this.cpus.events.on) tell(this, 'release');
  }
}
