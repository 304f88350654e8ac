/** Free memory of a part of the machine, as the heap keeps it. */
import type { Copies, CopiesItself, OwnCopy } from './snapshot_copies.js';

/** 1 GiB blocks are the largest. */
export const ORDER_MAX = 18;
/** A bit for each order. */
const ALL = 2 ** (ORDER_MAX + 1) - 1;
const NO_LISTS: readonly (number[] | undefined)[] = Array.from({ length: ORDER_MAX + 1 }, () => undefined);

/** Free blocks whose frame numbers have the same number of bits. */
export class Zone implements CopiesItself {
  /** By order, where there have been any; the last one is handed out first. Changed through `list` alone. */
  readonly free: (number[] | undefined)[] = NO_LISTS.slice();
  freeFrames = 0;
  /** Orders whose lists may have changed since the zone was as in `#since`, a bit each. No part of the state, so hidden. */
  #changed = 0;
  #since: ZoneCopy | undefined = undefined;

  constructor(readonly bits: number) {}

  /** The list of an order, for somebody who changes it now. */
  list(order: number): number[] {
    this.#changed |= 1 << order;
    const there = this.free[order];
    if (there !== undefined) return there;
    const list: number[] = [];
    this.free[order] = list;
    return list;
  }

  /** One more block of an order. Most lists have one: a list that grows from none takes room for seventeen. */
  add(order: number, mfn: number): void {
    this.#changed |= 1 << order;
    const there = this.free[order];
    if (there === undefined) this.free[order] = [mfn];
    else there.push(mfn);
  }

  copyItself(): OwnCopy {
    const copy = new ZoneCopy(this, this.free);
    this.#since = copy;
    this.#changed = 0;
    return { words: [this.free, ...this.free.filter((list) => list !== undefined)], copy };
  }
  /** The lists that changed since, or all of them when the zone was not as in `copy` before. */
  putBack(copy: ZoneCopy): void {
    let orders = this.#since === copy ? this.#changed : ALL;
    for (; orders !== 0; orders &= orders - 1) {
      const order = 31 - Math.clz32(orders & -orders);
      this.refill(order, copy.saved[order]);
    }
    this.#since = copy;
    this.#changed = 0;
  }
  /** The same list where there is one: the memory behind it is needed again. */
  private refill(order: number, saved: readonly number[] | undefined): void {
    const list = this.free[order];
    if (list === undefined || saved === undefined) {
      this.free[order] = saved?.slice();
      return;
    }
    while (list.length > saved.length) list.pop();
    for (let i = 0; i < saved.length; i++) list[i] = saved[i]!;
  }
}

/** The free blocks of a zone in a snapshot. */
class ZoneCopy implements Copies {
  readonly size = 1;
  readonly saved: readonly (readonly number[] | undefined)[];
  constructor(
    private readonly zone: Zone,
    free: readonly (readonly number[] | undefined)[],
  ) {
    this.saved = free.map((list) => list?.slice());
  }
  restore(): void {
    this.zone.putBack(this);
  }
}
