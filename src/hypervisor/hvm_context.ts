/** The state of an HVM guest's processors and devices, of which only the names are modelled. @xen common/hvm/save.c */
import { E, type Rc } from '../base/errno.js';
import { XENLOG } from '../iommu/driver/types.js';
import type { Domain } from './domain.js';
import type { DomctlOp } from './public/domctl.js';
import type { Xen } from './xen.js';

type SetOp = Extract<DomctlOp, { cmd: 'sethvmcontext' }>;

/** In the order of their type codes, and whether each virtual CPU has one. */
const KINDS: readonly (readonly [string, boolean])[] = [
  ['CPU', true],
  ['PIC', false],
  ['IOAPIC', false],
  ['LAPIC', true],
  ['LAPIC_REGS', true],
  ['PCI_IRQ', false],
  ['ISA_IRQ', false],
  ['PCI_LINK', false],
  ['PIT', false],
  ['RTC', false],
  ['HPET', false],
  ['PMTIMER', false],
  ['MTRR', true],
  ['VIRIDIAN_DOMAIN', false],
  ['CPU_XSAVE', true],
  ['VIRIDIAN_VCPU', true],
  ['VMCE_VCPU', true],
  ['TSC_ADJUST', true],
  ['CPU_MSR', true],
];

/** @returns 0, -EINVAL for a PV guest, -ENOMEM. @xen hvm_save */
export function hvmSave(xen: Xen, d: Domain): Rc {
  if (!d.isHvm) return E.INVAL;
  if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  const say = (who: string, name: string): void =>
    xen.services.printk(XENLOG.G_INFO, `HVM ${who} save: ${name}`);
  for (const [name, perVcpu] of KINDS) {
    if (!perVcpu) say(`d${d.domid}`, name);
    else for (let v = 0; v < d.maxVcpus; v++) say(`d${d.domid}v${v}`, name);
  }
  return 0;
}

/** @returns 0, -EINVAL for a PV guest, -ENOMEM. @xen hvm_load */
export function hvmLoad(xen: Xen, d: Domain, op: SetOp): Rc {
  if (!d.isHvm) return E.INVAL;
  if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  for (const [name, instance] of op.records)
    xen.services.printk(XENLOG.G_INFO, xen.seams.hvmRestoreText(d.domid, name, instance));
  return 0;
}
