import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/assert.js';
import { formatSbdf, sbdf } from '../../src/base/sbdf.js';
import type { FunctionDescription } from '../../src/inputs/host_description.js';
import { readLspci } from '../../src/inputs/lspci.js';
import { endpoint } from './pci_helpers.js';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const read = (text: string) => readLspci('dump.txt', bytesOf(text));
const hex = (config: Uint8Array): string =>
  Array.from({ length: config.length / 16 }, (_, i) => {
    const row = [...config.subarray(16 * i, 16 * i + 16)].map((b) => b.toString(16).padStart(2, '0'));
    return `${(16 * i).toString(16).padStart(2, '0')}: ${row.join(' ')}\n`;
  }).join('');
const config64 = (vendor = 0x8086, device = 0x100e): Uint8Array => {
  const c = new Uint8Array(64);
  new DataView(c.buffer).setUint32(0, device * 65536 + vendor, true);
  return c;
};
const block = (header: string, details = '', config = config64()): string =>
  `${header}\n${details}${hex(config)}\n`;
/** The one line a user sees. */
const complaint = (text: string): string => {
  try {
    read(text);
  } catch (e) {
    if (e instanceof InputError) return e.message;
    throw e;
  }
  return 'no error';
};
const AGAIN = 'take the dump again with `sudo lspci -vvnnxxxx > FILE`';

describe('what lspci prints', () => {
  test.each([
    ['00:02.0 Ethernet controller: Intel Corporation 82540EM (rev 03)', 'Intel Corporation 82540EM'],
    [
      '00:02.0 Ethernet controller [0200]: Intel Corporation 82540EM [8086:100e] (rev 03)',
      'Intel Corporation 82540EM',
    ],
    [
      '0000:00:02.0 PCI bridge [0604]: Red Hat, Inc. QEMU PCIe Root port [1b36:000c] (prog-if 00 [Normal decode])',
      'Red Hat, Inc. QEMU PCIe Root port',
    ],
    [
      '00:02.0 VGA compatible controller: NVIDIA Corporation GA104 [GeForce RTX 3070] (rev a1)',
      'NVIDIA Corporation GA104 [GeForce RTX 3070]',
    ],
    ['00:02.0 0200: 8086:100e (rev 03)', undefined],
    ['00:02.0 Class 0200: Device 8086:100e (rev 03)', undefined],
    ['00:02.0 Unclassified device [00ff]: Device [1234:11e8] (rev 10)', undefined],
    ['00:02.0 PCI bridge: Red Hat, Inc. Device 000e', undefined],
  ])('the name in `%s` is %s', (header, name) => {
    const { functions, notes } = read(block(header));
    expect([functions[0]!.sbdf, functions[0]!.name, notes]).toEqual([0x10, name, []]);
  });
  test('driver, interrupt and sizes come from the indented lines, and from one level of indentation alone', () => {
    const details = `\tFlags: bus master, fast devsel, latency 0, IRQ 16
\tInterrupt: pin A routed to IRQ 21
\tRegion 0: Memory at fe640000 (32-bit, non-prefetchable) [size=128K]
\tRegion 2: I/O ports at 4000 [size=32]
\tExpansion ROM at fe600000 [disabled] [size=256K]
\tCapabilities: [120 v1] Single Root I/O Virtualization (SR-IOV)
\t\tRegion 3: Memory at 00000000fe404000 (64-bit, non-prefetchable) [size=16K]
\tKernel driver in use: e1000e
\tKernel modules: nothing
`;
    const fn = read(block('00:02.0 Ethernet controller: X Y', details)).functions[0]!;
    expect([fn.driver, fn.irq, fn.barBytes]).toEqual([
      'e1000e',
      21,
      [131_072, undefined, 32, undefined, undefined, undefined, 262_144],
    ]);
  });
  test('plain -v has no region numbers: the address tells which register it is', () => {
    const config = endpoint().set(0x14, 4, 0xfd00_000c).set(0x18, 4, 1).bytes;
    const details = '\tMemory at 1fd000000 (64-bit, prefetchable) [size=256M]\n';
    const fn = read(block('00:02.0 Display: X Y', details, config)).functions[0]!;
    expect(fn.barBytes?.[1]).toBe(2 ** 28);
  });
  test('sizes that nobody tells end before the next register of the segment', () => {
    const a = config64();
    const b = config64();
    new DataView(a.buffer).setUint32(0x10, 0xfd88_0000, true);
    new DataView(b.buffer).setUint32(0x10, 0xfd88_4000, true);
    const { functions } = read(block('00:01.0 E: X Y', '', a) + block('00:02.0 E: X Y', '', b));
    expect(functions.map((f) => f.barBytes?.[0])).toEqual([0x4000, 0x4000]);
  });
  test('CRLF, a byte order mark of PowerShell, and no newline at the end are all the same', () => {
    const text = block('00:02.0 E: X Y') + block('00:03.0 E: X Y').trimEnd();
    const plain = read(text).functions;
    expect(read(text.replaceAll('\n', '\r\n')).functions).toEqual(plain);
    const utf16 = new Uint8Array(2 + 2 * text.length);
    utf16.set([0xff, 0xfe]);
    for (let i = 0; i < text.length; i++) utf16[2 + 2 * i] = text.charCodeAt(i);
    expect(readLspci('dump.txt', utf16).functions).toEqual(plain);
    expect(plain).toHaveLength(2);
  });
});

