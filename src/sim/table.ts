/**
 * A map that counts its changes, so that restoring a snapshot need not look into one that has none. It keeps what was
 * looked up last: who asks for a device or a domain mostly asks again.
 */
import type { Copies, CopiesItself, OwnCopy } from './snapshot_copies.js';

/** Lower than any key; -1 may be one, as the interrupt of a pirq that has none. */
const NONE = -0x4000_0000;
/** Tables of so many entries also find them in an array: that is one cache line to touch, a map is three. */
const MANY = 1024;
/** Keys from here on, and negative ones, are in the map alone. */
const NEAR_KEYS = 0x1_0000;

function enter<V>(near: (V | undefined)[], key: number, value: V | undefined): void {
  if (key < 0 || key >= NEAR_KEYS) return;
  while (near.length <= key) near.push(undefined);
  near[key] = value;
}

export class Table<K extends number, V> extends Map<K, V> implements CopiesItself {
  /** Never goes back; no part of the state, so hidden. */
  #changes = 0;
  /** What get() gave last; no part of the state either. */
  #key: number = NONE;
  #value: V | undefined = undefined;
  /** Entries by key, once there are many. */
  #near: (V | undefined)[] | undefined = undefined;
  get changes(): number {
    return this.#changes;
  }
  override get(key: K): V | undefined {
    return key === this.#key ? this.#value : this.find(key);
  }
  private find(key: K): V | undefined {
    const near = this.#near;
    const value = near !== undefined && key >= 0 && key < near.length ? near[key] : super.get(key);
    this.#key = value === undefined ? NONE : key;
    this.#value = value;
    return value;
  }
  private changed(): void {
    this.#changes += 1;
    this.#key = NONE;
    this.#value = undefined;
  }
  override set(key: K, value: V): this {
    this.changed();
    super.set(key, value);
    if (this.#near !== undefined) enter(this.#near, key, value);
    else if (this.size >= MANY) this.makeNear();
    return this;
  }
  override delete(key: K): boolean {
    this.changed();
    if (this.#near !== undefined) enter(this.#near, key, undefined);
    return super.delete(key);
  }
  override clear(): void {
    this.changed();
    this.#near = undefined;
    super.clear();
  }
  private makeNear(): void {
    const near: (V | undefined)[] = [];
    for (const [key, value] of this) enter(near, key, value);
    this.#near = near;
  }
  copyItself(): OwnCopy {
    return { words: [], copy: new TableCopy(this) };
  }
}

class TableCopy<K extends number, V> implements Copies {
  readonly size = 1;
  private readonly saved: readonly (readonly [K, V])[];
  /** The table holds what is saved as long as it counts so many changes. */
  private changes: number;
  constructor(private readonly table: Table<K, V>) {
    this.saved = [...table];
    this.changes = table.changes;
  }
  restore(): void {
    const { table } = this;
    if (table.changes === this.changes) return;
    table.clear();
    for (const [key, value] of this.saved) table.set(key, value);
    this.changes = table.changes;
  }
}
