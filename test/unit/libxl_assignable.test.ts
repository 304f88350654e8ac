/** xl pci-assignable-add, -list and -remove: what they write, in which order, and what they say. */
import { describe, expect, test } from 'vitest';
import { parseSbdf } from '../../src/base/sbdf.js';
import { type XlHost, xlHost } from './xl_host.js';

const BDF = '06:00.0';
const SBDF = parseSbdf(BDF)!;
const NODE = '/libxl/pci/0000-06-00-0';
const PCIBACK = '/sys/bus/pci/drivers/pciback';
const E1000E = '/sys/bus/pci/drivers/e1000e';

/** What a PV kernel asks Xen for the network card: three MSI-X vectors of the driver, the line of the slot. */
const vectors = (op: string): string[] => Array<string>(3).fill(`hv ${op}_pirq`);
const LINE = 'hv setup_gsi';

/** A host on which the network card has its driver. */
function bound(): XlHost {
  const h = xlHost();
  h.sh('modprobe e1000e');
  expect(driver(h)).toBe('e1000e');
  h.steps();
  return h;
}
const driver = (h: XlHost): string | undefined => h.dom0.kernel.pci.devices.get(SBDF)?.driver?.name;

describe('FT-F10 pci-assignable-add', () => {
  test('FT-F10 unbinds, remembers the driver, gives to pciback, quarantines', () => {
    const h = bound();
    expect(h.xl('pci-assignable-add', BDF)).toEqual({ exit: 0, out: '', err: '' });
    expect(h.steps()).toEqual([
      `sysfs ${E1000E}/unbind 0000:06:00.0`,
      ...vectors('unmap'),
      `xs ${NODE}/driver_path=${E1000E}`,
      `sysfs ${PCIBACK}/new_slot 0000:06:00.0`,
      `sysfs ${PCIBACK}/bind 0000:06:00.0`,
      LINE,
      'hv prepare_msix',
      'hv assign_device:7ff1:600',
    ]);
    expect([driver(h), h.machine.xen.pdevs.get(SBDF)?.domain?.domid]).toEqual(['pciback', 0x7ff1]);
  });

  test('FT-F10 a device without a driver will not be rebound', () => {
    const h = xlHost();
    expect(h.xl('pci-assignable-add', BDF).err).toBe(
      'libxl: warning: libxl_pci.c:822:libxl__device_pci_assignable_add: ' +
        '0000:06:00.0 not bound to a driver, will not be rebound.\n',
    );
    expect(h.dom0.xs.read(`${NODE}/driver_path`)).toBeUndefined();
  });

  test('FT-F10 a device that is not there is an error', () => {
    const r = xlHost().xl('pci-assignable-add', '0e:00.0');
    expect(r).toEqual({
      exit: 1,
      out: '',
      err:
        'libxl: error: libxl_pci.c:792:libxl__device_pci_assignable_add: ' +
        "Couldn't lstat /sys/bus/pci/devices/0000:0e:00.0: No such file or directory\n",
    });
  });
});

test('FT-F11 a second time warns, succeeds, and only quarantines again', () => {
  const h = bound();
  h.xl('pci-assignable-add', BDF);
  h.steps();
  expect(h.xl('pci-assignable-add', BDF)).toEqual({
    exit: 0,
    out: '',
    err:
      'libxl: warning: libxl_pci.c:802:libxl__device_pci_assignable_add: ' +
      '0000:06:00.0 already assigned to pciback\n',
  });
  expect(h.steps()).toEqual(['hv assign_device:7ff1:600']);
  expect(h.dom0.xs.read(`${NODE}/driver_path`)).toBe(E1000E);
});

describe('FT-F12 pci-assignable-remove', () => {
  test('FT-F12 takes out of quarantine first; with -r the driver gets it back and is forgotten', () => {
    const h = bound();
    h.xl('pci-assignable-add', BDF);
    h.steps();
    expect(h.xl('pci-assignable-remove', '-r', BDF)).toMatchObject({ exit: 0, out: '' });
    expect(h.steps()).toEqual([
      'hv deassign_device:7ff1:600',
      `sysfs ${PCIBACK}/unbind 0000:06:00.0`,
      'hv release_msix',
      `sysfs ${PCIBACK}/remove_slot 0000:06:00.0`,
      `sysfs ${E1000E}/bind 0000:06:00.0`,
      LINE,
      ...vectors('map'),
      `xs rm ${NODE}/driver_path`,
    ]);
    expect([driver(h), h.machine.xen.pdevs.get(SBDF)?.domain?.domid]).toEqual(['e1000e', 0]);
  });

  test('FT-F12 without -r the driver stays remembered, and comes back later', () => {
    const h = bound();
    h.xl('pci-assignable-add', BDF);
    expect(h.xl('pci-assignable-remove', BDF)).toEqual({ exit: 0, out: '', err: '' });
    expect([driver(h), h.dom0.xs.read(`${NODE}/driver_path`)]).toEqual([undefined, E1000E]);
    expect(h.xl('pci-assignable-add', BDF).err).toBe(
      'libxl: info: libxl_pci.c:819:libxl__device_pci_assignable_add: ' +
        `0000:06:00.0 not bound to a driver, will be rebound to ${E1000E}\n`,
    );
  });

  test('FT-F12 a device that is not in quarantine is left alone', () => {
    const h = bound();
    expect(h.xl('pci-assignable-remove', BDF)).toEqual({
      exit: 1,
      out: '',
      err:
        'libxl: error: libxl_pci.c:906:libxl__device_pci_assignable_remove: ' +
        'failed to de-quarantine 0000:06:00.0\n',
    });
    expect(h.steps().map((s) => s.replace(/=-\d+$/, ''))).toEqual(['hv deassign_device:7ff1:600']);
    expect(driver(h)).toBe('e1000e');
  });
});

describe('FT-F13 pci-assignable-list', () => {
  test('FT-F13 lists what pciback has, without what domains have', () => {
    const h = xlHost();
    h.xl('pci-assignable-add', '02:00.0');
    h.xl('pci-assignable-add', BDF);
    expect(h.xl('pci-assignable-list').out).toBe('0000:02:00.0 \n0000:06:00.0 \n');
    h.dom0.xs.write('/libxl/pci/0000-02-00-0/domid', '1');
    expect(h.xl('pci-assignable-list').out).toBe('0000:06:00.0 \n');
  });

  test('FT-F13 a name stands behind its device', () => {
    const h = xlHost();
    h.xl('pci-assignable-add', '-n', 'nic', BDF);
    expect(h.xl('pci-assignable-list', '-n').out).toBe('0000:06:00.0 nic\n');
  });
});
