/** Rare ways through drivers/passthrough: errors of a vendor, odd devices, interrupts that name nothing. */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import type { Domain } from '../../src/hypervisor/domain.js';
import { PCI } from '../../src/hypervisor/passthrough/config.js';
import { pciAddDevice, pciRemoveDevice } from '../../src/hypervisor/passthrough/device_add.js';
import { ptIrqBind, ptIrqUnbind } from '../../src/hypervisor/passthrough/hvm.js';
import { archIommuHwdomInit } from '../../src/hypervisor/passthrough/hwdom_map.js';
import { clearIdentityP2mEntry, setIdentityP2mEntry } from '../../src/hypervisor/passthrough/identity.js';
import { iommuIotlbFlush, iommuIotlbFlushAll } from '../../src/hypervisor/passthrough/iommu.js';
import { iommuSetup } from '../../src/hypervisor/passthrough/iommu_setup.js';
import { pciCleanupMsi, pdevMsiInit, pdevMsixAssign } from '../../src/hypervisor/passthrough/msi.js';
import { iommuUnityRegionOk, pageGetRamType, RAM_TYPE } from '../../src/hypervisor/passthrough/ram_type.js';
import { segmentsAscending } from '../../src/hypervisor/passthrough/segment.js';
import { physdevOp } from '../../src/hypervisor/physdev.js';
import type { DomctlOp } from '../../src/hypervisor/public/domctl.js';
import type { E820Entry, LogLevel } from '../../src/iommu/driver/types.js';
import { runAlone } from '../../src/sim/co.js';
import {
  type DeviceSpec,
  endpoint,
  makeXen,
  sbdf,
  type TestXen,
  type TestXenOptions,
} from '../helpers/xen.js';

const add = (xen: TestXen, bus: number, dev: number, fn = 0): number =>
  runAlone(pciAddDevice(xen, 0, bus, (dev << 3) | fn, undefined, 0));

describe('flushes that the vendor cannot do', () => {
  const flushing = () => {
    const xen = makeXen({ devices: [endpoint(3, 0)] });
    const d = xen.guest(1);
    xen.vendor.fail('flush', -1, E.IO);
    xen.news();
    return { xen, d };
  };
  test('of a range: the domain is crashed, with one line', () => {
    const { xen, d } = flushing();
    expect(runAlone(iommuIotlbFlush(xen, d, 0x1234, 2, 2))).toBe(E.IO);
    expect(xen.news()[0]).toBe('d1: IOMMU IOTLB flush failed: -5, dfn 1234, page count 2 flags 2');
    expect(d.isShuttingDown).toBe(true);
    // A domain that is going down already is not talked about.
    expect(runAlone(iommuIotlbFlush(xen, d, 0x1234, 2, 2))).toBe(E.IO);
    expect(xen.news().filter((l) => l.includes('IOTLB'))).toEqual([]);
  });
  test('of everything: the same; the hardware domain lives on', () => {
    const { xen, d } = flushing();
    expect(runAlone(iommuIotlbFlushAll(xen, d, 2))).toBe(E.IO);
    expect(xen.news()[0]).toBe('d1: IOMMU IOTLB flush all failed: -5');
    expect(d.isShuttingDown).toBe(true);
    expect(runAlone(iommuIotlbFlushAll(xen, d, 2))).toBe(E.IO);
    expect(xen.news().filter((l) => l.includes('IOTLB'))).toEqual([]);
    expect(runAlone(iommuIotlbFlushAll(xen, xen.hwdom, 2))).toBe(E.IO);
    expect([xen.news(), xen.hwdom.isShuttingDown]).toEqual([['d0: IOMMU IOTLB flush all failed: -5'], false]);
  });
  test('nothing is asked for where nothing changed, and a flush of everything says so', () => {
    const xen = makeXen({ devices: [endpoint(3, 0)] });
    const d = xen.guest(1);
    xen.vendor.pages.length = 0;
    expect(runAlone(iommuIotlbFlushAll(xen, d, 0))).toBe(0);
    expect(runAlone(iommuIotlbFlushAll(xen, xen.guest(2, { iommu: false }), 2))).toBe(0);
    expect(xen.vendor.pages).toEqual([]);
    expect(runAlone(iommuIotlbFlushAll(xen, d, 2))).toBe(0);
    // FLUSHF_all, bit 2 of the flags, over no page in particular.
    expect(xen.vendor.pages.map((p) => [p.op, p.domid, p.order, p.flags])).toEqual([['flush', 1, 0, 6]]);
  });
});

