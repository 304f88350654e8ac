/** VT-d chapters 3, 7.1.3 and 9: each clause about translation and its faults is a row. */
import { describe, expect, test } from 'vitest';
import type { VtdOptions } from '../../src/iommu/hw/vtd/caps.js';
import { caps, REG, Rig, words64 } from '../support/vtd_rig.js';

const RID = 0x0308; // 03:01.0
const DFN = 0x1_2345;
const MFN = 0xabcd;

interface Clause {
  readonly says: string;
  readonly options?: Partial<VtdOptions>;
  /** Prepares tables; RID has domain 1 and a 4-level table `root` with DFN mapped to MFN. */
  readonly given: (rig: Rig, root: number) => void;
  readonly dfn?: number;
  readonly write?: boolean;
  /** Frame reached, or minus the fault reason. */
  readonly gives: number;
}

const PML4_PTR = 4;
const none = (): void => {};
const findingTheContextEntry: readonly Clause[] = [
  { says: 'a mapped page is translated', given: none, gives: MFN },
  {
    says: 'a root table beyond physical memory faults with reason 8',
    given: (rig) => {
      rig.unit.write64(REG.RTADDR, 0, 0x10);
      rig.unit.write32(REG.GCMD, 0xc000_0000);
    },
    gives: -8,
  },
  {
    says: 'a root entry that is not present faults with reason 1',
    given: (rig) => rig.put(rig.rootFrame, 3 * 4, 0),
    gives: -1,
  },
  ...[1, 6, 11].map((bit) => ({
    says: `a present root entry with reserved bit ${bit} faults with reason 10`,
    given: (rig: Rig) => rig.put(rig.rootFrame, 12, rig.word(rig.rootFrame, 12) | (1 << bit)),
    gives: -10,
  })),
  {
    says: 'a root entry that points beyond the host address width has reserved bits set: reason 10',
    given: (rig) => rig.put(rig.rootFrame, 3 * 4 + 1, 1 << 7),
    gives: -10,
  },
  ...[2, 3].map((word) => ({
    says: `word ${word} of a legacy root entry is reserved: reason 10`,
    given: (rig: Rig) => rig.put(rig.rootFrame, 3 * 4 + word, 1),
    gives: -10,
  })),
  {
    says: 'a context table beyond physical memory faults with reason 9',
    given: (rig) => rig.put(rig.rootFrame, 3 * 4, 1, 0x70),
    gives: -9,
  },
  {
    says: 'a context entry that is not present faults with reason 2, whatever else it holds',
    given: (rig) => rig.rawContext(RID, 0xfffffffc, -1, -1, -1),
    gives: -2,
  },
  ...[4, 7, 11].map((bit) => ({
    says: `a present context entry with reserved bit ${bit} faults with reason 11`,
    given: (rig: Rig, root: number) => rig.rawContext(RID, ...words64(root, 1 + (1 << bit)), 0x102, 0),
    gives: -11,
  })),
  ...[
    [7, 0],
    [24, 0],
    [31, 0],
    [0, 1],
  ].map(([bit, word]) => ({
    says: `a present context entry with bit ${64 + bit! + word! * 32} set faults with reason 11`,
    given: (rig: Rig, root: number) => {
      const high = [0x102, 0];
      high[word!] = (high[word!]! | (1 << bit!)) >>> 0;
      rig.rawContext(RID, ...words64(root, 1), ...high);
    },
    gives: -11,
  })),
  {
    says: "bits 6:3 of a context entry's upper half are ignored",
    given: (rig, root) => rig.rawContext(RID, ...words64(root, 1), 0x102 | 0x78, 0),
    gives: MFN,
  },
  {
    says: 'a page table beyond the host address width in a context entry faults with reason 11',
    given: (rig, root) => rig.rawContext(RID, root * 4096 + 1, 0x80, 0x102, 0),
    gives: -11,
  },
  ...[0, 3, 4, 7].map((aw) => ({
    says: `a present context entry with AW ${aw}, not in SAGAW, faults with reason 3`,
    given: (rig: Rig, root: number) => rig.context(RID, { root, aw }),
    gives: -3,
  })),
  {
    says: 'a context entry with the reserved translation type 3 faults with reason 3',
    given: (rig, root) => rig.context(RID, { root, tt: 3 }),
    gives: -3,
  },
  {
    says: 'translation type 1 without device TLB support faults with reason 3',
    given: (rig, root) => rig.context(RID, { root, tt: 1 }),
    gives: -3,
  },
  {
    says: 'translation type 1 with device TLB support translates untranslated requests',
    options: caps([[2, 2, 2, 1]]),
    given: (rig, root) => rig.context(RID, { root, tt: 1 }),
    gives: MFN,
  },
  {
    says: 'pass-through lets every frame be its own',
    given: (rig) => rig.context(RID, { root: 0xfffff, tt: 2 }),
    gives: DFN,
  },
  {
    says: 'pass-through without ECAP.PT faults with reason 3',
    options: caps([[2, 6, 6, 0]]),
    given: (rig) => rig.context(RID, { tt: 2 }),
    gives: -3,
  },
  {
    says: 'pass-through with an AW the unit does not have faults with reason 3',
    given: (rig) => rig.context(RID, { tt: 2, aw: 3 }),
    gives: -3,
  },
  {
    says: 'pass-through with an AW that is not the largest the unit has faults with reason 3',
    given: (rig) => rig.context(RID, { tt: 2, aw: 1 }),
    gives: -3,
  },
  {
    says: 'pass-through with the largest AW of a unit that has only 39 bits',
    options: caps([[0, 12, 8, 0b00010]]),
    given: (rig) => rig.context(RID, { tt: 2, aw: 1 }),
    gives: DFN,
  },
];
const addresses: readonly Clause[] = [
  {
    says: 'with a 3-level table the last address of 39 bits is translated',
    given: (rig) => rig.map(rig.device(RID, 1, 3), 3, 2 ** 27 - 1, MFN),
    dfn: 2 ** 27 - 1,
    gives: MFN,
  },
  {
    says: 'with a 3-level table an address above 39 bits faults with reason 4',
    given: (rig) => rig.device(RID, 1, 3),
    dfn: 2 ** 27,
    gives: -4,
  },
  {
    says: 'the last address of 48 bits is translated',
    given: (rig, root) => rig.map(root, 4, 2 ** 36 - 1, MFN),
    dfn: 2 ** 36 - 1,
    gives: MFN,
  },
  { says: 'an address above 48 bits faults with reason 4', given: none, dfn: 2 ** 36, gives: -4 },
  { says: 'an address above 63 bits faults with reason 4', given: none, dfn: 2 ** 51 + 5, gives: -4 },
  {
    says: 'an address above MGAW faults with reason 4 though the table is wider',
    options: caps([[0, 21, 16, 38]]),
    given: none,
    dfn: 2 ** 27,
    gives: -4,
  },
  {
    says: 'pass-through is held to the host address width',
    given: (rig) => rig.context(RID, { tt: 2 }),
    dfn: 2 ** 27,
    gives: -4,
  },
  {
    says: 'a 5-level table translates 57 bits',
    options: caps([
      [0, 12, 8, 0b01110],
      [0, 21, 16, 56],
    ]),
    given: (rig) => rig.map(rig.device(RID, 1, 5), 5, 2 ** 44 + 2 ** 36 * 3 + 7, MFN),
    dfn: 2 ** 44 + 2 ** 36 * 3 + 7,
    gives: MFN,
  },
];
const permissions: readonly Clause[] = [
  {
    says: 'an absent page faults a read with reason 6',
    given: (rig, root) => rig.unmap(root, 4, DFN),
    gives: -6,
  },
  {
    says: 'an absent page faults a write with reason 5',
    given: (rig, root) => rig.unmap(root, 4, DFN),
    write: true,
    gives: -5,
  },
  {
    says: 'a page without R faults a read with reason 6',
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 2),
    gives: -6,
  },
  {
    says: 'a page without R lets writes through',
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 2),
    write: true,
    gives: MFN,
  },
  {
    says: 'a page without W faults a write with reason 5',
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 1),
    write: true,
    gives: -5,
  },
  ...[2, 3, 4].flatMap((level) => [
    {
      says: `an absent entry at level ${level} faults with reason 6`,
      given: (rig: Rig, root: number) => rig.unmap(root, 4, DFN, level),
      gives: -6,
    },
    {
      says: `W clear at level ${level} forbids writes to all below`,
      given: (rig: Rig, root: number) => {
        const e = rig.entryAt(root, 4, DFN, level);
        rig.put(e.frame, e.at, rig.word(e.frame, e.at) & ~2);
      },
      write: true,
      gives: -5,
    },
    {
      says: `a table beyond physical memory at level ${level} faults with reason 7`,
      given: (rig: Rig, root: number) => {
        const e = rig.entryAt(root, 4, DFN, level);
        rig.put(e.frame, e.at, 3, 0x70);
      },
      gives: -7,
    },
    {
      says: `reserved bit 11 of a pointing entry at level ${level} faults with reason 12`,
      given: (rig: Rig, root: number) => {
        const e = rig.entryAt(root, 4, DFN, level);
        rig.put(e.frame, e.at, rig.word(e.frame, e.at) | 0x800);
      },
      gives: -12,
    },
    {
      says: `reserved bit 62 of a pointing entry at level ${level} faults with reason 12`,
      given: (rig: Rig, root: number) => {
        const e = rig.entryAt(root, 4, DFN, level);
        rig.put(e.frame, e.at + 1, 0x4000_0000);
      },
      gives: -12,
    },
    {
      says: `ignored bits of a pointing entry at level ${level} change nothing`,
      given: (rig: Rig, root: number) => {
        const e = rig.entryAt(root, 4, DFN, level);
        rig.put(e.frame, e.at, rig.word(e.frame, e.at) | 0x77c, rig.word(e.frame, e.at + 1) | 0xbff0_0000);
      },
      gives: MFN,
    },
  ]),
  {
    says: 'the first table beyond physical memory faults with reason 3: the context entry is what is wrong',
    given: (rig) => rig.context(RID, { root: 0x7_0000_00 }),
    gives: -3,
  },
];
const leafEntries: readonly Clause[] = [
  {
    says: 'ignored bits of a leaf change nothing, and so does its bit 7',
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 3 | 0x7fc, 1, 0xbff0_0000),
    gives: MFN,
  },
  {
    says: 'SNP in a leaf is allowed with snoop control',
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 3 | 0x800),
    gives: MFN,
  },
  {
    says: 'SNP in a leaf is reserved without snoop control: reason 12',
    options: caps([[2, 7, 7, 0]]),
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 3 | 0x800),
    gives: -12,
  },
  {
    says: 'bit 62 of a leaf is reserved: reason 12',
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 3, 1, 0x4000_0000),
    gives: -12,
  },
  {
    says: 'bit 62 of a leaf, which was TM once, is reserved with device TLBs too',
    options: caps([[2, 2, 2, 1]]),
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 3, 1, 0x4000_0000),
    gives: -12,
  },
  {
    says: 'a page beyond the host address width has reserved bits set: reason 12',
    given: (rig, root) => rig.map(root, 4, DFN, 2 ** 27),
    gives: -12,
  },
  {
    says: 'a page beyond memory but within the host address width is translated',
    given: (rig, root) => rig.map(root, 4, DFN, 2 ** 27 - 1),
    gives: 2 ** 27 - 1,
  },
  {
    says: 'with 46 address bits a page above 2^43 is translated exactly',
    options: { haw: 46 },
    given: (rig, root) => rig.map(root, 4, DFN, 2 ** 33 + 0x1234_5678),
    gives: 2 ** 33 + 0x1234_5678,
  },
  {
    says: 'reserved bits of an entry without R and W are not looked at',
    given: (rig, root) => rig.map(root, 4, DFN, 2 ** 30, 0x800),
    gives: -6,
  },
  {
    says: 'want of permission is found before reserved bits of the same entry',
    given: (rig, root) => rig.map(root, 4, DFN, MFN, 1, 1, 0x4000_0000),
    write: true,
    gives: -5,
  },
];
const superpages: readonly Clause[] = [
  {
    says: 'a 2 MiB page translates with its 9-bit offset',
    given: (rig, root) => rig.map(root, 4, 0x4_0000, 0x1_4000, 3, 2),
    dfn: 0x4_0000 + 0x1ff,
    gives: 0x1_4000 + 0x1ff,
  },
  {
    says: 'a 1 GiB page translates with its 18-bit offset',
    given: (rig, root) => rig.map(root, 4, 0x8_0000, 0x4_0000, 3, 3),
    dfn: 0x8_0000 + 0x3_ffff,
    gives: 0x4_0000 + 0x3_ffff,
  },
  {
    says: 'PS is reserved at level 2 without 2 MiB pages: reason 12',
    options: caps([[1, 5, 2, 2]]),
    given: (rig, root) => rig.map(root, 4, 0x4_0000, 0x1_4000, 3, 2),
    dfn: 0x4_0000,
    gives: -12,
  },
  {
    says: 'PS is reserved at level 3 without 1 GiB pages: reason 12',
    options: caps([[1, 5, 2, 1]]),
    given: (rig, root) => rig.map(root, 4, 0x8_0000, 0x4_0000, 3, 3),
    dfn: 0x8_0000,
    gives: -12,
  },
  {
    says: 'PS is reserved at level 4: reason 12',
    given: (rig, root) => {
      const e = rig.entryAt(root, 4, DFN, PML4_PTR);
      rig.put(e.frame, e.at, rig.word(e.frame, e.at) | 0x80);
    },
    gives: -12,
  },
  ...[12, 20].map((bit) => ({
    says: `address bit ${bit} of a 2 MiB page is reserved: reason 12`,
    given: (rig: Rig, root: number) => rig.map(root, 4, 0x4_0000, 0x1_4000 + 2 ** (bit - 12), 3, 2),
    dfn: 0x4_0000,
    gives: -12,
  })),
  ...[12, 29].map((bit) => ({
    says: `address bit ${bit} of a 1 GiB page is reserved: reason 12`,
    given: (rig: Rig, root: number) => rig.map(root, 4, 0x8_0000, 0x4_0000 + 2 ** (bit - 12), 3, 3),
    dfn: 0x8_0000,
    gives: -12,
  })),
];

