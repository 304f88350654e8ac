/**
 * Arrays that machines gave back, all zero, for the next ones: what the processor still has in its caches is cleared in
 * a fraction of the time that fresh memory takes to make and to collect. It is the one thing that machines share, and
 * nothing that a machine does depends on it.
 */

import { XenBug } from '../base/assert.js';

/** Somebody still uses a machine that was disposed of. */
export function refuseDisposed(what: string): never {
  throw new XenBug(`${what} is asked of a machine that was disposed of`);
}

/** So many are kept; where machines follow one another one is enough. */
const KEPT_MAX = 4;
/** Larger ones are left to the collector. */
const BYTES_MAX = 4 * 2 ** 20;

export class Spares<T> {
  private readonly kept: { readonly frames: number; readonly arrays: T }[] = [];

  /** Makes them where nobody gave any back. */
  constructor(private readonly make: (frames: number) => T) {}

  /** Arrays of a machine with as many frames. */
  take(frames: number): T {
    const { kept } = this;
    for (let i = kept.length - 1; i >= 0; i--) {
      const { arrays, frames: had } = kept[i]!;
      if (had !== frames) continue;
      kept[i] = kept[kept.length - 1]!;
      kept.pop();
      return arrays;
    }
    return this.make(frames);
  }
  /** All words of `arrays` are zero, and nobody refers to them any more. */
  give(frames: number, arrays: T, bytes: number): void {
    if (bytes > BYTES_MAX) return;
    if (this.kept.length === KEPT_MAX) this.kept.shift();
    this.kept.push({ frames, arrays });
  }
}
