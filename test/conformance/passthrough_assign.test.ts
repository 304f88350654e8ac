/** assign_device() and deassign_device(), line by line. @xen drivers/passthrough/pci.c */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import type { Domain } from '../../src/hypervisor/domain.js';
import {
  assignDevice,
  deassignDevice,
  deviceAssigned,
  iommuAddDevice,
  iommuEnableDevice,
  iommuRemoveDevice,
} from '../../src/hypervisor/passthrough/pci.js';
import { runAlone } from '../../src/sim/co.js';
import {
  endpoint,
  makeXen,
  sbdf,
  type TestXen,
  type TestXenOptions,
  told,
  underLock,
  withPcidevs,
} from '../helpers/xen.js';

/** 03:00.0 with phantoms 2, 4, 6; 04:00.0 without. */
const DEVICES = [endpoint(3, 0, 0, 2), endpoint(4, 0)];
const make = (o: TestXenOptions = {}): TestXen => makeXen({ devices: DEVICES, ...o });

const assign = (xen: TestXen, d: Domain, bus = 3, flag = 0): number =>
  runAlone(withPcidevs(xen, () => assignDevice(xen, d, 0, bus, 0, flag)));
const deassign = (xen: TestXen, d: Domain, bus = 3): number =>
  runAlone(withPcidevs(xen, () => deassignDevice(xen, d, 0, bus, 0)));
const owner = (xen: TestXen, bus = 3): string => xen.services.pd(xen.dev(bus, 0).domain);

