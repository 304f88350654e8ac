/** VT-d clauses of registers beyond translation itself: protected memory, queue errors and widths, domain id widths, zero-length reads. */
import { describe, expect, test } from 'vitest';
import { dmaRequest, RootComplex } from '../../src/pci/dma.js';
import type { PciFunction } from '../../src/pci/function.js';
import { CFI, caps, IRE, QIE, REG, Rig, SIRTP, SRTP, TE, words64 } from '../support/vtd_rig.js';

const RID = 0x0310;
const DFN = 0x1_2345;
const MFN = 0x777;
const IQE = 0x10;
const ICE = 0x20;
const ITE = 0x40;
const PMEN = 0x64;
const PLMBASE = 0x68;
const PLMLIMIT = 0x6c;
const PHMBASE = 0x70;
const PHMLIMIT = 0x78;
const EPM = 0x8000_0000;
const PRS = 1;
const BLOCKED = -0x100;
const PLMR: readonly [number, number, number, number] = [0, 5, 5, 1];
const PHMR: readonly [number, number, number, number] = [0, 6, 6, 1];

describe('protected memory (11.4.8)', () => {
  /** 1 MiB to 4 MiB, and 4 GiB + 16 MiB to 4 GiB + 17 MiB. */
  const guarded = (...with_: (readonly [number, number, number, number])[]): Rig => {
    const rig = new Rig(caps(with_.length > 0 ? with_ : [PLMR, PHMR]));
    rig.unit.write32(PLMBASE, 0x10_0000);
    rig.unit.write32(PLMLIMIT, 0x30_0000);
    rig.unit.write64(PHMBASE, 0x100_0000, 1);
    rig.unit.write64(PHMLIMIT, 0x100_0000, 1);
    rig.unit.write32(PMEN, EPM);
    return rig;
  };
  test('PRS follows EPM', () => {
    const rig = guarded();
    expect(rig.unit.read32(PMEN)).toBe(EPM + PRS);
    rig.unit.write32(PMEN, 0);
    expect(rig.unit.read32(PMEN)).toBe(0);
  });
  test.each([
    ['the frame before the low range', 0xff, 0xff],
    ['its first frame', 0x100, BLOCKED],
    ['the last frame of the MiB that its limit names', 0x3ff, BLOCKED],
    ['the frame behind it', 0x400, 0x400],
    ['the frame before the high range', 0x10_0fff, 0x10_0fff],
    ['its first frame', 0x10_1000, BLOCKED],
    ['its last frame', 0x10_10ff, BLOCKED],
    ['the frame behind it', 0x10_1100, 0x10_1100],
  ])('while translation is off, %s (%i) answers %i, and no fault is recorded', (_says, dfn, answer) => {
    const rig = guarded();
    for (const write of [false, true]) expect(rig.unit.translate(RID, dfn, write)).toBe(answer);
    expect(rig.unit.probe(RID, dfn, true)).toBe(answer);
    expect(rig.fault()).toBeUndefined();
    expect(rig.unit.read32(REG.FSTS)).toBe(0);
  });
  test('pass-through is held to it too, cached or not, and records no fault', () => {
    const rig = guarded();
    rig.context(RID, { tt: 2 });
    rig.on();
    for (let i = 0; i < 2; i++) {
      expect(rig.unit.translate(RID, 0x100, true)).toBe(BLOCKED);
      expect(rig.unit.translate(RID, 0x400, true)).toBe(0x400);
    }
    expect(rig.fault()).toBeUndefined();
  });
  test('requests that are translated already are held to it', () => {
    const rig = guarded(PLMR, [2, 2, 2, 1]);
    rig.context(RID, { tt: 1, root: rig.frame() });
    rig.on();
    expect(rig.unit.translated(RID, 0x100, true)).toBe(BLOCKED);
    expect(rig.unit.translated(RID, 0x400, true)).toBe(0x400);
    expect(rig.fault()).toBeUndefined();
  });
  test('a base above its limit is no range', () => {
    const rig = guarded();
    rig.unit.write32(PLMBASE, 0x40_0000);
    expect(rig.unit.translate(RID, 0x100, true)).toBe(0x100);
    expect(rig.unit.translate(RID, 0x400, true)).toBe(0x400);
  });
  test('without EPM nothing is protected', () => {
    const rig = guarded();
    rig.unit.write32(PMEN, 0);
    expect(rig.unit.translate(RID, 0x100, true)).toBe(0x100);
  });
  test('address bits 19:0 of base and limit are not there', () => {
    const rig = guarded();
    for (const at of [PLMBASE, PLMLIMIT, PHMBASE, PHMLIMIT]) {
      rig.unit.write32(at, 0xffff_ffff);
      expect(rig.unit.read32(at)).toBe(0xfff0_0000);
    }
  });
  test.each([
    ['neither range', [[0, 6, 5, 0]], 0, [0, 0], 0x100, 0x10_1000],
    ['the low one alone', [PLMR], EPM + PRS, [0x10_0000, 0], BLOCKED, 0x10_1000],
    ['the high one alone', [PHMR], EPM + PRS, [0, 0x100_0000], 0x100, BLOCKED],
  ] as const)('a unit with %s has its registers and holds it', (_says, with_, pmen, bases, low, high) => {
    const rig = guarded(...with_);
    expect(rig.unit.read32(PMEN)).toBe(pmen);
    expect([PLMBASE, PHMBASE].map((at) => rig.unit.read32(at))).toEqual(bases);
    expect(rig.unit.translate(RID, 0x100, true)).toBe(low);
    expect(rig.unit.translate(RID, 0x10_1000, true)).toBe(high);
  });
  test('reset ends it', () => {
    const rig = guarded();
    rig.unit.reset();
    expect(rig.unit.translate(RID, 0x100, true)).toBe(0x100);
  });
});

