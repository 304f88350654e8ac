/** Names of all options of Xen 4.18.3 for x86: what is not here is `unknown!`. @xen common/kernel.c parse_params */
export type ParamKind = 'custom' | 'boolean' | 'integer' | 'size' | 'string' | 'ignore';

const NAMES: Readonly<Record<ParamKind, string>> = {
  custom:
    'acpi acpi_apic_instance acpi_sleep apic apic_verbosity argo bootscrub cet console_timestamps ' +
    'core_parking cpu_type cpufreq cpuid crashinfo_maxaddr crashkernel credit2_runqueue dbgp debugtrace ' +
    'dom0 dom0-cpuid dom0-iommu dom0_max_vcpus dom0_mem dom0_nodes efi ept extra_guest_irqs flask font ' +
    'gnttab gnttab_max_frames gnttab_max_maptrack_frames guest_loglvl hpet ioapic_ack iommu ' +
    'irq_vector_map ivmd ivrs_hpet[ ivrs_ioapic[ loglvl low_crashinfo max_cstate mce_verbosity ' +
    'memop-max-order mmcfg mmio-relax nolapic numa pci pci-phantom pcid psr pv pv-l1tf reboot rmrr ' +
    'sched-gran shim_mem smap smep snb_igd_quirk spec-ctrl tsc tsx ucode viridian-version vpmu watchdog ' +
    'watchdog_timeout x2apic-mode xpti xsm',
  boolean:
    'acpi_pstate_strict acpi_skip_timer_override allow_unsafe altp2m apicv arat asid async-show-all ats ' +
    'cmos-rtc-probe console_to_ring cpuidle cpuinfo dit dom0_vcpus_pin e820-mtrr-clip e820-verbose ' +
    'force-ept global-pages hap hap_1gb hap_2mb hest_disable hpetbroadcast hvm_fep hvm_port80 invpcid ' +
    'iommu_inclusive_mapping lapic lapic_timer_c2_ok ler mce mce_fb msi mtrr.show mwait-idle noapic ' +
    'noirqbalance noreboot nosmp pv-linear-pt pv-shim ro-hpet sched_smt_power_savings scrub-domheap smt ' +
    'sync_console tdt tickle_one_idle_cpu unrestricted_guest vpid x2apic x2apic_phys xsave',
  integer:
    'cmci-threshold cpuid_mask_ecx cpuid_mask_edx cpuid_mask_ext_ecx cpuid_mask_ext_edx ' +
    'cpuid_mask_l7s0_eax cpuid_mask_l7s0_ebx cpuid_mask_thermal_ecx cpuid_mask_xsave_eax ' +
    'credit2_balance_over credit2_balance_under credit2_cap_period_ms credit2_load_precision_shift ' +
    'credit2_load_window_shift debug_stack_lines dma_bits hardware_dom hvm_debug idle_latency_factor ' +
    'iommu_dev_iotlb_timeout irq-max-guests irq_ratelimit load-balance-ratelimit lock-depth-size ' +
    'max_gsi_irqs maxcpus nr_irqs ple_gap ple_window rcu-idle-timer-period-ms ' +
    'sched_credit2_max_cpus_runqueue sched_credit2_migrate_resist sched_credit_tslice_ms ' +
    'sched_ratelimit_us tboot tbuf_size tevt_mask timer_slop vcpu_migration_delay vesa-ram ' +
    'viridian-spinlock-retry-count vm-notify-window',
  size: 'availmem bootscrub_chunk conring_size highmem-start low_mem_virq_limit mem serial_tx_buffer',
  string:
    'badpage clocksource com1 com2 console conswitch cpuid_mask_cpu crash-debug-debugkey ' +
    'crash-debug-hwdom crash-debug-kexeccmd crash-debug-panic crash-debug-watchdog dom0_ioports_disable ' +
    'dtuart gdb nmi preferred-cstates sched vga',
  ignore: 'edd edid placeholder real-mode',
};

/** Names that end in `[` go on with what the brackets hold. */
export const PARAMS: ReadonlyMap<string, ParamKind> = new Map(
  (Object.keys(NAMES) as ParamKind[]).flatMap((kind) =>
    NAMES[kind].split(' ').map((name): [string, ParamKind] => [name, kind]),
  ),
);
