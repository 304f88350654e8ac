/**
 * A VT-d unit with memory around it, and hands that write its tables. Offsets, bits and table layouts are stated here
 * again, from the manual, so that a wrong constant in src shows.
 */
import { DEFAULT_CAP, DEFAULT_ECAP, type VtdOptions } from '../../src/iommu/hw/vtd/caps.js';
import { VtdUnit } from '../../src/iommu/hw/vtd/unit.js';
import { Clock } from '../../src/sim/clock.js';
import { EventStream } from '../../src/sim/events.js';
import { Ram } from '../../src/sim/ram.js';

export const REG = {
  GCMD: 0x18,
  GSTS: 0x1c,
  RTADDR: 0x20,
  CCMD: 0x28,
  FSTS: 0x34,
  FECTL: 0x38,
  FEDATA: 0x3c,
  FEADDR: 0x40,
  IQH: 0x80,
  IQT: 0x88,
  IQA: 0x90,
  ICS: 0x9c,
  IECTL: 0xa0,
  IEDATA: 0xa4,
  IEADDR: 0xa8,
  IRTA: 0xb8,
} as const;
export const TE = 0x8000_0000;
export const SRTP = 0x4000_0000;
export const QIE = 0x0400_0000;
export const IRE = 0x0200_0000;
export const SIRTP = 0x0100_0000;
export const CFI = 0x0080_0000;

/** CAP and ECAP of a unit, bit by bit: [name, word, bit, value]. Starts from the default unit. */
export function caps(changes: readonly (readonly [word: number, hi: number, lo: number, value: number])[]): {
  cap: [number, number];
  ecap: [number, number];
} {
  const w = [...DEFAULT_CAP, ...DEFAULT_ECAP];
  for (const [word, hi, lo, value] of changes) {
    const mask = (2 ** (hi - lo + 1) - 1) * 2 ** lo;
    w[word] = (w[word]! & ~mask) | (value * 2 ** lo) | 0;
  }
  return { cap: [w[0]!, w[1]!], ecap: [w[2]!, w[3]!] };
}

export interface Entry {
  did?: number;
  aw?: number;
  tt?: number;
  fpd?: number;
  root?: number;
}

/** Low and high word of a frame's address with low bits. */
export const words64 = (frame: number, low = 0): [number, number] => [
  ((frame % 0x10_0000) * 4096 + low) >>> 0,
  Math.floor(frame / 0x10_0000),
];

export class Rig {
  readonly ram: Ram;
  readonly events = new EventStream();
  readonly clock = new Clock();
  readonly unit: VtdUnit;
  readonly interrupts: string[] = [];
  readonly rootFrame: number;
  private nextFrame: number;
  private tail = 0;
  queueFrame = 0;

  constructor(options: Partial<VtdOptions> = {}, frames = 0x60_0000) {
    // Where memory reaches so far, tables lie above 16 GiB, where 32 bits do not.
    this.rootFrame = frames > 0x51_0000 ? 0x50_0100 : 0x100;
    this.nextFrame = this.rootFrame + 0x100;
    this.ram = new Ram(frames);
    this.unit = new VtdUnit(this.ram, this.events, this.clock, {
      index: 0,
      segment: 0,
      cap: DEFAULT_CAP,
      ecap: DEFAULT_ECAP,
      version: 0x10,
      haw: 39,
      ...options,
    });
    this.unit.onInterrupt = (kind, addr, data) =>
      this.interrupts.push(`${kind} ${addr.toString(16)} ${data.toString(16)}`);
  }

  /** Latches the root table and switches translation on. */
  on(): this {
    this.unit.write64(REG.RTADDR, ...words64(this.rootFrame));
    this.unit.write32(REG.GCMD, SRTP);
    this.unit.write32(REG.GCMD, TE);
    return this;
  }

  frame(): number {
    return this.nextFrame++;
  }

  /** Writes words at word index `at` of a frame. */
  put(frame: number, at: number, ...words: number[]): void {
    words.forEach((w, i) => {
      this.ram.write32(frame * 4096 + (at + i) * 4, w | 0);
    });
  }
  word(frame: number, at: number): number {
    return this.ram.read32(frame * 4096 + at * 4) >>> 0;
  }

  /** The frame that an entry at word index `at` names. */
  frameAt(frame: number, at: number): number {
    return this.word(frame, at + 1) * 0x10_0000 + (this.word(frame, at) >>> 12);
  }

