/**
 * Who owns each 4 KiB machine frame: Xen's frame table and buddy heap, kept per 2 MiB piece so that sixteen
 * gigabytes cost nothing until somebody looks.
 */
import { assert } from '../base/assert.js';
import type { EventStream } from './events.js';
import type { Faults } from './faults.js';
import { LazyMap } from './lazy_map.js';
import type { Copies, CopiesItself, OwnCopy } from './snapshot_copies.js';
import { refuseDisposed, Spares } from './spare.js';
import { ORDER_MAX, Zone } from './zone.js';

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
/** Pieces that a small machine has mixed owners in until dom0 starts. Arrays double when they are full. */
const BOOT_MIXED = 4;
/** The piece of a frame: a shift where physical memory is less than 8 TiB, as it is. */
const pieceAt = (mfn: number): number => (mfn <= 0x7fff_ffff ? mfn >>> 9 : Math.floor(mfn / PIECE));
/** Owner and type in one number, which is 0 for an address that is no RAM. */
const pack = (owner: number, type: number): number => (owner ^ OWNER_NONE) | (type << 16);

export interface RamRange {
  readonly start: number;
  /** Frames. */
  readonly count: number;
}

interface FrameArrays {
  readonly pieces: Int32Array;
  readonly mixed: Int32Array;
}
/** What a machine has that gave its table back. */
const GIVEN_BACK = new Int32Array(0);

function emptyArrays(frames: number): FrameArrays {
  const pieces = Math.ceil(frames / PIECE);
  const buffer = new ArrayBuffer((pieces + BOOT_MIXED * PIECE) * 4);
  return { pieces: new Int32Array(buffer, 0, pieces), mixed: new Int32Array(buffer, pieces * 4) };
}
const spares = new Spares(emptyArrays);

export class Frames implements CopiesItself {
  /** Packed owner and type of a uniform piece, or -(index + 1) of its frames in `mixed`. */
  private pieces: Int32Array;
  private mixed: Int32Array;
  private mixedUsed = 0;
  /** The piece of each place in `mixed`, -1 for a free one. */
  private readonly pieceOf: number[] = [];
  /** Places in `mixed` of pieces that are uniform again. */
  private readonly mixedFree: number[] = [];
  /** References beyond the owner's own one. @xen page_info.count_info */
  private readonly extraRefs = new LazyMap<number, number>();
  /** By place in `mixed`, 1 when it was written since the table was as in `#since`. No part of the state, so hidden. */
  #written: Uint8Array;
  #piecesWritten = false;
  #since: FramesCopy | undefined = undefined;

  constructor(readonly frames: number) {
    const { pieces, mixed } = spares.take(frames);
    this.pieces = pieces;
    this.mixed = mixed;
    this.#written = new Uint8Array(mixed.length / PIECE);
  }

  /** The machine is done with: another one gets its table. */
  giveBack(): void {
    if (this.pieces === GIVEN_BACK) return;
    const { pieces, mixed } = this;
    this.pieces = GIVEN_BACK;
    this.mixed = GIVEN_BACK;
    if (!ArrayBuffer.isView(pieces)) return;
    pieces.fill(0);
    mixed.fill(0);
    spares.give(this.frames, { pieces, mixed }, pieces.byteLength + mixed.byteLength);
  }

  private packed(mfn: number): number {
    if (!(mfn >= 0 && mfn < this.frames)) return 0;
    const p = this.pieces[pieceAt(mfn)]!;
    return p >= 0 ? p : this.mixed[(-p - 1) * PIECE + (mfn & (PIECE - 1))]!;
  }
  /** Domain id that owns `mfn`; OWNER_FREE or OWNER_NONE otherwise. @xen page_get_owner */
  owner(mfn: number): number {
    return (this.packed(mfn) & 0xffff) ^ OWNER_NONE;
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
    if (count === 1) this.setOne(mfn, value);
    else this.setMany(mfn, mfn + count, value);
  }

  private setOne(mfn: number, value: number): void {
    const piece = pieceAt(mfn);
    const p = this.pieces[piece]!;
    const place = p < 0 ? ~p : this.split(piece);
    this.#written[place] = 1;
    this.mixed[place * PIECE + (mfn & (PIECE - 1))] = value;
  }