describe('set-up', () => {
  test.each([
    [0x20_0000, E.PERM],
    [0x2000, E.PERM],
    [0x800, E.PERM],
    [0, E.NODATA],
  ])('a driver whose smallest page is not 4 KiB is refused: %i', (sizes, rc) => {
    const xen = makeXen({ boot: 'none' });
    xen.vendor.pageSizes = sizes;
    xen.news();
    expect(runAlone(iommuSetup(xen))).toBe(rc);
    expect(xen.news()[0]).toBe(`IOMMU: page size mask ${sizes.toString(16)} unsupported`);
    expect(xen.iommuEnabled).toBe(false);
  });
  test('a quarantine that cannot be made stops Xen', () => {
    const xen = makeXen({ boot: 'none' });
    xen.vendor.fail('init', 0, E.NOMEM);
    expect(() => runAlone(iommuSetup(xen))).toThrow('Could not set up quarantine');
  });
  test('frames of dom0 that cannot be mapped are told of, in 4.23 with both ends', () => {
    const xen = makeXen({ release: '4.23' });
    xen.hwdom.iomemCaps.add(0, 2 ** 40 - 1);
    xen.vendor.fail('map', -1, E.NOMEM);
    xen.news();
    runAlone(archIommuHwdomInit(xen, xen.hwdom));
    const lines = xen.news().filter((l) => l.includes('identity mapping'));
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines)
      expect(line).toMatch(/^IOMMU identity mapping of \[[0-9a-f]+, [0-9a-f]+\] failed: -12$/);
  });
  test('segments come in ascending order', () => {
    const at = [0x20, 3, 0, 0x100];
    const xen = makeXen({
      devices: at.map((seg) => ({ sbdf: sbdf(seg, 0, 1, 0), kind: 'pcie-endpoint' })),
      boot: 'none',
    });
    for (const seg of at) runAlone(pciAddDevice(xen, seg, 0, 8, undefined, 0));
    expect(segmentsAscending(xen).map((s) => s.nr)).toEqual([0, 3, 0x20, 0x100]);
  });
});

describe('devices', () => {
  const one = (spec: Partial<DeviceSpec>, o: TestXenOptions = {}): TestXen =>
    makeXen({ ...o, devices: [{ ...endpoint(3, 0), ...spec }], boot: 'none' });

  test.each([
    [0x8086, 0x2fc0, true],
    [0x8086, 0x6f60, true],
    [0x8086, 0x6fa0, true],
    [0x8086, 0x6fc0, true],
    [0x8086, 0x6fc1, false],
    [0x1022, 0x2fc0, false],
  ])('BARs of %i:%i are not to be looked at: %s', (vendor, device, ignored) => {
    const xen = one({ vendor, device });
    add(xen, 3, 0);
    expect(xen.dev(3, 0).ignoreBars).toBe(ignored);
  });

  test.each([
    [true, true, 0x0000, [0x0000, 0x0000]],
    [true, false, 0x0040, [0x0001, 0x0000]],
    [false, true, 0x0100, [0x0802, 0x0000]],
  ])('of a bridge SERR %s and parity errors %s are hidden', (maskSerr, maskPerr, command, [control]) => {
    const xen = one({
      kind: 'root-port',
      secondary: 4,
      edit: (c) => {
        c.setUint16(PCI.COMMAND, 0x0140, true);
        c.setUint16(PCI.BRIDGE_CONTROL, 0x0803, true);
      },
    });
    Object.assign(xen.pciOpts, { maskSerr, maskPerr });
    add(xen, 3, 0);
    const read = (reg: number): number => xen.pci.configRead(sbdf(0, 3, 0, 0), reg, 2);
    expect(read(PCI.COMMAND) & 0x0140).toBe(command);
    expect(read(PCI.BRIDGE_CONTROL) & 0x0803).toBe(control);
  });

  test('a device that has an owner is forgotten with its domain when its physical function is unknown', () => {
    const xen = makeXen({ devices: [endpoint(3, 0), endpoint(3, 1)], release: '4.23', boot: 'none' });
    add(xen, 3, 1);
    expect(xen.hwdom.pdevList.size).toBe(1);
    const info = { isExtfn: false, isVirtfn: true, physfn: { bus: 9, devfn: 0 } };
    expect(runAlone(pciAddDevice(xen, 0, 3, 8, info, 0))).toBe(E.NODEV);
    expect([xen.hwdom.pdevList.size, xen.dev(3, 1)]).toEqual([0, undefined]);
  });

  test('only physical functions have virtual ones that keep them', () => {
    const xen = makeXen({ devices: [endpoint(3, 0), endpoint(4, 0)], release: '4.23', boot: 'none' });
    add(xen, 3, 0);
    const info = { isExtfn: false, isVirtfn: true, physfn: { bus: 3, devfn: 0 } };
    expect(runAlone(pciAddDevice(xen, 0, 4, 0, info, 0))).toBe(0);
    const vf = xen.dev(4, 0);
    vf.physfn = { bus: 4, devfn: 0 };
    expect(runAlone(pciRemoveDevice(xen, 0, 4, 0))).toBe(0);
    expect(vf.broken).toBe(false);
    expect(xen.news().at(-1)).toBe('PCI remove device 0000:04:00.0');
  });

  test.each([
    ['without PCI-X', undefined, false],
    ['with PCI-X at 133 MHz', 0x0002_0000, false],
    ['with PCI-X at 266 MHz', 0x4000_0000, true],
    ['with PCI-X at 533 MHz', 0x8000_0000, true],
  ])('extended config space of a conventional device %s: %s', (_what, status, there) => {
    const edit = (c: DataView): void => {
      if (status === undefined) return;
      c.setUint16(PCI.STATUS, c.getUint16(PCI.STATUS, true) | 0x10, true);
      c.setUint8(0x34, 0x50);
      c.setUint16(0x50, 7, true);
      c.setUint32(0x54, status, true);
    };
    const xen = one({ kind: 'pci-device', edit }, { release: '4.23' });
    add(xen, 3, 0);
    expect(xen.dev(3, 0).extCfg).toBe(there);
  });

  test('a virtual function of whose extended space nothing is seen is told of in 4.23', () => {
    const xen = makeXen({
      devices: [endpoint(3, 0), { ...endpoint(3, 1), edit: (c) => c.setUint32(0x100, 0xffff_ffff, true) }],
      release: '4.23',
      boot: 'none',
    });
    add(xen, 3, 0);
    xen.news();
    const info = { isExtfn: false, isVirtfn: true, physfn: { bus: 3, devfn: 0 } };
    expect(runAlone(pciAddDevice(xen, 0, 3, 8, info, 0))).toBe(0);
    expect(xen.news()).toContain('0000:03:01.0: VF without extended config space?');
    expect(xen.dev(3, 1).extCfg).toBe(false);
  });
});

