/** Dumps of machines whose virtual functions were on, and what Linux makes of them after a boot. */
import { describe, expect, test } from 'vitest';
import { Session } from '../../src/cli/session.js';
import { readHostFile } from '../../src/inputs/host.js';
import { readLspci } from '../../src/inputs/lspci.js';
import { endpoint, port, Space } from './pci_helpers.js';

const hex = (config: Uint8Array): string =>
  Array.from({ length: config.length / 16 }, (_, i) => {
    const row = [...config.subarray(16 * i, 16 * i + 16)].map((b) => b.toString(16).padStart(2, '0'));
    return `${(16 * i).toString(16).padStart(2, '0')}: ${row.join(' ')}\n`;
  }).join('');
const block = (header: string, config: Uint8Array, details = ''): string =>
  `${header}\n${details}${hex(config)}\n`;

/**
 * An 82599 with 2 of 8 virtual functions on: VF offset 0x80, stride 2, device 10ed (SR-IOV registers by PCIe 9.3.3).
 * Its own register 0 has 1 MiB; those of the virtual functions are 0 and 3, at 91c00000 and 91d00000.
 */
const physical = (size: 256 | 4096 = 4096, offset = 0x80): Uint8Array =>
  endpoint(0x1000_8000)
    .ids(0x8086, 0x10fb, 0x020000)
    .set(0x10, 4, 0x9000_000c)
    .ext(0x10, 0x160, [
      0,
      2,
      0x19,
      0x0008_0008,
      2,
      0x0002_0000 + offset,
      0x10ed_0000,
      0x553,
      1,
      0x91c0_000c,
      0,
      0,
      0x91d0_000c,
      0,
      0,
      0,
    ])
    .bytes.slice(0, size);
const virtual = (): Uint8Array => {
  const space = new Space(4096).ids(0xffff, 0xffff, 0x020000).command(4);
  return space.cap(0x10, 0x40, [0x0002_0000, 0x1000_8000, 0]).bytes;
};
const PF = '03:00.0 Ethernet controller: Intel Corporation 82599ES (rev 01)';
const VF = (at: string): string =>
  `${at} Ethernet controller: Intel Corporation 82599 Virtual Function (rev 01)`;
const ROOT = block('00:02.0 PCI bridge: Intel Corporation Device 2f04', port(4, 3).bytes);
const DETAILS =
  '\tRegion 0: [virtual] Memory at 91c00000 (64-bit, prefetchable) [size=16K]\n' +
  '\tRegion 3: Memory at 91d00000 (64-bit, prefetchable) [virtual] [size=16K]\n\tKernel driver in use: ixgbevf\n';
const pfText = (size?: 256 | 4096): string =>
  block(
    PF,
    physical(size),
    '\tRegion 0: Memory at 90000000 (64-bit) [size=1M]\n\tKernel driver in use: ixgbe\n',
  );
const both = (details = DETAILS): string =>
  block(VF('03:10.0'), virtual(), details) + block(VF('03:10.2'), virtual());
const read = (text: string) => readLspci('dump.txt', new TextEncoder().encode(text));
const boot = (text: string): Session =>
  new Session(readHostFile('dump.txt', new TextEncoder().encode(text)).host);
const DEVICES = '/sys/bus/pci/devices';
const RESOURCE = `cat ${DEVICES}/0000:03:10.2/resource | grep -v ' 0x0000000000000000$'`;

