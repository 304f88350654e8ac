/** VT-d chapter 6: what the caches keep, and what each invalidation takes out of them. */
import { describe, expect, test } from 'vitest';
import { caps, REG, Rig } from '../support/vtd_rig.js';

const A = 0x0300;
const B = 0x0400;
const CONTEXT = 1;
const IOTLB = 2;
const G = { global: 0x10, domain: 0x20, select: 0x30 };

/** Two devices in domains 1 and 2, everything mapped to itself plus an offset, and everything cached. */
function warm(rig = new Rig()): { rig: Rig; a: number; b: number } {
  rig.on().queue();
  const a = rig.device(A, 1);
  const b = rig.device(B, 2);
  for (let dfn = 0; dfn < 20; dfn++) {
    rig.map(a, 4, dfn, 0x1_0000 + dfn);
    rig.map(b, 4, dfn, 0x2_0000 + dfn);
    rig.unit.translate(A, dfn, true);
    rig.unit.translate(B, dfn, true);
  }
  return { rig, a, b };
}
/** Frames of 0..19 that are still answered although the page is gone from the table. */
function stale(rig: Rig, rid: number, root: number): number[] {
  const kept: number[] = [];
  for (let dfn = 0; dfn < 20; dfn++) {
    rig.unmap(root, 4, dfn);
    if (rig.unit.probe(rid, dfn, true) >= 0) kept.push(dfn);
  }
  return kept;
}
const all = Array.from({ length: 20 }, (_, i) => i);