describe('messages of a device', () => {
  /** MSI at 0x90 and MSI-X at 0x80, with these control words. */
  const sending = (msi: number, msix: number): TestXen =>
    makeXen({
      devices: [
        {
          ...endpoint(3, 0),
          msix: 4,
          edit: (c) => {
            c.setUint8(0x81, 0x90);
            c.setUint16(0x90, 5, true);
            c.setUint16(0x92, msi, true);
            c.setUint16(0x82, msix, true);
          },
        },
      ],
      boot: 'none',
    });
  const at = sbdf(0, 3, 0, 0);
  test.each([
    [0, 1],
    [2, 2],
    [4, 4],
    [8, 16],
    [10, 32],
    [0x85, 4],
  ])('control word %i says %i vectors', (msi, vectors) => {
    const xen = sending(msi, 3);
    add(xen, 3, 0);
    expect(xen.dev(3, 0).msiMaxvec).toBe(vectors);
  });
  test.each([
    [0x8003, 'MASKALL=0, ENABLE=1', 4],
    [0x4003, 'MASKALL=1, ENABLE=0', 4],
    [0xc7ff, 'MASKALL=1, ENABLE=1', 2048],
    [0x0003, undefined, 4],
  ])('MSI-X that firmware left as %i is switched off: %s', (msix, state, entries) => {
    const xen = sending(0, msix);
    add(xen, 3, 0);
    const line = `0000:03:00.0: unexpected initial MSI-X state (${state}), fixing`;
    expect(xen.news().filter((l) => l.includes('unexpected'))).toEqual(state === undefined ? [] : [line]);
    expect(xen.pci.configRead(at, 0x82, 2) & 0xc000).toBe(0);
    expect(xen.dev(3, 0).msix).toMatchObject({ pos: 0x80, nrEntries: entries });
  });
  test('assignment needs MASKALL clear, and forgets what was masked', () => {
    const xen = sending(0, 3);
    add(xen, 3, 0);
    const pdev = xen.dev(3, 0);
    Object.assign(pdev.msix!, { hostMaskall: true, guestMaskall: true });
    xen.pci.configWrite(at, 0x82, 2, 0x4003);
    expect([pdevMsixAssign(xen, pdev), pdev.msix!.hostMaskall]).toEqual([E.BUSY, true]);
    xen.pci.configWrite(at, 0x82, 2, 0x8003);
    expect(pdevMsixAssign(xen, pdev)).toBe(0);
    expect([pdev.msix!.hostMaskall, pdev.msix!.guestMaskall]).toEqual([false, false]);
  });
  test('clean-up switches both off and forgets the interrupts', () => {
    const xen = sending(0x81, 3);
    add(xen, 3, 0);
    const pdev = xen.dev(3, 0);
    xen.pci.configWrite(at, 0x92, 2, 0x81);
    xen.pci.configWrite(at, 0x82, 2, 0x8003);
    pdev.msiIrqs = [40, 41];
    runAlone(pciCleanupMsi(xen, pdev));
    expect([
      xen.pci.configRead(at, 0x92, 2) & 1,
      xen.pci.configRead(at, 0x82, 2) & 0x8000,
      pdev.msiIrqs,
    ]).toEqual([0, 0, []]);
  });
  test('no memory for MSI-X is -ENOMEM', () => {
    const xen = sending(0, 3);
    add(xen, 3, 0);
    xen.faults.failNth(1);
    expect(pdevMsiInit(xen, xen.dev(3, 0))).toBe(E.NOMEM);
  });
});

