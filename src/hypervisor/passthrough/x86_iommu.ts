/** What makes giving devices to a domain impossible. @xen drivers/passthrough/x86/iommu.c */
import type { Domain } from '../domain.js';
import type { Xen } from '../xen.js';

/** Memory that moves, is shared, missing or tracked cannot take DMA. d[IO] owns none. @xen arch_iommu_use_permitted */
export const archIommuUsePermitted = (xen: Xen, d: Domain): boolean =>
  d === xen.domIo || (!d.memSharing && !d.pagingRing && d.podEntries === 0 && !d.logDirty);
