/** xorshift32: one seed decides everything. State 0 is not allowed, so seed 0 is mapped to a constant. */
export class Rng {
  private s: number;
  constructor(seed: number) {
    this.s = seed | 0 || 0x9e37_79b9;
  }
  /** The next 32 bits, unsigned. */
  next(): number {
    let s = this.s;
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    this.s = s;
    return s >>> 0;
  }
  /** Uniform enough in [0, n), n <= 2^32. */
  below(n: number): number {
    return this.next() % n;
  }
}
