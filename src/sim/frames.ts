/**
 * Who owns each 4 KiB machine frame: Xen's frame table and buddy heap, kept per 2 MiB piece so that sixteen
 * gigabytes cost nothing until somebody looks.
 */
import { assert } from '../base/assert.js';
import type { EventStream } from './events.js';
import type { Faults } from './faults.js';

/** Owners that are no ordinary domain. Domain ids below 0x7FF0 stand for themselves. @xen include/public/xen.h */
export const DOMID = {
  IO: 0x7ff1,
  XEN: 0x7ff2,
  COW: 0x7ff3,
  INVALID: 0x7ff4,
  IDLE: 0x7fff,
  FIRST_RESERVED: 0x7ff0,
} as const;
/** Owner of a free frame, and of an address that is no RAM. */
export const OWNER_FREE = DOMID.INVALID;
export const OWNER_NONE = DOMID.IDLE;

export const FRAME_TYPE = {
  none: 0,
  writable: 1,
  pagetable: 2,
  iommuTable: 3,
  xenheap: 4,
  p2mTable: 5,
  shared: 6,
} as const;
export type FrameType = (typeof FRAME_TYPE)[keyof typeof FRAME_TYPE];

/** Frames of one piece of the table: one superpage. */
const PIECE = 512;
const pack = (owner: number, type: number): number => owner | (type << 16);

export interface RamRange {
  readonly start: number;
  /** Frames. */
  readonly count: number;
}

export class Frames {
  /** Packed owner and type of a uniform piece, or -(index + 1) into `mixed`. */
  private readonly pieces: Int32Array;
  private readonly mixed: Int32Array[] = [];
  /** References beyond the owner's own one. @xen page_info.count_info */
  private readonly extraRefs = new Map<number, number>();

  constructor(readonly frames: number) {
    this.pieces = new Int32Array(Math.ceil(frames / PIECE)).fill(pack(OWNER_NONE, FRAME_TYPE.none));
  }

  private packed(mfn: number): number {
    if (!(mfn >= 0 && mfn < this.frames)) return pack(OWNER_NONE, FRAME_TYPE.none);
    const p = this.pieces[Math.floor(mfn / PIECE)]!;
    return p >= 0 ? p : this.mixed[-p - 1]![mfn % PIECE]!;
  }
  /** Domain id that owns `mfn`; OWNER_FREE or OWNER_NONE otherwise. @xen page_get_owner */
  owner(mfn: number): number {
    return this.packed(mfn) & 0xffff;
  }
  type(mfn: number): FrameType {
    return (this.packed(mfn) >> 16) as FrameType;
  }
  /** References held: 0 for a free frame, 1 for an allocated one, more while foreign maps or grants hold it. */
  count(mfn: number): number {
    const owner = this.owner(mfn);
    if (owner === OWNER_FREE || owner === OWNER_NONE) return 0;
    return 1 + (this.extraRefs.get(mfn) ?? 0);
  }

  /** Gives `count` frames from `mfn` to `owner` as `type`. */
  set(mfn: number, count: number, owner: number, type: FrameType): void {
    assert(mfn >= 0 && mfn + count <= this.frames, 'frames lie inside the machine');
    const value = pack(owner, type);
    if (count === 1) {
      this.split(Math.floor(mfn / PIECE))[mfn % PIECE] = value;
      return;
    }
    let at = mfn;
    const end = mfn + count;
    while (at < end) {
      const piece = Math.floor(at / PIECE);
      const inPiece = Math.min(end, (piece + 1) * PIECE) - at;
      if (inPiece === PIECE) this.pieces[piece] = value;
      else this.split(piece).fill(value, at % PIECE, (at % PIECE) + inPiece);
      at += inPiece;
    }
  }

  private split(piece: number): Int32Array {
    const p = this.pieces[piece]!;
    if (p < 0) return this.mixed[-p - 1]!;
    this.mixed.push(new Int32Array(PIECE).fill(p));
    this.pieces[piece] = -this.mixed.length;
    return this.mixed[this.mixed.length - 1]!;
  }

