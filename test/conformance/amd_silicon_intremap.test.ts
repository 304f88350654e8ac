/**
 * Interrupts through an AMD unit, clause by clause of "AMD I/O Virtualization Technology (IOMMU) Specification" (48882).
 * Offsets and bits are stated here again, from the manual, so that a wrong constant in src shows.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { AmdIommuUnit } from '../../src/iommu/hw/amd/unit.js';
import { EventStream } from '../../src/sim/events.js';
import { Ram } from '../../src/sim/ram.js';

const DEV_TAB = 0x100;
const CMD_RING = 0x200;
const EVT_RING = 0x201;
const TABLE = 0x300;
const OTHER_TABLE = 0x310;
const RID = 0x0208;
const OTHER = 0x0310;
/** IommuEn, EventLogEn, EventIntEn, CmdBufEn. */
const ON = 0x100d;
const GA_EN = 1 << 17;
const XT_EN = 1 << 18; // word 1
const ILLEGAL_DTE = 1;
const PAGE_FAULT = 2;
const DEV_TABLE_ERROR = 3;
const PAGE_TABLE_ERROR = 4;
const PASSED = {
  vector: 0x45,
  dest: 0x12,
  logical: true,
  deliveryMode: 1,
  level: false,
  redirectionHint: true,
};
/** To logical destination 12h, lowest priority. */
const ADDR = 0xfee1_200c | 0;

let ram: Ram;
let unit: AmdIommuUnit;
let tail: number;

interface Fields {
  readonly v?: number;
  readonly tv?: number;
  readonly domid?: number;
  readonly sa?: number;
  readonly iv?: number;
  readonly len?: number;
  readonly ig?: number;
  readonly ctl?: number;
  readonly table?: number;
  /** Bits 127:96 of the upper half: INITPass 24, EIntPass 25, NMIPass 26. */
  readonly pass?: number;
  readonly reserved?: number;
}
function dte(rid: number, f: Fields = {}): void {
  const { v = 1, tv = 1, domid = 5, sa = 0, iv = 1, len = 11, ig = 0, ctl = 2, table = TABLE, pass = 0 } = f;
  const at = DEV_TAB * 4096 + rid * 32;
  const words = [
    v | (tv << 1) | (f.reserved ?? 0),
    3 << 29,
    domid,
    sa << 2,
    ((table % 0x10_0000) << 12) | (ig << 5) | (len << 1) | iv,
    (ctl << 28) | pass | Math.floor(table / 0x10_0000),
    0,
    0,
  ];
  for (const [i, w] of words.entries()) ram.write32(at + i * 4, w | 0);
}
/** A 32-bit entry: vector 23:16, destination 15:8, GuestMode 7, DM 6, RqEoi 5, IntType 4:2, SupIOPF 1, RemapEn 0. */
const irte = (index: number, word: number, table = TABLE): void =>
  ram.write32(table * 4096 + index * 4, word | 0);
function irteWide(index: number, words: readonly number[]): void {
  for (const [i, w] of words.entries()) ram.write32(TABLE * 4096 + index * 16 + i * 4, w | 0);
}
function command(w0: number, w1: number, w2 = 0, w3 = 0): void {
  for (const [i, w] of [w0, w1, w2, w3].entries()) ram.write32(CMD_RING * 4096 + tail + i * 4, w | 0);
  tail += 16;
  unit.write32(0x2008, tail);
}
const forgetDevice = (rid: number): void => command(rid, 2 << 28);
const forgetInterrupts = (rid: number): void => command(rid, 5 << 28);
const raise = (data: number, rid = RID): ReturnType<AmdIommuUnit['remapInterrupt']> =>
  unit.remapInterrupt(rid, ADDR, data);
/** The event log: code, flags, domain, device, address of each entry. */
function events(): { code: number; flags: number; domid: number; rid: number; address: number }[] {
  const all = [];
  for (let at = 0; at < unit.read32(0x2018); at += 16) {
    const w = (i: number): number => ram.read32(EVT_RING * 4096 + at + i * 4) >>> 0;
    all.push({
      code: w(1) >>> 28,
      flags: (w(1) >>> 16) & 0xfff,
      domid: w(1) & 0xffff,
      rid: w(0),
      address: w(3) * 2 ** 32 + w(2),
    });
  }
  return all;
}
const I = 0x008;
const PR = 0x010;
const RZ = 0x080;

