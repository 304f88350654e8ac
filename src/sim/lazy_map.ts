/** Maps and sets that most of their owners never write to: there is none until somebody does. */

/** A map that most of its owners never write to. */
export class LazyMap<K, V> {
  private map: Map<K, V> | undefined = undefined;
  get size(): number {
    return this.map?.size ?? 0;
  }
  get(key: K): V | undefined {
    return this.map?.get(key);
  }
  has(key: K): boolean {
    return this.map?.has(key) ?? false;
  }
  set(key: K, value: V): void {
    this.map ??= new Map();
    this.map.set(key, value);
  }
  delete(key: K): boolean {
    return this.map?.delete(key) ?? false;
  }
  keys(): Iterable<K> {
    return this.map?.keys() ?? NOTHING;
  }
  values(): Iterable<V> {
    return this.map?.values() ?? NOTHING;
  }
  [Symbol.iterator](): Iterator<[K, V]> {
    return (this.map ?? NOTHING)[Symbol.iterator]();
  }
}
const NOTHING: readonly never[] = Object.freeze([]);

/** A set that most of its owners never write to. */
export class LazySet<T> {
  private set: Set<T> | undefined = undefined;
  has(value: T): boolean {
    return this.set?.has(value) ?? false;
  }
  add(value: T): void {
    this.set ??= new Set();
    this.set.add(value);
  }
  delete(value: T): boolean {
    return this.set?.delete(value) ?? false;
  }
  [Symbol.iterator](): Iterator<T> {
    return (this.set ?? NOTHING)[Symbol.iterator]();
  }
}
