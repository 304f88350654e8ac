/** Device model and graphics. @xen tools/xl/xl_parse.c parse_config_data */
import { FLAG_ERRORS, LINE_ERRORS, parseCpuidFlag, parseCpuidLine } from '../libxl/cpuid.js';
import { makeVfb, makeVkb } from '../libxl/schema.js';
import type { HvmInfo, SdlInfo, VgaKind, VncInfo } from '../libxl/types.js';
import { EINVAL } from '../xlu/cfg.js';
import type { Parse } from './parse_context.js';

export function parseDeviceModel(p: Parse): void {
  const { cfg, d, xl } = p;
  const b = d.bInfo;
  parseCpuid(p);
  const old = cfg.string('device_model');
  if (old !== undefined) {
    xl.err(
      'WARNING: ignoring device_model directive.\n' +
        'WARNING: Use "device_model_override" instead if you really want a non-default device_model\n',
    );
    if (old.includes('stubdom-dm')) {
      xl.err(
        d.cInfo.type === 'hvm'
          ? 'WARNING: Or use "device_model_stubdomain_override" if you  want to enable stubdomains\n'
          : 'WARNING: ignoring "device_model_stubdomain_override" directive for pv guest\n',
      );
    }
  }
  b.deviceModel = cfg.string('device_model_override');
  const version = cfg.string('device_model_version');
  if (version !== undefined) {
    if (version === 'qemu-xen') b.deviceModelVersion = 'qemu_xen';
    else if (version === 'qemu-xen-traditional' && xl.lx.profile.traditionalModel) {
      b.deviceModelVersion = 'qemu_xen_traditional';
    } else p.fail(`Unknown device_model_version "${version}" specified\n`);
  } else if (b.deviceModel !== undefined) {
    xl.err('WARNING: device model override given without specific DM version\n');
  }
  b.deviceModelStubdomain = cfg.defbool('device_model_stubdomain_override');
  b.deviceModelSsidLabel = cfg.string('device_model_stubdomain_seclabel');
  b.deviceModelUser = cfg.string('device_model_user');
  b.stubdomainKernel = cfg.string('stubdomain_kernel');
  b.stubdomainCmdline = cfg.string('stubdomain_cmdline');
  b.stubdomainRamdisk = cfg.string('stubdomain_ramdisk');
  const memory = cfg.long('stubdomain_memory');
  if (memory !== undefined) b.stubdomainMemkb = memory * 1024;
  b.extra = extraArgs(p, '');
  b.extraPv = extraArgs(p, '_pv');
  b.extraHvm = extraArgs(p, '_hvm');
}

function extraArgs(p: Parse, type: string): string[] {
  const key = `device_model_args${type}`;
  if (p.cfg.getList(key) === EINVAL) p.fail(`xl: Unable to parse ${key}.\n`, 3);
  return p.cfg.strings(key) ?? [];
}

/** cpuid= as a list of registers, or as `host` and names; the guests of the simulator do not see their CPUID. */
function parseCpuid(p: Parse): void {
  const policy = p.d.bInfo.cpuid;
  const complain = (what: string, text: string, e: number, errors: readonly string[]): void => {
    if (e !== 0) p.xl.err(`while parsing CPUID ${what}: "${text}":\n  error #${e}: ${errors[e]!}\n`);
  };
  if (p.cfg.getList('cpuid', true) !== EINVAL) {
    for (const line of p.cfg.strings('cpuid') ?? [])
      complain('line', line, parseCpuidLine(policy, line), LINE_ERRORS);
    return;
  }
  const text = p.cfg.string('cpuid');
  const words = (text ?? '').split(',').filter((w) => w !== '');
  if (words.length === 0) return;
  if (words[0] !== 'host') {
    p.xl.err(`while parsing CPUID string: "${text}":\n  error: first word must be "host"\n`);
    return;
  }
  for (const word of words.slice(1)) complain('flag', word, parseCpuidFlag(policy, word), FLAG_ERRORS);
}

function topLevelVnc(p: Parse, vnc: VncInfo): void {
  const { cfg } = p;
  vnc.enable = cfg.defbool('vnc');
  vnc.listen = cfg.string('vnclisten');
  vnc.passwd = cfg.string('vncpasswd');
  vnc.display = cfg.long('vncdisplay') ?? 0;
  vnc.findunused = cfg.defbool('vncunused');
}

function topLevelSdl(p: Parse, sdl: SdlInfo): void {
  const { cfg } = p;
  sdl.enable = cfg.defbool('sdl');
  sdl.opengl = cfg.defbool('opengl');
  sdl.display = cfg.string('display');
  sdl.xauthority = cfg.string('xauthority');
}

