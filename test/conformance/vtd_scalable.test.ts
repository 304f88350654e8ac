/** VT-d clauses of scalable mode, as far as it is built: requests without PASID through tables of either level. */
import { describe, expect, test } from 'vitest';
import { caps, QIE, REG, Rig, SRTP, TE, words64 } from '../support/vtd_rig.js';
import { RID, Scalable } from '../support/vtd_scalable_rig.js';

const DFN = 0x12345;
const MFN = 0x777;

describe('scalable mode (3.4.3, 9.2 to 9.7)', () => {
  test('second-level tables of the PASID entry translate, and its domain id tags what is cached', () => {
    const rig = new Scalable();
    const root = rig.frame();
    rig.second(root);
    rig.map(root, 4, DFN, MFN);
    rig.start();
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    expect(rig.unit.cachedTranslations().map((t) => t.did)).toEqual([7]);
  });
  test('devices 16 to 31 are found through the upper half of the root entry', () => {
    const rig = new Scalable();
    const root = rig.frame();
    rig.second(root);
    rig.map(root, 4, DFN, MFN);
    rig.put(rig.upper, 0x10 * 8, ...words64(rig.directory, 1));
    rig.start();
    expect(rig.unit.translate(0x90, DFN, true)).toBe(MFN);
    rig.put(rig.rootFrame, 2, 0, 0);
    expect(rig.unit.translate(0x98, DFN, true)).toBe(-0x39);
  });
  test('RID_PASID chooses directory entry and table entry', () => {
    const rig = new Scalable();
    const root = rig.frame();
    rig.map(root, 4, DFN, MFN);
    rig.put(rig.contexts, (RID & 0x7f) * 8 + 2, 0x43);
    rig.put(rig.directory, 2, ...words64(rig.pasids, 1));
    rig.second(root, 3 * 16);
    rig.start();
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
  });
  test('pass-through leads to the same address', () => {
    const rig = new Scalable();
    rig.put(rig.pasids, 0, 1 + (4 << 6));
    rig.start();
    expect(rig.unit.translate(RID, DFN, true)).toBe(DFN);
  });

  const BEYOND = 0x7000_0001 | 0;
  const refusals: readonly (readonly [says: string, reason: number, given: (rig: Scalable) => void])[] = [
    ['a root entry that is not present', 0x39, (r) => r.put(r.rootFrame, 0, 0)],
    ['a root entry with reserved bits', 0x3a, (r) => r.put(r.rootFrame, 0, ...words64(r.contexts, 3))],
    ['a context table beyond memory', 0x40, (r) => r.put(r.rootFrame, 0, BEYOND, 0x70)],
    ['a context entry that is not present', 0x41, (r) => r.put(r.contexts, 0x80, 0)],
    ['a context entry with reserved bits', 0x42, (r) => r.put(r.contexts, 0x84, 1)],
    ['a RID_PASID outside the directory', 0x43, (r) => r.put(r.contexts, 0x82, 0x2000)],
    ['a directory beyond memory', 0x50, (r) => r.put(r.contexts, 0x80, BEYOND, 0x70)],
    ['a directory entry that is not present', 0x51, (r) => r.put(r.directory, 0, 0)],
    ['a directory entry with reserved bits', 0x52, (r) => r.put(r.directory, 0, ...words64(r.pasids, 5))],
    ['a PASID table beyond memory', 0x58, (r) => r.put(r.directory, 0, BEYOND, 0x70)],
    ['a PASID entry that is not present', 0x59, (r) => r.put(r.pasids, 0, 0)],
    ['a PASID entry with reserved bits', 0x5a, (r) => r.put(r.pasids, 0, 0x401 + (2 << 6) + (2 << 2))],
    ['nested translation, which is not built', 0x5b, (r) => r.put(r.pasids, 0, 1 + (3 << 6) + (2 << 2))],
    ['first-level translation where there is none', 0x5b, (r) => r.first(0x300)],
    ['a page without R and W', 0x79, () => {}],
    ['a page without W', 0x85, (r) => r.map(r.frameAt(r.pasids, 0), 4, DFN, MFN, 1)],
    ['a page without W below a table without R', 0x79, (r) => writeOnlyTable(r)],
    ['a page with reserved bits', 0x7a, (r) => r.map(r.frameAt(r.pasids, 0), 4, DFN, MFN, 3, 1, 0x4000_0000)],
    ['a second table beyond memory', 0x78, (r) => r.put(r.frameAt(r.pasids, 0), 0, BEYOND + 2, 0x70)],
    ['the first table beyond memory', 0x7b, (r) => r.put(r.pasids, 0, BEYOND + (2 << 6) + (2 << 2), 0x70)],
    ['a page in the interrupt range', 0x87, (r) => r.map(r.frameAt(r.pasids, 0), 4, DFN, 0xfee12)],
  ];
  /** No single entry forbids everything, and both together do. */
  function writeOnlyTable(rig: Scalable): void {
    const root = rig.frameAt(rig.pasids, 0);
    rig.map(root, 4, DFN, MFN, 1);
    const { frame, at } = rig.entryAt(root, 4, DFN, 2);
    rig.put(frame, at, rig.word(frame, at) & ~1);
  }
  test.each(refusals)('%s gives reason %i, recorded', (_says, reason, given) => {
    const rig = new Scalable();
    rig.second(rig.frame());
    given(rig);
    rig.start();
    expect(rig.unit.translate(RID, DFN, true)).toBe(-reason);
    expect(rig.fault()).toMatchObject({ reason, sid: RID, frame: DFN });
  });
  test('an address beyond the width of its tables gives reason 84h', () => {
    const rig = new Scalable();
    rig.put(rig.pasids, 0, ...words64(rig.frame(), 1 + (2 << 6) + (1 << 2)), 7, 0);
    rig.start();
    expect(rig.unit.translate(RID, 2 ** 27, false)).toBe(-0x84);
  });
  test('passed through, an address that no host has gives reason 83h', () => {
    const rig = new Scalable();
    rig.put(rig.pasids, 0, 1 + (4 << 6));
    rig.start();
    expect(rig.unit.translate(RID, 2 ** 27 - 1, false)).toBe(2 ** 27 - 1);
    expect(rig.unit.translate(RID, 2 ** 27, false)).toBe(-0x83);
  });
  test.each([
    ['a directory beyond memory', 0x50, (r: Scalable) => r.put(r.contexts, 0x80, BEYOND + 2, 0x70), true],
    ['a PASID table beyond memory', 0x58, (r: Scalable) => r.put(r.directory, 0, BEYOND + 2, 0x70), true],
    ['a context entry that is not present', 0x41, (r: Scalable) => r.put(r.contexts, 0x80, 2), false],
    ['a directory entry that is not present', 0x51, (r: Scalable) => r.put(r.directory, 0, 2), false],
    ['a PASID entry that is not present', 0x59, (r: Scalable) => r.put(r.pasids, 0, 2), false],
  ])('with FPD %s is recorded all the same or hidden: reason %i', (_says, reason, given, recorded) => {
    const rig = new Scalable();
    rig.second(rig.frame());
    given(rig);
    rig.start();
    expect(rig.unit.translate(RID, DFN, true)).toBe(-reason);
    expect(rig.fault()?.reason).toBe(recorded ? reason : undefined);
  });

  test('TTM is latched with the root table: in legacy mode the same entries mean something else', () => {
    const rig = new Scalable();
    rig.second(rig.frame());
    rig.on();
    expect(rig.unit.translate(RID, DFN, true)).toBe(-0xa);
  });
});

