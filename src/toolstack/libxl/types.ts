/**
 * What libxl's callers hand over: the configuration of a domain. An unset defbool, string or memory size is undefined,
 * as libxl's defaults are; an enumeration holds its name. @xen tools/libs/light/libxl_types.idl
 */
import type { CpuidPolicy } from './cpuid.js';

export type Defbool = boolean | undefined;
/** Kilobytes; undefined is LIBXL_MEMKB_DEFAULT. */
export type MemKb = number | undefined;

export type DomainType = 'invalid' | 'hvm' | 'pv' | 'pvh';
export type Passthrough = 'default' | 'disabled' | 'enabled' | 'sync_pt' | 'share_pt';
/** `uninitialised` is what a read of never written memory gives: no name, so it prints as null. */
export type RdmPolicy = 'invalid' | 'strict' | 'relaxed' | 'uninitialised';
export type RdmStrategy = 'ignore' | 'host' | 'uninitialised';
export type GfxPassthruKind = 'default' | 'igd';
export type VgaKind = 'unknown' | 'cirrus' | 'std' | 'none' | 'qxl';
export type DeviceModelVersion = 'unknown' | 'qemu_xen_traditional' | 'qemu_xen';
export type BiosType = 'unknown' | 'rombios' | 'seabios' | 'ovmf';
export type ActionOnShutdown =
  | 'destroy'
  | 'restart'
  | 'restart_rename'
  | 'preserve'
  | 'coredump_destroy'
  | 'coredump_restart'
  | 'soft_reset';
export type DiskFormat = 'unknown' | 'qcow' | 'qcow2' | 'vhd' | 'raw' | 'empty' | 'qed';
export type DiskBackend = 'unknown' | 'phy' | 'tap' | 'qdisk' | 'standalone';
export type Altp2mMode = 'disabled' | 'mixed' | 'external' | 'limited';
export type TscMode = 'default' | 'always_emulate' | 'native' | 'native_paravirt';

/** LIBXL_PCI_FUNC_ALL */
export const PCI_FUNC_ALL = 0xffff_ffff;

export interface DevicePci {
  func: number;
  dev: number;
  bus: number;
  domain: number;
  vdevfn: number;
  vfuncMask: number;
  msitranslate: boolean;
  powerMgmt: boolean;
  permissive: boolean;
  seize: boolean;
  rdmPolicy: RdmPolicy;
  name: string | undefined;
}

export interface DeviceDisk {
  backendDomid: number;
  backendDomname: string | undefined;
  pdevPath: string | undefined;
  vdev: string | undefined;
  backend: DiskBackend;
  format: DiskFormat;
  script: string | undefined;
  removable: number;
  readwrite: number;
  isCdrom: number;
  directIoSafe: boolean;
  discardEnable: Defbool;
  specification: 'unknown' | 'xen' | 'virtio';
  coloEnable: Defbool;
  coloHost: string | undefined;
  coloPort: number;
  coloExport: string | undefined;
  activeDisk: string | undefined;
  hiddenDisk: string | undefined;
  trusted: Defbool;
}

export interface DeviceNic {
  backendDomid: number;
  backendDomname: string | undefined;
  devid: number;
  mtu: number;
  model: string | undefined;
  /** Six bytes; all zero when libxl is to choose. */
  mac: number[];
  ip: string | undefined;
  bridge: string | undefined;
  ifname: string | undefined;
  script: string | undefined;
  nictype: 'unknown' | 'vif_ioemu' | 'vif';
  rateBytesPerInterval: number;
  rateIntervalUsecs: number;
  gatewaydev: string | undefined;
  trusted: Defbool;
}

export interface VncInfo {
  enable: Defbool;
  listen: string | undefined;
  passwd: string | undefined;
  display: number;
  findunused: Defbool;
}

export interface SdlInfo {
  enable: Defbool;
  opengl: Defbool;
  display: string | undefined;
  xauthority: string | undefined;
}

export interface SpiceInfo {
  enable: Defbool;
  port: number;
  tlsPort: number;
  host: string | undefined;
  disableTicketing: Defbool;
  passwd: string | undefined;
  agentMouse: Defbool;
  vdagent: Defbool;
  clipboardSharing: Defbool;
  usbredirection: number;
  imageCompression: string | undefined;
  streamingVideo: string | undefined;
}

export interface DeviceVfb {
  backendDomid: number;
  devid: number;
  vnc: VncInfo;
  sdl: SdlInfo;
  keymap: string | undefined;
}

export interface DeviceVkb {
  backendDomid: number;
  devid: number;
  backendType: 'unknown' | 'qemu' | 'linux';
}

export interface DeviceRdm {
  /** Bytes. */
  start: number;
  size: number;
  policy: RdmPolicy;
}

export interface CreateInfo {
  type: DomainType;
  hap: Defbool;
  oos: Defbool;
  ssidref: number;
  ssidLabel: string | undefined;
  name: string | undefined;
  domid: number;
  uuid: string;
  poolid: number;
  poolName: string | undefined;
  runHotplugScripts: Defbool;
  driverDomain: Defbool;
  passthrough: Passthrough;
  xendSuspendEvtchnCompat: Defbool;
}