describe('assign_device()', () => {
  test('FT-A01 a domain without an IOMMU gets 0, and nothing happens', () => {
    const xen = make();
    const d = xen.guest(1, { iommu: false });
    expect(runAlone(assignDevice(xen, d, 0, 3, 0, 0))).toBe(0);
    expect([xen.vendor.calls, owner(xen), xen.news()]).toEqual([[], 'd0', []]);
  });

  test.each([
    ['memory sharing', (d: Domain) => void Object.assign(d, { memSharing: true })],
    ['a paging ring', (d: Domain) => void Object.assign(d, { pagingRing: true })],
    ['populate on demand', (d: Domain) => void Object.assign(d, { podEntries: 1 })],
    ['log-dirty mode', (d: Domain) => void Object.assign(d, { logDirty: true })],
  ])('FT-A02 %s refuses with -EXDEV, without a word', (_what, spoil) => {
    const xen = make();
    const d = xen.guest(1, { hvm: true });
    spoil(d);
    expect(assign(xen, d)).toBe(E.XDEV);
    expect([xen.vendor.calls, owner(xen), xen.news()]).toEqual([[], 'd0', []]);
  });

  test('FT-B10 exactly four conditions forbid devices, and none of them d[IO]', () => {
    const xen = make();
    for (const key of ['memSharing', 'pagingRing', 'podEntries', 'logDirty']) {
      Object.assign(xen.domIo, { [key]: key === 'podEntries' ? 1 : true });
    }
    expect(assign(xen, xen.domIo)).toBe(0);
    const d = xen.guest(1, { hvm: true });
    expect(assign(xen, d)).toBe(0);
  });

  test('FT-A03 the device comes first, then its phantoms in rising order, all under the lock', () => {
    const xen = make({ opts: { quarantine: 'none' } });
    expect(assign(xen, xen.guest(1), 3, 1)).toBe(0);
    expect(told(xen.vendor.calls)).toEqual([
      'assign 00 0>1',
      'assign 02 1>1',
      'assign 04 1>1',
      'assign 06 1>1',
    ]);
    expect(xen.vendor.calls.every((c) => c.locked && c.flag === 1)).toBe(true);
    expect(owner(xen)).toBe('d1');
  });

  test('the phantoms of the last slot of a bus end with it', () => {
    const xen = makeXen({ devices: [endpoint(3, 31), endpoint(3, 31, 3, 4)], opts: { quarantine: 'none' } });
    const d = xen.guest(1);
    expect(runAlone(withPcidevs(xen, () => assignDevice(xen, d, 0, 3, 0xfb, 0)))).toBe(0);
    expect(told(xen.vendor.calls)).toEqual(['assign fb 0>1', 'assign ff 1>1']);
  });

  test.each(['4.17', '4.18', '4.23'])('FT-A04 a phantom that fails takes all back: Xen %s', (release) => {
    const xen = make({ release });
    xen.vendor.fail('assign', 4, E.NOMEM);
    expect(assign(xen, xen.guest(1))).toBe(E.NOMEM);
    expect(xen.news()).toEqual(['d1: assign phantom function (0000:03:00.4) failed (-12)']);
    expect(told(xen.vendor.calls).slice(4)).toEqual([
      'quarantine 00 1>-',
      'reassign 02 1>IO',
      'reassign 04 1>IO',
      'reassign 06 1>IO',
      'reassign 00 1>IO',
    ]);
    expect([owner(xen), xen.dev(3, 0).broken, xen.domains.get(1)?.crashed]).toEqual(['d[IO]', false, false]);
  });

  test('FT-A04 without quarantine, or on the way into it, everything ends with the hardware domain', () => {
    const guest = make({ opts: { quarantine: 'none' } });
    guest.vendor.fail('assign', 2, E.NOMEM);
    expect(assign(guest, guest.guest(1))).toBe(E.NOMEM);
    expect([owner(guest), guest.dev(3, 0).quarantine]).toEqual(['d0', false]);
    const io = make();
    io.vendor.fail('assign', 2, E.NOMEM);
    expect(assign(io, io.domIo)).toBe(E.NOMEM);
    expect([owner(io), io.dev(3, 0).quarantine]).toEqual(['d0', false]);
  });

  test.each([
    { to: 'a guest', guest: true, crashed: true },
    { to: 'd[IO]', guest: false, crashed: false },
  ])('FT-A05 when that fails too the device is broken; target $to', ({ guest, crashed }) => {
    const xen = make();
    const d = guest ? xen.guest(1) : xen.domIo;
    xen.vendor.fail('assign', 4, E.NOMEM);
    xen.vendor.fail('reassign', 2, E.NXIO);
    expect(assign(xen, d)).toBe(E.NOMEM);
    expect([xen.dev(3, 0).broken, d.crashed]).toEqual([true, crashed]);
    const pd = guest ? 'd1' : 'd[IO]';
    expect(xen.news().slice(0, 3)).toEqual([
      `${pd}: assign phantom function (0000:03:00.4) failed (-12)`,
      `${pd}: deassign (0000:03:00.2) failed (-6)`,
      ...(guest ? ['domain_crash called from drivers/passthrough/pci.c:1472'] : []),
    ]);
  });

  test('FT-A05 the hardware domain is not crashed either', () => {
    const xen = make();
    assign(xen, xen.domIo);
    xen.vendor.fail('assign', 4, E.NOMEM);
    xen.vendor.fail('reassign', 2, E.NXIO);
    expect(assign(xen, xen.hwdom)).toBe(E.NOMEM);
    expect([xen.dev(3, 0).broken, xen.hwdom.crashed]).toEqual([true, false]);
  });

  /** Xen 4.23 with a PVH hardware domain, which has virtual config spaces; both devices are in d[IO]. */
  const withVpci = (): TestXen => {
    const xen = make({ release: '4.23' });
    for (const bus of [3, 4]) assign(xen, xen.domIo, bus);
    xen.hwdom = xen.guest(3, { hvm: true });
    xen.vendor.calls.length = 0;
    return xen;
  };
  test('FT-A05 in 4.23 a virtual config space that fails behind phantoms takes all back', () => {
    const xen = withVpci();
    xen.faults.failNth(1, 'alloc');
    expect(assign(xen, xen.hwdom)).toBe(E.NOMEM);
    // Xen names the function behind the last phantom.
    expect(xen.news()).toEqual(['d3: assign phantom function (0000:03:01.0) failed (-12)']);
    expect(told(xen.vendor.calls).slice(5)).toEqual([
      'reassign 02 3>IO',
      'reassign 04 3>IO',
      'reassign 06 3>IO',
      'reassign 00 3>IO',
    ]);
    expect([owner(xen), xen.dev(3, 0).broken]).toEqual(['d[IO]', false]);
    // Without phantoms nothing is taken back.
    xen.faults.failNth(1, 'alloc');
    expect(assign(xen, xen.hwdom, 4)).toBe(E.NOMEM);
    expect([owner(xen, 4), xen.news()]).toEqual(['d3', ['d3: assign (0000:04:00.0) failed (-12)']]);
  });
  test('FT-A05 in 4.23 one that fails while it is taken back leaves the device broken, with its new owner', () => {
    const xen = withVpci();
    expect(assign(xen, xen.hwdom)).toBe(0);
    xen.news();
    xen.vendor.fail('assign', 4, E.IO);
    xen.faults.failNth(1, 'alloc');
    expect(assign(xen, xen.domIo)).toBe(E.IO);
    expect(xen.news()).toEqual([
      'd[IO]: assign phantom function (0000:03:00.4) failed (-5)',
      'd[IO]: deassign (0000:03:00.0) failed (-12)',
    ]);
    expect([owner(xen), xen.dev(3, 0).broken, xen.hwdom.crashed]).toEqual(['d3', true, false]);
  });

  test.each(['4.17.0', '4.18.0'])('FT-A06 Xen %s discards the error of a phantom', (release) => {
    const xen = make({ release });
    xen.vendor.fail('assign', 4, E.NOMEM);
    expect(assign(xen, xen.guest(1))).toBe(0);
    expect([xen.news(), owner(xen)]).toEqual([[], 'd1']);
    expect(told(xen.vendor.calls).at(-1)).toBe('assign 06 1>1');
  });

  test('a device that fails itself is not rolled back: its owner never changed', () => {
    const xen = make({ opts: { quarantine: 'none' } });
    xen.vendor.fail('assign', 0, E.PERM);
    expect(assign(xen, xen.guest(1))).toBe(E.PERM);
    expect(told(xen.vendor.calls)).toEqual(['assign 00 0>1']);
    expect([owner(xen), xen.news()]).toEqual(['d0', ['d1: assign (0000:03:00.0) failed (-1)']]);
  });

  test('FT-A07 a broken device is not for guests, but for quarantine and the hardware domain', () => {
    const xen = make();
    xen.dev(3, 0).broken = true;
    expect(assign(xen, xen.guest(1))).toBe(E.BADF);
    expect(xen.news()).toEqual(['d1: assign (0000:03:00.0) failed (-9)']);
    expect([assign(xen, xen.domIo), owner(xen)]).toEqual([0, 'd[IO]']);
    expect([assign(xen, xen.hwdom), owner(xen)]).toEqual([0, 'd0']);
  });

  test('FT-A08 a device whose MSI-X is still masked as a whole was not reset', () => {
    const xen = makeXen({ devices: [{ ...endpoint(3, 0), msix: 4 }] });
    const control = xen.dev(3, 0).msix!.pos + 2;
    xen.pci.configWrite(sbdf(0, 3, 0, 0), control, 2, 0x4003);
    expect(assign(xen, xen.guest(1))).toBe(E.BUSY);
    expect([owner(xen), xen.news(), xen.vendor.calls]).toEqual([
      'd0',
      ['d1: assign (0000:03:00.0) failed (-16)'],
      [],
    ]);
    xen.pci.configWrite(sbdf(0, 3, 0, 0), control, 2, 0x0003);
    expect(assign(xen, xen.guest(2))).toBe(0);
  });

  test('FT-A09 quarantine tables are made before the device goes, unless it comes from d[IO]', () => {
    const xen = make({ opts: { quarantine: 'scratch-page' } });
    expect(assign(xen, xen.guest(1), 4)).toBe(0);
    expect(told(xen.vendor.calls)).toEqual(['quarantine 00 0>-', 'assign 00 0>1']);
    expect(xen.vendor.calls[0]?.flag).toBe(1);
    deassign(xen, xen.domains.get(1)!, 4);
    xen.vendor.calls.length = 0;
    expect(assign(xen, xen.guest(2), 4)).toBe(0);
    expect(told(xen.vendor.calls)).toEqual(['assign 00 IO>2']);
  });

  test('an error of the tables is the error of the assignment', () => {
    const xen = make();
    xen.vendor.fail('quarantine', 0, E.NOSPC);
    xen.dev(3, 0).faultCount = 5;
    expect(assign(xen, xen.guest(1))).toBe(E.NOSPC);
    expect([xen.news(), xen.dev(3, 0).faultCount]).toEqual([['d1: assign (0000:03:00.0) failed (-28)'], 5]);
  });

  test('FT-A10 d[IO] marks what it gets as quarantined, a guest does not', () => {
    const xen = make();
    expect([assign(xen, xen.guest(1)), xen.dev(3, 0).quarantine]).toEqual([0, false]);
    expect([assign(xen, xen.domIo, 4), xen.dev(4, 0).quarantine]).toEqual([0, true]);
  });

  test('FT-A11 assigning and deassigning forget the faults of the past', () => {
    const xen = make();
    const pdev = xen.dev(3, 0);
    const d = xen.guest(1);
    pdev.faultCount = 7;
    assign(xen, d);
    expect(pdev.faultCount).toBe(0);
    pdev.faultCount = 7;
    xen.vendor.fail('reassign', 0, E.NOMEM, 1);
    expect([deassign(xen, d), pdev.faultCount]).toEqual([E.NOMEM, 7]);
    expect([deassign(xen, d), pdev.faultCount]).toEqual([0, 0]);
  });

  test('FT-A12 INV-L6 whoever does not hold the lock is stopped', () => {
    const xen = make();
    const d = xen.guest(1);
    expect(() => runAlone(assignDevice(xen, d, 0, 3, 0, 0))).toThrow('pcidevs lock is held');
    expect(() => runAlone(deassignDevice(xen, xen.hwdom, 0, 3, 0))).toThrow('pcidevs lock is held');
    expect(() => deviceAssigned(xen, 0, 3, 0)).toThrow('pcidevs lock is held');
    expect(() => runAlone(iommuAddDevice(xen, xen.dev(3, 0)))).toThrow('pcidevs lock is held');
    expect(() => runAlone(iommuEnableDevice(xen, xen.dev(3, 0)))).toThrow('pcidevs lock is held');
  });

  test('FT-A12 who gets nothing anyway is not asked for it', () => {
    const xen = make();
    const without = xen.guest(1, { iommu: false });
    const shares = Object.assign(xen.guest(2, { hvm: true }), { memSharing: true });
    expect([
      runAlone(assignDevice(xen, without, 0, 3, 0, 0)),
      runAlone(assignDevice(xen, shares, 0, 3, 0, 0)),
      runAlone(deassignDevice(xen, without, 0, 3, 0)),
    ]).toEqual([0, E.XDEV, E.INVAL]);
  });

  test('a device that is not free trips the assertion behind device_assigned()', () => {
    const xen = make();
    assign(xen, xen.guest(1));
    expect(() => assign(xen, xen.guest(2))).toThrow('device_assigned() has cleared the device');
  });

  test('INV-O4 INV-O1 owner and list agree from the start and after each success', () => {
    const xen = make();
    const d = xen.guest(1);
    for (const step of [
      () => 0,
      () => assign(xen, d),
      () => deassign(xen, d),
      () => assign(xen, d),
      () => deassign(xen, d),
    ]) {
      expect(step()).toBe(0);
      const pdev = xen.dev(3, 0);
      for (const dom of [xen.hwdom, xen.domIo, d]) {
        expect(dom.pdevList.toArray().includes(pdev)).toBe(pdev.domain === dom);
      }
    }
  });

  test('in newer Xen the lock of each list is held while the vendor moves the device', () => {
    const xen = make({ release: '4.23' });
    const locks: string[] = [];
    xen.events.attach((e) => {
      if (e.kind === 'lock' && e.action === 'acquire' && e.lock.endsWith('pci_lock')) locks.push(e.lock);
    });
    expect(assign(xen, xen.guest(1), 4)).toBe(0);
    expect(locks).toEqual(['d0.pci_lock', 'd0.pci_lock', 'd1.pci_lock', 'd1.pci_lock']);
  });
});

