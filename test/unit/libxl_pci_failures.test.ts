/**
 * What `xl` says and leaves behind when one of its steps fails. Lines are those of tools/libs/light/libxl_pci.c of
 * 4.18.3; a message with an errno repeats that of the message before, as logging keeps it.
 */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { type XlHost, xlHost } from './xl_host.js';

const HVM = 'name="g"\ntype="hvm"\nmemory=64\nvnc=0\npassthrough="enabled"\n';
const PV = 'name="g"\ntype="pv"\nmemory=64\nkernel="/h1/vmlinuz"\npassthrough="enabled"\n';
const PCIBACK = '/sys/bus/pci/drivers/pciback';
const E1000E = '/sys/bus/pci/drivers/e1000e';
const EIO = 'Input/output error';
const DOMID_IO = 0x7ff1;

/** `error 380 sysfs_write_bdf: text` for each line of libxl_pci.c; other lines as they are. */
const brief = (err: string): string[] =>
  err
    .split('\n')
    .filter((l) => l !== '')
    .map((l) => l.replace(/^libxl: (\w+): libxl_pci\.c:(\d+):/, '$1 $2 '));
const writes = (path: string, why = EIO): string =>
  `error 380 sysfs_write_bdf: write to ${path} returned -1: ${why}`;
/** That the device cannot be taken from its driver; that pciback's slots cannot be read. */
const stuck = (dir: string): string[] => [
  writes(`${dir}/unbind`),
  `error 520 sysfs_dev_unbind: Couldn't unbind device: ${EIO}`,
];
const UNREAD = `error 667 pciback_dev_has_slot: Couldn't open ${PCIBACK}/slots: ${EIO}`;
const driver = (h: XlHost): string | undefined => h.dom0.kernel.deviceNamed('0000:06:00.0')?.driver?.name;
/** Runs `xl` while the `n`th access of sysfs fails. */
function failing(h: XlHost, n: number, ...argv: string[]): { exit: number; err: string[] } {
  h.machine.hw.faults.failNth(n, 'sysfs');
  const { exit, err } = h.xl(...argv);
  expect(h.machine.hw.faults.hit).toEqual(['sysfs']);
  h.machine.hw.faults.disarm();
  return { exit, err: brief(err) };
}

describe('pci-assignable-add', () => {
  const BIND = "error 830 libxl__device_pci_assignable_add: Couldn't bind device to pciback!";
  const NOT = "Couldn't bind device to pciback!";
  test.each([
    [
      'leaving the old driver',
      1,
      'e1000e',
      [
        ...stuck(E1000E),
        "error 808 libxl__device_pci_assignable_add: Couldn't unbind 0000:06:00.0 from driver",
      ],
    ],
    [
      'reading the slots',
      2,
      undefined,
      [UNREAD, `error 718 pciback_dev_assign: Error checking for pciback slot: ${EIO}`, BIND],
    ],
    [
      'asking for a slot',
      3,
      undefined,
      [writes(`${PCIBACK}/new_slot`), `error 723 pciback_dev_assign: ${NOT}: ${EIO}`, BIND],
    ],
    [
      'binding',
      4,
      undefined,
      [writes(`${PCIBACK}/bind`), `error 729 pciback_dev_assign: ${NOT}: ${EIO}`, BIND],
    ],
  ])("that fails when %s says so, and the device stays dom0's", (_what, n, left, lines) => {
    const h = xlHost();
    h.sh('modprobe e1000e');
    expect(failing(h, n, 'pci-assignable-add', '06:00.0')).toEqual({ exit: 1, err: lines });
    expect([driver(h), h.machine.xen.pdevs.get(0x600)?.domain?.domid]).toEqual([left, 0]);
    // Trying again is all it takes.
    expect(h.xl('pci-assignable-add', '06:00.0').exit).toBe(0);
    expect(driver(h)).toBe('pciback');
  });

  test('that Xen refuses to quarantine is an error, with the device at pciback already', () => {
    const h = xlHost();
    h.sh('modprobe e1000e');
    h.refused.set('assign_device', E.NODEV);
    const r = h.xl('pci-assignable-add', '06:00.0');
    expect([r.exit, brief(r.err), driver(h)]).toEqual([
      1,
      ['error 848 libxl__device_pci_assignable_add: failed to quarantine 0000:06:00.0'],
      'pciback',
    ]);
  });

  test.each([
    ['n'.repeat(65), 'error 777 libxl__device_pci_assignable_add: Name too long'],
    ['a b', 'error 783 libxl__device_pci_assignable_add: Names may only include printable characters'],
  ])('under the name %s is refused before anything is touched', (name, line) => {
    const h = xlHost();
    h.sh('modprobe e1000e');
    h.steps();
    const r = h.xl('pci-assignable-add', '-n', name, '06:00.0');
    expect([r.exit, brief(r.err), h.steps(), driver(h)]).toEqual([1, [line], [], 'e1000e']);
  });

  test('under a name of 64 characters is taken', () => {
    const h = xlHost();
    const name = '~'.repeat(64);
    expect(h.xl('pci-assignable-add', '-n', name, '06:00.0').exit).toBe(0);
    expect(h.xl('pci-assignable-list', '-n').out).toBe(`0000:06:00.0 ${name}\n`);
  });
});

