/**
 * The fields of each struct in their order: from it come the initial values and the JSON of `xl -N create` and
 * `xl list -l`, where a field that has its initial value is left out.
 */
import { deepClone } from './clone.js';
import type { DeviceDisk, DeviceNic, DevicePci, DeviceVfb, DeviceVkb, DomainConfig } from './types.js';

export type Field =
  /** Number, string, boolean or enumeration name; left out when equal to `init`. */
  | { readonly kind: 'plain'; readonly init: unknown }
  | { readonly kind: 'defbool' }
  | { readonly kind: 'bits' }
  | { readonly kind: 'mac' }
  | { readonly kind: 'list'; readonly of?: Schema }
  | { readonly kind: 'bitsList' }
  /** What a configuration says of CPUID and of model specific registers. */
  | { readonly kind: 'cpuid' }
  | { readonly kind: 'struct'; readonly of: Schema }
  /** The member of a union, printed as `key.member` when `key` names it. */
  | { readonly kind: 'union'; readonly key: string; readonly of: Schema };
/** Name as in the IDL, field. */
export type Schema = readonly (readonly [string, Field])[];

const plain = (init: unknown): Field => ({ kind: 'plain', init });
const int = plain(0);
const str = plain(undefined);
const memkb = plain(undefined);
const bool = plain(false);
const defbool: Field = { kind: 'defbool' };
const bits: Field = { kind: 'bits' };
const list: Field = { kind: 'list' };
const listOf = (of: Schema): Field => ({ kind: 'list', of });
const struct = (of: Schema): Field => ({ kind: 'struct', of });

