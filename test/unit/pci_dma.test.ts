import { describe, expect, test } from 'vitest';
import { sbdf } from '../../src/base/sbdf.js';
import { PciHost } from '../../src/pci/bus.js';
import { ADDRESS_TYPE, type DmaRemapper, RootComplex, requesterAtRoot } from '../../src/pci/dma.js';
import { DmaEngine, EDU, EDU_BUFFER } from '../../src/pci/dma_engine.js';
import type { PciFunctionInit } from '../../src/pci/function.js';
import { EventStream, type SimEvent } from '../../src/sim/events.js';
import { Ram } from '../../src/sim/ram.js';
import { conventional, endpoint, legacyBridge, MASTER, port } from './pci_helpers.js';

const at = (bus: number, dev: number, fn: number): number => sbdf(0, bus, dev, fn);
/** 16 MiB of memory with a hole in it. */
const board = (...inits: PciFunctionInit[]): PciHost => {
  const events = new EventStream();
  const ranges = [
    { start: 0, count: 0xa0 },
    { start: 0x100, count: 0xf00 },
  ];
  return new PciHost(inits, events, new RootComplex(new Ram(0x10_0000), events, ranges));
};
const ridOf = (h: PciHost, s: number): number => requesterAtRoot(h.functionAt(s)!, h.functionAt(s)!.rid);

/** Adds `shift` frames; refuses writes to frames below `readOnlyBelow`; records what it was asked. */
class Shifter implements DmaRemapper {
  readonly asked: [number, number, boolean][] = [];
  constructor(
    private readonly shift: number,
    private readonly readOnlyBelow = 0,
  ) {}
  translate(rid: number, dfn: number, write: boolean): number {
    this.asked.push([rid, dfn, write]);
    return write && dfn < this.readOnlyBelow ? -1 : dfn + this.shift;
  }
}

describe('requester ids', () => {
  test('root ports and switch ports pass the id of an endpoint on', () => {
    const h = board(
      port(4, 4, 7).at(at(0, 4, 0)),
      port(5, 5, 7).at(at(4, 0, 0)),
      port(6, 6).at(at(5, 0, 0)),
      endpoint().at(at(6, 0, 1)),
    );
    expect(ridOf(h, at(6, 0, 1))).toBe(0x601);
  });
  test('behind a PCIe-to-PCI bridge every function appears as (secondary bus, 0, 0)', () => {
    const h = board(
      port(4, 8, 9).at(at(0, 5, 0)),
      port(7, 9).at(at(8, 0, 0)),
      conventional().at(at(9, 1, 0)),
      conventional().at(at(9, 2, 0)),
    );
    expect([ridOf(h, at(9, 1, 0)), ridOf(h, at(9, 2, 0))]).toEqual([0x900, 0x900]);
  });
  test('behind a conventional bridge every function appears as the bridge', () => {
    const h = board(legacyBridge(12).at(at(0, 0x1e, 0)), conventional().at(at(12, 1, 0)));
    expect(ridOf(h, at(12, 1, 0))).toBe(0xf0);
  });
  test('of nested take-overs the one nearest to the root counts', () => {
    const inner = legacyBridge(3);
    const h = board(
      port(7, 2, 3).at(at(1, 0, 0)),
      port(4, 1, 3).at(at(0, 1, 0)),
      inner.at(at(2, 4, 0)),
      conventional().at(at(3, 0, 0)),
      legacyBridge(10, 11).at(at(0, 0x1e, 0)),
      legacyBridge(11).at(at(10, 2, 0)),
      conventional().at(at(11, 5, 0)),
    );
    expect([ridOf(h, at(3, 0, 0)), ridOf(h, at(11, 5, 0))]).toEqual([0x200, 0xf0]);
  });
  test('a PCI-to-PCIe bridge takes the id over as a conventional bridge does', () => {
    const h = board(port(8, 2, 2).at(at(0, 3, 0)), endpoint().at(at(2, 0, 0)));
    expect(ridOf(h, at(2, 0, 0))).toBe(0x18);
  });
  test('an endpoint keeps the bus number of the last config write, and loses it with a bus reset', () => {
    const h = board(port(4, 1).at(at(0, 1, 0)), endpoint().at(at(1, 0, 0)));
    h.configWrite(at(0, 1, 0), 0x18, 4, 0x0005_0500);
    expect(h.functionAt(at(5, 0, 0))!.rid).toBe(0x100);
    h.configWrite(at(5, 0, 0), 0x3c, 1, 0);
    expect(h.functionAt(at(5, 0, 0))!.rid).toBe(0x500);
    h.configWrite(at(0, 1, 0), 0x3e, 2, 0x40);
    h.configWrite(at(0, 1, 0), 0x3e, 2, 0);
    expect(h.functionAt(at(5, 0, 0))!.rid).toBe(0);
  });
  test('phantom functions differ from their function in the function number alone', () => {
    const h = board(endpoint().at(at(2, 3, 0)));
    expect(h.phantomRid(h.functionAt(at(2, 3, 0))!, 0x1c)).toBe(0x21c);
  });
});

