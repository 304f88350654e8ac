/** Defaults and refusals before a domain exists. @xen tools/libs/light/libxl_create.c libxl__domain_config_setdefault */
import { E } from '../../base/errno.js';
import type { PhysInfo } from '../../hypervisor/public/hypercalls.js';
import type { Libxl } from './libxl.js';
import { CREATE } from './lines_create.js';
import {
  type BuildInfo,
  type CreateInfo,
  type DomainConfig,
  ERROR,
  type HvmInfo,
  type MemKb,
} from './types.js';

const MB = 1024;
/** LIBXL_RDM_MEM_BOUNDARY_MEMKB_DEFAULT: 2 GiB. */
const RDM_MEM_BOUNDARY_MEMKB = 2048 * MB;
const HVM_MAX_VCPUS = 128;

/** 0 or ERROR_*, the reason logged. There is no domain yet, so no message names one. */
export function configSetDefault(lx: Libxl, d: DomainConfig): number {
  const host = lx.physinfo();
  const c = d.cInfo;
  if (c.poolName !== undefined && c.poolName !== 'Pool-0' && c.poolName !== '0') {
    lx.log.error(CREATE.badPool, `Illegal pool specified: ${c.poolName}`);
    return ERROR.INVAL;
  }
  if (createInfoDefaults(lx, c, host) !== 0) {
    lx.log.error(CREATE.createInfo, 'Unable to set domain create info defaults');
    return ERROR.INVAL;
  }
  const rc = passthroughDefaults(lx, d, host);
  if (rc !== 0) return rc;

  const pod = c.type !== 'pv' && (d.bInfo.targetMemkb ?? 2 ** 64) < (d.bInfo.maxMemkb ?? 2 ** 64);
  if (c.type !== 'pv' && c.passthrough !== 'disabled' && pod) {
    lx.log.error(
      CREATE.podIommu,
      'IOMMU required for device passthrough but not supported together with PoD',
    );
    return ERROR.INVAL;
  }
  memoryPools(d);
  if (buildInfoDefaults(lx, d.bInfo) !== 0) {
    lx.log.error(CREATE.buildInfo, 'Unable to set domain build info defaults');
    return ERROR.INVAL;
  }
  const altp2m =
    c.type !== 'pv' && ((c.type === 'hvm' && d.bInfo.hvm.altp2m === true) || d.bInfo.altp2m !== 'disabled');
  if (altp2m && d.bInfo.nestedHvm === true) {
    lx.log.error(CREATE.nestedAltp2m, 'nestedhvm and altp2mhvm cannot be used together');
    return ERROR.INVAL;
  }
  if (altp2m && pod) {
    lx.log.error(CREATE.podAltp2m, 'Cannot enable PoD and ALTP2M at the same time');
    return ERROR.INVAL;
  }
  if (d.bInfo.vpmu === true) {
    lx.log.error(CREATE.vpmu, 'vPMU not supported on this platform');
    return ERROR.INVAL;
  }
  return 0;
}

function createInfoDefaults(lx: Libxl, c: CreateInfo, host: PhysInfo): number {
  if (c.type === 'invalid') {
    lx.log.error(CREATE.typeUnspecified, 'domain type unspecified');
    return ERROR.INVAL;
  }
  if (c.type !== 'pv') {
    if (!host.capHap && c.hap === undefined) {
      lx.log.error(CREATE.noPaging, 'neither hap nor shadow paging available');
      return ERROR.INVAL;
    }
    c.hap ??= true;
    c.oos ??= true;
  }
  c.runHotplugScripts ??= true;
  c.driverDomain ??= false;
  c.xendSuspendEvtchnCompat ??= false;
  return 0;
}

function passthroughDefaults(lx: Libxl, d: DomainConfig, host: PhysInfo): number {
  const c = d.cInfo;
  const wanted = d.pcidevs.length > 0 || d.dtdevs.length > 0;
  if (c.passthrough === 'default') c.passthrough = wanted ? 'enabled' : 'disabled';
  if (c.passthrough !== 'disabled' && !host.capHvmDirectio) {
    lx.log.error(CREATE.noIommu, 'passthrough not supported on this platform\n');
    return ERROR.INVAL;
  }
  if (c.passthrough === 'disabled' && wanted) {
    lx.log.error(CREATE.disabledWithDevices, 'passthrough disabled but devices are specified');
    return ERROR.INVAL;
  }
  return archPassthroughMode(lx, d, host);
}

/** @xen libxl_x86.c libxl__arch_passthrough_mode_setdefault */
function archPassthroughMode(lx: Libxl, d: DomainConfig, host: PhysInfo): number {
  const c = d.cInfo;
  if (c.passthrough !== 'disabled' && c.type === 'pvh') {
    lx.log.error(CREATE.pvhPassthrough, 'passthrough not yet supported for x86 PVH guests\n');
    return ERROR.INVAL;
  }
  const whyNotShare =
    c.type === 'pv'
      ? 'not valid for PV domain'
      : !host.capIommuHapPtShare
        ? 'not supported on this platform'
        : c.hap !== true
          ? 'only valid for HAP guests'
          : undefined;
  if (c.passthrough === 'enabled') c.passthrough = whyNotShare === undefined ? 'share_pt' : 'sync_pt';
  if (c.passthrough === 'share_pt' && whyNotShare !== undefined) {
    lx.log.error(CREATE.sharePt, `passthrough="share_pt" ${whyNotShare}\n`);
    return ERROR.INVAL;
  }
  return 0;
}