describe('the error record of the queue (11.4.9.9)', () => {
  const IQERCD = 0xb0;
  const info = (rig: Rig): number => rig.unit.read32(IQERCD) & 0xf;
  const ready = (options = {}): Rig => new Rig(options).on().queue();
  test.each([
    ['a tail beyond the queue', 1, (rig: Rig) => rig.unit.write32(REG.IQT, 0x1000)],
    [
      'a queue beyond memory',
      2,
      (rig: Rig) => {
        rig.unit.write64(REG.IQA, 0, 0x70);
        rig.unit.write32(REG.IQT, 0x10);
      },
    ],
    ['an unknown type', 3, (rig: Rig) => rig.submit(0xf)],
    ['a type extension in bits 11:9', 3, (rig: Rig) => rig.submit(0x212)],
    ['a type of scalable mode', 3, (rig: Rig) => rig.submit(7)],
    ['a device TLB while the unit supports none', 3, (rig: Rig) => rig.submit(3, RID)],
    ['reserved bits', 4, (rig: Rig) => rig.submit(0x112)],
    ['reserved bits of a wait', 4, (rig: Rig) => rig.submit(0xa5)],
  ])('%s gives info %i', (_says, expected, given) => {
    const rig = ready();
    given(rig);
    expect(rig.unit.read32(REG.FSTS) & IQE).toBe(IQE);
    expect(info(rig)).toBe(expected);
  });
  test('it cannot be written', () => {
    const rig = ready();
    rig.submit(0xf);
    rig.unit.write64(IQERCD, 0, 0);
    expect(info(rig)).toBe(3);
  });
  test('ITESID names the device that did not answer', () => {
    const rig = ready(caps([[2, 2, 2, 1]]));
    rig.unit.onDeviceTlb = () => false;
    rig.submit(3, RID);
    expect(rig.unit.read32(REG.FSTS)).toBe(ITE);
    expect(rig.unit.read32(IQERCD + 4)).toBe(RID);
  });
  test('a completion that nobody waits for sets ICE with its sender, and the queue goes on', () => {
    const rig = ready(caps([[2, 2, 2, 1]]));
    rig.unit.write32(REG.FECTL, 0);
    rig.unit.unexpectedCompletion(RID);
    expect(rig.unit.read32(REG.FSTS)).toBe(ICE);
    expect(rig.unit.read32(IQERCD + 4)).toBe(RID * 0x1_0000);
    expect(rig.interrupts).toHaveLength(1);
    rig.submit(0x25, 1, 0x90_0000, 0);
    expect(rig.word(0x900, 0)).toBe(1);
    rig.unit.write32(REG.FSTS, ICE);
    expect(rig.unit.read32(REG.FSTS)).toBe(0);
  });
  test('a unit without device TLBs has no ICE', () => {
    const rig = ready();
    rig.unit.unexpectedCompletion(RID);
    expect(rig.unit.read32(REG.FSTS)).toBe(0);
  });
});