describe('what stops a request before it arrives', () => {
  const tree = (): PciHost =>
    board(
      port(4, 1)
        .ext(0xd, 0x148, [0, 1])
        .at(at(0, 1, 0)),
      endpoint().at(at(1, 0, 0)),
    );
  test.each([
    ['of the function', at(1, 0, 0)],
    ['of a bridge above it', at(0, 1, 0)],
  ])('bus master %s is off', (_name, where) => {
    const h = tree();
    const fn = h.functionAt(at(1, 0, 0))!;
    expect(h.dma(fn, { address: 0x1000, bytes: 4, write: true }).status).toBe('done');
    h.configWrite(where, 4, 2, MASTER - 4);
    const result = h.dma(fn, { address: 0x1000, bytes: 4, write: true });
    expect(result).toEqual({ status: 'blocked', mfn: -1, bytes: 0, rid: -1 });
  });
  test('the bus master bit of the function holds for its phantom functions too', () => {
    const h = tree();
    const fn = h.functionAt(at(1, 0, 0))!;
    h.configWrite(fn.sbdf, 4, 2, 0);
    expect(h.dma(fn, { address: 0, bytes: 4, write: true, rid: 0x101 }).status).toBe('blocked');
  });
  test('ACS Source Validation stops a forged bus number, and only while it is enabled', () => {
    const h = tree();
    const fn = h.functionAt(at(1, 0, 0))!;
    const forged = { address: 0, bytes: 4, write: true, rid: 0x200 };
    expect(h.dma(fn, forged).rid).toBe(0x200);
    h.configWrite(at(0, 1, 0), 0x14e, 2, 1);
    expect(h.dma(fn, forged).status).toBe('blocked');
    expect(h.dma(fn, { ...forged, rid: 0x107 }).status).toBe('done');
  });
  test('the function sleeps in D3hot, or was unplugged', () => {
    const h = board(
      conventional()
        .cap(1, 0x60, [0, 0])
        .at(at(0, 3, 0)),
    );
    const fn = h.functionAt(at(0, 3, 0))!;
    h.configWrite(fn.sbdf, 0x64, 2, 3);
    expect(h.dma(fn, { address: 0, bytes: 4, write: true }).status).toBe('blocked');
    h.configWrite(fn.sbdf, 0x64, 2, 0);
    h.configWrite(fn.sbdf, 4, 2, 4);
    expect(h.dma(fn, { address: 0, bytes: 4, write: true }).status).toBe('done');
    h.removeFunction(fn.sbdf);
    expect(h.dma(fn, { address: 0, bytes: 4, write: true }).status).toBe('blocked');
  });
});

