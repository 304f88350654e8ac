import { assert } from '../../base/assert.js';

/** Bits of a state: two words less the bit that marks a slot of the visited set as taken. */
const MAX_BITS = 63;

/** One variable of a state: `bits` from bit `shift` of word `word`. */
export interface Field {
  readonly word: 0 | 1;
  readonly shift: number;
  readonly mask: number;
}

/** Deals out the bits of a state, none of which lies across two words. */
export class FieldLayout {
  private used = 0;

  /** A variable that holds 0 to `max`. */
  field(max: number): Field {
    const bits = 32 - Math.clz32(max);
    if (this.used < 32 && this.used + bits > 32) this.used = 32;
    const shift = this.used % 32;
    const word = this.used < 32 ? 0 : 1;
    this.used += bits;
    assert(this.used <= MAX_BITS, `a state of ${this.used} bits is too wide`);
    return { word, shift, mask: 2 ** bits - 1 };
  }

  fields(count: number, max: number): Field[] {
    return Array.from({ length: count }, () => this.field(max));
  }
}

/** A state as two 32-bit words, so that millions of them are kept whole and compared exactly. */
export class PackedState {
  lo = 0;
  hi = 0;

  get(f: Field): number {
    return ((f.word === 0 ? this.lo : this.hi) >>> f.shift) & f.mask;
  }

  set(f: Field, value: number): void {
    const clear = ~(f.mask << f.shift);
    if (f.word === 0) this.lo = (this.lo & clear) | (value << f.shift);
    else this.hi = (this.hi & clear) | (value << f.shift);
  }
}