const SECTIONS: readonly (readonly [string, readonly Clause[]])[] = [
  ['finding the context entry (9.1, 9.3, 7.1.3)', findingTheContextEntry],
  ['addresses (3.7, 7.1.3)', addresses],
  ['permissions (9.8, 7.1.3)', permissions],
  ['leaf entries (9.8, 7.1.3)', leafEntries],
  ['superpages (3.7, 9.8)', superpages],
];
describe.each(SECTIONS)('%s', (_section, clauses) => {
  for (const c of clauses) {
    test(c.says, () => {
      const rig = new Rig(c.options).on();
      const root = rig.device(RID);
      rig.map(root, 4, DFN, MFN);
      c.given(rig, root);
      const dfn = c.dfn ?? DFN;
      const write = c.write ?? false;
      expect(rig.unit.probe(RID, dfn, write)).toBe(c.gives);
      expect(rig.fault()).toBeUndefined();
      expect(rig.unit.translate(RID, dfn, write)).toBe(c.gives);
      const expected =
        c.gives >= 0 ? undefined : { reason: -c.gives, sid: RID, read: !write, at: 0, frame: dfn };
      expect(rig.fault()).toEqual(expected);
      // Once more: what is cached by now says the same.
      expect(rig.unit.translate(RID, dfn, write)).toBe(c.gives);
      expect(rig.unit.probe(RID, dfn, write)).toBe(c.gives);
    });
  }
});

