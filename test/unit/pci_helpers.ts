/** Hand-made functions for the tests of src/pci: bytes are written here, not taken from the tables under test. */
import type { PciFunctionInit } from '../../src/pci/function.js';

export class Space {
  readonly bytes: Uint8Array;
  private lastPointer = 0x34;
  private lastExt = 0;
  constructor(size: 64 | 256 | 4096) {
    this.bytes = new Uint8Array(size);
  }
  set(at: number, size: 1 | 2 | 4, value: number): this {
    for (let i = 0; i < size; i++) this.bytes[at + i] = Math.floor(value / 2 ** (8 * i)) & 0xff;
    return this;
  }
  /** Whole words by their offsets. */
  words(all: Readonly<Record<number, number>>): this {
    for (const [at, value] of Object.entries(all)) this.set(Number(at), 4, value);
    return this;
  }
  ids(vendor: number, device: number, classCode: number, headerType = 0): this {
    return this.set(0, 2, vendor)
      .set(2, 2, device)
      .set(8, 4, classCode * 256)
      .set(0xe, 1, headerType);
  }
  command(value: number): this {
    return this.set(4, 2, value);
  }
  bus(primary: number, secondary: number, subordinate: number): this {
    return this.set(0x18, 1, primary).set(0x19, 1, secondary).set(0x1a, 1, subordinate);
  }
  /** Appends a capability with the given words; the first word's low 16 bits are made here. */
  cap(id: number, at: number, words: readonly number[]): this {
    this.set(6, 2, 0x10);
    this.bytes[this.lastPointer] = at;
    this.lastPointer = at + 1;
    words.forEach((w, i) => {
      this.set(at + 4 * i, 4, w);
    });
    return this.set(at, 1, id).set(at + 1, 1, 0);
  }
  ext(id: number, at: number, words: readonly number[]): this {
    // The chain starts at 0x100, with a vendor-specific capability where the test puts none.
    if (this.lastExt !== 0) this.set(this.lastExt + 2, 2, at * 16 + 1);
    else if (at !== 0x100) this.set(0x100, 4, at * 0x10_0000 + 0x1_000b);
    this.lastExt = at;
    words.forEach((w, i) => {
      this.set(at + 4 * i, 4, w);
    });
    return this.set(at, 4, 0x1_0000 + id);
  }
  at(sbdf: number, more: Partial<PciFunctionInit> = {}): PciFunctionInit {
    return { sbdf, config: this.bytes, ...more };
  }
}

export const MASTER = 7;

/** A PCI Express endpoint: the capability is at 0x40, DEVCAP is `devcap`. */
export const endpoint = (devcap = 0): Space =>
  new Space(4096)
    .ids(0x10de, 0x2484, 0x030000)
    .command(MASTER)
    .cap(0x10, 0x40, [0x0002_0000, devcap, 0x2810, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
/** A conventional function without capabilities. */
export const conventional = (): Space => new Space(256).ids(0x8086, 0x100e, 0x020000).command(MASTER);
/** A bridge with a PCI Express capability of the given port type (4 root, 5 up, 6 down, 7 to PCI, 8 to PCIe). */
export const port = (type: number, secondary: number, subordinate = secondary): Space =>
  new Space(4096)
    .ids(0x1b36, 0xc, 0x060400, 1)
    .command(MASTER)
    .bus(0, secondary, subordinate)
    .cap(0x10, 0x40, [0x0002_0000 + type * 0x10_0000, 0, 0x2810, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
export const legacyBridge = (secondary: number, subordinate = secondary): Space =>
  new Space(256).ids(0x8086, 0x244e, 0x060401, 1).command(MASTER).bus(0, secondary, subordinate);
