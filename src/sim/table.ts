/**
 * A map that counts its changes, so that restoring a snapshot need not look into one that has none. It keeps what was
 * looked up last: who asks for a device or a domain mostly asks again.
 */
import type { Copies, CopiesItself, OwnCopy } from './snapshot_copies.js';

/** Lower than any key; -1 may be one, as the interrupt of a pirq that has none. */
const NONE = -0x4000_0000;
/** Tables of so many entries also find them by pages of 256 keys: a page is one cache line to touch, a map is three. */
const PAGED_MIN = 1024;
/** Keys from here on, and negative ones, are on no page. */
const PAGED_KEYS = 0x1_0000;

function onPage(key: number): boolean {
  return key >= 0 && key < PAGED_KEYS;
}

export class Table<K extends number, V> extends Map<K, V> implements CopiesItself {
  /** Never goes back; no part of the state, so hidden. */
  #changes = 0;
  /** What get() gave last; no part of the state either. */
  #key: number = NONE;
  #value: V | undefined = undefined;
  /** Entries by the upper and lower eight bits of their keys, once there are many. */
  #pages: (V | undefined)[][] | undefined = undefined;
  get changes(): number {
    return this.#changes;
  }
  override get(key: K): V | undefined {
    return key === this.#key ? this.#value : this.find(key);
  }
  private find(key: K): V | undefined {
    const pages = this.#pages;
    const value = pages !== undefined && onPage(key) ? pages[key >>> 8]![key & 0xff] : super.get(key);
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
    if (this.#pages !== undefined) this.enter(this.#pages, key, value);
    else if (this.size >= PAGED_MIN) this.makePages();
    return this;
  }
  override delete(key: K): boolean {
    this.changed();
    if (this.#pages !== undefined) this.enter(this.#pages, key, undefined);
    return super.delete(key);
  }
  override clear(): void {
    this.changed();
    this.#pages = undefined;
    super.clear();
  }
  private makePages(): void {
    const pages = Array.from({ length: PAGED_KEYS / 256 }, () => [] as (V | undefined)[]);
    for (const [key, value] of this) this.enter(pages, key, value);
    this.#pages = pages;
  }
  private enter(pages: (V | undefined)[][], key: number, value: V | undefined): void {
    if (!onPage(key)) return;
    const page = pages[key >>> 8]!;
    while (page.length < 256) page.push(undefined);
    page[key & 0xff] = value;
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
