/** What a PV guest uses its pages for. @xen arch/x86/mm.c */
import { E, type Rc } from '../../base/errno.js';
import { IOMMUF } from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import { FRAME_TYPE } from '../../sim/frames.js';
import { iommuLegacyMap, iommuLegacyUnmap } from '../passthrough/iommu.js';
import type { MmuextOp } from '../public/mmu.js';
import type { Xen } from '../xen.js';

/** @returns 0, -ESRCH, -EOPNOTSUPP for an HVM guest, -EINVAL where the page is not the guest's or is one already. @xen do_mmuext_op */
export function* mmuextOp(xen: Xen, op: MmuextOp): Co<Rc> {
  const d = xen.domains.get(op.domid);
  if (d === undefined) return E.SRCH;
  if (d.isHvm) return E.OPNOTSUPP;
  const [from, to] =
    op.cmd === 'pin_table'
      ? [FRAME_TYPE.writable, FRAME_TYPE.pagetable]
      : [FRAME_TYPE.pagetable, FRAME_TYPE.writable];
  if (xen.frames.owner(op.mfn) !== d.domid || xen.frames.type(op.mfn) !== from) return E.INVAL;
  // A page table is out of reach of devices: with it they could reach everything. @xen _get_page_type
  const rights = IOMMUF.readable | IOMMUF.writable;
  let rc: Rc = 0;
  if (d.iommu.needSync)
    rc =
      to === FRAME_TYPE.pagetable
        ? yield* iommuLegacyUnmap(xen, d, op.mfn, 1)
        : yield* iommuLegacyMap(xen, d, op.mfn, op.mfn, 1, rights);
  if (rc === 0) xen.frames.set(op.mfn, 1, d.domid, to);
  return rc;
}
