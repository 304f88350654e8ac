/** VT-d 7.2, 7.3: fault records, overflow, fault events; chapter 5: interrupt requests. */
import { describe, expect, test } from 'vitest';
import { CFI, caps, IRE, REG, Rig, SIRTP } from '../support/vtd_rig.js';

const RID = 0x0308;
const PFO = 1;
const PPF = 2;
const fsts = (rig: Rig): number => rig.unit.read32(REG.FSTS);

describe('fault recording (7.2.1, 11.4.7)', () => {
  test('a record holds page, requester, reason and direction', () => {
    const rig = new Rig().on();
    rig.device(RID);
    rig.unit.translate(RID, 2 ** 36 - 3, true);
    expect([0, 4, 8, 12].map((o) => rig.unit.read32(0x400 + o))).toEqual([
      0xffff_d000,
      0xffff,
      RID,
      0x8000_0005,
    ]);
    expect(fsts(rig)).toBe(PPF);
  });
  test('T is set for a read', () => {
    const rig = new Rig().on();
    rig.device(RID);
    rig.unit.translate(RID, 1, false);
    expect(rig.unit.read32(0x40c)).toBe(0xc000_0006);
  });
  test('writing 1 to F clears it, and PPF with the last one', () => {
    const rig = new Rig().on();
    rig.unit.translate(RID, 1, false);
    rig.unit.write32(0x40c, 0x4000_0001);
    expect(fsts(rig)).toBe(PPF);
    rig.clearFault();
    expect(rig.unit.read32(0x40c)).toBe(0x4000_0001);
    expect(fsts(rig)).toBe(0);
  });
  test('a fault with all records pending sets PFO and is lost; nothing is recorded until PFO is cleared', () => {
    const rig = new Rig().on();
    rig.unit.translate(RID, 1, false);
    rig.unit.translate(RID, 2, false);
    expect(fsts(rig)).toBe(PPF | PFO);
    rig.clearFault();
    rig.unit.translate(RID, 3, false);
    expect(rig.fault()).toBeUndefined();
    expect(fsts(rig)).toBe(PFO);
    rig.unit.write32(REG.FSTS, PFO);
    rig.unit.translate(RID, 4, false);
    expect(rig.fault()?.frame).toBe(4);
  });
  test('several records are used in turn, and FRI names the first pending one', () => {
    const rig = new Rig(caps([[1, 15, 8, 2]])).on();
    for (let dfn = 1; dfn <= 3; dfn++) rig.unit.translate(RID, dfn, false);
    expect([0, 1, 2].map((n) => rig.fault(n)?.frame)).toEqual([1, 2, 3]);
    expect(fsts(rig)).toBe(PPF);
    rig.clearFault(0);
    rig.clearFault(1);
    rig.clearFault(2);
    rig.unit.translate(RID, 4, false);
    expect(rig.fault(0)?.frame).toBe(4);
    rig.unit.translate(RID, 5, false);
    rig.clearFault(0);
    rig.clearFault(1);
    rig.unit.translate(RID, 6, false);
    expect(rig.fault(2)?.frame).toBe(6);
    expect(fsts(rig)).toBe(PPF | (2 << 8));
  });
  test('switching off translation and interrupt remapping starts the records over', () => {
    const rig = new Rig(caps([[1, 15, 8, 2]])).on();
    rig.unit.translate(RID, 1, false);
    rig.clearFault(0);
    rig.unit.write32(REG.GCMD, 0);
    rig.unit.write32(REG.GCMD, 0x8000_0000);
    rig.unit.translate(RID, 2, false);
    expect(rig.fault(0)?.frame).toBe(2);
  });
  test('a unit that collapses faults drops further ones of a requester without overflow', () => {
    const rig = new Rig({ collapseFaults: true }).on();
    rig.unit.translate(RID, 1, false);
    rig.unit.translate(RID, 2, false);
    expect(fsts(rig)).toBe(PPF);
    rig.unit.translate(RID + 1, 2, false);
    expect(fsts(rig)).toBe(PPF | PFO);
  });

  // 7.2.3: which reasons FPD hides.
  const hidden: readonly (readonly [string, number, boolean, (rig: Rig) => void])[] = [
    ['an absent root entry', 1, false, (rig) => rig.put(rig.rootFrame, 12, 0)],
    ['an absent context entry', 2, true, (rig) => rig.rawContext(RID, 2, 0, 0, 0)],
    ['an invalid context entry', 3, true, (rig) => rig.context(RID, { fpd: 1, aw: 7 })],
    ['a root entry with reserved bits', 10, false, (rig) => rig.put(rig.rootFrame, 14, 1)],
    ['a context entry with reserved bits', 11, true, (rig) => rig.rawContext(RID, 0x13, 0, 2, 0)],
    ['an absent page', 6, true, (rig) => rig.context(RID, { fpd: 1, root: 0x300 })],
    ['a first table beyond memory', 3, true, (rig) => rig.context(RID, { fpd: 1, root: 0x700_0000 })],
  ];
  test.each(hidden)('with FPD %s (reason %i) stays unrecorded: %s', (_says, reason, quiet, given) => {
    const rig = new Rig().on();
    rig.context(RID, { fpd: 1 });
    given(rig);
    expect(rig.unit.translate(RID, 1, false)).toBe(-reason);
    expect(rig.fault() === undefined).toBe(quiet);
  });
  test('FPD hides faults of a cached context too', () => {
    const rig = new Rig().on();
    const root = rig.frame();
    rig.context(RID, { fpd: 1, root });
    rig.map(root, 4, 1, 1);
    rig.unit.translate(RID, 1, false);
    expect(rig.unit.translate(RID, 2, false)).toBe(-6);
    expect(rig.fault()).toBeUndefined();
  });
});