const VNC: Schema = [
  ['enable', defbool],
  ['listen', str],
  ['passwd', str],
  ['display', int],
  ['findunused', defbool],
];
const SDL: Schema = [
  ['enable', defbool],
  ['opengl', defbool],
  ['display', str],
  ['xauthority', str],
];
const SPICE: Schema = [
  ['enable', defbool],
  ['port', int],
  ['tls_port', int],
  ['host', str],
  ['disable_ticketing', defbool],
  ['passwd', str],
  ['agent_mouse', defbool],
  ['vdagent', defbool],
  ['clipboard_sharing', defbool],
  ['usbredirection', int],
  ['image_compression', str],
  ['streaming_video', str],
];
const C_INFO: Schema = [
  ['type', plain('invalid')],
  ['hap', defbool],
  ['oos', defbool],
  ['ssidref', int],
  ['ssid_label', str],
  ['name', str],
  ['domid', int],
  ['uuid', plain('')],
  ['poolid', int],
  ['pool_name', str],
  ['run_hotplug_scripts', defbool],
  ['driver_domain', defbool],
  ['passthrough', plain('default')],
  ['xend_suspend_evtchn_compat', defbool],
];
const HVM: Schema = [
  ['firmware', str],
  ['bios', plain('unknown')],
  ['pae', defbool],
  ['acpi', defbool],
  ['acpi_s3', defbool],
  ['acpi_s4', defbool],
  ['acpi_laptop_slate', defbool],
  ['nx', defbool],
  ['viridian', defbool],
  ['viridian_enable', bits],
  ['viridian_disable', bits],
  ['timeoffset', str],
  ['hpet', defbool],
  ['vpt_align', defbool],
  ['mmio_hole_memkb', memkb],
  ['altp2m', defbool],
  ['system_firmware', str],
  ['smbios_firmware', str],
  ['acpi_firmware', str],
  ['hdtype', plain('ide')],
  ['nographic', defbool],
  ['vga', struct([['kind', plain('unknown')]])],
  ['vnc', struct(VNC)],
  ['keymap', str],
  ['sdl', struct(SDL)],
  ['spice', struct(SPICE)],
  ['gfx_passthru', defbool],
  ['gfx_passthru_kind', plain('default')],
  ['serial', str],
  ['boot', str],
  ['usb', defbool],
  ['usbversion', int],
  ['usbdevice', str],
  ['vkb_device', defbool],
  ['soundhw', str],
  ['xen_platform_pci', defbool],
  ['usbdevice_list', list],
  ['vendor_device', plain('none')],
  ['serial_list', list],
  [
    'rdm',
    struct([
      ['strategy', plain('ignore')],
      ['policy', plain('invalid')],
    ]),
  ],
  ['rdm_mem_boundary_memkb', memkb],
  ['mca_caps', int],
];
const PV: Schema = [
  ['slack_memkb', memkb],
  ['e820_host', defbool],
];
const PVH: Schema = [
  ['pvshim', defbool],
  ['pvshim_path', str],
  ['pvshim_cmdline', str],
  ['pvshim_extra', str],
];
const unset = plain(-1);
const SCHED: Schema = [
  ['sched', plain('unknown')],
  ['weight', unset],
  ['cap', unset],
  ['period', unset],
  ['budget', unset],
  ['extratime', unset],
  ['slice', unset],
  ['latency', unset],
];
const B_INFO: Schema = [
  ['max_vcpus', int],
  ['avail_vcpus', bits],
  ['vcpu_hard_affinity', { kind: 'bitsList' }],
  ['vcpu_soft_affinity', { kind: 'bitsList' }],
  ['numa_placement', defbool],
  ['tsc_mode', plain('default')],
  ['max_memkb', memkb],
  ['target_memkb', memkb],
  ['video_memkb', memkb],
  ['shadow_memkb', memkb],
  ['iommu_memkb', memkb],
  ['rtc_timeoffset', int],
  ['exec_ssid_label', str],
  ['localtime', defbool],
  ['disable_migrate', defbool],
  ['cpuid', { kind: 'cpuid' }],
  ['blkdev_start', str],
  ['max_grant_frames', unset],
  ['max_maptrack_frames', unset],
  ['max_grant_version', unset],
  ['device_model_version', plain('unknown')],
  ['device_model_stubdomain', defbool],
  ['stubdomain_memkb', memkb],
  ['stubdomain_kernel', str],
  ['stubdomain_cmdline', str],
  ['stubdomain_ramdisk', str],
  ['device_model', str],
  ['device_model_ssid_label', str],
  ['device_model_user', str],
  ['extra', list],
  ['extra_pv', list],
  ['extra_hvm', list],
  ['sched_params', struct(SCHED)],
  [
    'ioports',
    listOf([
      ['first', int],
      ['number', int],
    ]),
  ],
  ['irqs', list],
  [
    'iomem',
    listOf([
      ['start', int],
      ['number', int],
      ['gfn', unset],
    ]),
  ],
  ['claim_mode', defbool],
  ['event_channels', int],
  ['kernel', str],
  ['cmdline', str],
  ['ramdisk', str],
  ['device_tree', str],
  ['acpi', defbool],
  ['bootloader', str],
  ['bootloader_args', list],
  ['timer_mode', plain('unknown')],
  ['nested_hvm', defbool],
  ['apic', defbool],
  ['dm_restrict', defbool],
  ['hvm', { kind: 'union', key: 'type', of: HVM }],
  ['pv', { kind: 'union', key: 'type', of: PV }],
  ['pvh', { kind: 'union', key: 'type', of: PVH }],
  ['arch_arm', struct([])],
  ['arch_x86', struct([['msr_relaxed', defbool]])],
  ['altp2m', plain('disabled')],
  ['vmtrace_buf_kb', int],
  ['vpmu', defbool],
];
const DISK: Schema = [
  ['backend_domid', int],
  ['backend_domname', str],
  ['pdev_path', str],
  ['vdev', str],
  ['backend', plain('unknown')],
  ['format', plain('unknown')],
  ['script', str],
  ['removable', int],
  ['readwrite', int],
  ['is_cdrom', int],
  ['direct_io_safe', bool],
  ['discard_enable', defbool],
  ['specification', plain('unknown')],
  ['colo_enable', defbool],
  ['colo_host', str],
  ['colo_port', int],
  ['colo_export', str],
  ['active_disk', str],
  ['hidden_disk', str],
  ['trusted', defbool],
];
const NIC: Schema = [
  ['backend_domid', int],
  ['backend_domname', str],
  ['devid', unset],
  ['mtu', int],
  ['model', str],
  ['mac', { kind: 'mac' }],
  ['ip', str],
  ['bridge', str],
  ['ifname', str],
  ['script', str],
  ['nictype', plain('unknown')],
  ['rate_bytes_per_interval', int],
  ['rate_interval_usecs', int],
  ['gatewaydev', str],
  ['trusted', defbool],
];
const PCI: Schema = [
  ['func', int],
  ['dev', int],
  ['bus', int],
  ['domain', int],
  ['vdevfn', int],
  ['vfunc_mask', int],
  ['msitranslate', bool],
  ['power_mgmt', bool],
  ['permissive', bool],
  ['seize', bool],
  ['rdm_policy', plain('invalid')],
  ['name', str],
];
const RDM: Schema = [
  ['start', int],
  ['size', int],
  ['policy', plain('invalid')],
];
const VFB: Schema = [
  ['backend_domid', int],
  ['devid', unset],
  ['vnc', struct(VNC)],
  ['sdl', struct(SDL)],
  ['keymap', str],
];
const VKB: Schema = [
  ['backend_domid', int],
  ['devid', unset],
  ['backend_type', plain('unknown')],
];
const action = plain('destroy');
export const DOMAIN_CONFIG: Schema = [
  ['c_info', struct(C_INFO)],
  ['b_info', struct(B_INFO)],
  ['disks', listOf(DISK)],
  ['nics', listOf(NIC)],
  ['pcidevs', listOf(PCI)],
  ['rdms', listOf(RDM)],
  ['dtdevs', listOf([['path', str]])],
  ['vfbs', listOf(VFB)],
  ['vkbs', listOf(VKB)],
  ['on_poweroff', action],
  ['on_reboot', action],
  ['on_watchdog', action],
  ['on_crash', action],
  ['on_soft_reset', action],
];

/** `rdm_mem_boundary_memkb` is the field `rdmMemBoundaryMemkb`. */
export const fieldName = (idl: string): string =>
  idl.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());

export const initialOf = (f: Field): unknown => {
  switch (f.kind) {
    case 'plain':
      return f.init;
    case 'defbool':
      return undefined;
    case 'mac':
      return [0, 0, 0, 0, 0, 0];
    case 'cpuid':
      return { cpuid: [], msr: [] };
    case 'struct':
    case 'union':
      return make(f.of);
    default:
      return [];
  }
};
const make = (schema: Schema): Record<string, unknown> => {
  const out: Record<string, unknown> = {};
  for (const [name, field] of schema) out[fieldName(name)] = initialOf(field);
  return out;
};

export const makeDomainConfig = (): DomainConfig => {
  const c = make(DOMAIN_CONFIG) as unknown as DomainConfig;
  c.bInfo.type = 'invalid';
  return c;
};
export const makePci = (): DevicePci => make(PCI) as unknown as DevicePci;
export const makeDisk = (): DeviceDisk => make(DISK) as unknown as DeviceDisk;
export const makeNic = (): DeviceNic => make(NIC) as unknown as DeviceNic;
export const makeVfb = (): DeviceVfb => make(VFB) as unknown as DeviceVfb;
export const makeVkb = (): DeviceVkb => make(VKB) as unknown as DeviceVkb;
export const copyConfig = (c: DomainConfig): DomainConfig => deepClone(c);
