/** A domain as drivers see it. */
import { DomainIommu, type IommuDomain, PdevList } from '../../src/iommu/driver/types.js';
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
