/** Devices going to running domains and back. */
import { describe, expect, test } from 'vitest';
import { type XlHost, type XlHostOptions, xlHost } from './xl_host.js';

const HVM = 'name="g"\ntype="hvm"\nmemory=64\nvnc=0\npassthrough="enabled"\n';
const PV = 'name="g"\ntype="pv"\nmemory=64\nkernel="/h1/vmlinuz"\npassthrough="enabled"\n';
const BACK = '/local/domain/0/backend/pci/1/0';

function withGuest(text: string, devices: readonly string[], o: XlHostOptions = {}): XlHost {
  const h = xlHost(o);
  for (const d of devices) h.xl('pci-assignable-add', d);
  expect(h.create(text).exit).toBe(0);
  h.steps();
  return h;
}
/** Steps without the questions, and without what back end and front end say to each other. */
const essence = (h: XlHost): string[] =>
  h.steps().filter((s) => !/^hv (getdomaininfo|bind|unbind)|^xs .*backend\/pci|^xs .*device\/pci/.test(s));
const RESET = (bdf: string): string => `sysfs /sys/devices/pci0000:00/0000:00:02.0/${bdf}/reset 1`;

const GRANTS = [
  'hv iomem_permission:1:+fe640/32',
  'hv iomem_permission:1:+fe660/32',
  'hv ioport_permission',
  'hv iomem_permission:1:+fe680/4',
  'hv iomem_permission:1:+fe600/64',
  'hv map_pirq',
  'hv irq_permission',
];
const ERR = 'libxl: error: libxl_pci.c';

describe('FT-F14 the steps of pci-attach', () => {
  test('FT-F14 HVM: ask Xen, note the owner, reset, plug into QEMU, permissions, assign', () => {
    const h = withGuest(HVM, ['02:00.0']);
    expect(h.xl('pci-attach', 'g', '02:00.0').exit).toBe(0);
    const add = '{"driver":"xen-pci-passthrough","id":"pci-pt-02_00.0","hostaddr":"0000:02:00.0"}';
    expect(essence(h)).toEqual([
      'hv test_assign_device:1:200',
      'xs /libxl/pci/0000-02-00-0/domid=1',
      RESET('0000:02:00.0'),
      `qmp {"execute":"device_add","arguments":${add}}`,
      'hv map_pirq',
      'qmp {"execute":"query-pci"}',
      ...GRANTS,
      'hv assign_device:1:200',
    ]);
  });

  test('FT-F14 PV: nobody asks Xen before, and there is no QEMU', () => {
    const h = withGuest(PV, ['02:00.0']);
    expect(h.xl('pci-attach', 'g', '02:00.0').exit).toBe(0);
    expect(essence(h)).toEqual([
      'xs /libxl/pci/0000-02-00-0/domid=1',
      RESET('0000:02:00.0'),
      ...GRANTS,
      'hv assign_device:1:200',
    ]);
  });

  test.each([
    [
      '01:00.1',
      "1573:libxl__device_pci_reset: The kernel doesn't support reset from sysfs for PCI device 0000:01:00.1",
    ],
    [
      '09:01.0',
      '1568:libxl__device_pci_reset: ' +
        'write to /sys/bus/pci/devices/0000:09:01.0/reset failed: Inappropriate ioctl for device',
    ],
  ])('FT-F14 %s cannot be reset: an error is printed, and the guest gets it all the same', (bdf, line) => {
    const h = withGuest(PV, [bdf]);
    const r = h.xl('pci-attach', 'g', bdf);
    expect(r).toEqual({ exit: 0, out: '', err: `${ERR}:${line}\n` });
    expect(h.xl('pci-list', 'g').out).toContain(bdf);
  });

  test('FT-F14 a device that pciback does not have is refused before anything is done', () => {
    const h = withGuest(PV, []);
    expect(h.xl('pci-attach', 'g', '02:00.0')).toEqual({
      exit: 1,
      out: '',
      err:
        `${ERR}:1677:libxl__device_pci_add: Domain 1:PCI device 0:2:0.0 is not assignable\n` +
        `${ERR}:1809:device_pci_add_done: Domain 1:libxl__device_pci_add failed for PCI device 0:2:0.0 (rc -3)\n` +
        'libxl: error: libxl_device.c:1487:device_addrm_aocomplete: unable to add device\n',
    });
    expect(essence(h)).toEqual([]);
  });
});

