import { beforeEach, describe, expect, test } from 'vitest';
import { AmdIommuUnit } from '../../src/iommu/hw/amd/unit.js';
import { EventStream } from '../../src/sim/events.js';
import { Ram } from '../../src/sim/ram.js';

// Registers and layouts are written down again here, from the manual, so that a wrong constant is caught.
const DEV_TAB_BASE = 0x00;
const CMD_BASE = 0x08;
const EVT_BASE = 0x10;
const CONTROL = 0x18;
const EXCL_BASE = 0x20;
const EXCL_LIMIT = 0x28;
const CMD_TAIL = 0x2008;
const CMD_HEAD = 0x2000;
const EVT_HEAD = 0x2010;
const EVT_TAIL = 0x2018;
const STATUS = 0x2020;
const ON = 0x1 | 0x4 | 0x8 | 0x1000; // IommuEn, EventLogEn, EventIntEn, CmdBufEn

const DEV_TAB = 0x100;
const CMD_RING = 0x200;
const EVT_RING = 0x201;
const ROOT = 0x300;
const RID = 0x0208;
const OTHER = 0x0310;

let ram: Ram;
let unit: AmdIommuUnit;
let irqs: number;
let cmdTail: number;

const write64 = (addr: number, lo: number, hi: number): void => {
  ram.write32(addr, lo | 0);
  ram.write32(addr + 4, hi | 0);
};
/** A page-table entry: frame, next level, permissions (1 read, 2 write). */
const pte = (table: number, index: number, frame: number, next: number, perm = 3): void =>
  write64(
    table * 4096 + index * 8,
    (frame % 0x100000) * 4096 + next * 512 + 1,
    Math.floor(frame / 0x100000) + perm * 2 ** 29,
  );
interface Dte {
  readonly v?: number;
  readonly tv?: number;
  readonly mode?: number;
  readonly root?: number;
  readonly perm?: number;
  readonly domid?: number;
  /** Bits of the fourth word: SE 2, SA 4, EX 0x80. */
  readonly word3?: number;
}
const dte = (rid: number, d: Dte = {}): void => {
  const at = DEV_TAB * 4096 + rid * 32;
  const { v = 1, tv = 1, mode = 3, root = ROOT, perm = 3, domid = 5 } = d;
  write64(
    at,
    (root % 0x10_0000) * 4096 + mode * 512 + tv * 2 + v,
    perm * 2 ** 29 + Math.floor(root / 0x10_0000),
  );
  write64(at + 8, domid, d.word3 ?? 0);
};
const command = (w0: number, w1: number, w2 = 0, w3 = 0): void => {
  const at = CMD_RING * 4096 + cmdTail;
  write64(at, w0, w1);
  write64(at + 8, w2, w3);
  cmdTail = (cmdTail + 16) % 4096;
  unit.write32(CMD_TAIL, cmdTail);
};
const invalidateDte = (rid: number): void => command(rid, 0x2000_0000);
const invalidateAllPages = (domid: number): void => command(0, 0x3000_0000 | domid, 0xffff_f003, 0x7fff_ffff);
const invalidatePage = (domid: number, dfn: number): void => command(0, 0x3000_0000 | domid, dfn * 4096);
/** Entries of the event log from head to tail, as four words each. */
const events = (): number[][] => {
  const found: number[][] = [];
  for (let at = unit.read32(EVT_HEAD); at !== unit.read32(EVT_TAIL); at = (at + 16) % 4096)
    found.push([0, 4, 8, 12].map((i) => ram.read32(EVT_RING * 4096 + at + i) >>> 0));
  return found;
};
/** Code, flags, device, domain and page of the events. */
const faults = (): string[] =>
  events().map(([a, b, lo, hi]) => {
    const page = hi! * 0x100000 + (lo! >>> 12);
    return `${b! >>> 28} ${((b! >>> 16) & 0xfff).toString(16)} ${a!.toString(16)} d${b! & 0xffff} ${page.toString(16)}`;
  });