describe('descriptors of 256 bits (6.5.2, 11.4.9.3)', () => {
  const DW = 0x800;
  const SMTS: readonly [number, number, number, number] = [3, 11, 11, 1];
  const STATUS = 0x900;
  const head = (rig: Rig): number => rig.unit.read32(REG.IQH);
  const status = (rig: Rig): number => rig.unit.read32(REG.FSTS) & IQE;
  /** A queue of one page, and hands that write descriptors of eight words. */
  const wide = (qs = 0): { rig: Rig; put: (n: number, ...words: number[]) => void } => {
    const rig = new Rig(caps([SMTS])).on();
    const frame = rig.frame();
    for (let i = 1; i < 2 ** qs; i++) rig.frame();
    rig.unit.write64(REG.IQA, ...words64(frame, DW + qs));
    rig.unit.write32(REG.GCMD, TE + QIE);
    return { rig, put: (n, ...words) => rig.put(frame + (n >>> 7), (n & 127) * 8, ...words) };
  };
  const wait = (n: number): number[] => [0x25, n, STATUS * 4096, 0, 0, 0, 0, 0];
  test('DW can be set where there is scalable mode, and nowhere else', () => {
    for (const [options, shown] of [
      [caps([SMTS]), DW],
      [caps([]), 0],
    ] as const) {
      const rig = new Rig(options);
      rig.unit.write64(REG.IQA, DW, 0);
      expect(rig.unit.read32(REG.IQA)).toBe(shown);
    }
  });
  test('the head moves by 32 bytes, and wraps at the end of the queue', () => {
    const { rig, put } = wide();
    for (let n = 0; n < 128; n++) put(n, ...wait(n + 1));
    rig.unit.write32(REG.IQT, 2 * 32);
    expect([head(rig), rig.word(STATUS, 0)]).toEqual([64, 2]);
    rig.unit.write32(REG.IQT, 127 * 32);
    expect([head(rig), rig.word(STATUS, 0)]).toEqual([127 * 32, 127]);
    rig.unit.write32(REG.IQT, 32);
    expect([head(rig), rig.word(STATUS, 0), status(rig)]).toEqual([32, 1, 0]);
  });
  test('a queue of two pages has 256 of them', () => {
    const { rig, put } = wide(1);
    for (let n = 0; n < 256; n++) put(n, ...wait(n + 1));
    rig.unit.write32(REG.IQT, 255 * 32);
    expect([head(rig), rig.word(STATUS, 0)]).toEqual([255 * 32, 255]);
  });
  test('a tail with bit 4 is an error, of its own kind', () => {
    const { rig } = wide();
    rig.unit.write32(REG.IQT, 16);
    expect([status(rig), rig.unit.read32(0xb0), head(rig)]).toEqual([IQE, 6, 0]);
  });
  test.each([4, 5, 6, 7])('word %i of a descriptor is reserved', (word) => {
    const { rig, put } = wide();
    const words = wait(1);
    words[word] = 1;
    put(0, ...words);
    rig.unit.write32(REG.IQT, 32);
    expect([status(rig), rig.unit.read32(0xb0), head(rig)]).toEqual([IQE, 4, 0]);
    expect(rig.word(STATUS, 0)).toBe(0);
  });
  test('an invalidation of either width does the same', () => {
    const { rig, put } = wide();
    const root = rig.device(RID);
    rig.map(root, 4, DFN, MFN);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    rig.map(root, 4, DFN, MFN + 1);
    put(0, 0x22 + (1 << 16), 0, 0, 0, 0, 0, 0, 0);
    rig.unit.write32(REG.IQT, 32);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN + 1);
  });
});

