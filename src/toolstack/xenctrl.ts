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
import { HypercallBuffers, STRUCT } from './hypercall_buffers.js';

/** DOMID_IO: the domain that quarantined devices belong to. @xen include/public/xen.h */
export const DOMID_IO = 0x7ff1;
/** No domain: what libxl calls INVALID_DOMID. */
export const INVALID_DOMID = 0xffff_ffff;
/** A guest's id is not dom0's and below DOMID_FIRST_RESERVED. @xen libxl_domid_valid_guest */
export const isGuestDomid = (domid: number): boolean => domid > 0 && domid < 0x7ff0;
/** Of a memory operation, at most. */
const MEMORY_STRUCT = 32;
/** Eight CPUs; more of them still fit a page. */
const CPUMAP = 1;
/** XEN_DOMCTL_DEV_RDM_RELAXED */
export const DEV_RDM_RELAXED = 1;

export class Xenctrl {
  readonly buffers = new HypercallBuffers();

  /** `single`: Xen tells of one domain by itself, since 4.18. @xen xc_domain_getinfo_single */
  constructor(
    readonly hv: Hypercalls,
    readonly single: boolean,
  ) {}

  *domctl(op: DomctlOp): Co<Rc> {
    this.buffers.call(STRUCT.domctl);
    return yield* this.hv.domctl(op);
  }

  /** State of an HVM guest, in a buffer of `bytes` beside the call's. @xen xc_domain_hvm_getcontext, xc_domain_hvm_setcontext */
  *hvmContext(op: DomctlOp & { cmd: 'gethvmcontext' | 'sethvmcontext' }, bytes: number): Co<Rc> {
    this.buffers.call(bytes, STRUCT.domctl);
    return yield* this.hv.domctl(op);
  }

  /** `maps`: how many sets of CPUs go along, each in a buffer of its own. @xen xc_vcpu_setaffinity */
  *setAffinity(op: DomctlOp & { cmd: 'setvcpuaffinity' }, maps: number): Co<Rc> {
    this.buffers.call(...new Array<number>(maps).fill(CPUMAP), STRUCT.domctl);
    return yield* this.hv.domctl(op);
  }

  *physdevOp(op: PhysdevOp): Co<Rc> {
    this.buffers.call(STRUCT.pirq);
    return yield* this.hv.physdevOp(op);
  }

  *memoryOp(op: MemoryOp): Co<number> {
    const rest = [MEMORY_STRUCT, STRUCT.memoryCall];
    if (op.cmd === 'populate_physmap') this.buffers.call(op.gfns.length * 8, ...rest);
    else if (op.cmd === 'set_memory_map') this.buffers.call(op.entries.length * 20, ...rest);
    else this.buffers.call(...rest);
    return yield* this.hv.memoryOp(op);
  }

  *domainList(): Co<DomainInfo[]> {
    const list = yield* this.hv.getDomainInfoList();
    this.buffers.domainList(list.length);
    return list;
  }

  /** The domain, or undefined when there is none with this id. @xen libxl_domain_info */
  *domainInfo(domid: number): Co<DomainInfo | undefined> {
    const info = yield* this.findDomain(domid);
    if (info !== undefined) this.buffers.label();
    return info;
  }

  /** The same without its security label, which nobody wants to see then. */
  *findDomain(domid: number): Co<DomainInfo | undefined> {
    this.countFind();
    const op: DomctlOp = { cmd: 'getdomaininfo', domid };
    const rc = yield* this.hv.domctl(op);
    return rc === 0 && op.info?.domid === domid ? op.info : undefined;
  }

  /** The one with the lowest id that is not below `from`. @xen xc_domain_getinfolist of one */
  *firstDomain(from: number): Co<DomainInfo | undefined> {
    this.buffers.call(STRUCT.domainInfo, STRUCT.sysctl);
    return (yield* this.hv.getDomainInfoList()).find((info) => info.domid >= from);
  }

  /** Libxl looks for a domain that is known to be there; `label` when it asks for all. */
  countFind(label = false): void {
    if (this.single) this.buffers.call(STRUCT.domctl);
    else this.buffers.call(STRUCT.domainInfo, STRUCT.sysctl);
    if (label) this.buffers.label();
  }

  /** A domain's configuration is locked: its file is named, and the domain is still there. @xen libxl__lock_domain_userdata */
  countLock(): void {
    this.countFind(true);
    this.countFind();
  }

  /** The physinfo sysctl and the two counts of shared pages that libxl asks for with it. */
  physinfo(): PhysInfo {
    this.buffers.other('physinfo');
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
}
