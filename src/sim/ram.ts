/**
 * Simulated physical memory. Frames get their 4 KiB on first write; an untouched frame reads as zero.
 * Bytes that hardware sees live in one growing Int32Array: frame `mfn` is at word `slot(mfn) * 1024`.
 */
import { XenBug } from '../base/assert.js';
import { LIMITS } from '../base/limits.js';
import type { Copies, CopiesItself, OwnCopy } from './snapshot_copies.js';
import { refuseDisposed, Spares } from './spare.js';

export const FRAME_WORDS = 1024;
/** A cache line: 64 bytes. */
const LINE_WORDS = 16;
/** What a small machine touches until dom0 starts, and a little more. Arrays double when they are full. */
const BOOT_FRAMES = 18;
/** Frames covered by one piece of the frame-to-slot directory: 4 MiB. */
const PIECE = 1024;
/** Pieces that have their place at once: those of 16 GiB. */
const FIRST_PIECES_MAX = 4096;
/** No walk has more levels. */
const LEVELS = 8;

interface RamArrays {
  readonly words: Int32Array;
  readonly pieces: Int32Array;
  readonly slots: Int32Array;
}
/** What a machine has that gave its memory back. */
const GIVEN_BACK = new Int32Array(0);

/** In one buffer: each takes time of its own to make and collect. */
function emptyArrays(frames: number): RamArrays {
  const pieces = Math.min(Math.ceil(frames / PIECE), FIRST_PIECES_MAX);
  const words = BOOT_FRAMES * FRAME_WORDS;
  const buffer = new ArrayBuffer((words + pieces + 2 * PIECE) * 4);
  return {
    words: new Int32Array(buffer, 0, words),
    pieces: new Int32Array(buffer, words * 4, pieces),
    slots: new Int32Array(buffer, (words + pieces) * 4),
  };
}
const spares = new Spares(emptyArrays);

/** Large buffers begin 16 bytes behind a page: so far on, a cache line here is one of the processor's, and not two halves. */
const TO_NEXT_LINE = 48;

function alignedWords(count: number): Int32Array {
  return new Int32Array(new ArrayBuffer(TO_NEXT_LINE + count * 4), TO_NEXT_LINE, count);
}

export class Ram implements CopiesItself {
  /** Slot 0 is the zero frame: untouched frames read from it, and nobody writes to it. */
  words: Int32Array;
  /**
   * Two flat tables, so that a page walk in hardware reads two words to find a frame and nothing else:
   * `slots[pieces[mfn / PIECE] + mfn % PIECE]` is the slot. Piece 0 is all zeroes and stands for every untouched one.
   */
  pieces: Int32Array;
  slots: Int32Array;
  /** Frames below this one have their place in `pieces`, and a number of 31 bits. */
  private near: number;
  /** What was written back, while there is hardware that sees no more than that. */
  unsnooped: Ram | undefined = undefined;
  /**
   * The tables that a walk read last, one for each level: frames, and behind them their slots. Walks share their upper
   * tables mostly, and what is foreseen need not be waited for: a CPU goes on from the slot while it compares the frame.
   */
  private readonly lastTables = new Int32Array(2 * LEVELS).fill(-1);
  private used = 1;
  private piecesUsed = 1;
  /** By slot, 1 when it may have been written since memory was as in `#since`. No part of the state, so hidden. */
  #written: Uint8Array;
  #since: RamCopy | undefined = undefined;
  /** Slots that always count as written. */
  readonly #held: number[] = [];

  constructor(
    /** Frames of the machine's physical address space; addresses beyond abort. */
    readonly frames: number,
  ) {
    const { words, pieces, slots } = spares.take(frames);
    this.words = words;
    this.pieces = pieces;
    this.slots = slots;
    this.near = Math.min(pieces.length * PIECE, 0x8000_0000);
    this.#written = new Uint8Array(words.length / FRAME_WORDS);
  }

  /** The slot to read `mfn` from: 0, the zero frame, while it is untouched. */
  peek(mfn: number): number {
    return mfn < this.near ? this.slots[this.pieces[mfn >>> 10]! + (mfn & (PIECE - 1))]! : this.peekFar(mfn);
  }

  private peekFar(mfn: number): number {
    const piece = Math.floor(mfn / PIECE);
    if (this.pieces === GIVEN_BACK) refuseDisposed(`frame ${mfn.toString(16)}`);
    return piece < this.pieces.length ? this.slots[this.pieces[piece]! + (mfn % PIECE)]! : 0;
  }

  /** As peek(), of a page table at `level`, 1 to 7. */
  peekTable(mfn: number, level: number): number {
    const last = this.lastTables;
    return last[level] === mfn ? last[level + LEVELS]! : this.rememberTable(mfn, level);
  }