describe('domain ids of fewer than 16 bits (CAP.ND, 9.3)', () => {
  /** ND 2: eight bits, as clients have. */
  const few = (): Rig => new Rig(caps([[0, 2, 0, 2]])).on();
  test.each([
    [255, MFN],
    [256, -0xb],
    [0x8000, -0xb],
  ])('with ND 2 a context entry with domain %i answers %i', (did, answer) => {
    const rig = few();
    const root = rig.device(RID, did);
    rig.map(root, 4, DFN, MFN);
    expect(rig.unit.translate(RID, DFN, true)).toBe(answer);
  });
  test.each([
    ['queued, the IOTLB', (rig: Rig) => rig.submit(0x22 + (0x4005 << 16))],
    ['queued, a page', (rig: Rig) => rig.submit(0x32 + (0x4005 << 16), 0, ...words64(DFN))],
    ['by register', (rig: Rig) => rig.unit.write64(0x508, 0, 0xa000_4005)],
  ])('upper bits of the domain id in an invalidation are ignored: %s', (says, invalidate) => {
    const rig = few();
    if (!says.startsWith('by')) rig.queue();
    const root = rig.device(RID, 5);
    rig.map(root, 4, DFN, MFN);
    rig.unit.translate(RID, DFN, true);
    rig.map(root, 4, DFN, MFN + 1);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN);
    invalidate(rig);
    expect(rig.unit.translate(RID, DFN, true)).toBe(MFN + 1);
  });
  test('and so are those for the context cache', () => {
    for (const invalidate of [
      (rig: Rig) => rig.queue().submit(0x21 + (0x4005 << 16)),
      (rig: Rig) => rig.unit.write64(REG.CCMD, 0x4005, 0xc000_0000),
    ]) {
      const rig = few();
      rig.map(rig.device(RID, 5), 4, DFN, MFN);
      rig.unit.translate(RID, DFN, true);
      rig.rawContext(RID, 0, 0, 0, 0);
      invalidate(rig);
      expect(rig.unit.translate(RID, DFN, true)).toBe(-2);
    }
  });
});

describe('reads of no bytes (CAP.ZLR, 11.4.2)', () => {
  const page = (zlr: number, flags: number): Rig => {
    const rig = new Rig(caps([[0, 22, 22, zlr]])).on();
    rig.map(rig.device(RID), 4, DFN, MFN, flags);
    return rig;
  };
  test.each([
    [1, 3, MFN],
    [1, 1, MFN],
    [1, 2, MFN],
    [1, 0, -6],
    [0, 2, -6],
    [0, 1, MFN],
  ])('with ZLR %i a page with permissions %i answers %i', (zlr, flags, answer) => {
    const rig = page(zlr, flags);
    expect(rig.unit.zeroLengthRead(RID, DFN)).toBe(answer);
    expect(rig.fault()).toEqual(
      answer > 0 ? undefined : { reason: 6, sid: RID, read: true, at: 0, frame: DFN },
    );
  });
  test('a device asks so by a read of length zero, and by no other request', () => {
    const rig = page(1, 2);
    const root = new RootComplex(rig.ram, rig.events);
    root.install(rig.unit, 0);
    const fn = { canMaster: true, rid: RID, bus: { seg: 0, parent: undefined } } as unknown as PciFunction;
    const ask = (bytes: number): string =>
      dmaRequest(root, fn, { address: DFN * 4096, bytes, write: false }).status;
    expect([ask(0), ask(1)]).toEqual(['done', 'fault']);
  });
});

