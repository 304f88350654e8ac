/** State of a VT-d unit that other tests pass by: reset, the order and arguments of what it reports, cache edges, address bits. */
import { describe, expect, test } from 'vitest';
import type { VtdQuirk } from '../../src/iommu/hw/vtd/quirks.js';
import { CFI, caps, IRE, QIE, REG, Rig, SIRTP, SRTP, TE, words64 } from '../support/vtd_rig.js';

const RID = 0x0310;
const DFN = 0x12_3456;
const MFN = 0x45_6789;
const quirk = (...names: VtdQuirk[]): { quirks: ReadonlySet<VtdQuirk> } => ({ quirks: new Set(names) });
/** What the unit says it does, with its arguments in hex. */
function told(rig: Rig, f: () => void): string[] {
  const seen: string[] = [];
  const off = rig.events.attach((e) => {
    if (e.kind === 'hw') seen.push([e.what, ...e.args.map((a) => a.toString(16))].join(' '));
  });
  f();
  off();
  return seen;
}
const mapped = (options = {}): { rig: Rig; root: number } => {
  const rig = new Rig(options).on();
  const root = rig.device(RID, 1);
  rig.map(root, 4, DFN, MFN);
  expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
  return { rig, root };
};

describe('reset (11.2)', () => {
  test('leaves registers, latches and caches as at power-on, whatever was set', () => {
    const rig = new Rig(caps([[0, 7, 7, 1]])).on();
    const fresh = [...rig.unit.regs.keys()].map((i) => new Rig(caps([[0, 7, 7, 1]])).unit.read32(i * 4));
    const root = rig.device(RID, 1);
    rig.map(root, 4, DFN, MFN);
    rig.unit.translate(RID, DFN, true);
    rig.unit.translate(RID, DFN + 1, true);
    rig.unit.translate(0x1000, DFN, true);
    rig.unit.write64(REG.IRTA, 0x100_0008, 0);
    rig.unit.write32(REG.GCMD, (TE | SIRTP) >>> 0);
    rig.unit.write32(REG.GCMD, (TE | IRE | CFI) >>> 0);
    rig.queue();
    rig.submit(0x11);
    rig.unit.write64(0x500, DFN * 4096 + 3, 0);
    const at = rig.unit.cache;
    rig.unit.reset();
    expect([...rig.unit.regs.keys()].map((i) => rig.unit.read32(i * 4))).toEqual(fresh);
    const { te, ire, qie, compatPass, rootFrame, irFrame, irEntries, irX2apic, scalable } = rig.unit;
    expect([te, ire, qie, compatPass, rootFrame, irFrame, irEntries, irX2apic, scalable]).toEqual([
      ...[false, false, false, false],
      ...[0, 0, 0],
      ...[false, false],
    ]);
    const { faultAt, ivaLo, ivaHi, queueFrame, queueBytes, queueAt, fetchedTo, lastType } = rig.unit;
    expect([faultAt, ivaLo, ivaHi, queueFrame, queueBytes, queueAt, fetchedTo, lastType]).toEqual(
      Array(8).fill(0),
    );
    expect(rig.unit.cachedTranslations()).toEqual([]);
    expect(rig.unit.cachedContexts()).toEqual([]);
    expect(rig.unit.stillProduces(MFN)).toBe(false);
    expect(at).toBe(rig.unit.cache);
    // Without translation every frame is its own; with it, the tables are walked anew.
    expect(rig.unit.translate(RID, DFN, true)).toBe(DFN);
    rig.map(root, 4, DFN, MFN + 1);
    rig.on();
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN + 1);
  });

  test('fault records begin with the first again when translation and remapping are off', () => {
    const rig = new Rig(caps([[1, 15, 8, 3]])).on();
    const base = 0x400;
    const taken = (): number[] =>
      [0, 1, 2, 3].filter((n) => rig.unit.read32(base + n * 16 + 12) >>> 31 === 1);
    rig.unit.translate(0x100, 1, true);
    rig.unit.translate(0x200, 1, true);
    expect(taken()).toEqual([0, 1]);
    for (const n of [0, 1]) rig.clearFault(n);
    rig.unit.translate(0x300, 1, true);
    expect([taken(), (rig.unit.read32(REG.FSTS) >>> 8) & 0xff]).toEqual([[2], 2]);
    rig.clearFault(2);
    rig.unit.write32(REG.GCMD, 0);
    rig.unit.write32(REG.GCMD, TE);
    rig.unit.translate(0x300, 1, true);
    expect([taken(), (rig.unit.read32(REG.FSTS) >>> 8) & 0xff]).toEqual([[0], 0]);
  });
});