beforeEach(() => {
  ram = new Ram(0x2000);
  unit = new AmdIommuUnit({ unit: 0, seg: 0, features: [0x29d3, 0], events: new EventStream(), ram });
  tail = 0;
  unit.write64(0x00, (DEV_TAB << 12) | 7, 0); // 1024 entries
  unit.write64(0x08, CMD_RING << 12, 8 << 24);
  unit.write64(0x10, EVT_RING << 12, 8 << 24);
  unit.write64(0x18, ON, 0);
  dte(RID);
  irte(5, 0x0041_3445);
});

describe('what the device table says of interrupts (2.2.2.1)', () => {
  test('a unit that is off passes every interrupt as it was sent', () => {
    unit.write64(0x18, 0, 0);
    expect(raise(0x145)).toEqual(PASSED);
  });
  test('with IV clear interrupts pass as they were sent, whatever the rest says', () => {
    dte(RID, { iv: 0, ctl: 0, len: 15 });
    for (const data of [0x145, 0x445, 0x545, 0x745]) expect(typeof raise(data)).toBe('object');
    expect(events()).toEqual([]);
  });
  test.each([
    [0, 'blocks them', -PAGE_FAULT],
    [1, 'passes them as they were sent', PASSED],
    [3, 'is reserved: an illegal entry', -ILLEGAL_DTE],
  ])('IntCtl %i for fixed and arbitrated interrupts %s', (ctl, _what, result) => {
    dte(RID, { ctl });
    expect(raise(0x145)).toEqual(result);
    expect(typeof raise(0x045)).toBe(typeof result);
  });
  test('IntCtl 2 sends them through the table, whose root may lie anywhere in memory', () => {
    expect(raise(5)).toMatchObject({ vector: 0x41, dest: 0x34 });
    dte(RID, { table: 0x1fff });
    irte(3, 0x0077_0105, 0x1fff);
    forgetDevice(RID);
    forgetInterrupts(RID);
    expect(raise(3)).toMatchObject({ vector: 0x77 });
  });
  test.each([
    ['INIT', 24, 0x545],
    ['ExtInt', 25, 0x745],
    ['NMI', 26, 0x445],
  ])('an %s passes only with its own bit', (_kind, bit, data) => {
    for (const other of [24, 25, 26]) {
      dte(RID, { pass: 1 << other });
      forgetDevice(RID);
      expect(raise(data)).toEqual(
        other === bit ? { ...PASSED, deliveryMode: (data >>> 8) & 7 } : -PAGE_FAULT,
      );
    }
  });
  test('an SMI passes, and a kind that is none does not', () => {
    expect(raise(0x245)).toMatchObject({ deliveryMode: 2, vector: 0x45 });
    expect(raise(0x345)).toBe(-PAGE_FAULT);
    expect(raise(0x645)).toBe(-PAGE_FAULT);
  });
  test('IntTabLen is the log of the entries: one beyond them is blocked', () => {
    for (const [len, last] of [
      [0, 0],
      [3, 7],
      [8, 255],
    ] as const) {
      dte(RID, { len });
      irte(last, 0x0042_0105);
      forgetDevice(RID);
      forgetInterrupts(RID);
      expect(raise(last)).toMatchObject({ vector: 0x42 });
      irte(last + 1, 0x0043_0105);
      expect(raise(last + 1)).toBe(-PAGE_FAULT);
    }
  });
  test('IntTabLen above 11 makes the entry illegal', () => {
    dte(RID, { len: 12 });
    expect(raise(5)).toBe(-ILLEGAL_DTE);
    expect(events()).toMatchObject([{ code: ILLEGAL_DTE, flags: I, rid: RID, address: 0xfee1_200c }]);
  });
  test('the interrupt half holds where V is clear, and where TV is', () => {
    dte(RID, { v: 0 });
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    dte(RID, { tv: 0 });
    forgetDevice(RID);
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    expect(unit.translate(RID, 5, false)).toBe(-1);
  });
  test('an entry with reserved bits, and an id beyond the table, block interrupts as illegal entries', () => {
    dte(RID, { reserved: 1 << 3 });
    expect(raise(5)).toBe(-ILLEGAL_DTE);
    expect(raise(5, 0x2000)).toBe(-ILLEGAL_DTE);
    expect(events().map((e) => [e.code, e.flags, e.rid])).toEqual([
      [ILLEGAL_DTE, I, RID],
      [ILLEGAL_DTE, I, 0x2000],
    ]);
  });
  test('a changed entry counts once INVALIDATE_DEVTAB_ENTRY has named it', () => {
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    dte(RID, { ctl: 0 });
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    forgetDevice(OTHER);
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    forgetDevice(RID);
    expect(raise(5)).toBe(-PAGE_FAULT);
  });
});