describe('tables that are set anew (CAP.ESRTPS, CAP.ESIRTPS, 6.6)', () => {
  const ESRTPS: readonly [number, number, number, number] = [1, 31, 31, 1];
  const ESIRTPS: readonly [number, number, number, number] = [1, 30, 30, 1];
  test.each([
    ['with ESRTPS SRTP makes the unit forget contexts and translations', [ESRTPS], MFN + 1],
    ['without it software has to', [ESIRTPS], MFN],
  ] as const)('%s', (_says, with_, answer) => {
    const rig = new Rig(caps(with_)).on();
    const root = rig.device(RID);
    rig.map(root, 4, DFN, MFN);
    rig.unit.translate(RID, DFN, true);
    rig.map(root, 4, DFN, MFN + 1);
    rig.unit.write32(REG.GCMD, TE + SRTP);
    expect(rig.unit.translate(RID, DFN, true)).toBe(answer);
    expect(rig.unit.cachedContexts()).toHaveLength(1);
  });
  test.each([
    ['with ESIRTPS SIRTP makes the unit forget interrupt entries', [ESIRTPS], 0x52],
    ['without it software has to', [ESRTPS], 0x51],
  ] as const)('%s', (_says, with_, vector) => {
    const rig = new Rig(caps(with_));
    rig.unit.write64(REG.IRTA, 0x90_0008, 0);
    rig.unit.write32(REG.GCMD, SIRTP);
    rig.unit.write32(REG.GCMD, IRE);
    rig.put(0x900, 0, 0x51_0001, 0, 0, 0);
    rig.unit.remapInterrupt(RID, 0xfee0_0010, 0);
    rig.put(0x900, 0, 0x52_0001, 0, 0, 0);
    rig.unit.write32(REG.GCMD, IRE + SIRTP);
    expect(rig.unit.remapInterrupt(RID, 0xfee0_0010, 0)).toMatchObject({ vector });
  });
  test.each([2, 3])(
    'a root table in mode %i, which the unit does not have: every request gives reason 0x30',
    (ttm) => {
      const rig = new Rig(caps([[3, 11, 11, 1]]));
      rig.map(rig.device(RID), 4, DFN, MFN);
      rig.unit.write64(REG.RTADDR, ...words64(rig.rootFrame, ttm * 0x400));
      rig.unit.write32(REG.GCMD, SRTP);
      rig.unit.write32(REG.GCMD, TE);
      expect(rig.unit.translate(RID, DFN, true)).toBe(-0x30);
      expect(rig.fault()).toMatchObject({ reason: 0x30, sid: RID });
    },
  );
});

describe('interrupt requests and entries (5.1.2.2, 5.1.5.1, 9.9)', () => {
  const remapping = (options = {}, irta = 8): Rig => {
    const rig = new Rig(options);
    rig.unit.write64(REG.IRTA, 0x90_0000 + irta, 0);
    rig.unit.write32(REG.GCMD, SIRTP);
    rig.unit.write32(REG.GCMD, IRE);
    return rig;
  };
  test("without SHV an I/O APIC's vector and trigger mode in the data are passed over", () => {
    const rig = remapping();
    rig.put(0x900, 4, 0x51_0011, 0x300, 0, 0);
    expect(rig.unit.remapInterrupt(RID, 0xfee0_0030, 0x8051)).toMatchObject({ vector: 0x51, level: true });
    expect(rig.unit.remapInterrupt(RID, 0xfee0_0030, 0xffff)).toMatchObject({ vector: 0x51 });
  });
  test('bits 31:16 of the data are reserved with SHV, and passed over without', () => {
    const rig = remapping();
    rig.put(0x900, 0, 0x51_0001, 0x300, 0, 0);
    expect(rig.unit.remapInterrupt(RID, 0xfee0_0018, 0x1_0000)).toBe(-0x20);
    expect(rig.unit.remapInterrupt(RID, 0xfee0_0010, 0xffff_0000)).toMatchObject({ vector: 0x51 });
  });
  test('the requester is verified before reserved bits of the entry are looked at', () => {
    const rig = remapping();
    rig.put(0x900, 0, 0x8051_0001, 0x300, 0x4_0000 + RID, 0);
    expect(rig.unit.remapInterrupt(RID, 0xfee0_0010, 0)).toBe(-0x24);
    expect(rig.unit.remapInterrupt(RID + 1, 0xfee0_0010, 0)).toBe(-0x26);
  });
  test.each([
    [0x0000_ff00, 0x51],
    [0x0000_0001, -0x24],
    [0x0000_0080, -0x24],
    [0x0001_0000, -0x24],
    [0x8000_0000, -0x24],
  ])('without x2APIC mode destination %i of an entry is answered with %i', (dst, answer) => {
    const rig = remapping();
    rig.put(0x900, 0, 0x51_0001, dst, 0, 0);
    const got = rig.unit.remapInterrupt(RID, 0xfee0_0010, 0);
    expect(typeof got === 'number' ? got : got.vector).toBe(answer);
    // In x2APIC mode all 32 bits are an id.
    const x2 = remapping({}, 0x808);
    x2.put(0x900, 0, 0x51_0001, dst, 0, 0);
    expect(x2.unit.remapInterrupt(RID, 0xfee0_0010, 0)).toMatchObject({ dest: dst });
  });
  test('the table latched by SIRTP counts, and GSTS shows CFI with IRE alone', () => {
    const rig = remapping();
    rig.put(0x900, 0, 0x51_0001, 0x300, 0, 0);
    rig.unit.write64(REG.IRTA, 0x91_0008, 0);
    expect(rig.unit.remapInterrupt(RID, 0xfee0_0010, 0)).toMatchObject({ vector: 0x51 });
    rig.unit.write32(REG.GCMD, IRE + CFI);
    expect(rig.unit.read32(REG.GSTS)).toBe(IRE + SIRTP + CFI);
  });
  test('a unit without interrupt remapping knows no invalidation of entries', () => {
    const rig = new Rig(caps([[2, 3, 3, 0]])).on().queue();
    rig.submit(4);
    expect(rig.unit.read32(REG.FSTS) & IQE).toBe(IQE);
    expect(rig.unit.read32(0xb0)).toBe(3);
  });
  test("the unit's own messages carry the upper address register", () => {
    const rig = new Rig();
    const sent: number[][] = [];
    rig.unit.onInterrupt = (_kind, ...words) => sent.push(words);
    rig.unit.write32(0x3c, 0x41);
    rig.unit.write32(0x40, 0xfee0_1000);
    rig.unit.write32(0x44, 0x100);
    rig.unit.write32(REG.FECTL, 0);
    rig.on().unit.translate(RID, DFN, true);
    expect(sent).toEqual([[0xfee0_1000, 0x41, 0x100]]);
  });
});

