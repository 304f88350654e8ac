/**
 * Contiguity marks: each entry of a page table records, in the ignored bits 4:1, the order of the run of contiguous
 * entries that starts there, as far as its index is aligned. Entry 0 tells whether the table can become one larger
 * page. Empty entries are contiguous with empty ones. @xen arch/x86/include/asm/pt-contig-markers.h
 */
import { assert } from '../../../base/assert.js';

/** Entries of a table as an order. @xen CONTIG_LEVEL_SHIFT */
const LEVEL_SHIFT = 9;
const ENTRIES = 1 << LEVEL_SHIFT;
/** @xen IOMMU_PTE_CONTIG_MASK */
const MASK = 0x1e;

export const PTE_KIND = { null: 0, leaf: 1, table: 2 } as const;

const trailingZeros = (i: number): number => 31 - Math.clz32(i & -i);
const mark = (t: Int32Array, base: number, i: number): number => (t[base + i * 2]! & MASK) >>> 1;
const setMark = (t: Int32Array, base: number, i: number, m: number): void => {
  t[base + i * 2] = (t[base + i * 2]! & ~MASK) | (m << 1);
};

/** Puts the marks into a zeroed table at word `base`. @xen iommu_alloc_pgtable */
export function initContigMarks(t: Int32Array, base: number): void {
  t[base] = LEVEL_SHIFT << 1;
  for (let i = 2; i < ENTRIES; i += 2) t[base + i * 2] = trailingZeros(i) << 1;
}

/** Bits `shift + 8` to `shift` of an entry: what the index in its table must be for it to be part of a larger page. */
function addressIndex(lo: number, hi: number, shift: number): number {
  const from = shift < 32 ? (lo >>> shift) | (hi << (32 - shift)) : hi >>> (shift - 32);
  return from & (ENTRIES - 1);
}

/** Does entry `i` continue the run that entry `idx` belongs to? `bit` is the address bit that tells them apart. */
function isContig(t: Int32Array, base: number, i: number, idx: number, bit: number, leaf: boolean): boolean {
  const lo = t[base + i * 2]! & ~MASK;
  const hi = t[base + i * 2 + 1]!;
  if (!leaf) return lo === 0 && hi === 0;
  const loDiff = lo ^ (t[base + idx * 2]! & ~MASK);
  const hiDiff = hi ^ t[base + idx * 2 + 1]!;
  return bit < 32 ? loDiff === 1 << bit && hiDiff === 0 : loDiff === 0 && hiDiff === 1 << (bit - 32);
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
  // Runs that reached over the entry now end before it.
  for (let i = idx; i !== 0; ) {
    const b = trailingZeros(i);
    i &= ~(1 << b);
    if (mark(t, base, i) <= b) break;
    setMark(t, base, i, b);
  }
  if (kind === PTE_KIND.table) return false;
  const leaf = kind === PTE_KIND.leaf;
  const shift = 12 + (level - 1) * LEVEL_SHIFT;
  if (leaf && idx !== addressIndex(t[base + idx * 2]!, t[base + idx * 2 + 1]!, shift)) return false;

  // This entry, and the runs that it completes.
  let first = idx;
  for (let b = 0; ; b++) {
    setMark(t, base, first, b);
    if (b >= LEVEL_SHIFT) return true;
    const i = first ^ (1 << b);
    if (!isContig(t, base, i, first, b + shift, leaf) || mark(t, base, i) !== b) return false;
    first &= ~(1 << b);
  }
}
