/**
 * A map that counts its changes, so that restoring a snapshot need not look into one that has none. It keeps what was
 * looked up last: who asks for a device or a domain mostly asks again. Keys are not negative.
 */
import type { Copies, CopiesItself, OwnCopy } from './snapshot_copies.js';

/** No key. */
const NONE = -1;

export class Table<K extends number, V> extends Map<K, V> implements CopiesItself {
  /** Never goes back; no part of the state, so hidden. */
  #changes = 0;
  /** What get() gave last; no part of the state either. */
  #key: number = NONE;
  #value: V | undefined = undefined;
  get changes(): number {
    return this.#changes;
  }
  override get(key: K): V | undefined {
    return key === this.#key ? this.#value : this.find(key);
  }
  private find(key: K): V | undefined {
    const value = super.get(key);
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
    return super.set(key, value);
  }
  override delete(key: K): boolean {
    this.changed();
    return super.delete(key);
  }
  override clear(): void {
    this.changed();
    super.clear();
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