describe('pci-assignable-remove -r', () => {
  const REBIND = `info 925 libxl__device_pci_assignable_remove: Rebinding to driver at ${E1000E}`;
  const notBound = (why: string): string =>
    `error 930 libxl__device_pci_assignable_remove: Couldn't bind device to ${E1000E}: ${why}`;
  test.each([
    [
      'leaving pciback',
      1,
      1,
      'pciback',
      [
        ...stuck(PCIBACK),
        "error 739 pciback_dev_unassign: Couldn't unbind device!",
        REBIND,
        writes(`${E1000E}/bind`, 'Device or resource busy'),
        notBound('Device or resource busy'),
      ],
    ],
    ['reading the slots', 2, 0, 'e1000e', [UNREAD, REBIND]],
    [
      'giving the slot up',
      3,
      0,
      'e1000e',
      [
        writes(`${PCIBACK}/remove_slot`),
        `error 747 pciback_dev_unassign: Couldn't remove pciback slot: ${EIO}`,
        REBIND,
      ],
    ],
    ['going back to its driver', 4, 1, undefined, [REBIND, writes(`${E1000E}/bind`), notBound(EIO)]],
  ])('that fails when %s goes on as far as it can', (_what, n, exit, left, lines) => {
    const h = xlHost();
    h.sh('modprobe e1000e');
    h.xl('pci-assignable-add', '06:00.0');
    expect(failing(h, n, 'pci-assignable-remove', '-r', '06:00.0')).toEqual({ exit, err: lines });
    expect([driver(h), h.machine.xen.pdevs.get(0x600)?.domain?.domid]).toEqual([left, 0]);
    expect(h.sh(`cat ${PCIBACK}/slots`).out).toBe(n === 4 ? '' : '0000:06:00.0\n');
    // The driver is forgotten once it has the device again.
    expect(h.dom0.xs.read('/libxl/pci/0000-06-00-0/driver_path')).toBe(exit === 0 ? undefined : E1000E);
  });

  test('a device that left pciback by hand is still given back', () => {
    const h = xlHost();
    h.sh('modprobe e1000e');
    h.xl('pci-assignable-add', '06:00.0');
    h.sh(`echo 0000:06:00.0 > ${PCIBACK}/unbind`);
    const r = h.xl('pci-assignable-remove', '-r', '06:00.0');
    expect([r.exit, brief(r.err), driver(h)]).toEqual([
      0,
      ['warning 917 libxl__device_pci_assignable_remove: Not bound to pciback', REBIND],
      'e1000e',
    ]);
  });

  test('a device without a remembered driver is given back all the same', () => {
    const h = xlHost();
    h.xl('pci-assignable-add', '06:00.0');
    const r = h.xl('pci-assignable-remove', '-r', '06:00.0');
    expect([r.exit, brief(r.err), driver(h)]).toEqual([
      0,
      [
        "warning 938 libxl__device_pci_assignable_remove: Couldn't find path for original driver; not rebinding",
      ],
      undefined,
    ]);
  });
});

function guest(text: string, bdf: string): XlHost {
  const h = xlHost();
  h.xl('pci-assignable-add', bdf);
  expect(h.create(text).exit).toBe(0);
  return h;
}
const notAdded = (who: string, rc = -3): string[] => [
  `error 1809 device_pci_add_done: Domain 1:libxl__device_pci_add failed for PCI device ${who} (rc ${rc})`,
  'libxl: error: libxl_device.c:1487:device_addrm_aocomplete: unable to add device',
];
const NO = 'Operation not permitted';
const OWNER = (bdf: string): string => `/libxl/pci/0000-${bdf.replace(/[:.]/g, '-')}/domid`;