describe('interrupts that are bound', () => {
  type BindOp = Extract<DomctlOp, { cmd: 'bind_pt_irq' | 'unbind_pt_irq' }>;
  const guest = (): { xen: TestXen; d: Domain } => {
    const xen = makeXen({ devices: [endpoint(3, 0)], opts: { verbose: true } });
    xen.hwdom.irqCaps.add(1, 23);
    const d = xen.guest(1, { hvm: true });
    runAlone(physdevOp(xen, { cmd: 'map_pirq', domid: 1, type: 'gsi', index: 20, pirq: 20 }));
    return { xen, d };
  };
  const bind = (xen: TestXen, d: Domain, more: Partial<BindOp>): number =>
    runAlone(
      ptIrqBind(xen, d, { cmd: 'bind_pt_irq', domid: 1, machineIrq: 20, irqType: 'pci', ...more } as BindOp),
    );
  const unbind = (xen: TestXen, d: Domain, more: Partial<BindOp>): number =>
    runAlone(
      ptIrqUnbind(xen, d, {
        cmd: 'unbind_pt_irq',
        domid: 1,
        machineIrq: 20,
        irqType: 'pci',
        ...more,
      } as BindOp),
    );

  test('what is not said is 0: bus, device, pin, vector and flags', () => {
    const { xen, d } = guest();
    xen.news();
    expect(bind(xen, d, {})).toBe(0);
    expect(d.pirqs.get(20)!.links).toEqual([{ bus: 0, device: 0, intx: 0 }]);
    expect(unbind(xen, d, {})).toBe(0);
    expect(xen.news()).toEqual([
      'd1: bind: m_gsi=20 g_gsi=16 dev=00.00.0 intx=0',
      'd1: unbind: m_gsi=20 g_gsi=16 dev=00:00.0 intx=0',
      'd1 final unmap: m_irq=20 dev=00.00.0 intx=0',
    ]);
    expect(bind(xen, d, { irqType: 'msi' })).toBe(0);
    expect(d.pirqs.get(20)!.gmsi).toEqual({ gvec: 0, gflags: 0 });
    expect(unbind(xen, d, { irqType: 'msi' })).toBe(0);
    expect([d.pirqs.get(20)!.gmsi, d.pirqs.get(20)!.dpciKind, d.pirqs.get(20)!.bound]).toEqual([
      undefined,
      undefined,
      false,
    ]);
  });
  test('numbers outside the domain’s, and kinds that there are not', () => {
    const { xen, d } = guest();
    const rcs = [-1, 0, 1000].map((machineIrq) => bind(xen, d, { machineIrq }));
    expect(rcs).toEqual([E.PERM, E.PERM, E.PERM]);
    expect(bind(xen, d, { irqType: 'isa' as never })).toBe(E.OPNOTSUPP);
    expect(xen.news().at(-1)).toBe('pt_irq_create_bind failed (-95) for dom1');
  });
  test('a pin that differs in bus, device or number is another one', () => {
    const { xen, d } = guest();
    expect(bind(xen, d, { bus: 1, device: 24, intx: 2 })).toBe(0);
    for (const other of [
      { bus: 0, device: 24, intx: 2 },
      { bus: 1, device: 25, intx: 2 },
      { bus: 1, device: 24, intx: 1 },
    ])
      expect(unbind(xen, d, other)).toBe(E.INVAL);
    expect(d.pirqs.get(20)!.bound).toBe(true);
    xen.news();
    expect(unbind(xen, d, { bus: 1, device: 24, intx: 2 })).toBe(0);
    expect(xen.news().at(-1)).toBe('d1 final unmap: m_irq=20 dev=01.03.0 intx=2');
  });
});

