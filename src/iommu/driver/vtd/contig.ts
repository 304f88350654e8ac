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

const mark = (hi: number): number => (hi >>> MARK_SHIFT) & 0xf;

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
  const at = base + idx * 2;
  assert(mark(t[at + 1]!) === 0, 'a written entry has no mark yet');
  reduceLower(t, base, idx);
  if (kind === PTE_KIND.null) return joinRuns(t, at, 0, 0);
  if (kind === PTE_KIND.table || idx !== indexAt(getFrame(t, at), level)) return false;
  // Addresses of leaves that may join stay below bit 32: larger pages are not joined.
  return joinRuns(t, at, 1 << (12 + (level - 1) * LEVEL_SHIFT), t[at + 1]!);
}

/**
 * Joins the run of the entry at word `at` with those beside it, of twice the length each time. A run continues another
 * when their first entries are empty, or differ in the one address bit that tells them apart: `step` is that of two
 * neighbours, 0 for empty entries. `hi` is the upper word of all, without its mark.
 */
function joinRuns(t: Int32Array, at: number, step: number, hi: number): boolean {
  const lo = t[at]!;
  // Words from a run to the one beside it, the address bit and the mark of both. Tables start at multiples of their size.
  let apart = 2;
  let bit = step;
  let marked = hi;
  // Runs above this entry.
  while (apart < TABLE_WORDS && (at & apart) === 0) {
    if ((t[at + apart]! ^ lo) !== bit || t[at + apart + 1] !== marked) break;
    apart *= 2;
    bit <<= 1;
    marked += ONE_MARK;
  }
  // This entry, and the runs below it that it completes.
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

/** Runs that reached over the entry now end before it. */
export function reduceLower(t: Int32Array, base: number, idx: number): void {
  let i = idx;
  while (i !== 0) {
    const b = trailingZeros(i);
    i &= i - 1;
    const at = base + i * 2 + 1;
    const hi = t[at]!;
    if (mark(hi) <= b) return;
    t[at] = (hi & ~MARK_MASK) | (b << MARK_SHIFT);
  }
}