describe('deassign_device()', () => {
  test('FT-A13 phantoms leave first, the device last', () => {
    const xen = make();
    const d = xen.guest(1);
    assign(xen, d);
    xen.vendor.calls.length = 0;
    expect(deassign(xen, d)).toBe(0);
    expect(told(xen.vendor.calls)).toEqual([
      'quarantine 00 1>-',
      'reassign 02 1>IO',
      'reassign 04 1>IO',
      'reassign 06 1>IO',
      'reassign 00 1>IO',
    ]);
  });

  test('the first error stops it, with the owner as before', () => {
    const xen = make();
    const d = xen.guest(1);
    assign(xen, d);
    xen.vendor.calls.length = 0;
    xen.vendor.fail('reassign', 4, E.NOMEM);
    expect(deassign(xen, d)).toBe(E.NOMEM);
    expect(told(xen.vendor.calls)).toEqual(['quarantine 00 1>-', 'reassign 02 1>IO', 'reassign 04 1>IO']);
    expect([owner(xen), xen.news()]).toEqual(['d1', ['d1: deassign (0000:03:00.4) failed (-12)']]);
  });

  test('an error of the quarantine tables is returned without a line', () => {
    const xen = make();
    const d = xen.guest(1);
    assign(xen, d);
    xen.vendor.fail('quarantine', 0, E.NODEV);
    expect([deassign(xen, d), owner(xen), xen.news()]).toEqual([E.NODEV, 'd1', []]);
  });

  const target = [
    { mode: 'none', flag: false, from: 'guest', to: 'd0' },
    { mode: 'none', flag: true, from: 'guest', to: 'd[IO]' },
    { mode: 'basic', flag: false, from: 'guest', to: 'd[IO]' },
    { mode: 'basic', flag: true, from: 'guest', to: 'd[IO]' },
    { mode: 'none', flag: false, from: 'io', to: 'd0' },
    { mode: 'none', flag: true, from: 'io', to: 'd0' },
    { mode: 'basic', flag: false, from: 'io', to: 'd0' },
    { mode: 'scratch-page', flag: true, from: 'io', to: 'd0' },
  ] as const;
  test.each(target)('FT-A14 from $from, quarantine $mode, flag $flag: to $to', ({ mode, flag, from, to }) => {
    const xen = make({ opts: { quarantine: mode } });
    const d = from === 'io' ? xen.domIo : xen.guest(1);
    assign(xen, d);
    xen.dev(3, 0).quarantine = flag;
    expect([deassign(xen, d), owner(xen)]).toEqual([0, to]);
  });

  test('FT-A15 only the owner can lose a device, and only with an IOMMU', () => {
    const xen = make();
    assign(xen, xen.guest(1));
    expect(deassign(xen, xen.guest(2))).toBe(E.NODEV);
    expect(deassign(xen, xen.hwdom)).toBe(E.NODEV);
    expect(deassign(xen, xen.guest(3, { iommu: false }))).toBe(E.INVAL);
    expect(owner(xen)).toBe('d1');
  });

  test('FT-A16 INV-O14 leaving d[IO] ends the quarantine', () => {
    const xen = make();
    assign(xen, xen.domIo);
    expect([deassign(xen, xen.domIo), owner(xen), xen.dev(3, 0).quarantine]).toEqual([0, 'd0', false]);
  });

  test('INV-O14 a stay with a guest keeps the flag', () => {
    const xen = make({ opts: { quarantine: 'none' } });
    assign(xen, xen.domIo);
    const d = xen.guest(1);
    assign(xen, d);
    expect([deassign(xen, d), owner(xen), xen.dev(3, 0).quarantine]).toEqual([0, 'd[IO]', true]);
  });
});