describe('FT-F15 an attach that fails', () => {
  test('FT-F15 of a device that another domain has: the node of its owner is lost, permissions stay', () => {
    const h = withGuest(PV.replace('"g"', '"first"'), ['02:00.0']);
    h.xl('pci-attach', 'first', '02:00.0');
    expect(h.create(PV).exit).toBe(0);
    // Without its node the device looks assignable.
    h.dom0.xs.rm('/libxl/pci/0000-02-00-0/domid');
    h.steps();
    const r = h.xl('pci-attach', 'g', '02:00.0');
    expect(r).toEqual({
      exit: 1,
      out: '',
      err:
        `${ERR}:1529:pci_add_dm_done: Domain 2:xc_assign_device failed: Device or resource busy\n` +
        `${ERR}:1809:device_pci_add_done: Domain 2:libxl__device_pci_add failed for PCI device 0:2:0.0 (rc -3)\n` +
        'libxl: error: libxl_device.c:1487:device_addrm_aocomplete: unable to add device\n',
    });
    expect(essence(h)).toEqual([
      'xs /libxl/pci/0000-02-00-0/domid=2',
      RESET('0000:02:00.0'),
      ...GRANTS.map((s) => s.replace(':1:', ':2:')),
      'hv assign_device:2:200=-16',
      'xs rm /libxl/pci/0000-02-00-0/domid',
    ]);
  });
});

describe('FT-F16 all functions of a slot', () => {
  const ALL = ['0a:00.0', '0a:00.1', '0a:00.2'];
  test('FT-F16 need a virtual slot', () => {
    const h = withGuest(PV, ALL);
    expect(h.xl('pci-attach', 'g', '0a:00.*').err).toContain(
      'Must specify a v-slot for multi-function devices\n',
    );
  });
  test('FT-F16 must all be with pciback', () => {
    const h = withGuest(PV, ALL.slice(0, 2));
    const r = h.xl('pci-attach', 'g', '0a:00.*@5');
    expect([r.exit, r.err]).toEqual([
      1,
      expect.stringContaining('0000:0a:00.2 is not assigned to pciback driver\n'),
    ]);
  });
  test('FT-F16 of them only the highest is added', () => {
    const h = withGuest(PV, ALL);
    expect(h.xl('pci-attach', 'g', '0a:00.*@5').exit).toBe(0);
    expect(h.steps().filter((s) => s.startsWith('hv assign'))).toEqual(['hv assign_device:1:a02']);
  });
});

describe('FT-F17 pci-detach', () => {
  const TIMEOUT =
    'libxl: warning: libxl_pci.c:2218:pci_remove_timeout: ' +
    'Domain 1:timed out waiting for DM to remove pci-pt-02_00.0\n';
  function attached(): XlHost {
    const h = withGuest(HVM, ['02:00.0'], { release: '4.17' });
    h.xl('pci-attach', 'g', '02:00.0');
    h.guests.acpi = false;
    return h;
  }
  test('FT-F17 fails after ten seconds when the guest does not let go', () => {
    const h = attached();
    const before = h.dom0.clock.nowNs;
    expect(h.xl('pci-detach', 'g', '02:00.0')).toEqual({
      exit: 1,
      out: '',
      err: `${TIMEOUT}libxl: error: libxl_device.c:1486:device_addrm_aocomplete: unable to remove device\n`,
    });
    expect(Math.round((h.dom0.clock.nowNs - before) / 1e9)).toBe(10);
    expect(h.xl('pci-list', 'g').out).toContain('0000:02:00.0');
  });
  test('FT-F17 with -f it goes all the same', () => {
    const h = attached();
    h.steps();
    expect(h.xl('pci-detach', '-f', 'g', '02:00.0')).toEqual({ exit: 0, out: '', err: TIMEOUT });
    expect(h.steps()).toContain('hv deassign_device:1:200');
    expect(h.xl('pci-list', 'g').out).toBe('');
  });
  test('FT-F17 a guest that lets go is waited for', () => {
    const h = attached();
    h.guests.acpi = true;
    expect(h.xl('pci-detach', 'g', '02:00.0')).toEqual({ exit: 0, out: '', err: '' });
  });
});