describe('what it reports', () => {
  test.each([
    ['context cache, all', [0x11], 'contextGlobal'],
    ['context cache of a domain', [0x21 + (7 << 16)], 'contextDomain 7'],
    ['context cache of a device', [0x31 + (7 << 16), RID + (2 << 16)], 'contextDevice 7 310 2'],
    ['IOTLB, all', [0x12], 'iotlbGlobal'],
    ['IOTLB of a domain', [0x22 + (7 << 16)], 'iotlbDomain 7'],
    ['IOTLB of pages', [0x32 + (7 << 16), 0, 0x3456_7005, 0x12], 'iotlbPages 7 1234560 5'],
    ['interrupt entries, all', [4], 'iecGlobal'],
    ['interrupt entries from an index', [0x14 + (3 << 27), 0x1234], 'iecIndex 1234 3'],
    ['a wait', [0x25, 0x9abc_def0, 0x1000, 0], 'wait 9abcdef0'],
    ['an unknown descriptor', [9], 'queueError 0'],
  ])('%s', (_what, words, line) => {
    const rig = new Rig().on().queue();
    expect(told(rig, () => rig.submit(...words))).toEqual([line]);
  });
  test.each([
    ['PASID cache of a domain', [7 + (5 << 16)], 'contextGlobal'],
    ['PASID cache of a PASID', [0x17 + (5 << 16)], 'contextGlobal'],
    ['PASID cache, all', [0x37], 'contextGlobal'],
    ['PASID cache of a reserved granularity', [0x27], 'queueError 0'],
    ['PASID cache with an address', [7, 0, 1], 'queueError 0'],
    ['IOTLB of a PASID', [0x26 + (5 << 16)], 'iotlbDomain 5'],
    ['IOTLB of pages of a PASID', [0x36 + (5 << 16)], 'iotlbDomain 5'],
    ['IOTLB of a PASID, of a reserved granularity', [0x16 + (5 << 16)], 'queueError 0'],
  ])('in scalable mode: %s', (_what, words, line) => {
    const rig = new Rig(caps([[3, 11, 11, 1]]));
    const frame = rig.frame();
    rig.unit.write64(REG.RTADDR, ...words64(rig.rootFrame, 0x400));
    rig.unit.write64(REG.IQA, ...words64(frame, 0x800));
    for (const bits of [SRTP, TE + QIE]) rig.unit.write32(REG.GCMD, bits);
    rig.put(frame, 0, ...words);
    expect(told(rig, () => rig.unit.write32(REG.IQT, 32))).toEqual([line]);
    const legacy = new Rig().on().queue();
    expect(told(legacy, () => legacy.submit(...words))).toEqual(['queueError 0']);
    const qemu = new Rig(quirk('lax-descriptors')).on().queue();
    expect(told(qemu, () => qemu.submit(...words))).toEqual([]);
  });
  test('global commands with the status before, what they latch, and a write buffer flush', () => {
    const rig = new Rig(caps([[0, 4, 4, 1]]));
    rig.unit.write64(REG.RTADDR, ...words64(rig.rootFrame));
    rig.unit.write64(REG.IRTA, 0x4567_8007, 0x12);
    expect(told(rig, () => rig.unit.write32(REG.GCMD, SRTP))).toEqual([
      'gcmd 0 40000000',
      `rootTable ${rig.rootFrame.toString(16)}`,
    ]);
    expect(told(rig, () => rig.unit.write32(REG.GCMD, SIRTP))).toEqual([
      'gcmd 40000000 1000000',
      'intremapTable 1245678 100',
    ]);
    expect(told(rig, () => rig.unit.write32(REG.GCMD, 0x0800_0000))).toEqual([
      'gcmd 41000000 8000000',
      'writeBuffer',
    ]);
  });
  test('register accesses with size and both halves; nothing while nobody listens', () => {
    const rig = new Rig();
    const seen: string[] = [];
    rig.events.attach((e) => {
      if (e.kind === 'reg')
        seen.push(
          `${e.write ? 'w' : 'r'}${e.size} ${e.offset.toString(16)} ${e.lo.toString(16)} ${e.hi.toString(16)}`,
        );
    });
    rig.unit.write64(REG.RTADDR, 0x8765_4000, 0xfedc_ba98);
    rig.unit.write32(REG.FEDATA, 0x8000_0001);
    rig.unit.read32(REG.RTADDR + 4);
    expect(seen).toEqual(['w8 20 87654000 fedcba98', 'w4 3c 80000001 0', 'r4 24 fedcba98 0']);
  });
  test('faults of DMA with their address above 4 GiB, and of interrupts with the index', () => {
    const rig = new Rig().on();
    const seen: unknown[] = [];
    rig.events.attach((e) => {
      if (e.kind === 'fault') seen.push([e.rid, e.reason, e.write, e.addrLo, e.addrHi]);
    });
    rig.unit.translate(RID, 0x1_2345_6789, false);
    expect(rig.fault()).toEqual({ reason: 1, sid: RID, read: true, at: 0, frame: 0x1_2345_6789 });
    rig.clearFault();
    rig.unit.write64(REG.IRTA, 0x100_0008, 0);
    rig.unit.write32(REG.GCMD, (TE | SIRTP) >>> 0);
    rig.unit.write32(REG.GCMD, (TE | IRE) >>> 0);
    rig.unit.remapInterrupt(RID, 0xfee0_0010 | (0x123 << 5), 0);
    expect(rig.unit.read32(0x404)).toBe(0x0123_0000);
    expect(seen).toEqual([
      [RID, 1, false, 0x5678_9000, 0x1234],
      [RID, 0x22, true, 0, 0x0123_0000],
    ]);
  });
});

