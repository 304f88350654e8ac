/**
 * Walks of guests' second-level tables that the recorder made from outside, `slpt-NAME.json`. Two things that Xen was
 * given are in them: how far it had scrubbed memory by then, and which pages the guest's kernel used as page tables.
 */
import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { InputError } from '../../base/assert.js';
import type { Machine } from '../../machine.js';
import { runAlone } from '../../sim/co.js';
import { readBytes } from '../files.js';

const hex = z.string().regex(/^0x[0-9a-f]{1,13}$/);
const Walk = z.object({ ranges: z.array(z.tuple([hex, hex, hex, z.string()])).max(100_000) });
const FILE = /^slpt-([\w.]{1,64})\.json$/;
/** A walk is of this guest when at least this part of its pages is in it. */
const SHARE = 0.9;

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Frames that each guest's devices reach, by guest name, rising. @throws InputError */
export function guestWalks(dir: string): Map<string, readonly Range[]> {
  const walks = new Map<string, readonly Range[]>();
  for (const file of fs.readdirSync(dir).sort()) {
    const name = FILE.exec(file)?.[1];
    if (name === undefined) continue;
    const at = path.join(dir, file);
    let json: unknown;
    try {
      json = JSON.parse(Buffer.from(readBytes(at)).toString('utf8'));
    } catch (e) {
      if (e instanceof InputError) throw e;
      throw new InputError(at, '', 'no JSON', 'remove it');
    }
    const parsed = Walk.safeParse(json);
    if (!parsed.success) throw new InputError(at, '', 'no list of ranges', 'remove it');
    const ranges = parsed.data.ranges.map(([, to, bytes]) => {
      const start = Math.floor(Number(to) / 4096);
      return { start, end: start + Math.floor(Number(bytes) / 4096) };
    });
    walks.set(
      name,
      ranges.sort((a, b) => a.start - b.start),
    );
  }
  return walks;
}

/** Bits of the highest frame: the guest got nothing above, so nothing there was scrubbed when it was made. */
export const bitsOf = (ranges: readonly Range[]): number =>
  Math.floor(Math.log2(ranges.reduce((max, r) => Math.max(max, r.end - 1), 1))) + 1;

/** Larger pages stand further left. */
const LEAF = /^\(XEN\)( +)dfn: [0-9a-f]{8,13} mfn: ([0-9a-f]{8,13}) r?w?$/;

/**
 * As bitsOf(), from a dump of tables on the console; undefined where there is none. Where there are pages of several
 * sizes only larger ones tell: single ones come from blocks that are broken already.
 */
export function dumpedBits(log: readonly string[]): number | undefined {
  const max = new Map<number, number>();
  for (const line of log) {
    const m = LEAF.exec(line);
    if (m === null) continue;
    max.set(m[1]!.length, Math.max(max.get(m[1]!.length) ?? 0, Number.parseInt(m[2]!, 16)));
  }
  if (max.size === 0) return undefined;
  const single = max.size > 1 ? Math.max(...max.keys()) : undefined;
  const highest = Math.max(...[...max].filter(([indent]) => indent !== single).map(([, mfn]) => mfn));
  return bitsOf([{ start: highest, end: highest + 1 }]);
}

/**
 * Page tables of the recorded guests' Linux once it is up, by guest frame: those that libxc made, those of its direct map
 * and of its processors. Two walks of guests agree in these; more come with processes.
 */
const LINUX_TABLES: readonly (readonly [number, number])[] = [
  [0x2a10, 0x2a10],
  [0x2a12, 0x2a13],
  [0x2a15, 0x2a19],
  [0x3312, 0x3312],
  [0x3314, 0x3315],
  [0x4400, 0x4400],
  [0x4a06, 0x4a2b],
  [0x5001, 0x503f],
  [0x5054, 0x5055],
  [0x5057, 0x5057],
  [0x505c, 0x505c],
  [0x505e, 0x5060],
  [0x51b0, 0x51b1],
  [0x58bd, 0x58bd],
  [0x980b, 0x980b],
  [0x9ede, 0x9edf],
  [0x9f41, 0x9f41],
  [0x9f96, 0x9f98],
  [0x9f9a, 0x9f9b],
  [0x9f9e, 0x9fa1],
  [0x9fd7, 0x9fff],
];
/** Of a guest with so much memory, as all of them have: 160 MiB. */
const LINUX_PAGES = 0xa000;
const SUPERPAGE = 512;

/** A PV guest of which there is no walk. */
export function useKernelTables(machine: Machine, domid: number): void {
  const d = machine.xen.domains.get(domid);
  if (d === undefined || d.isHvm || d.totPages !== LINUX_PAGES) return;
  for (const [first, last] of LINUX_TABLES) {
    for (let pfn = first; pfn <= last; pfn++) {
      const start = pfn - (pfn % SUPERPAGE);
      const whole = d.pvGfns.get(start);
      const mfn = d.pvGfns.get(pfn) ?? (whole === undefined ? -1 : whole + (pfn - start));
      runAlone(machine.hypercalls.mmuextOp({ cmd: 'pin_table', domid, mfn }));
    }
  }
}

/** Whether one of the ranges has it, which are sorted. */
function within(ranges: readonly Range[], mfn: number): boolean {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const mid = Math.floor((low + high) / 2);
    if (ranges[mid]!.start <= mfn) low = mid + 1;
    else high = mid;
  }
  return low > 0 && mfn < ranges[low - 1]!.end;
}

/** What the guest has and the walk has not are page tables. @returns whether the walk is of this guest */
export function usePageTables(machine: Machine, domid: number, ranges: readonly Range[]): boolean {
  const d = machine.xen.domains.get(domid);
  if (d === undefined || d.isHvm) return false;
  const tables: number[] = [];
  for (const x of d.extents)
    for (let mfn = x.mfn; mfn < x.mfn + 2 ** x.order; mfn++) if (!within(ranges, mfn)) tables.push(mfn);
  if (tables.length > d.totPages * (1 - SHARE)) return false;
  for (const mfn of tables) runAlone(machine.hypercalls.mmuextOp({ cmd: 'pin_table', domid, mfn }));
  return true;
}
