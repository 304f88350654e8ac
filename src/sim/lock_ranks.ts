/** Locks are taken in rising rank, outermost first; `hold` asserts it. docs/lock_order.md is printed from here. */
export const RANK = {
  domctl: 10,
  iommuLog: 15, //    AMD event and PPR log->lock; reading a fault takes pcidevs_lock
  capsLock: 17, //      d->caps_lock, that of the lower domain id first
  pcidevs: 20,
  pciLock: 30, //     d->pci_lock, releases with a per-domain rwlock
  eventLock: 35,
  p2m: 38,
  ioapic: 39, //      ioapic_lock: redirection entries
  iommu: 40, //       iommu->lock: context and device tables
  mapping: 50, //     hd->arch.mapping_lock: I/O page tables
  pgtables: 55, //    hd->arch.pgtables.lock
  iommuRegister: 60, // iommu->register_lock and the queue tail
  bus2bridge: 65,
  heap: 80,
  console: 90,
} as const;