describe('the root complex', () => {
  const one = (): PciHost => board(endpoint().at(at(1, 0, 0)));
  const data = (...bytes: number[]): Uint8Array => Uint8Array.from(bytes);

  test('without remapping hardware a bus address is a machine address', () => {
    const h = one();
    const fn = h.functionAt(at(1, 0, 0))!;
    h.dma(fn, { address: 0x20_1002, bytes: 3, write: true, data: data(1, 2, 3) });
    expect(h.root.ram.read32(0x20_1000)).toBe(0x0201_0000);
    expect(h.root.ram.read32(0x20_1004)).toBe(3);
    const back = data(0, 0, 0);
    expect(h.dma(fn, { address: 0x20_1002, bytes: 3, write: false, data: back })).toEqual({
      status: 'done',
      mfn: 0x201,
      bytes: 3,
      rid: 0x100,
    });
    expect([...back]).toEqual([1, 2, 3]);
  });
  test('a request over a page boundary is two, and each is translated', () => {
    const h = one();
    const unit = new Shifter(0x100);
    h.root.install(unit, 0);
    const fn = h.functionAt(at(1, 0, 0))!;
    h.dma(fn, { address: 0x1ffe, bytes: 4, write: true, data: data(1, 2, 3, 4) });
    expect(unit.asked).toEqual([
      [0x100, 1, true],
      [0x100, 2, true],
    ]);
    expect([h.root.ram.read32(0x10_1ffc), h.root.ram.read32(0x10_2000)]).toEqual([0x0201_0000, 0x0403]);
  });
  test('a fault on the second page leaves the first one written and tells how far it came', () => {
    const h = one();
    h.root.install({ translate: (_rid, dfn) => (dfn === 2 ? -1 : dfn + 0x100) }, 0);
    const fn = h.functionAt(at(1, 0, 0))!;
    const result = h.dma(fn, { address: 0x1ffe, bytes: 4, write: true, data: data(1, 2, 3, 4) });
    expect(result).toEqual({ status: 'fault', mfn: -1, bytes: 2, rid: 0x100 });
    expect(h.root.ram.read32(0x10_2000)).toBe(0);
  });
  test('reads that fault, and reads where there is no memory, return all ones', () => {
    const h = one();
    const fn = h.functionAt(at(1, 0, 0))!;
    const into = data(0, 0);
    expect(h.dma(fn, { address: 0xa_0000, bytes: 2, write: false, data: into }).status).toBe('masterAbort');
    expect([...into]).toEqual([0xff, 0xff]);
    h.root.install({ translate: () => -1 }, 0);
    into.fill(0);
    expect(h.dma(fn, { address: 0x1000, bytes: 2, write: false, data: into }).status).toBe('fault');
    expect([...into]).toEqual([0xff, 0xff]);
  });
  test('units in charge of single requester ids come before the one of the segment', () => {
    const h = one();
    h.root.install(new Shifter(0x100), 0);
    h.root.install(new Shifter(0x200), 0, [0x107]);
    expect(h.root.dmaTranslate(0, 0x100, 1, false)).toBe(0x101);
    expect(h.root.dmaTranslate(0, 0x107, 1, false)).toBe(0x201);
    expect(h.root.dmaTranslate(1, 0x107, 1, false)).toBe(1);
  });
  test('a write of one word to 0xFEExxxxx is an interrupt, not memory; a read there is refused', () => {
    const h = one();
    const seen: number[][] = [];
    h.root.onMsi = (...args) => seen.push(args);
    const unit = new Shifter(0);
    h.root.install(unit, 0);
    const fn = h.functionAt(at(1, 0, 0))!;
    expect(h.dma(fn, { address: 0xfee0_1004, bytes: 4, write: true, data: data(0x41, 0, 0, 0) }).status).toBe(
      'done',
    );
    expect(seen).toEqual([[0, 0x100, 0xfee0_1004, 0x41]]);
    expect(h.dma(fn, { address: 0xfee0_1004, bytes: 4, write: false }).status).toBe('masterAbort');
    expect(unit.asked).toEqual([]);
  });
  test('a request marked as translated is blocked by a unit that does not let such requests pass', () => {
    const h = one();
    const fn = h.functionAt(at(1, 0, 0))!;
    const request = { address: 0x20_0000, bytes: 4, write: true, addressType: ADDRESS_TYPE.translated };
    h.root.install(new Shifter(0), 0);
    expect(h.dma(fn, request).status).toBe('fault');
    h.root.install({ translate: () => -1, translated: (_rid, mfn) => mfn }, 0);
    expect(h.dma(fn, request).status).toBe('done');
  });
  test('each piece of a request is one event, faults with mfn -1', () => {
    const h = one();
    const seen: SimEvent[] = [];
    h.events.attach((e) => seen.push(e));
    h.root.install(new Shifter(0x100, 3), 0);
    const fn = h.functionAt(at(1, 0, 0))!;
    h.dma(fn, { address: 2 ** 32 + 0x3000, bytes: 8, write: false });
    h.dma(fn, { address: 0x2000, bytes: 8, write: true });
    expect(seen).toMatchObject([
      { kind: 'dma', seg: 0, rid: 0x100, write: false, addrLo: 0x3000, addrHi: 1, bytes: 8, mfn: -1 },
      { kind: 'dma', addrLo: 0x2000, write: true, mfn: -1 },
    ]);
  });
  test('words move in one page without objects: the machine frame, -1 for a fault, -2 for no memory', () => {
    const root = one().root;
    const words = Int32Array.of(7, 8, 9);
    expect(root.writeWords(0, 0x100, 0x20_0ff8, words, 1, 2)).toBe(0x200);
    const into = new Int32Array(3);
    expect(root.readWords(0, 0x100, 0x20_0ff8, into, 0, 2)).toBe(0x200);
    expect([...into]).toEqual([8, 9, 0]);
    expect(root.readWords(0, 0x100, 0xa_0000, into, 0, 1)).toBe(-2);
    root.install({ translate: () => -1 }, 0);
    expect(root.writeWords(0, 0x100, 0x20_0000, words, 0, 1)).toBe(-1);
  });
});

