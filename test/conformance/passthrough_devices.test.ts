/** Devices enter Xen's lists, change in them and leave. @xen drivers/passthrough/pci.c */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import { formatBdf } from '../../src/base/sbdf.js';
import type { Domain } from '../../src/hypervisor/domain.js';
import { PCI } from '../../src/hypervisor/passthrough/config.js';
import {
  pciAddDevice,
  pciHideDevice,
  pciRemoveDevice,
  pciRoDevice,
} from '../../src/hypervisor/passthrough/device_add.js';
import { dumpPciDevices } from '../../src/hypervisor/passthrough/dump.js';
import { iommuDoDomctl } from '../../src/hypervisor/passthrough/iommu.js';
import { pdevType } from '../../src/hypervisor/passthrough/pdev.js';
import { scanPciDevices } from '../../src/hypervisor/passthrough/scan.js';
import { findUpstreamBridge, isReadOnly } from '../../src/hypervisor/passthrough/segment.js';
import { PDEV_TYPE } from '../../src/iommu/driver/types.js';
import { runAlone } from '../../src/sim/co.js';
import { type DeviceSpec, endpoint, makeXen, sbdf, type TestXen, told, withPcidevs } from '../helpers/xen.js';

const bridge = (
  kind: 'pci-bridge' | 'pcie-to-pci-bridge' | 'root-port',
  dev: number,
  secondary: number,
  subordinate = secondary,
  bus = 0,
): DeviceSpec => ({ sbdf: sbdf(0, bus, dev, 0), kind, secondary, subordinate });

describe('pdev_type()', () => {
  const T = PDEV_TYPE;
  const PCIE = 0x40;
  const table: readonly { classCode: number; port?: number; type: number }[] = [
    { classCode: 0x0604, type: T.LEGACY_PCI_BRIDGE },
    { classCode: 0x0604, port: 7, type: T.PCIE2PCI_BRIDGE },
    { classCode: 0x0604, port: 8, type: T.PCI2PCIE_BRIDGE },
    { classCode: 0x0604, port: 4, type: T.PCIE_BRIDGE },
    { classCode: 0x0604, port: 6, type: T.PCIE_BRIDGE },
    { classCode: 0x0600, type: T.PCI_HOST_BRIDGE },
    { classCode: 0x0600, port: 4, type: T.PCI_HOST_BRIDGE },
    { classCode: 0xffff, type: T.UNKNOWN },
    { classCode: 0x0300, type: T.PCI },
    { classCode: 0x0300, port: 0, type: T.PCIE_ENDPOINT },
    { classCode: 0x0601, port: 7, type: T.PCIE_ENDPOINT },
    { classCode: 0x0000, type: T.PCI },
  ];
  test.each(table)('FT-A26 class $classCode, port type $port: type $type', ({ classCode, port, type }) => {
    const edit = (config: DataView): void => {
      config.setUint16(0x0a, classCode, true);
      if (port !== undefined) config.setUint16(PCIE + 2, 2 | (port << 4), true);
    };
    const kind = port === undefined ? 'pci-device' : 'pcie-endpoint';
    const xen = makeXen({ devices: [{ sbdf: sbdf(0, 3, 0, 0), kind, edit }], boot: 'none' });
    expect(pdevType(xen, sbdf(0, 3, 0, 0))).toBe(type);
  });
});