  private rememberTable(mfn: number, level: number): number {
    const slot = this.peek(mfn);
    if (slot !== 0 && mfn <= 0x7fff_ffff) {
      this.lastTables[level] = mfn;
      this.lastTables[level + LEVELS] = slot;
    }
    return slot;
  }

  /** The slot to write `mfn` to now; touches it. Who writes again later asks again, or calls `hold`. */
  slot(mfn: number): number {
    const found = this.peek(mfn);
    if (found === 0) return this.touch(mfn);
    this.#written[found] = 1;
    return found;
  }
  /** Somebody who keeps a place, by its index in `words`, is about to write there. */
  writes(at: number): void {
    this.#written[at >>> 10] = 1;
  }
  /** The slot of `mfn` for somebody who keeps it and writes to it without asking. */
  hold(mfn: number): number {
    const slot = this.slot(mfn);
    if (!this.isHeld(slot)) this.#held.push(slot);
    return slot;
  }
  /** True for a slot that always counts as written. */
  isHeld(slot: number): boolean {
    return this.#held.includes(slot);
  }

  /** Start of a piece in `slots`, which is made when it was untouched. */
  private piece(piece: number): number {
    if (piece >= this.pieces.length) {
      const grown = new Int32Array(Math.max(this.pieces.length * 2, piece + 1));
      grown.set(this.pieces);
      this.pieces = grown;
      this.near = Math.min(grown.length * PIECE, 0x8000_0000);
    }
    if (this.pieces[piece] === 0) {
      const at = this.piecesUsed++ * PIECE;
      if (at + PIECE > this.slots.length) {
        const grown = new Int32Array(this.slots.length * 2);
        grown.set(this.slots);
        this.slots = grown;
      }
      this.pieces[piece] = at;
    }
    return this.pieces[piece]!;
  }

