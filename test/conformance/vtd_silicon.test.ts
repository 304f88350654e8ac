/** VT-d clauses beyond plain legacy translation: scalable mode, units that do not snoop, write buffers, 57 bits, and what QEMU does otherwise. */
import { describe, expect, test } from 'vitest';
import type { VtdOptions } from '../../src/iommu/hw/vtd/caps.js';
import { VTD_QUIRKS, type VtdQuirk } from '../../src/iommu/hw/vtd/quirks.js';
import { caps, QIE, REG, Rig, SRTP, TE, words64 } from '../support/vtd_rig.js';

const RID = 0x0010;
const DFN = 0x12345;
const MFN = 0x777;

describe('addresses that lead to the interrupt range (3.14)', () => {
  test.each([
    ['a 4 KiB page', 1, 0xfee12, 0xe],
    ['the page after the range', 1, 0xfef00, 0],
    ['the page before the range', 1, 0xfedff, 0],
    ['a 2 MiB page that begins in it', 2, 0xfee00, 0xe],
  ])('%s (level %i, frame %i) gives reason %i', (_says, level, frame, reason) => {
    const rig = new Rig().on();
    const root = rig.device(RID);
    const dfn = level === 1 ? DFN : 0;
    rig.map(root, 4, dfn, frame, 3, level);
    expect(rig.unit.translate(RID, dfn, true)).toBe(reason === 0 ? frame : -reason);
    expect(rig.fault()?.reason).toBe(reason === 0 ? undefined : reason);
    // Refused again, from wherever it is looked up.
    expect(rig.unit.translate(RID, dfn, true)).toBe(reason === 0 ? frame : -reason);
  });
});

describe('57-bit addresses (3.7, 9.3)', () => {
  const wide = (): Rig =>
    new Rig({
      ...caps([
        [0, 12, 8, 0b1110],
        [0, 21, 16, 56],
      ]),
      haw: 52,
    }).on();
  test('five levels translate bit 56, and a request beyond is refused with reason 4', () => {
    const rig = wide();
    const root = rig.device(RID, 1, 5);
    const top = 2 ** 44 + DFN;
    rig.map(root, 5, top, MFN);
    expect(rig.unit.translate(RID, top, false)).toBe(MFN);
    expect(rig.unit.translate(RID, top, false)).toBe(MFN);
    expect(rig.unit.translate(RID, 2 ** 45, false)).toBe(-4);
  });
  test('a unit whose SAGAW lacks them refuses the width with reason 3', () => {
    const rig = new Rig().on();
    rig.context(RID, { aw: 3, root: 0x300 });
    expect(rig.unit.translate(RID, DFN, false)).toBe(-3);
  });
});

/** Scalable mode: directory and table of PASIDs below the context entry. */
class Scalable extends Rig {
  readonly contexts = this.frame();
  readonly upper = this.frame();
  readonly directory = this.frame();
  readonly pasids = this.frame();
  constructor(
    bits: 'first' | 'second' = 'second',
    changes: readonly [number, number, number, number][] = [],
  ) {
    super(caps([[3, 11, 11, 1], bits === 'first' ? [3, 15, 15, 1] : [3, 14, 14, 1], ...changes]));
    this.put(this.rootFrame, 0, ...words64(this.contexts, 1), ...words64(this.upper, 1));
    this.put(this.contexts, (RID & 0x7f) * 8, ...words64(this.directory, 1));
    this.put(this.directory, 0, ...words64(this.pasids, 1));
  }
  /** RTADDR.TTM is 1. */
  start(): this {
    this.unit.write64(REG.RTADDR, ...words64(this.rootFrame, 0x400));
    this.unit.write32(REG.GCMD, SRTP);
    this.unit.write32(REG.GCMD, TE);
    return this;
  }
  second(root: number, at = 0): void {
    this.put(this.pasids, at, ...words64(root, 1 + (2 << 6) + (2 << 2)), 7, 0);
  }
  first(root: number): void {
    this.put(this.pasids, 0, 1 + (1 << 6), 0, 7, 0, ...words64(root));
  }
}

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
    ['a RID_PASID outside the directory', 0x48, (r) => r.put(r.contexts, 0x82, 0x2000)],
    ['a directory beyond memory', 0x50, (r) => r.put(r.contexts, 0x80, BEYOND, 0x70)],
    ['a directory entry that is not present', 0x51, (r) => r.put(r.directory, 0, 0)],
    ['a directory entry with reserved bits', 0x52, (r) => r.put(r.directory, 0, ...words64(r.pasids, 5))],
    ['a PASID table beyond memory', 0x58, (r) => r.put(r.directory, 0, BEYOND, 0x70)],
    ['a PASID entry that is not present', 0x59, (r) => r.put(r.pasids, 0, 0)],
    ['a PASID entry with reserved bits', 0x5a, (r) => r.put(r.pasids, 0, 0x401 + (2 << 6) + (2 << 2))],
    ['nested translation, which is not built', 0x5b, (r) => r.put(r.pasids, 0, 1 + (3 << 6) + (2 << 2))],
    ['first-level translation where there is none', 0x5b, (r) => r.first(0x300)],
    ['a page that is not writable', 0x85, () => {}],
  ];
  test.each(refusals)('%s gives reason %i, recorded', (_says, reason, given) => {
    const rig = new Scalable();
    rig.second(rig.frame());
    given(rig);
    rig.start();
    expect(rig.unit.translate(RID, DFN, true)).toBe(-reason);
    expect(rig.fault()).toMatchObject({ reason, sid: RID, frame: DFN });
  });

  test('TTM is latched with the root table: in legacy mode the same entries mean something else', () => {
    const rig = new Scalable();
    rig.second(rig.frame());
    rig.on();
    expect(rig.unit.translate(RID, DFN, true)).toBe(-0xa);
  });
  test('PASID-selective descriptors are taken, and one for all granularities is not', () => {
    const rig = new Scalable();
    const root = rig.frame();
    rig.second(root);
    rig.map(root, 4, DFN, MFN);
    rig.start().queue();
    rig.unit.write32(REG.GCMD, TE + QIE);
    rig.unit.translate(RID, DFN, true);
    rig.unmap(root, 4, DFN);
    rig.submit(6 + (2 << 4) + (7 << 16));
    expect(rig.unit.translate(RID, DFN, true)).toBe(-0x85);
    rig.submit(6);
    expect(rig.unit.read32(REG.FSTS) & 0x10).toBe(0x10);
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
  test('an address beyond 47 bits is not canonical', () => {
    expect(first(all).rig.unit.translate(RID, 2 ** 35, true)).toBe(-0x80);
  });
});

