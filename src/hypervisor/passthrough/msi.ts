/** MSI and MSI-X of a device, as far as assignment depends on it. @xen drivers/passthrough/msi.c, arch/x86/msi.c */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import { formatSbdf } from '../../base/sbdf.js';
import { type Pdev, XENLOG } from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import { msiFreeIrq, msisOf, pciDisableMsi } from '../irq/msi.js';
import type { Xen } from '../xen.js';
import { CAP_ID, pciConfRead16, pciConfWrite16, pciFindCapOffset } from './config.js';

/** Message control words, relative to the capability. */
const MSI_CONTROL = 2;
const MSI_ENABLE = 0x0001;
const MSIX_CONTROL = 2;
const MSIX_ENABLE = 0x8000;
const MSIX_MASKALL = 0x4000;
const MSIX_SIZE = 0x07ff;

/** @returns 0 or -ENOMEM. @xen pdev_msi_init */
export function pdevMsiInit(xen: Xen, pdev: Pdev): Rc {
  let pos = pciFindCapOffset(xen, pdev.sbdf, CAP_ID.MSI);
  if (pos !== 0) {
    const ctrl = pciConfRead16(xen, pdev.sbdf, pos + MSI_CONTROL);
    pdev.msiMaxvec = 1 << ((ctrl >>> 1) & 7);
  }
  pos = pciFindCapOffset(xen, pdev.sbdf, CAP_ID.MSIX);
  if (pos === 0) return 0;
  if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  let ctrl = pciConfRead16(xen, pdev.sbdf, pos + MSIX_CONTROL);
  if ((ctrl & (MSIX_MASKALL | MSIX_ENABLE)) !== 0) {
    const maskall = (ctrl & MSIX_MASKALL) !== 0 ? 1 : 0;
    const enable = (ctrl & MSIX_ENABLE) !== 0 ? 1 : 0;
    xen.services.printk(
      XENLOG.WARNING,
      `${formatSbdf(pdev.sbdf)}: unexpected initial MSI-X state (MASKALL=${maskall}, ENABLE=${enable}), fixing`,
    );
    ctrl &= ~(MSIX_ENABLE | MSIX_MASKALL);
    pciConfWrite16(xen, pdev.sbdf, pos + MSIX_CONTROL, ctrl);
  }
  pdev.msix = {
    pos,
    nrEntries: (ctrl & MSIX_SIZE) + 1,
    hostMaskall: false,
    guestMaskall: false,
    usedEntries: 0,
  };
  return 0;
}

/** @returns 0, or -EBUSY for a device that was not reset. @xen pdev_msix_assign, pci_reset_msix_state */
export function pdevMsixAssign(xen: Xen, pdev: Pdev): Rc {
  if (pdev.msix === undefined) return 0;
  const pos = pdev.msix.pos;
  assert(pos !== 0, 'the MSI-X capability is there');
  if ((pciConfRead16(xen, pdev.sbdf, pos + MSIX_CONTROL) & MSIX_MASKALL) !== 0) return E.BUSY;
  pdev.msix.hostMaskall = false;
  pdev.msix.guestMaskall = false;
  return 0;
}

/** Turns MSI and MSI-X off and forgets the interrupts. @xen pci_cleanup_msi */
export function* pciCleanupMsi(xen: Xen, pdev: Pdev): Co<void> {
  clearBits(xen, pdev, CAP_ID.MSI, MSI_CONTROL, MSI_ENABLE);
  clearBits(xen, pdev, CAP_ID.MSIX, MSIX_CONTROL, MSIX_ENABLE);
  if (pdev.msiIrqs.length > 0) pdev.msiIrqs = [];
  for (const entry of [...msisOf(xen, pdev)]) {
    pciDisableMsi(xen, entry);
    yield* msiFreeIrq(xen, entry);
  }
}

function clearBits(xen: Xen, pdev: Pdev, cap: number, reg: number, bits: number): void {
  const pos = pciFindCapOffset(xen, pdev.sbdf, cap);
  if (pos === 0) return;
  const ctrl = pciConfRead16(xen, pdev.sbdf, pos + reg);
  pciConfWrite16(xen, pdev.sbdf, pos + reg, ctrl & ~bits);
}
