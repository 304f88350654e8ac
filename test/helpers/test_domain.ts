/** A domain as drivers see it, and Xen's options as its command line leaves them. */
import { DomainIommu, type IommuDomain, type IommuOptions, PdevList } from '../../src/iommu/driver/types.js';
import { RANK } from '../../src/sim/lock_ranks.js';
import { type Cpus, type RwLock, SpinLock } from '../../src/sim/locks.js';

export class TestDomain implements IommuDomain {
  readonly iommu: DomainIommu;
  readonly pdevList = new PdevList();
  readonly pciLock: RwLock | undefined = undefined;
  readonly iommuEnabled = true;
  isDying = false;
  isShuttingDown = false;
  crashed = false;
  constructor(
    readonly domid: number,
    cpus: Cpus,
    readonly isHvm = false,
  ) {
    this.iommu = new DomainIommu(
      new SpinLock(cpus, `d${domid}.mapping`, RANK.mapping),
      new SpinLock(cpus, `d${domid}.pgtables`, RANK.pgtables),
    );
  }
  get hap(): boolean {
    return this.isHvm;
  }
  maxGfn(): number {
    return 0;
  }
  p2mRootMfn(): number {
    return 0;
  }
}

export const OPTIONS: IommuOptions = {
  enable: true,
  force: false,
  quarantine: 'basic',
  verbose: false,
  debug: false,
  crashDisable: false,
  igfx: true,
  qinval: true,
  snoop: true,
  superpages: true,
  intremap: 'full',
  intpost: false,
  hapPtShare: true,
  amdPerdevIntremap: true,
  ats: false,
  devIotlbTimeoutMs: 1000,
  hwdomStrict: false,
  hwdomPassthrough: false,
  hwdomInclusive: false,
  hwdomReserved: -1,
  hwdomNone: false,
  nonCoherent: false,
};