  private touch(mfn: number): number {
    if (!(mfn >= 0 && mfn < this.frames))
      throw new XenBug(`frame ${mfn.toString(16)} is outside physical memory`);
    if (this.used >= LIMITS.touchedFramesMax) throw new XenBug('more simulated memory touched than allowed');
    const at = this.piece(Math.floor(mfn / PIECE));
    const slot = this.used++;
    if ((slot + 1) * FRAME_WORDS > this.words.length) {
      const grown = alignedWords(this.words.length * 2);
      grown.set(this.words);
      this.words = grown;
    }
    if (slot >= this.#written.length) {
      const grown = new Uint8Array(this.#written.length * 2);
      grown.set(this.#written);
      this.#written = grown;
    }
    this.#written[slot] = 1;
    this.slots[at + (mfn & (PIECE - 1))] = slot;
    return slot;
  }

  /** Index into `words` of a 4-byte-aligned machine address, for reading. A division is faster than `%` here. */
  at(addr: number): number {
    const mfn = Math.floor(addr / 4096);
    return this.peek(mfn) * FRAME_WORDS + ((addr - mfn * 4096) >>> 2);
  }
  read32(addr: number): number {
    return this.words[this.at(addr)]!;
  }
  write32(addr: number, value: number): void {
    const mfn = Math.floor(addr / 4096);
    const w = this.slot(mfn) * FRAME_WORDS + ((addr - mfn * 4096) >>> 2);
    this.words[w] = value;
  }
  read8(addr: number): number {
    return (this.words[this.at(addr - (addr % 4))]! >>> ((addr % 4) * 8)) & 0xff;
  }
  write8(addr: number, value: number): void {
    const shift = (addr % 4) * 8;
    const base = addr - (addr % 4);
    this.write32(base, (this.read32(base) & ~(0xff << shift)) | ((value & 0xff) << shift));
  }
  /** Zeroes a frame; an untouched one stays untouched. @xen clear_page, scrub_page */
  clearFrame(mfn: number): void {
    const slot = this.peek(mfn);
    if (slot !== 0) this.clearSlot(slot);
  }
  private clearSlot(slot: number): void {
    this.#written[slot] = 1;
    this.words.fill(0, slot * FRAME_WORDS, (slot + 1) * FRAME_WORDS);
  }
  /** As clearFrame(), of 2^order frames from a multiple of as many. */
  clearFrames(mfn: number, order: number): void {
    const count = 1 << order;
    if (count < 4 || count > PIECE || mfn >= this.near) {
      for (let i = 0; i < count; i++) this.clearFrame(mfn + i);
      return;
    }
    const piece = this.pieces[mfn >>> 10]!;
    if (piece === 0) return;
    const { slots } = this;
    const first = piece + (mfn & (PIECE - 1));
    for (let at = first; at < first + count; at += 4) {
      if ((slots[at]! | slots[at + 1]! | slots[at + 2]! | slots[at + 3]!) === 0) continue;
      for (let i = at; i < at + 4; i++) if (slots[i] !== 0) this.clearSlot(slots[i]!);
    }
  }
  /** The memory of hardware that does not snoop caches: it is there from the first time somebody asks for it. */
  withUnsnooped(): Ram {
    this.unsnooped ??= new Ram(this.frames);
    return this.unsnooped;
  }
  /** Cache lines of a frame, from word `first` on, reach memory. @xen iommu_sync_cache */
  writeBack(mfn: number, first: number, count: number): void {
    if (this.unsnooped === undefined) return;
    const start = first - (first % LINE_WORDS);
    const end = Math.min(FRAME_WORDS, Math.ceil((first + count) / LINE_WORDS) * LINE_WORDS);
    const to = this.unsnooped.slot(mfn) * FRAME_WORDS;
    const from = this.peek(mfn) * FRAME_WORDS;
    for (let w = start; w < end; w++) this.unsnooped.words[to + w] = this.words[from + w]!;
  }
  /** All that was written reaches memory, as it does when lines leave the CPU's cache in the course of time. */
  evict(): void {
    for (let piece = 0; piece < this.pieces.length; piece++) {
      const at = this.pieces[piece]!;
      for (let i = 0; at !== 0 && i < PIECE; i++)
        if (this.slots[at + i] !== 0) this.writeBack(piece * PIECE + i, 0, FRAME_WORDS);
    }
  }
  /** The machine is done with: another one gets its memory. Whoever asks for a frame from now on is told. */
  giveBack(): void {
    if (this.pieces === GIVEN_BACK) return;
    const { words, pieces, slots } = this;
    this.words = GIVEN_BACK;
    this.pieces = GIVEN_BACK;
    this.slots = GIVEN_BACK;
    this.near = 0;
    this.lastTables.fill(-1);
    this.unsnooped?.giveBack();
    // An explorer has put something else in their place, which stays with it.
    if (!ArrayBuffer.isView(words)) return;
    words.fill(0, FRAME_WORDS, this.used * FRAME_WORDS);
    pieces.fill(0);
    slots.fill(0, PIECE, this.piecesUsed * PIECE);
    spares.give(this.frames, { words, pieces, slots }, words.byteLength + slots.byteLength);
  }
  /** Frames touched so far. */
  get touched(): number {
    return this.used - 1;
  }

  copyItself(): OwnCopy {
    const copy = new RamCopy(this, this.words, this.pieces, this.slots, this.used);
    this.#since = copy;
    this.#written.fill(0);
    return { words: [this.words, this.pieces, this.slots], copy };
  }
  /** Of memory as it was in `copy`: the frames written since, or all of them when it was not like that before. */
  putBack(copy: RamCopy): void {
    if (this.pieces === GIVEN_BACK) refuseDisposed('a snapshot');
    const all = this.#since !== copy;
    for (const slot of this.#held) this.#written[slot] = 1;
    // Other histories may have left something in any slot of these words.
    const behind = copy.words.length / FRAME_WORDS;
    const end = all ? behind : Math.min(Math.max(this.used, copy.used), behind);
    const written = this.#written;
    for (let slot = 1; slot < end; slot++) {
      if (all || written[slot] === 1) copy.putFrameBack(slot);
      written[slot] = 0;
    }
    // Nothing but touching a frame changes these.
    if (all || this.used !== copy.used) copy.putTablesBack();
    this.#since = copy;
  }
}

/** The words of memory in a snapshot. The fields that say which arrays are in use are restored as all fields are. */
class RamCopy implements Copies {
  readonly size = 1;
  private readonly frames: Int32Array[] = [];
  private readonly savedPieces: Int32Array;
  private readonly savedSlots: Int32Array;
  constructor(
    private readonly ram: Ram,
    readonly words: Int32Array,
    private readonly pieces: Int32Array,
    private readonly slots: Int32Array,
    /** Slots that had been given to frames, and the zero frame. */
    readonly used: number,
  ) {
    for (let slot = 0; slot < used; slot++)
      this.frames.push(words.slice(slot * FRAME_WORDS, (slot + 1) * FRAME_WORDS));
    this.savedPieces = pieces.slice();
    this.savedSlots = slots.slice();
  }
  restore(): void {
    this.ram.putBack(this);
  }
  putFrameBack(slot: number): void {
    const at = slot * FRAME_WORDS;
    if (slot < this.used) this.words.set(this.frames[slot]!, at);
    else this.words.fill(0, at, at + FRAME_WORDS);
  }
  putTablesBack(): void {
    this.pieces.set(this.savedPieces);
    this.slots.set(this.savedSlots);
  }
}