describe('switching translation on (6.6, 11.4.4)', () => {
  test('while translation is off every frame is its own', () => {
    const rig = new Rig();
    expect(rig.unit.translate(RID, DFN, true)).toBe(DFN);
    expect(rig.unit.probe(RID, 2 ** 40, false)).toBe(2 ** 40);
  });

  test('switching translation off and on again keeps what is cached', () => {
    const rig = new Rig().on();
    const root = rig.device(RID);
    rig.map(root, 4, DFN, MFN);
    rig.unit.translate(RID, DFN, true);
    rig.unmap(root, 4, DFN);
    rig.unit.write32(REG.GCMD, 0);
    expect(rig.unit.translate(RID, DFN, true)).toBe(DFN);
    rig.unit.write32(REG.GCMD, 0x8000_0000);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
  });

  test('the root table is the one latched by SRTP, not the one in RTADDR', () => {
    const rig = new Rig().on();
    rig.map(rig.device(RID), 4, DFN, MFN);
    rig.unit.write64(REG.RTADDR, 0x777000, 0);
    expect(rig.unit.translate(RID, DFN, false)).toBe(MFN);
    expect(rig.unit.probe(RID + 1, DFN, false)).toBe(-2);
    rig.unit.write32(REG.GCMD, 0xc000_0000);
    expect(rig.unit.probe(RID + 1, DFN, false)).toBe(-1);
  });
});

