/**
 * What the comparison leaves out or compares only in part: the one list. A form is a whole line, or several whole
 * lines that follow each other; nothing hides a field. docs/replay.md explains the effects.
 */

export type LineField = 'stdout' | 'stderr' | 'console' | 'kernel' | 'trace' | 'keys';

/**
 * `out`: not of the kinds that are compared at all. `hide`: of those kinds, but not reproducible.
 * `vary`: compared without what the groups match. `rename`: what the groups match are addresses, equal up to renaming.
 */
export type Effect = 'out' | 'hide' | 'vary' | 'rename';

export interface Rule {
  readonly id: string;
  readonly fields: readonly LineField[];
  readonly effect: Effect;
  readonly why: string;
  readonly forms: readonly RegExp[];
}

/**
 * Kinds of console lines of the boot: passthrough, IOMMU, PCI, building dom0. Of what Xen prints while it boots only
 * these are compared; the rest is about CPUs, memory, ACPI and the like. Afterwards every line is compared.
 */
export const BOOT_KINDS: readonly RegExp[] = [
  /^\(XEN\) \[VT-D\].*$/,
  /^\(XEN\) Intel VT-d .*$/,
  /^\(XEN\) AMD-Vi: .*$/,
  /^\(XEN\) I\/O virtualisation .*$/,
  /^\(XEN\) {2}- Dom0 mode: .*$/,
  /^\(XEN\) Interrupt remapping .*$/,
  /^\(XEN\) PCI add .*$/,
  /^\(XEN\) PCI: .*$/,
  /^\(XEN\) [0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]: .*$/,
  /^\(XEN\) \*\*\* Building a PV Dom0 \*\*\*$/,
  /^\(XEN\) Dom0 has maximum \d+ VCPUs$/,
  /^\(XEN\) d\d+: .*$/,
];

export const RULES: readonly Rule[] = [
  {
    id: 'guest-console',
    fields: ['kernel', 'console'],
    effect: 'out',
    why: 'firmware and kernels of guests write to the same serial line',
    forms: [/^\(d\d+\) .*$/],
  },
  {
    id: 'clock',
    fields: ['kernel'],
    effect: 'out',
    why: 'how steady the clocks of the emulated CPU were',
    forms: [
      /^\[ *\d+\.\d{6}\] (?:clocksource|tsc|TSC|sched_clock|hrtimer)\b.*$/,
      /^\[ *\d+\.\d{6}\] (?:rcu|watchdog): .*$/,
    ],
  },
  {
    id: 'time-stamp',
    fields: ['kernel'],
    effect: 'vary',
    why: 'times are not compared',
    forms: [/^\[( *\d+\.\d{6})\] .*$/],
  },
  {
    id: 'qemu-internal',
    fields: ['trace'],
    effect: 'out',
    why: 'what QEMU finds out for itself: neither a register write nor a descriptor',
    forms: [
      /^vtd_[cr]e_not_present .*$/,
      /^vtd_(?:context_cache_reset|iotlb_cc_update|reg_dmar_root|ir_enable|dmar_enable|inv_qi_enable|inv_qi_setup)(?: .*)?$/,
      /^vtd_reg_write_(?:gcmd|fectl) .*$/,
      /^vtd_inv_desc_cc_device .*$/,
      /^vtd_(?:dmar_fault|frr_new|fsts_ppf) .*$/,
      /^amdvi_(?:iotlb_reset|command_error) .*$/,
    ],
  },
  {
    id: 'recorder-interrupt',
    fields: ['trace'],
    effect: 'out',
    why: "the recorder's serial line, pin 3 of the I/O APIC, interrupts at any time",
    forms: [/^vtd_inv_desc_iec granularity 0x1 index 0x3 mask 0x0$/],
  },
  {
    id: 'guest-pages',
    fields: ['trace'],
    effect: 'out',
    why: "a PV guest's pages become page tables and RAM again while it runs",
    forms: [
      /^vtd_inv_desc_iotlb_pages iotlb invalidate domain (0x[0-9a-f]+) page-selective x\d+ \(collapsed; .*\)$/,
      /^vtd_inv_desc invalidate desc type iotlb high 0x[0-9a-f]+ low 0x[0-9a-f]*f2\nvtd_inv_desc_iotlb_pages iotlb invalidate domain 0x[0-9a-f]+ addr 0x[0-9a-f]+ mask 0x[0-9a-f]+$/m,
    ],
  },
];
