/**
 * XEN_DOMCTL_* as dom0's tools issue them: one struct a command, named by its number in the public header.
 * Results come back in the fields marked OUT. @xen include/public/domctl.h
 */
import type { Sbdf } from '../../base/sbdf.js';

/** @xen XEN_DOMCTL_CDF_* */
export interface CreateDomain {
  readonly cmd: 'createdomain';
  /** 0 asks for the next free id. OUT: the id. */
  domid: number;
  readonly flags: {
    readonly hvm: boolean;
    readonly hap: boolean;
    readonly iommu: boolean;
    readonly nestedVirt?: boolean;
  };
  /** XEN_DOMCTL_IOMMU_no_sharept */
  readonly iommuNoSharept: boolean;
  readonly maxVcpus: number;
  readonly handle: string;
  readonly ssidref?: number;
}

export interface DomainInfo {
  domid: number;
  flags: {
    dying: boolean;
    hvm: boolean;
    shutdown: boolean;
    paused: boolean;
    blocked: boolean;
    running: boolean;
    hap: boolean;
  };
  /** SHUTDOWN_poweroff 0, reboot 1, suspend 2, crash 3. */
  shutdownReason: number;
  totPages: number;
  maxPages: number;
  outstandingPages: number;
  cpuTimeNs: number;
  nrOnlineVcpus: number;
  maxVcpuId: number;
  handle: string;
  /** Machine frame; 0 where Xen has given the domain none yet. */
  sharedInfoFrame: number;
}

export type DomctlOp =
  | CreateDomain
  | { readonly cmd: 'destroydomain'; readonly domid: number }
  | { readonly cmd: 'pausedomain'; readonly domid: number }
  | { readonly cmd: 'unpausedomain'; readonly domid: number }
  /** OUT: info of the domain, or, before 4.18, of the first one with an id >= domid. */
  | { readonly cmd: 'getdomaininfo'; readonly domid: number; info?: DomainInfo }
  | { readonly cmd: 'max_mem'; readonly domid: number; readonly maxKb: number }
  | { readonly cmd: 'max_vcpus'; readonly domid: number; readonly max: number }
  /** `hard`: numbers of the CPUs that the vCPU may run on; absent: where it likes best is set alone. */
  | {
      readonly cmd: 'setvcpuaffinity';
      readonly domid: number;
      readonly vcpu: number;
      readonly hard?: readonly number[];
    }
  | { readonly cmd: 'setdomainhandle'; readonly domid: number; readonly handle: string }
  | { readonly cmd: 'irq_permission'; readonly domid: number; readonly pirq: number; readonly allow: boolean }
  | {
      readonly cmd: 'iomem_permission';
      readonly domid: number;
      readonly firstMfn: number;
      readonly nrMfns: number;
      readonly allow: boolean;
    }
  | {
      readonly cmd: 'ioport_permission';
      readonly domid: number;
      readonly firstPort: number;
      readonly nrPorts: number;
      readonly allow: boolean;
    }
  | {
      readonly cmd: 'memory_mapping';
      readonly domid: number;
      readonly firstGfn: number;
      readonly firstMfn: number;
      readonly nrMfns: number;
      readonly add: boolean;
    }
  | {
      readonly cmd: 'ioport_mapping';
      readonly domid: number;
      readonly firstGport: number;
      readonly firstMport: number;
      readonly nrPorts: number;
      readonly add: boolean;
    }
  | {
      readonly cmd: 'assign_device' | 'deassign_device' | 'test_assign_device';
      readonly domid: number;
      /** XEN_DOMCTL_DEV_PCI is 0. */
      readonly dev: number;
      readonly machineSbdf: Sbdf;
      /** DEV_RDM_RELAXED is 1. */
      readonly flags: number;
    }
  | {
      readonly cmd: 'get_device_group';
      readonly domid: number;
      readonly machineSbdf: Sbdf;
      readonly maxSdevs: number;
      /** OUT: bus << 16 | devfn << 8 each. */
      sdevArray?: number[];
    }
  | {
      readonly cmd: 'bind_pt_irq' | 'unbind_pt_irq';
      readonly domid: number;
      readonly machineIrq: number;
      readonly irqType: 'pci' | 'msi' | 'msi_translate';
      readonly bus?: number;
      readonly device?: number;
      readonly intx?: number;
      readonly gvec?: number;
      readonly gflags?: number;
    }
  /** All of it; the buffer is not modelled. */
  | { readonly cmd: 'gethvmcontext'; readonly domid: number }
  | {
      readonly cmd: 'sethvmcontext';
      readonly domid: number;
      /** Kind and instance. */
      readonly records: readonly (readonly [string, number])[];
    }
  | { readonly cmd: 'shadow_op'; readonly domid: number; readonly op: 'off' | 'enable_logdirty' }
  | {
      readonly cmd: 'mem_sharing_op';
      readonly domid: number;
      readonly enable: boolean;
      /** XENMEM_FORK_WITH_IOMMU_ALLOWED, as a fork that switches it on for the parent gives it. */
      readonly forkWithIommu?: boolean;
    }
  | {
      readonly cmd: 'vm_event_op';
      readonly domid: number;
      readonly ring: 'paging' | 'monitor';
      readonly enable: boolean;
    };

/** @xen include/public/domctl.h shutdown codes */
export const SHUTDOWN = { poweroff: 0, reboot: 1, suspend: 2, crash: 3 } as const;