describe('identity entries of guests with a p2m', () => {
  const guest = () => {
    const xen = makeXen({ devices: [endpoint(3, 0)] });
    return { xen, d: xen.guest(1, { hvm: true }) };
  };
  const set = (xen: TestXen, d: Domain, access: 'rw' | 'r', flag = 0): number =>
    runAlone(setIdentityP2mEntry(xen, d, 0x7_0000, access, flag));
  test('the same once more is fine; other rights are not, unless the conflict is to be put up with', () => {
    const { xen, d } = guest();
    expect(set(xen, d, 'rw')).toBe(0);
    expect(d.p2m!.lookup(0x7_0000)).toMatchObject({ mfn: 0x7_0000, writable: true });
    xen.news();
    expect([set(xen, d, 'rw'), xen.news()]).toEqual([0, []]);
    const line = 'Cannot setup identity map d1:70000, gfn already mapped to 70000.';
    expect([set(xen, d, 'r'), xen.news()]).toEqual([E.BUSY, [line]]);
    expect([set(xen, d, 'r', 1), xen.news()]).toEqual([0, [line]]);
    expect(runAlone(clearIdentityP2mEntry(xen, d, 0x7_0000))).toBe(0);
    expect(d.p2m!.lookup(0x7_0000).mfn).toBe(-1);
    expect([runAlone(clearIdentityP2mEntry(xen, d, 0x7_0000)), xen.news()]).toEqual([0, []]);
  });
});

describe('the memory map', () => {
  const owner = (e820: E820Entry[]) => {
    const lines: string[] = [];
    return { e820, lines, printk: (_level: LogLevel, text: string) => void lines.push(text) };
  };
  const MB = 0x10_0000;
  test('holes become reserved, joined to what is reserved before them, wherever they lie', () => {
    const map: E820Entry[] = [
      { start: 0, end: MB, type: 'usable' },
      { start: 2 * MB, end: 3 * MB, type: 'reserved' },
      { start: 4 * MB, end: 5 * MB, type: 'usable' },
    ];
    const at = (...frames: [number, number]) => {
      const xen = owner([...map]);
      return [
        iommuUnityRegionOk(xen, 'RMRR', ...frames),
        xen.e820.map((e) => [e.start / 4096, e.end / 4096]),
        xen.lines,
      ];
    };
    const warning = (s: string, e: string) => [`RMRR: [${s}, ${e}] is not (entirely) in reserved memory`];
    expect(at(0x300, 0x301)).toEqual([
      true,
      [
        [0, 0x100],
        [0x200, 0x302],
        [0x400, 0x500],
      ],
      warning('0x300000', '0x301000'),
    ]);
    expect(at(0x180, 0x180)).toEqual([
      true,
      [
        [0, 0x100],
        [0x180, 0x181],
        [0x200, 0x300],
        [0x400, 0x500],
      ],
      warning('0x180000', '0x180000'),
    ]);
    // Behind everything, and twice in a row.
    expect(at(0x600, 0x601)).toEqual([
      true,
      [
        [0, 0x100],
        [0x200, 0x300],
        [0x400, 0x500],
        [0x600, 0x602],
      ],
      warning('0x600000', '0x601000'),
    ]);
    expect(at(0x200, 0x2ff)).toEqual([true, map.map((e) => [e.start / 4096, e.end / 4096]), []]);
    expect(at(0x2ff, 0x400)[0]).toBe(false);
    expect(owner([...map]).lines).toEqual([]);
  });
  test('a page has every type that some byte of it has, and holes count', () => {
    const map: E820Entry[] = [
      { start: 0, end: 0x1800, type: 'usable' },
      { start: 0x1800, end: 0x2400, type: 'reserved' },
      { start: 0x2800, end: 0x3000, type: 'ACPI data' },
      { start: 0x4000, end: 0x5000, type: 'unusable' },
    ];
    const { CONVENTIONAL, RESERVED, UNUSABLE, ACPI, UNKNOWN } = RAM_TYPE;
    expect([0, 1, 2, 3, 4, 5].map((mfn) => pageGetRamType(map, mfn))).toEqual([
      CONVENTIONAL,
      // What follows the beginning of a page counts as unknown, though something else describes it too.
      CONVENTIONAL | RESERVED | UNKNOWN,
      RESERVED | UNKNOWN | ACPI,
      UNKNOWN,
      UNUSABLE,
      UNKNOWN,
    ]);
  });
});