describe('the IOTLB (6.2.4, 6.5.2.3)', () => {
  test('goes on answering from what it cached after the table changed', () => {
    const { rig, a, b } = warm();
    expect(stale(rig, A, a)).toEqual(all);
    expect(stale(rig, B, b)).toEqual(all);
  });

  test('INV-I7 still produces a frame for the old owner until it is invalidated, and says so', () => {
    const { rig, a } = warm();
    rig.unmap(a, 4, 7);
    expect(rig.unit.stillProduces(0x1_0007)).toBe(true);
    expect(rig.unit.cachedTranslations()).toContainEqual({
      did: 1,
      dfn: 7,
      mfn: 0x1_0007,
      frames: 1,
      read: true,
      write: true,
    });
    rig.submit(IOTLB | G.select | (1 << 16), 0, 7 * 4096, 0);
    expect(rig.unit.stillProduces(0x1_0007)).toBe(false);
    expect(rig.unit.translate(A, 7, true)).toBe(-5);
  });

  test.each([
    ['a global invalidation takes everything', [IOTLB | G.global], [], []],
    ['a domain invalidation takes that domain alone', [IOTLB | G.domain | (1 << 16)], [], all],
    ['a domain invalidation of another id takes nothing', [IOTLB | G.domain | (9 << 16)], all, all],
    [
      'a page invalidation takes one page',
      [IOTLB | G.select | (1 << 16), 0, 5 * 4096],
      all.filter((d) => d !== 5),
      all,
    ],
    [
      'a page invalidation with mask 2 takes four aligned pages',
      [IOTLB | G.select | (1 << 16), 0, 4 * 4096 + 2],
      all.filter((d) => d < 4 || d > 7),
      all,
    ],
    [
      'low address bits within the mask are ignored',
      [IOTLB | G.select | (2 << 16), 0, 6 * 4096 + 2],
      all,
      all.filter((d) => d < 4 || d > 7),
    ],
    [
      'a page invalidation with mask 4 takes sixteen pages',
      [IOTLB | G.select | (1 << 16), 0, 4],
      all.filter((d) => d > 15),
      all,
    ],
    ['a mask of 18 takes a gigabyte', [IOTLB | G.select | (1 << 16), 0, 18], [], all],
    ['a context invalidation leaves the IOTLB alone', [CONTEXT | G.global], all, all],
  ])('%s', (_says, words, keptA, keptB) => {
    const { rig, a, b } = warm();
    rig.submit(...(words as number[]));
    expect(stale(rig, A, a)).toEqual(keptA);
    expect(stale(rig, B, b)).toEqual(keptB);
  });

  test('two devices of one domain share its translations', () => {
    const { rig, a } = warm();
    rig.context(B + 1, { did: 1, root: a });
    expect(stale(rig, B + 1, a)).toEqual(all);
  });

  test('a superpage is one entry, and goes when any page in it is invalidated', () => {
    for (const [level, frames] of [
      [2, 512],
      [3, 262_144],
    ] as const) {
      const { rig, a } = warm();
      const dfn = 0x4_0000;
      rig.map(a, 4, dfn, 0x8_0000, 3, level);
      expect(rig.unit.translate(A, dfn + 3, false)).toBe(0x8_0003);
      rig.unmap(a, 4, dfn, level);
      expect(rig.unit.probe(A, dfn + frames - 1, false)).toBe(0x8_0000 + frames - 1);
      expect(rig.unit.stillProduces(0x8_0000 + frames - 1)).toBe(true);
      rig.submit(IOTLB | G.select | (1 << 16), 0, (dfn + frames) * 4096);
      expect(rig.unit.probe(A, dfn, false)).toBe(0x8_0000);
      rig.submit(IOTLB | G.select | (1 << 16), 0, (dfn + frames - 1) * 4096);
      expect(rig.unit.probe(A, dfn, false)).toBe(-6);
      expect(rig.unit.stillProduces(0x8_0000)).toBe(false);
    }
  });

  test('a large mask takes superpages it overlaps, and no others', () => {
    const { rig, a } = warm();
    rig.map(a, 4, 0x4_0000, 0x8_0000, 3, 2);
    rig.map(a, 4, 0x4_0200, 0x9_0000, 3, 2);
    rig.unit.translate(A, 0x4_0000, false);
    rig.unit.translate(A, 0x4_0200, false);
    rig.unmap(a, 4, 0x4_0000, 2);
    rig.unmap(a, 4, 0x4_0200, 2);
    rig.submit(IOTLB | G.select | (1 << 16), 0, 0x4_0000 * 4096 + 9);
    expect(rig.unit.probe(A, 0x4_0000, false)).toBe(-6);
    expect(rig.unit.probe(A, 0x4_0200, false)).toBe(0x9_0000);
  });

  test('a page that becomes less restrictive keeps its old permission until it is invalidated', () => {
    const { rig, a } = warm();
    rig.map(a, 4, 0x100, 0x5000, 1);
    expect(rig.unit.translate(A, 0x100, false)).toBe(0x5000);
    rig.map(a, 4, 0x100, 0x5000, 3);
    expect(rig.unit.translate(A, 0x100, true)).toBe(-5);
    rig.submit(IOTLB | G.select | (1 << 16), 0, 0x100 * 4096);
    expect(rig.unit.translate(A, 0x100, true)).toBe(0x5000);
  });

  test('with caching mode off an absent page is not remembered', () => {
    const { rig, a } = warm();
    expect(rig.unit.translate(A, 0x100, true)).toBe(-5);
    rig.map(a, 4, 0x100, 0x5000);
    expect(rig.unit.translate(A, 0x100, true)).toBe(0x5000);
  });

  test.each([
    ['an absent page', (rig: Rig, a: number) => rig.unmap(a, 4, 0x100), -5],
    ['a malformed page', (rig: Rig, a: number) => rig.map(a, 4, 0x100, 2 ** 27), -12],
  ])('with caching mode %s is remembered until it is invalidated', (_says, spoil, reason) => {
    const { rig, a } = warm(new Rig(caps([[0, 7, 7, 1]])));
    spoil(rig, a);
    expect(rig.unit.translate(A, 0x100, true)).toBe(reason);
    rig.map(a, 4, 0x100, 0x5000);
    expect(rig.unit.translate(A, 0x100, true)).toBe(reason);
    expect(rig.unit.probe(A, 0x100, true)).toBe(reason);
    if (reason === -5) expect(rig.unit.translate(A, 0x100, false)).toBe(-6);
    rig.submit(IOTLB | G.select | (1 << 16), 0, 0x100 * 4096);
    expect(rig.unit.translate(A, 0x100, true)).toBe(0x5000);
  });

  test('with caching mode a refused write does not make the page unreadable', () => {
    const { rig, a } = warm(new Rig(caps([[0, 7, 7, 1]])));
    rig.map(a, 4, 0x100, 0x5000, 1);
    expect(rig.unit.translate(A, 0x100, true)).toBe(-5);
    expect(rig.unit.translate(A, 0x100, false)).toBe(0x5000);
  });

  test('a domain id that is used again after an invalidation finds nothing of its past', () => {
    const { rig, a, b } = warm();
    rig.context(A, { did: 2, root: a });
    rig.submit(CONTEXT | G.select | (1 << 16), A);
    // Domain 2 has cached these pages for B: without a flush A gets B's memory.
    expect(rig.unit.probe(A, 3, true)).toBe(0x2_0003);
    rig.submit(IOTLB | G.domain | (2 << 16));
    expect(rig.unit.probe(A, 3, true)).toBe(0x1_0003);
    expect(stale(rig, B, b)).toEqual([]);
  });

  test('the highest and the lowest domain id do not meet', () => {
    const rig = new Rig().on();
    for (const did of [0, 1, 0xff, 0x100, 0x8000, 0xfffe, 0xffff]) {
      const rid = 0x500 + (did % 251);
      rig.map(rig.device(rid, did), 4, 5, 0x3_0000 + did);
      expect(rig.unit.translate(rid, 5, false)).toBe(0x3_0000 + did);
    }
    expect(
      rig.unit
        .cachedTranslations()
        .map((t) => t.did)
        .sort((x, y) => x - y),
    ).toEqual([0, 1, 0xff, 0x100, 0x8000, 0xfffe, 0xffff]);
  });

  test('more pages than it has room for are all translated rightly', () => {
    const { rig, a } = warm();
    for (let dfn = 0; dfn < 3000; dfn++) rig.map(a, 4, dfn, 0x4_0000 + dfn);
    rig.submit(IOTLB | G.domain | (1 << 16));
    for (let round = 0; round < 2; round++)
      for (let dfn = 0; dfn < 3000; dfn++) expect(rig.unit.translate(A, dfn, true)).toBe(0x4_0000 + dfn);
    expect(rig.unit.cachedTranslations().length).toBeLessThanOrEqual(1024);
  });

  test('stamps that run out are renumbered without reviving anything', () => {
    const { rig, a, b } = warm();
    rig.unit.nextStamp = 0x7fff_ffff;
    rig.submit(IOTLB | G.domain | (1 << 16));
    expect(stale(rig, A, a)).toEqual([]);
    expect(stale(rig, B, b)).toEqual([]);
    rig.map(b, 4, 1, 0x9999);
    expect(rig.unit.translate(B, 1, false)).toBe(0x9999);
  });
});