beforeEach(() => {
  ram = new Ram(0x10_0000);
  irqs = 0;
  cmdTail = 0;
  unit = new AmdIommuUnit({ unit: 0, seg: 0, features: [0x29d3, 0], events: new EventStream(), ram });
  unit.onMsi = () => {
    irqs++;
  };
  unit.write32(DEV_TAB_BASE, DEV_TAB * 4096 + 7); // 8 pages: 1024 ids
  unit.write32(CMD_BASE, CMD_RING * 4096);
  unit.write32(CMD_BASE + 4, 8 << 24);
  unit.write32(EVT_BASE, EVT_RING * 4096);
  unit.write32(EVT_BASE + 4, 8 << 24);
  unit.write64(CONTROL, ON, 0);
  dte(RID);
  pte(ROOT, 0, 0x301, 2);
  pte(0x301, 0, 0x302, 1);
  pte(0x302, 7, 0x1234, 0);
});

describe('translation', () => {
  test('a mapped page is reached, and a disabled unit changes nothing', () => {
    expect(unit.translate(RID, 7, true)).toBe(0x1234);
    unit.write64(CONTROL, 0, 0);
    expect(unit.translate(RID, 7, true)).toBe(7);
  });

  test('V=0 lets DMA pass untranslated; V=1 with TV=0 aborts it and reports no domain', () => {
    dte(OTHER, { v: 0, tv: 0 });
    expect(unit.translate(OTHER, 0x77, true)).toBe(0x77);
    dte(0x0311, { tv: 0, domid: 9 });
    expect(unit.translate(0x0311, 0x77, true)).toBe(-1);
    expect(faults()).toEqual(['2 20 311 d0 77']);
  });

  test.each([1, 2, 3, 4, 5, 6])('a table of %i levels is walked to the last page it can name', (levels) => {
    // Addresses have 64 bits, so a table of six levels is not used to its end.
    const last = Math.min(512 ** levels, 2 ** 52) - 1;
    let table = 0x400;
    dte(OTHER, { mode: levels, root: table });
    for (let level = levels; level > 1; level--) {
      pte(table, level === 6 ? 127 : 511, table + 1, level - 1);
      table += 1;
    }
    pte(table, 511, 0xabc, 0);
    expect(unit.translate(OTHER, last, false)).toBe(0xabc);
    expect(unit.translate(OTHER, last, false)).toBe(0xabc);
    if (levels < 6) expect(unit.translate(OTHER, last + 1, false)).toBe(-1);
  });

  test.each([0, 1, 2])('a unit walks four levels and as many more as HATS says: %i', (hats) => {
    const features = (0x29d3 & ~0xc00) | (hats << 10);
    unit = new AmdIommuUnit({ unit: 0, seg: 0, features: [features, 0], events: new EventStream(), ram });
    unit.write32(DEV_TAB_BASE, DEV_TAB * 4096 + 7);
    unit.write64(CONTROL, 1, 0);
    for (let level = 6; level > 1; level--) pte(0x400 + level, 0, 0x400 + level - 1, level - 1);
    pte(0x401, 3, 0xabc, 0);
    const reached = [4, 5, 6].map((mode) => {
      const rid = 0x0300 + mode;
      dte(rid, { mode, root: 0x400 + mode });
      return unit.translate(rid, 3, false);
    });
    expect(reached).toEqual([0xabc, hats > 0 ? 0xabc : -1, hats > 1 ? 0xabc : -1]);
  });

  test('pages whose numbers differ above 32 bits alone are kept apart', () => {
    dte(OTHER, { mode: 4, root: 0x400 });
    // 2^32 and 2^33 pages are 32 and 64 entries of the root; frames above 16 TiB have a higher half of their own.
    const tables = [0, 32, 64].map((index, i) => {
      pte(0x400, index, 0x410 + i, 3);
      pte(0x410 + i, 0, 0x420 + i, 2);
      pte(0x420 + i, 0, 0x430 + i, 1);
      return 0x430 + i;
    });
    const asked = tables.flatMap((table, i) =>
      Array.from({ length: 40 }, (_, n) => {
        pte(table, n, 0x1000 * (i + 1) + n, 0);
        return { dfn: i * 2 ** 32 + n, mfn: 0x1000 * (i + 1) + n };
      }),
    );
    for (const order of [asked, [...asked].reverse(), asked])
      for (const { dfn, mfn } of order) expect(unit.translate(OTHER, dfn, true)).toBe(mfn);
  });

  test('a page at level 2 or 3 covers 2 MiB or 1 GiB', () => {
    pte(0x301, 1, 0x4200, 0);
    pte(ROOT, 1, 0x80000, 0);
    expect(unit.translate(RID, 512 + 5, true)).toBe(0x4205);
    expect(unit.translate(RID, 2 ** 18 + 777, true)).toBe(0x80000 + 777);
  });

  test('next level 7 takes the size from the lowest zero bit of the address', () => {
    pte(0x301, 2, 0x8000 + 0b0111, 7); // 16 pages at 0x8000
    expect(unit.translate(RID, 1024 + 9, true)).toBe(0x8000 + 9);
    expect(unit.translate(RID, 1024 + 17, true)).toBe(0x8000 + 1);
  });

  test('a table may be skipped where the address has zeros', () => {
    pte(ROOT, 2, 0x302, 1);
    expect(unit.translate(RID, 2 * 2 ** 18 + 7, true)).toBe(0x1234);
    expect(unit.translate(RID, 2 * 2 ** 18 + 512 + 7, true)).toBe(-1);
  });

  test('write permission is what every level and the device table entry allow', () => {
    for (const weak of ['root', 'middle', 'leaf', 'dte'] as const) {
      const rid = 0x0300 + ['root', 'middle', 'leaf', 'dte'].indexOf(weak);
      const base = 0x500 + rid;
      dte(rid, { root: base, perm: weak === 'dte' ? 1 : 3, domid: rid });
      pte(base, 0, base + 0x1000, 2, weak === 'root' ? 1 : 3);
      pte(base + 0x1000, 0, base + 0x2000, 1, weak === 'middle' ? 1 : 3);
      pte(base + 0x2000, 0, 0x999, 0, weak === 'leaf' ? 1 : 3);
      expect([unit.translate(rid, 0, true), unit.translate(rid, 0, false)]).toEqual([-1, 0x999]);
      expect([unit.translate(rid, 0, true), unit.translate(rid, 0, false)]).toEqual([-1, 0x999]);
    }
    expect(faults()[0]).toBe('2 70 300 d768 0'); // PE RW PR
  });

  test('mode 0 asks for permission only', () => {
    dte(OTHER, { mode: 0, perm: 1 });
    expect(unit.translate(OTHER, 0x4242, false)).toBe(0x4242);
    expect(unit.translate(OTHER, 0x4242, true)).toBe(-1);
  });

  test('a level that does not fall, and reserved bits, fault as such', () => {
    pte(0x301, 3, 0x303, 2);
    pte(0x301, 4, 0x303, 1);
    ram.write32(0x301 * 4096 + 4 * 8 + 4, 0x6010_0000);
    expect(unit.translate(RID, 3 * 512, false)).toBe(-1);
    expect(unit.translate(RID, 4 * 512, false)).toBe(-1);
    expect(faults()).toEqual(['2 90 208 d5 600', '2 90 208 d5 800']); // RZ PR
  });

  test('an id beyond the table, too many levels and reserved bits make the entry illegal', () => {
    expect(unit.translate(1024, 0, false)).toBe(-1);
    dte(OTHER, { mode: 7 });
    expect(unit.translate(OTHER, 0, false)).toBe(-1);
    ram.write32(DEV_TAB * 4096 + 0x311 * 32, 0x7f);
    expect(unit.translate(0x0311, 0, false)).toBe(-1);
    expect(events().map(([, b]) => b! >>> 28)).toEqual([1, 1, 1]);
  });

  test('each reserved bit below the domain id makes an entry illegal by itself, and no other bit does', () => {
    const illegal: number[] = [];
    for (let bit = 0; bit < 64; bit++) {
      unit.write64(CONTROL, 0, 0);
      unit.write64(CONTROL, ON, 0);
      dte(OTHER, { domid: 9 });
      const at = DEV_TAB * 4096 + OTHER * 32 + (bit < 32 ? 0 : 4);
      // The bits of mode say how deep tables are, up to four here.
      if (bit >= 9 && bit <= 11) continue;
      ram.write32(at, ram.read32(at) | (1 << (bit % 32)));
      invalidateDte(OTHER);
      const from = unit.read32(EVT_TAIL);
      unit.translate(OTHER, 0, false);
      if (unit.read32(EVT_TAIL) !== from && ram.read32(EVT_RING * 4096 + from + 4) >>> 28 === 1)
        illegal.push(bit);
    }
    expect(illegal).toEqual([2, 3, 4, 5, 6, 63]);
  });

  test('tables outside memory are reported as hardware errors', () => {
    dte(OTHER, { root: 0x20_0000 });
    expect(unit.translate(OTHER, 0, false)).toBe(-1);
    expect(events().map(([, b]) => b! >>> 28)).toEqual([4]);
  });

  test('the exclusion range passes for devices whose entry says EX, or for all', () => {
    unit.write32(EXCL_LIMIT, 0x50 * 4096);
    unit.write32(EXCL_BASE, 0x40 * 4096 + 1);
    dte(OTHER, { tv: 0, word3: 0x80 });
    expect([unit.translate(OTHER, 0x45, true), unit.translate(OTHER, 0x51, true)]).toEqual([0x45, -1]);
    expect(unit.translate(RID, 0x45, true)).toBe(-1);
    unit.write32(EXCL_BASE, 0x40 * 4096 + 3);
    expect(unit.translate(RID, 0x45, true)).toBe(0x45);
  });

  test('probe tells what a DMA would meet and leaves no trace', () => {
    expect(unit.probe(RID, 7, true)).toBe(0x1234);
    expect(unit.probe(RID, 8, true)).toBe(-1);
    expect(unit.cachedTranslations()).toEqual([]);
    expect(unit.cachedDevices()).toEqual([]);
    expect(events()).toEqual([]);
    unit.translate(RID, 7, true);
    pte(0x302, 7, 0x5678, 0);
    expect(unit.probe(RID, 7, true)).toBe(0x1234);
  });
});