  private setMany(mfn: number, end: number, value: number): void {
    const first = Math.ceil(mfn / PIECE);
    const behind = Math.floor(end / PIECE);
    if (first > behind) {
      this.setSome(behind, mfn, end, value);
      return;
    }
    if (mfn < first * PIECE) this.setSome(first - 1, mfn, first * PIECE, value);
    this.joinMixed(first, behind);
    this.#piecesWritten = true;
    this.pieces.fill(value, first, behind);
    if (end > behind * PIECE) this.setSome(behind, behind * PIECE, end, value);
  }

  /** Pieces that are about to be uniform give their places in `mixed` back. */
  private joinMixed(first: number, behind: number): void {
    if (behind - first < this.mixedUsed) {
      for (let piece = first; piece < behind; piece++) this.leaveMixed(piece);
    } else {
      for (let i = 0; i < this.mixedUsed; i++) {
        const piece = this.pieceOf[i]!;
        if (piece >= first && piece < behind) this.leaveMixed(piece);
      }
    }
  }
  private leaveMixed(piece: number): void {
    const p = this.pieces[piece]!;
    if (p >= 0) return;
    this.mixedFree.push(-p - 1);
    this.pieceOf[-p - 1] = -1;
  }

  /** Some frames of one piece. */
  private setSome(piece: number, from: number, end: number, value: number): void {
    const p = this.pieces[piece]!;
    const place = p < 0 ? ~p : this.split(piece);
    const at = (place - piece) * PIECE;
    this.#written[place] = 1;
    this.mixed.fill(value, at + from, at + end);
  }