describe('pci-attach', () => {
  test.each([
    [
      'iomem_permission',
      `1468 pci_add_dm_done: Domain 1:xc_domain_iomem_permission 0xfe640000/0x20000 (error -1): ${NO}`,
    ],
    [
      'ioport_permission',
      `1457 pci_add_dm_done: Domain 1:xc_domain_ioport_permission 0x4000/0x20 (error -1): ${NO}`,
    ],
    ['map_pirq', `1491 pci_add_dm_done: Domain 1:xc_physdev_map_pirq irq=22 (error=-1): ${NO}`],
    ['irq_permission', `1499 pci_add_dm_done: Domain 1:xc_domain_irq_permission irq=22 (error=-1): ${NO}`],
    ['assign_device', `1529 pci_add_dm_done: Domain 1:xc_assign_device failed: ${NO}`],
  ])('fails for both kinds of guests when Xen refuses %s, and nobody owns the device then', (cmd, line) => {
    for (const text of [HVM, PV]) {
      const h = guest(text, '02:00.0');
      h.refused.set(cmd, E.PERM);
      const r = h.xl('pci-attach', 'g', '02:00.0');
      expect([r.exit, brief(r.err)]).toEqual([1, [`error ${line}`, ...notAdded('0:2:0.0')]]);
      expect(h.dom0.xs.read(OWNER('02:00.0'))).toBeUndefined();
      expect(h.machine.xen.pdevs.get(0x200)?.domain?.domid).toBe(DOMID_IO);
    }
  });

  test.each([
    [E.OPNOTSUPP, 'cannot be assigned - no IOMMU'],
    [E.BUSY, 'already assigned to a different guest'],
  ])('of an HVM guest asks Xen first: %i is told as it is', (rc, why) => {
    const h = guest(HVM, '02:00.0');
    h.refused.set('test_assign_device', rc);
    const r = h.xl('pci-attach', 'g', '02:00.0');
    expect([r.exit, brief(r.err)]).toEqual([
      1,
      [
        `error 1658 libxl__device_pci_add: Domain 1:PCI device 0000:02:00.0 ${why}?`,
        ...notAdded('0:2:0.0', -1),
      ],
    ]);
  });

  // @xen pci_add_dm_done, pci_remove_detached: a Xen without IOMMU is good enough for PV guests
  test('of a PV guest goes without assignment where Xen knows none, and so does pci-detach', () => {
    const h = guest(PV, '02:00.0');
    for (const cmd of ['assign_device', 'deassign_device']) h.refused.set(cmd, E.NOSYS);
    for (const cmd of ['pci-attach', 'pci-detach'])
      expect(h.xl(cmd, 'g', '02:00.0')).toEqual({ exit: 0, out: '', err: '' });
    const hvm = guest(HVM, '02:00.0');
    hvm.refused.set('assign_device', E.NOSYS);
    const r = hvm.xl('pci-attach', 'g', '02:00.0');
    const line = 'error 1529 pci_add_dm_done: Domain 1:xc_assign_device failed: Function not implemented';
    expect([r.exit, brief(r.err)]).toEqual([1, [line, ...notAdded('0:2:0.0')]]);
  });

  const FILE = '/sys/bus/pci/devices/0000:06:00.0';
  test.each([
    ['the reset', 1, 0, [`error 1568 libxl__device_pci_reset: write to ${FILE}/reset failed: ${EIO}`]],
    [
      'reading the resources',
      2,
      1,
      [`error 1445 pci_add_dm_done: Domain 1:Couldn't open ${FILE}/resource: ${EIO}`, ...notAdded('0:6:0.0')],
    ],
    [
      'reading the interrupt',
      3,
      0,
      [`error 1485 pci_add_dm_done: Domain 1:Couldn't open ${FILE}/irq: ${EIO}`],
    ],
    [
      'permissive mode',
      4,
      1,
      [
        writes(`${PCIBACK}/permissive`),
        'error 1512 pci_add_dm_done: Domain 1:Setting permissive for device',
        ...notAdded('0:6:0.0'),
      ],
    ],
  ])('says that %s failed, access %i, and ends with %i', (_what, n, exit, lines) => {
    const h = guest(PV, '06:00.0');
    expect(failing(h, n, 'pci-attach', 'g', '06:00.0,permissive=1')).toEqual({ exit, err: lines });
    expect(h.xl('pci-list', 'g').out.includes('06:00.0')).toBe(exit === 0);
    expect(h.dom0.xs.read(OWNER('06:00.0'))).toBe(exit === 0 ? '1' : undefined);
  });
});