  /** Takes a reference for somebody other than the owner; false when `mfn` is not `domid`'s. @xen get_page */
  getPage(mfn: number, domid: number): boolean {
    if (this.owner(mfn) !== domid) return false;
    this.extraRefs.set(mfn, (this.extraRefs.get(mfn) ?? 0) + 1);
    return true;
  }
  /** @xen put_page */
  putPage(mfn: number): void {
    const n = this.extraRefs.get(mfn) ?? 0;
    assert(n > 0, 'a reference is held');
    if (n === 1) this.extraRefs.delete(mfn);
    else this.extraRefs.set(mfn, n - 1);
  }
}

/** A buddy allocator that prefers high addresses, as Xen's heap does. @xen common/page_alloc.c */
export class Heap {
  /** Free blocks by order; the last one is handed out first. */
  private readonly free: number[][] = Array.from({ length: ORDER_MAX + 1 }, () => []);
  freeFrames = 0;
  totalFrames = 0;

  constructor(
    private readonly frames: Frames,
    private readonly faults: Faults,
    private readonly events: EventStream,
  ) {}

  /** Hands RAM over to the heap. @xen init_heap_pages */
  addRange(range: RamRange): void {
    this.frames.set(range.start, range.count, OWNER_FREE, FRAME_TYPE.none);
    this.totalFrames += range.count;
    this.freeFrames += range.count;
    let at = range.start;
    let left = range.count;
    while (left > 0) {
      let order = 0;
      while (order < ORDER_MAX && at % 2 ** (order + 1) === 0 && 2 ** (order + 1) <= left) order++;
      this.free[order]!.push(at);
      at += 2 ** order;
      left -= 2 ** order;
    }
  }

  /** 2^order frames for `owner`, aligned to their size; -1 when there are none. @xen alloc_heap_pages */
  alloc(order: number, owner: number, type: FrameType): number {
    if (this.faults.on && this.faults.take('alloc')) return -1;
    let mfn = this.take(order);
    if (mfn < 0) {
      this.merge();
      mfn = this.take(order);
      if (mfn < 0) return -1;
    }
    const count = 1 << order;
    this.freeFrames -= count;
    this.frames.set(mfn, count, owner, type);
    if (this.events.on) this.events.emit({ kind: 'alloc', mfn, order, owner, free: false });
    return mfn;
  }

  private take(order: number): number {
    let have = order;
    while (have <= ORDER_MAX && this.free[have]!.length === 0) have++;
    if (have > ORDER_MAX) return -1;
    const mfn = this.free[have]!.pop()!;
    // The upper half is handed on, the lower one stays free.
    let at = mfn;
    while (have > order) {
      have--;
      this.free[have]!.push(at);
      at += 1 << have;
    }
    return at;
  }

  /** Back to the heap. The caller has flushed every cache that could still reach the frames. @xen free_heap_pages */
  release(mfn: number, order: number): void {
    assert(this.frames.owner(mfn) !== OWNER_FREE, 'a frame is not freed twice');
    if (this.events.on) {
      this.events.emit({ kind: 'alloc', mfn, order, owner: this.frames.owner(mfn), free: true });
    }
    const count = 1 << order;
    this.frames.set(mfn, count, OWNER_FREE, FRAME_TYPE.none);
    this.free[order]!.push(mfn);
    this.freeFrames += count;
  }

  /** Joins free buddies; only done when an allocation would fail. */
  private merge(): void {
    for (let order = 0; order < ORDER_MAX; order++) {
      const blocks = this.free[order]!.sort((a, b) => a - b);
      const kept: number[] = [];
      for (let i = 0; i < blocks.length; i++) {
        const at = blocks[i]!;
        if (at % 2 ** (order + 1) === 0 && blocks[i + 1] === at + 2 ** order) {
          this.free[order + 1]!.push(at);
          i++;
        } else kept.push(at);
      }
      this.free[order] = kept;
    }
  }
}
/** 1 GiB blocks are the largest. */
export const ORDER_MAX = 18;