describe('page-selective invalidation (6.5.2.3)', () => {
  /** Which of the frames around a page are still cached after a request. */
  const left = (frames: readonly number[], dfn: number, am: number, did = 1): number[] => {
    const rig = new Rig().on();
    const root = rig.device(RID, 1);
    for (const f of frames) rig.map(root, 4, f, f + 0x1000);
    for (const f of frames) rig.unit.translate(RID, f, true);
    rig.queue();
    rig.submit(0x32 + (did << 16), 0, (dfn % 0x10_0000) * 4096 + am, Math.floor(dfn / 0x10_0000));
    const cached = new Set(rig.unit.cachedTranslations().map((t) => t.dfn));
    return frames.filter((f) => cached.has(f));
  };
  const around = (first: number, n: number): number[] => [
    ...new Set([first - 1, first, first + n - 1, first + n]),
  ];
  test.each([0, 1, 2, 3, 4, 5, 8, 9, 12])('2^%i pages, and neither neighbour', (am) => {
    const n = 2 ** am;
    const first = Math.floor(0x12_3456 / n) * n;
    expect(left(around(first, n), first, am)).toEqual([first - 1, first + n]);
    // Low bits of the address that the mask covers are ignored.
    if (am > 0) expect(left(around(first, n), first + n - 1, am)).toEqual([first - 1, first + n]);
    expect(left(around(first, n), first, am, 2)).toEqual(around(first, n));
  });
  test('a page above 16 TiB is told from one with the same low bits', () => {
    const rig = new Rig().on();
    const root = rig.device(RID, 1);
    const [low, high] = [0x5678, 0x1_0000_5678];
    rig.map(root, 4, low, 0x100);
    rig.map(root, 4, high, 0x200);
    const both = (): number[] => [low, high].map((f) => rig.unit.translate(RID, f, true));
    expect([both(), both()]).toEqual([
      [0x100, 0x200],
      [0x100, 0x200],
    ]);
    rig.unmap(root, 4, high);
    rig.unmap(root, 4, low);
    rig.queue();
    rig.submit(0x32 + (1 << 16), 0, (high % 0x10_0000) * 4096, Math.floor(high / 0x10_0000));
    expect(both()).toEqual([0x100, -5]);
  });
  test.each([
    [2, 512],
    [3, 262_144],
  ])('a page of level %i goes with any of its %i frames, its neighbour stays', (level, size) => {
    for (const am of [0, 3, 4]) {
      const rig = new Rig().on();
      const root = rig.device(RID, 1);
      const first = 5 * size;
      rig.map(root, 4, first, 8 * size, 3, level);
      rig.map(root, 4, first + size, 16 * size, 3, level);
      expect([
        rig.unit.translate(RID, first + 77, true),
        rig.unit.translate(RID, first + size, true),
      ]).toEqual([8 * size + 77, 16 * size]);
      rig.queue();
      const named = first + size - 16;
      rig.submit(0x32 + (1 << 16), 0, (named % 0x10_0000) * 4096 + am, Math.floor(named / 0x10_0000));
      expect(rig.unit.cachedTranslations().map((t) => [t.dfn, t.frames])).toEqual([[first + size, size]]);
    }
  });
  test('pages of all sizes are found again after one of another size was walked', () => {
    const rig = new Rig().on();
    const root = rig.device(RID, 1);
    rig.map(root, 4, 0x200, 0x4000, 3, 2);
    rig.map(root, 4, 0x4_0000, 0x8_0000, 3, 3);
    for (let f = 0; f < 64; f++) rig.map(root, 4, 0x10_0000 + f, 0x7000 + f);
    for (let f = 0; f < 64; f++) {
      expect(rig.unit.translate(RID, 0x10_0000 + f, true)).toBe(0x7000 + f);
      expect(rig.unit.translate(RID, 0x200 + f, true)).toBe(0x4000 + f);
      expect(rig.unit.translate(RID, 0x10_0000 + f, false)).toBe(0x7000 + f);
      expect(rig.unit.translate(RID, 0x4_0000 + f * 0x1001, true)).toBe(0x8_0000 + f * 0x1001);
      expect(rig.unit.probe(RID, 0x200 + 511 - f, true)).toBe(0x4000 + 511 - f);
    }
    expect(rig.unit.cachedTranslations().filter((t) => t.frames > 1)).toEqual([
      { did: 1, dfn: 0x200, mfn: 0x4000, frames: 512, read: true, write: true },
      { did: 1, dfn: 0x4_0000, mfn: 0x8_0000, frames: 262_144, read: true, write: true },
    ]);
    expect([0x3fff, 0x4000, 0x41ff, 0x4200, 0x7fff_f].map((f) => rig.unit.stillProduces(f))).toEqual([
      false,
      true,
      true,
      false,
      false,
    ]);
  });
  test('a unit like QEMU before 9.2 forgets all pages with the same bits 7:0', () => {
    const rig = new Rig(quirk('page-flush-compares-8-bits')).on();
    const root = rig.device(RID, 1);
    const other = rig.device(0x400, 2);
    const frames = [0x1034, 0x2034, 0x1035, 0x2036];
    for (const f of frames) rig.map(root, 4, f, f);
    rig.map(other, 4, 0x3034, 0x3034);
    rig.map(root, 4, 0x8_0000, 0x8_0000, 3, 2);
    const ask = (): void => {
      for (const f of [...frames, 0x8_0000]) rig.unit.translate(RID, f, true);
      rig.unit.translate(0x400, 0x3034, true);
    };
    const cached = (): string =>
      rig.unit
        .cachedTranslations()
        .map((t) => t.dfn.toString(16))
        .sort()
        .join(' ');
    rig.queue();
    const pages = (dfn: number, am: number): string => {
      ask();
      rig.submit(0x32 + (1 << 16), 0, dfn * 4096 + am, 0);
      return cached();
    };
    expect(pages(0x1034, 0)).toBe('1035 2036 3034 80000');
    expect(pages(0x1034, 1)).toBe('2036 3034 80000');
    expect(pages(0x1034, 2)).toBe('3034 80000');
    expect(pages(0x8_0123, 0)).toBe('1034 1035 2034 2036 3034');
    expect(pages(0x1034, 8)).toBe('3034');
  });
});