describe('the context cache (6.2.2, 6.5.2.1)', () => {
  /** Whether A still has its old context after its entry was cleared and `words` were executed. */
  function kept(words: readonly number[], rid = A): boolean {
    const { rig } = warm();
    rig.rawContext(rid, 0, 0, 0, 0);
    rig.submit(...words);
    return rig.unit.probe(rid, 3, true) >= 0;
  }
  /** Of a device of domain 1: its id, and how much of the function number is not compared. */
  const select = (rid: number, mask = 0): number[] => [CONTEXT | G.select | (1 << 16), (mask << 16) | rid];
  test.each([
    ['no invalidation', 'is still used', [IOTLB | G.domain | (7 << 16)]],
    ['a global one', 'is gone', [CONTEXT | G.global]],
    ['one of its domain', 'is gone', [CONTEXT | G.domain | (1 << 16)]],
    ['one of another domain', 'is still used', [CONTEXT | G.domain | (2 << 16)]],
    ['one of the device in its domain', 'is gone', select(A)],
    ['one of the device in another domain', 'is still used', [CONTEXT | G.select | (2 << 16), A]],
    ['one of another device', 'is still used', select(A + 8)],
    ['one of function 7 of the slot', 'is still used', select(A + 7)],
    ['one of function 4 with bit 2 masked', 'is gone', select(A + 4, 1)],
    ['one of function 6 with bit 2 masked', 'is still used', select(A + 6, 1)],
    ['one of function 6 with bits 2:1 masked', 'is gone', select(A + 6, 2)],
    ['one of function 7 with bits 2:1 masked', 'is still used', select(A + 7, 2)],
    ['one of function 7 with bits 2:0 masked', 'is gone', select(A + 7, 3)],
    ['one of the next slot with bits 2:0 masked', 'is still used', select(A + 8, 3)],
  ])('after %s the old entry %s', (_says, outcome, words) => {
    expect(kept(words as number[])).toBe(outcome === 'is still used');
  });

  test('requesters that share a cache line are told apart', () => {
    const rig = new Rig().on();
    // 0x0300 and 0x0003 fall on one line of 256.
    rig.map(rig.device(0x0300, 1), 4, 1, 0x111);
    rig.map(rig.device(0x0003, 2), 4, 1, 0x222);
    for (let i = 0; i < 3; i++) {
      expect(rig.unit.translate(0x0300, 1, false)).toBe(0x111);
      expect(rig.unit.translate(0x0003, 1, false)).toBe(0x222);
    }
  });

  test('with caching mode off an absent entry is not remembered', () => {
    const { rig, a } = warm();
    expect(rig.unit.translate(B + 8, 3, true)).toBe(-2);
    rig.context(B + 8, { did: 1, root: a });
    expect(rig.unit.translate(B + 8, 3, true)).toBe(0x1_0003);
  });

  test.each([
    ['an absent entry', [0, 0, 0, 0], -2],
    ['a malformed entry', [0x11, 0, 2, 0], -11],
  ])('with caching mode %s is remembered under domain id 0', (_says, words, reason) => {
    const { rig, a } = warm(new Rig(caps([[0, 7, 7, 1]])));
    const rid = B + 8;
    rig.rawContext(rid, ...(words as number[]));
    expect(rig.unit.translate(rid, 3, true)).toBe(reason);
    expect(rig.unit.cachedContexts()).toContainEqual({
      rid,
      did: 0,
      root: 0,
      passThrough: false,
      faulting: true,
    });
    rig.context(rid, { did: 1, root: a });
    rig.submit(CONTEXT | G.select | (1 << 16), rid);
    expect(rig.unit.translate(rid, 3, true)).toBe(reason);
    rig.submit(CONTEXT | G.select, rid);
    expect(rig.unit.translate(rid, 3, true)).toBe(0x1_0003);
  });

  test('lists what it holds', () => {
    const { rig, a, b } = warm();
    rig.context(0x700, { did: 5, tt: 2 });
    rig.unit.translate(0x700, 1, false);
    const entry = (rid: number, did: number, root: number, passThrough = false) => ({
      rid,
      did,
      root,
      passThrough,
      faulting: false,
    });
    expect(rig.unit.cachedContexts().sort((x, y) => x.rid - y.rid)).toEqual([
      entry(A, 1, a),
      entry(B, 2, b),
      entry(0x700, 5, 0, true),
    ]);
  });
});

