/**
 * Contiguity marks: each entry of a page table records, in bits 55:52, the order of the run of contiguous entries
 * that starts there, as far as its index is aligned. Entry 0 tells whether the table can become one larger page.
 * Empty entries are contiguous with empty ones. @xen arch/x86/include/asm/pt-contig-markers.h
 */
import { notSo } from '../../../base/assert.js';

/** Entries of a table as an order. @xen CONTIG_LEVEL_SHIFT */
const LEVEL_SHIFT = 9;
const ENTRIES = 1 << LEVEL_SHIFT;
/** Where the mark is in an entry's upper word. @xen DMA_PTE_CONTIG_MASK */
export const MARK_SHIFT = 20;
export const MARK_MASK = 0xf << MARK_SHIFT;
const ONE_MARK = 1 << MARK_SHIFT;
const TABLE_WORDS = 2 * ENTRIES;

export const PTE_KIND = { null: 0, leaf: 1, table: 2 } as const;

/** Frames covered by one entry of a table at each level. */
export const FRAMES_AT = [0, 1, 512, 512 ** 2, 512 ** 3] as const;
/** Index of a frame in its table at `level`. Up to level 3 the low 32 bits of the frame number decide. */
export const indexAt = (dfn: number, level: number): number =>
  (level <= 3 ? dfn >>> (LEVEL_SHIFT * (level - 1)) : dfn / 0x800_0000) & (ENTRIES - 1);

/** Upper words of a new table: 512 entries contiguous in being empty. @xen iommu_alloc_pgtable */
export const freshMarks: readonly number[] = Array.from({ length: ENTRIES }, (_, i) =>
  i === 0 ? LEVEL_SHIFT << MARK_SHIFT : trailingZeros(i) << MARK_SHIFT,
);
function trailingZeros(i: number): number {
  return 31 - Math.clz32(i & -i);
}
const freshTable = Int32Array.from({ length: TABLE_WORDS }, (_, w) =>
  w % 2 === 0 ? 0 : freshMarks[w >> 1]!,
);

/** Puts the marks into a zeroed table at word `base`. */
export function initContigMarks(t: Int32Array, base: number): void {
  t.set(freshTable, base);
}

/**
 * Entry `idx` of the table at word `base` was just written, without a mark. Brings the marks up to date; true when
 * the whole table is now contiguous. `kind` is PTE_KIND; leaves are of levels whose pages have their number below bit
 * 32 of the address: larger ones are not joined. @xen pt_update_contig_markers
 */
export function ptUpdateContigMarkers(
  t: Int32Array,
  base: number,
  idx: number,
  level: number,
  kind: number,
): boolean {
  const at = base + idx * 2;
  let marked = t[at + 1]!;
  if ((marked & MARK_MASK) !== 0) notSo('a written entry has no mark yet');
  // Runs that reached over the entry end before it.
  for (let i = idx; i !== 0; ) {
    const end = trailingZeros(i) << MARK_SHIFT;
    i &= i - 1;
    const hi = t[base + i * 2 + 1]!;
    if ((hi & MARK_MASK) <= end) break;
    t[base + i * 2 + 1] = (hi & ~MARK_MASK) | end;
  }
  if (kind === PTE_KIND.table) return false;
  const lo = t[at]!;
  // The address bit in which a leaf differs from the one beside it; empty entries differ in none.
  let bit = 0;
  if (kind === PTE_KIND.leaf) {
    const shift = 12 + (level - 1) * LEVEL_SHIFT;
    if (((lo >>> shift) & (ENTRIES - 1)) !== idx) return false;
    bit = 1 << shift;
  }
  // Now the run of this entry is joined with those beside it, of twice the length each time: `apart` words, tables start
  // at multiples of their size, and all have the same upper word. First with the runs above.
  let apart = 2;
  while (apart < TABLE_WORDS && (at & apart) === 0) {
    if ((t[at + apart]! ^ lo) !== bit || t[at + apart + 1] !== marked) break;
    apart *= 2;
    bit <<= 1;
    marked += ONE_MARK;
  }
  // Then with those below that it completes.
  let first = at;
  while (apart < TABLE_WORDS) {
    t[first + 1] = marked;
    const beside = first ^ apart;
    if ((t[beside]! ^ t[first]!) !== bit || t[beside + 1] !== marked) return false;
    first &= ~apart;
    apart *= 2;
    bit <<= 1;
    marked += ONE_MARK;
  }
  t[first + 1] = marked;
  return true;
}
