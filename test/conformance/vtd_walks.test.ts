/** Requests whose context is cached already: the quick walk answers what the whole one does, and leaves to it what it cannot. */
import { expect, test } from 'vitest';
import { caps, Rig, words64 } from '../support/vtd_rig.js';

const RID = 0x0310;
const warm = (rig: Rig, root: number, levels = 4): void => {
  rig.map(root, levels, 0x77, 0x7777);
  expect(rig.unit.translate(RID, 0x77, true)).toBe(0x7777);
};
const ask = (rig: Rig, dfn: number, write = true): number[] =>
  [0, 1, 2].map(() => rig.unit.translate(RID, dfn, write));

test.each([
  [3, 0x3ff_fffe, -4, 0x800_0000],
  [4, 0xf_0123_4567, -4, 0x10_0000_0000],
  [5, 0x1fff_89ab_cdef, -4, 0x2000_0000_0000],
])('with %i levels every bit of page %i counts, and the width ends there', (levels, dfn, reason, beyond) => {
  const rig = new Rig(
    levels === 5
      ? caps([
          [0, 12, 8, 8],
          [0, 21, 16, 56],
        ])
      : {},
  ).on();
  const root = rig.device(RID, 1, levels);
  warm(rig, root, levels);
  rig.map(root, levels, dfn, 0x45_6789);
  expect(ask(rig, dfn)).toEqual([0x45_6789, 0x45_6789, 0x45_6789]);
  expect(ask(rig, dfn - 1)).toEqual([-5, -5, -5]);
  for (let level = 2; level <= levels; level++) {
    const other =
      dfn % 512 ** level < 512 ** (level - 1) ? dfn + 512 ** (level - 1) : dfn - 512 ** (level - 1);
    expect(rig.unit.translate(RID, other, true)).toBeLessThan(0);
  }
  expect(ask(rig, beyond)).toEqual([reason, reason, reason]);
  expect(ask(rig, beyond + 0x77)).toEqual([reason, reason, reason]);
});

test('pass-through leads every page to itself, the first and the next', () => {
  const rig = new Rig({ haw: 52 }).on();
  rig.context(RID, { tt: 2, aw: 2 });
  for (const dfn of [5, 6, 0x12_3456, 0xf_0123_4567]) expect(ask(rig, dfn)).toEqual([dfn, dfn, dfn]);
});

test('tables and pages beyond memory, and pages that are large, after others were found', () => {
  const END = 0x60_0000;
  const rig = new Rig().on();
  const root = rig.device(RID, 1);
  warm(rig, root);
  for (const [level, dfn] of [
    [4, 0x800_0000],
    [3, 0x4_0000],
    [2, 0x200],
  ] as const) {
    const { frame, at } = rig.entryAt(root, 4, dfn, level);
    rig.put(frame, at, ...words64(END, 3));
    expect(ask(rig, dfn)).toEqual([-7, -7, -7]);
  }
  // The last frame of memory holds tables like any other.
  const { frame, at } = rig.entryAt(root, 4, 0x400, 2);
  rig.put(frame, at, ...words64(END - 1, 3));
  rig.put(END - 1, 0, ...words64(0x1234, 3));
  rig.put(END - 1, 1022, ...words64(0x5678, 3));
  expect([ask(rig, 0x400), ask(rig, 0x5ff), ask(rig, 0x401)]).toEqual([
    [0x1234, 0x1234, 0x1234],
    [0x5678, 0x5678, 0x5678],
    [-5, -5, -5],
  ]);
  rig.map(root, 4, 0x600, 0x4000, 3, 2);
  expect(ask(rig, 0x777)).toEqual([0x4177, 0x4177, 0x4177]);
});

test('rights of all levels, for reads and writes, whichever was asked first', () => {
  for (const first of [true, false]) {
    const rig = new Rig().on();
    const root = rig.device(RID, 1);
    warm(rig, root);
    const rights: [number, number][] = [
      [1, 3],
      [3, 1],
      [2, 3],
      [3, 2],
      [1, 2],
      [3, 3],
    ];
    for (const [i, [upper, leaf]] of rights.entries()) {
      const dfn = 0x1_0000 + i * 512;
      rig.map(root, 4, dfn, 0x9000 + i, leaf);
      const { frame, at } = rig.entryAt(root, 4, dfn, 2);
      rig.put(frame, at, (rig.word(frame, at) & ~3) | upper);
      const both = upper & leaf;
      const expected = (write: boolean): number =>
        (both & (write ? 2 : 1)) !== 0 ? 0x9000 + i : write ? -5 : -6;
      for (const write of [first, !first, first, !first])
        expect([i, write, rig.unit.translate(RID, dfn, write)]).toEqual([i, write, expected(write)]);
    }
  }
});

test.each([
  [2, 512],
  [3, 262_144],
])('large pages of level %i above 16 TiB are told from those with the same low bits', (level, size) => {
  const rig = new Rig().on();
  const root = rig.device(RID, 1);
  warm(rig, root);
  const pages = [4 * size, 2 ** 32 + 4 * size, 3 * 2 ** 32 + 4 * size, 2 ** 35 + 5 * size];
  for (const [i, dfn] of pages.entries()) rig.map(root, 4, dfn, (i + 8) * size, 3, level);
  for (let round = 0; round < 2; round++)
    for (const [i, dfn] of pages.entries())
      expect(ask(rig, dfn + 19)).toEqual(Array(3).fill((i + 8) * size + 19));
  expect(
    rig.unit
      .cachedTranslations()
      .filter((t) => t.frames === size)
      .map((t) => [t.dfn, t.mfn])
      .sort((a, b) => a[0]! - b[0]!),
  ).toEqual(pages.map((dfn, i) => [dfn, (i + 8) * size]));
  const gone = pages[1]!;
  rig.unmap(root, 4, gone, level);
  rig.queue();
  rig.submit(0x32 + (1 << 16), 0, (gone % 0x10_0000) * 4096, Math.floor(gone / 0x10_0000));
  expect(pages.map((dfn) => rig.unit.translate(RID, dfn, true))).toEqual([
    8 * size,
    -5,
    10 * size,
    11 * size,
  ]);
});

test('frames of more than 31 bits are cached whole', () => {
  const rig = new Rig({ haw: 48 }, 0x60_0000).on();
  const root = rig.device(RID, 1);
  warm(rig, root);
  const frames = [0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, 0xf_ffff_ffff];
  for (const [i, mfn] of frames.entries()) rig.map(root, 4, 0x100 + i, mfn);
  for (let round = 0; round < 2; round++)
    for (const [i, mfn] of frames.entries()) expect(ask(rig, 0x100 + i)).toEqual([mfn, mfn, mfn]);
  for (const mfn of frames)
    expect([rig.unit.stillProduces(mfn), rig.unit.stillProduces(mfn - 0x10)]).toEqual([true, false]);
});