describe('what is tolerated, and said', () => {
  const good = block('00:02.0 E: X Y');
  test.each([
    [
      'functions without bytes',
      `00:01.0 E: X Y\n\tFlags: x\n${good}`,
      'line 1: 00:01.0 has no bytes and is left out',
    ],
    [
      'domains that Xen cannot name',
      `${block('10000:e0:06.0 E: X Y')}${good}`,
      'line 1: 10000:e0:06.0 is in a domain that Xen cannot name and is left out',
    ],
    [
      'functions that read all ones',
      `${block('01:00.0 E: X Y (rev ff)', '', new Uint8Array(64).fill(255))}${good}`,
      'line 1: 01:00.0 answers all ones (it sleeps or is gone) and is left out',
    ],
    ['a function listed again', `${good}${good}`, 'line 7: 00:02.0 is listed again'],
  ])('%s', (_name, text, note) => {
    const { functions, notes } = read(text);
    expect([functions.map((f) => formatSbdf(f.sbdf)), notes]).toEqual([['0000:00:02.0'], [note]]);
  });
  test('a listing without bytes before one with bytes needs no note', () => {
    expect(read(`00:02.0 E: X Y\n\n${good}`).notes).toEqual([]);
  });
  test('of two listings the one with more bytes counts, and text of either is kept', () => {
    const long = endpoint().bytes;
    const short = long.slice(0, 64);
    const text =
      block('00:02.0 E: X Y', '\tKernel driver in use: nvidia\n', short) +
      block('00:02.0 0300: 10de:2484', '', long);
    const [fn] = read(text).functions;
    expect([fn!.config.length, fn!.driver, fn!.name]).toEqual([4096, 'nvidia', 'X Y']);
  });
  test('a message of pcilib inside a line of bytes is cut out', () => {
    const broken = good.replace(
      /^10: (.{34})(.*)$/m,
      '10: $1pcilib: sysfs_read_vpd: read failed: Connection timed out\n$2',
    );
    const { functions, notes } = read(broken);
    expect(functions[0]!.config).toEqual(config64());
    expect(notes).toEqual(['line 3: a message of pcilib inside the bytes was removed']);
  });
});

describe('what is refused, in one line that names the place and the remedy', () => {
  const good = block('00:02.0 E: X Y');
  test.each([
    [
      'a dump cut in the middle of a byte',
      '00:02.0 E: X Y\n00: 86 80 0',
      'line 2: the line ends in the middle: the dump is cut off',
    ],
    [
      'a dump cut between two bytes',
      '00:02.0 E: X Y\n00: 86 80 0e',
      'line 2: 3 bytes instead of 16: the dump is cut off in 00:02.0',
    ],
    [
      'a dump cut between two lines',
      `00:02.0 E: X Y\n${hex(config64()).split('\n').slice(0, 2).join('\n')}`,
      'line 1: 00:02.0 ends after 32 bytes: the dump is cut off',
    ],
    [
      'a dump cut after an address',
      `${good}00:03.0 Ether`,
      'line 7: 00:03.0 has no bytes: the dump is cut off',
    ],
    [
      'a dump cut inside an address',
      `${good}00:03.`,
      'line 7: the line ends in the middle: the dump is cut off',
    ],
    [
      'a line left out',
      good.replace(/^10: .*\n/m, ''),
      'line 3: bytes at 20 of 00:02.0 where 10 was expected',
    ],
    ['no bytes at all', '00:02.0 E: X Y\n00:03.0 E: X Y\n', '2 PCI functions but no config space bytes'],
    ['no dump', 'hello\n', 'no PCI function in it'],
    ['an empty file', '', 'no PCI function in it'],
  ])('%s', (_name, text, problem) => {
    expect(complaint(text)).toBe(`dump.txt: ${problem}; ${AGAIN}`);
  });
  test('bytes without a function', () => {
    expect(complaint('00: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00\n')).toBe(
      'dump.txt: line 1: config space bytes without a function above them; keep the lines that lspci prints for each function',
    );
  });
  test('two devices at one address', () => {
    expect(complaint(good + block('00:02.0 E: X Y', '', config64(0x10de)))).toBe(
      'dump.txt: line 7: 0000:00:02.0 is listed twice with different ids; give the dump of one machine',
    );
  });
});