describe('pci-detach', () => {
  const FILE = '/sys/bus/pci/devices/0000:06:00.0';
  test.each([
    ['the resources', 1, `2196 pci_remove_detached: Domain 1:Couldn't open ${FILE}/resource: ${EIO}`],
    ['the interrupt', 2, `2237 pci_remove_detached: Domain 1:Couldn't open ${FILE}/irq: ${EIO}`],
    ['the reset', 3, `1568 libxl__device_pci_reset: write to ${FILE}/reset failed: ${EIO}`],
  ])('goes on when %s cannot be had', (_what, n, line) => {
    const h = guest(PV, '06:00.0');
    h.xl('pci-attach', 'g', '06:00.0');
    expect(failing(h, n, 'pci-detach', 'g', '06:00.0')).toEqual({ exit: 0, err: [`error ${line}`] });
    expect([h.xl('pci-list', 'g').out, h.machine.xen.pdevs.get(0x600)?.domain?.domid]).toEqual([
      '',
      DOMID_IO,
    ]);
  });

  /** In the order of the file `resource`: registers 0, 1 and 3, and the ROM. */
  const MEMORY = ['0xfe640000/0x20000', '0xfe660000/0x20000', '0xfe680000/0x4000', '0xfe600000/0x40000'];
  test.each([
    ['iomem_permission', DOMID_IO, MEMORY.map((range) => `2219 xc_domain_iomem_permission error ${range}`)],
    ['ioport_permission', DOMID_IO, ['2209 xc_domain_ioport_permission error 0x4000/0x20']],
    ['unmap_pirq', DOMID_IO, ['2250 xc_physdev_unmap_pirq irq=22']],
    ['irq_permission', DOMID_IO, ['2254 xc_domain_irq_permission irq=22']],
    ['deassign_device', 1, ['2272 xc_deassign_device failed']],
  ])('goes on when Xen refuses %s, and the guest has lost the device for xl', (cmd, owner, told) => {
    const h = guest(PV, '02:00.0');
    h.xl('pci-attach', 'g', '02:00.0');
    h.refused.set(cmd, E.PERM);
    const r = h.xl('pci-detach', 'g', '02:00.0');
    const lines = told.map((l) => `error ${l.replace(' ', ' pci_remove_detached: Domain 1:')}: ${NO}`);
    expect([r.exit, brief(r.err)]).toEqual([0, lines]);
    expect([h.xl('pci-list', 'g').out, h.dom0.xs.read(OWNER('02:00.0'))]).toEqual(['', undefined]);
    expect(h.machine.xen.pdevs.get(0x200)?.domain?.domid).toBe(owner);
  });

  test('of a device that the guest does not have is an error, and changes nothing', () => {
    const h = guest(PV, '02:00.0');
    h.xl('pci-assignable-add', '06:00.0');
    h.xl('pci-attach', 'g', '06:00.0');
    h.steps();
    const r = h.xl('pci-detach', 'g', '02:00.0');
    expect([r.exit, brief(r.err)]).toEqual([
      1,
      [
        'error 1967 do_pci_remove: Domain 1:PCI device not attached to this domain',
        'libxl: error: libxl_device.c:1487:device_addrm_aocomplete: unable to remove device',
      ],
    ]);
    expect(h.steps().filter((s) => s !== 'hv getdomaininfo')).toEqual([]);
  });
});

describe('devices by name', () => {
  const named = (): XlHost => {
    const h = xlHost();
    h.xl('pci-assignable-add', '-n', 'nic', '06:00.0');
    expect(h.create(PV).exit).toBe(0);
    return h;
  };
  test('go to a guest and come back', () => {
    const h = named();
    expect(h.xl('pci-attach', 'g', 'name=nic').exit).toBe(0);
    expect([
      h.xl('pci-list', 'g').out.includes('06:00.0'),
      h.machine.xen.pdevs.get(0x600)?.domain?.domid,
    ]).toEqual([true, 1]);
    expect(h.xl('pci-detach', 'g', 'name=nic').exit).toBe(0);
    expect(h.xl('pci-list', 'g').out).toBe('');
    expect(h.xl('pci-assignable-list', '-n').out).toBe('0000:06:00.0 nic\n');
  });

  test('that nobody gave are errors, which name them', () => {
    const h = named();
    h.steps();
    const [add, remove] = ['pci-attach', 'pci-detach'].map((cmd) => h.xl(cmd, 'g', 'name=disk'));
    expect([add!.exit, brief(add!.err)[0]]).toEqual([
      1,
      "error 1803 device_pci_add_done: Domain 1:libxl__device_pci_add failed for PCI device 'disk' (rc -23)",
    ]);
    expect([remove!.exit, brief(remove!.err)]).toEqual([
      1,
      ['libxl: error: libxl_device.c:1487:device_addrm_aocomplete: unable to remove device'],
    ]);
    const gone = h.xl('pci-assignable-remove', 'disk');
    expect([gone.exit, gone.err]).toEqual([2, "pci-assignable-remove: malformed BDF 'disk'\n"]);
    expect(h.steps().filter((s) => /assign|iomem|sysfs/.test(s))).toEqual([]);
  });

  test('are taken back by that name', () => {
    const h = named();
    expect(h.xl('pci-assignable-remove', 'nic')).toEqual({ exit: 0, out: '', err: '' });
    expect([h.xl('pci-assignable-list').out, driver(h)]).toEqual(['', undefined]);
  });

  test('lose their name when they are added again without one', () => {
    const h = named();
    h.xl('pci-assignable-add', '06:00.0');
    expect(h.xl('pci-assignable-list', '-n').out).toBe('0000:06:00.0 \n');
  });
});

