/**
 * Rings and tables of an AMD unit above 16 GiB, and rings of more than a page (48882, 2.4, 2.5). Offsets and bits are
 * stated here again, from the manual, so that a wrong constant in src shows.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { AmdIommuUnit } from '../../src/iommu/hw/amd/unit.js';
import { EventStream } from '../../src/sim/events.js';
import { Ram } from '../../src/sim/ram.js';

const HIGH = 0x50_0000;
const [DEV_TAB, CMD_RING, EVT_RING, ROOT, STORE] = [
  HIGH,
  HIGH + 0x100,
  HIGH + 0x110,
  HIGH + 0x120,
  HIGH + 0x130,
];
const END = 0x60_0000;
const RID = 0x0208;
const [CMD_HEAD, CMD_TAIL, EVT_HEAD, EVT_TAIL, STATUS] = [0x2000, 0x2008, 0x2010, 0x2018, 0x2020];
/** IommuEn, EventLogEn, EventIntEn, CmdBufEn. */
const ON = 0x100d;
const COM_WAIT_INT_EN = 0x10;

let ram: Ram;
let unit: AmdIommuUnit;
let events: EventStream;
let irqs: number;
let hw: string[];

const put = (frame: number, at: number, ...words: number[]): void =>
  words.forEach((w, i) => {
    ram.write32(frame * 4096 + at + i * 4, w | 0);
  });
const word = (frame: number, at: number): number => ram.read32(frame * 4096 + at) >>> 0;
const low = (frame: number): number => (frame % 0x10_0000) * 4096;
const high = (frame: number): number => Math.floor(frame / 0x10_0000);
const base = (offset: number, frame: number, lengthLog: number): void =>
  unit.write64(offset, low(frame), high(frame) | (lengthLog << 24));
const pte = (table: number, index: number, frame: number, next: number, perm = 3): void =>
  put(table, index * 8, low(frame) + next * 512 + 1, high(frame) + perm * 2 ** 29);
function dte(rid: number, root = ROOT, mode = 3, domid = 5): void {
  put(
    DEV_TAB + (rid >>> 7),
    (rid & 127) * 32,
    low(root) + mode * 512 + 3,
    3 * 2 ** 29 + high(root),
    domid,
    0,
  );
}
/** Puts commands at the head and rings. */
function commands(...all: readonly (readonly number[])[]): void {
  const size = unit.cmdBytes;
  let tail = unit.read32(CMD_HEAD);
  for (const words of all) {
    put(CMD_RING + Math.floor(tail / 4096), tail % 4096, ...words, ...Array(4 - words.length).fill(0));
    tail = (tail + 16) % size;
  }
  unit.write32(CMD_TAIL, tail);
}
const waitStore = (frame: number, at: number, lo: number, hi: number, i = 0): number[] => [
  (low(frame) + at + 1 + i * 2) | 0,
  0x1000_0000 | high(frame),
  lo,
  hi,
];

beforeEach(() => {
  ram = new Ram(END);
  events = new EventStream();
  irqs = 0;
  hw = [];
  unit = new AmdIommuUnit({ unit: 0, seg: 0, features: [0x29d3, 0], events, ram });
  unit.onMsi = () => {
    irqs++;
  };
  events.attach((e) => {
    if (e.kind === 'hw') hw.push([e.what, ...e.args.map((a) => a.toString(16))].join(' '));
  });
  unit.write64(0, low(DEV_TAB) + 7, high(DEV_TAB));
  base(8, CMD_RING, 9);
  base(0x10, EVT_RING, 9);
  unit.write64(0x18, ON, 0);
  dte(RID);
  pte(ROOT, 0, ROOT + 1, 2);
  pte(ROOT + 1, 0, ROOT + 2, 1);
  pte(ROOT + 2, 7, 0x45_6789, 0);
});

