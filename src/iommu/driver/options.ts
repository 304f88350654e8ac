/** What the command line, the CPU and firmware say: data that drivers read at set-up. */
import type { Sbdf } from '../../base/sbdf.js';

/** Boot options and what set-up made of them. Set-up may clear them. @xen drivers/passthrough/iommu.c */
export interface IommuOptions {
  enable: boolean;
  force: boolean;
  quarantine: 'none' | 'basic' | 'scratch-page';
  verbose: boolean;
  debug: boolean;
  crashDisable: boolean;
  igfx: boolean;
  qinval: boolean;
  snoop: boolean;
  superpages: boolean;
  intremap: 'off' | 'restricted' | 'full';
  intpost: boolean;
  /** Cleared by a driver that cannot share. @xen iommu_hap_pt_share */
  hapPtShare: boolean;
  amdPerdevIntremap: boolean;
  ats: boolean;
  devIotlbTimeoutMs: number;
  hwdomStrict: boolean;
  hwdomPassthrough: boolean;
  hwdomInclusive: boolean;
  /** -1 while not given. */
  hwdomReserved: -1 | 0 | 1;
  hwdomNone: boolean;
  nonCoherent: boolean;
}

/** CPU facts that drivers ask for. */
export interface CpuFacts {
  readonly vendor: 'intel' | 'amd';
  readonly count: number;
  readonly cx16: boolean;
  /** Page sizes EPT or NPT can use beside 4 KiB. */
  readonly hap2m: boolean;
  readonly hap1g: boolean;
  readonly hap: boolean;
  /** Physical address bits; 46 when not given. Device memory above is out of dom0's reach. */
  readonly paddrBits?: number;
  /** Model number of an Intel CPU of family 6. */
  readonly intelModel?: number;
}

/** Memory map as firmware left it. Bytes, `end` exclusive. */
export interface E820Entry {
  readonly start: number;
  readonly end: number;
  readonly type: 'usable' | 'reserved' | 'ACPI data' | 'ACPI NVS' | 'unusable';
}

/** Extra RMRR or IVMD ranges given on the command line. Frames. @xen iommu_add_extra_reserved_device_memory */
export interface ExtraRange {
  readonly start: number;
  readonly frames: number;
  /** Empty with `ivmd`: all devices. */
  readonly sbdfs: readonly Sbdf[];
  /** Which option gave it: VT-d takes those of `rmrr=`, AMD-Vi those of `ivmd=`; both take the ones without. */
  readonly option?: 'rmrr' | 'ivmd';
}