test.each([1, 7, 8, 9, 15, 16, 17, 40])('%i words arrive where they belong, and no others', (count) => {
  const root = board(endpoint().at(at(1, 0, 0))).root;
  const words = Int32Array.from({ length: 64 }, (_, i) => 0x1000_0001 * (i + 1));
  const there = new Int32Array(64);
  expect(root.writeWords(0, 0x100, 0x20_0010, words, 3, count)).toBe(0x200);
  expect(root.readWords(0, 0x100, 0x20_0000, there, 0, 64)).toBe(0x200);
  expect([...there]).toEqual(
    Array.from({ length: 64 }, (_, i) => (i >= 4 && i < 4 + count ? words[i - 1] : 0)),
  );
  const back = new Int32Array(64);
  root.readWords(0, 0x100, 0x20_0010, back, 5, count);
  expect([...back]).toEqual(
    Array.from({ length: 64 }, (_, i) => (i >= 5 && i < 5 + count ? words[i - 2] : 0)),
  );
});

test('requests of 00:00.0 leave with its id, which is 0', () => {
  const h = board(endpoint().at(at(0, 0, 0)));
  const data = Uint8Array.of(1, 2, 3, 4);
  const done = h.dma(h.functionAt(0)!, { address: 0x20_0000, bytes: 4, write: true, data });
  expect([done, h.root.ram.read32(0x20_0000)]).toEqual([
    { status: 'done', mfn: 0x200, bytes: 4, rid: 0 },
    0x0403_0201,
  ]);
});

