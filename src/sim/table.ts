/** A map that counts its changes, so that restoring a snapshot need not look into one that has none. */
import type { Copies, CopiesItself, OwnCopy } from './snapshot_copies.js';

export class Table<K, V> extends Map<K, V> implements CopiesItself {
  /** Never goes back; no part of the state, so hidden. */
  #changes = 0;
  get changes(): number {
    return this.#changes;
  }
  override set(key: K, value: V): this {
    this.#changes += 1;
    return super.set(key, value);
  }
  override delete(key: K): boolean {
    this.#changes += 1;
    return super.delete(key);
  }
  override clear(): void {
    this.#changes += 1;
    super.clear();
  }
  copyItself(): OwnCopy {
    return { words: [], copy: new TableCopy(this) };
  }
}

class TableCopy<K, V> implements Copies {
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
