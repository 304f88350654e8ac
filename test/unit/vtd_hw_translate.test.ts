/** The fast translation path against its layouts, and against a slow and obvious walker of its own. */
import { describe, expect, test } from 'vitest';
import type { Field, Layout } from '../../src/base/layout.js';
import { Rng } from '../../src/base/rng.js';
import { CONTEXT, ROOT, SLPTE } from '../../src/iommu/format/vtd.js';
import * as state from '../../src/iommu/hw/vtd/state.js';
import { HAND_MASKS as M } from '../../src/iommu/hw/vtd/translate.js';
import { caps, Rig } from '../support/vtd_rig.js';

const maskOf = (f: Field): number => (f.mask * 2 ** f.lo) | 0;
/** Bits of one word that no field of a layout and no frame number covers. */
const uncovered = (layout: Layout, word: number, taken: number): number =>
  Object.values(layout).reduce((rest, f) => (f.word === word ? rest & ~maskOf(f) : rest), ~taken | 0);

test('masks written by hand are those of the layouts', () => {
  expect(M.P).toBe(maskOf(ROOT.P));
  expect(M.P).toBe(maskOf(CONTEXT.P));
  expect(M.FPD).toBe(maskOf(CONTEXT.FPD));
  expect(M.TT_SHIFT).toBe(CONTEXT.TT.lo);
  expect(M.AW).toBe(maskOf(CONTEXT.AW));
  expect(M.DID_SHIFT).toBe(CONTEXT.DID.lo);
  expect(M.R).toBe(maskOf(SLPTE.R));
  expect(M.W).toBe(maskOf(SLPTE.W));
  expect(M.PS).toBe(maskOf(SLPTE.PS));
});
test('reserved bits are those that no field and no frame number covers', () => {
  const frameLo = 0xffff_f000 | 0;
  expect(M.ROOT_RSVD_LO).toBe(uncovered(ROOT, 0, frameLo));
  expect(M.CONTEXT_RSVD_LO).toBe(uncovered(CONTEXT, 0, frameLo));
  expect(new Rig().unit.contextReserved).toBe(uncovered(CONTEXT, 2, 0));
});
test('places in the cache array are those of its layout', () => {
  const { CC_AT, CC_VALID, CC_DID_AT, VICTIM_AT, NO_STAMP } = state;
  expect(M).toMatchObject({ CC_AT, CC_VALID, CC_DID_AT, VICTIM_AT, NO_STAMP });
  // The fast path has these numbers in shifts and masks.
  expect([state.TLB_SETS, state.TLB_SET_WORDS, state.CC_ENTRIES, state.CC_WORDS]).toEqual([256, 16, 256, 4]);
});