describe('the command ring', () => {
  test('of 512 entries has two pages; the head follows the tail over both, and wraps', () => {
    expect(unit.cmdBytes).toBe(8192);
    for (let n = 1; n <= 1100; n++) {
      commands(waitStore(STORE, 8, n, n * 3));
      expect([word(STORE, 8), word(STORE, 12)]).toEqual([n, n * 3]);
      expect(unit.read32(CMD_HEAD)).toBe((n * 16) % 8192);
    }
  });
  test('several commands at once are executed in order', () => {
    commands(
      [RID, 2 << 28],
      [0, (3 << 28) | 5, low(0x12_3456), high(0x12_3456)],
      [0, 8 << 28],
      waitStore(STORE, 0, 1, 0),
    );
    expect(hw).toEqual(['devtab_inval 208', 'pages_inval 5 123456 0', 'all_inval 0']);
    expect(word(STORE, 0)).toBe(1);
  });
  test('each command is told of with its four words', () => {
    const seen: (readonly number[])[] = [];
    events.attach((e) => {
      if (e.kind === 'descriptor') seen.push(e.words);
    });
    const words = [0x8765_4321, 0x3fed_cba9, 0xf012_3004, 0x8abc_def1];
    commands(words);
    expect(seen).toEqual([words]);
  });
  test('a wait without S stores nothing, one with I interrupts when that is enabled, once until it is cleared', () => {
    commands([low(STORE) | 0, 0x1000_0000 | high(STORE), 7, 7]);
    expect(word(STORE, 0)).toBe(0);
    commands(waitStore(STORE, 0, 1, 0, 1));
    expect([irqs, unit.read32(STATUS) & 4]).toEqual([0, 0]);
    unit.write64(0x18, ON | COM_WAIT_INT_EN, 0);
    commands(waitStore(STORE, 0, 2, 0));
    expect([irqs, unit.read32(STATUS) & 4]).toEqual([0, 0]);
    commands(waitStore(STORE, 0, 3, 0, 1));
    commands(waitStore(STORE, 0, 4, 0, 1));
    expect([irqs, unit.read32(STATUS) & 4, word(STORE, 0)]).toEqual([1, 4, 4]);
    unit.write32(STATUS, 4);
    expect(unit.read32(STATUS) & 4).toBe(0);
    commands(waitStore(STORE, 0, 5, 0, 1));
    expect(irqs).toBe(2);
  });
  test('a wait beyond memory stores nowhere; the last frame is memory', () => {
    commands(waitStore(END, 0, 1, 2), waitStore(END - 1, 0xff8, 3, 4));
    expect([word(END - 1, 0xff8), word(END - 1, 0xffc)]).toEqual([3, 4]);
    expect(unit.read32(CMD_HEAD)).toBe(32);
  });
  test('beyond memory is a hardware error, with the address of the command, and stops fetching', () => {
    base(8, END - 1, 9);
    const size = 8192;
    for (let at = 0; at < 4096; at += 16) put(END - 1, at, 0, 8 << 28, 0, 0);
    unit.write32(CMD_TAIL, size - 16);
    // The second page is beyond memory: code 6, address of its first command.
    const at = [0, 4, 8, 12].map((i) => word(EVT_RING, i));
    expect(at).toEqual([0, 0x6000_0000, 0, 6]);
    expect([unit.read32(CMD_HEAD), unit.read32(STATUS) & 0x10]).toEqual([4096, 0]);
    expect(hw.at(-1)).toBe('command_hw_error 600000000');
  });
  test.each([
    [[0, 0x9000_0000]],
    [[0, 0]],
    [[0x1_0000 | RID, 5 << 28]],
    [[RID, (5 << 28) | 1]],
    [[RID, 5 << 28, 1]],
    [[RID, 5 << 28, 0, 1]],
  ])('%j is no command: code 5 with its address', (words) => {
    commands([0, 8 << 28], words);
    expect([0, 4, 8, 12].map((i) => word(EVT_RING, i))).toEqual([
      0,
      0x5000_0000,
      low(CMD_RING) + 16,
      high(CMD_RING),
    ]);
    expect([unit.read32(CMD_HEAD), unit.read32(STATUS) & 0x10]).toEqual([16, 0]);
  });
  test.each([[[0, 0x6000_0000]], [[0, 0x7000_0000]], [[RID, 5 << 28]], [[RID, 4 << 28]]])(
    '%j is one',
    (words) => {
      commands(words);
      expect([unit.read32(CMD_HEAD), unit.read32(STATUS) & 0x10]).toEqual([16, 0x10]);
    },
  );
});

describe('invalidated pages', () => {
  test.each([
    [0x0000_1000, 0, '1 0'],
    [0x0000_1001, 0, '1 2'],
    [0x0000_2001, 0, '2 1'],
    [0x0000_5001, 0, '5 2'],
    [0x001f_f001, 0, '1ff 10'],
    [0x7fff_f001, 0, '7ffff 20'],
    [0xffff_f001, 0, 'fffff 21'],
    [0xffff_f001, 1, '1fffff 22'],
    [0xffff_f001, 0xff, 'fffffff 29'],
    [0xffff_f003, 0x7fff_ffff, null],
  ])('address %i with high half %i: page and order %s', (lo, hi, said) => {
    commands([0, (3 << 28) | 5, lo, hi]);
    const [, domid, ...rest] = hw[0]!.split(' ');
    expect(domid).toBe('5');
    const [dfn, order] = rest.map((x) => Number.parseInt(x, 16));
    if (said === null) expect(order).toBeGreaterThan(40);
    else expect(`${dfn!.toString(16)} ${order}`).toBe(said);
  });
});