describe('caches', () => {
  test('a changed page is not seen before its invalidation', () => {
    unit.translate(RID, 7, true);
    pte(0x302, 7, 0x5678, 0);
    expect(unit.translate(RID, 7, true)).toBe(0x1234);
    expect(unit.cachedTranslations()).toEqual([{ domid: 5, dfn: 7, mfn: 0x1234, read: true, write: true }]);
    invalidatePage(5, 7);
    expect(unit.translate(RID, 7, true)).toBe(0x5678);
  });

  test('an invalidation of another domain or page does not help', () => {
    unit.translate(RID, 7, true);
    pte(0x302, 7, 0x5678, 0);
    invalidatePage(5, 8);
    invalidateAllPages(6);
    expect(unit.translate(RID, 7, true)).toBe(0x1234);
    invalidateAllPages(5);
    expect(unit.translate(RID, 7, true)).toBe(0x5678);
  });

  test('a changed device table entry is not seen before its invalidation', () => {
    unit.translate(RID, 7, true);
    dte(RID, { tv: 0 });
    expect(unit.translate(RID, 7, true)).toBe(0x1234);
    invalidateDte(OTHER);
    expect(unit.translate(RID, 7, true)).toBe(0x1234);
    invalidateDte(RID);
    expect(unit.translate(RID, 7, true)).toBe(-1);
  });

  test('entries are tagged by domain id: a new root under an old id reads the old pages', () => {
    unit.translate(RID, 7, true);
    dte(RID, { root: 0x600 });
    invalidateDte(RID);
    expect(unit.translate(RID, 7, true)).toBe(0x1234);
    invalidateAllPages(5);
    expect(unit.translate(RID, 7, true)).toBe(-1);
  });

  test('one page of a superpage invalidated takes all of it, and a range takes what it touches', () => {
    pte(0x301, 1, 0x4200, 0);
    for (const dfn of [7, 512, 513, 1023]) unit.translate(RID, dfn, true);
    invalidatePage(5, 700);
    expect(unit.cachedTranslations().map((t) => t.dfn)).toEqual([7]);
    // 2 MiB at frame 0: bits 19:12 ones, bit 20 zero, S and PDE set.
    command(0, 0x3000_0000 | 5, 0x000f_f003);
    expect(unit.cachedTranslations()).toEqual([]);
  });

  test('one page of a superpage takes all of it, however many domains were met since', () => {
    pte(0x301, 1, 0x4200, 0);
    for (const dfn of [512, 1023]) unit.translate(RID, dfn, true);
    for (let domid = 100; domid < 200; domid++) {
      dte(OTHER, { domid });
      invalidateDte(OTHER);
      unit.translate(OTHER, 7, true);
    }
    pte(0x301, 1, 0x8200, 0);
    invalidatePage(5, 700);
    expect([512, 1023].map((dfn) => unit.translate(RID, dfn, true))).toEqual([0x8200, 0x83ff]);
  });

  test('INVALIDATE_IOMMU_ALL forgets everything', () => {
    unit.translate(RID, 7, true);
    command(0, 0x8000_0000);
    expect([unit.cachedTranslations(), unit.cachedDevices()]).toEqual([[], []]);
  });

  test('frames beyond 32 bits are cached whole', () => {
    const big = new AmdIommuUnit({
      unit: 0,
      seg: 0,
      features: [0x29d3, 0],
      events: new EventStream(),
      ram: new Ram(2 ** 40),
    });
    ram = big.ram;
    big.write32(DEV_TAB_BASE, DEV_TAB * 4096 + 7);
    big.write64(CONTROL, 1, 0);
    dte(RID, { mode: 5 });
    const dfn = 512 ** 4 + 3;
    pte(ROOT, 1, 0x301, 4);
    pte(0x301, 0, 0x302, 1);
    pte(0x302, 3, 2 ** 39 + 0x9_8765_4321, 0);
    for (let i = 0; i < 2; i++) expect(big.translate(RID, dfn, true)).toBe(2 ** 39 + 0x9_8765_4321);
    expect(big.cachedTranslations()).toEqual([
      { domid: 5, dfn, mfn: 2 ** 39 + 0x9_8765_4321, read: true, write: true },
    ]);
    expect(big.translate(RID, 3, true)).toBe(-1);
  });

  test('pages whose numbers differ above 32 bits alone are cached apart', () => {
    dte(RID, { mode: 4 });
    for (const [at, frame] of [
      [0, 0x1111],
      [32, 0x2222],
      [64, 0x3333],
    ] as const) {
      const table = 0x310 + at;
      pte(ROOT, at, table, 1);
      pte(table, 0, frame, 0);
    }
    for (let i = 0; i < 2; i++)
      for (const [dfn, frame] of [
        [0, 0x1111],
        [2 ** 32, 0x2222],
        [2 ** 33, 0x3333],
      ] as const) {
        expect(unit.probe(RID, dfn, true), `probe ${dfn}`).toBe(frame);
        expect(unit.translate(RID, dfn, true), `page ${dfn}`).toBe(frame);
      }
  });
});