export function parseGraphics(p: Parse): void {
  const { cfg, d } = p;
  if (d.cInfo.type === 'pv' && d.vfbs.length === 0) {
    if ((cfg.long('vnc') ?? 0) !== 0) {
      const vfb = makeVfb();
      vfb.devid = 0;
      const vkb = makeVkb();
      vkb.devid = d.vkbs.length;
      d.vfbs.push(vfb);
      d.vkbs.push(vkb);
      topLevelVnc(p, vfb.vnc);
      topLevelSdl(p, vfb.sdl);
      vfb.keymap = cfg.string('keymap');
    }
  } else {
    topLevelVnc(p, d.bInfo.hvm.vnc);
    topLevelSdl(p, d.bInfo.hvm.sdl);
  }
  d.bInfo.dmRestrict = cfg.defbool('dm_restrict');
  if (d.cInfo.type !== 'hvm') return;
  const { hvm } = d.bInfo;
  parseVga(p, hvm);
  parseSpice(p, hvm);
  parseGfxPassthru(p, hvm);
  [hvm.serial, hvm.serialList] = atomOrList(p, 'serial');
  hvm.boot = cfg.string('boot');
  hvm.usb = cfg.defbool('usb');
  hvm.usbversion = cfg.long('usbversion') ?? 0;
  [hvm.usbdevice, hvm.usbdeviceList] = atomOrList(p, 'usbdevice');
  hvm.vkbDevice = cfg.defbool('vkb_device');
  hvm.soundhw = cfg.string('soundhw');
  hvm.xenPlatformPci = cfg.defbool('xen_platform_pci');
  if (hvm.vnc.listen?.includes(':') && hvm.vnc.display !== 0) {
    p.fail('ERROR: Display specified both in vnclisten and vncdisplay!\n');
  }
  const vendor = cfg.string('vendor_device');
  if (vendor !== undefined) {
    const known = (['none', 'xenserver'] as const).find((v) => v === vendor.toLowerCase());
    hvm.vendorDevice = known ?? p.fail(`xl: unknown vendor_device '${vendor}'\n`, 3);
  }
}

const VGA = new Map<string, VgaKind>([
  ['stdvga', 'std'],
  ['cirrus', 'cirrus'],
  ['none', 'none'],
  ['qxl', 'qxl'],
]);

function parseVga(p: Parse, hvm: HvmInfo): void {
  const { cfg } = p;
  const vga = cfg.string('vga');
  if (vga !== undefined) hvm.vga.kind = VGA.get(vga) ?? p.fail(`Unknown vga "${vga}" specified\n`);
  else {
    const std = cfg.long('stdvga');
    if (std !== undefined) hvm.vga.kind = std !== 0 ? 'std' : 'cirrus';
  }
  const hdtype = cfg.string('hdtype');
  if (hdtype !== undefined) {
    const known = (['ide', 'ahci'] as const).find((h) => h === hdtype.toLowerCase());
    hvm.hdtype = known ?? p.fail(`ERROR: invalid value "${hdtype}" for "hdtype"\n`);
  }
  hvm.keymap = cfg.string('keymap');
}

function parseSpice(p: Parse, hvm: HvmInfo): void {
  const { cfg } = p;
  hvm.spice = {
    enable: cfg.defbool('spice'),
    port: cfg.long('spiceport') ?? 0,
    tlsPort: cfg.long('spicetls_port') ?? 0,
    host: cfg.string('spicehost'),
    disableTicketing: cfg.defbool('spicedisable_ticketing'),
    passwd: cfg.string('spicepasswd'),
    agentMouse: cfg.defbool('spiceagent_mouse'),
    vdagent: cfg.defbool('spicevdagent'),
    clipboardSharing: cfg.defbool('spice_clipboard_sharing'),
    usbredirection: cfg.long('spiceusbredirection') ?? 0,
    imageCompression: cfg.string('spice_image_compression'),
    streamingVideo: cfg.string('spice_streaming_video'),
  };
  hvm.nographic = cfg.defbool('nographic');
}

/** A number is a boolean (2 too); a string names the kind; anything else ends it. */
function parseGfxPassthru(p: Parse, hvm: HvmInfo): void {
  const n = p.cfg.long('gfx_passthru', true);
  if (n !== undefined) {
    hvm.gfxPassthru = n !== 0;
    return;
  }
  const text = p.cfg.string('gfx_passthru');
  if (text === undefined) return;
  const known = (['default', 'igd'] as const).find((k) => k === text.toLowerCase());
  hvm.gfxPassthruKind = known ?? p.fail(`ERROR: invalid value "${text}" for "gfx_passthru"\n`);
  hvm.gfxPassthru = true;
}

function atomOrList(p: Parse, key: string): [string | undefined, string[]] {
  const list = p.cfg.getList(key, true);
  return list === EINVAL ? [p.cfg.string(key), []] : [undefined, p.cfg.strings(key, true) ?? []];
}