test('FT-F18 pci-list prints the guest side and the host side, and nothing for a guest without devices', () => {
  const h = withGuest(HVM, ['02:00.0', '06:00.0']);
  expect(h.xl('pci-list', 'g').out).toBe('');
  h.xl('pci-attach', 'g', '02:00.0@1f');
  h.xl('pci-attach', 'g', '06:00.0');
  expect(h.xl('pci-list', 'g').out).toBe('Vdev Device\n1f.0 0000:02:00.0\n04.0 0000:06:00.0\n');
});

describe('FT-F25 the nodes of the back end', () => {
  const node = (h: XlHost, name: string): string | undefined => h.dom0.xs.read(`${BACK}/${name}`);
  test('FT-F25 number, key, device, place, options, state', () => {
    const h = withGuest(HVM, ['02:00.0']);
    h.xl('pci-attach', 'g', '02:00.0@6,msitranslate=1,permissive=1,rdm_policy=relaxed');
    expect(
      ['num_devs', 'key-0', 'dev-0', 'vdevfn-0', 'opts-0', 'frontend-id', 'domain'].map((n) => node(h, n)),
    ).toEqual([
      '1',
      '0000:02:00.0',
      '0000:02:00.0',
      '30',
      'msitranslate=1,power_mgmt=0,permissive=1,rdm_policy=relaxed',
      '1',
      'g',
    ]);
    expect(h.steps()).toContain(`xs ${BACK}/state-0=1`);
  });

  test('FT-F25 when one leaves, those behind it move down', () => {
    const h = withGuest(PV, ['02:00.0', '06:00.0']);
    h.xl('pci-attach', 'g', '02:00.0');
    h.xl('pci-attach', 'g', '06:00.0,permissive=1');
    expect([node(h, 'dev-1'), node(h, 'num_devs')]).toEqual(['0000:06:00.0', '2']);
    expect(h.xl('pci-detach', 'g', '02:00.0').exit).toBe(0);
    expect(['num_devs', 'dev-0', 'key-0', 'opts-0', 'dev-1', 'key-1'].map((n) => node(h, n))).toEqual([
      '1',
      '0000:06:00.0',
      '0000:06:00.0',
      'msitranslate=0,power_mgmt=0,permissive=1,rdm_policy=strict',
      undefined,
      undefined,
    ]);
  });

  test('FT-F25 with the last one they go', () => {
    const h = withGuest(PV, ['02:00.0']);
    h.xl('pci-attach', 'g', '02:00.0');
    h.xl('pci-detach', 'g', '02:00.0');
    expect([h.dom0.xs.ls('/local/domain/0/backend'), h.dom0.xs.ls('/local/domain/1/device/pci')]).toEqual([
      ['console'],
      undefined,
    ]);
  });
});

describe('FT-F26 options of a device', () => {
  test('FT-F26 permissive is told to pciback', () => {
    const h = withGuest(PV, ['02:00.0']);
    h.xl('pci-attach', 'g', '02:00.0,permissive=1');
    expect(essence(h)).toContain('sysfs /sys/bus/pci/drivers/pciback/permissive 0000:02:00.0');
  });
  test('FT-F26 msitranslate and power_mgmt are in the options of the back end', () => {
    const h = withGuest(PV, ['02:00.0']);
    h.xl('pci-attach', 'g', '02:00.0,msitranslate=1,power_mgmt=1');
    expect(h.dom0.xs.read(`${BACK}/opts-0`)).toBe(
      'msitranslate=1,power_mgmt=1,permissive=0,rdm_policy=strict',
    );
  });
  test('FT-F26 seize makes the device assignable on the way', () => {
    const h = withGuest(PV, []);
    expect(h.xl('pci-attach', 'g', '02:00.0,seize=1').exit).toBe(0);
    const steps = essence(h);
    expect(steps.indexOf('hv assign_device:7ff1:200')).toBeGreaterThanOrEqual(0);
    expect(steps.indexOf('hv assign_device:1:200')).toBeGreaterThan(
      steps.indexOf('hv assign_device:7ff1:200'),
    );
  });
});
