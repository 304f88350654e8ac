/** The PV protocol between libxl's nodes, pciback and a guest's front end; final states are those of recording 02b. */
import { describe, expect, test } from 'vitest';
import { Guests } from '../../src/cli/guests.js';
import { runAlone } from '../../src/sim/co.js';
import { type Board, board } from './dom0_helpers.js';

const PCIBACK = '/sys/bus/pci/drivers/pciback';

interface Pair {
  readonly b: Board;
  /** `node/key = value` lines of both ends. */
  nodes(): string[];
  settle(): void;
}

function seize(b: Board, ...names: string[]): void {
  for (const name of names) {
    b.write(`${PCIBACK}/new_slot`, name);
    b.write(`${PCIBACK}/bind`, name);
  }
}

/** What libxl writes to give guest `domid` its first device. @xen libxl__create_pci_backend */
function firstDevice(b: Board, domid: number, dev: string): void {
  const be = `/local/domain/0/backend/pci/${domid}/0`;
  const fe = `/local/domain/${domid}/device/pci/0`;
  b.dom0.xs.write(`/local/domain/${domid}`, '');
  b.dom0.xs.setPerms(`/local/domain/${domid}`, [`n${domid}`, 'r0']);
  b.dom0.xs.write(be, '');
  b.dom0.xs.setPerms(be, ['n0', `r${domid}`]);
  b.dom0.xs.transaction((t) => {
    t.write(`${be}/frontend`, fe);
    t.write(`${be}/frontend-id`, String(domid));
    t.write(`${be}/online`, '1');
    t.write(`${be}/state`, '1');
    t.write(`${be}/dev-0`, dev);
    t.write(`${be}/state-0`, '1');
    t.write(`${be}/num_devs`, '1');
    t.write(`${fe}/backend`, be);
    t.write(`${fe}/backend-id`, '0');
    return t.write(`${fe}/state`, '1');
  });
  b.dom0.xs.setPerms(fe, [`n${domid}`, 'r0']);
  for (const key of ['backend', 'backend-id', 'state'])
    b.dom0.xs.setPerms(`${fe}/${key}`, [`n${domid}`, 'r0']);
}

/** A device more for a guest that runs. @xen libxl__device_pci_add_xenstore */
function nextDevice(b: Board, domid: number, i: number, dev: string): void {
  const be = `/local/domain/0/backend/pci/${domid}/0`;
  b.dom0.xs.transaction((t) => {
    t.write(`${be}/dev-${i}`, dev);
    t.write(`${be}/state-${i}`, '1');
    t.write(`${be}/num_devs`, String(i + 1));
    return t.write(`${be}/state`, '7');
  });
}

function pair(kind: 'pv' | 'hvm'): Pair {
  const b = board();
  seize(b, '0000:02:00.0', '0000:01:00.0', '0000:01:00.1');
  const guests = new Guests(b.dom0, b.dom0.hv, {});
  b.dom0.guests = guests;
  firstDevice(b, 1, '0000:02:00.0');
  b.xen.running.set(1, kind);
  b.log();
  return {
    b,
    settle: () => runAlone(b.dom0.settle()),
    nodes() {
      const all: string[] = [];
      for (const node of ['/local/domain/0/backend/pci/1/0', '/local/domain/1/device/pci/0']) {
        for (const key of b.dom0.xs.ls(node) ?? [])
          all.push(`${node.slice(14)}/${key} = ${b.dom0.xs.read(`${node}/${key}`)}`);
      }
      return all;
    },
  };
}

