/** Expected values are those of recordings of Linux 6.1 under Xen 4.17 on this board, unless a source is named. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { runAlone } from '../../src/sim/co.js';
import { parseHide, parseSlot } from '../../src/toolstack/pciback/slots.js';
import { kernfsOrder } from '../../src/toolstack/sysfs/node.js';
import { board } from './dom0_helpers.js';

const DEVICES = '/sys/bus/pci/devices';
const DRIVERS = '/sys/bus/pci/drivers';
const PCIBACK = `${DRIVERS}/pciback`;

/** What xl does for pci-assignable-add, as far as the kernel sees it. */
function seize(b: ReturnType<typeof board>, name: string): void {
  b.write(`${PCIBACK}/new_slot`, name);
  b.write(`${PCIBACK}/bind`, name);
}

describe('enumeration', () => {
  test('reports the devices to Xen bus by bus, in the order of the recording', () => {
    const b = board();
    const added = b.xen.physdev.filter((op) => op.cmd === 'pci_device_add');
    const names = added.map((op) =>
      op.cmd === 'pci_device_add'
        ? `${op.bus.toString(16)}:${(op.devfn >> 3).toString(16)}.${op.devfn & 7}`
        : '',
    );
    expect(names.join(' ')).toBe(
      '0:0.0 0:1.0 0:2.0 0:3.0 0:4.0 0:5.0 0:6.0 0:7.0 0:8.0 0:9.0 0:1e.0 0:1f.0 0:1f.2 0:1f.3 1:0.0 1:0.1 2:0.0 ' +
        '3:0.0 4:0.0 5:0.0 5:1.0 6:0.0 7:0.0 8:0.0 9:1.0 9:2.0 a:0.0 a:0.1 a:0.2 c:1.0',
    );
  });

  test('a device that Xen refuses is there all the same, with a line', () => {
    const b = board();
    b.log();
    b.xen.answers.set('pci_device_add', E.NODEV);
    b.write(`${DEVICES}/0000:02:00.0/remove`, '1');
    b.write('/sys/bus/pci/rescan', '1');
    expect(b.log()).toContain('pci 0000:02:00.0: Failed to add - passthrough or MSI/MSI-X might fail!');
    expect(b.read(`${DEVICES}/0000:02:00.0/vendor`)).toBe('0x8086\n');
  });

  test.each([
    ['0000:01:00.0', 0, '0x00000000fb000000 0x00000000fb7fffff 0x0000000000042208'],
    ['0000:01:00.0', 2, '0x00000000fb800000 0x00000000fb803fff 0x000000000014220c'],
    ['0000:01:00.0', 6, '0x00000000000c0000 0x00000000000dffff 0x0000000000000212'],
    ['0000:02:00.0', 2, '0x0000000000004000 0x000000000000401f 0x0000000000040101'],
    ['0000:02:00.0', 6, '0x00000000fe600000 0x00000000fe63ffff 0x0000000000046200'],
    ['0000:03:00.0', 7, '0x00000000fe404000 0x00000000fe413fff 0x0000000000140204'],
    ['0000:00:04.0', 13, '0x0000000000009000 0x000000000000afff 0x0000000000000100'],
    ['0000:00:04.0', 15, '0x00000000fc000000 0x00000000fc3fffff 0x0000000000102201'],
    ['0000:08:00.0', 0, '0x00000000fda00000 0x00000000fda000ff 0x0000000000140204'],
  ])('resource of %s, line %i, found by sizing', (dev, line, text) => {
    const lines = String(board().read(`${DEVICES}/${dev}/resource`)).split('\n');
    expect(lines[line]).toBe(text);
    expect(lines).toHaveLength(dev === '0000:00:04.0' || dev === '0000:08:00.0' ? 18 : 14);
  });

  test('sizing leaves command and addresses as firmware set them', () => {
    const b = board();
    expect(b.pci.configRead(0x200, 4, 2)).toBe(0x0103);
    expect(b.pci.configRead(0x200, 0x10, 4)).toBe(0xfe640000);
  });
});

