import { notSo } from '../base/assert.js';
import type { EventStream } from './events.js';
import { RANK } from './lock_ranks.js';
import { refuseDisposed } from './spare.js';

/** No CPU has this id. */
const NOBODY = -1;
/** The place of a lock in the order: its rank as a small integer. Fractions of ranks tell locks of one kind apart. */
const orderOf = (rank: number): number => Math.round(rank * 0x1_0000);
/** Before all locks. */
const NONE = -1;
/** Behind all locks: a CPU that is here takes none. */
const STOPPED = 0x3fff_ffff;
/** The rank of a place in the order, by name. */
const rankOf = (order: number): string =>
  Object.entries(RANK).find(([, rank]) => rank === Math.floor(order / 0x1_0000))?.[0] ??
  `${order / 0x1_0000}`;

/** One physical CPU and what it runs now: Xen's `current` and `smp_processor_id()`. */
export class Cpu {
  /** Place in the order of the lock taken last, NONE while none is held; each lock keeps the place before its own. */
  topOrder = NONE;
  constructor(
    readonly id: number,
    /** Domain whose vCPU runs here: hypercalls are its. */
    public domid = 0,
  ) {}
  get holdsLocks(): boolean {
    return this.topOrder !== NONE;
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
  /** No lock of the machine is taken any more. */
  stop(): void {
    for (const cpu of this.list) cpu.topOrder = STOPPED;
  }
}

type Lock = SpinLock | RwLock;

/** Asserts what a debug Xen asserts before spinning: no recursion where none is allowed, and rising ranks. */
function checkOrder(lock: Lock, cpu: Cpu): void {
  if (cpu.topOrder === STOPPED) refuseDisposed(lock.name);
  if (lock.order <= cpu.topOrder)
    notSo(`${lock.name} ranks above ${rankOf(cpu.topOrder)}, held by cpu${cpu.id}`);
}

function notHeld(lock: SpinLock, cpu: Cpu): never {
  notSo(`${lock.name} is held by the cpu${cpu.id} that releases it`);
}

/** The lock taken last is given back first, as the blocks that hold locks lie in one another. */
function pop(lock: Lock, cpu: Cpu, outerOrder: number): void {
  if (cpu.topOrder !== lock.order) notSo(`${lock.name} was taken last by cpu${cpu.id}`);
  cpu.topOrder = outerOrder;
}

const tell = (lock: Lock, action: 'acquire' | 'release'): void =>
  lock.cpus.events.emit({ kind: 'lock', lock: lock.name, action });

/** @xen common/spinlock.c, with the recursion of rspin_lock() where `recursive` */
export class SpinLock implements Disposable {
  // What taking and giving back read stands first, so that it lies together in memory.
  /** Id of the CPU that holds it, NOBODY else. */
  private holder = NOBODY;
  /** How often its holder has taken it again. */
  private again = 0;
  /** Place in the order of the lock that the holder took before this one. */
  private outerOrder = NONE;
  readonly order: number;
  private readonly kind: string;
  readonly recursive: boolean;
  /** The domain whose lock it is: only who asks for the name needs it put together. */
  readonly domid: number;
  constructor(
    readonly cpus: Cpus,
    kind: string,
    rank: number,
    recursive = false,
    domid = NOBODY,
  ) {
    this.order = orderOf(rank);
    this.kind = kind;
    this.recursive = recursive;
    this.domid = domid;
  }
  get name(): string {
    return this.domid === NOBODY ? this.kind : `d${this.domid}.${this.kind}`;
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
    this.outerOrder = cpu.topOrder;
    cpu.topOrder = this.order;
    if (this.cpus.events.on) tell(this, 'acquire');
  }
  /** Nobody holds it, and the current CPU none that ranks above it. */
  mayTake(): boolean {
    return this.holder === NOBODY && this.order > this.cpus.current.topOrder;
  }
  /** The check before waiting and the taking in one step, where nobody else can hold it. */
  take(): void {
    if (this.mayTake()) this.enter(this.cpus.current);
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
    pop(this, cpu, this.outerOrder);
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
  /** Place in the order of the lock that each holder took before this one, by CPU. */
  private readonly outers: number[] = [];
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
    this.outers[cpu.id] = cpu.topOrder;
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
    pop(this, cpu, this.outers[cpu.id]!);
    if (this.cpus.events.on) tell(this, 'release');
  }
}
