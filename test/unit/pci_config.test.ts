import { describe, expect, test } from 'vitest';
import { sbdf } from '../../src/base/sbdf.js';
import { BarWindow, ConfigPorts, EcamWindow } from '../../src/pci/access.js';
import { PciHost } from '../../src/pci/bus.js';
import { ConfigSpace } from '../../src/pci/config_space.js';
import { RootComplex } from '../../src/pci/dma.js';
import type { PciFunctionInit } from '../../src/pci/function.js';
import { EventStream } from '../../src/sim/events.js';
import { Ram } from '../../src/sim/ram.js';
import { conventional, endpoint, legacyBridge, port, Space } from './pci_helpers.js';

const host = (...inits: PciFunctionInit[]): PciHost => {
  const events = new EventStream();
  return new PciHost(inits, events, new RootComplex(new Ram(1024), events));
};
const at = (bus: number, dev: number, fn: number): number => sbdf(0, bus, dev, fn);
/** Writes all ones to a word and reads it back: what software does to size a register. */
const probe = (space: ConfigSpace, offset: number): number => {
  space.write(offset, 4, 0xffff_ffff);
  return space.read(offset, 4);
};

describe('base address registers', () => {
  const sizes = [128 * 1024, undefined, 32, 0, 16 * 2 ** 20, undefined, 256 * 1024];
  const bytes = new Space(256)
    .ids(0x8086, 0x10d3, 0x020000)
    .words({ 16: 0xfe64_0000, 24: 0x4001, 28: 0xdead_0000, 32: 0xfb00_000c, 48: 0xfe60_0001 }).bytes;

  test('all ones read back as the size and the type bits (PCI 6.2.5.1)', () => {
    const space = new ConfigSpace(bytes, sizes);
    expect(probe(space, 0x10)).toBe(0xfffe_0000);
    expect(probe(space, 0x18)).toBe(0xffff_ffe1);
    expect(probe(space, 0x20)).toBe(0xff00_000c);
    expect(probe(space, 0x24)).toBe(0xffff_ffff);
    expect(probe(space, 0x30)).toBe(0xfffc_0001);
  });
  test('a register of size 0 or without a value is not implemented: it reads zero whatever is written', () => {
    const space = new ConfigSpace(bytes, sizes);
    expect(space.read(0x1c, 4)).toBe(0);
    expect(probe(space, 0x1c)).toBe(0);
    expect(probe(space, 0x14)).toBe(0);
  });
  test('a 64-bit register larger than 4 GiB keeps its low word fixed', () => {
    const space = new ConfigSpace(new Space(256).set(0x10, 4, 0xc).set(0x14, 4, 0x40).bytes, [2 ** 33]);
    expect(probe(space, 0x10)).toBe(0xc);
    expect(probe(space, 0x14)).toBe(0xffff_fffe);
  });
  test('an unknown size is guessed from the alignment of the address, and no I/O range passes 256 bytes', () => {
    const space = new ConfigSpace(new Space(256).set(0x10, 4, 0xfe81_4000).set(0x14, 4, 0xc001).bytes);
    expect(space.bars.map((b) => [b.kind, b.bytes])).toEqual([
      ['mem32', 0x4000],
      ['io', 256],
    ]);
  });
  test('the address of a 64-bit register is both of its words, also when its size is guessed', () => {
    const addresses = { 16: 0xfe81_4000, 24: 0xc, 28: 0x40, 32: 0x0400_000c, 36: 1, 48: 0xc000_0000 };
    const space = new ConfigSpace(new Space(256).words(addresses).bytes);
    // As far as the address is aligned; no guess passes 256 MiB, and none of a ROM 128 KiB.
    expect(space.bars.map((b) => [b.index, b.kind, b.bytes])).toEqual([
      [0, 'mem32', 0x4000],
      [2, 'mem64', 2 ** 28],
      [4, 'mem64', 2 ** 26],
      [6, 'rom', 2 ** 17],
    ]);
    space.reset('bus');
    const words = [0x10, 0x18, 0x1c, 0x20, 0x24].map((offset) => space.read(offset, 4));
    expect(words).toEqual([0, 0xc, 0, 0xc, 0]);
  });
  test('one of 64 bits with nowhere to go on in is none', () => {
    const last = new Space(256).set(0x24, 4, 0xfe80_0004).set(0x28, 4, 0x1234);
    const space = new ConfigSpace(last.bytes);
    expect(space.bars.map((b) => [b.index, b.kind])).toEqual([[5, 'mem32']]);
  });
  test('a ROM register without address and size is not implemented', () => {
    expect(probe(new ConfigSpace(conventional().bytes), 0x30)).toBe(0);
  });
  test('a bridge has two registers and its ROM at 0x38', () => {
    const bytes1 = legacyBridge(2).set(0x10, 4, 0xfe00_0000).set(0x38, 4, 0xfd00_0000).bytes;
    const space = new ConfigSpace(bytes1, [4096, undefined, 4096, 4096, 4096, 4096, 2048]);
    expect(space.bars.map((b) => b.index)).toEqual([0, 6]);
    expect(probe(space, 0x38)).toBe(0xffff_f801);
    // 0x18 holds the bus numbers there, not a base address.
    expect(probe(space, 0x18)).toBe(0xffff_ffff);
  });
});

