/** Base address registers: which there are, how large, and which of their bits software can write (PCI 6.2.5). */

export interface Bar {
  /** 0..5, 6 for the expansion ROM. */
  readonly index: number;
  /** Word of config space; a 64-bit register takes the next one too. */
  readonly word: number;
  readonly kind: 'io' | 'mem32' | 'mem64' | 'rom';
  readonly prefetchable: boolean;
  /** A power of two. */
  readonly bytes: number;
}
export const ROM_INDEX = 6;

/** How many base address words a header of this type has, and where its ROM address is. */
const HEADERS = [
  { bars: 6, rom: 12 },
  { bars: 2, rom: 14 },
  { bars: 1, rom: 0 },
] as const;

/**
 * The implemented registers of a header. `sizes` are the known sizes by index (0: not implemented); where one is
 * unknown it is guessed from the programmed address.
 */
export function headerBars(
  words: Int32Array,
  header: number,
  sizes: readonly (number | undefined)[] | undefined,
): Bar[] {
  const shape = HEADERS[header] ?? { bars: 0, rom: 0 };
  const bars = barsAt(words, 4, shape.bars, sizes, 0);
  if (shape.rom === 0) return bars;
  const value = words[shape.rom]! & ~0x7ff;
  const bytes = powerOfTwo(sizes?.[ROM_INDEX] ?? (value === 0 ? 0 : guessBytes('rom', value >>> 0)));
  if (bytes > 0) bars.push({ index: ROM_INDEX, word: shape.rom, kind: 'rom', prefetchable: false, bytes });
  return bars;
}

/** `count` registers from word `first`; the size of register n is `sizes[offset + n]`. */
export function barsAt(
  words: Int32Array,
  first: number,
  count: number,
  sizes: readonly (number | undefined)[] | undefined,
  offset: number,
): Bar[] {
  const bars: Bar[] = [];
  for (let i = 0; i < count; i++) {
    const value = words[first + i]!;
    const wide = (value & 7) === 4 && i + 1 < count;
    const kind = (value & 1) !== 0 ? 'io' : wide ? 'mem64' : 'mem32';
    const address = kind === 'io' ? (value & ~3) >>> 0 : (value & ~15) >>> 0;
    // Any address above 4 GiB is aligned beyond the largest guess.
    const above = wide && words[first + i + 1] !== 0 && address === 0;
    const guess = value === 0 ? 0 : guessBytes(kind, above ? 2 ** 32 : address);
    const bytes = powerOfTwo(sizes?.[offset + i] ?? guess);
    if (bytes > 0) {
      bars.push({ index: i, word: first + i, kind, prefetchable: (value & 9) === 8, bytes });
    }
    if (wide) i++;
  }
  return bars;
}

/** Largest guess by kind: PCI allows I/O ranges of 256 bytes; beyond these the address says nothing. */
const GUESS_MAX = { io: 256, mem32: 2 ** 24, mem64: 2 ** 28, rom: 2 ** 17 } as const;
const GUESS_UNASSIGNED = { io: 32, mem32: 4096, mem64: 4096, rom: 4096 } as const;

/** A size an address can have: it is naturally aligned, so its lowest set bit bounds the size. */
export function guessBytes(kind: Bar['kind'], address: number): number {
  if (address === 0) return GUESS_UNASSIGNED[kind];
  let bytes = 4;
  while (bytes < GUESS_MAX[kind] && address % (bytes * 2) === 0) bytes *= 2;
  return bytes;
}

const powerOfTwo = (n: number): number => {
  if (!(n > 0)) return 0;
  let p = 4;
  while (p < n) p *= 2;
  return p;
};

/** Writable bits of the register's first word, and of its second one for a 64-bit register. */
export function barMask(bar: Bar): readonly [number, number] {
  // The halves of minus the size.
  const low = ~(bar.bytes - 1);
  switch (bar.kind) {
    case 'io':
      return [low & ~3, 0];
    case 'mem32':
      return [low & ~15, 0];
    case 'mem64':
      return [low & ~15, ~Math.floor((bar.bytes - 1) / 2 ** 32)];
    case 'rom':
      // Bit 0 enables the ROM.
      return [(low & ~0x7ff) | 1, 0];
  }
}

/** Where software put it; the configuration space begins at `words[at]`. */
export function barAddress(words: Int32Array, at: number, bar: Bar): number {
  const low = (words[at + bar.word]! & barMask(bar)[0] & ~1) >>> 0;
  return bar.kind === 'mem64' ? (words[at + bar.word + 1]! >>> 0) * 2 ** 32 + low : low;
}
