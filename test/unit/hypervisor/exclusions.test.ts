/** What keeps devices away from a guest is refused where one is there. @xen paging.c, mem_sharing.c, vm_event.c, p2m-pod.c */
import { describe, expect, test } from 'vitest';
import { E } from '../../../src/base/errno.js';
import { type Domain, DYING } from '../../../src/hypervisor/domain.js';
import { doDomctl } from '../../../src/hypervisor/domctl.js';
import { memoryOp } from '../../../src/hypervisor/memory.js';
import { archIommuUsePermitted } from '../../../src/hypervisor/passthrough/x86_iommu.js';
import type { DomctlOp } from '../../../src/hypervisor/public/domctl.js';
import type { MemoryOp } from '../../../src/hypervisor/public/memory.js';
import { runAlone } from '../../../src/sim/co.js';
import { endpoint, makeXen, type TestXen } from '../../helpers/xen.js';

const POD_GFN = 0x200;

class Host {
  readonly xen: TestXen = makeXen({ devices: [endpoint(3, 0)] });
  readonly d: Domain;
  constructor(o: { hvm: boolean; iommu: boolean }) {
    this.d = this.xen.guest(1, o);
    this.d.maxPages = 0x1000;
  }
  domctl(op: DomctlOp): number {
    return runAlone(doDomctl(this.xen, op));
  }
  memory(op: MemoryOp): number {
    return runAlone(memoryOp(this.xen, op));
  }
  logDirty(on: boolean): number {
    return this.domctl({ cmd: 'shadow_op', domid: 1, op: on ? 'enable_logdirty' : 'off' });
  }
  share(enable: boolean, forkWithIommu = false): number {
    return this.domctl({ cmd: 'mem_sharing_op', domid: 1, enable, forkWithIommu });
  }
  paging(enable: boolean): number {
    return this.domctl({ cmd: 'vm_event_op', domid: 1, ring: 'paging', enable });
  }
  promise(gfn = POD_GFN): number {
    return this.memory({ cmd: 'populate_physmap', domid: 1, gfns: [gfn], order: 0, pod: true });
  }
  target(targetPages: number): number {
    return this.memory({ cmd: 'set_pod_target', domid: 1, targetPages });
  }
  giveDevice(): void {
    this.d.pdevList.add(this.xen.dev(3, 0));
  }
}
const hvm = (): Host => new Host({ hvm: true, iommu: true });
const without = (): Host => new Host({ hvm: true, iommu: false });
const pv = (): Host => new Host({ hvm: false, iommu: true });

describe('log-dirty mode', () => {
  test('FT-B11 is -EINVAL with a device, and when it is on already', () => {
    const h = hvm();
    expect([h.logDirty(true), h.logDirty(true), h.logDirty(false)]).toEqual([0, E.INVAL, 0]);
    h.giveDevice();
    expect(h.logDirty(true)).toBe(E.INVAL);
  });
  test('of a dying guest is -EINVAL, on or off', () => {
    const h = hvm();
    h.d.dying = DYING.dying;
    expect([h.logDirty(true), h.logDirty(false)]).toEqual([E.INVAL, E.INVAL]);
  });
  test('keeps devices from a guest with HAP only: no physical map of a PV guest says so', () => {
    const [a, b] = [hvm(), pv()];
    expect([a.logDirty(true), b.logDirty(true)]).toEqual([0, 0]);
    expect([archIommuUsePermitted(a.xen, a.d), archIommuUsePermitted(b.xen, b.d)]).toEqual([false, true]);
  });
});

describe('memory sharing', () => {
  test('FT-B11 is -EXDEV for whom an IOMMU may serve, unless a fork is told that it may', () => {
    expect([hvm().share(true), hvm().share(true, true), without().share(true)]).toEqual([E.XDEV, 0, 0]);
  });
  test('is -EOPNOTSUPP for PV and without EPT, and switched off whatever the guest', () => {
    const amd = without();
    Object.assign(amd.xen.cpu, { vendor: 'amd' });
    expect([pv().share(true), amd.share(true), pv().share(false)]).toEqual([E.OPNOTSUPP, E.OPNOTSUPP, 0]);
  });
});

describe('the paging ring', () => {
  test('FT-B11 is -EMLINK for whom an IOMMU may serve, -ENODEV without HAP', () => {
    expect([hvm().paging(true), pv().paging(true)]).toEqual([E.MLINK, E.NODEV]);
  });
  test('is there once, and not with populate-on-demand', () => {
    const h = without();
    expect([h.paging(false), h.paging(true), h.paging(true), h.paging(false)]).toEqual([
      E.INVAL,
      0,
      E.BUSY,
      0,
    ]);
    expect([h.promise(), h.paging(true)]).toEqual([1, E.XDEV]);
  });
});

describe('populate-on-demand', () => {
  test('FT-B11 is refused with a device or the right to one: no page is marked, a target is -ENOTEMPTY', () => {
    const [device, right] = [hvm(), hvm()];
    expect([right.promise(), right.target(0x10)]).toEqual([1, 0]);
    right.d.ioportCaps.add(0x100, 0x107);
    device.giveDevice();
    expect([device.promise(), right.promise(POD_GFN + 1)]).toEqual([0, 0]);
    expect([device.target(0x10), right.target(0x10)]).toEqual([E.NOTEMPTY, E.NOTEMPTY]);
  });
  test('keeps devices away until what was promised is given back, or there', () => {
    const h = hvm();
    expect([h.promise(), h.promise(POD_GFN + 1), h.d.podEntries]).toEqual([1, 1, 2]);
    expect(archIommuUsePermitted(h.xen, h.d)).toBe(false);
    expect(h.memory({ cmd: 'decrease_reservation', domid: 1, gfns: [POD_GFN], order: 0 })).toBe(1);
    expect(h.memory({ cmd: 'populate_physmap', domid: 1, gfns: [POD_GFN + 1], order: 0 })).toBe(1);
    expect([h.d.podEntries, archIommuUsePermitted(h.xen, h.d)]).toEqual([0, true]);
  });
  test('marks a page once, and none that is mapped', () => {
    const h = hvm();
    expect([h.promise(), h.promise(), h.d.podEntries]).toEqual([1, 1, 1]);
    expect(h.memory({ cmd: 'populate_physmap', domid: 1, gfns: [POD_GFN], order: 0 })).toBe(1);
    expect([h.promise(), h.d.podEntries]).toEqual([0, 0]);
  });
  test('promises a PV guest nothing, and says that it did', () => {
    const h = pv();
    expect([h.promise(), h.d.podEntries, h.target(1)]).toEqual([1, 0, E.INVAL]);
  });
});