/** A walker that shares nothing with the one in src: BigInt, no cache, in the manual's words. */
class Reference {
  constructor(
    private readonly rig: Rig,
    private readonly haw: bigint,
  ) {}
  private qword(addr: bigint): bigint | undefined {
    if (addr >= BigInt(this.rig.ram.frames) * 4096n) return undefined;
    const at = Number(addr);
    return BigInt(this.rig.ram.read32(at) >>> 0) | (BigInt(this.rig.ram.read32(at + 4) >>> 0) << 32n);
  }
  private field(v: bigint, hi: number, lo: number): bigint {
    return (v >> BigInt(lo)) & ((1n << BigInt(hi - lo + 1)) - 1n);
  }
  translate(rid: number, dfn: number, write: boolean): number {
    const root = BigInt(this.rig.rootFrame) * 4096n + BigInt(rid >>> 8) * 16n;
    const re = this.qword(root)!;
    if ((re & 1n) === 0n) return -1;
    if (this.field(re, 11, 1) !== 0n || re >> this.haw !== 0n || this.qword(root + 8n) !== 0n) return -10;
    const at = (re & ~0xfffn) + BigInt(rid & 255) * 16n;
    const lo = this.qword(at);
    const hi = this.qword(at + 8n);
    if (lo === undefined || hi === undefined) return -9;
    if ((lo & 1n) === 0n) return -2;
    if (this.field(lo, 11, 4) !== 0n || lo >> this.haw !== 0n) return -11;
    if (this.field(hi, 7, 7) !== 0n || this.field(hi, 63, 24) !== 0n) return -11;
    const aw = Number(this.field(hi, 2, 0));
    if (aw !== 1 && aw !== 2) return -3;
    const tt = this.field(lo, 3, 2);
    if (tt === 1n || tt === 3n) return -3;
    // Nothing is walked: the largest width there is, and no address that the host has not.
    if (tt === 2n && aw !== 2) return -3;
    const width = tt === 2n ? this.haw : BigInt(30 + 9 * aw);
    const iova = BigInt(dfn) * 4096n;
    if (iova >> width !== 0n) return -4;
    if (tt === 2n) return dfn;
    return this.walk(lo & ~0xfffn, aw + 2, iova, write);
  }
  private walk(root: bigint, levels: number, iova: bigint, write: boolean): number {
    let table = root;
    for (let level = levels; level >= 1; level--) {
      const shift = BigInt(12 + 9 * (level - 1));
      const e = this.qword(table + ((iova >> shift) & 511n) * 8n);
      if (e === undefined) return level === levels ? -3 : -7;
      if ((e & (write ? 2n : 1n)) === 0n) return write ? -5 : -6;
      const addr = this.field(e, 51, 12) << 12n;
      const leaf = level === 1 || (level <= 3 && this.field(e, 7, 7) === 1n);
      const reserved =
        addr >> this.haw !== 0n ||
        this.field(e, 62, 62) !== 0n ||
        (!leaf && this.field(e, 11, 11) !== 0n) ||
        (level >= 4 && this.field(e, 7, 7) !== 0n) ||
        (leaf && (addr & ((1n << shift) - 1n)) !== 0n);
      if (reserved) return -12;
      if (leaf) return Number((addr | (iova & ((1n << shift) - 1n))) >> 12n);
      table = addr;
    }
    throw new Error('no leaf');
  }
}

/** A machine of few frames, so that random pointers often hit tables. */
function randomMachine(rng: Rng): Rig {
  const rig = new Rig({ haw: 39 }, 0x400).on();
  const frames = 24;
  const first = 0x200;
  const spice = (): number => (rng.below(12) === 0 ? 1 << rng.below(32) : 0);
  const target = (): number => (rng.below(20) === 0 ? rng.next() & 0x7ff : first + rng.below(frames));
  for (let bus = 0; bus < 4; bus++)
    rig.put(
      rig.rootFrame,
      bus * 4,
      target() * 4096 + (rng.below(12) === 0 ? 0 : rng.below(12) === 0 ? 0x41 : 1),
      spice() & 0x7f,
      0,
      0,
    );
  for (let f = first; f < first + frames; f++) {
    for (let i = 0; i < 64; i++) {
      const kind = rng.below(4);
      const at = rng.below(16) * 4;
      if (kind === 0) {
        // A context entry, mostly sound.
        const tt = rng.below(6) === 0 ? rng.below(4) : 0;
        const aw = rng.below(8) === 0 ? rng.below(8) : 1 + rng.below(2);
        rig.put(
          f,
          at,
          (target() * 4096 + tt * 4 + 1) | spice(),
          0,
          (rng.below(0x1_0000) * 256 + aw) | spice(),
          0,
        );
      } else {
        const flags = rng.below(8) === 0 ? rng.below(4096) : 3 | (rng.below(6) === 0 ? 0x80 : 0);
        rig.put(f, at / 2, (target() * 4096) | flags, spice() & (rng.below(4) === 0 ? -1 : 0x7f));
      }
    }
  }
  return rig;
}

const inSmallTables = (rng: Rng): number =>
  rng.below(16) + rng.below(16) * 512 + rng.below(16) * 512 ** 2 + rng.below(16) * 512 ** 3;