describe('entries of 32 bits (2.2.5.1)', () => {
  test('vector, destination, its mode, the type and the hint come from the entry, not from the message', () => {
    irte(6, 0x00c1_5641 | (1 << 2) | (1 << 5));
    expect(raise(6)).toEqual({
      vector: 0xc1,
      dest: 0x56,
      logical: true,
      deliveryMode: 1,
      level: false,
      redirectionHint: true,
    });
    irte(7, 0x0022_0101);
    expect(raise(7)).toMatchObject({ logical: false, deliveryMode: 0, redirectionHint: false });
  });
  test('bits 10:0 of the data are the number of the entry: nine of them, as the others tell the kind', () => {
    irte(0x1ff, 0x0050_0105);
    expect(raise(0x1ff)).toMatchObject({ vector: 0x50 });
    expect(raise(0x41ff)).toMatchObject({ vector: 0x50 });
  });
  test.each([
    ['RemapEn clear', 0x0041_3444, 0],
    ['GuestMode set', 0x0041_34c5, RZ | PR],
    ['IntType 2', 0x0041_3449, RZ | PR],
    ['IntType 4', 0x0041_3451, RZ | PR],
    ['IntType 7', 0x0041_345d, RZ | PR],
  ])('an entry with %s blocks the interrupt', (_what, word, flags) => {
    irte(5, word);
    expect(raise(5)).toBe(-PAGE_FAULT);
    expect(events()).toEqual([
      { code: PAGE_FAULT, flags: flags | I, domid: 5, rid: RID, address: 0xfee1_200c },
    ]);
  });
});

describe('entries of 128 bits, with GAEn (2.2.5.2, 3.4.4)', () => {
  const wide = (dest: number, low = 0x45): number[] => [low | (dest << 8), 0, 0xc1, dest & 0xff00_0000];
  test('the vector is in the third word, and entries are sixteen bytes apart', () => {
    unit.write64(0x18, ON | GA_EN, 0);
    irteWide(5, wide(0x34));
    irteWide(6, wide(0x56, 1));
    expect(raise(5)).toMatchObject({ vector: 0xc1, dest: 0x34, logical: true, deliveryMode: 1 });
    expect(raise(6)).toMatchObject({ dest: 0x56, logical: false, deliveryMode: 0 });
  });
  test('a destination has 32 bits with XTEn, eight without', () => {
    for (const [xt, dest] of [
      [0, 0x34],
      [XT_EN, 0x8912_5634],
    ] as const) {
      unit.write64(0x18, ON | GA_EN, xt);
      irteWide(5, wide(0x8912_5634 | 0));
      expect(raise(5)).toMatchObject({ dest });
      forgetInterrupts(RID);
    }
  });
  test('RemapEn, GuestMode and IntType mean what they mean in 32 bits', () => {
    unit.write64(0x18, ON | GA_EN, 0);
    for (const low of [0x44, 0xc5, 0x49]) {
      irteWide(5, wide(0x34, low));
      expect(raise(5)).toBe(-PAGE_FAULT);
      forgetInterrupts(RID);
    }
    expect(events().map((e) => e.flags)).toEqual([I, I | RZ | PR, I | RZ | PR]);
  });
});

describe('what is logged of a blocked interrupt (2.5.1 to 2.5.4)', () => {
  const off = (): void => irte(5, 0x0041_3444);
  test('a page fault with I set, the domain of the entry, and the address that was written', () => {
    off();
    raise(5);
    dte(OTHER, { ctl: 0, v: 0 });
    unit.remapInterrupt(OTHER, 0xfee0_0000 | 0, 0);
    expect(events()).toEqual([
      { code: PAGE_FAULT, flags: I, domid: 5, rid: RID, address: 0xfee1_200c },
      { code: PAGE_FAULT, flags: I, domid: 0, rid: OTHER, address: 0xfee0_0000 },
    ]);
    expect(unit.read32(0x2020) & 2).toBe(2);
  });
  test.each([
    ['IG of the device table entry', { ig: 1 }, 0x0041_3444],
    ['SA of the device table entry', { sa: 1 }, 0x0041_3444],
    ['SupIOPF of the entry', {}, 0x0041_3446],
  ])('%s keeps it out of the log, and the interrupt stays blocked', (_what, fields, word) => {
    dte(RID, fields);
    irte(5, word);
    expect(raise(5)).toBe(-PAGE_FAULT);
    expect(events()).toEqual([]);
  });
  test('a table beyond physical memory is a hardware error, and so is a device table there', () => {
    dte(RID, { table: 0x2000, ig: 1 });
    expect(raise(5)).toBe(-PAGE_TABLE_ERROR);
    unit.write64(0x00, (0x2000 << 12) | 7, 0);
    expect(raise(5, OTHER)).toBe(-DEV_TABLE_ERROR);
    expect(events().map((e) => [e.code, e.flags])).toEqual([
      [PAGE_TABLE_ERROR, I],
      [DEV_TABLE_ERROR, I],
    ]);
  });
});

