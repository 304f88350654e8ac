import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/assert.js';
import { sbdf } from '../../src/base/sbdf.js';
import { readAcpiTable } from '../../src/inputs/acpi.js';
import { defaultE820, ramRanges, readE820 } from '../../src/inputs/e820.js';
import { readHost, readHostFile } from '../../src/inputs/host.js';
import { hostJsonSchema } from '../../src/inputs/host_json.js';
import { parseDmar } from '../../src/iommu/format/dmar.js';
import { parseIvrs } from '../../src/iommu/format/ivrs.js';
import { ROOT } from '../support/built.js';
import { conventional, endpoint, port, type Space } from './pci_helpers.js';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const complaint = (run: () => unknown): string => {
  try {
    run();
  } catch (e) {
    if (e instanceof InputError) return e.message;
    throw e;
  }
  return 'no error';
};
const listing = (address: string, space: Space): string => {
  let text = `${address} E: X Y\n`;
  for (let at = 0; at < space.bytes.length; at += 16) {
    const row = [...space.bytes.subarray(at, at + 16)].map((b) => b.toString(16).padStart(2, '0'));
    text += `${at.toString(16).padStart(2, '0')}: ${row.join(' ')}\n`;
  }
  return `${text}\n`;
};
const fixture = (name: string): Uint8Array => fs.readFileSync(path.join(ROOT, 'fixtures/q35', name));

describe('ACPI tables', () => {
  const table = (): Uint8Array => new Uint8Array(fixture('IVRS'));
  test.each([
    [
      'a wrong length',
      (t: Uint8Array) => t.subarray(0, 200),
      'offset 0x4: the table says 236 bytes, the file has 200',
    ],
    [
      'another table',
      (t: Uint8Array) => t.fill(0x41, 0, 4),
      'offset 0x0: no IVRS table: its signature is "AAAA"',
    ],
    [
      'a short file',
      (t: Uint8Array) => t.subarray(0, 20),
      'offset 0x14: the file ends inside the 36 byte header',
    ],
    [
      'a flipped bit',
      (t: Uint8Array) => t.fill(t[100]! ^ 1, 100, 101),
      'offset 0x9: the bytes add up to 0x1 instead of 0: the checksum is wrong',
    ],
    ['an empty file', () => new Uint8Array(0), 'offset 0x0: no IVRS table: its signature is ""'],
  ])('%s is refused with its offset', (_name, spoil, problem) => {
    expect(complaint(() => readAcpiTable('IVRS', 'IVRS', spoil(table())))).toBe(
      `IVRS: ${problem}; copy /sys/firmware/acpi/tables/IVRS again`,
    );
  });
  test('acpidump, hexdump -C and xxd print the same table', () => {
    const t = table();
    const rows = (width: number, group: number, gap: string, text: string): string => {
      let out = '';
      for (let at = 0; at < t.length; at += 16) {
        const hex = [...t.subarray(at, at + 16)].map((b) => b.toString(16).padStart(2, '0'));
        const groups = hex.flatMap((_, i) => (i % group === 0 ? [hex.slice(i, i + group).join('')] : []));
        out += `${at.toString(16).padStart(width, '0')}${gap}${groups.join(' ')}  ${text}\n`;
      }
      return out;
    };
    const acpidump = `FACP @ 0x00000000\n    0000: 46 41 43 50  FACP\n\nIVRS @ 0x00000000000000\n${rows(4, 1, ': ', 'ab cd').replace(/^/gm, '    ')}\nAPIC @ 0x0\n    0000: 41  A\n`;
    for (const text of [acpidump, rows(8, 2, ': ', 'abcd'), rows(8, 1, '  ', '|ab cd|')]) {
      expect(Buffer.compare(readAcpiTable('x', 'IVRS', bytesOf(text)), t)).toBe(0);
    }
    expect(complaint(() => readAcpiTable('x', 'DMAR', bytesOf('no table here at all\n')))).toBe(
      'x: text without a DMAR table in hex; copy /sys/firmware/acpi/tables/DMAR',
    );
  });
});