describe('bridges', () => {
  const above = (xen: TestXen, bus: number): string => {
    const out = { bus, devfn: 0xff, secbus: 0xff };
    const rc = findUpstreamBridge(xen, 0, out);
    return rc === 1 ? `${formatBdf(sbdf(0, out.bus, out.devfn >> 3, 0))} below ${out.secbus}` : String(rc);
  };

  test('FT-A27 conventional bridges are entered for each bus behind them; root ports are not', () => {
    const xen = makeXen({
      devices: [
        bridge('root-port', 1, 8, 12),
        bridge('pcie-to-pci-bridge', 0, 9, 12, 8),
        bridge('pci-bridge', 1, 10, 12, 9),
        { sbdf: sbdf(0, 10, 2, 0), kind: 'pci-device' },
      ],
    });
    expect([8, 9, 10, 12, 13].map((bus) => above(xen, bus))).toEqual([
      '0',
      '08:00.0 below 9',
      '08:00.0 below 9',
      '08:00.0 below 9',
      '0',
    ]);
    expect(runAlone(pciRemoveDevice(xen, 0, 9, 0x08))).toBe(0);
    expect(above(xen, 10)).toBe('08:00.0 below 10');
    expect(runAlone(pciRemoveDevice(xen, 0, 8, 0))).toBe(0);
    expect([above(xen, 9), above(xen, 12)]).toEqual(['0', '0']);
  });

  test.each([
    { release: '4.18', fixed: false, above: '0', says: ['0000:00:02.0: unknown type 4'] },
    { release: '4.18', fixed: true, above: '00:02.0 below 5', says: [] },
    { release: '4.23', fixed: false, above: '00:02.0 below 5', says: [] },
  ])(
    'FT-A27 a PCI-to-PCIe bridge counts in the newest Xen: $release, fixed $fixed',
    ({ release, fixed, above: got, says }) => {
      const edit = (c: DataView): void => c.setUint16(0x42, 2 | (8 << 4), true);
      const xen = makeXen({
        devices: [{ ...bridge('pcie-to-pci-bridge', 2, 5), edit }],
        release,
        fixed,
        boot: 'none',
      });
      runAlone(pciAddDevice(xen, 0, 0, 0x10, undefined, -1));
      expect([above(xen, 5), xen.news().filter((l) => l.includes('unknown'))]).toEqual([got, says]);
    },
  );

  test('FT-A28 as many bridges as there are buses are followed, and one round more is not', () => {
    const xen = makeXen({ devices: [bridge('pci-bridge', 1, 5)] });
    const { bus2bridge } = xen.segs.get(0)!;
    for (let bus = 1; bus < 256; bus++) bus2bridge.set(bus, { bus: bus - 1, devfn: 0 });
    expect(above(xen, 255)).toBe('00:00.0 below 1');
    bus2bridge.set(0, { bus: 255, devfn: 0 });
    expect(above(xen, 255)).toBe('-1');
  });

  test('FT-A28 a loop of bridges is given up', () => {
    const xen = makeXen({ devices: [bridge('pci-bridge', 1, 5)] });
    xen.segs.get(0)!.bus2bridge.set(5, { bus: 6, devfn: 0 });
    xen.segs.get(0)!.bus2bridge.set(6, { bus: 5, devfn: 0 });
    expect(above(xen, 5)).toBe('-1');
    expect(findUpstreamBridge(xen, 3, { bus: 5, devfn: 0, secbus: 0 })).toBe(-1);
    expect(xen.bus2bridgeLock.depth).toBe(0);
  });
});

