/** The domctls that concern devices, one row for each line that can refuse. @xen iommu_do_domctl, iommu_do_pci_domctl */
import { describe, expect, test } from 'vitest';
import { E, errnoName } from '../../src/base/errno.js';
import { DYING } from '../../src/hypervisor/domain.js';
import { doDomctl } from '../../src/hypervisor/domctl.js';
import { iommuDoDomctl } from '../../src/hypervisor/passthrough/iommu.js';
import type { DomctlOp } from '../../src/hypervisor/public/domctl.js';
import { runAlone } from '../../src/sim/co.js';
import { DOMID } from '../../src/sim/frames.js';
import { endpoint, makeXen, sbdf, type TestXen, type TestXenOptions } from '../helpers/xen.js';

const NIC = sbdf(0, 3, 0, 0);
const ABSENT = sbdf(0, 9, 0, 0);
const DEVICES = [endpoint(3, 0), endpoint(4, 0), endpoint(5, 0)];
const make = (o: TestXenOptions = {}): TestXen => makeXen({ devices: DEVICES, ...o });

type Cmd = 'assign_device' | 'deassign_device' | 'test_assign_device';
interface Ask {
  readonly domid?: number;
  readonly dev?: number;
  readonly flags?: number;
  readonly at?: number;
}

/** `domid` -1 stands for DOMID_INVALID, which the dispatcher turns into no domain. */
function ask(xen: TestXen, cmd: Cmd, q: Ask = {}): number {
  const domid = q.domid ?? 1;
  const d = domid < 0 ? undefined : (xen.domains.get(domid) ?? xen.guest(domid));
  const op = { cmd, domid, dev: q.dev ?? 0, machineSbdf: q.at ?? NIC, flags: q.flags ?? 0 } as const;
  return runAlone(iommuDoDomctl(xen, op, d));
}

describe('XEN_DOMCTL_assign_device', () => {
  const table: readonly { why: string; q: Ask; rc: number }[] = [
    { why: 'a free device', q: {}, rc: 0 },
    { why: 'with relaxed reserved memory', q: { flags: 1 }, rc: 0 },
    { why: 'FT-A45 to the caller itself', q: { domid: 0 }, rc: E.INVAL },
    { why: 'a device tree node', q: { dev: 1 }, rc: E.NODEV },
    { why: 'an unknown flag', q: { flags: 2 }, rc: E.INVAL },
    { why: 'an unknown device', q: { at: ABSENT }, rc: E.NODEV },
  ];
  test.each(table)('$why', ({ q, rc }) => {
    expect(errnoName(ask(make(), 'assign_device', q))).toBe(errnoName(rc));
  });

  test('FT-A45 the caller is whoever runs: another control domain may give to dom0', () => {
    const xen = make();
    xen.guest(1);
    xen.cpus.current.domid = 1;
    expect(ask(xen, 'assign_device', { domid: 1 })).toBe(E.INVAL);
  });

  test('FT-A46 a dying domain gets nothing', () => {
    const xen = make();
    xen.guest(1).dying = DYING.dying;
    expect(ask(xen, 'assign_device')).toBe(E.INVAL);
    expect(xen.vendor.calls).toEqual([]);
  });

  test('INV-O5 a device of another guest is -EBUSY and stays', () => {
    const xen = make();
    expect(ask(xen, 'assign_device', { domid: 1 })).toBe(0);
    xen.vendor.calls.length = 0;
    expect(ask(xen, 'assign_device', { domid: 2 })).toBe(E.BUSY);
    expect([xen.services.pd(xen.dev(3, 0).domain), xen.vendor.calls, xen.news()]).toEqual(['d1', [], []]);
  });

  test('FT-A01 through the domctl a domain without an IOMMU gets -EOPNOTSUPP', () => {
    const xen = make();
    xen.guest(1, { iommu: false });
    expect(ask(xen, 'assign_device')).toBe(E.OPNOTSUPP);
  });

  test('without an IOMMU in the machine not even d[IO] takes devices', () => {
    const xen = makeXen({ devices: DEVICES, driver: false });
    const op = { cmd: 'assign_device', domid: 0x7ff1, dev: 0, machineSbdf: NIC, flags: 0 } as const;
    expect(runAlone(iommuDoDomctl(xen, op, xen.domIo))).toBe(E.OPNOTSUPP);
    expect(ask(xen, 'test_assign_device', { domid: -1 })).toBe(E.OPNOTSUPP);
  });
});

describe('XEN_DOMCTL_deassign_device', () => {
  const table: readonly { why: string; q: Ask; rc: number }[] = [
    { why: 'its owner', q: {}, rc: 0 },
    { why: 'FT-A15 another domain', q: { domid: 2 }, rc: E.NODEV },
    { why: 'FT-A15 the caller itself', q: { domid: 0 }, rc: E.INVAL },
    { why: 'FT-A15 flags', q: { flags: 1 }, rc: E.INVAL },
    { why: 'a device tree node', q: { dev: 1 }, rc: E.NODEV },
  ];
  test.each(table)('$why', ({ q, rc }) => {
    const xen = make();
    ask(xen, 'assign_device');
    expect(errnoName(ask(xen, 'deassign_device', q))).toBe(errnoName(rc));
  });

  test('FT-A15 a domain without an IOMMU gets -EOPNOTSUPP', () => {
    const xen = make();
    xen.guest(1, { iommu: false });
    expect(ask(xen, 'deassign_device')).toBe(E.OPNOTSUPP);
  });
});