describe('a dump with virtual functions that are on', () => {
  test('they are no functions of the machine; their physical one keeps name, driver and sizes', () => {
    const { functions, notes } = read(ROOT + pfText() + both());
    expect(functions.map((f) => f.sbdf)).toEqual([0x10, 0x300]);
    expect(functions[1]!.virtual).toEqual({
      name: 'Intel Corporation 82599 Virtual Function',
      driver: 'ixgbevf',
    });
    expect([functions[1]!.barBytes?.[0], functions[1]!.barBytes?.[7], functions[1]!.barBytes?.[10]]).toEqual([
      2 ** 20,
      2 ** 14,
      2 ** 14,
    ]);
    const attribute = `${DEVICES}/0000:03:00.0/sriov_numvfs`;
    expect(notes).toEqual([`0000:03:00.0 had 2 virtual functions; \`echo 2 > ${attribute}\` enables them`]);
  });

  test('a physical function without extended bytes leaves them homeless, and that is said', () => {
    const { functions, notes } = read(ROOT + pfText(256) + both());
    expect([functions.length, notes.length]).toEqual([2, 2]);
    expect(notes[0]).toMatch(
      /^line \d+: 03:10.0 is a virtual function without its physical one and is left out$/,
    );
  });

  test('what reads all ones is still no virtual function', () => {
    const gone = block('03:10.0 Ethernet controller: X Y', new Uint8Array(256).fill(0xff));
    expect(read(ROOT + gone).notes[0]).toContain('answers all ones');
  });

  test('sriov_numvfs enables them again: ids, name, driver, and a part of each VF register window', () => {
    const s = boot(ROOT + pfText() + both());
    expect(s.run(`cat ${DEVICES}/0000:03:00.0/sriov_numvfs`).stdout).toBe('0\n');
    // ARI, which Linux enables in its scan, is as in the dump.
    expect(s.machine.hw.pci.configRead(0x300, 0x168, 2)).toBe(0x10);
    expect(s.run('lspci -s 03:10.0').stdout).toBe('');
    expect(s.run(`echo 2 > ${DEVICES}/0000:03:00.0/sriov_numvfs`).exit).toBe(0);
    expect(s.run('lspci -nk -s 03:10.2').stdout).toBe(
      '03:10.2 0200: 8086:10ed\n\tKernel driver in use: ixgbevf\n',
    );
    expect(s.run('lspci -s 03:10.0').stdout).toContain('Intel Corporation 82599 Virtual Function');
    // The second of eight parts: windows of 16 KiB each.
    expect(s.run(RESOURCE).stdout).toBe(
      '0x0000000091c04000 0x0000000091c07fff 0x000000000014220c\n' +
        '0x0000000091d04000 0x0000000091d07fff 0x000000000014220c\n',
    );
    expect(s.run('xl pci-assignable-add 03:10.0').exit).toBe(0);
  });

  test('where the dump tells no sizes, the windows of all virtual functions end before the next range', () => {
    const { functions } = read(ROOT + pfText() + both(''));
    // 8 x n <= 91d00000 - 91c00000.
    expect(functions[1]!.barBytes?.[7]).toBe(2 ** 17);
  });
});