describe('the device tree', () => {
  test('links count their way up', () => {
    const { dom0 } = board();
    expect(dom0.fs.readlink(`${DEVICES}/0000:06:00.0`)).toBe(
      '../../../devices/pci0000:00/0000:00:04.0/0000:04:00.0/0000:05:00.0/0000:06:00.0',
    );
    expect(dom0.fs.readlink(`${DEVICES}/0000:00:02.0/driver`)).toBe('../../../bus/pci/drivers/pcieport');
    expect(dom0.fs.realpath(`${DEVICES}/0000:06:00.0`)).toBe(
      '/sys/devices/pci0000:00/0000:00:04.0/0000:04:00.0/0000:05:00.0/0000:06:00.0',
    );
    expect(dom0.fs.lstat(`${DEVICES}/0000:02:00.0/driver`)).toBe(E.NOENT);
    expect(dom0.fs.lstat(`${DEVICES}/0000:0e:00.0`)).toBe(E.NOENT);
  });

  test('a directory of sysfs is listed in the order of a hash', () => {
    const names = ['03:00.0', '0a:00.2', '01:00.0', '0a:00.0', '07:00.0', '03:00.1', '01:00.1', '0a:00.1'];
    expect(kernfsOrder([...names].sort().map((n) => `0000:${n}`))).toEqual(names.map((n) => `0000:${n}`));
  });

  test('pciback has the files of Linux 6.1', () => {
    const names = board().dom0.fs.readdir(PCIBACK);
    expect([...(names as string[])].sort()).toEqual(
      'allow_interrupt_control bind irq_handler_state irq_handlers module new_id new_slot permissive quirks remove_id remove_slot slots uevent unbind'.split(
        ' ',
      ),
    );
  });

  test('a file for writing cannot be read, one for reading not written', () => {
    const b = board();
    expect(b.read(`${PCIBACK}/new_slot`)).toBe(E.ACCES);
    expect(b.write(`${DEVICES}/0000:02:00.0/vendor`, '0')).toBe(E.ACCES);
    expect(b.write('/sys/nothing', 'x')).toBe(E.ACCES);
  });

  test('writing nothing reaches no attribute', () => {
    expect(board().write(`${PCIBACK}/new_slot`, '')).toBe(0);
  });
});

describe('binding', () => {
  test('unbind of a device that the driver does not have: -ENODEV', () => {
    const b = board();
    expect(b.write(`${DRIVERS}/pcieport/unbind`, '0000:02:00.0')).toBe(E.NODEV);
    expect(b.write(`${DRIVERS}/pcieport/unbind`, 'nonsense')).toBe(E.NODEV);
  });

  test('bind of a device that has a driver: -EBUSY, of one the driver does not match: -ENODEV', () => {
    const b = board({ drivers: { '06:00.0': 'e1000e' } });
    expect(b.write(`${DRIVERS}/e1000e/bind`, '0000:06:00.0\n')).toBe(E.BUSY);
    expect(b.write(`${DRIVERS}/e1000e/bind`, '0000:07:00.0')).toBe(E.NODEV);
  });

  test('an override shuts every other driver out', () => {
    const b = board();
    b.write(`${DEVICES}/0000:02:00.0/driver_override`, 'pciback\n');
    expect(b.read(`${DEVICES}/0000:02:00.0/driver_override`)).toBe('pciback\n');
    runAlone(b.dom0.kernel.modprobe('e1000e'));
    expect(b.dom0.kernel.deviceNamed('0000:02:00.0')?.driver).toBeUndefined();
    expect(b.write('/sys/bus/pci/drivers_probe', '0000:02:00.0')).toBe(12);
    expect(b.read(`${PCIBACK}/slots`)).toBe('0000:02:00.0\n');
  });

  test('e1000e says what it says, with the address from the serial number', () => {
    const b = board();
    b.log();
    runAlone(b.dom0.kernel.modprobe('e1000e'));
    const lines = b.log();
    expect(lines.slice(0, 8)).toEqual([
      'e1000e: Intel(R) PRO/1000 Network Driver',
      'e1000e: Copyright(c) 1999 - 2015 Intel Corporation.',
      'Already setup the GSI :22',
      'e1000e 0000:02:00.0: Interrupt Throttling Rate (ints/sec) set to dynamic conservative mode',
      'e1000e 0000:02:00.0 0000:02:00.0 (uninitialized): registered PHC clock',
      'e1000e 0000:02:00.0 eth0: (PCI Express:2.5GT/s:Width x1) 52:54:00:00:02:00',
      'e1000e 0000:02:00.0 eth0: Intel(R) PRO/1000 Network Connection',
      'e1000e 0000:02:00.0 eth0: MAC: 3, PHY: 8, PBA No: 000000-000',
    ]);
    b.write(`${DRIVERS}/e1000e/unbind`, '0000:02:00.0');
    expect(b.log()).toEqual(['e1000e 0000:02:00.0 eth0: removed PHC']);
  });

  test('new_id makes a driver take a device it did not know', () => {
    const b = board({ drivers: { '06:00.0': 'e1000e' } });
    expect(b.write(`${DRIVERS}/e1000e/new_id`, '1234')).toBe(E.INVAL);
    expect(b.write(`${DRIVERS}/e1000e/new_id`, '1234 11e8')).toBe(9);
    expect(b.dom0.kernel.deviceNamed('0000:07:00.0')?.driver?.name).toBe('e1000e');
    expect(b.write(`${DRIVERS}/e1000e/new_id`, '1234 11e8')).toBe(E.EXIST);
    expect(b.write(`${DRIVERS}/e1000e/remove_id`, '1234 ffff')).toBe(E.NODEV);
  });
});

