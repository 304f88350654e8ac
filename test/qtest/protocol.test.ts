/** The text protocol and QMP (QEMU docs/devel/testing/qtest). */
import { describe, expect, test } from 'vitest';
import { QtestServer } from '../../src/qtest/protocol.js';
import { QmpServer } from '../../src/qtest/qmp.js';
import { BoardRig } from './board_rig.js';

describe('qtest commands', () => {
  const rig = new BoardRig('-M q35');
  test.each([
    ['endianness', 'little'],
    ['writeb 0x1000 0x1ff', 'OK'],
    ['readb 0x1000', '0x00000000000000ff'],
    ['writew 0x1000 0x1234', 'OK'],
    ['readw 0x1000', '0x0000000000001234'],
    ['writel 4096 0x89abcdef', 'OK'],
    ['readl 0x1000', '0x0000000089abcdef'],
    ['writeq 0x1001 0x0123456789abcdef', 'OK'],
    ['readq 0x1001', '0x0123456789abcdef'],
    ['read 0x1000 0xa', '0xefefcdab896745230100'],
    ['write 0x2000 3 0xa1b2', 'OK'],
    ['read 0x2000 3', '0xa1b200'],
    ['memset 0x2000 2 0x7f', 'OK'],
    ['read 0x1fff 4', '0x007f7f00'],
    ['b64write 0x3000 4 AAECAw==', 'OK'],
    ['read 0x3000 4', '0x00010203'],
    ['b64read 0x3000 5', 'AAECAwA='],
    ['outl 0xcf8 0x80000000', 'OK'],
    ['inl 0xcfc', '0x29c08086'],
    ['inw 0xcfe', '0x29c0'],
    ['inb 0xcff', '0x0029'],
    ['inb 0x70', '0x00ff'],
    ['clock_step 5', '5'],
    ['clock_set 9', '9'],
    ['clock_step', '9'],
    ['irq_intercept_in /machine', 'OK'],
    ['readq 0xd0000000', '0x0000000000000000'],
    ['frob', "FAIL Unknown command 'frob'"],
    ['readb zero', 'FAIL bad number'],
    ['readb 0x11111111111111111', 'FAIL bad number'],
    ['inb 0x10000', 'FAIL no such port'],
    ['read 0x0 0x7fffffff', 'FAIL too long'],
  ])('%s gives %s', (line, reply) => {
    expect(rig.say(line)).toBe(reply);
  });

  test('a command may arrive in pieces, and several at once', () => {
    const server = new QtestServer(new BoardRig('-M q35').board);
    expect(server.receive('endian')).toBe('');
    expect(server.receive('ness\nreadb 0x0\nread')).toBe('OK little\nOK 0x0000000000000000\n');
  });

  test('clock_step without a number goes to the end of a DMA', () => {
    const edu = new BoardRig('-M q35 -vga none -device edu');
    edu.configWrite(8, 0x10, 'l', 0xe000_0000);
    edu.configWrite(8, 0x04, 'w', 6);
    edu.write('q', 0x10_0000, 0x1122_3344_5566_7788n);
    for (const [at, value] of [
      [0x80, 0x10_0000],
      [0x88, 0x40000],
      [0x90, 8],
      [0x98, 1],
    ] as const)
      edu.write('q', 0xe000_0000 + at, value);
    expect(edu.read('q', 0xe000_0098)).toBe(1n);
    expect(edu.say('clock_step')).toBe('100000000');
    expect(edu.read('q', 0xe000_0098)).toBe(0n);
    edu.write('q', 0xe000_0080, 0x40000);
    edu.write('q', 0xe000_0088, 0x10_0100);
    edu.write('q', 0xe000_0098, 3);
    edu.say('clock_step 100000000');
    expect(edu.read('q', 0x10_0100)).toBe(0x1122_3344_5566_7788n);
  });
});

describe('QMP', () => {
  const ask = (text: string): unknown[] => new QmpServer(undefined).receive(text);
  test('objects are answered without line ends between them, in order, with their ids', () => {
    expect(ask('{"execute":"qmp_capabilities"}{"execute":"query-status","id":7}')).toEqual([
      { return: {} },
      { id: 7, return: { running: true, singlestep: false, status: 'running' } },
    ]);
  });
  test('a brace in a string ends nothing, and a half object waits', () => {
    const server = new QmpServer(undefined);
    expect(server.receive('{"execute": "a}b{", "id"')).toEqual([]);
    expect(server.receive(': 1}')).toEqual([
      { id: 1, error: { class: 'CommandNotFound', desc: 'The command a}b{ has not been found' } },
    ]);
  });
  test('query-machines has a machine with the alias q35', () => {
    const [reply] = ask("{ 'execute': 'query-machines' }") as [{ return: { alias?: string }[] }];
    expect(reply.return.some((m) => m.alias === 'q35')).toBe(true);
  });
  test('qom-list-types names the devices of the tests', () => {
    const [reply] = ask('{"execute":"qom-list-types","arguments":{"implements":"device"}}') as [
      { return: { name: string }[] },
    ];
    expect(reply.return.map((t) => t.name)).toEqual(
      expect.arrayContaining(['intel-iommu', 'iommu-testdev', 'edu', 'VGA', 'ioh3420', 'pcie-root-port']),
    );
  });
  test('nonsense is a GenericError and the next command is heard', () => {
    const server = new QmpServer(undefined);
    expect(server.receive('{"execute": }')).toEqual([
      { error: { class: 'GenericError', desc: 'JSON parse error' } },
    ]);
    expect(server.receive('{"execute":"quit"}')).toEqual([{ return: {} }]);
    expect(server.quit).toBe(true);
  });
});

test('CF8 bits 1:0 are hardwired to zero where the quirk cf8-low-bits is off', () => {
  const strict = new BoardRig('-M q35,as-qemu=off');
  expect(strict.configRead(0, 2, 'w')).toBe(0x8086);
  expect(new BoardRig('-M q35').configRead(0, 2, 'w')).toBe(0x29c0);
});