  /** The frame of a bus's context table, made when it is missing. */
  contextTable(bus: number): number {
    if ((this.word(this.rootFrame, bus * 4) & 1) === 0)
      this.put(this.rootFrame, bus * 4, ...words64(this.frame(), 1), 0, 0);
    return this.frameAt(this.rootFrame, bus * 4);
  }
  /** Four raw words of a context entry. */
  rawContext(rid: number, ...words: number[]): void {
    this.put(this.contextTable(rid >>> 8), (rid & 0xff) * 4, ...words);
  }
  context(rid: number, e: Entry): void {
    const root = e.root ?? 0;
    this.rawContext(
      rid,
      (root % 0x10_0000) * 4096 + (e.tt ?? 0) * 4 + (e.fpd ?? 0) * 2 + 1,
      Math.floor(root / 0x10_0000),
      (e.did ?? 1) * 256 + (e.aw ?? 2),
      0,
    );
  }

  /** Where the entry of `dfn` at `level` lies; tables above it are made, readable and writable. */
  entryAt(root: number, levels: number, dfn: number, level: number): { frame: number; at: number } {
    let frame = root;
    for (let l = levels; ; l--) {
      const at = (Math.floor(dfn / 512 ** (l - 1)) % 512) * 2;
      if (l === level) return { frame, at };
      if ((this.word(frame, at) & 3) === 0) this.put(frame, at, ...words64(this.frame(), 3));
      frame = this.frameAt(frame, at);
    }
  }
  /** Maps one page: `level` 1 is 4 KiB, 2 is 2 MiB, 3 is 1 GiB. `flags`: 1 read, 2 write, and any other low bits. */
  map(root: number, levels: number, dfn: number, mfn: number, flags = 3, level = 1, hiBits = 0): void {
    const { frame, at } = this.entryAt(root, levels, dfn, level);
    const ps = level > 1 ? 0x80 : 0;
    this.put(frame, at, (mfn % 0x10_0000) * 4096 + flags + ps, Math.floor(mfn / 0x10_0000) + hiBits);
  }
  unmap(root: number, levels: number, dfn: number, level = 1): void {
    const { frame, at } = this.entryAt(root, levels, dfn, level);
    this.put(frame, at, 0, 0);
  }

  /** One requester with one table: `rid` in domain `did`, returns the table's root. */
  device(rid: number, did = 1, levels = 4): number {
    const root = this.frame();
    this.context(rid, { did, aw: levels - 2, root });
    return root;
  }

  /** Switches the queue on: 256 descriptors. */
  queue(): this {
    this.queueFrame = this.frame();
    this.unit.write64(REG.IQA, ...words64(this.queueFrame));
    this.unit.write32(REG.IQT, 0);
    this.unit.write32(REG.GCMD, ((this.unit.read32(REG.GSTS) & (TE | IRE)) | QIE) >>> 0);
    this.tail = 0;
    return this;
  }
  /** Queues one descriptor of four words and rings the doorbell. */
  submit(...words: number[]): void {
    this.enqueue(...words);
    this.ring();
  }
  enqueue(...words: number[]): void {
    this.put(this.queueFrame, this.tail * 4, ...words, ...Array(4 - words.length).fill(0));
    this.tail = (this.tail + 1) % 256;
  }
  ring(): void {
    this.unit.write32(REG.IQT, this.tail * 16);
  }

  /** First fault record as the manual draws it; undefined while F is clear. */
  fault(n = 0): { reason: number; sid: number; read: boolean; at: number; frame: number } | undefined {
    const cap = this.unit.read32(0x08) + (this.unit.read32(0x0c) & 3) * 2 ** 32;
    const base = Math.floor(cap / 2 ** 24) * 16 + n * 16;
    const w = [0, 4, 8, 12].map((o) => this.unit.read32(base + o));
    if (w[3]! < 0x8000_0000) return undefined;
    return {
      reason: w[3]! & 0xff,
      sid: w[2]! & 0xffff,
      read: (w[3]! & 0x4000_0000) !== 0,
      at: (w[3]! >>> 28) & 3,
      frame: w[1]! * 2 ** 20 + Math.floor(w[0]! / 4096),
    };
  }
  clearFault(n = 0): void {
    this.unit.write32(0x400 + n * 16 + 12, 0x8000_0000);
  }
}