describe('all functions of a device', () => {
  test('need a slot in the guest', () => {
    const h = xlHost();
    for (const bdf of ['01:00.0', '01:00.1']) h.xl('pci-assignable-add', bdf);
    expect(h.create(PV).exit).toBe(0);
    const r = h.xl('pci-attach', 'g', '01:00.*');
    expect([r.exit, brief(r.err)]).toEqual([
      1,
      [
        'error 1756 device_pci_add_stubdom_done: Domain 1:Must specify a v-slot for multi-function devices',
        ...notAdded('0:1:0.0', -6),
      ],
    ]);
    expect(h.xl('pci-list', 'g').out).toBe('');
  });

  test('must all be with pciback', () => {
    const h = xlHost();
    h.xl('pci-assignable-add', '01:00.0');
    expect(h.create(PV).exit).toBe(0);
    const r = h.xl('pci-attach', 'g', '01:00.*@5');
    expect([r.exit, brief(r.err)]).toEqual([
      1,
      [
        'error 1008 pci_multifunction_check: 0000:01:00.1 is not assigned to pciback driver',
        ...notAdded('0:1:0.0'),
      ],
    ]);
    expect(h.xl('pci-list', 'g').out).toBe('');
  });

  // @xen device_pci_remove_common_next: from the highest function down, and pci_remove_detached: one reset
  test('go back one after the other, and are reset with function 0', () => {
    const h = xlHost();
    for (const bdf of ['01:00.0', '01:00.1']) h.xl('pci-assignable-add', bdf);
    expect(h.create(PV).exit).toBe(0);
    for (const bdf of ['01:00.0', '01:00.1']) expect(h.xl('pci-attach', 'g', bdf).exit).toBe(0);
    h.steps();
    const r = h.xl('pci-detach', 'g', '01:00.*');
    // They share a line, which the first of them takes along.
    const shared = 'error 2250 pci_remove_detached: Domain 1:xc_physdev_unmap_pirq irq=21: Invalid argument';
    expect([r.exit, brief(r.err)]).toEqual([0, [shared]]);
    const steps = h.steps();
    expect(steps.filter((l) => l.includes('deassign'))).toEqual([
      'hv deassign_device:1:101',
      'hv deassign_device:1:100',
    ]);
    const reset = 'sysfs /sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/reset 1';
    expect(steps.filter((l) => l.includes('/reset'))).toEqual([reset]);
    expect(h.xl('pci-list', 'g').out).toBe('');
  });
});

// @xen libxl_pci.c: pci_remove_detached and device_pci_remove_common_next end the connection, whether there was one or not
test.each([
  ['of one function', '01:00.1', ['Domain 1:', 'Domain 1:']],
  ['of all functions', '01:00.*', ['Domain 1:', 'Domain 1:', 'Domain 1:']],
  ['by a name that nobody gave', 'name=disk', ['']],
])(
  'xl -vvv pci-detach %s ends one connection to QEMU, after each function and at last',
  (_what, spec, ends) => {
    const h = xlHost();
    for (const bdf of ['01:00.0', '01:00.1']) h.xl('pci-assignable-add', bdf);
    expect(h.create(PV).exit).toBe(0);
    for (const bdf of ['01:00.0', '01:00.1']) h.xl('pci-attach', 'g', bdf);
    const lines = h.xl('-vvv', 'pci-detach', 'g', spec).err.split('\n');
    const told = lines.flatMap((l) => /libxl__ev_qmp_dispose: (.*) ev (0x\w+)$/.exec(l)?.slice(1) ?? []);
    expect(told.filter((_, i) => i % 2 === 0)).toEqual(ends);
    expect(new Set(told.filter((_, i) => i % 2 === 1)).size).toBe(1);
  },
);