describe('memory maps', () => {
  const usable = (start: number, end: number) => ({ start, end, type: 'usable' });
  test.each([
    ['Xen', '(XEN)  [0000000000100000, 000000007ffd7fff] (usable)'],
    ['an older Xen', '(XEN)  0000000000100000 - 000000007ffd8000 (usable)'],
    ['Linux', '[    0.000000] BIOS-e820: [mem 0x0000000000100000-0x000000007ffd7fff] usable'],
  ])('what %s prints is read, among other lines', (_name, line) => {
    const text = `[    0.000000] hello\n${line}\n[    0.1] e820: update [mem 0x0-0xfff] usable ==> reserved\n`;
    expect(readE820('e820', bytesOf(text))).toEqual([usable(0x10_0000, 0x7ffd_8000)]);
  });
  test('types: the four that Xen tells apart, everything else is reserved', () => {
    const line = (i: number, type: string): string =>
      `(XEN)  [000000000000${i}000, 000000000000${i}fff] (${type})\n`;
    const types = ['usable', 'ACPI data', 'ACPI NVS', 'unusable', 'reserved', 'type 12'];
    const map = readE820('e820', bytesOf(types.map((t, i) => line(i, t)).join('')));
    expect(map.map((e) => e.type)).toEqual([...types.slice(0, 5), 'reserved']);
  });
  test.each([
    [
      '(XEN)  [0000000000002000, 0000000000000fff] (usable)',
      'line 1: the range ends before it starts; copy the map as the machine prints it',
    ],
    [
      '(XEN)  [0000000000000000, ffffffffffffffff] (usable)',
      'line 1: an address above 52 bits; copy the map as the machine prints it',
    ],
    [
      '(XEN)  [0000000000000000, 0000000000001fff] (usable)\n(XEN)  [0000000000001000, 0000000000002fff] (reserved)',
      'line 2: this range overlaps another one; copy the map as the machine prints it',
    ],
    [
      'nothing',
      'no usable memory range in it; copy the lines under `Xen-e820 RAM map:` of `xl dmesg`, or the BIOS-e820 lines of `dmesg`',
    ],
  ])('%s is refused', (text, problem) => {
    expect(complaint(() => readE820('e820', bytesOf(text)))).toBe(`e820: ${problem}`);
  });
  test('memory answers in usable ranges and in what firmware reserves beside them, not in registers', () => {
    const ranges = ramRanges(readE820('e820', fixture('e820')));
    // [0, 640K), [960K, 2G) with the ACPI tables, and 1 GiB above 4 GiB; neither ECAM nor the ROM at 4 GiB - 256K.
    expect(ranges).toEqual([
      { start: 0, count: 0xa0 },
      { start: 0xf0, count: 0x8_0000 - 0xf0 },
      { start: 0x10_0000, count: 0x4_0000 },
    ]);
  });
  test('the default map has the memory that was asked for, but for the pages that firmware keeps', () => {
    const bytes = (mib: number): number =>
      defaultE820(mib * 2 ** 20).reduce((n, e) => n + (e.type === 'usable' ? e.end - e.start : 0), 0);
    // 320 KiB of video memory and option ROMs, 64 KiB of BIOS, 1 KiB of its data, 256 KiB of tables.
    for (const mib of [512, 2048, 16_384]) expect(mib * 1024 - bytes(mib) / 1024).toBe(320 + 64 + 1 + 256);
  });
});

describe('a dump alone', () => {
  test('an Intel machine gets 16 GiB and one VT-d unit in charge of each segment', () => {
    const dump = listing('00:00.0', conventional()) + listing('0002:00:01.0', endpoint());
    const { host, notes } = readHostFile('machines/mine.txt', bytesOf(dump));
    const dmar = parseDmar(host.dmar!);
    expect(dmar.structures).toMatchObject([
      { kind: 'drhd', flags: 1, segment: 0, base: 0xfed9_0000 },
      { kind: 'drhd', flags: 1, segment: 2, base: 0xfed9_1000 },
    ]);
    expect(readAcpiTable('DMAR', 'DMAR', host.dmar!)).toEqual(host.dmar);
    expect([host.name, host.cpu.vendor, host.ivrs, host.dom0.memoryBytes]).toEqual([
      'mine.txt',
      'intel',
      undefined,
      2 ** 32,
    ]);
    expect(notes).toEqual([
      'no DMAR: one VT-d unit that covers each segment is assumed',
      'no e820 file: a usual map of 16384 MiB is assumed',
    ]);
  });
  test('an AMD machine gets an IVRS with the alias of each conventional function, and an IOMMU function if it shows none', () => {
    const bridge = port(7, 9).bus(8, 9, 9);
    const dump =
      listing('00:00.0', conventional().ids(0x1022, 0x1450, 0x060000)) +
      listing('00:05.0', port(4, 8, 9)) +
      listing('08:00.0', bridge) +
      listing('09:02.0', conventional());
    const { host } = readHostFile('amd.txt', bytesOf(dump));
    const ivrs = parseIvrs(readAcpiTable('IVRS', 'IVRS', host.ivrs!));
    expect(ivrs.blocks).toMatchObject([
      { kind: 'ivhd', type: 0x10, deviceId: 2, capOffset: 0x40, base: 0xfeb8_0000 },
    ]);
    const block = ivrs.blocks[0]!;
    expect('entries' in block && block.entries.map((e) => [e.type, e.id, e.usedId])).toEqual([
      [3, 0, undefined],
      [4, 0xffff, undefined],
      [0x42, 0x910, 0x900],
      [0x48, 0, 0xa0],
    ]);
    const iommu = host.functions.find((f) => f.sbdf === 2)!;
    expect([host.cpu.vendor, iommu.config[0x0b], iommu.config[0x0a], iommu.config[0x40]]).toEqual([
      'amd',
      8,
      6,
      0x0f,
    ]);
  });
});