describe('descriptors in scalable mode (6.5.2, 11.4.9.9)', () => {
  const IQE = 0x10;
  /** A queue of descriptors of 256 bits, or of 128. */
  function queued(wide: boolean): Scalable {
    const rig = new Scalable();
    const root = rig.frame();
    rig.second(root);
    rig.map(root, 4, DFN, MFN);
    rig.start();
    rig.queueFrame = rig.frame();
    rig.unit.write64(REG.IQA, ...words64(rig.queueFrame, wide ? 0x800 : 0));
    rig.unit.write32(REG.GCMD, TE + QIE);
    rig.unit.translate(RID, DFN, true);
    return rig;
  }
  const send = (rig: Rig, bytes: number, ...words: number[]): number => {
    rig.put(rig.queueFrame, 0, ...words);
    rig.unit.write32(REG.IQT, bytes);
    return rig.unit.read32(REG.FSTS) & IQE;
  };
  const info = (rig: Rig): number => rig.unit.read32(0xb0) & 0xf;

  test('PASID-selective descriptors are taken, and one for all granularities is not', () => {
    const rig = queued(true);
    rig.unmap(rig.frameAt(rig.pasids, 0), 4, DFN);
    expect(send(rig, 32, 6 + (2 << 4) + (7 << 16))).toBe(0);
    expect(rig.unit.translate(RID, DFN, true)).toBe(-0x79);
    expect(send(queued(true), 32, 6)).toBe(IQE);
  });
  test.each([2, 5, 6, 7])('of 128 bits not even type %i is valid, and the width is what is wrong', (type) => {
    const rig = queued(false);
    expect(send(rig, 16, type + (3 << 4) + (7 << 16))).toBe(IQE);
    expect(info(rig)).toBe(5);
    expect(rig.unit.read32(REG.IQH)).toBe(0);
  });
  test('in legacy mode the same unit takes 128 bits, and has no types with a PASID', () => {
    for (const [bytes, dw] of [
      [16, 0],
      [32, 0x800],
    ] as const) {
      const rig = new Rig(caps([[3, 11, 11, 1]])).on();
      rig.queueFrame = rig.frame();
      rig.unit.write64(REG.IQA, ...words64(rig.queueFrame, dw));
      rig.unit.write32(REG.GCMD, TE + QIE);
      expect(send(rig, bytes, 0x12)).toBe(0);
      rig.put(rig.queueFrame, bytes / 4, 7);
      rig.unit.write32(REG.IQT, bytes * 2);
      expect([rig.unit.read32(REG.FSTS) & IQE, info(rig)]).toEqual([IQE, 3]);
    }
  });
  test('a root table set anew changes what the queue takes', () => {
    const rig = new Scalable().on().queue() as Scalable;
    rig.submit(0x12);
    rig.unit.write64(REG.RTADDR, ...words64(rig.rootFrame, 0x400));
    rig.unit.write32(REG.GCMD, TE + QIE + SRTP);
    rig.submit(0x12);
    expect([rig.unit.read32(REG.FSTS) & IQE, info(rig), rig.unit.read32(REG.IQH)]).toEqual([IQE, 5, 16]);
  });
  test('a root table of a mode that there is none of leaves no descriptor valid', () => {
    const rig = queued(true);
    rig.unit.write64(REG.RTADDR, ...words64(rig.rootFrame, 0x800));
    rig.unit.write32(REG.GCMD, TE + QIE + SRTP);
    expect(send(rig, 32, 0x12)).toBe(IQE);
    expect(info(rig)).toBe(7);
  });
  test.each([
    ['of another domain', 0x21 + (9 << 16), 0],
    ['of the device in another domain', 0x31 + (9 << 16), RID],
  ])('context entries have no domain: an invalidation %s takes them', (_says, w0, w1) => {
    const rig = queued(true);
    expect(rig.unit.cachedContexts()).toHaveLength(1);
    expect(send(rig, 32, w0, w1)).toBe(0);
    expect(rig.unit.cachedContexts()).toHaveLength(0);
  });
});