describe('device_assigned()', () => {
  test('FT-A17 tells unknown, taken and free devices apart', () => {
    const xen = make();
    const verdict = (bus: number): number => underLock(xen, () => deviceAssigned(xen, 0, bus, 0));
    expect([verdict(9), verdict(3)]).toEqual([E.NODEV, 0]);
    assign(xen, xen.domIo);
    expect(verdict(3)).toBe(0);
    assign(xen, xen.guest(1));
    expect(verdict(3)).toBe(E.BUSY);
    xen.dev(4, 0).domain = xen.domXen;
    expect(verdict(4)).toBe(E.BUSY);
  });
});

describe('iommu_add_device() and iommu_remove_device()', () => {
  const add = (xen: TestXen): number => runAlone(withPcidevs(xen, () => iommuAddDevice(xen, xen.dev(3, 0))));
  const remove = (xen: TestXen): number =>
    runAlone(withPcidevs(xen, () => iommuRemoveDevice(xen, xen.dev(3, 0))));

  test('FT-A18 a phantom that fails is only reported', () => {
    const xen = make();
    xen.vendor.fail('add', 4, E.NOMEM);
    expect([add(xen), xen.news()]).toEqual([0, ['IOMMU: add 0000:03:00.4 failed (-12)']]);
    expect(told(xen.vendor.calls)).toEqual(['add 00 ->0', 'add 02 ->0', 'add 04 ->0', 'add 06 ->0']);
    xen.vendor.fail('add', 0, E.PERM);
    expect([add(xen), xen.news()]).toEqual([E.PERM, []]);
  });

  test('FT-A19 a device without owner is -EINVAL before the lock is looked at; without an IOMMU nothing happens', () => {
    const xen = make();
    const pdev = xen.dev(3, 0);
    pdev.domain = undefined;
    expect(runAlone(iommuAddDevice(xen, pdev))).toBe(E.INVAL);
    expect(runAlone(iommuRemoveDevice(xen, pdev))).toBe(E.INVAL);
    pdev.domain = xen.guest(1, { iommu: false });
    expect([add(xen), remove(xen), xen.vendor.calls]).toEqual([0, 0, []]);
  });

  test('FT-A20 phantoms are removed first, and one that fails ends it', () => {
    const xen = make();
    expect(remove(xen)).toBe(0);
    expect(told(xen.vendor.calls)).toEqual([
      'remove 02 0>-',
      'remove 04 0>-',
      'remove 06 0>-',
      'remove 00 0>-',
    ]);
    xen.vendor.calls.length = 0;
    xen.vendor.fail('remove', 4, E.IO);
    expect([remove(xen), xen.news()]).toEqual([E.IO, ['IOMMU: remove 0000:03:00.4 failed (-5)']]);
    expect(told(xen.vendor.calls)).toEqual(['remove 02 0>-', 'remove 04 0>-']);
  });

  test('FT-A21 enabling is for vendors that have it', () => {
    const enable = (xen: TestXen): number =>
      runAlone(withPcidevs(xen, () => iommuEnableDevice(xen, xen.dev(3, 0))));
    const vtd = make();
    expect([enable(vtd), told(vtd.vendor.calls)]).toEqual([0, ['enable 00 0>0']]);
    const amd = make({ bare: true });
    expect([enable(amd), told(amd.vendor.calls)]).toEqual([0, []]);
  });
});

describe('fault injection and the event stream', () => {
  test('each call of the driver is one event, with its outcome', () => {
    const xen = make();
    const seen: string[] = [];
    xen.events.attach((e) => {
      if (e.kind === 'vendorOp') seen.push(`${e.op} ${e.from}>${e.to} ${e.sbdf.toString(16)} ${e.rc}`);
    });
    xen.faults.failNth(3, 'vendorOp');
    expect(assign(xen, xen.guest(1))).toBe(E.IO);
    expect(seen.slice(0, 3)).toEqual([
      'quarantine_init 0>0 300 0',
      'assign_device 0>1 300 0',
      'assign_device 1>1 302 -5',
    ]);
    expect(owner(xen)).toBe('d[IO]');
  });
});
