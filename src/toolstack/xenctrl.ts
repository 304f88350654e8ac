/**
 * Hypercalls as libxc's callers see them: -1 with errno becomes one negative errno. It also keeps the books of the
 * hypercall buffers, which `xl -vvv` prints at its end. @xen tools/libs/ctrl/xc_domain.c, xc_misc.c
 */
import type { Rc } from '../base/errno.js';
import type { DomainInfo, DomctlOp } from '../hypervisor/public/domctl.js';
import type { Hypercalls, PhysInfo, XenVersion } from '../hypervisor/public/hypercalls.js';
import type { MemoryOp } from '../hypervisor/public/memory.js';
import type { PhysdevOp } from '../hypervisor/public/physdev.js';
import type { Co } from '../sim/co.js';

/** DOMID_IO: the domain that quarantined devices belong to. @xen include/public/xen.h */
export const DOMID_IO = 0x7ff1;
/** No domain: what libxl calls INVALID_DOMID. */
export const INVALID_DOMID = 0xffff_ffff;
/** A guest's id is not dom0's and below DOMID_FIRST_RESERVED. @xen libxl_domid_valid_guest */
export const isGuestDomid = (domid: number): boolean => domid > 0 && domid < 0x7ff0;
/** XEN_DOMCTL_DEV_RDM_RELAXED */
export const DEV_RDM_RELAXED = 1;

export class Xenctrl {
  /** Hypercall buffers handed out so far. */
  allocations = 0;
  constructor(readonly hv: Hypercalls) {}

  /** An operation with no array beside its struct takes one buffer. */
  *domctl(op: DomctlOp): Co<Rc> {
    this.allocations++;
    return yield* this.hv.domctl(op);
  }

  *physdevOp(op: PhysdevOp): Co<Rc> {
    this.allocations++;
    return yield* this.hv.physdevOp(op);
  }

  *memoryOp(op: MemoryOp): Co<number> {
    this.allocations += 2;
    return yield* this.hv.memoryOp(op);
  }

  *domainList(): Co<DomainInfo[]> {
    this.allocations += 2;
    return yield* this.hv.getDomainInfoList();
  }

  /** The domain, or undefined when there is none with this id. */
  *domainInfo(domid: number): Co<DomainInfo | undefined> {
    this.allocations++;
    const op: DomctlOp = { cmd: 'getdomaininfo', domid };
    const rc = yield* this.hv.domctl(op);
    return rc === 0 && op.info?.domid === domid ? op.info : undefined;
  }

  /** The physinfo sysctl and the two counts of shared pages that libxl asks for with it. */
  physinfo(): PhysInfo {
    this.allocations += 3;
    return this.hv.physInfo();
  }

  version(): XenVersion {
    return this.hv.version();
  }

  *assignDevice(domid: number, machineSbdf: number, flags: number): Co<Rc> {
    return yield* this.domctl({ cmd: 'assign_device', domid, dev: 0, machineSbdf, flags });
  }

  *testAssignDevice(domid: number, machineSbdf: number): Co<Rc> {
    return yield* this.domctl({ cmd: 'test_assign_device', domid, dev: 0, machineSbdf, flags: 0 });
  }

  *deassignDevice(domid: number, machineSbdf: number): Co<Rc> {
    return yield* this.domctl({ cmd: 'deassign_device', domid, dev: 0, machineSbdf, flags: 0 });
  }

  *iomemPermission(domid: number, firstMfn: number, nrMfns: number, allow: boolean): Co<Rc> {
    return yield* this.domctl({ cmd: 'iomem_permission', domid, firstMfn, nrMfns, allow });
  }

  *ioportPermission(domid: number, firstPort: number, nrPorts: number, allow: boolean): Co<Rc> {
    return yield* this.domctl({ cmd: 'ioport_permission', domid, firstPort, nrPorts, allow });
  }

  *irqPermission(domid: number, pirq: number, allow: boolean): Co<Rc> {
    return yield* this.domctl({ cmd: 'irq_permission', domid, pirq, allow });
  }

  /** Negative errno, or the pirq. @xen xc_physdev_map_pirq */
  *mapPirq(domid: number, index: number): Co<number> {
    const op: PhysdevOp = { cmd: 'map_pirq', domid, type: 'gsi', index, pirq: index };
    const rc = yield* this.physdevOp(op);
    return rc < 0 ? rc : op.pirq;
  }

  *unmapPirq(domid: number, pirq: number): Co<Rc> {
    return yield* this.physdevOp({ cmd: 'unmap_pirq', domid, pirq });
  }

  /** The statistics of a handle that never had more than one buffer at once. */
  bufferStatistics(n = this.allocations): string {
    const line = (text: string) => `xencall:buffer: debug: ${text}\n`;
    const live = n === 0 ? 0 : 1;
    return (
      line(`total allocations:${n} total releases:${n}`) +
      line(`current allocations:0 maximum allocations:${live}`) +
      line(`cache current size:${live}`) +
      line(`cache hits:${n - live} misses:${live} toobig:0`)
    );
  }

  /** A second handle, open and never used. */
  idleStatistics(): string {
    return this.bufferStatistics(0);
  }
}
