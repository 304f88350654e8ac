/** What a guest with firmware or of type PVH asks for itself. @xen arch/x86/hvm/hvm.c do_hvm_op */
import { E, type Rc } from '../base/errno.js';
import { XENLOG } from '../iommu/driver/types.js';
import type { Domain } from './domain.js';
import type { Xen } from './xen.js';

const VECTOR_MIN = 0x10;

/**
 * Where a virtual CPU hears of its event channels; Xen only tells of it. @returns 0, -EINVAL, -ENOENT
 * @xen hvmop_set_evtchn_upcall_vector
 */
export function setUpcallVector(xen: Xen, d: Domain, vcpu: number, vector: number): Rc {
  if (!d.isHvm || vector < VECTOR_MIN) return E.INVAL;
  if (vcpu >= d.maxVcpus) return E.NOENT;
  if (vcpu === 0 || xen.seams.upcallOfEachVcpu())
    xen.services.printk(
      XENLOG.G_INFO,
      `d${d.domid}v${vcpu}: upcall vector ${vector.toString(16).padStart(2, '0')}`,
    );
  return 0;
}