describe('as QEMU does it', () => {
  const rigs = (quirk: VtdQuirk, options: Partial<VtdOptions> = {}): readonly [Rig, Rig] => [
    new Rig(options),
    new Rig({ ...options, quirks: new Set([quirk]) }),
  ];
  /** What the specification's unit and QEMU's answer, in this order. */
  const each = <T>(quirk: VtdQuirk, run: (rig: Rig) => T, options?: Partial<VtdOptions>): T[] =>
    rigs(quirk, options).map(run);
  const warm = (rig: Rig): { root: number; leaf: { frame: number; at: number } } => {
    rig.on();
    const root = rig.device(RID);
    rig.map(root, 4, DFN, MFN);
    rig.unit.translate(RID, DFN, false);
    const leaf = rig.entryAt(root, 4, DFN, 1);
    rig.put(leaf.frame, leaf.at, 0, 0);
    return { root, leaf };
  };
  const again = (rig: Rig): number => rig.unit.probe(RID, DFN, false);
  const queued = (rig: Rig, ...words: number[]): number => {
    rig.queue();
    rig.submit(...words);
    return rig.unit.read32(REG.FSTS) & 0x10;
  };

  const ROWS: Readonly<Record<VtdQuirk, () => readonly [unknown[], unknown[]]>> = {
    'flush-on-enable': () => [
      each('flush-on-enable', (rig) => {
        warm(rig);
        rig.unit.write32(REG.GCMD, TE + SRTP);
        return again(rig);
      }),
      [MFN, -6],
    ],
    'qie-off-needs-wait': () => [
      each('qie-off-needs-wait', (rig) => {
        rig.queue().submit(0x11);
        rig.unit.write32(REG.GCMD, 0);
        return rig.unit.read32(REG.GSTS);
      }),
      [0, QIE],
    ],
    'iqe-needs-doorbell': () => [
      each('iqe-needs-doorbell', (rig) => {
        queued(rig, 0xf);
        rig.put(rig.queueFrame, 0, 0x11);
        rig.unit.write32(REG.FSTS, 0x10);
        return rig.unit.read32(REG.IQH);
      }),
      [0x10, 0],
    ],
    'iqa-latched': () => [
      each('iqa-latched', (rig) => {
        rig.unit.write64(REG.IQA, 0x5000, 0);
        return rig.unit.read32(REG.IQA);
      }),
      [0x5000, 0],
    ],
    'page-flush-compares-8-bits': () => [
      each('page-flush-compares-8-bits', (rig) => {
        warm(rig);
        rig.queue().submit(0x32 + (1 << 16), 0, (DFN % 256) * 4096, 0);
        return again(rig);
      }),
      [MFN, -6],
    ],
    'context-domain-is-global': () => [
      each('context-domain-is-global', (rig) => {
        rig.unit.write64(REG.CCMD, 9, 0xc000_0000);
        return (rig.unit.read32(REG.CCMD + 4) >>> 27) & 3;
      }),
      [2, 1],
    ],
    'context-device-ignores-domain': () => [
      each('context-device-ignores-domain', (rig) => {
        warm(rig);
        rig.rawContext(RID, 0, 0, 0, 0);
        rig.unit.write64(REG.CCMD, RID * 65_536 + 9, 0xe000_0000);
        return again(rig);
      }),
      [MFN, -2],
    ],
    'pass-through-any-address': () => [
      each('pass-through-any-address', (rig) => {
        rig.on().context(RID, { tt: 2 });
        return rig.unit.translate(RID, 2 ** 37, false);
      }),
      [-4, 2 ** 37],
    ],
    'hit-without-permission-is-silent': () => [
      each('hit-without-permission-is-silent', (rig) => {
        rig.on();
        rig.map(rig.device(RID), 4, DFN, MFN, 1);
        return [rig.unit.translate(RID, DFN, false), rig.unit.translate(RID, DFN, true), rig.fault()?.reason];
      }),
      [
        [MFN, -5, 5],
        [MFN, -5, undefined],
      ],
    ],
    'wait-needs-action': () => [each('wait-needs-action', (rig) => queued(rig, 5)), [0, 0x10]],
    'lax-descriptors': () => [each('lax-descriptors', (rig) => queued(rig, 7)), [0x10, 0]],
    'no-compatibility-format': () => [
      each('no-compatibility-format', (rig) => {
        rig.unit.write32(REG.GCMD, 0x0080_0000);
        return rig.unit.read32(REG.GSTS);
      }),
      [0x0080_0000, 0],
    ],
    'narrow-event-registers': () => [
      each('narrow-event-registers', (rig) => {
        for (const at of [REG.FEDATA, 0x44, 0xac]) rig.unit.write32(at, 0xffff_ffff);
        return [REG.FEDATA, 0x44, 0xac].map((at) => rig.unit.read32(at));
      }),
      [
        [0xffff_ffff, 0xffff_ffff, 0xffff_ffff],
        [0xffff, 0, 0],
      ],
    ],
    'rtaddr-keeps-mode': () => [
      each('rtaddr-keeps-mode', (rig) => {
        rig.unit.write64(REG.RTADDR, 0x5c00, 0);
        return rig.unit.read32(REG.RTADDR);
      }),
      [0x5000, 0x5c00],
    ],
    'fault-pending-needs-status-write': () => [
      each('fault-pending-needs-status-write', (rig) => {
        rig.on().unit.translate(RID, DFN, false);
        rig.clearFault();
        return rig.unit.read32(REG.FECTL);
      }),
      [0x8000_0000, 0xc000_0000],
    ],
    'reserved-context-is-not-hidden': () => [
      each('reserved-context-is-not-hidden', (rig) => {
        rig.on().rawContext(RID, 0x13, 0, 2, 0);
        rig.unit.translate(RID, DFN, false);
        return rig.fault()?.reason;
      }),
      [undefined, 0xb],
    ],
    'absent-is-not-cached': () => [
      each(
        'absent-is-not-cached',
        (rig) => {
          rig.on();
          const root = rig.device(RID);
          rig.unit.translate(RID, DFN, false);
          rig.map(root, 4, DFN, MFN);
          return again(rig);
        },
        caps([[0, 7, 7, 1]]),
      ),
      [-6, MFN],
    ],
    'interrupt-table-anyway': () => [
      each(
        'interrupt-table-anyway',
        (rig) => {
          rig.unit.write32(REG.GCMD, 0x0100_0000);
          return rig.unit.read32(REG.GSTS);
        },
        caps([[2, 3, 3, 0]]),
      ),
      [0, 0x0100_0000],
    ],
    'interrupt-reason-by-capability': () => [
      each(
        'interrupt-reason-by-capability',
        (rig) => {
          rig.on().map(rig.device(RID), 4, DFN, 0xfee00);
          return rig.unit.translate(RID, DFN, true);
        },
        caps([[3, 11, 11, 1]]),
      ),
      [-0xe, -0x87],
    ],
    'interrupt-range-by-page': () => [
      each('interrupt-range-by-page', (rig) => {
        rig.on().map(rig.device(RID), 4, 0, 0xfee00, 3, 2);
        return rig.unit.translate(RID, 0x100, true);
      }),
      [0xfef00, -0xe],
    ],
  };
  test.each(VTD_QUIRKS)('%s is off unless it is asked for', (quirk) => {
    const [got, expected] = ROWS[quirk]();
    expect(got).toEqual(expected);
  });
});