describe('against the reference walker', () => {
  test('random tables give the same frame or the same reason, whether it is cached or not', () => {
    const outcomes = new Map<number, number>();
    for (let seed = 1; seed <= 40; seed++) {
      const rng = new Rng(seed);
      const rig = randomMachine(rng);
      const reference = new Reference(rig, 39n);
      for (let i = 0; i < 300; i++) {
        const rid = rng.below(4) * 256 + rng.below(8);
        const dfn = rng.below(30) === 0 ? rng.next() * 2 ** rng.below(16) : inSmallTables(rng);
        const write = rng.below(2) === 0;
        if (rng.below(3) === 0) forget(rig);
        const want = reference.translate(rid, dfn, write);
        const { unit } = rig;
        const got = [
          unit.probe(rid, dfn, write),
          unit.translate(rid, dfn, write),
          unit.translate(rid, dfn, write),
          unit.probe(rid, dfn, write),
        ];
        if (sharedDid(rig)) {
          forget(rig);
          continue;
        }
        if (got.some((g) => g !== want))
          expect.fail(`seed ${seed}, step ${i}, ${rid}, ${dfn}, ${write}: ${got} instead of ${want}`);
        const outcome = Math.min(want, 0);
        outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
      }
    }
    // Each outcome occurs, so that none is compared with nothing.
    for (const reason of [0, -1, -2, -3, -4, -5, -6, -7, -9, -10, -11, -12])
      expect(outcomes.get(reason) ?? 0, `reason ${-reason}`).toBeGreaterThan(20);
  });
});

/** Two contexts with one domain id and different tables are software's mistake; the caches may answer either. */
function sharedDid(rig: Rig): boolean {
  const roots = new Map<number, number>();
  return rig.unit.cachedContexts().some((c) => {
    const other = roots.get(c.did);
    roots.set(c.did, c.root);
    return other !== undefined && other !== c.root;
  });
}
function forget(rig: Rig): void {
  rig.unit.write64(0x28, 0, 0xa000_0000);
  rig.unit.write64(0x508, 0, 0x9000_0000);
}

test('probing changes nothing: not a register, not a cache', () => {
  const rng = new Rng(7);
  const rig = randomMachine(rng);
  for (let i = 0; i < 200; i++) rig.unit.translate(rng.below(1024), inSmallTables(rng), rng.below(2) === 0);
  const before = {
    cache: rig.unit.cache.slice(),
    regs: rig.unit.regs.slice(),
    dir: rig.unit.stampDir.slice(),
  };
  for (let i = 0; i < 2000; i++) rig.unit.probe(rng.below(1024), inSmallTables(rng), rng.below(2) === 0);
  expect(rig.unit.cache).toEqual(before.cache);
  expect(rig.unit.regs).toEqual(before.regs);
  expect(rig.unit.stampDir).toEqual(before.dir);
});

test('after a change without invalidation each answer is an old one or the present one', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const rng = new Rng(seed);
    const rig = new Rig(rng.below(2) === 0 ? {} : caps([[0, 7, 7, 1]])).on();
    const root = rig.device(8, 3);
    const ever = new Map<number, Set<number>>();
    const note = (dfn: number, mfn: number): void => {
      ever.set(dfn, (ever.get(dfn) ?? new Set([-6])).add(mfn));
    };
    for (let i = 0; i < 300; i++) {
      const dfn = rng.below(64);
      if (rng.below(3) === 0) rig.unmap(root, 4, dfn);
      else {
        const mfn = 0x1000 + rng.below(256);
        rig.map(root, 4, dfn, mfn);
        note(dfn, mfn);
      }
      if (rng.below(10) === 0) forget(rig);
      const asked = rng.below(64);
      const got = rig.unit.translate(8, asked, false);
      expect(ever.get(asked) ?? new Set([-6]), `seed ${seed}, step ${i}`).toContain(got);
      if (got >= 0) expect(rig.unit.stillProduces(got)).toBe(true);
    }
    forget(rig);
    for (let dfn = 0; dfn < 64; dfn++)
      expect(rig.unit.translate(8, dfn, false)).toBe(new Reference(rig, 39n).translate(8, dfn, false));
  }
});