describe('pci_add_device()', () => {
  const DEVICES = [endpoint(3, 0, 0, 2), endpoint(3, 1), endpoint(4, 0)];
  const info = (more: Partial<{ isExtfn: boolean; isVirtfn: boolean; bus: number }>) => ({
    isExtfn: more.isExtfn ?? false,
    isVirtfn: more.isVirtfn ?? false,
    physfn: { bus: more.bus ?? 0, devfn: 0 },
  });

  test('FT-A29 each device is reported, with a line for each phantom', () => {
    const xen = makeXen({ devices: DEVICES, boot: 'none' });
    runAlone(pciAddDevice(xen, 0, 3, 0, info({}), -1));
    runAlone(pciAddDevice(xen, 0, 4, 0, info({ isExtfn: true }), -1));
    expect(xen.news()).toEqual([
      'PCI add device 0000:03:00.0',
      'PCI phantom 0000:03:00.2',
      'PCI phantom 0000:03:00.4',
      'PCI phantom 0000:03:00.6',
      'PCI add extended function 0000:04:00.0',
    ]);
    expect(told(xen.vendor.calls)).toEqual([
      'add 00 ->0',
      'add 02 ->0',
      'add 04 ->0',
      'add 06 ->0',
      'add 00 ->0',
    ]);
  });

  test('a device that is known already is only enabled', () => {
    const xen = makeXen({ devices: DEVICES });
    expect(runAlone(pciAddDevice(xen, 0, 3, 0, info({}), -1))).toBe(0);
    expect(told(xen.vendor.calls)).toEqual(['enable 00 0>0']);
  });

  test('only the hardware domain may add and remove', () => {
    const xen = makeXen({ devices: DEVICES });
    xen.cpus.current.domid = 5;
    expect(runAlone(pciAddDevice(xen, 0, 3, 0, undefined, -1))).toBe(E.PERM);
    expect(runAlone(pciRemoveDevice(xen, 0, 3, 0))).toBe(E.PERM);
  });

  test('FT-A30 in 4.18 a missing physical function is added on the way', () => {
    const xen = makeXen({ devices: DEVICES, boot: 'none' });
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, info({ isVirtfn: true, bus: 3 }), -1))).toBe(0);
    expect(xen.news()).toContain('PCI add device 0000:03:00.0');
    expect(xen.dev(4, 0)).toMatchObject({ isVirtfn: true, physfn: { bus: 3, devfn: 0 } });
  });

  test('FT-A30 INV-O12 in 4.23 a virtual function without its physical one is refused and forgotten', () => {
    const xen = makeXen({ devices: DEVICES, boot: 'none', release: '4.23' });
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, info({ isVirtfn: true, bus: 3 }), -1))).toBe(E.NODEV);
    expect(xen.news()).toEqual(['Attempted to add SR-IOV VF 0000:04:00.0 without PF 0000:03:00.0']);
    expect(xen.pdevs.size).toBe(0);
  });

  test('FT-A31 what the vendor refuses stays known, without owner', () => {
    const xen = makeXen({ devices: DEVICES, boot: 'none' });
    xen.vendor.fail('add', 0, E.NODEV);
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, undefined, -1))).toBe(E.NODEV);
    expect([xen.dev(4, 0).domain, xen.hwdom.pdevList.size, xen.news()]).toEqual([undefined, 0, []]);
  });

  test('a device whose memory cannot be had is -ENOMEM and unknown', () => {
    const xen = makeXen({ devices: DEVICES, boot: 'none' });
    xen.faults.failNth(1);
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, undefined, -1))).toBe(E.NOMEM);
    expect(xen.pdevs.size).toBe(0);
  });

  test('FT-A43 access control is turned on as far as the device can, for owners with an IOMMU', () => {
    const acs = (c: DataView): void => {
      c.setUint32(0x100, 0x0001_000d, true);
      c.setUint16(0x104, 0x1d & ~0x04, true); // no request redirect
    };
    const devices = [{ ...endpoint(3, 0), edit: acs }];
    const control = (xen: TestXen): number => xen.pci.configRead(sbdf(0, 3, 0, 0), 0x106, 2);
    const xen = makeXen({ devices });
    runAlone(pciAddDevice(xen, 0, 3, 0, undefined, -1));
    expect(control(xen)).toBe(0x19);
    const without = makeXen({ devices, driver: false });
    runAlone(pciAddDevice(without, 0, 3, 0, undefined, -1));
    expect(control(without)).toBe(0);
    // What firmware turned on besides, here translation blocking, stays on.
    const blocking = (c: DataView): void => {
      acs(c);
      c.setUint16(0x104, 0x1f, true);
      c.setUint16(0x106, 0x02, true);
    };
    const set = makeXen({ devices: [{ ...endpoint(3, 0), edit: blocking }] });
    runAlone(pciAddDevice(set, 0, 3, 0, undefined, -1));
    expect(control(set)).toBe(0x1f);
  });
});

describe('SR-IOV', () => {
  const SRIOV = 0x100;
  const BAR0 = SRIOV + 0x24;
  const pf = (edit: (c: DataView) => void): DeviceSpec => ({
    ...endpoint(3, 0),
    edit: (c) => {
      c.setUint32(SRIOV, 0x0001_0010, true);
      edit(c);
    },
  });
  const add = (spec: DeviceSpec, release = '4.23'): TestXen => {
    const xen = makeXen({ devices: [spec], release, boot: 'none' });
    runAlone(pciAddDevice(xen, 0, 3, 0, undefined, -1));
    return xen;
  };
  const PREFIX = 'SR-IOV device 0000:03:00.0';

  test('FT-A47 virtual functions that are on already are not sized', () => {
    const xen = add(pf((c) => c.setUint16(SRIOV + 8, 9, true)));
    expect(xen.news()[0]).toBe(`${PREFIX} has its virtual functions already enabled (0009)`);
    expect(xen.dev(3, 0).vfRlen).toEqual([0, 0, 0, 0, 0, 0]);
  });

  test('FT-A47 a BAR in I/O space is reported and skipped', () => {
    expect(add(pf((c) => c.setUint32(BAR0, 1, true))).news()[0]).toBe(`${PREFIX} with vf BAR0 in IO space`);
  });

  test('FT-A47 in 4.18 that line repeats for ever: the host is dead', () => {
    expect(() =>
      add(
        pf((c) => c.setUint32(BAR0, 1, true)),
        '4.18',
      ),
    ).toThrow('for ever');
  });

  test('FT-A47 a 64-bit BAR is sized by the bits that stay in both halves, and holds what it held', () => {
    const bar = { address: 0x0000_000c, bytes: 2 ** 33 };
    const xen = add({
      ...pf((c) => c.setUint32(BAR0 + 4, 0x80, true)),
      sriov: { count: 2, offset: 1, stride: 1, bar },
    });
    expect(xen.dev(3, 0).vfRlen).toEqual([2 ** 33, 0, 0, 0, 0, 0]);
    const held = [0, 4].map((at) => xen.pci.configRead(sbdf(0, 3, 0, 0), BAR0 + at, 4));
    expect(held).toEqual([0xc, 0x80]);
  });

  test('FT-A47 a 64-bit BAR has no room in the last slot', () => {
    const xen = add(pf((c) => c.setUint32(BAR0 + 20, 4, true)));
    expect(xen.news()[0]).toBe(`${PREFIX} with 64-bit vf BAR in last slot`);
  });
});