describe('context cache (6.2.2.1)', () => {
  test.each([
    [0, 0, [0]],
    [1, 0, [0, 4]],
    [2, 0, [0, 2, 4, 6]],
    [3, 0, [0, 1, 2, 3, 4, 5, 6, 7]],
    [1, 3, [3, 7]],
    [2, 5, [1, 3, 5, 7]],
  ])('function mask %i of function %i takes functions %j', (fm, fn, gone) => {
    for (const by of ['queue', 'register'] as const) {
      const rig = new Rig().on();
      const all = [0, 1, 2, 3, 4, 5, 6, 7, 8];
      for (const f of all) {
        rig.device(RID + f, 7);
        rig.unit.translate(RID + f, DFN, true);
      }
      if (by === 'queue') rig.queue().submit(0x31 + (7 << 16), RID + fn + (fm << 16));
      else rig.unit.write64(REG.CCMD, ((RID + fn) << 16) | 7, 0xe000_0000 | fm);
      const left = rig.unit.cachedContexts().map((c) => c.rid - RID);
      expect(left.sort((a, b) => a - b)).toEqual(all.filter((f) => !(gone as number[]).includes(f)));
    }
  });
  test('of one domain alone, and of the device only when it was cached in that domain', () => {
    const fill = (options = {}): Rig => {
      const rig = new Rig(options).on();
      for (const [rid, did] of [
        [0x10, 7],
        [0x18, 8],
      ] as const) {
        rig.device(rid, did);
        rig.unit.translate(rid, DFN, true);
      }
      return rig.queue();
    };
    const left = (rig: Rig, ...words: number[]): number[] => {
      rig.submit(...words);
      return rig.unit.cachedContexts().map((c) => c.rid);
    };
    expect(left(fill(), 0x21 + (7 << 16))).toEqual([0x18]);
    expect(left(fill(quirk('context-domain-is-global')), 0x21 + (7 << 16))).toEqual([]);
    expect(left(fill(), 0x31 + (7 << 16), 0x18)).toEqual([0x10, 0x18]);
    expect(left(fill(), 0x31 + (8 << 16), 0x18)).toEqual([0x10]);
    expect(left(fill(quirk('context-device-ignores-domain')), 0x31 + (7 << 16), 0x18)).toEqual([0x10]);
  });
});