describe('pciback', () => {
  test('binds only what a slot names', () => {
    const b = board();
    expect(b.write(`${PCIBACK}/bind`, '0000:02:00.0')).toBe(E.NODEV);
    expect(b.write(`${PCIBACK}/new_slot`, '0000:02:00.0')).toBe(12);
    expect(b.read(`${PCIBACK}/slots`)).toBe('0000:02:00.0\n');
    b.log();
    expect(b.write(`${PCIBACK}/bind`, '0000:02:00.0')).toBe(12);
    expect(b.log()).toEqual([
      'pciback 0000:02:00.0: xen_pciback: seizing device',
      'Already setup the GSI :22',
    ]);
    expect(b.dom0.fs.readlink(`${DEVICES}/0000:02:00.0/driver`)).toBe('../../../../bus/pci/drivers/pciback');
  });

  test.each([
    ['0000:01:00.0', 21],
    ['0000:06:00.0', 20],
    ['0000:07:00.0', 21],
    ['0000:09:01.0', 22],
    ['0000:09:02.0', 23],
    ['0000:0a:00.1', 22],
    ['0000:00:09.0', 21],
  ])('%s has GSI %i, pins rotating through the bridges', (name, gsi) => {
    const b = board();
    b.log();
    seize(b, name);
    expect(b.log().at(-1)).toBe(`Already setup the GSI :${gsi}`);
    expect(b.read(`${DEVICES}/${name}/irq`)).toBe(`${gsi}\n`);
  });

  test('a device without a pin has no interrupt to set up', () => {
    const b = board();
    b.log();
    seize(b, '0000:0c:01.0');
    expect(b.log()).toEqual(['pciback 0000:0c:01.0: xen_pciback: seizing device']);
  });

  test('seizing saves, resets, restores and turns bus mastering off; giving back restores what was seized', () => {
    const b = board();
    b.pci.configWrite(0x908, 4, 2, 6);
    b.log();
    seize(b, '0000:09:01.0');
    expect(b.log()[1]).toBe('pciback 0000:09:01.0: enabling device (0006 -> 0007)');
    expect(b.pci.configRead(0x908, 4, 2)).toBe(3);
    b.write(`${PCIBACK}/unbind`, '0000:09:01.0');
    expect(b.pci.configRead(0x908, 4, 2)).toBe(7);
  });

  test('a device with MSI-X is prepared and released through Xen', () => {
    const b = board();
    seize(b, '0000:02:00.0');
    b.write(`${PCIBACK}/unbind`, '0000:02:00.0');
    expect(b.xen.physdev.slice(-2).map((op) => op.cmd)).toEqual(['prepare_msix', 'release_msix']);
  });

  test('remove_slot needs a slot that is there', () => {
    const b = board();
    expect(b.write(`${PCIBACK}/remove_slot`, '0000:02:00.0')).toBe(E.NOENT);
    b.write(`${PCIBACK}/new_slot`, '0a:00.*');
    expect(b.read(`${PCIBACK}/slots`)).toMatch(/^(0000:0a:00\.[0-7]\n){8}$/);
    expect(b.write(`${PCIBACK}/remove_slot`, '0000:0a:00.3')).toBe(12);
    expect(b.write(`${PCIBACK}/remove_slot`, '0000:0a:*.*')).toBe(11);
    expect(b.read(`${PCIBACK}/slots`)).toBe('');
  });

  test('permissive mode is refused for strangers and announced once', () => {
    const b = board();
    expect(b.write(`${PCIBACK}/permissive`, '0000:01:00.0')).toBe(E.NODEV);
    seize(b, '0000:01:00.0');
    seize(b, '0000:01:00.1');
    b.log();
    b.write(`${PCIBACK}/permissive`, '0000:01:00.0');
    b.write(`${PCIBACK}/permissive`, '0000:01:00.1');
    b.write(`${PCIBACK}/permissive`, '0000:01:00.1');
    expect(b.log()).toEqual([
      'pciback 0000:01:00.0: xen_pciback: enabling permissive mode configuration space accesses!',
      'pciback 0000:01:00.0: xen_pciback: permissive mode is potentially unsafe!',
      'pciback 0000:01:00.1: xen_pciback: enabling permissive mode configuration space accesses!',
      'pciback 0000:01:00.1: xen_pciback: permissive mode is potentially unsafe!',
    ]);
    // Newest first: recording 03, record 40.
    expect(b.read(`${PCIBACK}/permissive`)).toBe('0000:01:00.1\n0000:01:00.0\n');
  });

  test('a slot for a bridge covers what is behind it', () => {
    const b = board();
    b.write(`${PCIBACK}/new_slot`, '0000:00:05.0');
    expect(b.write(`${PCIBACK}/bind`, '0000:09:02.0')).toBe(12);
  });
});

