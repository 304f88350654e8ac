/**
 * Bit layouts of 32-bit words inside Int32Array tables.
 * A Field is plain data, so that docs, dumps and tests can list it; the helpers are one line each.
 */
export interface Field {
  readonly word: number;
  readonly lo: number;
  /** Mask of the field's width, not shifted; read as unsigned. */
  readonly mask: number;
}
export type Layout = Readonly<Record<string, Field>>;

/** `bits(0, 3, 2)` is word 0, bits 3:2, written as the manuals write it (high bit first). */
export const bits = (word: number, hi: number, lo = hi): Field => ({
  word,
  lo,
  mask: hi - lo === 31 ? 0xffff_ffff : 2 ** (hi - lo + 1) - 1,
});

/** The field's value, unsigned. `at` is the index of the entry's first word. */
export const get = (t: Int32Array, at: number, f: Field): number =>
  ((t[at + f.word]! >>> f.lo) & f.mask) >>> 0;

export const set = (t: Int32Array, at: number, f: Field, v: number): void => {
  t[at + f.word] = (t[at + f.word]! & ~(f.mask << f.lo)) | ((v & f.mask) << f.lo);
};

/** Bits 51:12 of the word pair at `at`, as a frame number (40 bits, exact). */
export const getFrame = (t: Int32Array, at: number): number =>
  (t[at + 1]! & 0xf_ffff) * 0x10_0000 + (t[at]! >>> 12);

/** Stores a frame number in bits 51:12 of the word pair at `at`, leaving the other bits. */
export const setFrame = (t: Int32Array, at: number, frame: number): void => {
  t[at] = (t[at]! & 0xfff) | ((frame % 0x10_0000) << 12);
  t[at + 1] = (t[at + 1]! & ~0xf_ffff) | (Math.floor(frame / 0x10_0000) & 0xf_ffff);
};

/** `0x` and sixteen digits of a 64-bit word held as two 32-bit words. */
export const hex64 = (lo: number, hi: number): string =>
  `0x${(hi >>> 0).toString(16).padStart(8, '0')}${(lo >>> 0).toString(16).padStart(8, '0')}`;
