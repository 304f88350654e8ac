/**
 * Contiguity marks: each entry of a page table records, in bits 55:52, the order of the run of contiguous entries
 * that starts there, as far as its index is aligned. Entry 0 tells whether the table can become one larger page.
 * Empty entries are contiguous with empty ones. @xen arch/x86/include/asm/pt-contig-markers.h
 */
import { assert } from '../../../base/assert.js';
import { getFrame } from '../../../base/layout.js';

/** Entries of a table as an order. @xen CONTIG_LEVEL_SHIFT */
const LEVEL_SHIFT = 9;
const ENTRIES = 1 << LEVEL_SHIFT;
/** Where the mark is in an entry's upper word. @xen DMA_PTE_CONTIG_MASK */
export const MARK_SHIFT = 20;
export const MARK_MASK = 0xf << MARK_SHIFT;

export const PTE_KIND = { null: 0, leaf: 1, table: 2 } as const;

/** Frames covered by one entry of a table at each level. */
export const FRAMES_AT = [0, 1, 512, 512 ** 2, 512 ** 3] as const;
/** Index of a frame in its table at `level`. Up to level 3 the low 32 bits of the frame number decide. */
export const indexAt = (dfn: number, level: number): number =>
  (level <= 3 ? dfn >>> (LEVEL_SHIFT * (level - 1)) : dfn / FRAMES_AT[level]!) & (ENTRIES - 1);

/** Upper words of a new table: 512 entries contiguous in being empty. @xen iommu_alloc_pgtable */
const freshMarks: readonly number[] = Array.from({ length: ENTRIES }, (_, i) =>
  i === 0 ? LEVEL_SHIFT << MARK_SHIFT : trailingZeros(i) << MARK_SHIFT,
);
export function trailingZeros(i: number): number {
  return 31 - Math.clz32(i & -i);
}

/** Puts the marks into a zeroed table at word `base`. */
export function initContigMarks(t: Int32Array, base: number): void {
  for (let i = 0; i < ENTRIES; i += 2) t[base + i * 2 + 1] = freshMarks[i]!;
}

const mark = (t: Int32Array, base: number, i: number): number => (t[base + i * 2 + 1]! >>> MARK_SHIFT) & 0xf;
const setMark = (t: Int32Array, base: number, i: number, m: number): void => {
  const at = base + i * 2 + 1;
  t[at] = (t[at]! & ~MARK_MASK) | (m << MARK_SHIFT);
};

/** Does entry `i` continue what entry `idx` is part of, `2 ** b` entries away? */
function isContig(t: Int32Array, base: number, i: number, idx: number, bit: number, leaf: boolean): boolean {
  const lo = t[base + i * 2]!;
  const hi = t[base + i * 2 + 1]! & ~MARK_MASK;
  if (!leaf) return lo === 0 && hi === 0;
  const otherHi = t[base + idx * 2 + 1]! & ~MARK_MASK;
  // The addresses differ in the one bit that tells the two runs apart.
  return bit < 32
    ? (lo ^ t[base + idx * 2]!) === 1 << bit && hi === otherHi
    : lo === t[base + idx * 2]! && (hi ^ otherHi) === 1 << (bit - 32);
}

/**
 * Entry `idx` of the table at word `base` was just written, without a mark. Brings the marks up to date; true when
 * the whole table is now contiguous. `kind` is PTE_KIND. @xen pt_update_contig_markers
 */
export function ptUpdateContigMarkers(
  t: Int32Array,
  base: number,
  idx: number,
  level: number,
  kind: number,
): boolean {
  assert(mark(t, base, idx) === 0, 'a written entry has no mark yet');
  reduceLower(t, base, idx);
  if (kind === PTE_KIND.table) return false;

  const leaf = kind === PTE_KIND.leaf;
  const shift = 12 + (level - 1) * LEVEL_SHIFT;
  if (leaf && idx !== indexAt(getFrame(t, base + idx * 2), level)) return false;

  // Runs above this entry.
  let b = 0;
  for (; b < LEVEL_SHIFT && (idx & (1 << b)) === 0; b++) {
    const i = idx | (1 << b);
    if (!isContig(t, base, i, idx, b + shift, leaf) || mark(t, base, i) !== b) break;
  }
  // This entry, and the runs below it that it completes.
  let first = idx;
  for (; ; b++) {
    setMark(t, base, first, b);
    if (b >= LEVEL_SHIFT) break;
    const i = first ^ (1 << b);
    if (!isContig(t, base, i, first, b + shift, leaf) || mark(t, base, i) !== b) break;
    first &= ~(1 << b);
  }
  return b === LEVEL_SHIFT;
}

/** Runs that reached over the entry now end before it. */
export function reduceLower(t: Int32Array, base: number, idx: number): void {
  let i = idx;
  while (i !== 0) {
    const b = trailingZeros(i);
    i &= ~(1 << b);
    if (mark(t, base, i) <= b) return;
    setMark(t, base, i, b);
  }
}
