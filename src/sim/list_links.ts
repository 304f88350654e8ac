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
  /** Two words a member: the number of the one behind it, and of the one before. */
  near: Int32Array = new Int32Array(2 * FEW);
  /** Numbers of members that are gone. */
  private readonly free: number[] = [];

  /** The number of a new member, which is in no list yet. */
  enter(member: T): number {
    const nr = this.free.pop() ?? this.members.length;
    if (nr * 2 === this.near.length) this.near = twice(this.near);
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
