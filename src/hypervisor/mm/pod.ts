/**
 * Memory that is promised and comes when it is touched, as far as devices and calls from outside see of it: which guest
 * frames are so marked, and who may not have any. Pages that stand by for them are not modelled.
 * @xen arch/x86/mm/p2m-pod.c
 */
import { E, type Rc } from '../../base/errno.js';
import type { Domain } from '../domain.js';

/** Devices, or the right to any: what they reach cannot come later. @xen has_arch_pdevs, cache_flush_permitted */
const hasDevices = (d: Domain): boolean =>
  d.pdevList.size > 0 || !d.iomemCaps.isEmpty() || !d.ioportCaps.isEmpty();

/** @returns 0, -EINVAL, -ENOTEMPTY, or -EBUSY where something is mapped. @xen guest_physmap_mark_populate_on_demand */
export function markPopulateOnDemand(d: Domain, gfn: number, order: number): Rc {
  if (d.p2m === undefined) return E.INVAL;
  if (hasDevices(d)) return E.NOTEMPTY;
  for (let i = 0; i < 2 ** order; ) {
    const there = d.p2m.lookup(gfn + i);
    if (there.mfn >= 0) return E.BUSY;
    i += 2 ** there.order - ((gfn + i) % 2 ** there.order);
  }
  podIsReplaced(d, gfn, order);
  d.podGfns.add(gfn, gfn + 2 ** order - 1);
  d.podEntries += 2 ** order;
  return 0;
}

/** Pages come where some were promised. @xen guest_physmap_add_entry */
export function podIsReplaced(d: Domain, gfn: number, order: number): void {
  const last = gfn + 2 ** order - 1;
  if (d.podEntries === 0 || !d.podGfns.overlaps(gfn, last)) return;
  for (const { s, e } of d.podGfns.list()) {
    const common = Math.min(e, last) - Math.max(s, gfn) + 1;
    if (common > 0) d.podEntries -= common;
  }
  d.podGfns.remove(gfn, last);
}

/** The guest gives back what it was only promised. False where that is not all of it. @xen p2m_pod_decrease_reservation */
export function podGivenBack(d: Domain, gfn: number, order: number): boolean {
  if (d.podEntries === 0 || d.isDying || !d.podGfns.contains(gfn, gfn + 2 ** order - 1)) return false;
  podIsReplaced(d, gfn, order);
  return true;
}

/** @returns 0, -EINVAL or -ENOTEMPTY. @xen XENMEM_set_pod_target, p2m_pod_set_mem_target */
export function setPodTarget(d: Domain, pages: number): Rc {
  if (!d.isHvm || pages > d.maxPages) return E.INVAL;
  if ((d.totPages > 0 && d.podEntries === 0) || d.isDying || pages < d.totPages) return 0;
  return hasDevices(d) ? E.NOTEMPTY : 0;
}