describe('commands and events', () => {
  test('a completion wait stores its data after the commands before it', () => {
    const store = 0x700 * 4096 + 8;
    command(store | 1, 0x1000_0000, 0xcafe, 0xbabe);
    expect([ram.read32(store), ram.read32(store + 4)]).toEqual([0xcafe, 0xbabe]);
    expect(unit.read32(CMD_HEAD)).toBe(16);
  });

  test('a stalled unit executes nothing until it resumes', () => {
    unit.translate(RID, 7, true);
    pte(0x302, 7, 0x5678, 0);
    unit.stalled = true;
    invalidatePage(5, 7);
    expect([unit.translate(RID, 7, true), unit.read32(CMD_HEAD)]).toEqual([0x1234, 0]);
    unit.resume();
    expect([unit.translate(RID, 7, true), unit.read32(CMD_HEAD)]).toEqual([0x5678, 16]);
  });

  test('an unknown command is logged with its address and stops the ring until it is switched on again', () => {
    command(0, 0xf000_0000);
    invalidateDte(RID);
    expect(events()).toEqual([[0, 0x5000_0000, CMD_RING * 4096, 0]]);
    expect(unit.read32(STATUS) & 0x10).toBe(0);
    expect(unit.read32(CMD_HEAD)).toBe(0);
    unit.write64(CONTROL, ON & ~0x1000, 0);
    unit.write32(CMD_HEAD, 16);
    unit.write64(CONTROL, ON, 0);
    expect(unit.read32(CMD_HEAD)).toBe(32);
  });

  test('a fault interrupts once until software has cleared the bit', () => {
    unit.translate(RID, 100, true);
    unit.translate(RID, 101, true);
    expect([irqs, unit.read32(STATUS) & 2]).toEqual([1, 2]);
    unit.write32(STATUS, 2);
    unit.translate(RID, 102, false);
    expect(irqs).toBe(2);
    expect(faults()).toEqual(['2 20 208 d5 64', '2 20 208 d5 65', '2 0 208 d5 66']);
  });

  test('a full log overflows, stops, and goes on after a restart', () => {
    for (let i = 0; i < 300; i++) unit.translate(RID, 100 + i, false);
    expect(events().length).toBe(255);
    expect(unit.read32(STATUS) & 0x9).toBe(1);
    unit.write64(CONTROL, ON & ~0x4, 0);
    unit.write32(STATUS, 1);
    unit.write64(EVT_HEAD, 0, 0);
    unit.write64(EVT_TAIL, 0, 0);
    unit.write64(CONTROL, ON, 0);
    unit.translate(RID, 5000, false);
    expect(faults()).toEqual(['2 0 208 d5 1388']);
  });

  test('SA hides every page fault, SE all but the first since the entry was read', () => {
    dte(OTHER, { word3: 4, root: 0x600 });
    dte(0x0311, { word3: 2, root: 0x600 });
    for (let i = 0; i < 3; i++) {
      expect(unit.translate(OTHER, i, true)).toBe(-1);
      expect(unit.translate(0x0311, i, true)).toBe(-1);
    }
    expect(faults()).toEqual(['2 20 311 d5 0']);
    invalidateDte(0x0311);
    unit.translate(0x0311, 9, true);
    expect(faults().length).toBe(2);
  });

  test('features are read-only and status bits are cleared by ones', () => {
    unit.write64(0x30, 0, 0);
    expect(unit.read32(0x30)).toBe(0x29d3);
    unit.translate(RID, 100, true);
    unit.write32(STATUS, 0);
    expect(unit.read32(STATUS)).toBe(0x1a);
    unit.write32(STATUS, 0x1a);
    expect(unit.read32(STATUS)).toBe(0x18);
  });
});