// Cards whose port does not forward by ARI have their virtual functions on the next bus, as an 82576 (offset 0x180).
describe('virtual functions that go on to the next bus', () => {
  const root = (last: number): string =>
    block('00:02.0 PCI bridge: Intel Corporation Device 2f04', port(4, 3, last).bytes);
  const pf = block(
    PF,
    physical(4096, 0x180),
    '\tRegion 0: Memory at 90000000 (64-bit) [size=1M]\n\tKernel driver in use: ixgbe\n',
  );
  const text = (last: number): string =>
    root(last) + pf + block(VF('04:10.0'), virtual(), DETAILS) + block(VF('04:10.2'), virtual());
  const NUMVFS = `${DEVICES}/0000:03:00.0/sriov_numvfs`;

  test('are kept when a dump is read, as others are', () => {
    const { functions, notes } = read(text(4));
    expect(functions.map((f) => f.sbdf)).toEqual([0x10, 0x300]);
    expect(notes).toEqual([`0000:03:00.0 had 2 virtual functions; \`echo 2 > ${NUMVFS}\` enables them`]);
  });
  test('come, are assigned and go', () => {
    const s = boot(text(4));
    expect(s.run(`echo 2 > ${NUMVFS}`).exit).toBe(0);
    expect(s.run(`cat ${NUMVFS}`).stdout).toBe('2\n');
    expect(s.run('lspci -n -s 04:').stdout).toBe('04:10.0 0200: 8086:10ed\n04:10.2 0200: 8086:10ed\n');
    // They live beside their physical function.
    expect(s.run(`readlink ${DEVICES}/0000:04:10.2`).stdout).toBe(
      '../../../devices/pci0000:00/0000:00:02.0/0000:04:10.2\n',
    );
    // One of them alone is not all that the bridge leads to: no reset of the bus.
    expect(s.run(`cat ${DEVICES}/0000:04:10.0/reset_method`).stdout).not.toContain('bus');
    expect(s.run('xl pci-assignable-add 04:10.0')).toMatchObject({ exit: 0 });
    expect(s.run('xl pci-assignable-list').stdout.trim()).toBe('0000:04:10.0');
    expect(s.run('xl pci-assignable-remove 04:10.0')).toMatchObject({ exit: 0 });
    expect(s.run(`echo 0 > ${NUMVFS}`)).toMatchObject({ exit: 0 });
    expect(s.run('lspci -n -s 04:').stdout).toBe('');
    expect(s.run(`echo 2 > ${NUMVFS}`).exit).toBe(0);
    expect(s.run('lspci -n -s 04:10.2').stdout).toBe('04:10.2 0200: 8086:10ed\n');
  });
  test('go with the bridge, before their physical function', () => {
    const s = boot(text(4));
    s.run(`echo 2 > ${NUMVFS}`);
    const removed: number[] = [];
    s.machine.hw.events.attach((e) => {
      if (e.kind === 'driver' && e.driver === null) removed.push(e.sbdf);
    });
    expect(s.run(`echo 1 > ${DEVICES}/0000:00:02.0/remove`).exit).toBe(0);
    expect(removed).toEqual([0x482, 0x480, 0x300, 0x10]);
    expect(s.run('lspci -n').stdout).toBe('');
  });
  test('are refused where no bridge leads to that bus, and the kernel says so', () => {
    const s = boot(text(3));
    expect(s.run(`echo 2 > ${NUMVFS}`)).toMatchObject({ exit: 1 });
    expect(s.run('dmesg | tail -1').stdout).toContain(
      "ixgbe 0000:03:00.0: can't enable 2 VFs (bus 04 out of range of [bus 03])",
    );
    expect(s.run(`cat ${NUMVFS}`).stdout).toBe('0\n');
  });
  test('do not answer, and send nothing through, where the bridge does not lead', () => {
    const enabled = (last: number): number => {
      const { pci } = boot(text(last)).machine.hw;
      pci.configWrite(0x300, 0x170, 2, 2);
      pci.configWrite(0x300, 0x168, 2, 9);
      return pci.configRead(0x480, 0x08, 4);
    };
    expect(enabled(4)).toBe(0x0200_0000);
    expect(enabled(3)).toBe(0xffff_ffff);
  });
  test('leave the number of their bus to a bridge that comes after they went', () => {
    const s = boot(text(4));
    s.run(`echo 2 > ${NUMVFS}`);
    s.run(`echo 0 > ${NUMVFS}`);
    s.machine.hw.pci.configWrite(0x10, 0x1a, 1, 3);
    s.machine.hw.pci.addFunction({ sbdf: 0x18, config: port(4, 4).bytes });
    s.machine.hw.pci.addFunction({ sbdf: 0x400, config: endpoint(0).ids(0x8086, 0x1533, 0x020000).bytes });
    s.run('echo 1 > /sys/bus/pci/rescan');
    expect(s.run('lspci -n -s 04:').stdout).toBe('04:00.0 0200: 8086:1533\n');
  });
  test('of a device in the root complex live beside it, on the root bus', () => {
    const inside = '00:05.0 Ethernet controller: Intel Corporation 82599ES (rev 01)';
    const s = boot(
      block(inside, physical(4096, 0x180), '\tKernel driver in use: ixgbe\n') +
        block(VF('01:15.0'), virtual(), DETAILS),
    );
    expect(s.run(`echo 1 > ${DEVICES}/0000:00:05.0/sriov_numvfs`).exit).toBe(0);
    expect(s.run('lspci -n -s 01:').stdout).toBe('01:15.0 0200: 8086:10ed\n');
    expect(s.run(`readlink ${DEVICES}/0000:01:15.0`).stdout).toBe(
      '../../../devices/pci0000:00/0000:01:15.0\n',
    );
  });
});