describe('pci_remove_device()', () => {
  const DEVICES = [endpoint(3, 0), endpoint(3, 1), endpoint(4, 0)];
  const vf = (xen: TestXen): void => {
    const info = { isExtfn: false, isVirtfn: true, physfn: { bus: 3, devfn: 0 } };
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, info, -1))).toBe(0);
    xen.news();
  };

  test('FT-A32 INV-O12 a physical function with virtual ones stays in 4.23, and nobody gets either', () => {
    const xen = makeXen({ devices: DEVICES, release: '4.23' });
    vf(xen);
    expect(runAlone(pciRemoveDevice(xen, 0, 3, 0))).toBe(E.BUSY);
    expect(xen.news()).toEqual(['Attempted to remove PCI SR-IOV PF 0000:03:00.0 with VFs still present']);
    expect([xen.dev(3, 0).broken, xen.dev(4, 0).broken, xen.dev(3, 1).broken]).toEqual([true, true, false]);
  });

  // pci_add_device() sets pf_pdev once, and pci_remove_device() looks at the list alone.
  test('FT-A32 in 4.23 a virtual function that is announced again stays with its first physical one', () => {
    const xen = makeXen({ devices: DEVICES, release: '4.23' });
    vf(xen);
    const second = { isExtfn: true, isVirtfn: true, physfn: { bus: 3, devfn: 8 } };
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, second, -1))).toBe(0);
    expect(xen.dev(4, 0)).toMatchObject({ isExtfn: true, physfn: { bus: 3, devfn: 8 } });
    expect(runAlone(pciRemoveDevice(xen, 0, 3, 0))).toBe(E.BUSY);
    expect(runAlone(pciRemoveDevice(xen, 0, 3, 8))).toBe(0);
  });

  test('FT-A32 in 4.23 one that was virtual once can never be removed, and breaks the others', () => {
    const xen = makeXen({ devices: DEVICES, release: '4.23' });
    vf(xen);
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, undefined, -1))).toBe(0);
    const plain = { isExtfn: false, isVirtfn: false, physfn: { bus: 0, devfn: 0 } };
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, plain, -1))).toBe(0);
    xen.news();
    expect(runAlone(pciRemoveDevice(xen, 0, 4, 0))).toBe(E.BUSY);
    expect(xen.news()).toEqual(['Attempted to remove PCI SR-IOV PF 0000:04:00.0 with VFs still present']);
    expect([xen.dev(3, 0).broken, xen.dev(4, 0).broken, xen.dev(3, 1).broken]).toEqual([true, true, false]);
  });

  test('FT-A32 in 4.18 it goes and they stay', () => {
    const xen = makeXen({ devices: DEVICES });
    vf(xen);
    expect(runAlone(pciRemoveDevice(xen, 0, 3, 0))).toBe(0);
    expect([xen.dev(3, 0), xen.dev(4, 0).broken]).toEqual([undefined, false]);
  });

  test.each(['4.18', '4.23'])(
    'FT-A33 INV-O11 the device goes whatever the vendor says: Xen %s',
    (release) => {
      const xen = makeXen({ devices: DEVICES, release });
      xen.vendor.fail('remove', 0, E.IO);
      expect(runAlone(pciRemoveDevice(xen, 0, 3, 0))).toBe(E.IO);
      expect(xen.news()).toEqual(['PCI remove device 0000:03:00.0']);
      expect([xen.dev(3, 0), xen.hwdom.pdevList.size, xen.segs.get(0)?.alldevs.size]).toEqual([
        undefined,
        2,
        2,
      ]);
      expect(runAlone(pciRemoveDevice(xen, 0, 3, 0))).toBe(E.NODEV);
      expect(runAlone(pciRemoveDevice(xen, 7, 3, 0))).toBe(E.NODEV);
    },
  );
});