/** Pages for shadow or p2m and for the IOMMU's own tables, set aside from the host's memory. */
function memoryPools(d: DomainConfig): void {
  const b = d.bInfo;
  const maxKb = b.maxMemkb ?? 32 * MB;
  const hap = d.cInfo.type !== 'pv' && d.cInfo.hap === true;
  const perMb = (d.cInfo.type !== 'pv' ? 1 : 0) + (hap ? 0 : 1);
  b.shadowMemkb ??= 4 * (256 * b.maxVcpus + perMb * Math.floor(maxKb / 1024));
  if (b.iommuMemkb !== undefined) return;
  let pages = 0;
  let level = Math.floor(maxKb / 4);
  for (let i = 0; i < 4; i++) {
    level = Math.ceil(level / 512);
    pages += level;
  }
  b.iommuMemkb = d.cInfo.passthrough === 'sync_pt' ? pages * 4 : 0;
}

/** The program that serves the guest's devices. @xen libxl__domain_device_model */
export const deviceModelOf = (lx: Libxl, b: BuildInfo): string =>
  b.deviceModel ??
  (b.deviceModelVersion === 'qemu_xen_traditional' ? lx.paths.qemuTraditional : lx.paths.qemu);

/** qemu-xen, if it is there. */
function chooseDeviceModel(lx: Libxl, b: BuildInfo): void {
  const hasOther = lx.profile.traditionalModel;
  b.deviceModelVersion = 'qemu_xen';
  if (b.type === 'hvm' && b.deviceModelStubdomain === true && hasOther) {
    b.deviceModelVersion = 'qemu_xen_traditional';
    return;
  }
  if (lx.isExecutable(deviceModelOf(lx, b))) return;
  const instead = hasOther ? ', using qemu-xen-traditional instead' : '';
  lx.log.info(CREATE.qemuMissing, `qemu-xen is unavailable${instead}`, -1, E.NOENT);
  b.deviceModelVersion = hasOther ? 'qemu_xen_traditional' : 'unknown';
}

function buildInfoDefaults(lx: Libxl, b: BuildInfo): number {
  b.deviceModelStubdomain ??= false;
  b.vpmu ??= false;
  if (b.deviceModelVersion === 'unknown') chooseDeviceModel(lx, b);
  b.blkdevStart ??= 'xvda';
  if (b.type === 'hvm') {
    const rc = firmwareDefaults(lx, b);
    if (rc !== 0) return rc;
  }
  if (b.maxVcpus === 0) b.maxVcpus = 1;
  if (b.availVcpus.length === 0) b.availVcpus = [0];
  else if (Math.ceil(b.availVcpus.length / 8) > HVM_MAX_VCPUS) {
    lx.log.error(CREATE.tooManyVcpus, 'avail_vcpus bitmap contains too many VCPUS');
    return ERROR.FAIL;
  }
  b.numaPlacement ??= true;
  b.maxMemkb ??= 32 * MB;
  b.targetMemkb ??= b.maxMemkb;
  b.stubdomainMemkb ??= 0;
  b.claimMode ??= false;
  b.localtime ??= false;
  b.disableMigrate ??= false;
  for (const io of b.iomem) if (io.gfn === -1) io.gfn = io.start;
  if (b.eventChannels === 0) b.eventChannels = 1023;
  b.acpi ??= true;
  b.dmRestrict ??= false;
  b.iommuMemkb ??= 0;
  b.shadowMemkb ??= 0;
  if (b.type === 'hvm') {
    const rc = videoDefaults(lx, b);
    if (rc !== 0) return rc;
    const hvm = hvmDefaults(lx, b);
    if (hvm !== 0) return hvm;
  } else {
    b.videoMemkb ??= 0;
    b.pv.e820Host ??= false;
    b.pv.slackMemkb ??= 0;
    b.pvh.pvshim ??= false;
  }
  if (b.type !== 'pv') {
    if (b.timerMode === 'unknown') b.timerMode = 'no_delay_for_missed_ticks';
    b.apic ??= true;
    b.nestedHvm ??= false;
  }
  if (b.maxGrantVersion === -1) b.maxGrantVersion = 2;
  return 0;
}