describe('a PV guest', () => {
  test('connects, and both ends hold what the recording holds', () => {
    const p = pair('pv');
    p.settle();
    expect(p.nodes()).toEqual([
      '0/backend/pci/1/0/frontend = /local/domain/1/device/pci/0',
      '0/backend/pci/1/0/frontend-id = 1',
      '0/backend/pci/1/0/online = 1',
      '0/backend/pci/1/0/state = 4',
      '0/backend/pci/1/0/dev-0 = 0000:02:00.0',
      '0/backend/pci/1/0/state-0 = 3',
      '0/backend/pci/1/0/num_devs = 1',
      '0/backend/pci/1/0/vdev-0 = 0000:00:00.00',
      '0/backend/pci/1/0/root-0 = 0000:00',
      '0/backend/pci/1/0/root_num = 1',
      '1/device/pci/0/backend = /local/domain/0/backend/pci/1/0',
      '1/device/pci/0/backend-id = 0',
      '1/device/pci/0/state = 4',
      '1/device/pci/0/pci-op-ref = 8',
      '1/device/pci/0/event-channel = 8',
      '1/device/pci/0/magic = 7',
    ]);
    expect(p.b.log().slice(0, 2)).toEqual([
      'pciback 0000:02:00.0: xen_pciback: vpci: assign to virtual slot 0',
      'pciback 0000:02:00.0: registering for 1',
    ]);
  });

  test('its kernel sizes the registers through pciback, which turns the interrupt on each time', () => {
    const p = pair('pv');
    p.settle();
    const lines = p.b.log().filter((l) => l.startsWith('Already setup'));
    // One for trying the interrupt mask, one for each of seven registers.
    expect(lines).toEqual(Array(8).fill('Already setup the GSI :22'));
    // The addresses on the real bus are untouched, and the device masters the bus now.
    expect(p.b.pci.configRead(0x200, 0x10, 4)).toBe(0xfe640000);
    expect(p.b.pci.configRead(0x200, 4, 2) & 4).toBe(4);
  });

  test('gets a second device while it runs, functions of one device in one slot', () => {
    const p = pair('pv');
    p.settle();
    p.b.log();
    nextDevice(p.b, 1, 1, '0000:01:00.0');
    p.settle();
    nextDevice(p.b, 1, 2, '0000:01:00.1');
    p.settle();
    const nodes = p.nodes();
    expect(nodes).toContain('0/backend/pci/1/0/vdev-1 = 0000:00:01.00');
    expect(nodes).toContain('0/backend/pci/1/0/vdev-2 = 0000:00:01.01');
    expect(nodes).toContain('0/backend/pci/1/0/state = 4');
    expect(nodes).toContain('0/backend/pci/1/0/root_num = 1');
    expect(p.b.log()).toContain('pciback 0000:01:00.1: xen_pciback: vpci: assign to virtual slot 1 func 1');
  });

  test('gives a device back: reset, state as it was seized, free for the next guest', () => {
    const p = pair('pv');
    p.settle();
    nextDevice(p.b, 1, 1, '0000:01:00.0');
    p.settle();
    p.b.dom0.xs.transaction((t) => {
      t.write('/local/domain/0/backend/pci/1/0/state-1', '5');
      return t.write('/local/domain/0/backend/pci/1/0/state', '7');
    });
    p.settle();
    expect(p.nodes()).toContain('0/backend/pci/1/0/state = 4');
    const psdev = p.b.dom0.pciback!.seized.find((s) => s.dev.name === '0000:01:00.0');
    expect(psdev?.owner).toBeUndefined();
    expect(p.b.pci.configRead(0x100, 4, 2) & 4).toBe(0);
  });

  test.each([
    ['gives it back', (b: Board) => b.dom0.xs.rm('/local/domain/0/backend/pci/1')],
    ['loses it, as somebody unbinds it', (b: Board) => b.write(`${PCIBACK}/unbind`, '0000:02:00.0')],
  ])('that %s leaves nothing in it: the device was reset', (_how, end) => {
    const p = pair('pv');
    p.settle();
    const msi = [0xd2, 0xd4, 0xdc, 0xa2] as const;
    const read = () => msi.map((reg) => p.b.pci.configRead(0x200, reg, 2));
    const before = read();
    p.b.pci.configWrite(0x200, 0xd4, 4, 0xfee0_1004);
    p.b.pci.configWrite(0x200, 0xdc, 2, 0x4321);
    p.b.pci.configWrite(0x200, 0xd2, 2, 1);
    p.b.pci.configWrite(0x200, 0xa2, 2, 0x8000);
    expect(read()).not.toEqual(before);
    end(p.b);
    p.settle();
    expect(read()).toEqual(before);
  });

  test('has one channel to pciback, which is closed with it', () => {
    const p = pair('pv');
    p.settle();
    const made = p.b.xen.channels.filter((op) => op.cmd === 'bind_interdomain' && op.remote === 1);
    expect(made).toEqual([{ cmd: 'bind_interdomain', domid: 0, remote: 1, remotePort: 8, port: 77 }]);
    const closed = () => p.b.xen.channels.filter((op) => op.cmd === 'close' && op.port === 77).length;
    expect(closed()).toBe(0);
    p.b.dom0.xs.rm('/local/domain/0/backend/pci/1');
    p.settle();
    expect(closed()).toBe(1);
  });

  test('closes with its last device, and leaves the error that Linux leaves', () => {
    const p = pair('pv');
    p.settle();
    p.b.dom0.xs.transaction((t) => {
      t.write('/local/domain/0/backend/pci/1/0/online', '0');
      return t.write('/local/domain/0/backend/pci/1/0/state', '5');
    });
    p.settle();
    expect(p.nodes()).toContain('0/backend/pci/1/0/state = 6');
    expect(p.b.dom0.xs.read('/local/domain/1/error/device/pci/0/error')).toBe('22 freeing event channel 8');
    expect(p.b.dom0.backends?.backends.size).toBe(0);
  });

  test('a write to a read-only field is dropped and said once, and let through in permissive mode', () => {
    const p = pair('pv');
    // Its kernel clears the errors that AER has logged: the first such write.
    p.settle();
    const config = p.b.dom0.backends!.of(1)!.config;
    const before = p.b.pci.configRead(0x200, 0x110, 4);
    for (let i = 0; i < 2; i++) runAlone(config.configWrite(0, 0x110, 4, 0));
    expect(p.b.pci.configRead(0x200, 0x110, 4)).toBe(before);
    expect(p.b.log().filter((l) => /read-only|permissive|xen-devel/.test(l))).toEqual([
      'pciback 0000:02:00.0: xen-pciback: Driver tried to write to a read-only configuration space field at offset 0x110, size 4. This may be harmless, but if you have problems with your device:',
      '1) see permissive attribute in sysfs',
      '2) report problems to the xen-devel mailing list along with details of your device obtained from lspci.',
    ]);
    p.b.write(`${PCIBACK}/permissive`, '0000:02:00.0');
    runAlone(config.configWrite(0, 0x108, 4, 0x10));
    expect(p.b.pci.configRead(0x200, 0x108, 4) & 0x10).toBe(0x10);
  });

  test('a base address register answers with its size and keeps its address', () => {
    const p = pair('pv');
    p.settle();
    const config = p.b.dom0.backends!.of(1)!.config;
    runAlone(config.configWrite(0, 0x10, 4, 0xffff_ffff));
    expect(config.configRead(0, 0x10, 4)).toBe(0xfffe0000);
    runAlone(config.configWrite(0, 0x10, 4, 0x12340000));
    expect(config.configRead(0, 0x10, 4)).toBe(0xfe640000);
    expect(config.configRead(0x20, 0, 4)).toBe(0xffff_ffff);
  });
});