describe('large pages around the interrupt range (3.14)', () => {
  test.each([
    ['2 MiB', 2, 0xfee00, 0xff, 0x100],
    ['1 GiB', 3, 0xc0000, 0x3_ee80, 0x3_ef00],
    ['1 GiB, before the range', 3, 0xc0000, 0x3_ee00, 0x3_edff],
  ])(
    'of %s (level %i, frame %i): page %i is refused, page %i is translated',
    (_s, level, frame, bad, good) => {
      const rig = new Rig().on();
      rig.map(rig.device(RID), 4, 0, frame, 3, level);
      for (let i = 0; i < 2; i++) {
        expect(rig.unit.translate(RID, good, true)).toBe(frame + good);
        expect(rig.unit.translate(RID, bad, true)).toBe(-0xe);
      }
      expect(rig.unit.cachedTranslations()).toEqual([
        { did: 1, dfn: good, mfn: frame + good, frames: 1, read: true, write: true },
      ]);
    },
  );
});

describe('units of version 6 (11.4.1, 11.4.6)', () => {
  test.each([
    [0x10, MFN + 1, 0x2800_0001],
    [0x5f, MFN + 1, 0x2800_0001],
    [0x60, MFN, 0],
  ])(
    'version %i: a global invalidation by register leaves %i, and CCMD shows %i',
    (version, answer, shown) => {
      const rig = new Rig({ version }).on();
      const root = rig.device(RID);
      rig.map(root, 4, DFN, MFN);
      rig.unit.translate(RID, DFN, true);
      rig.map(root, 4, DFN, MFN + 1);
      rig.unit.write64(REG.CCMD, 1, 0xa000_0000);
      rig.unit.write64(0x508, 0, 0x9000_0000);
      expect(rig.unit.translate(RID, DFN, true)).toBe(answer);
      expect(rig.unit.read32(REG.CCMD + 4) + rig.unit.read32(REG.CCMD)).toBe(shown);
      expect(rig.unit.read32(0x50c) !== 0).toBe(version < 0x60);
      expect(rig.unit.cachedContexts()).toHaveLength(1);
    },
  );
});