describe('the event log', () => {
  const fault = (dfn = 0x1_2345_6789): number => unit.translate(RID, dfn, true);
  test('of 512 entries has two pages; it is full when one more would meet the head', () => {
    for (let n = 0; n < 511; n++) expect(fault()).toBe(-1);
    expect([unit.read32(EVT_TAIL), unit.read32(STATUS) & 9]).toEqual([8176, 8]);
    // RW, and PR clear; the address above 4 GiB.
    const at = [0, 4, 8, 12].map((i) => word(EVT_RING + 1, 4064 + i));
    expect(at).toEqual([RID, 0x2020_0005, 0x5678_9000, 0x1234]);
    fault();
    expect([unit.read32(EVT_TAIL), unit.read32(STATUS) & 9]).toEqual([8176, 1]);
    // A head that moved on makes room once the log runs again, and the tail wraps.
    unit.write32(EVT_HEAD, 32);
    unit.write32(STATUS, 1);
    unit.write64(0x18, ON & ~4, 0);
    unit.write64(0x18, ON, 0);
    fault();
    expect([unit.read32(EVT_TAIL), unit.read32(STATUS) & 9]).toEqual([0, 8]);
    fault();
    expect(unit.read32(EVT_TAIL)).toBe(16);
  });
  test('interrupts once until software has cleared the bit, and not while it may not', () => {
    fault();
    fault();
    expect([irqs, unit.read32(STATUS) & 2]).toEqual([1, 2]);
    unit.write32(STATUS, 2);
    fault();
    expect(irqs).toBe(2);
    unit.write32(STATUS, 2);
    unit.write64(0x18, ON & ~8, 0);
    fault();
    expect([irqs, unit.read32(STATUS) & 2]).toEqual([2, 0]);
  });
  test('beyond memory loses its entries, and nothing else happens', () => {
    base(0x10, END, 9);
    expect(fault()).toBe(-1);
    expect(unit.read32(EVT_TAIL)).toBe(16);
  });
});

describe('tables', () => {
  test('are walked above 16 GiB, from the cache and past it', () => {
    for (const again of [0, 1, 2]) expect([again, unit.translate(RID, 7, true)]).toEqual([again, 0x45_6789]);
    expect(unit.probe(RID, 7, false)).toBe(0x45_6789);
    expect(unit.cachedTranslations()).toEqual([
      { domid: 5, dfn: 7, mfn: 0x45_6789, read: true, write: true },
    ]);
    expect(unit.cachedDevices()).toMatchObject([{ rid: RID, domid: 5, root: ROOT }]);
  });
  test.each([1, 2, 3, 4, 5, 6])('of %i levels: each index in its place, and no address beyond', (mode) => {
    const own = new AmdIommuUnit({ unit: 0, seg: 0, features: [0x29d3 | 0x800, 0], events, ram });
    own.write64(0, low(DEV_TAB) + 7, high(DEV_TAB));
    own.write64(0x18, 1, 0);
    const indices = [0x1a3, 0x0b7, 0x1ff, 0x055, 0x100, 0x003].slice(0, mode);
    let dfn = 0;
    for (const [i, index] of indices.entries()) dfn += index * 512 ** i;
    const tables = indices.map((_, i) => HIGH + 0x200 + i);
    for (let level = mode; level > 1; level--)
      pte(tables[level - 1]!, indices[level - 1]!, tables[level - 2]!, level - 1);
    pte(tables[0]!, indices[0]!, 0x7_89ab_cdef, 0);
    dte(0x300, tables[mode - 1]!, mode, 9);
    expect(own.translate(0x300, dfn, true)).toBe(0x7_89ab_cdef);
    expect(own.translate(0x300, dfn + 1, true)).toBe(-1);
    expect(own.translate(0x300, 512 ** mode, true)).toBe(-1);
    expect(own.translate(0x300, 512 ** mode + dfn, true)).toBe(-1);
  });
  test('an entry that is read again is what it is then, of whatever kind it was', () => {
    const ask = (): number[] => {
      commands([RID, 2 << 28]);
      return [unit.translate(RID, 7, true), unit.translate(RID, 8, true)];
    };
    const at = (RID & 127) * 32;
    const kinds: [number[], number[]][] = [
      [
        [0, 0, 0, 0],
        [7, 8],
      ],
      [
        [1, 0, 0, 0],
        [-1, -1],
      ],
      [
        [3, 3 * 2 ** 29, 5, 0],
        [7, 8],
      ],
      [
        [low(ROOT) + 3 * 512 + 3, 3 * 2 ** 29 + high(ROOT), 5, 0],
        [0x45_6789, -1],
      ],
      [
        [low(ROOT) + 7 * 512 + 3, 3 * 2 ** 29 + high(ROOT), 5, 0],
        [-1, -1],
      ],
    ];
    for (const [, first] of kinds.entries())
      for (const second of kinds) {
        put(DEV_TAB + (RID >>> 7), at, ...first[0]);
        expect(ask()).toEqual(first[1]);
        put(DEV_TAB + (RID >>> 7), at, ...second[0]);
        expect(ask()).toEqual(second[1]);
      }
  });
  test('an id at the end of the device table is served, the next is illegal', () => {
    dte(0x3ff);
    expect(unit.translate(0x3ff, 7, true)).toBe(0x45_6789);
    put(DEV_TAB + 8, 0, 1, 0, 0, 0);
    expect(unit.translate(0x400, 7, true)).toBe(-1);
    expect(word(EVT_RING, 4) >>> 28).toBe(1);
  });
  test('at the end of memory are read, beyond it are a hardware error', () => {
    pte(ROOT + 1, 0, END - 1, 1);
    pte(END - 1, 7, 0x1234, 0);
    expect(unit.translate(RID, 7, true)).toBe(0x1234);
    pte(ROOT + 1, 1, END, 1);
    expect(unit.translate(RID, 512, true)).toBe(-1);
    expect(word(EVT_RING, 4) >>> 28).toBe(4);
    unit.write64(0, low(END) + 7, high(END));
    commands([RID, 2 << 28]);
    expect(unit.translate(RID, 7, true)).toBe(-1);
    expect(word(EVT_RING, 20) >>> 28).toBe(3);
  });
});

