/**
 * The hypercall surface: all that dom0's tools, device models and guests can ask of Xen. The caller is the domain
 * that runs on the current CPU.
 */
import type { Rc } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import type { DomainInfo, DomctlOp } from './domctl.js';
import type { EvtchnOp } from './event_channel.js';
import type { MemoryOp, MemoryRange } from './memory.js';
import type { MmuextOp } from './mmu.js';
import type { PhysdevOp } from './physdev.js';

/** @xen XEN_SYSCTL_physinfo, with what `xl info` needs beside it */
export interface PhysInfo {
  readonly nrCpus: number;
  readonly maxCpuId: number;
  readonly coresPerSocket: number;
  readonly threadsPerCore: number;
  readonly cpuKhz: number;
  readonly totalPages: number;
  readonly freePages: number;
  readonly capPv: boolean;
  readonly capHvm: boolean;
  readonly capHap: boolean;
  /** XEN_SYSCTL_PHYSCAP_directio and its companions. */
  readonly capHvmDirectio: boolean;
  readonly capPvDirectio: boolean;
  readonly capIommuHapPtShare: boolean;
  readonly hwCap: readonly number[];
}

export interface XenVersion {
  readonly major: number;
  readonly minor: number;
  /** `.7` */
  readonly extra: string;
  readonly changeset: string;
  readonly compiler: string;
  readonly compileBy: string;
  readonly compileDomain: string;
  readonly compileDate: string;
  readonly buildId: string;
  readonly capabilities: string;
  readonly commandline: string;
}

export interface Hypercalls {
  domctl(op: DomctlOp): Co<Rc>;
  physdevOp(op: PhysdevOp): Co<Rc>;
  eventChannelOp(op: EvtchnOp): Co<Rc>;
  mmuextOp(op: MmuextOp): Co<Rc>;
  /** Negative errno, or the number of extents done. */
  memoryOp(op: MemoryOp): Co<number>;
  /** Every domain, by id. @xen XEN_SYSCTL_getdomaininfolist */
  getDomainInfoList(): Co<DomainInfo[]>;
  physInfo(): PhysInfo;
  version(): XenVersion;
  /** @xen XENMEM_machine_memory_map */
  machineMemoryMap(): readonly MemoryRange[];
  /** What `xl debug-keys` sends. @xen XEN_SYSCTL_debug_keys */
  debugKeys(keys: string): Co<Rc>;
  /** The console ring, oldest line first, each with its `(XEN) ` prefix. @xen XEN_SYSCTL_readconsole */
  readConsole(clear: boolean): readonly string[];
  /** A guest says with which vector it hears of its event channels. @xen HVMOP_set_evtchn_upcall_vector */
  setUpcallVector(domid: number, vcpu: number, vector: number): Co<Rc>;
  /** A guest stops itself. @xen SCHEDOP_shutdown */
  shutdown(domid: number, reason: number): Co<Rc>;
}