describe('a folder', () => {
  const folder = (files: Record<string, string | Uint8Array>) =>
    readHost(
      'hosts/mine',
      new Map(Object.entries(files).map(([k, v]) => [k, typeof v === 'string' ? bytesOf(v) : v])),
    );
  const dump = listing('00:00.0', conventional()) + listing('00:02.0', endpoint());
  test('the tables, the map and host.json count; unknown files do not', () => {
    const { host, notes } = folder({
      'lspci.txt': dump,
      IVRS: fixture('IVRS'),
      e820: fixture('e820'),
      'README.md': 'x',
      'host.json': JSON.stringify({
        cpu: { count: 2, mhz: 2596.126, hwCaps: ['1fcbf3fd'] },
        amdFeatures: '0x25bf732fa2295afe',
        drivers: { '00:02.0': 'nvidia' },
        dom0: { memoryMiB: 1024, pciback: 'builtin', files: { '/root/a.cfg': 'x' } },
      }),
    });
    expect(notes).toEqual([]);
    expect([
      host.cpu.vendor,
      host.cpu.khz,
      host.cpu.hwCaps,
      host.amdFeatures,
      host.functions[1]!.driver,
    ]).toEqual(['amd', 2_596_126, [0x1fcb_f3fd], [0xa229_5afe, 0x25bf_732f], 'nvidia']);
    expect([host.dom0.memoryBytes, host.dom0.vcpus, host.dom0.files]).toEqual([
      2 ** 30,
      2,
      { '/root/a.cfg': 'x' },
    ]);
  });
  test.each([
    [{}, 'hosts/mine/lspci.txt: no such file; put the output of `sudo lspci -vvnnxxxx` there'],
    [{ 'host.json': '{' }, 'hosts/mine/host.json: no JSON: '],
    [{ 'host.json': '{"cpus": 4}' }, 'hosts/mine/host.json: Unrecognized key: "cpus"; see docs/host.md'],
    [{ 'host.json': '{"cpu": {"count": 0}}' }, 'hosts/mine/host.json: cpu.count: Too small'],
    [{ 'host.json': '{"dom0": {"files": {"../x": "y"}}}' }, 'hosts/mine/host.json: dom0.files.../x: '],
    [
      { 'host.json': '{"dom0": {"files": {"/etc/../../x": "y"}}}' },
      'hosts/mine/host.json: dom0.files./etc/../../x: ',
    ],
    [
      { 'host.json': '{"drivers": {"00:03.0": "x"}}' },
      'hosts/mine/host.json: drivers.00:03.0: no such function in the dump; ',
    ],
    [{ 'host.json': '{"guests": {"__proto__": {"a": 1}}}' }, 'no error'],
    [
      { IVRS: fixture('IVRS'), DMAR: fixture('DMAR') },
      'hosts/mine: both a DMAR and an IVRS; keep the one of this machine',
    ],
    [{ DMAR: new Uint8Array(10) }, 'hosts/mine/DMAR: offset 0x0: no DMAR table: '],
  ])('%#: one line says what is wrong', (files, problem) => {
    const given = Object.keys(files).length === 0 ? {} : { 'lspci.txt': dump, ...files };
    const message = complaint(() => folder(given));
    expect([message.startsWith(problem), message]).toEqual([true, message]);
    expect(message.split('\n')).toHaveLength(1);
    expect(Object.prototype).not.toHaveProperty('a');
  });
  test('docs/host.schema.json is the schema that is enforced', () => {
    expect(fs.readFileSync(path.join(ROOT, 'docs/host.schema.json'), 'utf8')).toBe(hostJsonSchema());
  });
});

describe('the example host', () => {
  const dir = path.join(ROOT, 'examples/gpu-passthrough/host');
  const example = () =>
    readHost(dir, new Map(fs.readdirSync(dir).map((f) => [f, fs.readFileSync(path.join(dir, f))])));
  test('is an Intel machine with 16 GiB and everything given', () => {
    const { host, notes } = example();
    const mib = ramRanges(host.e820).reduce((n, r) => n + r.count, 0) / 256;
    expect([notes, host.cpu.vendor, host.cpu.hap, Math.round(mib), host.functions.length]).toEqual([
      [],
      'intel',
      true,
      16_384,
      30,
    ]);
    expect(parseDmar(host.dmar!).structures).toMatchObject([{ kind: 'drhd', flags: 1, base: 0xfed9_0000 }]);
  });
  test('has an NVIDIA GPU with audio behind a root port, both bound, and nothing else changed its place', () => {
    const { host } = example();
    const at = (fn: number) => host.functions.find((f) => f.sbdf === sbdf(0, 1, 0, fn))!;
    expect([at(0).driver, at(1).driver, at(0).name]).toEqual([
      'nouveau',
      'snd_hda_intel',
      'NVIDIA Corporation GA104 [GeForce RTX 3070]',
    ]);
    expect(at(0).barBytes?.slice(0, 7)).toEqual([
      2 ** 24,
      2 ** 28,
      undefined,
      2 ** 25,
      undefined,
      128,
      2 ** 19,
    ]);
  });
});