describe('register-based requests (11.4.6)', () => {
  test('CCMD says what was done, and keeps what was asked; other bits of both halves are not kept', () => {
    const rig = new Rig().on();
    rig.unit.write64(REG.CCMD, (0x310 << 16) | 7, 0xa000_0003);
    expect([rig.unit.read32(REG.CCMD), rig.unit.read32(REG.CCMD + 4)]).toEqual([7, 0x2800_0000]);
    rig.unit.write64(REG.CCMD, 7, 0xc000_0000);
    expect(rig.unit.read32(REG.CCMD + 4)).toBe(0x5000_0000);
    rig.unit.write64(REG.CCMD, 7, 0xe000_0000);
    expect(rig.unit.read32(REG.CCMD + 4)).toBe(0x7800_0000);
    rig.unit.write64(REG.CCMD, 7, 0x8000_0000);
    expect(rig.unit.read32(REG.CCMD + 4)).toBe(0);
    rig.unit.write64(REG.CCMD, 7, 0x6000_0000);
    expect(rig.unit.read32(REG.CCMD + 4)).toBe(0x6000_0000);
  });
  test('IOTLB by register: all, a domain, pages above 4 GiB; a mask too large does nothing', () => {
    const pages = (iva: [number, number], iotlb: number): [number, number] => {
      const { rig } = mapped();
      rig.unit.write64(0x500, ...iva);
      rig.unit.write64(0x508, 0, iotlb);
      return [rig.unit.read32(0x50c), rig.unit.cachedTranslations().length];
    };
    const own: [number, number] = [(DFN % 0x10_0000) * 4096, 1];
    expect(pages(own, 0xb000_0001)).toEqual([0x3600_0001, 0]);
    expect(pages([own[0] + 4096, 1], 0xb000_0001)).toEqual([0x3600_0001, 1]);
    expect(pages([own[0], 0], 0xb000_0001)).toEqual([0x3600_0001, 1]);
    expect(pages([own[0] + 4096 * 8 + 4, 1], 0xb000_0001)).toEqual([0x3600_0001, 0]);
    expect(pages(own, 0xb000_0002)).toEqual([0x3600_0002, 1]);
    expect(pages([own[0] + 0x3f, 1], 0xb000_0001)).toEqual([0x3000_0001, 1]);
    expect(pages([0, 0], 0xa003_0001)).toEqual([0x2403_0001, 0]);
    expect(pages([0, 0], 0xa000_0002)).toEqual([0x2400_0002, 1]);
    expect(pages([0, 0], 0x9000_0000)).toEqual([0x1200_0000, 0]);
    expect(pages([0, 0], 0x8000_0000)).toEqual([0, 1]);
  });
});