describe('first-level translation (3.6, 9.7)', () => {
  const [P, RW, US, A, D] = [1, 2, 4, 0x20, 0x40] as const;
  const all = P + RW + US;
  /** Tables for one page with the given leaf; other levels allow everything. */
  function first(leaf: number, mfn = MFN, level = 1): { rig: Scalable; frame: number; at: number } {
    const rig = new Scalable('first');
    const tables = [0, 1, 2, 3].map(() => rig.frame());
    rig.first(tables[0]!);
    const index = (l: number): number => (Math.floor(DFN / 512 ** (l - 1)) % 512) * 2;
    for (let l = 4; l > level; l--) rig.put(tables[4 - l]!, index(l), ...words64(tables[5 - l]!, all));
    const frame = tables[4 - level]!;
    rig.put(frame, index(level), mfn * 4096 + leaf, 0);
    rig.start();
    return { rig, frame, at: index(level) };
  }

  test('a read sets A, a write sets D too, even when the read was cached', () => {
    const { rig, frame, at } = first(all);
    expect(rig.unit.translate(RID, DFN, false)).toBe(MFN);
    expect(rig.word(frame, at) & (A + D)).toBe(A);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    expect(rig.word(frame, at) & (A + D)).toBe(A + D);
    expect(rig.unit.cachedTranslations()).toHaveLength(1);
  });
  test('a question without consequences sets nothing', () => {
    const { rig, frame, at } = first(all);
    expect(rig.unit.probe(RID, DFN, true)).toBe(MFN);
    expect(rig.word(frame, at) & (A + D)).toBe(0);
  });
  test.each([
    ['absent', RW + US, false, 0x71],
    ['of the supervisor', P + RW, false, 0x81],
    ['read-only, for a write', P + US, true, 0x85],
  ])('a page that is %s gives reason', (_says, leaf, write, reason) => {
    const { rig } = first(leaf);
    expect(rig.unit.translate(RID, DFN, write)).toBe(-reason);
    expect(rig.fault()?.reason).toBe(reason);
  });
  test('a read-only page can be read, and a later write of it is refused', () => {
    const { rig } = first(P + US);
    expect(rig.unit.translate(RID, DFN, false)).toBe(MFN);
    expect(rig.unit.translate(RID, DFN, true)).toBe(-0x85);
  });
  test('a 2 MiB page adds the low bits of the address; its low frame bits are reserved', () => {
    expect(first(all + 0x80, 0x600, 2).rig.unit.translate(RID, DFN, true)).toBe(0x600 + (DFN % 512));
    expect(first(all + 0x80, 0x602, 2).rig.unit.translate(RID, DFN, true)).toBe(-0x72);
  });
  test('a 1 GiB page is reserved without CAP.FL1GP', () => {
    expect(first(all + 0x80, 0x40000, 3).rig.unit.translate(RID, DFN, true)).toBe(-0x72);
  });
  test('the first table beyond memory gives reason 73h, another one 70h', () => {
    const { rig } = first(all);
    rig.put(rig.frameAt(rig.pasids, 4), 0, 0x7000_0000 + all, 0x70);
    expect(rig.unit.translate(RID, DFN, true)).toBe(-0x70);
    rig.put(rig.pasids, 4, 0x7000_0000, 0x70);
    rig.unit.write64(REG.CCMD, 0, 0xa000_0000);
    expect(rig.unit.translate(RID, DFN, true)).toBe(-0x73);
  });
  test('an address beyond 47 bits is not canonical', () => {
    expect(first(all).rig.unit.translate(RID, 2 ** 35, true)).toBe(-0x80);
  });
});