  /** The place in `mixed` of a uniform piece, whose frames are told apart from now on. */
  private split(piece: number): number {
    if (this.pieces === GIVEN_BACK) refuseDisposed('the owner of a frame');
    const p = this.pieces[piece]!;
    const index = this.mixedFree.pop() ?? this.mixedUsed++;
    const at = index * PIECE;
    if (at === this.mixed.length) {
      const grown = new Int32Array(this.mixed.length * 2);
      grown.set(this.mixed);
      this.mixed = grown;
    }
    if (index >= this.#written.length) {
      const grown = new Uint8Array(this.#written.length * 2);
      grown.set(this.#written);
      this.#written = grown;
    }
    this.#piecesWritten = true;
    this.mixed.fill(p, at, at + PIECE);
    this.pieces[piece] = -index - 1;
    this.pieceOf[index] = piece;
    return index;
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

  copyItself(): OwnCopy {
    const copy = new FramesCopy(this, this.pieces, this.mixed);
    this.#since = copy;
    this.#written.fill(0);
    this.#piecesWritten = false;
    return { words: [this.pieces, this.mixed], copy };
  }
  /** The places written since, or all of them when the table was not as in `copy` before. */
  putBack(copy: FramesCopy): void {
    if (this.pieces === GIVEN_BACK) refuseDisposed('a snapshot');
    const all = this.#since !== copy;
    if (all || this.#piecesWritten) copy.putPiecesBack();
    const written = this.#written;
    for (let place = 0; place < copy.places; place++) {
      if (all || written[place] === 1) copy.putPlaceBack(place);
      written[place] = 0;
    }
    this.#since = copy;
    this.#piecesWritten = false;
  }
}

/** The words of the frame table in a snapshot. */
class FramesCopy implements Copies {
  readonly size = 1;
  private readonly savedPieces: Int32Array;
  private readonly savedPlaces: Int32Array[] = [];
  constructor(
    private readonly frames: Frames,
    private readonly pieces: Int32Array,
    private readonly mixed: Int32Array,
  ) {
    this.savedPieces = pieces.slice();
    for (let at = 0; at < mixed.length; at += PIECE) this.savedPlaces.push(mixed.slice(at, at + PIECE));
  }
  get places(): number {
    return this.savedPlaces.length;
  }
  restore(): void {
    this.frames.putBack(this);
  }
  putPiecesBack(): void {
    this.pieces.set(this.savedPieces);
  }
  putPlaceBack(place: number): void {
    this.mixed.set(this.savedPlaces[place]!, place * PIECE);
  }
}

/** A buddy allocator that prefers high zones and, within one, the smallest block that does. @xen common/page_alloc.c */
export class Heap {
  /** From the highest to the lowest, those that have memory. */
  private readonly zones: Zone[] = [];
  freeFrames = 0;
  totalFrames = 0;
  /** Fewer bits than these make no zone of their own. */
  private lowestZone = LOWEST_ZONE;
  /** Index of the first zone that has been scrubbed since the boot: those after it have been too. */
  private firstScrubbed = 0;

  constructor(
    private readonly frames: Frames,
    private readonly faults: Faults,
    private readonly events: EventStream,
  ) {}

  /** Every number of bits is a zone, as in Xen. Before any memory is there. */
  tellLowZonesApart(): void {
    assert(this.zones.length === 0, 'the heap is empty');
    this.lowestZone = 1;
  }

  /**
   * Only frames below 2^bits have been scrubbed: blocks come from there as long as there are any, single frames from
   * anywhere. Scrubbing begins with the lowest zone. @xen scrub_free_pages, get_free_buddy
   */
  scrubbedBelow(bits: number): void {
    let skipped = 0;
    while (skipped < this.zones.length && this.zones[skipped]!.bits > bits) skipped++;
    this.firstScrubbed = skipped;
  }

  /** Hands RAM over to the heap. @xen init_heap_pages */
  addRange(range: RamRange): void {
    this.frames.set(range.start, range.count, OWNER_FREE, FRAME_TYPE.none);
    this.totalFrames += range.count;
    let at = range.start;
    let left = range.count;
    while (left > 0) {
      // As large as the address is aligned, and as what is left allows.
      const lowest = (at | (1 << ORDER_MAX)) & -(at | (1 << ORDER_MAX));
      const order = 31 - Math.max(Math.clz32(lowest), Math.clz32(Math.min(left, 1 << ORDER_MAX)));
      this.put(at, order);
      at += 1 << order;
      left -= 1 << order;
    }
  }

  private put(mfn: number, order: number): void {
    const bits = Math.max(this.lowestZone, bitsOf(mfn));
    const zone = this.zoneOf(bits);
    zone.add(order, mfn);
    zone.freeFrames += 1 << order;
    this.freeFrames += 1 << order;
  }

  /** The zone of frame numbers with so many bits. */
  private zoneOf(bits: number): Zone {
    const { zones } = this;
    let at = 0;
    while (at < zones.length && zones[at]!.bits > bits) at++;
    if (at === zones.length) zones.push(new Zone(bits));
    else if (zones[at]!.bits !== bits) zones.splice(at, 0, new Zone(bits));
    return zones[at]!;
  }

  /** 2^order frames for `owner`, aligned to their size; -1 when there are none. @xen alloc_heap_pages */
  alloc(order: number, owner: number, type: FrameType): number {
    if (this.faults.on && this.faults.take('alloc')) return -1;
    let mfn = this.take(order);
    if (mfn < 0) {
      for (const zone of this.zones) merge(zone);
      mfn = this.take(order);
      if (mfn < 0) return -1;
    }
    const count = 1 << order;
    this.frames.set(mfn, count, owner, type);
    if (this.events.on) this.events.emit({ kind: 'alloc', mfn, order, owner, free: false });
    return mfn;
  }

  private take(order: number): number {
    const from = order === 0 ? 0 : this.firstScrubbed;
    const mfn = this.takeBetween(from, this.zones.length, order);
    return mfn < 0 && from > 0 ? this.takeBetween(0, from, order) : mfn;
  }

  private takeBetween(from: number, behind: number, order: number): number {
    for (let z = from; z < behind; z++) {
      const mfn = takeFrom(this.zones[z]!, order);
      if (mfn < 0) continue;
      this.freeFrames -= 1 << order;
      return mfn;
    }
    return -1;
  }

  /** As alloc(), in the lowest zone that has so much, if that is below frame 2^bits; -1 otherwise. */
  allocBelow(order: number, owner: number, type: FrameType, bits: number): number {
    for (let z = this.zones.length - 1; z >= 0; z--) {
      const mfn = takeFrom(this.zones[z]!, order);
      if (mfn < 0) continue;
      this.freeFrames -= 1 << order;
      if (mfn + (1 << order) > 2 ** bits) {
        this.put(mfn, order);
        return -1;
      }
      this.frames.set(mfn, 1 << order, owner, type);
      if (this.events.on) this.events.emit({ kind: 'alloc', mfn, order, owner, free: false });
      return mfn;
    }
    return -1;
  }

  /** The lowest free block, or the upper part of it that `count` frames need; undefined where no memory is free. */
  takeLowest(count: number, owner: number, type: FrameType): { mfn: number; order: number } | undefined {
    for (let z = this.zones.length - 1; z >= 0; z--) {
      const zone = this.zones[z]!;
      let best = -1;
      for (const [order, list] of zone.free.entries())
        if (list !== undefined && list.length > 0 && (best < 0 || lowest(list) < lowest(zone.free[best]!)))
          best = order;
      if (best < 0) continue;
      const list = zone.list(best);
      let mfn = lowest(list);
      list.splice(list.indexOf(mfn), 1);
      let order = best;
      while (order > 0 && 1 << order > count) {
        order -= 1;
        zone.add(order, mfn);
        mfn += 1 << order;
      }
      zone.freeFrames -= 1 << order;
      this.freeFrames -= 1 << order;
      this.frames.set(mfn, 1 << order, owner, type);
      return { mfn, order };
    }
    return undefined;
  }

  /** Back to the heap. The caller has flushed every cache that could still reach the frames. @xen free_heap_pages */
  release(mfn: number, order: number): void {
    const owner = this.frames.owner(mfn);
    assert(owner !== OWNER_FREE, 'a frame is not freed twice');
    if (this.events.on) this.events.emit({ kind: 'alloc', mfn, order, owner, free: true });
    this.frames.set(mfn, 1 << order, OWNER_FREE, FRAME_TYPE.none);
    this.put(mfn, order);
  }

  /** Free frames of each zone, which is the number of bits of its frame numbers. @xen avail_heap_pages */
  freeByZone(): Map<number, number> {
    const sums = new Map<number, number>();
    for (const zone of this.zones) {
      for (const [order, list] of zone.free.entries()) {
        for (const mfn of list ?? []) {
          const bits = mfn === 0 ? 0 : 1 + Math.floor(Math.log2(mfn));
          sums.set(bits, (sums.get(bits) ?? 0) + 2 ** order);
        }
      }
    }
    return new Map([...sums].sort(([a], [b]) => a - b));
  }
}

/** The smallest block that does, split as needed; -1 when there is none. @xen get_free_buddy */
function takeFrom(zone: Zone, order: number): number {
  const blocks = zone.free[order];
  if (blocks === undefined || blocks.length === 0) return halve(zone, order);
  zone.freeFrames -= 1 << order;
  return zone.list(order).pop()!;
}

/** A part of a larger block. */
function halve(zone: Zone, order: number): number {
  if (zone.freeFrames < 1 << order) return -1;
  const { free } = zone;
  let have = order;
  while (have < free.length && (free[have] === undefined || free[have]!.length === 0)) have++;
  if (have >= free.length) return -1;
  let at = zone.list(have).pop()!;
  // The upper half is handed on, the lower one stays free.
  while (have > order) {
    have--;
    zone.add(have, at);
    at += 1 << have;
  }
  zone.freeFrames -= 1 << order;
  return at;
}

const lowest = (blocks: readonly number[]): number => blocks.reduce((a, b) => Math.min(a, b));

/** Frame numbers with no more bits are one zone where nobody asks for more: memory below 1 GiB is handed out last. */
const LOWEST_ZONE = 18;
/** Bits of a frame number. */
const bitsOf = (mfn: number): number =>
  mfn < 2 ** 31 ? 32 - Math.clz32(mfn) : 1 + Math.floor(Math.log2(mfn));

/** Joins free buddies; only done when an allocation would fail. */
function merge(zone: Zone): void {
  const { free } = zone;
  for (let order = 0; order < ORDER_MAX && order < free.length; order++) {
    const blocks = zone.list(order).sort((a, b) => a - b);
    const kept: number[] = [];
    for (let i = 0; i < blocks.length; i++) {
      const at = blocks[i]!;
      if (at % 2 ** (order + 1) === 0 && blocks[i + 1] === at + 2 ** order) {
        zone.add(order + 1, at);
        i++;
      } else kept.push(at);
    }
    free[order] = kept;
  }
}