describe('resetting', () => {
  test('a second function behind a conventional bridge has no reset file, the first has one that fails', () => {
    const b = board();
    expect(b.write(`${DEVICES}/0000:09:01.0/reset`, '1')).toBe(-25);
    expect(b.dom0.fs.exists(`${DEVICES}/0000:09:02.0/reset`)).toBe(false);
  });

  test.each([
    ['0000:01:00.0', 'flr pm bus'],
    ['0000:02:00.0', 'pm bus'],
    ['0000:07:00.0', 'bus'],
    ['0000:0c:01.0', 'bus'],
  ])('%s can be reset by %s', (name, methods) => {
    const b = board();
    expect(b.read(`${DEVICES}/${name}/reset_method`)).toBe(`${methods}\n`);
    expect(b.write(`${DEVICES}/${name}/reset`, '1')).toBe(1);
  });

  test.each(['0000:01:00.1', '0000:00:09.0'])('%s has no reset file', (name) => {
    expect(board().dom0.fs.exists(`${DEVICES}/${name}/reset`)).toBe(false);
  });

  test('anything but 1 is refused', () => {
    expect(board().write(`${DEVICES}/0000:02:00.0/reset`, '0')).toBe(E.INVAL);
  });
});

describe('hiding at boot', () => {
  test('xen-pciback.hide= seizes first and sets up last, newest first', () => {
    const b = board({ cmdline: 'quiet xen-pciback.hide=(02:00.0)(01:00.0)(01:00.1)' });
    const lines = b.log();
    const from = lines.indexOf('pciback 0000:01:00.0: xen_pciback: seizing device');
    expect(lines.slice(from)).toEqual([
      'pciback 0000:01:00.0: xen_pciback: seizing device',
      'pciback 0000:01:00.1: xen_pciback: seizing device',
      'pciback 0000:02:00.0: xen_pciback: seizing device',
      'Already setup the GSI :22',
      'Already setup the GSI :21',
      'Already setup the GSI :21',
      'xen_pciback: backend is vpci',
    ]);
    expect(b.read(`${PCIBACK}/slots`)).toBe('0000:02:00.0\n0000:01:00.0\n0000:01:00.1\n');
    expect(b.read('/sys/module/xen_pciback/parameters/hide')).toBe('(02:00.0)(01:00.0)(01:00.1)\n');
  });

  test.each(['module', 'builtin'] as const)(
    'pciback.hide= names no module, so nothing is hidden (%s)',
    (pciback) => {
      const b = board({ cmdline: 'pciback.hide=(01:00.0)', pciback, drivers: { '01:00.0': 'nouveau' } });
      expect(b.read(`${PCIBACK}/slots`)).toBe('');
      expect(b.read('/sys/module/xen_pciback/parameters/hide')).toBe('(null)\n');
      expect(b.dom0.kernel.deviceNamed('0000:01:00.0')?.driver?.name).toBe('nouveau');
    },
  );

  test('a hidden device never reaches the driver that the host has for it', () => {
    const b = board({ cmdline: 'xen_pciback.hide=(01:00.0)', drivers: { '01:00.0': 'nouveau' } });
    expect(b.dom0.kernel.deviceNamed('0000:01:00.0')?.driver?.name).toBe('pciback');
  });

  test('a list that cannot be read keeps pciback out', () => {
    const b = board({ cmdline: 'xen-pciback.hide=(02:00.0)(oops)' });
    expect(b.log()).toContain('xen_pciback: Error parsing pci_devs_to_hide at "(oops)"');
    expect(b.dom0.fs.exists(PCIBACK)).toBe(false);
  });

  test.each([
    ['(01:00.0)(0001:03:00.*)', 2, undefined],
    ['(01:00.0', 0, '(01:00.0'],
    [' ( 01:00.0)', 0, ' ( 01:00.0)'],
    ['(01:*.*) (02:00.0)', 2, undefined],
  ])('parses %s', (text, count, errorAt) => {
    const parsed = parseHide(text);
    expect(parsed.slots).toHaveLength(count);
    expect(parsed.errorAt).toBe(errorAt);
  });

  test.each(['', '02:00', '02:00.8.', '0000:02:00.0x', '*:00.0', '02:*.0'])('refuses the slot %j', (text) => {
    expect(parseSlot(text)).toBeUndefined();
  });
});