describe('devices that keep translations of their own', () => {
  const I = 1; // of the fourth word

  test('with I a page is asked for, and what is said to be translated passes', () => {
    dte(OTHER, { word3: I });
    expect(unit.translationRequest(OTHER, 7, true)).toBe(0x1234);
    expect(unit.translated(OTHER, 0x9999, true)).toBe(0x9999);
    // A page that is not there is an empty answer, and no event.
    expect(unit.translationRequest(OTHER, 8, false)).toBe(-1);
    expect(events()).toEqual([]);
    // So is one that may not be written.
    pte(0x302, 9, 0x77, 0, 1);
    expect([unit.translationRequest(OTHER, 9, false), unit.translationRequest(OTHER, 9, true)]).toEqual([
      0x77, -1,
    ]);
    expect(events()).toEqual([]);
  });

  test('without I both are refused, with an illegal entry; TR says which of them was a question', () => {
    expect(unit.translationRequest(RID, 7, false)).toBe(-1);
    expect(unit.translated(RID, 0x9999, true)).toBe(-1);
    expect(faults()).toEqual(['1 100 208 d0 7', '1 20 208 d0 9999']);
  });

  test('an entry that aborts refuses both, one that is not valid passes addresses and answers no question', () => {
    dte(OTHER, { tv: 0, word3: I });
    expect([unit.translated(OTHER, 5, false), unit.translationRequest(OTHER, 5, false)]).toEqual([-1, -1]);
    dte(0x0311, { v: 0, tv: 0, word3: I });
    expect([unit.translated(0x0311, 5, false), unit.translationRequest(0x0311, 5, false)]).toEqual([5, -1]);
    unit.write64(CONTROL, 0, 0);
    expect([unit.translated(RID, 5, false), unit.translationRequest(RID, 5, false)]).toEqual([5, -1]);
  });
});