describe('requests of devices with translations of their own (4.1.1, 4.2.4)', () => {
  const rigWith = (tt: number): Rig => {
    const rig = new Rig(caps([[2, 2, 2, 1]])).on();
    const root = rig.device(RID);
    rig.context(RID, { root, tt });
    rig.map(root, 4, DFN, MFN, 1);
    return rig;
  };
  test.each([
    [0, 'is blocked with reason 13', -13],
    [1, 'reaches its frame', MFN],
    [2, 'is blocked with reason 13', -13],
  ])('a translated request under translation type %i %s', (tt, _says, gives) => {
    const rig = rigWith(tt);
    expect(rig.unit.translated(RID, MFN, true)).toBe(gives);
    expect(rig.fault()?.reason).toBe(gives < 0 ? 13 : undefined);
    if (gives < 0) expect(rig.fault()?.at).toBe(2);
  });
  test.each([
    ['the last frame of the host', 2 ** 27 - 1, 'none'],
    ['a frame that no host has', 2 ** 27, 4],
    ['the frame before the interrupt range', 0xf_edff, 'none'],
    ['the first of the interrupt range', 0xf_ee00, 14],
    ['the last of the interrupt range', 0xf_eeff, 14],
  ] as const)('a translated request to %s (%i): reason %s', (_says, mfn, reason) => {
    const rig = rigWith(1);
    expect(rig.unit.translated(RID, mfn, true)).toBe(reason === 'none' ? mfn : -reason);
    expect(rig.fault()?.reason ?? 'none').toBe(reason);
  });
  test('a translation request under type 0 is blocked with reason 13', () => {
    const rig = rigWith(0);
    expect(rig.unit.translationRequest(RID, DFN, false)).toBe(-13);
    expect(rig.fault()).toMatchObject({ reason: 13, at: 1 });
  });
  test('a translation request for what is not permitted is answered empty and is no fault', () => {
    const rig = rigWith(1);
    expect(rig.unit.translationRequest(RID, DFN, false)).toBe(MFN);
    expect(rig.unit.translationRequest(RID, DFN, true)).toBeLessThan(0);
    expect(rig.unit.translationRequest(RID, DFN + 1, false)).toBeLessThan(0);
    expect(rig.fault()).toBeUndefined();
  });
});