export interface HvmInfo {
  firmware: string | undefined;
  bios: BiosType;
  pae: Defbool;
  acpi: Defbool;
  acpiS3: Defbool;
  acpiS4: Defbool;
  acpiLaptopSlate: Defbool;
  nx: Defbool;
  viridian: Defbool;
  viridianEnable: number[];
  viridianDisable: number[];
  timeoffset: string | undefined;
  hpet: Defbool;
  vptAlign: Defbool;
  mmioHoleMemkb: MemKb;
  altp2m: Defbool;
  systemFirmware: string | undefined;
  smbiosFirmware: string | undefined;
  acpiFirmware: string | undefined;
  hdtype: 'ide' | 'ahci';
  nographic: Defbool;
  vga: { kind: VgaKind };
  vnc: VncInfo;
  keymap: string | undefined;
  sdl: SdlInfo;
  spice: SpiceInfo;
  gfxPassthru: Defbool;
  gfxPassthruKind: GfxPassthruKind;
  serial: string | undefined;
  boot: string | undefined;
  usb: Defbool;
  usbversion: number;
  usbdevice: string | undefined;
  vkbDevice: Defbool;
  soundhw: string | undefined;
  xenPlatformPci: Defbool;
  usbdeviceList: string[];
  vendorDevice: 'none' | 'xenserver';
  serialList: string[];
  rdm: { strategy: RdmStrategy; policy: RdmPolicy };
  rdmMemBoundaryMemkb: MemKb;
  mcaCaps: number;
}

export interface SchedParams {
  sched: 'unknown' | 'credit2';
  weight: number;
  cap: number;
  period: number;
  budget: number;
  extratime: number;
  slice: number;
  latency: number;
}

export interface BuildInfo {
  maxVcpus: number;
  /** Bit numbers set; empty when no bitmap was made. */
  availVcpus: number[];
  vcpuHardAffinity: number[][];
  vcpuSoftAffinity: number[][];
  numaPlacement: Defbool;
  tscMode: TscMode;
  maxMemkb: MemKb;
  targetMemkb: MemKb;
  videoMemkb: MemKb;
  shadowMemkb: MemKb;
  iommuMemkb: MemKb;
  rtcTimeoffset: number;
  execSsidLabel: string | undefined;
  localtime: Defbool;
  disableMigrate: Defbool;
  cpuid: CpuidPolicy;
  blkdevStart: string | undefined;
  maxGrantFrames: number;
  maxMaptrackFrames: number;
  maxGrantVersion: number;
  deviceModelVersion: DeviceModelVersion;
  deviceModelStubdomain: Defbool;
  stubdomainMemkb: MemKb;
  stubdomainKernel: string | undefined;
  stubdomainCmdline: string | undefined;
  stubdomainRamdisk: string | undefined;
  deviceModel: string | undefined;
  deviceModelSsidLabel: string | undefined;
  deviceModelUser: string | undefined;
  extra: string[];
  extraPv: string[];
  extraHvm: string[];
  schedParams: SchedParams;
  ioports: { first: number; number: number }[];
  irqs: number[];
  /** `gfn` -1 is LIBXL_INVALID_GFN. */
  iomem: { start: number; number: number; gfn: number }[];
  claimMode: Defbool;
  eventChannels: number;
  kernel: string | undefined;
  cmdline: string | undefined;
  ramdisk: string | undefined;
  deviceTree: string | undefined;
  acpi: Defbool;
  bootloader: string | undefined;
  bootloaderArgs: string[];
  timerMode: string;
  nestedHvm: Defbool;
  apic: Defbool;
  dmRestrict: Defbool;
  type: DomainType;
  /** The member of the union that `type` selects is meant; the others stay at their defaults. */
  hvm: HvmInfo;
  pv: { slackMemkb: MemKb; e820Host: Defbool };
  pvh: {
    pvshim: Defbool;
    pvshimPath: string | undefined;
    pvshimCmdline: string | undefined;
    pvshimExtra: string | undefined;
  };
  archArm: Record<string, never>;
  archX86: { msrRelaxed: Defbool };
  altp2m: Altp2mMode;
  vmtraceBufKb: number;
  vpmu: Defbool;
}

export interface DomainConfig {
  cInfo: CreateInfo;
  bInfo: BuildInfo;
  disks: DeviceDisk[];
  nics: DeviceNic[];
  pcidevs: DevicePci[];
  rdms: DeviceRdm[];
  dtdevs: { path: string }[];
  vfbs: DeviceVfb[];
  vkbs: DeviceVkb[];
  onPoweroff: ActionOnShutdown;
  onReboot: ActionOnShutdown;
  onWatchdog: ActionOnShutdown;
  onCrash: ActionOnShutdown;
  onSoftReset: ActionOnShutdown;
}

/** ERROR_* of libxl. */
export const ERROR = {
  NONSPECIFIC: -1,
  FAIL: -3,
  NI: -4,
  NOMEM: -5,
  INVAL: -6,
  TIMEDOUT: -9,
  NOPARAVIRT: -10,
  NOT_READY: -11,
  DOMAIN_NOTFOUND: -21,
  NOTFOUND: -23,
  PROTOCOL_ERROR_QMP: -26,
  QMP_GENERIC_ERROR: -28,
  QMP_COMMAND_NOT_FOUND: -29,
  QMP_DEVICE_NOT_FOUND: -31,
  QEMU_API: -32,
} as const;
