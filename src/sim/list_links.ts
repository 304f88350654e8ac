/** Lists whose members may be in one of them at a time, and leave from anywhere. */

/** Number of no member. */
export const NOBODY = 0;
/** Members of small lists, and NOBODY. Arrays double when they are full. */
const FEW = 16;

/**
 * Neighbours of all members, by number. Apart from the members, so that one that leaves a list touches no other: of tens
 * of thousands, each is in no cache.
 */
export class ListLinks<T> {
  /** By number; NOBODY's place stays empty. */
  readonly members: (T | undefined)[] = [undefined];
  next: Int32Array = new Int32Array(FEW);
  prev: Int32Array = new Int32Array(FEW);
  /** Numbers of members that are gone. */
  private readonly free: number[] = [];

  /** The number of a new member, which is in no list yet. */
  enter(member: T): number {
    const nr = this.free.pop() ?? this.members.length;
    if (nr === this.next.length) {
      this.next = twice(this.next);
      this.prev = twice(this.prev);
    }
    this.members[nr] = member;
    return nr;
  }
  /** A member is in no list any more, and does not come back. */
  leave(nr: number): void {
    this.members[nr] = undefined;
    this.free.push(nr);
  }
}

function twice(a: Int32Array): Int32Array {
  const grown = new Int32Array(a.length * 2);
  grown.set(a);
  return grown;
}