describe('what firmware and drivers may find otherwise', () => {
  test('a unit that invalidates by itself does so with a root table and when translation is switched', () => {
    const { rig } = mapped(quirk('flush-on-enable'));
    const all = ['contextGlobal', 'iotlbGlobal'];
    const flushed = (value: number): string[] =>
      told(rig, () => rig.unit.write32(REG.GCMD, value)).filter((l) => !/^(gcmd|rootTable)/.test(l));
    expect(flushed(TE)).toEqual([]);
    expect(flushed(0)).toEqual(all);
    expect(flushed(0)).toEqual([]);
    expect(flushed(SRTP)).toEqual(all);
    expect(flushed(TE)).toEqual(all);
    expect(flushed((TE | SRTP) >>> 0)).toEqual(all);
    const plain = mapped().rig;
    expect(told(plain, () => plain.unit.write32(REG.GCMD, 0))).toEqual(['gcmd c0000000 0']);
  });
  test('IQA that is latched shows where the queue lay when it was switched on', () => {
    for (const latched of [true, false]) {
      const rig = new Rig(latched ? quirk('iqa-latched') : {}).on().queue();
      const [lo, hi] = words64(rig.queueFrame);
      rig.unit.write64(REG.IQA, 0x1234_5002, 9);
      expect([rig.unit.read32(REG.IQA), rig.unit.read32(REG.IQA + 4)]).toEqual(
        latched ? [lo + 2, hi] : [0x1234_5002, 9],
      );
    }
  });
  test('a queue that may only be switched off at rest stays on after another descriptor than a wait', () => {
    for (const [last, on] of [
      [[0x25, 1, 0x1000, 0], 0],
      [[0x12], QIE],
    ] as const) {
      const rig = new Rig(quirk('qie-off-needs-wait')).on().queue();
      rig.submit(...last);
      rig.unit.write32(REG.GCMD, TE);
      expect(rig.unit.read32(REG.GSTS) & QIE).toBe(on);
    }
  });
  test('bits of the host address width: entries may name frames up to it and no further', () => {
    for (const haw of [39, 46, 48]) {
      const rig = new Rig({ haw }).on();
      const root = rig.device(RID, 1);
      const top = 2 ** (haw - 12) - 1;
      rig.map(root, 4, 1, top);
      rig.map(root, 4, 2, top + 1);
      expect([rig.unit.translate(RID, 1, true), rig.unit.translate(RID, 2, true)]).toEqual([top, -12]);
      // The same again, from the cache and past it.
      expect([rig.unit.translate(RID, 1, true), rig.unit.probe(RID, 1, false)]).toEqual([top, top]);
    }
  });
  test('tables at the end of memory are read, tables beyond it are not', () => {
    const end = 0x60_0000;
    const rig = new Rig();
    rig.unit.write64(REG.RTADDR, ...words64(end));
    rig.unit.write32(REG.GCMD, SRTP);
    rig.unit.write32(REG.GCMD, TE);
    expect(rig.unit.translate(RID, DFN, true)).toBe(-8);
    const last = new Rig();
    last.put(end - 1, (RID >>> 8) * 4, ...words64(end, 1));
    last.unit.write64(REG.RTADDR, ...words64(end - 1));
    last.unit.write32(REG.GCMD, SRTP);
    last.unit.write32(REG.GCMD, TE);
    expect(last.unit.translate(RID, DFN, true)).toBe(-9);
    const deep = new Rig().on();
    const root = deep.device(RID, 1);
    const { frame, at } = deep.entryAt(root, 4, DFN, 2);
    deep.put(frame, at, ...words64(end, 3));
    expect(deep.unit.translate(RID, DFN, true)).toBe(-7);
    deep.put(frame, at, ...words64(end - 1, 3));
    deep.put(end - 1, (DFN % 512) * 2, ...words64(MFN, 3));
    expect(deep.unit.translate(RID, DFN, true)).toBe(MFN);
  });
  test('interrupt entries of a bus range accept its ends and nothing beside them', () => {
    const rig = new Rig();
    rig.unit.write64(REG.IRTA, 0x100_0008, 0);
    rig.unit.write32(REG.GCMD, SIRTP);
    rig.unit.write32(REG.GCMD, IRE);
    rig.put(0x1000, 4, 0x51_0001, 0, 0x8_0305, 0);
    const from = (bus: number): number | string => {
      const got = rig.unit.remapInterrupt(bus * 256, 0xfee0_0030, 0);
      return typeof got === 'number' ? got : got.vector;
    };
    expect([2, 3, 4, 5, 6].map(from)).toEqual([-0x26, 0x51, 0x51, 0x51, -0x26]);
  });
  test('cached interrupt entries: sixty-four of them, and 2^im are forgotten from an aligned index', () => {
    const rig = new Rig();
    rig.unit.write64(REG.IRTA, 0x100_0008, 0);
    rig.unit.write32(REG.GCMD, SIRTP);
    rig.unit.write32(REG.GCMD, IRE);
    rig.queue();
    const vector = (index: number): number | string => {
      const got = rig.unit.remapInterrupt(RID, (0xfee0_0010 | (index << 5)) >>> 0, 0);
      return typeof got === 'number' ? got : got.vector;
    };
    const all = [7, 8, 9, 10, 11, 12];
    const write = (by: number): void => {
      for (const i of all) rig.put(0x1000, i * 4, ((0x40 + by + i) << 16) | 1, 0, 0, 0);
    };
    write(0);
    expect(all.map(vector)).toEqual(all.map((i) => 0x40 + i));
    write(0x20);
    expect(all.map(vector)).toEqual(all.map((i) => 0x40 + i));
    rig.submit(0x14 + (2 << 27), 10);
    expect(all.map(vector)).toEqual([0x47, 0x68, 0x69, 0x6a, 0x6b, 0x4c]);
    rig.submit(0x14, 7);
    expect([vector(7), vector(12)]).toEqual([0x67, 0x4c]);
    rig.submit(4);
    expect(vector(12)).toBe(0x6c);
  });
});