describe('any input', () => {
  const pieces = fc.oneof(
    fc.constantFrom(
      '00:02.0 E: X Y\n',
      '0001:ff:1f.7 0200: 8086:1000\n',
      '\tRegion 0: Memory at fe640000 () [size=1T]\n',
    ),
    fc.constantFrom(
      '00: ',
      '10: ff ',
      'ff0:',
      '\r\n',
      '\n',
      'pcilib: x\n',
      '\u0000',
      '[size=99999999999999K]',
      '(rev ',
    ),
    fc.uint8Array({ minLength: 64, maxLength: 64 }).map(hex),
    fc.string(),
  );
  test('ends in a dump or in one InputError of one line', () => {
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 40 }), (parts) => {
        try {
          const { functions } = read(parts.join(''));
          return (
            functions.length > 0 && functions.every((f) => [64, 128, 256, 4096].includes(f.config.length))
          );
        } catch (e) {
          return e instanceof InputError && !e.message.includes('\n') && e.message.length < 400;
        }
      }),
      { numRuns: 500 },
    );
  });
  test('of raw bytes ends likewise', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (data) => {
        try {
          return readLspci('x', data).functions.length > 0;
        } catch (e) {
          return e instanceof InputError;
        }
      }),
    );
  });
  test('long lines of one character take no longer than short ones', () => {
    for (const c of [' ', '0', '\t', '(', ':', '00 ', '[size=']) {
      expect(complaint(c.repeat(300_000)).length).toBeLessThan(400);
      expect(complaint(`00:02.0 ${c.repeat(300_000)}\n`).length).toBeLessThan(400);
    }
  });
  test('what is written as a dump is read back', () => {
    const fn = fc.record({ at: fc.nat(0xffff), config: fc.uint8Array({ minLength: 256, maxLength: 256 }) });
    fc.assert(
      fc.property(fc.uniqueArray(fn, { selector: (f) => f.at, minLength: 1, maxLength: 8 }), (fns) => {
        const alive = fns.filter((f) => f.config[0] !== 0xff || f.config[1] !== 0xff);
        fc.pre(alive.length > 0);
        const text = alive.map((f) => block(`${formatSbdf(f.at)} E: X Y`, '', f.config)).join('');
        const back: FunctionDescription[] = [...read(text).functions];
        const wanted = [...alive].sort((a, b) => a.at - b.at);
        expect(back.map((f) => [f.sbdf, f.config])).toEqual(
          wanted.map((f) => [sbdf(0, 0, 0, 0) + f.at, f.config]),
        );
      }),
      { numRuns: 50 },
    );
  });
});

test('a name of a slot or a driver that no directory can have is passed over', () => {
  for (const name of ['.', '..']) {
    const details = `\tPhysical Slot: ${name}\n\tKernel driver in use: ${name}\n`;
    const dump = read(block('02:00.0 Ethernet controller', details));
    expect([dump.slots, dump.functions[0]!.driver]).toEqual([[], undefined]);
  }
});

test('Physical slots are those of the listing, one for all functions of a card', () => {
  const slot = '\tPhysical Slot: 3-1\n';
  const dump = read(
    block('02:00.0 Ethernet controller', slot) +
      block('02:00.1 Ethernet controller', slot) +
      block('03:04.0 Ethernet controller'),
  );
  expect(dump.slots).toEqual([{ name: '3-1', seg: 0, bus: 2, device: 0 }]);
});
