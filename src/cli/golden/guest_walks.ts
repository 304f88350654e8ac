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
const FRAMES_MAX = 2 ** 24;

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Frames that each guest's devices reach, by guest name. @throws InputError */
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
    if (ranges.reduce((n, r) => n + r.end - r.start, 0) <= FRAMES_MAX) walks.set(name, ranges);
  }
  return walks;
}

/** Bits of the highest frame: the guest got nothing above, so nothing there was scrubbed when it was made. */
export const bitsOf = (ranges: readonly Range[]): number =>
  Math.floor(Math.log2(Math.max(1, ...ranges.map((r) => r.end - 1)))) + 1;

/** What the guest has and the walk has not are page tables. @returns whether the walk is of this guest */
export function usePageTables(machine: Machine, domid: number, ranges: readonly Range[]): boolean {
  const d = machine.xen.domains.get(domid);
  if (d === undefined || d.isHvm) return false;
  const reached = new Set<number>();
  for (const r of ranges) for (let mfn = r.start; mfn < r.end; mfn++) reached.add(mfn);
  const tables: number[] = [];
  for (const x of d.extents)
    for (let mfn = x.mfn; mfn < x.mfn + 2 ** x.order; mfn++) if (!reached.has(mfn)) tables.push(mfn);
  if (tables.length > d.totPages * (1 - SHARE)) return false;
  for (const mfn of tables) runAlone(machine.hypercalls.mmuextOp({ cmd: 'pin_table', domid, mfn }));
  return true;
}