describe('an HVM guest', () => {
  test('has no front end: the back end stays initialised (recording 41)', () => {
    const p = pair('hvm');
    p.settle();
    const nodes = p.nodes();
    expect(nodes).toContain('0/backend/pci/1/0/state = 3');
    expect(nodes).toContain('1/device/pci/0/state = 1');
  });

  test('takes a second device by the back end watch alone', () => {
    const p = pair('hvm');
    p.settle();
    const be = '/local/domain/0/backend/pci/1/0';
    p.b.dom0.xs.transaction((t) => {
      t.write(`${be}/dev-1`, '0000:01:00.1');
      t.write(`${be}/state-1`, '1');
      return t.write(`${be}/num_devs`, '2');
    });
    p.settle();
    expect(p.nodes()).toContain('0/backend/pci/1/0/vdev-1 = 0000:00:01.01');
    expect(p.nodes()).toContain('0/backend/pci/1/0/state = 3');
  });

  test('that is destroyed gives everything back when its nodes go', () => {
    const p = pair('hvm');
    p.settle();
    p.b.xen.running.delete(1);
    p.b.dom0.xs.rm('/local/domain/0/backend/pci/1');
    p.settle();
    expect(p.b.dom0.pciback!.seized.every((s) => s.owner === undefined)).toBe(true);
  });
});