describe('registers', () => {
  test('ids, class and capability heads are read-only', () => {
    const space = new ConfigSpace(endpoint().bytes);
    for (const offset of [0, 8, 0x2c, 0x34, 0x40, 0x44]) {
      const before = space.read(offset, 4);
      expect([offset, probe(space, offset)]).toEqual([offset, before]);
    }
  });
  test('a status bit is cleared by writing one, and kept by writing zero', () => {
    const space = new ConfigSpace(conventional().set(6, 2, 0xf900).bytes);
    space.write(4, 2, 0);
    expect(space.read(6, 2)).toBe(0xf900);
    space.write(6, 2, 0x2800);
    expect(space.read(6, 2)).toBe(0xd100);
  });
  test('bytes and half words of one register are read and written in place', () => {
    const space = new ConfigSpace(conventional().bytes);
    space.write(4, 2, 0x0407);
    space.write(0x3c, 1, 0x0b);
    expect([space.read(4, 1), space.read(5, 1), space.read(4, 2), space.read(0x3c, 4)]).toEqual([
      7, 4, 0x407, 0xb,
    ]);
    expect(space.read(3, 2)).toBe(0xffff);
  });
  test('beyond its 256 bytes a conventional function reads all ones, a PCI Express one zero', () => {
    expect(new ConfigSpace(conventional().bytes).read(0x100, 4)).toBe(0xffff_ffff);
    expect(new ConfigSpace(endpoint().bytes).read(0xffc, 4)).toBe(0);
  });
  test.each([
    ['MSI 32 bit', [0, 0, 0], [0x71_0000, 0xffff_fffc, 0xffff]],
    [
      'MSI 64 bit, maskable',
      [0x180_0000, 0, 0, 0, 0, 0],
      [0x71_0000, 0xffff_fffc, 0xffff_ffff, 0xffff, 0xffff_ffff, 0],
    ],
  ])('%s: enable, message count, address, data and mask can be written', (_name, words, masks) => {
    const space = new ConfigSpace(conventional().cap(5, 0x50, words).bytes);
    masks.forEach((mask, i) => {
      const ro = i === 0 ? (words[0]! & 0xffff_0000) + 5 : 0;
      expect([i, probe(space, 0x50 + 4 * i)]).toEqual([i, (mask | ro) >>> 0]);
    });
  });
  test('MSI-X: mask-all and enable can be written, table size and location cannot', () => {
    const space = new ConfigSpace(conventional().cap(0x11, 0x70, [0x0004_0000, 0x3, 0x2003]).bytes);
    expect([0x70, 0x74, 0x78].map((o) => probe(space, o))).toEqual([0xc004_0011, 0x3, 0x2003]);
  });
  test('an ACS control bit exists only where its capability bit is set', () => {
    const space = new ConfigSpace(endpoint().ext(0xd, 0x148, [0, 0x1d]).bytes);
    expect(probe(space, 0x14c)).toBe(0x001d_001d);
  });
  test.each([
    ['ATS', 0xf, 1, 0x801f_0000],
    ['ARI', 0xe, 1, 0x0073_0000],
    ['PASID', 0x1b, 1, 0x0007_0000],
    ['AER uncorrectable mask', 1, 2, 0xffff_ffff],
    ['SR-IOV control', 0x10, 2, 0x1f],
  ])('%s: the writable bits are those of the specification', (_name, id, word, mask) => {
    const space = new ConfigSpace(endpoint().ext(id, 0x200, [0, 0, 0]).bytes);
    expect(probe(space, 0x200 + 4 * word)).toBe(mask);
  });
  test.each([
    [1, 0],
    [2, 0x7fff],
    [3, 0x7fff],
  ])(
    'version %i of the PCI Express capability: Device Control 2 has the writable bits %i',
    (version, bits) => {
      const space = new ConfigSpace(endpoint().set(0x42, 2, version).bytes);
      expect(probe(space, 0x68)).toBe(bits);
    },
  );
  test('a capability chain that runs in a circle ends, and is listed at most 48 times', () => {
    const looped = conventional().cap(1, 0x40, [0, 0]).cap(5, 0x50, [0]).set(0x51, 1, 0x40);
    expect(new ConfigSpace(looped.bytes).capabilities.length).toBe(48);
  });
});

