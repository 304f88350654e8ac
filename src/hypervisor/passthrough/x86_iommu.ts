/** What makes giving devices to a domain impossible. @xen drivers/passthrough/x86/iommu.c */
import type { Domain } from '../domain.js';
import type { Xen } from '../xen.js';

/**
 * Memory that moves, is shared, missing or tracked cannot take DMA. d[IO] owns none. Only the physical map of a guest
 * with HAP knows of log-dirty mode. @xen arch_iommu_use_permitted, p2m_is_global_logdirty
 */
export const archIommuUsePermitted = (xen: Xen, d: Domain): boolean =>
  d === xen.domIo || (!d.memSharing && !d.pagingRing && d.podEntries === 0 && !(d.logDirty && d.hap));