describe('removing a device', () => {
  test('unbinds it, tells Xen, and a rescan finds it again', () => {
    const b = board({ drivers: { '02:00.0': 'e1000e' } });
    b.write(`${DEVICES}/0000:02:00.0/remove`, '1');
    expect(b.xen.physdev.at(-1)).toEqual({ cmd: 'pci_device_remove', seg: 0, bus: 2, devfn: 0 });
    expect(b.dom0.fs.exists(`${DEVICES}/0000:02:00.0`)).toBe(false);
    b.write('/sys/bus/pci/rescan', '1');
    expect(b.dom0.kernel.deviceNamed('0000:02:00.0')?.driver?.name).toBe('e1000e');
  });

  test('virtual functions come and go with sriov_numvfs', () => {
    const b = board({ drivers: { '03:00.0': 'nvme' } });
    const pf = `${DEVICES}/0000:03:00.0`;
    expect(b.read(`${pf}/sriov_totalvfs`)).toBe('4\n');
    expect(b.write(`${pf}/sriov_numvfs`, '5')).toBe(E.RANGE);
    expect(b.write(`${pf}/sriov_numvfs`, '2')).toBe(1);
    expect(b.xen.physdev.filter((op) => op.cmd === 'pci_device_add').at(-1)).toMatchObject({
      bus: 3,
      devfn: 2,
      flags: 2,
      physfn: { bus: 3, devfn: 0 },
    });
    expect(b.read(`${DEVICES}/0000:03:00.1/device`)).toBe('0x0010\n');
    expect(b.write(`${pf}/sriov_numvfs`, '3')).toBe(E.BUSY);
    expect(b.write(`${pf}/sriov_numvfs`, '0')).toBe(1);
    expect(b.dom0.fs.exists(`${DEVICES}/0000:03:00.1`)).toBe(false);
  });

  test('a virtual function that is gone with its physical one never gets ready (recording 03, record 57)', () => {
    const b = board({ drivers: { '03:00.0': 'nvme' } });
    b.write(`${DEVICES}/0000:03:00.0/sriov_numvfs`, '1');
    b.write(`${DRIVERS}/nvme/unbind`, '0000:03:00.1');
    seize(b, '0000:03:00.1');
    b.write(`${DRIVERS}/nvme/unbind`, '0000:03:00.0');
    seize(b, '0000:03:00.0');
    b.log();
    expect(b.write(`${DEVICES}/0000:03:00.1/reset`, '1')).toBe(-25);
    expect(b.log()).toEqual([
      'pciback 0000:03:00.1: Unable to change power state from D3cold to D0, device inaccessible',
      'pciback 0000:03:00.1: timed out waiting for pending transaction; performing function level reset anyway',
      ...[1023, 2047, 4095, 8191, 16383, 32767].map(
        (ms) => `pciback 0000:03:00.1: not ready ${ms}ms after FLR; waiting`,
      ),
      'pciback 0000:03:00.1: not ready 65535ms after FLR; giving up',
    ]);
  });

  test('a driver without SR-IOV refuses sriov_numvfs', () => {
    const b = board();
    seize(b, '0000:03:00.0');
    b.log();
    expect(b.write(`${DEVICES}/0000:03:00.0/sriov_numvfs`, '1')).toBe(E.NOENT);
    expect(b.log()).toEqual(['pciback 0000:03:00.0: driver does not support SR-IOV configuration via sysfs']);
  });
});