function firmwareDefaults(lx: Libxl, b: BuildInfo): number {
  const { hvm } = b;
  if (b.deviceModelVersion === 'unknown') {
    lx.log.error(CREATE.noDeviceModel, 'unknown device model version');
    return ERROR.INVAL;
  }
  const traditional = b.deviceModelVersion === 'qemu_xen_traditional';
  if (hvm.bios === 'unknown') hvm.bios = traditional ? 'rombios' : 'seabios';
  if (traditional !== (hvm.bios === 'rombios')) {
    const text = traditional
      ? 'qemu-xen-traditional requires bios=rombios.'
      : 'qemu-xen does not support bios=rombios.';
    lx.log.error(traditional ? CREATE.biosTraditional : CREATE.biosRombios, text);
    return ERROR.INVAL;
  }
  if (b.kernel === undefined && (b.ramdisk !== undefined || b.cmdline !== undefined)) {
    lx.log.error(CREATE.directBoot, 'direct boot parameters specified but kernel missing');
    return ERROR.INVAL;
  }
  return 0;
}

/** A card's default amount of video memory is also its least. */
function videoDefaults(lx: Libxl, b: BuildInfo): number {
  const { vga } = b.hvm;
  if (vga.kind === 'unknown') vga.kind = 'cirrus';
  const refuse = (at: (typeof CREATE)[keyof typeof CREATE], text: string): number => {
    lx.log.error(at, text);
    return ERROR.INVAL;
  };
  const least = (kb: number): boolean => {
    b.videoMemkb ??= kb;
    return b.videoMemkb >= kb;
  };
  if (vga.kind === 'none') {
    b.videoMemkb ??= 0;
    return 0;
  }
  if (b.deviceModelVersion === 'qemu_xen_traditional') {
    if (vga.kind === 'qxl') return refuse(CREATE.qxlTraditional, 'qemu upstream required for qxl vga');
    if (vga.kind === 'std') {
      const text = 'videoram must be at least 8 MB for STDVGA on QEMU_XEN_TRADITIONAL';
      return least(8 * MB) ? 0 : refuse(CREATE.stdTraditional, text);
    }
    b.videoMemkb ??= 4 * MB;
    if (b.videoMemkb !== 4 * MB) {
      const text = 'ignoring videoram other than 4 MB for CIRRUS on QEMU_XEN_TRADITIONAL';
      lx.log.warn(CREATE.cirrusTraditional, text);
    }
    return 0;
  }
  if (vga.kind === 'qxl') {
    return least(128 * MB) ? 0 : refuse(CREATE.qxl, '128 Mib videoram is the minimum for qxl default');
  }
  if (vga.kind === 'std') {
    return least(16 * MB) ? 0 : refuse(CREATE.std, 'videoram must be at least 16 MB for STDVGA on QEMU_XEN');
  }
  return least(8 * MB) ? 0 : refuse(CREATE.cirrus, 'videoram must be at least 8 MB for CIRRUS on QEMU_XEN');
}

function hvmDefaults(lx: Libxl, b: BuildInfo): number {
  const { hvm } = b;
  hvm.mmioHoleMemkb ??= 0;
  hvm.pae ??= true;
  hvm.acpi ??= true;
  hvm.acpiS3 ??= true;
  hvm.acpiS4 ??= true;
  hvm.acpiLaptopSlate ??= false;
  hvm.nx ??= true;
  hvm.viridian ??= false;
  hvm.hpet ??= true;
  hvm.vptAlign ??= true;
  hvm.altp2m ??= false;
  hvm.usb ??= false;
  hvm.vkbDevice ??= true;
  hvm.xenPlatformPci ??= true;
  hvm.spice.enable ??= false;
  if (!hvm.spice.enable && hvm.spice.usbredirection > 0) {
    hvm.spice.usbredirection = 0;
    lx.log.warn(CREATE.spiceRedirection, 'spice disabled, disabling usbredirection');
  }
  if (hvm.usbversion === 0 && hvm.spice.usbredirection > 0) hvm.usbversion = 2;
  const usb = hvm.usb || hvm.usbdeviceList.length > 0 || hvm.usbdevice !== undefined;
  if ((hvm.usbversion !== 0 || hvm.spice.usbredirection !== 0) && usb) {
    const text = 'usbversion and/or usbredirection cannot be enabled with usb and/or usbdevice parameters.';
    lx.log.error(CREATE.usb, text);
    return ERROR.INVAL;
  }
  hvm.boot ??= 'cda';
  displayDefaults(hvm);
  hvm.gfxPassthru ??= false;
  if (hvm.rdm.policy === 'invalid') hvm.rdm.policy = 'relaxed';
  hvm.rdmMemBoundaryMemkb ??= RDM_MEM_BOUNDARY_MEMKB;
  return 0;
}

function displayDefaults(hvm: HvmInfo): void {
  hvm.vnc.enable ??= true;
  if (hvm.vnc.enable) {
    hvm.vnc.findunused ??= true;
    hvm.vnc.listen ??= '127.0.0.1';
  }
  hvm.sdl.enable ??= false;
  if (hvm.sdl.enable) hvm.sdl.opengl ??= false;
  if (hvm.spice.enable) {
    hvm.spice.disableTicketing ??= false;
    hvm.spice.agentMouse ??= true;
    hvm.spice.vdagent ??= false;
    hvm.spice.clipboardSharing ??= false;
  }
  hvm.nographic ??= false;
}

/** A memory size that has its default by now. */
export const settled = (kb: MemKb): number => kb ?? 0;