describe('XEN_DOMCTL_test_assign_device', () => {
  const line = (at: string): string[] => [`${at} already assigned, or non-existent`];
  const table: readonly { why: string; q: Ask; rc: number; says: string[] }[] = [
    { why: 'a free device', q: {}, rc: 0, says: [] },
    { why: 'nobody asks', q: { domid: -1 }, rc: 0, says: [] },
    { why: 'an unknown device', q: { at: ABSENT }, rc: E.INVAL, says: line('0000:09:00.0') },
    { why: 'a device of a guest', q: { at: sbdf(0, 4, 0, 0) }, rc: E.INVAL, says: line('0000:04:00.0') },
    {
      why: 'nobody asks for it',
      q: { domid: -1, at: sbdf(0, 4, 0, 0) },
      rc: E.INVAL,
      says: line('0000:04:00.0'),
    },
    { why: 'a hidden device', q: { at: sbdf(0, 5, 0, 0) }, rc: E.INVAL, says: line('0000:05:00.0') },
    { why: 'flags', q: { flags: 1 }, rc: E.INVAL, says: [] },
    { why: 'the caller itself', q: { domid: 0 }, rc: E.INVAL, says: [] },
    { why: 'a device tree node', q: { dev: 1 }, rc: E.NODEV, says: [] },
  ];
  test.each(table)('FT-A44 $why', ({ q, rc, says }) => {
    const xen = make();
    ask(xen, 'assign_device', { domid: 7, at: sbdf(0, 4, 0, 0) });
    xen.dev(5, 0).domain = xen.domXen;
    xen.news();
    expect(errnoName(ask(xen, 'test_assign_device', q))).toBe(errnoName(rc));
    expect(xen.news()).toEqual(says);
  });

  // @xen common/domctl.c do_domctl: only assignment and its opposite know d[IO]
  test.each(['4.17', '4.18', '4.23'] as const)('nobody asks in the name of d[IO]: -ESRCH, %s', (release) => {
    const xen = make({ release });
    const domctl = (cmd: 'assign_device' | 'test_assign_device', domid: number): number =>
      runAlone(doDomctl(xen, { cmd, domid, dev: 0, machineSbdf: NIC, flags: 0 }));
    expect(domctl('test_assign_device', DOMID.IO)).toBe(E.SRCH);
    expect(domctl('test_assign_device', DOMID.INVALID)).toBe(0);
    expect(domctl('assign_device', DOMID.INVALID)).toBe(E.SRCH);
    expect(domctl('assign_device', DOMID.IO)).toBe(0);
  });

  test('FT-A44 a domain without an IOMMU gets -EOPNOTSUPP', () => {
    const xen = make();
    xen.guest(1, { iommu: false });
    expect(ask(xen, 'test_assign_device')).toBe(E.OPNOTSUPP);
  });
});

describe('XEN_DOMCTL_get_device_group', () => {
  const group = (xen: TestXen, domid: number, maxSdevs = 16): { rc: number; sdevs: number[] | undefined } => {
    const op: Extract<DomctlOp, { cmd: 'get_device_group' }> = {
      cmd: 'get_device_group',
      domid,
      machineSbdf: NIC,
      maxSdevs,
    };
    const rc = runAlone(iommuDoDomctl(xen, op, xen.domains.get(domid)));
    return { rc, sdevs: op.sdevArray };
  };

  test('FT-A41 lists the others of the group that the domain has, itself excluded, up to the limit', () => {
    const xen = make();
    for (const bus of [3, 4, 5]) xen.vendor.groups.set(bus << 8, 0x10);
    expect(group(xen, 0)).toEqual({ rc: 0, sdevs: [5 << 16, 4 << 16] });
    expect(group(xen, 0, 1)).toEqual({ rc: 0, sdevs: [5 << 16] });
    xen.vendor.groups.set(4 << 8, 0x11);
    expect(group(xen, 0)).toEqual({ rc: 0, sdevs: [5 << 16] });
    ask(xen, 'assign_device', { at: sbdf(0, 5, 0, 0) });
    expect([group(xen, 0), group(xen, 1)]).toEqual([
      { rc: 0, sdevs: [] },
      { rc: 0, sdevs: [5 << 16] },
    ]);
  });

  test('FT-A41 a loop of bridges is -ENODEV', () => {
    const xen = make();
    xen.vendor.groups.set(3 << 8, E.NODEV);
    expect(group(xen, 0)).toEqual({ rc: E.NODEV, sdevs: [] });
  });
});
