/** Both ends inclusive. */
class Range {
  static readonly unchanging = true;
  constructor(
    readonly s: number,
    readonly e: number,
  ) {}
}

/** Never changed, only replaced: sets that nobody has written to share one. */
class Ranges {
  static readonly unchanging = true;
  constructor(readonly list: readonly Range[]) {}
}
const NONE = new Ranges([]);

/** A set of integers kept as disjoint, ascending, coalesced ranges, both ends inclusive. @xen common/rangeset.c */
export class RangeSet {
  private ranges = NONE;

  /** @xen rangeset_add_range */
  add(s: number, e: number): void {
    const { list } = this.ranges;
    let at = 0;
    while (at < list.length && list[at]!.e + 1 < s) at++;
    let last = at;
    let start = s;
    let end = e;
    while (last < list.length && list[last]!.s <= e + 1) {
      start = Math.min(start, list[last]!.s);
      end = Math.max(end, list[last]!.e);
      last++;
    }
    const next = list.slice(0, at);
    next.push(new Range(start, end));
    for (; last < list.length; last++) next.push(list[last]!);
    this.ranges = new Ranges(next);
  }

  /** @xen rangeset_remove_range */
  remove(s: number, e: number): void {
    const kept: Range[] = [];
    for (const r of this.ranges.list) {
      if (r.e < s || r.s > e) kept.push(r);
      else {
        if (r.s < s) kept.push(new Range(r.s, s - 1));
        if (r.e > e) kept.push(new Range(e + 1, r.e));
      }
    }
    this.ranges = new Ranges(kept);
  }

  /** Whether adding [s, e] takes a new range: no range begins within it, and none ends right before it. */
  addTakesOne(s: number, e: number): boolean {
    return !this.ranges.list.some((r) => r.s <= e && (r.s > s || r.e + 1 >= s));
  }

  /** Whether removing [s, e] takes a new range: one is cut in two. */
  removeTakesOne(s: number, e: number): boolean {
    return this.ranges.list.some((r) => r.s < s && r.e > e);
  }

  /** The same integers as in another set. */
  setTo(other: RangeSet): void {
    this.ranges = other.ranges;
  }

  /** True when every integer of [s, e] is in the set. @xen rangeset_contains_range */
  contains(s: number, e: number): boolean {
    return this.ranges.list.some((r) => r.s <= s && e <= r.e);
  }

  /** True when some integer of [s, e] is in the set. @xen rangeset_overlaps_range */
  overlaps(s: number, e: number): boolean {
    return this.ranges.list.some((r) => r.s <= e && s <= r.e);
  }

  /** The same integers as another set? */
  equals(other: RangeSet): boolean {
    const a = this.ranges.list;
    const b = other.ranges.list;
    if (a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (a[i]!.s !== b[i]!.s || a[i]!.e !== b[i]!.e) return false;
    return true;
  }

  isEmpty(): boolean {
    return this.ranges.list.length === 0;
  }

  list(): readonly Range[] {
    return this.ranges.list;
  }
}