describe('fault events (7.3, 11.4.7)', () => {
  const armed = (): Rig => {
    const rig = new Rig().on();
    rig.unit.write32(REG.FEADDR, 0xfee0_100c);
    rig.unit.write32(REG.FEDATA, 0x4130);
    rig.unit.write32(REG.FECTL, 0);
    return rig;
  };
  test('the first fault sends the message that software programmed', () => {
    const rig = armed();
    rig.unit.translate(RID, 1, false);
    expect(rig.interrupts).toEqual(['fault fee0100c 4130']);
    expect(rig.unit.read32(REG.FECTL)).toBe(0);
  });
  test('no further message is sent while a status bit is set', () => {
    const rig = armed();
    rig.unit.translate(RID, 1, false);
    rig.unit.translate(RID, 2, false);
    expect(rig.interrupts).toHaveLength(1);
    rig.clearFault();
    rig.unit.write32(REG.FSTS, PFO);
    rig.unit.translate(RID, 3, false);
    expect(rig.interrupts).toHaveLength(2);
  });
  test('a masked event is pending, and goes out when the mask is cleared', () => {
    const rig = armed();
    rig.unit.write32(REG.FECTL, 0x8000_0000);
    rig.unit.translate(RID, 1, false);
    expect(rig.interrupts).toEqual([]);
    expect(rig.unit.read32(REG.FECTL)).toBe(0xc000_0000);
    rig.unit.write32(REG.FECTL, 0);
    expect(rig.interrupts).toHaveLength(1);
    expect(rig.unit.read32(REG.FECTL)).toBe(0);
  });
  test('a pending event whose faults were cleared is not sent', () => {
    const rig = armed();
    rig.unit.write32(REG.FECTL, 0x8000_0000);
    rig.unit.translate(RID, 1, false);
    rig.clearFault();
    expect(rig.unit.read32(REG.FECTL)).toBe(0x8000_0000);
    rig.unit.write32(REG.FECTL, 0);
    expect(rig.interrupts).toEqual([]);
  });
});