describe('config cycles', () => {
  test('nobody answers at an absent function: reads are all ones, writes are dropped', () => {
    const h = host(conventional().at(at(0, 2, 0)));
    h.configWrite(at(0, 3, 0), 4, 2, 7);
    expect([
      h.configRead(at(0, 3, 0), 0, 4),
      h.configRead(at(0, 3, 0), 0, 2),
      h.configRead(at(0, 3, 0), 0, 1),
    ]).toEqual([0xffff_ffff, 0xffff, 0xff]);
  });
  test('the same address in two segments is two functions', () => {
    const h = host(conventional().at(at(0, 2, 0)), endpoint().at(sbdf(3, 0, 2, 0)));
    expect([h.configRead(at(0, 2, 0), 0, 2), h.configRead(sbdf(3, 0, 2, 0), 0, 2)]).toEqual([0x8086, 0x10de]);
    expect(h.segments()).toEqual([0, 3]);
  });
  test('a function follows the bus number that software gives its bridge', () => {
    const h = host(port(4, 1).at(at(0, 1, 0)), endpoint().at(at(1, 0, 0)));
    h.configWrite(at(0, 1, 0), 0x18, 4, 0x0009_0900);
    expect(h.configRead(at(1, 0, 0), 0, 2)).toBe(0xffff);
    expect(h.configRead(at(9, 0, 0), 0, 2)).toBe(0x10de);
    expect(h.functionAt(at(9, 0, 0))?.sbdf).toBe(at(9, 0, 0));
  });
  test('bridges may be numbered in any order', () => {
    const h = host(
      port(4, 5).at(at(0, 1, 0)),
      port(4, 3).at(at(0, 2, 0)),
      conventional().at(at(5, 0, 0)),
      endpoint().at(at(3, 0, 0)),
    );
    expect([at(5, 0, 0), at(3, 0, 0)].map((s) => h.configRead(s, 0, 2))).toEqual([0x8086, 0x10de]);
  });
  test('behind two bridges a cycle needs both ranges', () => {
    const h = host(port(4, 1, 2).at(at(0, 1, 0)), port(5, 2).at(at(1, 0, 0)), endpoint().at(at(2, 0, 0)));
    expect(h.configRead(at(2, 0, 0), 0, 2)).toBe(0x10de);
    h.configWrite(at(0, 1, 0), 0x1a, 1, 1);
    expect(h.configRead(at(2, 0, 0), 0, 2)).toBe(0xffff);
    expect(h.configRead(at(1, 0, 0), 0, 2)).toBe(0x1b36);
  });
  test('I/O ports reach segment 0; without the enable bit, and at other widths of the address, nobody answers', () => {
    const h = host(conventional().at(at(0, 2, 1)));
    const ports = new ConfigPorts(h);
    ports.write(0xcf8, 4, 0x8000_1103);
    expect(ports.read(0xcf8, 4)).toBe(0x8000_1100);
    expect([ports.read(0xcfc, 4), ports.read(0xcfe, 2), ports.read(0xcff, 1)]).toEqual([
      0x100e_8086, 0x100e, 0x10,
    ]);
    ports.write(0xcf8, 4, 0x8000_1104);
    ports.write(0xcfc, 2, 0);
    expect(h.configRead(at(0, 2, 1), 4, 2)).toBe(0);
    ports.write(0xcf8, 4, 0x1104);
    expect(ports.read(0xcfc, 4)).toBe(0xffff_ffff);
    expect(ports.read(0xcf8, 1)).toBe(0xff);
  });
  test('ECAM reaches all 4096 bytes of every segment', () => {
    const seg1 = endpoint()
      .ext(0xf, 0x100, [0, 0])
      .at(sbdf(1, 5, 3, 2));
    const ecam = new EcamWindow(host(seg1), 1, 4);
    const base = (1 << 20) + (3 << 15) + (2 << 12);
    expect(ecam.read32(base)).toBe(0x2484_10de);
    ecam.write64(base + 0x100, -1, -1);
    expect(ecam.read(base + 0x106, 2)).toBe(0x801f);
  });
  test('a memory access reaches whoever is mapped there, while memory decode is on', () => {
    const h = host(
      conventional()
        .set(0x10, 4, 0xfea0_0000)
        .at(at(0, 9, 0), { barBytes: [0x10_0000] }),
    );
    const fn = h.functionAt(at(0, 9, 0))!;
    fn.regions = [{ read32: (offset) => offset, write32: () => {}, write64: () => {} }];
    const window = new BarWindow(h, 0xfea0_0000);
    expect(window.read32(0x88)).toBe(0x88);
    h.configWrite(fn.sbdf, 4, 2, 0);
    expect(window.read32(0x88)).toBe(0xffff_ffff);
  });
  test('an unplugged function is gone, with all that is behind it; another one may take its place', () => {
    const h = host(port(4, 1).at(at(0, 1, 0)), endpoint().at(at(1, 0, 0)));
    const gpu = h.functionAt(at(1, 0, 0))!;
    h.removeFunction(at(0, 1, 0));
    expect([h.configRead(at(0, 1, 0), 0, 2), h.configRead(at(1, 0, 0), 0, 2), gpu.present]).toEqual([
      0xffff,
      0xffff,
      false,
    ]);
    h.addFunction(conventional().at(at(0, 1, 0)));
    expect(h.configRead(at(0, 1, 0), 0, 2)).toBe(0x8086);
  });
  test('hot plug finds the bus that has the number now, or makes a root bus of it', () => {
    const h = host(port(4, 1, 2).at(at(0, 1, 0)), endpoint().at(at(1, 0, 0)));
    h.configWrite(at(0, 1, 0), 0x18, 4, 0x0005_0500);
    const [behind, alone] = [at(5, 3, 0), at(9, 0, 0)].map((s) => h.addFunction(conventional().at(s)));
    expect([behind!.bus.parent?.devfn, alone!.bus.parent, h.busesInUse(0)]).toEqual([
      8,
      undefined,
      [0, 5, 9],
    ]);
    // Bus 5 is where software moved the bridge's; the function follows it on.
    h.configWrite(at(0, 1, 0), 0x18, 4, 0x0006_0600);
    expect([at(5, 3, 0), at(6, 3, 0), at(9, 0, 0)].map((s) => h.configRead(s, 0, 2))).toEqual([
      0xffff, 0x8086, 0x8086,
    ]);
    expect([h.busesInUse(0), h.segments()]).toEqual([[0, 6, 9], [0]]);
    h.addFunction(conventional().at(sbdf(1, 6, 3, 0)));
    expect([h.busesInUse(0), h.busesInUse(1), h.segments()]).toEqual([[0, 6, 9], [6], [0, 1]]);
  });
  test('a function that is plugged in where one stands takes its place; the order on a bus is that of devfn', () => {
    const h = host(conventional().at(at(0, 3, 0)), conventional().at(at(0, 9, 0)));
    const before = h.functionAt(at(0, 9, 0))!;
    for (const [dev, space] of [
      [9, endpoint()],
      [5, endpoint()],
      [1, endpoint()],
      [20, endpoint()],
    ] as const)
      h.addFunction(space.at(at(0, dev, 0)));
    expect([before.present, h.configRead(at(0, 9, 0), 0, 2)]).toEqual([false, 0x10de]);
    expect(h.functions().map((fn) => fn.devfn >>> 3)).toEqual([1, 3, 5, 9, 20]);
  });
  test('a write of four or eight bytes reaches the region that lies there, at its own offset', () => {
    const h = host(
      conventional()
        .set(0x10, 4, 0xfea0_0000)
        .set(0x14, 4, 0xfeb0_0000)
        .at(at(0, 9, 0), { barBytes: [0x10_0000, 0x1000] }),
    );
    const fn = h.functionAt(at(0, 9, 0))!;
    const seen: number[][] = [];
    const region = (n: number) => ({
      read32: (offset: number) => offset,
      write32: (offset: number, value: number) => void seen.push([n, offset, value]),
      write64: (offset: number, lo: number, hi: number) => void seen.push([n, offset, lo, hi]),
    });
    fn.regions = [region(0), region(1)];
    const window = new BarWindow(h, 0xfea0_0000);
    window.write32(0x88, 5);
    window.write64(0x10_0ff8, 6, 7);
    window.write32(0x10_1000, 8);
    expect(seen).toEqual([
      [0, 0x88, 5],
      [1, 0xff8, 6, 7],
    ]);
  });
  test('a write of four or eight bytes to ECAM is one or two config writes', () => {
    const bars = endpoint().set(0x10, 4, 0xfea0_0000).set(0x14, 4, 0xfeb0_0000);
    const h = host(bars.at(at(3, 2, 1), { barBytes: [4096, 4096] }));
    const window = new EcamWindow(h, 0);
    const offset = (3 << 20) | (2 << 15) | (1 << 12);
    window.write64(offset + 0x10, 0x1234_5000, 0x8765_4000);
    expect([0x10, 0x14].map((reg) => h.configRead(at(3, 2, 1), reg, 4))).toEqual([0x1234_5000, 0x8765_4000]);
    window.write32(offset + 4, 0);
    expect(h.configRead(at(3, 2, 1), 4, 2)).toBe(0);
    window.write64(offset + 4, 7, 0x10);
    expect([4, 0xc].map((reg) => h.configRead(at(3, 2, 1), reg, 1))).toEqual([7, 0]);
    window.write64(offset + 8, 0, 0x10);
    expect(h.configRead(at(3, 2, 1), 0xc, 1)).toBe(0x10);
  });
  test('a write is one event while somebody listens, a read is none', () => {
    const h = host(conventional().at(at(0, 2, 0)));
    const seen: unknown[] = [];
    const detach = h.events.attach((e) =>
      seen.push(e.kind === 'config' ? [e.sbdf, e.write, e.offset, e.size, e.value] : e),
    );
    h.configRead(at(0, 2, 0), 4, 2);
    h.configWrite(at(0, 2, 0), 4, 2, 7);
    detach();
    h.configWrite(at(0, 2, 0), 4, 2, 0);
    expect(seen).toEqual([[at(0, 2, 0), true, 4, 2, 7]]);
  });
});