describe('the DMA engine', () => {
  const engine = (): { h: PciHost; edu: DmaEngine } => {
    const h = board(
      conventional()
        .set(0x10, 4, 0xfea0_0000)
        .at(at(0, 9, 0), { barBytes: [0x10_0000] }),
    );
    return { h, edu: new DmaEngine(h, h.functionAt(at(0, 9, 0))!) };
  };
  test('copies between its buffer and memory as its registers say', () => {
    const { h, edu } = engine();
    h.root.ram.write32(0x20_0000, 0x1234_5678);
    edu.write64(EDU.DMA_SOURCE, 0x20_0000, 0);
    edu.write64(EDU.DMA_TARGET, EDU_BUFFER + 16, 0);
    edu.write32(EDU.DMA_COUNT, 4);
    edu.write32(EDU.DMA_COMMAND, 1);
    edu.write64(EDU.DMA_SOURCE, EDU_BUFFER + 16, 0);
    edu.write64(EDU.DMA_TARGET, 0x30_0000, 0);
    edu.write32(EDU.DMA_COMMAND, 3);
    expect(h.root.ram.read32(0x30_0000)).toBe(0x1234_5678);
    expect([edu.read32(EDU.DMA_COMMAND), edu.last?.status]).toEqual([2, 'done']);
  });
  test('has registers of two words, and starts when it is told to, not before', () => {
    const { edu } = engine();
    edu.write64(EDU.DMA_SOURCE, EDU_BUFFER, 0);
    edu.write64(EDU.DMA_TARGET, 0x30_0000, 7);
    edu.write64(EDU.DMA_COUNT, 1, 0);
    expect([0x80, 0x84, 0x88, 0x8c, 0x90, 0x94].map((at) => edu.read32(at))).toEqual([
      EDU_BUFFER,
      0,
      0x30_0000,
      7,
      1,
      0,
    ]);
    edu.write32(EDU.DMA_COMMAND, 2);
    expect([edu.last, edu.read32(EDU.DMA_COMMAND)]).toEqual([undefined, 2]);
    edu.write32(EDU.DMA_COMMAND, 3);
    // 7 times 4 GiB and some: there is no memory.
    expect(edu.last).toMatchObject({ status: 'masterAbort', bytes: 0 });
    expect([0x08, 0x7c, 0xa0].map((at) => edu.read32(at))).toEqual(Array(3).fill(0xffff_ffff));
  });
  test('moves as much as its buffer holds, and as little as a byte', () => {
    const { h, edu } = engine();
    edu.buffer.fill(0xab);
    edu.write64(EDU.DMA_SOURCE, EDU_BUFFER, 0);
    edu.write64(EDU.DMA_TARGET, 0x30_0000, 0);
    for (const bytes of [4096, 1]) {
      edu.write64(EDU.DMA_COUNT, bytes, 0);
      edu.write32(EDU.DMA_COMMAND, 3);
      expect(edu.last).toMatchObject({ status: 'done', bytes });
    }
    expect([0x30_0000, 0x30_0ffc, 0x30_1000].map((a) => h.root.ram.read32(a) >>> 0)).toEqual([
      0xabab_abab, 0xabab_abab, 0,
    ]);
    const { last } = edu;
    for (const [source, bytes] of [
      [EDU_BUFFER, 0],
      [EDU_BUFFER, 4097],
      [EDU_BUFFER + 1, 4096],
      [EDU_BUFFER - 1, 1],
    ] as const) {
      edu.write64(EDU.DMA_SOURCE, source, 0);
      edu.write64(EDU.DMA_COUNT, bytes, 0);
      edu.write32(EDU.DMA_COMMAND, 3);
    }
    expect(edu.last).toBe(last);
  });
  test('answers with its id, and with the complement of what is written to the liveness register', () => {
    const { edu } = engine();
    edu.write32(4, 0x0f0f_0f0f);
    expect([edu.read32(0), edu.read32(4)]).toEqual([0x0100_00ed, 0xf0f0_f0f0]);
  });
  test('moves nothing that does not fit into its buffer', () => {
    const { edu } = engine();
    edu.write64(EDU.DMA_SOURCE, EDU_BUFFER + 4090, 0);
    edu.write64(EDU.DMA_TARGET, 0x30_0000, 0);
    edu.write32(EDU.DMA_COUNT, 8);
    edu.write32(EDU.DMA_COMMAND, 3);
    expect(edu.last).toBe(undefined);
  });
  test('uses the requester id of a phantom function when it is told to', () => {
    const { h, edu } = engine();
    const unit = new Shifter(0);
    h.root.install(unit, 0);
    edu.requesterId = 0x4b;
    edu.write64(EDU.DMA_SOURCE, EDU_BUFFER, 0);
    edu.write64(EDU.DMA_TARGET, 0x30_0000, 0);
    edu.write32(EDU.DMA_COUNT, 1);
    edu.write32(EDU.DMA_COMMAND, 3);
    expect(unit.asked).toEqual([[0x4b, 0x300, true]]);
  });
});
