/** The hypercall surface over one Xen. */

import type { Rc } from '../base/errno.js';
import { E } from '../base/errno.js';
import { type Co, hold } from '../sim/co.js';
import { totalPages } from './boot_memory.js';
import { domainShutdown } from './domain_ops.js';
import { doDomctl, domainInfo } from './domctl.js';
import { eventChannelOp } from './event_channel.js';
import { setUpcallVector } from './hvm_op.js';
import { handleKeys } from './keyhandler.js';
import { machineMemoryMap } from './machine_map.js';
import { memoryOp } from './memory.js';
import { mmuextOp } from './mm/page_type.js';
import { processPendingSoftirqs } from './passthrough/iommu.js';
import { physdevOp } from './physdev.js';
import type { DomainInfo, DomctlOp } from './public/domctl.js';
import type { EvtchnOp } from './public/event_channel.js';
import type { Hypercalls, PhysInfo, XenVersion } from './public/hypercalls.js';
import type { MemoryOp, MemoryRange } from './public/memory.js';
import type { MmuextOp } from './public/mmu.js';
import type { PhysdevOp } from './public/physdev.js';
import type { Xen } from './xen.js';

export class XenHypercalls implements Hypercalls {
  constructor(private readonly xen: Xen) {}

  *domctl(op: DomctlOp): Co<Rc> {
    const rc = yield* doDomctl(this.xen, op);
    processPendingSoftirqs(this.xen);
    return rc;
  }

  *physdevOp(op: PhysdevOp): Co<Rc> {
    const rc = yield* physdevOp(this.xen, op);
    processPendingSoftirqs(this.xen);
    if (this.xen.events.on) {
      this.xen.events.emit({ kind: 'hypercall', op: `physdev:${op.cmd}`, args: op, rc });
    }
    return rc;
  }

  *eventChannelOp(op: EvtchnOp): Co<Rc> {
    const rc = yield* eventChannelOp(this.xen, op);
    if (this.xen.events.on) this.xen.events.emit({ kind: 'hypercall', op: `evtchn:${op.cmd}`, args: op, rc });
    return rc;
  }

  *mmuextOp(op: MmuextOp): Co<Rc> {
    const rc = yield* mmuextOp(this.xen, op);
    if (this.xen.events.on) this.xen.events.emit({ kind: 'hypercall', op: `mmuext:${op.cmd}`, args: op, rc });
    return rc;
  }

  *memoryOp(op: MemoryOp): Co<number> {
    const rc = yield* memoryOp(this.xen, op);
    processPendingSoftirqs(this.xen);
    if (this.xen.events.on) this.xen.events.emit({ kind: 'hypercall', op: `memory:${op.cmd}`, args: op, rc });
    return rc;
  }

  *getDomainInfoList(): Co<DomainInfo[]> {
    using _domctl = yield* hold(this.xen.domctlLock);
    return [...this.xen.domains.values()]
      .sort((a, b) => a.domid - b.domid)
      .map((d) => domainInfo(this.xen, d));
  }

  physInfo(): PhysInfo {
    const { cpu, heap, opts, iommuEnabled } = this.xen;
    return {
      nrCpus: cpu.count,
      maxCpuId: cpu.count - 1,
      coresPerSocket: cpu.count,
      threadsPerCore: 1,
      cpuKhz: this.xen.cpuKhz,
      totalPages: totalPages(this.xen.e820),
      freePages: heap.freeFrames,
      capPv: true,
      capHvm: cpu.hap,
      capHap: cpu.hap,
      capHvmDirectio: iommuEnabled,
      capPvDirectio: iommuEnabled,
      capIommuHapPtShare: iommuEnabled && opts.hapPtShare,
      hwCap: this.xen.hwCaps,
    };
  }

  machineMemoryMap(): readonly MemoryRange[] {
    return machineMemoryMap(this.xen);
  }

  version(): XenVersion {
    return this.xen.version;
  }

  *debugKeys(keys: string): Co<Rc> {
    return yield* handleKeys(this.xen, keys);
  }

  readConsole(clear: boolean): readonly string[] {
    const lines = [...this.xen.console.lines()];
    if (clear) this.xen.console.clear();
    return lines;
  }

  *setUpcallVector(domid: number, vcpu: number, vector: number): Co<Rc> {
    const d = this.xen.domains.get(domid);
    return d === undefined ? E.SRCH : setUpcallVector(this.xen, d, vcpu, vector);
  }

  *shutdown(domid: number, reason: number): Co<Rc> {
    const d = this.xen.domains.get(domid);
    if (d === undefined) return E.SRCH;
    domainShutdown(this.xen, d, reason);
    return 0;
  }
}
