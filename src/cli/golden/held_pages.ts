/** Machine pages that a recording names: the recorder held some of dom0's, and looked some up in guests. */
import { parseSbdf, type Sbdf, segOf } from '../../base/sbdf.js';
import type { Machine } from '../../machine.js';
import type { GoldenRecord } from './recording.js';

const BYTES = 32;
const WORDS = 512;

/**
 * Frames of the recorded host by frames of ours. Where the same frame has the same owner it stands for itself; else
 * another page of that owner does. Addresses in commands and in the memory that is read go through this.
 */
export class HeldPages {
  private readonly ours = new Map<number, number>();
  private readonly used = new Set<number>();
  /** Devices by their scratch page. */
  private readonly scratch = new Map<number, Sbdf>();
  constructor(private readonly machine: Machine) {}

  /** What a `<note>` tells. */
  note(record: GoldenRecord): void {
    const pattern = /hold \d+ 0x([0-9a-f]{16})/.exec(record.note ?? '');
    for (const [i, page] of (record.pages ?? []).entries()) {
      const frame = this.claim(page, 0);
      if (pattern !== null && frame !== undefined) this.fill(frame, i, pattern[1]!);
    }
    const guest = /^d(\d+) pages/.exec(record.note ?? '');
    for (const page of record.zero ?? []) this.claim(page, Number(guest?.[1] ?? 0));
    if (record.leaf !== undefined) this.leaf(record.leaf, record.note ?? '');
  }

  /** The scratch page of a device: where all its addresses lead now. The device is named the first time only. */
  private leaf(address: string, note: string): void {
    const theirs = Math.floor(Number(address) / 4096);
    const named = / of (\S+)/.exec(note)?.[1];
    const sbdf = named === undefined ? this.scratch.get(theirs) : parseSbdf(named);
    if (sbdf === undefined) return;
    this.scratch.set(theirs, sbdf);
    const mfn = this.machine.translate(segOf(sbdf), sbdf & 0xffff, 1, false);
    if (mfn >= 0) this.ours.set(theirs, mfn);
  }

  /** Our machine address for theirs. */
  address(theirs: number): number {
    const frame = this.ours.get(Math.floor(theirs / 4096));
    return frame === undefined ? theirs : frame * 4096 + (theirs % 4096);
  }

  /** 32 bytes of memory in hex, at an address of theirs. */
  read(address: string): string {
    const from = this.address(Number(address));
    if (!(from >= 0 && from + BYTES <= this.machine.hw.ram.frames * 4096)) return 'ff'.repeat(BYTES);
    let out = '';
    for (let i = 0; i < BYTES; i++)
      out += this.machine.hw.ram
        .read8(from + i)
        .toString(16)
        .padStart(2, '0');
    return out;
  }

  /** The frame that stands for theirs; undefined when `domid` has no page left. */
  private claim(address: string, domid: number): number | undefined {
    const { frames } = this.machine.hw;
    const theirs = Math.floor(Number(address) / 4096);
    let frame = theirs;
    if (frames.owner(theirs) !== domid || this.used.has(theirs)) {
      const extents = this.machine.xen.domains.get(domid)?.extents ?? [];
      const pages = extents.flatMap((x) =>
        Array.from({ length: Math.min(2 ** x.order, 64) }, (_, i) => x.mfn + i),
      );
      const found = pages.find((mfn) => frames.owner(mfn) === domid && !this.used.has(mfn));
      // The guest was not created here, which its own record says: its addresses stand for themselves.
      if (found === undefined) return undefined;
      frame = found;
    }
    this.used.add(frame);
    this.ours.set(theirs, frame);
    return frame;
  }

  /** Word k of page i is pattern + i * 0x10000 + k. */
  private fill(frame: number, page: number, pattern: string): void {
    const high = Number.parseInt(pattern.slice(0, 8), 16);
    const low = Number.parseInt(pattern.slice(8), 16);
    for (let k = 0; k < WORDS; k++) {
      this.machine.hw.ram.write32(frame * 4096 + k * 8, (low + page * 0x1_0000 + k) | 0);
      this.machine.hw.ram.write32(frame * 4096 + k * 8 + 4, high | 0);
    }
  }
}