describe('devices that nobody gets', () => {
  const DEVICES = [endpoint(3, 0), endpoint(4, 0)];

  test('FT-A34 FT-A48 INV-O3 a hidden device belongs to d[XEN], and still translates for dom0', () => {
    const xen = makeXen({ devices: DEVICES, boot: 'none' });
    expect(runAlone(pciHideDevice(xen, 0, 3, 0))).toBe(0);
    runAlone(pciAddDevice(xen, 0, 4, 0, undefined, -1));
    xen.dev(4, 0).domain = undefined;
    xen.hwdom.pdevList.remove(xen.dev(4, 0));
    xen.vendor.calls.length = 0;
    runAlone(xen.vendor.hwdomInit(xen.hwdom));
    expect(told(xen.vendor.calls)).toEqual(['add 00 ->0', 'add 00 ->0']);
    expect([xen.services.pd(xen.dev(3, 0).domain), xen.services.pd(xen.dev(4, 0).domain)]).toEqual([
      'd[XEN]',
      'd0',
    ]);
    expect([xen.domXen.pdevList.size, xen.hwdom.pdevList.size]).toEqual([1, 1]);
  });

  test('FT-A34 nobody is given a hidden device: -EBUSY', () => {
    const xen = makeXen({ devices: DEVICES, boot: 'none' });
    runAlone(pciHideDevice(xen, 0, 3, 0));
    const give = (d: Domain): number =>
      runAlone(
        iommuDoDomctl(
          xen,
          { cmd: 'assign_device', domid: d.domid, dev: 0, machineSbdf: sbdf(0, 3, 0, 0), flags: 0 },
          d,
        ),
      );
    expect([give(xen.guest(1)), give(xen.domIo)]).toEqual([E.BUSY, E.BUSY]);
    expect(xen.services.pd(xen.dev(3, 0).domain)).toBe('d[XEN]');
  });

  test('a scan that runs out of memory ends at the function that it has none for', () => {
    const xen = makeXen({ devices: [endpoint(3, 0), endpoint(4, 0)], boot: 'none' });
    xen.faults.failNth(2, 'alloc');
    expect(runAlone(scanPciDevices(xen))).toBe(E.NOMEM);
    expect(xen.news().filter((l) => l.includes('alloc_pdev'))).toEqual(['0000:04:00.0: alloc_pdev failed']);
    expect([...xen.pdevs.keys()]).toContain(sbdf(0, 3, 0, 0));
    expect([...xen.pdevs.keys()]).not.toContain(sbdf(0, 4, 0, 0));
  });

  test('FT-A48 an error on the device ends its set-up, one on a phantom does not', () => {
    const xen = makeXen({
      devices: [endpoint(3, 0, 0, 2), endpoint(4, 0)],
      boot: 'scanned',
      opts: { verbose: true },
    });
    xen.vendor.fail('add', 2, E.NOMEM, 1);
    runAlone(xen.vendor.hwdomInit(xen.hwdom));
    expect(xen.news().filter((l) => l.startsWith('setup'))).toEqual([
      'setup 0000:03:00.0 for d0 failed (-12)',
    ]);
    expect(told(xen.vendor.calls)).toEqual([
      'add 00 ->0',
      'add 02 ->0',
      'add 04 ->0',
      'add 06 ->0',
      'add 00 ->0',
    ]);
    const other = makeXen({ devices: [endpoint(3, 0, 0, 2)], boot: 'scanned' });
    other.vendor.fail('add', 0, E.NODEV, 1);
    runAlone(other.vendor.hwdomInit(other.hwdom));
    expect(told(other.vendor.calls)).toEqual(['add 00 ->0']);
  });

  test('FT-A48 a device that somebody has already is reported and left alone', () => {
    const xen = makeXen({ devices: DEVICES });
    const d = xen.guest(5);
    xen.hwdom.pdevList.remove(xen.dev(3, 0));
    xen.dev(3, 0).domain = d;
    runAlone(xen.vendor.hwdomInit(xen.hwdom));
    expect([xen.news(), xen.vendor.calls]).toEqual([['Dom5 owning 0000:03:00.0?'], []]);
  });

  test('FT-A35 INV-O13 a read-only device is hidden, and its bit says so', () => {
    const xen = makeXen({ devices: DEVICES, boot: 'none' });
    expect(runAlone(withPcidevs(xen, () => pciRoDevice(xen, 0, 3, 0)))).toBe(0);
    expect([isReadOnly(xen, sbdf(0, 3, 0, 0)), isReadOnly(xen, sbdf(0, 4, 0, 0))]).toEqual([true, false]);
    expect(xen.services.pd(xen.dev(3, 0).domain)).toBe('d[XEN]');
  });
});

