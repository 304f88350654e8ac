/** Little-endian bytes in and out of firmware tables, bounded, with errors that name the offset. */
import { InputError } from '../../base/assert.js';

/** A 64-bit field that is no address, as two unsigned words. */
export type U64 = readonly [lo: number, hi: number];

export class ByteReader {
  at = 0;
  constructor(
    private readonly data: Uint8Array,
    private readonly source: string,
    private readonly remedy: string,
  ) {}
  error(offset: number, problem: string): InputError {
    return new InputError(this.source, `offset 0x${offset.toString(16)}`, problem, this.remedy);
  }
  private need(n: number): number {
    const from = this.at;
    if (from + n > this.data.length) throw this.error(this.data.length, 'the table ends too early');
    this.at = from + n;
    return from;
  }
  u8(): number {
    return this.data[this.need(1)]!;
  }
  u16(): number {
    const i = this.need(2);
    return this.data[i]! | (this.data[i + 1]! << 8);
  }
  u32(): number {
    return (this.u16() | (this.u16() << 16)) >>> 0;
  }
  u64(): U64 {
    return [this.u32(), this.u32()];
  }
  /** A 64-bit address or length; above 2^53 nothing in a machine has one. */
  address(): number {
    const from = this.at;
    const [lo, hi] = this.u64();
    if (hi >= 0x20_0000) throw this.error(from, 'an address does not fit 53 bits');
    return hi * 2 ** 32 + lo;
  }
  bytes(n: number): Uint8Array {
    const from = this.need(n);
    return this.data.slice(from, from + n);
  }
  /** `n` bytes as a string of that many characters, each below 256. */
  text(n: number): string {
    return String.fromCharCode(...this.bytes(n));
  }
}

export class ByteWriter {
  private readonly out: number[] = [];
  get at(): number {
    return this.out.length;
  }
  u8(v: number): void {
    this.out.push(v & 0xff);
  }
  u16(v: number): void {
    this.out.push(v & 0xff, (v >>> 8) & 0xff);
  }
  u32(v: number): void {
    this.u16(v & 0xffff);
    this.u16(v >>> 16);
  }
  u64([lo, hi]: U64): void {
    this.u32(lo);
    this.u32(hi);
  }
  address(v: number): void {
    this.u32(v % 2 ** 32);
    this.u32(Math.floor(v / 2 ** 32));
  }
  bytes(b: Uint8Array): void {
    for (const v of b) this.out.push(v);
  }
  /** Exactly `n` bytes, padded with zeros. */
  text(s: string, n: number): void {
    for (let i = 0; i < n; i++) this.u8(i < s.length ? s.charCodeAt(i) : 0);
  }
  patch16(at: number, v: number): void {
    this.out[at] = v & 0xff;
    this.out[at + 1] = (v >>> 8) & 0xff;
  }
  patch32(at: number, v: number): void {
    this.patch16(at, v & 0xffff);
    this.patch16(at + 2, v >>> 16);
  }
  take(): Uint8Array {
    return Uint8Array.from(this.out);
  }
}
