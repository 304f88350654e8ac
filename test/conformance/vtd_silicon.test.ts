/** VT-d clauses beyond plain translation: the interrupt range, 57 bits, and what QEMU does otherwise. */
import { describe, expect, test } from 'vitest';
import type { VtdOptions } from '../../src/iommu/hw/vtd/caps.js';
import { VTD_QUIRKS, type VtdQuirk } from '../../src/iommu/hw/vtd/quirks.js';
import { caps, QIE, REG, Rig, SRTP, TE } from '../support/vtd_rig.js';

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
    'lax-interrupt-entry-descriptors': () => [
      each('lax-interrupt-entry-descriptors', (rig) => queued(rig, 0x24)),
      [0x10, 0],
    ],
    'transient-mapping': () => [
      each(
        'transient-mapping',
        (rig) => {
          rig.on().map(rig.device(RID), 4, DFN, MFN, 3, 1, 0x4000_0000);
          return rig.unit.translate(RID, DFN, false);
        },
        caps([[2, 2, 2, 1]]),
      ),
      [-0xc, MFN],
    ],
    'snoop-with-scalable-mode': () => [
      each(
        'snoop-with-scalable-mode',
        (rig) => {
          rig.on().map(rig.device(RID), 4, DFN, MFN, 0x803);
          return rig.unit.translate(RID, DFN, false);
        },
        caps([
          [2, 7, 7, 0],
          [3, 11, 11, 1],
        ]),
      ),
      [-0xc, MFN],
    ],
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
    'irta-keeps-mode': () => [
      each(
        'irta-keeps-mode',
        (rig) => {
          rig.unit.write64(REG.IRTA, 0x5fff, 0);
          return rig.unit.read32(REG.IRTA);
        },
        caps([[2, 4, 4, 0]]),
      ),
      [0x500f, 0x580f],
    ],
    'narrow-queue-in-scalable-mode': () => [
      each(
        'narrow-queue-in-scalable-mode',
        (rig) => {
          rig.unit.write64(REG.RTADDR, rig.rootFrame * 4096 + 0x400, 0);
          rig.unit.write32(REG.GCMD, SRTP);
          return queued(rig, 0x12);
        },
        caps([[3, 11, 11, 1]]),
      ),
      [0x10, 0],
    ],
    'pass-through-any-width': () => [
      each('pass-through-any-width', (rig) => {
        rig.on().context(RID, { tt: 2, aw: 1 });
        return rig.unit.translate(RID, DFN, false);
      }),
      [-3, DFN],
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