describe('resets', () => {
  const gpu = (): Space =>
    endpoint(0x1000_0000).cap(5, 0x90, [0x1_0000, 0xfee0_0000, 0x41]).set(0x10, 4, 0xfd00_0000);
  test('a function level reset clears command, base addresses and MSI, and keeps Max_Payload_Size', () => {
    const h = host(gpu().at(at(0, 1, 0)));
    h.configWrite(at(0, 1, 0), 0x48, 2, 0x8000 | 0x20);
    const r = (offset: number, size: number): number => h.configRead(at(0, 1, 0), offset, size);
    expect([r(4, 2), r(0x10, 4), r(0x92, 2), r(0x94, 4)]).toEqual([0, 0, 0, 0]);
    // Relaxed ordering, no snoop and 512 byte reads are the defaults; the start bit reads zero.
    expect(r(0x48, 2)).toBe(0x2830);
    expect(r(0, 4)).toBe(0x2484_10de);
  });
  test('a function without FLR in DEVCAP ignores the bit', () => {
    const h = host(endpoint(0).at(at(0, 1, 0)));
    h.configWrite(at(0, 1, 0), 0x48, 2, 0x8000);
    expect(h.configRead(at(0, 1, 0), 4, 2)).toBe(7);
  });
  test('conventional FLR works through the Advanced Features capability', () => {
    const h = host(
      conventional()
        .cap(0x13, 0x60, [0x0306_0000, 0])
        .at(at(0, 1, 0)),
    );
    h.configWrite(at(0, 1, 0), 0x64, 1, 1);
    expect(h.configRead(at(0, 1, 0), 4, 2)).toBe(0);
  });
  test.each([
    [0, 0],
    [8, 7],
  ])('D3hot to D0 with No_Soft_Reset %i leaves command %i', (noSoftReset, command) => {
    const h = host(
      conventional()
        .cap(1, 0x60, [0, noSoftReset])
        .at(at(0, 1, 0)),
    );
    h.configWrite(at(0, 1, 0), 0x64, 2, 3);
    expect(h.configRead(at(0, 1, 0), 4, 2)).toBe(7);
    h.configWrite(at(0, 1, 0), 0x64, 2, 0);
    expect(h.configRead(at(0, 1, 0), 4, 2)).toBe(command);
  });
  test('a dump that caught a function in D3hot boots in D0', () => {
    const h = host(
      conventional()
        .cap(1, 0x60, [0, 3])
        .at(at(0, 1, 0)),
    );
    expect(h.configRead(at(0, 1, 0), 0x64, 2)).toBe(0);
  });
  test('while a bridge holds its secondary bus in reset nobody answers there; afterwards all state is gone', () => {
    const h = host(port(4, 1).at(at(0, 1, 0)), gpu().at(at(1, 0, 0)));
    h.configWrite(at(0, 1, 0), 0x3e, 2, 0x40);
    expect(h.configRead(at(1, 0, 0), 0, 2)).toBe(0xffff);
    h.configWrite(at(0, 1, 0), 0x3e, 2, 0);
    expect([h.configRead(at(1, 0, 0), 0, 2), h.configRead(at(1, 0, 0), 4, 2)]).toEqual([0x10de, 0]);
  });
  test('sticky registers survive a reset', () => {
    const h = host(
      endpoint(0x1000_0000)
        .ext(1, 0x100, [0, 0, 0, 0, 0, 0])
        .at(at(0, 1, 0)),
    );
    h.configWrite(at(0, 1, 0), 0x108, 4, 0x1234);
    h.configWrite(at(0, 1, 0), 0x48, 2, 0x8000);
    expect(h.configRead(at(0, 1, 0), 0x108, 4)).toBe(0x1234);
  });
});

