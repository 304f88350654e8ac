import { notSo } from '../base/assert.js';
import type { EventStream } from './events.js';

/** No CPU has this id. */
const NOBODY = -1;
/** The place of a lock in the order: its rank as a small integer. Fractions of ranks tell locks of one kind apart. */
const orderOf = (rank: number): number => Math.round(rank * 0x1_0000);
/** Before all locks. */
const NONE = -1;

/** One physical CPU and what it runs now: Xen's `current` and `smp_processor_id()`. */
export class Cpu {
  /** The lock taken last; each lock names the one that its holder took before it. */
  top: Lock | undefined = undefined;
  /** Its place in the order, NONE while none is held. */
  topOrder = NONE;
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
    const list: Cpu[] = [];
    for (let i = 0; i < n; i++) list.push(new Cpu(i));
    this.list = list;
    this.current = list[0]!;
  }
}

export type Lock = SpinLock | RwLock;

/** Asserts what a debug Xen asserts before spinning: no recursion where none is allowed, and rising ranks. */
function checkOrder(lock: Lock, cpu: Cpu): void {
  if (lock.order <= cpu.topOrder) notSo(`${lock.name} ranks above ${cpu.top!.name}, held by cpu${cpu.id}`);
}

/** Locks may be given back in any order: takes one out from under others. */
function unlink(lock: Lock, cpu: Cpu): void {
  let inner = cpu.top;
  while (inner !== undefined && inner.outerOn(cpu) !== lock) inner = inner.outerOn(cpu);
  if (inner === undefined) notSo(`${lock.name} is held by cpu${cpu.id}`);
  inner.setOuter(cpu, lock.outerOn(cpu));
}

function notHeld(lock: SpinLock, cpu: Cpu): never {
  notSo(`${lock.name} is held by the cpu${cpu.id} that releases it`);
}

const placeOf = (lock: Lock | undefined): number => lock?.order ?? NONE;

const tell = (lock: Lock, action: 'acquire' | 'release'): void =>
  lock.cpus.events.emit({ kind: 'lock', lock: lock.name, action });

/** @xen common/spinlock.c, with the recursion of rspin_lock() where `recursive` */
export class SpinLock implements Disposable {
  /** Id of the CPU that holds it, NOBODY else. */
  private holder = NOBODY;
  /** How often its holder has taken it again. */
  private again = 0;
  readonly order: number;
  /** The lock that the holder took before this one, and its place in the order. */
  private outer: Lock | undefined = undefined;
  private outerOrder = NONE;
  constructor(
    readonly cpus: Cpus,
    readonly name: string,
    rank: number,
    readonly recursive = false,
  ) {
    this.order = orderOf(rank);
  }
  /** How often it must be given back. */
  get depth(): number {
    return this.holder === NOBODY ? 0 : this.again + 1;
  }
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
    this.outerOrder = placeOf(outer);
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
    else if (this.isFreeForCurrent()) this.again += 1;
    else notSo(`${this.name} is free for cpu${cpu.id}`);
  }
  private enter(cpu: Cpu): void {
    this.holder = cpu.id;
    this.outer = cpu.top;
    this.outerOrder = cpu.topOrder;
    cpu.top = this;
    cpu.topOrder = this.order;
    if (this.cpus.events.on) tell(this, 'acquire');
  }
  /** The check before waiting and the taking in one step, where nobody else can hold it. */
  take(): void {
    const cpu = this.cpus.current;
    if (this.holder === NOBODY && this.order > cpu.topOrder) this.enter(cpu);
    else this.takeAgain();
  }
  private takeAgain(): void {
    this.checkBeforeWait();
    this.acquire();
  }
  release(): void {
    const cpu = this.cpus.current;
    if (this.holder !== cpu.id) notHeld(this, cpu);
    if (this.again === 0) this.leave(cpu);
    else this.again -= 1;
  }
  private leave(cpu: Cpu): void {
    this.holder = NOBODY;
    if (cpu.top === this) {
      cpu.top = this.outer;
      cpu.topOrder = this.outerOrder;
    } else unlink(this, cpu);
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
  readonly order: number;
  readonly readGuard: RwGuard;
  readonly writeGuard: RwGuard;
  constructor(
    readonly cpus: Cpus,
    readonly name: string,
    rank: number,
  ) {
    this.order = orderOf(rank);
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
    cpu.topOrder = this.order;
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
    if (cpu.top === this) {
      cpu.top = this.outers[cpu.id];
      cpu.topOrder = placeOf(cpu.top);
    } else unlink(this, cpu);
    if (this.cpus.events.on) tell(this, 'release');
  }
}
