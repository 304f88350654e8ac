/**
 * Requests on their way: translated by a unit, not yet at memory. They may arrive at any later moment, until the unit
 * is told to forget what they were translated by and to drain (VT-d 6.5.2.3, DR and DW; AMD 48882 2.4.1), and has said
 * that it is done.
 */
import { bdfOf, type Sbdf } from '../base/sbdf.js';
import type { StampedEvent } from '../sim/events.js';
import type { Vendor } from './machines.js';

export interface Request {
  readonly unit: number;
  /** With its segment. */
  readonly rid: Sbdf;
  readonly dfn: number;
  readonly mfn: number;
  /** Domain id of the entry that let it pass. */
  readonly did: number;
  /** Who owned the frame then. */
  readonly owner: number;
  readonly write: boolean;
  /** Where Xen was when it left. */
  readonly since: string;
}

/** What an invalidation reaches, by domain id and pages, or by requester; all that is undefined is anything. */
interface Reach {
  readonly did?: number;
  readonly rid?: number;
  readonly first?: number;
  readonly last?: number;
  readonly reads: boolean;
  readonly writes: boolean;
}

const VTD = { IOTLB: 2, WAIT: 5, DW: 0x40, DR: 0x80, GLOBAL: 1, DOMAIN: 2 } as const;
const AMD = { WAIT: 1, DEVTAB: 2, PAGES: 3, ALL: 8, S: 1 } as const;
const EVERYTHING: Reach = { reads: true, writes: true };

export class InFlight {
  private readonly under = new Map<string, Request>();
  private draining = new Set<string>();

  constructor(private readonly vendor: Vendor) {}

  clear(): void {
    this.under.clear();
    this.draining.clear();
  }
  has(rid: number, dfn: number, mfn: number): boolean {
    return this.under.has(keyOf(rid, dfn, mfn, true)) || this.under.has(keyOf(rid, dfn, mfn, false));
  }
  launch(r: Request): void {
    this.under.set(keyOf(r.rid, r.dfn, r.mfn, r.write), r);
  }
  all(): Iterable<Request> {
    return this.under.values();
  }

  /** Those that will arrive at one of these frames. */
  to(mfn: number, count: number): Request[] {
    return this.under.size === 0
      ? []
      : [...this.under.values()].filter((r) => r.mfn >= mfn && r.mfn < mfn + count);
  }

  /** A command that a unit took from its queue. */
  hear(e: StampedEvent): void {
    if (e.kind !== 'descriptor' || this.under.size === 0) return;
    if (isWait(this.vendor, e.words)) {
      for (const key of this.draining) if (this.under.get(key)?.unit === e.unit) this.under.delete(key);
      this.draining = new Set([...this.draining].filter((key) => this.under.has(key)));
      return;
    }
    const reach = this.vendor === 'vtd' ? vtdReach(e.words) : amdReach(e.words);
    if (reach === undefined) return;
    for (const [key, r] of this.under) if (r.unit === e.unit && reaches(reach, r)) this.draining.add(key);
  }
}

const keyOf = (rid: number, dfn: number, mfn: number, write: boolean): string =>
  `${rid} ${dfn} ${mfn} ${write}`;

const isWait = (vendor: Vendor, words: readonly number[]): boolean =>
  vendor === 'vtd' ? (words[0]! & 15) === VTD.WAIT : words[1]! >>> 28 === AMD.WAIT;

const frameOf = (low: number, high: number): number => (high >>> 0) * 0x10_0000 + (low >>> 12);

function vtdReach(words: readonly number[]): Reach | undefined {
  const w0 = words[0]!;
  if ((w0 & 15) !== VTD.IOTLB) return undefined;
  const drains = { reads: (w0 & VTD.DR) !== 0, writes: (w0 & VTD.DW) !== 0 };
  const granularity = (w0 >>> 4) & 3;
  if (granularity === VTD.GLOBAL) return drains;
  const did = w0 >>> 16;
  if (granularity === VTD.DOMAIN) return { did, ...drains };
  const size = 2 ** (words[2]! & 63);
  const frame = frameOf(words[2]!, words[3]!);
  const first = frame - (frame % size);
  return { did, first, last: first + size - 1, ...drains };
}

function amdReach(words: readonly number[]): Reach | undefined {
  switch (words[1]! >>> 28) {
    case AMD.ALL:
      return EVERYTHING;
    case AMD.DEVTAB:
      return { ...EVERYTHING, rid: words[0]! & 0xffff };
    case AMD.PAGES: {
      const did = words[1]! & 0xffff;
      let first = frameOf(words[2]!, words[3]!);
      let size = 1;
      if ((words[2]! & AMD.S) !== 0) {
        for (let rest = first; rest % 2 === 1; rest = (rest - 1) / 2) size *= 2;
        size *= 2;
        first -= first % size;
      }
      return { ...EVERYTHING, did, first, last: first + size - 1 };
    }
    default:
      return undefined;
  }
}

function reaches(w: Reach, r: Request): boolean {
  if (r.write ? !w.writes : !w.reads) return false;
  if ((w.did !== undefined && w.did !== r.did) || (w.rid !== undefined && w.rid !== bdfOf(r.rid)))
    return false;
  return w.first === undefined || (r.dfn >= w.first && r.dfn <= w.last!);
}