describe('SR-IOV', () => {
  const pf = (): PciFunctionInit =>
    endpoint()
      .cap(0x11, 0x80, [0x8004_0000, 0, 0])
      .ext(0x10, 0x120, [0, 0, 0, 0x0004_0004, 0, 0x0001_0002, 0x0010_0000, 0x553, 1, 0, 0, 0, 0, 0, 0, 0])
      .at(at(3, 0, 0));
  test('VF Enable shows NumVFs functions at First VF Offset and stride, without ids of their own', () => {
    const h = host(pf());
    h.configWrite(at(3, 0, 0), 0x130, 2, 2);
    h.configWrite(at(3, 0, 0), 0x128, 2, 1);
    const seen = [1, 2, 3, 4].map((devfn) => h.configRead(at(3, 0, 0) + devfn, 0, 4));
    expect(seen).toEqual([0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff]);
    expect([1, 2, 3, 4].map((devfn) => h.functionAt(at(3, 0, 0) + devfn)?.device)).toEqual([
      undefined,
      0x10,
      0x10,
      undefined,
    ]);
    const vf = h.functionAt(at(3, 0, 2))!;
    // MSI-X as the physical function has it, but not enabled.
    expect([vf.vendor, vf.rid, vf.classCode, h.configRead(at(3, 0, 2), 0x82, 2)]).toEqual([
      0x10de, 0x302, 0x030000, 4,
    ]);
    expect([h.configRead(at(3, 0, 2), 0x34, 1), h.configRead(at(3, 0, 2), 0x41, 1)]).toEqual([0x40, 0x80]);
    h.configWrite(at(3, 0, 0), 0x128, 2, 0);
    expect([h.functionAt(at(3, 0, 2)), vf.present]).toEqual([undefined, false]);
  });
  test('a function has its own PCI Express, MSI-X and power management, class and subsystem of its parent', () => {
    const rich = endpoint()
      .set(8, 1, 0x42)
      .set(0x2c, 4, 0x5678_1234)
      .cap(5, 0x80, [0x0080_0000, 0xfee0_1000, 0, 0x41])
      .cap(0x11, 0x90, [0xc004_0000, 0x2001, 0x3001])
      .cap(3, 0xa0, [0, 0])
      .cap(1, 0xb0, [0x0003_0000, 0x8])
      .ext(0xe, 0x100, [0, 0x0202])
      .ext(1, 0x110, Array(17).fill(0))
      .ext(0x10, 0x160, [0, 0, 0, 0x0004_0004, 0, 0x0001_0002, 0x0010_0000, 0x553, 1, 0, 0, 0, 0, 0, 0, 0]);
    rich.set(0x42, 2, 0x92);
    const h = host(rich.at(at(3, 0, 0)));
    h.configWrite(at(3, 0, 0), 0x170, 2, 1);
    h.configWrite(at(3, 0, 0), 0x168, 2, 1);
    const vf = h.functionAt(at(3, 0, 2))!;
    expect(vf.config.capabilities.map((c) => [c.id, c.offset])).toEqual([
      [0x10, 0x40],
      [0x11, 0x90],
      [1, 0xb0],
      [0xe, 0x100],
    ]);
    const word = (reg: number): number => h.configRead(at(3, 0, 2), reg, 4);
    expect([4, 8, 0x2c].map(word)).toEqual([0x0010_0000, 0x0300_0042, 0x5678_1234]);
    // Version 2, integrated in the root complex as its parent; device control as dumped.
    expect([0x40, 0x48].map(word)).toEqual([0x0092_9010, 0x2810]);
    expect([0x90, 0x94, 0x98, 0xb0, 0xb4].map(word)).toEqual([0x0004_b011, 0x2001, 0x3001, 0x0003_0001, 8]);
    // ARI ends its list.
    expect([0x100, 0x104].map(word)).toEqual([0x0001_000e, 0x0202]);
    expect([0x10, 0x80, 0xa0, 0x110, 0xffc].map(word)).toEqual([0, 0, 0, 0, 0]);
  });
});

test('a CardBus bridge has one register, its capabilities at 14h and a bus behind it', () => {
  const yenta = new Space(256)
    .ids(0x104c, 0xac56, 0x060700, 2)
    .command(7)
    .bus(0, 3, 4)
    .set(6, 2, 0x10)
    .words({ 16: 0xfe00_0000, 20: 0xa0, 160: 0x0003_0001, 164: 0 });
  const h = host(yenta.at(at(0, 0x1e, 0), { barBytes: [4096, 4096] }), conventional().at(at(3, 0, 0)));
  const bridge = h.functionAt(at(0, 0x1e, 0))!;
  expect(bridge.config.bars.map((b) => [b.index, b.kind, b.bytes])).toEqual([[0, 'mem32', 4096]]);
  expect(bridge.config.capabilities.map((c) => [c.id, c.offset])).toEqual([[1, 0xa0]]);
  expect([bridge.secondaryBus, bridge.subordinateBus, h.busesInUse(0)]).toEqual([3, 4, [0, 3]]);
  h.configWrite(at(0, 0x1e, 0), 0x18, 4, 0x0009_0900);
  expect(h.configRead(at(9, 0, 0), 0, 2)).toBe(0x8086);
});