describe('registers (3.4)', () => {
  test('status bits are cleared by ones, those of running rings are not; other bits stay', () => {
    unit.regs[(0x200 + 0x20) >>> 2] = 0x7f;
    unit.write32(STATUS, 0x01);
    expect(unit.read32(STATUS)).toBe(0x7e);
    unit.write32(STATUS, 0x7f);
    expect(unit.read32(STATUS)).toBe(0x18);
  });
  test('the rest of the region reads as zero and keeps nothing', () => {
    for (const offset of [0x200, 0x1ffc, 0x2100, 0x3ffc]) {
      unit.write32(offset, 0x1234);
      unit.write64(offset & ~7, 0x1234, 0x5678);
      unit.write8(offset, 1);
      expect(unit.read32(offset)).toBe(0);
    }
    unit.write32(0x1fc, 0x5678);
    unit.write32(0x20fc, 0x9abc);
    expect([unit.read32(0x1fc), unit.read32(0x20fc)]).toEqual([0x5678, 0x9abc]);
    expect(unit.read32(STATUS)).toBe(0x18);
  });
  test('bytes are written in their place; pointers keep bits 18:4; writes are told of with their size', () => {
    const seen: string[] = [];
    events.attach((e) => {
      if (e.kind === 'reg')
        seen.push(`${e.size} ${e.offset.toString(16)} ${e.lo.toString(16)} ${e.hi.toString(16)}`);
    });
    unit.write32(0x28, 0x1122_3344);
    unit.write8(0x2a, 0xaa);
    expect(unit.read32(0x28)).toBe(0x11aa_3344);
    unit.write32(EVT_HEAD, 0xffff_ffff);
    expect(unit.read32(EVT_HEAD)).toBe(0x7_fff0);
    unit.write64(0x30, 1, 2);
    expect([unit.read32(0x30), unit.read32(0x34)]).toEqual([0x29d3, 0]);
    expect(seen).toEqual(['4 28 11223344 0', '1 2a aa 0', '4 2010 ffffffff 0', '8 30 1 2']);
  });
  test('a ring runs from when its bit rises to when it falls', () => {
    const running = (): number => unit.read32(STATUS) & 0x18;
    unit.write64(0x18, ON & ~0x1000, 0);
    expect(running()).toBe(8);
    unit.write64(0x18, ON & ~4, 0);
    expect(running()).toBe(0x10);
    unit.write64(0x18, 0, 0);
    expect([running(), unit.translate(RID, 9, true)]).toEqual([0, 9]);
  });
});