describe('invalidation by register (6.5.1, 11.4.6)', () => {
  const ICC = 0x8000_0000;
  const IVT = 0x8000_0000;
  const IRO = 0x500;
  function warmed(options = {}): { rig: Rig; a: number; b: number } {
    const w = warm(new Rig(options));
    w.rig.unit.write32(REG.GCMD, 0x8000_0000);
    return w;
  }
  test.each([
    ['global', 1, 0, 0, false, false],
    ['domain', 2, 1, 0, false, true],
    ['device', 3, 1, A, false, true],
  ])('CCMD %s clears ICC and reports what it did', (_says, cirg, did, sid, keepsA, keepsB) => {
    const { rig } = warmed();
    rig.rawContext(A, 0, 0, 0, 0);
    rig.rawContext(B, 0, 0, 0, 0);
    rig.unit.write64(REG.CCMD, (sid << 16) | did, (ICC | (cirg << 29)) >>> 0);
    expect(rig.unit.read32(REG.CCMD + 4)).toBe(((cirg << 29) | (cirg << 27)) >>> 0);
    expect(rig.unit.probe(A, 3, true) >= 0).toBe(keepsA);
    expect(rig.unit.probe(B, 3, true) >= 0).toBe(keepsB);
  });
  test.each([
    ['global', 1, 0, 0, 1, [], []],
    ['domain', 2, 1, 0, 2, [], all],
    ['page', 3, 1, 5 * 4096 + 1, 3, all.filter((d) => d !== 4 && d !== 5), all],
    ['page with a mask beyond MAMV', 3, 1, 19, 0, all, all],
  ])('IOTLB %s clears IVT and reports what it did', (_says, iirg, did, iva, iaig, keptA, keptB) => {
    const { rig, a, b } = warmed();
    rig.unit.write64(IRO, iva as number, 0);
    rig.unit.write64(IRO + 8, 0, (IVT | (iirg << 28) | did) >>> 0);
    expect(rig.unit.read32(IRO + 12)).toBe(((iirg << 28) | (iaig << 25) | did) >>> 0);
    expect(stale(rig, A, a)).toEqual(keptA);
    expect(stale(rig, B, b)).toEqual(keptB);
  });
  test('without PSI a page-selective request is performed for the domain, and says so', () => {
    const { rig, a } = warmed(caps([[1, 7, 7, 0]]));
    rig.unit.write64(IRO, 5 * 4096, 0);
    rig.unit.write64(IRO + 8, 0, (IVT | (3 << 28) | 1) >>> 0);
    expect((rig.unit.read32(IRO + 12) >>> 25) & 3).toBe(2);
    expect(stale(rig, A, a)).toEqual([]);
  });
  test('while the queue is on both are ignored and stay pending', () => {
    const { rig, a } = warm();
    rig.unit.write64(IRO + 8, 0, (IVT | (1 << 28)) >>> 0);
    rig.unit.write64(REG.CCMD, 0, (ICC | (1 << 29)) >>> 0);
    expect(rig.unit.read32(IRO + 12)).toBe(0x9000_0000);
    expect(rig.unit.read32(REG.CCMD + 4)).toBe(0xa000_0000);
    expect(stale(rig, A, a)).toEqual(all);
  });
  test('a slow unit keeps IVT set until its time has come', () => {
    const { rig, a } = warm();
    rig.unit.write32(REG.GCMD, 0x8000_0000);
    rig.unit.latencyNs = 1000;
    rig.unit.write64(IRO + 8, 0, (IVT | (1 << 28)) >>> 0);
    rig.unmap(a, 4, 5);
    expect(rig.unit.read32(IRO + 12)).toBe(0x9000_0000);
    expect(rig.unit.translate(A, 5, true)).toBe(0x1_0005);
    rig.clock.advance(1000);
    expect(rig.unit.read32(IRO + 12)).toBe(0x1200_0000);
    expect(rig.unit.translate(A, 5, true)).toBe(-5);
  });
});