describe("key 'Q'", () => {
  test('FT-A42 prints each device, newest first, with owner, node and MSIs', () => {
    const xen = makeXen({
      devices: [endpoint(3, 0), endpoint(4, 0), endpoint(5, 0), endpoint(6, 0), endpoint(7, 0)],
    });
    xen.dev(3, 0).domain = xen.domIo;
    xen.dev(3, 0).arch.pseudoDomid = 0x8001;
    xen.dev(4, 0).msiIrqs = [26, 27];
    xen.dev(5, 0).domain = xen.domXen;
    xen.dev(5, 0).node = 12;
    xen.dev(6, 0).domain = undefined;
    xen.dev(7, 0).domain = xen.guest(9);
    runAlone(dumpPciDevices(xen));
    expect(xen.news()).toEqual([
      '==== PCI devices ====',
      '==== segment 0000 ====',
      '0000:07:00.0 - d9 - node -1 ',
      '0000:06:00.0 - NULL - node -1 ',
      '0000:05:00.0 - d[XEN] - node 12 ',
      '0000:04:00.0 - d0 - node -1  - MSIs < 26 27 >',
      '0000:03:00.0 - DomIO:8001 - node -1 ',
    ]);
  });
});

describe('alloc_pdev()', () => {
  test('MSI-X that firmware left on is turned off', () => {
    const spec: DeviceSpec = { ...endpoint(3, 0), msix: 8, edit: (c) => c.setUint16(0x82, 0xc007, true) };
    const xen = makeXen({ devices: [spec], boot: 'none' });
    runAlone(pciAddDevice(xen, 0, 3, 0, undefined, -1));
    expect(xen.news()[0]).toBe('0000:03:00.0: unexpected initial MSI-X state (MASKALL=1, ENABLE=1), fixing');
    expect(xen.pci.configRead(sbdf(0, 3, 0, 0), 0x82, 2)).toBe(0x0007);
    expect(xen.dev(3, 0).msix?.nrEntries).toBe(8);
  });

  test('errors that `pci=no-serr` hides are cleared, and said so', () => {
    const edit = (c: DataView): void => {
      c.setUint16(4, 0x0107, true);
      c.setUint16(6, 0xc010, true);
    };
    const xen = makeXen({ devices: [{ ...endpoint(3, 0), edit }], boot: 'none' });
    Object.assign(xen.pciOpts, { maskSerr: true });
    runAlone(pciAddDevice(xen, 0, 3, 0, undefined, -1));
    expect(xen.news()[0]).toBe('0000:03:00.0 status c010 -> 0010');
    expect(xen.pci.configRead(sbdf(0, 3, 0, 0), PCI.COMMAND, 2) & 0x100).toBe(0);
  });

  test('an extended space that repeats the first 256 bytes does not count, in 4.23', () => {
    const edit = (c: DataView): void => {
      for (let at = 256; at < 4096; at += 256) c.setUint32(at, c.getUint32(0, true), true);
    };
    const xen = makeXen({ devices: [{ ...endpoint(3, 0), edit }], release: '4.23', boot: 'none' });
    runAlone(pciAddDevice(xen, 0, 3, 0, undefined, -1));
    expect(xen.news()[0]).toBe('0000:03:00.0: extended config space aliases base one');
    expect(xen.dev(3, 0).extCfg).toBe(false);
  });
});