describe('what goes wrong', () => {
  test('a device that another guest has is refused with a reason', () => {
    const p = pair('pv');
    p.settle();
    firstDevice(p.b, 2, '0000:02:00.0');
    p.settle();
    expect(p.b.dom0.xs.read('/local/domain/0/error/backend/pci/2/0/error')).toBe(
      "22 Couldn't locate PCI device (0000:02:00.0)! perhaps already in-use?",
    );
  });

  test('unbinding a device in use takes it from the guest, with four lines', () => {
    const p = pair('pv');
    p.settle();
    p.b.log();
    p.b.write(`${PCIBACK}/unbind`, '0000:02:00.0');
    expect(p.b.log().slice(0, 4)).toEqual([
      'xen_pciback: ****** removing device 0000:02:00.0 while still in-use by domain 1! ******',
      "xen_pciback: ****** driver domain may still access this device's i/o resources!",
      'xen_pciback: ****** shutdown driver domain before binding device',
      'xen_pciback: ****** to other drivers or domains',
    ]);
    expect(p.b.dom0.backends!.of(1)!.config.functions()).toEqual([]);
  });

  test.each([
    ['without a channel', 'event-channel'],
    ['without a page', 'pci-op-ref'],
  ])('a front end %s is refused', (_what, missing) => {
    const p = pair('hvm');
    p.settle();
    const fe = '/local/domain/1/device/pci/0';
    p.b.dom0.xs.transaction((t) => {
      for (const key of ['pci-op-ref', 'event-channel']) if (key !== missing) t.write(`${fe}/${key}`, '8');
      t.write(`${fe}/magic`, '7');
      return t.write(`${fe}/state`, '3');
    });
    p.settle();
    expect(p.b.dom0.xs.read('/local/domain/0/error/backend/pci/1/0/error')).toBe(
      '2 Error reading configuration from frontend',
    );
    expect(p.nodes()).toContain('0/backend/pci/1/0/state = 5');
  });

  test.each([
    ['is missing', undefined, '2'],
    ['is no number', 'many', '22'],
  ])('a number of devices that %s is refused', (_what, value, code) => {
    const p = pair('hvm');
    const node = '/local/domain/0/backend/pci/1/0/num_devs';
    if (value === undefined) p.b.dom0.xs.rm(node);
    else p.b.dom0.xs.write(node, value);
    p.settle();
    expect(p.b.dom0.xs.read('/local/domain/0/error/backend/pci/1/0/error')).toBe(
      `${code} Error reading number of devices`,
    );
  });

  test('a wrong magic is refused', () => {
    const p = pair('hvm');
    p.settle();
    const fe = '/local/domain/1/device/pci/0';
    p.b.dom0.xs.transaction((t) => {
      t.write(`${fe}/pci-op-ref`, '8');
      t.write(`${fe}/event-channel`, '8');
      t.write(`${fe}/magic`, '6');
      return t.write(`${fe}/state`, '3');
    });
    p.settle();
    expect(p.b.dom0.xs.read('/local/domain/0/error/backend/pci/1/0/error')).toBe(
      '14 version mismatch (6/7) with pcifront - halting pciback',
    );
  });
});
