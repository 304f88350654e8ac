/**
 * What the comparison leaves out or compares only in part: the one list. A form is a whole line, or several whole
 * lines that follow each other (with the flag `m`: what stands before them may matter); nothing hides a field. docs/replay.md explains the effects.
 */

export type LineField = 'stdout' | 'stderr' | 'console' | 'kernel' | 'trace' | 'keys';

/**
 * `out`: not of the kinds that are compared at all. `hide`: of those kinds, but not reproducible.
 * `vary`: compared without what the groups match. `rename`: what the groups match are addresses, equal up to renaming;
 * those of the thing that the group `of` names are its own.
 * `anytime`: compared, but either side may have them in another record than the other.
 */
export type Effect = 'out' | 'hide' | 'vary' | 'rename' | 'anytime';

export interface Rule {
  readonly id: string;
  readonly fields: readonly LineField[];
  readonly effect: Effect;
  readonly why: string;
  /** The rule is for recordings with such a command line of Xen. */
  readonly xen?: RegExp;
  /** The boot's record is compared without this rule. */
  readonly afterBoot?: true;
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
    fields: ['kernel', 'console', 'stdout', 'keys'],
    effect: 'out',
    why: 'what firmware and kernels of guests print',
    forms: [
      /^\(d\d+\) .*\r?$/,
      /^\[ *\d+\.\d{6}\] (?:Linux version|Kernel command line|Key type|Loaded X\.509|Loading compiled-in|Asymmetric key|Initialise system|Grant table|VFS:|random:|audit:|software IO TLB:|p2m virtual|integrity:|clocksource:|pcifront) ?.*\r?$/,
      // On a terminal, as dom0's own never are.
      /^\[ *\d+\.\d{6}\] .*\r$/,
      /^DOMU (?:UP|PCI:)\r?$/,
      /^0000:00:[01][0-9a-f]\.[0-7] 0x[0-9a-f]{4}:0x[0-9a-f]{4} 0x[0-9a-f]{6}\r?$/,
    ],
  },
  {
    id: 'clocks-and-crashes',
    fields: ['kernel'],
    effect: 'out',
    why: 'how steady the emulated clocks were, and where programs died: neither pciback nor a driver',
    forms: [
      /^\[ *\d+\.\d{6}\] (?:clocksource|tsc|hrtimer)\b.*$/,
      /^\[ *\d+\.\d{6}\] [\w-]+\[\d+\]: segfault at .*$/,
      /^\[ *\d+\.\d{6}\] traps: [\w-]+\[\d+\] general protection fault .*$/,
      /^\[ *\d+\.\d{6}\] Code: [0-9a-f<> ]+$/,
    ],
  },
  {
    id: 'network-tools',
    fields: ['stdout', 'stderr'],
    effect: 'out',
    why: 'interfaces of the recorded host',
    forms: [/^(?:lo|eth\d+) +(?:UNKNOWN|DOWN|UP) .*$/, /^bash: ip: command not found$/],
  },
  {
    id: 'memory-map',
    fields: ['stdout'],
    effect: 'out',
    why: '/proc/iomem: memory, ACPI and kernel ranges beside PCI',
    forms: [/^ {0,8}[0-9a-f]{8,10}-[0-9a-f]{8,10} : .*$/],
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
    fields: ['trace', 'console', 'keys'],
    effect: 'out',
    why: "the recorder's serial line, pin 3 of the I/O APIC, interrupts at any time and where dom0's virtual CPU is",
    forms: [
      /^vtd_inv_desc_iec granularity 0x1 index 0x3 mask 0x0$/,
      /^\(XEN\) R: {2}0003: {2}[01] {3}[01] {2}[0-9a-f]{4} [0-9a-f]{2} .*$/,
      /^\(XEN\) {4}03: {2}0003 {3}[01] .*$/,
    ],
  },
  {
    // Event and PPR interrupts off (bits 3 and 14 of the control register), the former on, the latter on.
    id: 'event-interrupt',
    fields: ['trace'],
    effect: 'out',
    why: "the recorder raised the AMD unit's interrupt itself: what its handler writes comes before the record, or its end in it",
    afterBoot: true,
    forms: [
      /^amdvi_control_status MMIO_STATUS state 0x1b407\namdvi_control_status MMIO_STATUS state 0x1b40f\namdvi_control_status MMIO_STATUS state 0x1f40f$/,
      // The end of it, with which the record begins.
      /(?<!\n)^amdvi_control_status MMIO_STATUS state 0x1b40f\namdvi_control_status MMIO_STATUS state 0x1f40f$/m,
      /(?<!\n)^amdvi_control_status MMIO_STATUS state 0x1f40f$/m,
    ],
  },
  {
    id: 'dom0-interrupts',
    fields: ['trace'],
    effect: 'hide',
    why: "the message of dom0's disk and ACPI's pin 9 follow dom0's virtual CPU from one CPU to another",
    afterBoot: true,
    forms: [/^vtd_inv_desc_iec granularity 0x1 index 0x(?:9|22) mask 0x0$/],
  },
  {
    id: 'guest-pages',
    fields: ['trace'],
    effect: 'out',
    why: "a PV guest's pages become page tables and RAM again while it runs: page by page, and whole when 2 MiB are RAM again",
    forms: [
      /^vtd_inv_desc_iotlb_pages iotlb invalidate domain (0x[0-9a-f]+) page-selective x\d+ \(collapsed; .*\)\nvtd_inv_desc invalidate desc type iotlb high 0x0 low 0x[0-9a-f]*e2\nvtd_inv_desc_iotlb_domain iotlb invalidate whole domain \1$/,
      /^vtd_inv_desc invalidate desc type iotlb high 0x[0-9a-f]+ low 0x[0-9a-f]*f2\nvtd_inv_desc_iotlb_pages iotlb invalidate domain (0x[0-9a-f]+) addr 0x[0-9a-f]+ mask 0x[0-9a-f]+\nvtd_inv_desc invalidate desc type iotlb high 0x0 low 0x[0-9a-f]*e2\nvtd_inv_desc_iotlb_domain iotlb invalidate whole domain \1$/,
      // The pages before it were taken with an earlier flush, or are in the record before.
      /(?<!^vtd_inv_desc_cc_devices .*\n)^vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x[0-9a-f]*e2\nvtd_inv_desc_iotlb_domain iotlb invalidate whole domain (0x[0-9a-f]+)\nvtd_inv_desc_iotlb_pages iotlb invalidate domain \1 page-selective x\d+ \(collapsed; .*\)$/m,
      // Without the queue: the address, then the command.
      /^vtd_reg_write addr 0xf0 size 0x8 value 0x[0-9a-f]+\nvtd_reg_write addr 0xf8 size 0x8 value 0xb[0-9a-f]{15}$/,
      /(?<!^vtd_inv_desc_cc_devices? .*\n)^vtd_reg_write addr 0xf8 size 0x8 value 0xa[0-9a-f]{3}(?!0000)[0-9a-f]{4}00000000\nvtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x[1-9a-f][0-9a-f]*$/m,
      /^vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x[0-9a-f]+ page-selective x\d+ \(collapsed; .*\)$/,
      // QEMU's AMD IOMMU does not tell pages from domains.
      /^amdvi_pages_inval AMD-Vi pages for domain 0x[1-9a-f][0-9a-f]* invalidated$/,
      /^vtd_inv_desc invalidate desc type iotlb high 0x[0-9a-f]+ low 0x[0-9a-f]*f2\nvtd_inv_desc_iotlb_pages iotlb invalidate domain 0x[0-9a-f]+ addr 0x[0-9a-f]+ mask 0x[0-9a-f]+$/,
      // Alone: the pages are in the record before or after. At boot Xen flushes all once it has written its registers.
      /(?<!^vtd_(?:inv_desc_cc_devices|reg_write) .*\n)^vtd_inv_desc invalidate desc type iotlb high 0x0 low 0x[0-9a-f]*e2\nvtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x[0-9a-f]+$/m,
    ],
  },
  {
    id: 'strict-dom0-pages',
    fields: ['trace'],
    effect: 'out',
    why: "a strict dom0's pages become page tables and RAM again while it runs; QEMU's AMD IOMMU does not tell pages from domains",
    xen: /(?:^|\s)(?:dom0-iommu=(?:\S*,)?strict|iommu=(?:\S*,)?dom0-strict)(?:,|\s|$)/,
    forms: [/^amdvi_pages_inval AMD-Vi pages for domain 0x0 invalidated$/],
  },
  {
    id: 'guest-probes',
    fields: ['kernel', 'trace', 'console', 'keys'],
    effect: 'anytime',
    why: "a guest's kernel gets to its devices when it does: the first commands after may be over by then",
    afterBoot: true,
    forms: [
      /^\[ *\d+\.\d{6}\] Already setup the GSI :\d+$/,
      /^\[ *\d+\.\d{6}\] pciback \S+: xen-pciback: Driver tried to write to a read-only configuration space field at offset 0x[0-9a-f]+, size [124]\. This may be harmless, but if you have problems with your device:$/,
      /^\[ *\d+\.\d{6}\] 1\) see permissive attribute in sysfs$/,
      /^\[ *\d+\.\d{6}\] 2\) report problems to the xen-devel mailing list along with details of your device obtained from lspci\.$/,
      /^vtd_inv_desc_iec granularity 0x1 index 0x1[0-7] mask 0x0$/,
      /^\(XEN\) memory_map:(?:add|remove): d(?:om)?\d+ gfn=[0-9a-f]+ mfn=[0-9a-f]+ nr=[0-9a-f]+$/,
      /^\(XEN\) ioport_map:(?:add|remove): dom\d+ gport=[0-9a-f]+ mport=[0-9a-f]+ nr=[0-9a-f]+$/,
      /^\(XEN\) d\d+v\d+: upcall vector [0-9a-f]{2}$/,
      // QEMU's AMD IOMMU does not tell whose.
      /^amdvi_intr_inval Interrupt table invalidated$/,
    ],
  },
  {
    id: 'reset-waits',
    fields: ['kernel'],
    effect: 'anytime',
    why: 'a kernel that goes on with the resets of a command that is over does so as fast as the emulated host is',
    afterBoot: true,
    forms: [
      /^\[ *\d+\.\d{6}\] pciback \S+: not ready \d+ms after FLR; (?:waiting|giving up)$/,
      /^\[ *\d+\.\d{6}\] pciback \S+: timed out waiting for pending transaction; performing function level reset anyway$/,
    ],
  },
  {
    // Only ours alone: what the recording has must be matched. `compare.ts` counts them.
    id: 'guest-unseen',
    fields: ['kernel', 'trace', 'console', 'keys'],
    effect: 'hide',
    why: 'of what guest-probes names, what came while the recorder was between two commands is in no record',
    forms: [],
  },
  {
    id: 'time-stamp',
    fields: ['kernel', 'console', 'keys'],
    effect: 'vary',
    why: 'times are not compared',
    forms: [/^\[( *\d+\.\d{6})\] .*$/, /^\(XEN\) 'q' pressed -> dumping domain info \(now = (\d+)\)$/],
  },
  {
    id: 'file-time',
    fields: ['stdout'],
    effect: 'vary',
    why: 'times are not compared: when a file of sysfs was first looked at',
    forms: [
      /^[-dl](?:[r-][w-][x-]){3} +\d+ root root +\d+ ([A-Z][a-z]{2} [ \d]\d \d\d:\d\d) \S+(?: -> \S+)?$/,
    ],
  },
  {
    id: 'transfer-time',
    fields: ['stdout'],
    effect: 'vary',
    why: 'how long the emulated devices took',
    forms: [
      /^transfer \d+ done after (\d+) ms, command=[0-9a-f]{4}$/,
      /^doorbell \d+ \(\+(\d+) us\): command [0-9a-f]{4} -> [0-9a-f]{4}$/,
      /^\d+ doorbells in (\d+) us \((\d+) us each\), TDH=\d+, command=[0-9a-f]{4}(?: \(never changed\))?$/,
    ],
  },
  {
    id: 'processor-time',
    fields: ['stdout'],
    effect: 'vary',
    why: "a domain's or a process's state at that instant, the time it has had, and how many processes came before",
    forms: [
      /^\S+ +\d+ +\d+ +\d+ {5}([-r][-b][-p][-s][-c][-d])( +\d+\.\d)$/,
      /^\S+ +\d+ +\d+ +\d+ {5}([-r][-b][-p][-s][-c][-d])( +\d+\.\d) [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12} +\S+ +\S+$/,
      /^\S+ +\d+ {2}(\d+:\d\d:\d\d)$/,
      /^( *\d+) \? {8}([A-Z][a-z]* +\d+:\d\d) \/.*$/,
      // Blocked, running or neither.
      /^libxl: debug: libxl_domain\.c:\d+:domain_death_xswatch_callback: Domain \d+:Exists shutdown_reported=[01] dominf\.flags=[0-9a-f]{1,6}([0-2])[0-9a-f]$/,
    ],
  },
  {
    id: 'processor-speed',
    fields: ['stdout'],
    effect: 'vary',
    why: 'the speed of the emulated CPU is measured at boot',
    forms: [/^cpu_mhz +: (\d+\.\d{3})$/],
  },
  {
    id: 'uuid',
    fields: ['stdout', 'console', 'keys'],
    effect: 'vary',
    why: 'made by chance',
    forms: [
      /^ *"uuid": "([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",$/,
      /^\S+ +[1-9]\d* +\d+ +\d+ {5}\S+(?: +\S+)? ([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}) +\S+ +\S+$/,
      /^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}) {2}[1-9]\d* {4}\S+ *$/,
      /^\(XEN\) {5}handle=([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}) vm_assist=[0-9a-f]{8}$/,
    ],
  },
  {
    id: 'shell-name',
    fields: ['stderr', 'stdout'],
    effect: 'vary',
    why: 'the recorder ran its commands from a file',
    forms: [
      /^((?:\/tmp\/\.cmd: line \d+: +\d+ )?)Segmentation fault((?: .*)?)$/,
      /^(?:(\/tmp\/\.cmd: line \d+: )|(bash: )).*$/,
    ],
  },
  {
    id: 'process-id',
    fields: ['stdout', 'stderr'],
    effect: 'vary',
    why: 'how many processes ran before',
    forms: [
      /^libxl: debug: libxl_domain\.c:\d+:devices_destroy_cb: Domain \d+:Forked pid (\d+) for destroy of domain$/,
      /^libxl: debug: libxl_exec\.c:\d+:libxl_report_child_exitstatus: .* \[(\d+)\] died due to fatal signal Killed$/,
      /^Waiting for domain \S+ \(domid \d+\) to die \[pid (\d+)\]$/,
      /^\S+: terminating on signal 1 from pid (\d+) \(xl\)$/,
    ],
  },
  {
    id: 'heap-address',
    fields: ['stdout', 'stderr'],
    effect: 'rename',
    why: 'where the heap of a process lies',
    forms: [
      /^libxl: debug: .*: (?:Domain \d+:)?ao (0x[0-9a-f]+): create: how=\(nil\) callback=\(nil\) poller=(0x[0-9a-f]+)$/,
      /^libxl: debug: .*: (?:Domain \d+:)?ao (0x[0-9a-f]+): inprogress: poller=(0x[0-9a-f]+), flags=i?c?$/,
      /^libxl: debug: libxl_event\.c:\d+:libxl__ao_\w+: ao (0x[0-9a-f]+): (?:complete, rc=-?\d+|destroy|progress report: ignored)$/,
      /^libxl: debug: libxl_event\.c:\d+:\w+: watch w=(0x[0-9a-f]+)(?:: deregister unregistered| wpath=\S+ token=\S+: .*)$/,
      /^libxl: debug: libxl_domain\.c:\d+:domain_death_xswatch_callback: Domain \d+:\[evg=(0x[0-9a-f]+)\] .*$/,
      /^libxl: debug: libxl_qmp\.c:\d+:libxl__ev_qmp_\w+: (?:Domain \d+:)? ev (0x[0-9a-f]+)(?:, cmd '\S+')?$/,
    ],
  },
  {
    id: 'mapping-address',
    fields: ['stdout', 'stderr', 'console'],
    effect: 'rename',
    why: 'where the pages of a guest are seen in a process, and which machine frames it has',
    forms: [
      /^domainbuilder: detail: xc_dom_pfn_to_ptr_retcount: domU mapping: pfn 0x[0-9a-f]+\+0x[0-9a-f]+ at (0x[0-9a-f]+)$/,
      /^xc: detail: ELF: phdr \d+ at (0x[0-9a-f]+) -> (0x[0-9a-f]+)$/,
      /^domainbuilder: detail: bootlate_pv: shared_info: pfn 0x0, mfn (0x[0-9a-f]+)$/,
      /^domainbuilder: detail: vcpu_x86_64: cr3: pfn 0x[0-9a-f]+ mfn (0x[0-9a-f]+)$/,
      /^\(XEN\) Cannot setup identity map d\d+:[0-9a-f]+, gfn already mapped to ([0-9a-f]+)\.$/,
      /^\(XEN\) non-identity map d\d+:[0-9a-f]+ not cleared \(mapped to ([0-9a-f]+)\)$/,
      // Of an HVM guest these are guest frames.
      /^domainbuilder: detail: xc_dom_set_gnttab_entry: d\d+ gnt\[[01]\] -> d0 (0x(?!fef)[0-9a-f]+)$/,
    ],
  },
  {
    id: 'table-address',
    fields: ['console', 'keys', 'stdout', 'trace'],
    effect: 'rename',
    why: 'where Xen puts its tables differs from boot to boot',
    forms: [
      /^vtd_reg_write addr 0x(?:20|90) size 0x8 value 0x([0-9a-f]+)000$/,
      /^vtd_reg_write addr 0xb8 size 0x8 value 0x([0-9a-f]+)00f$/,
      // What the table of a domain that is gone leaves may be another domain's next one, or not.
      /^\(XEN\) AMD-Vi: Setup I\/O page table: device id = (?:0x[0-9a-f]+|0), type = 0x[0-9a-f]+, root table = (0x[0-9a-f]+), domain = (?<of>\d+), paging mode = \d$/,
      /^\(XEN\) {3}L[2-6]\[[0-9a-f]+\] = [0-9a-f]{3}([0-9a-f]{10})[2-9a-d][0-9a-f]{2} rw$/,
      /^\(XEN\) {5}root_entry\[[0-9a-f]+\] = ([0-9a-f]+)001$/,
      /^\(XEN\) {5}context\[[0-9a-f]+\] = [0-9a-f]+_([0-9a-f]+)001$/,
      /^\(XEN\) {5}l[1-5]\[[0-9a-f]+\] = ([0-9a-f]+)003 rw$/,
      /^\(XEN\) {5}XenPage ([0-9a-f]{16}): caf=[0-9a-f]{16}, taf=[0-9a-f]{16}$/,
      /^\(XEN\) \S+ root @ ([0-9a-f]+) \(\d levels\) dfn=[0-9a-f]+$/,
    ],
  },
];
