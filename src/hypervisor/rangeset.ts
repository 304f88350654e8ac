/** Both ends inclusive. */
class Range {
  static readonly unchanging = true;
  constructor(
    readonly s: number,
    readonly e: number,
  ) {}
}

/** A set of integers kept as disjoint, ascending, coalesced ranges, both ends inclusive. @xen common/rangeset.c */
export class RangeSet {
  private readonly ranges: Range[] = [];

  /** @xen rangeset_add_range */
  add(s: number, e: number): void {
    let at = 0;
    while (at < this.ranges.length && this.ranges[at]!.e + 1 < s) at++;
    let last = at;
    let start = s;
    let end = e;
    while (last < this.ranges.length && this.ranges[last]!.s <= e + 1) {
      start = Math.min(start, this.ranges[last]!.s);
      end = Math.max(end, this.ranges[last]!.e);
      last++;
    }
    this.ranges.splice(at, last - at, new Range(start, end));
  }

  /** @xen rangeset_remove_range */
  remove(s: number, e: number): void {
    const kept: Range[] = [];
    for (const r of this.ranges) {
      if (r.e < s || r.s > e) kept.push(r);
      else {
        if (r.s < s) kept.push(new Range(r.s, s - 1));
        if (r.e > e) kept.push(new Range(e + 1, r.e));
      }
    }
    this.ranges.splice(0, this.ranges.length, ...kept);
  }

  /** True when every integer of [s, e] is in the set. @xen rangeset_contains_range */
  contains(s: number, e: number): boolean {
    return this.ranges.some((r) => r.s <= s && e <= r.e);
  }

  /** True when some integer of [s, e] is in the set. @xen rangeset_overlaps_range */
  overlaps(s: number, e: number): boolean {
    return this.ranges.some((r) => r.s <= e && s <= r.e);
  }

  isEmpty(): boolean {
    return this.ranges.length === 0;
  }

  list(): readonly Range[] {
    return this.ranges;
  }
}