describe('interrupt remapping (5.1, 9.9)', () => {
  const TABLE = 0x900;
  /** Remappable format: handle in address bits 19:5 and 2, format bit 4. */
  const address = (index: number, shv = false): number =>
    (0xfee0_0010 | ((index & 0x7fff) << 5) | ((index & 0x8000) >>> 13) | (shv ? 8 : 0)) >>> 0;
  const entry = (rig: Rig, index: number, ...words: number[]): void =>
    rig.put(TABLE + Math.floor(index / 256), (index % 256) * 4, ...words);
  /** 512 entries, xAPIC destinations. */
  const remapping = (options = {}, irta = 8): Rig => {
    const rig = new Rig(options);
    rig.unit.write64(REG.IRTA, TABLE * 4096 + irta, 0);
    rig.unit.write32(REG.GCMD, SIRTP);
    rig.unit.write32(REG.GCMD, IRE);
    return rig;
  };
  /** Vector 0x51, lowest priority, logical, to APIC id 3; any source. */
  const ENTRY = [0x0051_0025, 0x0300, 0, 0];

  test('without it messages mean what they say', () => {
    expect(new Rig().unit.remapInterrupt(RID, 0xfee0_500c, 0xc130)).toEqual({
      vector: 0x30,
      dest: 5,
      logical: true,
      deliveryMode: 1,
      level: true,
      redirectionHint: true,
    });
  });
  test('a present entry decides vector, destination and mode', () => {
    const rig = remapping();
    entry(rig, 300, ...ENTRY);
    expect(rig.unit.remapInterrupt(RID, address(300), 0)).toEqual({
      vector: 0x51,
      dest: 3,
      logical: true,
      deliveryMode: 1,
      level: false,
      redirectionHint: false,
    });
  });
  // Bits 2, 3, 4 and 7:5 of the entry (9.10).
  test.each([
    ['DM', 0x04, { logical: true }],
    ['RH', 0x08, { redirectionHint: true }],
    ['TM', 0x10, { level: true }],
    ['DLM 1', 0x20, { deliveryMode: 1 }],
    ['DLM 2', 0x40, { deliveryMode: 2 }],
    ['DLM 4', 0x80, { deliveryMode: 4 }],
  ])('%s means what it says, and nothing else', (_field, bit, means) => {
    const rig = remapping();
    entry(rig, 1, 0x0051_0001, 0x0300, 0, 0);
    entry(rig, 2, 0x0051_0001 | bit, 0x0300, 0, 0);
    const plain = { vector: 0x51, dest: 3, logical: false, deliveryMode: 0, level: false };
    expect(rig.unit.remapInterrupt(RID, address(1), 0)).toEqual({ ...plain, redirectionHint: false });
    expect(rig.unit.remapInterrupt(RID, address(2), 0)).toEqual({
      ...plain,
      redirectionHint: false,
      ...means,
    });
  });
  test('in x2APIC mode the destination has 32 bits', () => {
    const rig = remapping({}, 0x808);
    entry(rig, 1, ENTRY[0]!, 0x0001_0300, 0, 0);
    expect(rig.unit.remapInterrupt(RID, address(1), 0)).toMatchObject({ dest: 0x0001_0300 });
  });
  test('a unit without x2APIC mode does not keep EIME', () => {
    const rig = remapping(caps([[2, 4, 4, 0]]), 0x808);
    expect(rig.unit.read32(REG.IRTA)).toBe(TABLE * 4096 + 8);
    entry(rig, 1, ENTRY[0]!, 0x0001_0300, 0, 0);
    expect(rig.unit.remapInterrupt(RID, address(1), 0)).toBe(-0x24);
  });
  test('with SHV the subhandle is added to the handle', () => {
    const rig = remapping();
    entry(rig, 7, ...ENTRY);
    expect(rig.unit.remapInterrupt(RID, address(4, true), 3)).toMatchObject({ vector: 0x51 });
  });

  const refused: readonly (readonly [string, number, number, number, (rig: Rig) => void])[] = [
    ['bits 31:16 of the data with SHV', 0x20, address(1, true), 0x1_0000, (rig) => entry(rig, 1, ...ENTRY)],
    ['an index beyond the table', 0x21, address(512), 0, () => {}],
    ['an absent entry', 0x22, address(1), 0, (rig) => entry(rig, 1, 0x50_0000)],
    [
      'bits 15:12 of an entry (posting is not supported)',
      0x24,
      address(1),
      0,
      (rig) => entry(rig, 1, 0x8001),
    ],
    ['bits 31:24 of an entry', 0x24, address(1), 0, (rig) => entry(rig, 1, 0x0100_0001)],
    ['bits 127:84 of an entry', 0x24, address(1), 0, (rig) => entry(rig, 1, 1, 0, 0x0010_0000)],
    ['the reserved validation type', 0x24, address(1), 0, (rig) => entry(rig, 1, 1, 0, 0xc_0000)],
    ['the compatibility format', 0x25, 0xfee0_1000, 0x41, () => {}],
    ['another requester than the one named', 0x26, address(1), 0, (rig) => entry(rig, 1, 1, 0, 0x4_0309)],
    ['a bus outside the range named', 0x26, address(1), 0, (rig) => entry(rig, 1, 1, 0, 0x8_0405)],
  ];
  const titled = refused.map(
    ([says, reason, ...rest]) => [says, reason.toString(16), reason, ...rest] as const,
  );
  test.each(titled)('%s is refused with reason %sh', (_says, _hex, reason, addr, data, given) => {
    const rig = remapping();
    given(rig);
    expect(rig.unit.remapInterrupt(RID, addr, data)).toBe(-reason);
    expect(rig.fault()).toMatchObject({ reason, sid: RID });
  });
  test('a table beyond physical memory is refused with reason 0x23', () => {
    const rig = new Rig();
    rig.unit.write64(REG.IRTA, 8, 0x70);
    rig.unit.write32(REG.GCMD, SIRTP);
    rig.unit.write32(REG.GCMD, IRE);
    expect(rig.unit.remapInterrupt(RID, address(1), 0)).toBe(-0x23);
  });
  test('the record names the interrupt index', () => {
    const rig = remapping();
    rig.unit.remapInterrupt(RID, address(0x8123), 0);
    expect(rig.unit.read32(0x404)).toBe(0x8123_0000);
    expect(rig.unit.read32(0x40c)).toBe(0x8000_0021);
  });
  test('FPD of the entry keeps its faults out of the records', () => {
    const rig = remapping();
    entry(rig, 1, 2);
    expect(rig.unit.remapInterrupt(RID, address(1), 0)).toBe(-0x22);
    expect(rig.fault()).toBeUndefined();
  });
  test.each([
    [0, 0x308, true],
    [0, 0x30c, false],
    [1, 0x30c, true],
    [1, 0x30e, false],
    [2, 0x30e, true],
    [2, 0x30f, false],
    [3, 0x30f, true],
    [3, 0x310, false],
  ])('with qualifier %i an entry for 03:01.0 accepts %i: %s', (sq, rid, accepted) => {
    const rig = remapping();
    entry(rig, 1, ENTRY[0]!, 0, (1 << 18) | (sq << 16) | RID, 0);
    expect(typeof rig.unit.remapInterrupt(rid, address(1), 0) === 'object').toBe(accepted);
  });
  test('with CFI the compatibility format passes, but never in x2APIC mode', () => {
    for (const [irta, passes] of [
      [8, true],
      [0x808, false],
    ] as const) {
      const rig = remapping({}, irta);
      rig.unit.write32(REG.GCMD, (IRE | CFI) >>> 0);
      expect(typeof rig.unit.remapInterrupt(RID, 0xfee0_1000, 0x41) === 'object').toBe(passes);
    }
  });
  test('an entry is cached until it is invalidated, by index or globally', () => {
    for (const words of [
      [4 | 0x10, 7],
      [4 | 0x10 | (3 << 27), 4],
      [4, 0],
    ]) {
      const rig = remapping();
      rig.queue();
      entry(rig, 7, ...ENTRY);
      rig.unit.remapInterrupt(RID, address(7), 0);
      entry(rig, 7, 0x0052_0001);
      rig.submit(4 | 0x10, 8);
      expect(rig.unit.remapInterrupt(RID, address(7), 0)).toMatchObject({ vector: 0x51 });
      rig.submit(...words);
      expect(rig.unit.remapInterrupt(RID, address(7), 0)).toMatchObject({ vector: 0x52 });
    }
  });
  test('an absent entry is not cached', () => {
    const rig = remapping();
    expect(rig.unit.remapInterrupt(RID, address(7), 0)).toBe(-0x22);
    entry(rig, 7, ...ENTRY);
    expect(rig.unit.remapInterrupt(RID, address(7), 0)).toMatchObject({ vector: 0x51 });
  });
  test('a unit without interrupt remapping cannot switch it on', () => {
    const rig = remapping(caps([[2, 3, 3, 0]]));
    expect(rig.unit.read32(REG.GSTS)).toBe(0);
  });
});