describe('INVALIDATE_INTERRUPT_TABLE (2.4.5)', () => {
  test('until it names the device, a changed entry is used as it was', () => {
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    irte(5, 0x0099_3445);
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    forgetInterrupts(OTHER);
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    forgetInterrupts(RID);
    expect(raise(5)).toMatchObject({ vector: 0x99 });
  });
  test('an entry that was switched off still delivers until then', () => {
    raise(5);
    irte(5, 0);
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    forgetInterrupts(RID);
    expect(raise(5)).toBe(-PAGE_FAULT);
  });
  test('an entry that was off is not kept: switched on, it works at once', () => {
    irte(5, 0);
    raise(5);
    irte(5, 0x0099_3445);
    expect(raise(5)).toMatchObject({ vector: 0x99 });
  });
  test('all entries of the device go, and those of other devices with the same table stay', () => {
    dte(OTHER);
    for (let i = 0; i < 8; i++) {
      irte(i, 0x0040_0105 | (i << 16));
      raise(i);
      raise(i, OTHER);
      irte(i, 0x0080_0105 | (i << 16));
    }
    forgetInterrupts(RID);
    for (let i = 0; i < 8; i++) {
      expect(raise(i)).toMatchObject({ vector: 0x80 + i });
      expect(raise(i, OTHER)).toMatchObject({ vector: 0x40 + i });
    }
  });
  test("what one device gave up is no other one's: each goes by its own table", () => {
    dte(0, { table: OTHER_TABLE });
    for (let i = 0; i < 512; i++) {
      irte(i, 0x0040_0105);
      irte(i, 0x0099_0105, OTHER_TABLE);
    }
    const vectors = (rid: number): unknown[] => {
      const all = Array.from({ length: 512 }, (_, i) => raise(i, rid));
      return [...new Set(all.map((to) => (typeof to === 'object' ? to.vector : to)))];
    };
    expect(vectors(RID)).toEqual([0x40]);
    forgetInterrupts(RID);
    expect(vectors(0)).toEqual([0x99]);
  });
  test('a device table entry that points elsewhere keeps what was cached under the id', () => {
    raise(5);
    irte(5, 0x0066_3445, OTHER_TABLE);
    dte(RID, { table: OTHER_TABLE });
    forgetDevice(RID);
    expect(raise(5)).toMatchObject({ vector: 0x41 });
    forgetInterrupts(RID);
    expect(raise(5)).toMatchObject({ vector: 0x66 });
  });
  test.each([
    ['bit 16', 1 << 16, 0, 0, 0],
    ['bit 32', 0, 1, 0, 0],
    ['bit 59', 0, 1 << 27, 0, 0],
    ['bit 64', 0, 0, 1, 0],
    ['bit 127', 0, 0, 0, 1 << 31],
  ])('with reserved %s set it is an illegal command and stops the ring', (_bit, w0, w1, w2, w3) => {
    raise(5);
    irte(5, 0x0099_3445);
    command(RID | w0, (5 << 28) | w1, w2, w3);
    expect(events()).toMatchObject([{ code: 5, address: CMD_RING * 4096 }]);
    expect(unit.read32(0x2020) & 0x10).toBe(0);
    expect(raise(5)).toMatchObject({ vector: 0x41 });
  });
});

describe('INVALIDATE_IOMMU_ALL (2.4.8)', () => {
  test('forgets interrupt entries of every device', () => {
    raise(5);
    irte(5, 0x0099_3445);
    command(0, 8 << 28);
    expect(raise(5)).toMatchObject({ vector: 0x99 });
  });
});
