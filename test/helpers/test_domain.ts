/** A domain as drivers see it. */
import { DomainIommu, type IommuDomain, type PdevList } from '../../src/iommu/driver/types.js';
import type { Cpus, RwLock } from '../../src/sim/locks.js';

export class TestDomain implements IommuDomain {
  readonly iommu: DomainIommu;
  readonly pdevList: PdevList;
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
    this.iommu = new DomainIommu(domid, cpus, true, false);
    this.pdevList = this.iommu;
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
