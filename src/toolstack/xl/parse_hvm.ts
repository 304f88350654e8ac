/** The keys of HVM's own build, and the little that PV and PVH have. @xen tools/xl/xl_parse.c parse_config_data */
import type { BiosType, HvmInfo } from '../libxl/types.js';
import { EINVAL } from '../xlu/cfg.js';
import type { Parse } from './parse_context.js';

const BIOSES: readonly BiosType[] = ['unknown', 'rombios', 'seabios', 'ovmf'];
const biosType = (text: string): BiosType | undefined => BIOSES.find((b) => b === text.toLowerCase());

const VIRIDIAN = [
  'base',
  'freq',
  'time_ref_count',
  'reference_tsc',
  'hcall_remote_tlb_flush',
  'apic_assist',
  'crash_ctl',
  'synic',
  'stimer',
  'hcall_ipi',
  'ex_processor_masks',
  'no_vp_limit',
  'cpu_hotplug',
];
/** Bits of the map that `all` sets. */
const VIRIDIAN_WIDTH = 24;
/** Bytes of a 32-bit guest address space below 4 GiB that always are MMIO. */
const BELOW_4G_MMIO_START = 0xf000_0000;
const BELOW_4G_MMIO_LENGTH = 2 ** 32 - BELOW_4G_MMIO_START;

export function parseHvm(p: Parse): void {
  const { cfg, d, xl } = p;
  const b = d.bInfo;
  const { hvm } = b;
  if (b.kernel?.slice(b.kernel.lastIndexOf('/') + 1) === 'hvmloader') {
    xl.err(
      'WARNING: you seem to be using "kernel" directive to override HVM guest firmware. Ignore ' +
        'that. Use "firmware_override" instead if you really want a non-default firmware\n',
    );
    b.kernel = undefined;
  }
  hvm.firmware = cfg.string('firmware_override');
  hvm.systemFirmware = cfg.string('bios_path_override');
  const bios = cfg.string('bios');
  if (bios !== undefined) hvm.bios = biosType(bios) ?? p.fail(`ERROR: invalid value "${bios}" for "bios"\n`);
  else if (hvm.systemFirmware !== undefined) {
    xl.err('WARNING: bios_path_override given without specific bios name\n');
  }
  hvm.pae = cfg.defbool('pae');
  hvm.acpiS3 = cfg.defbool('acpi_s3');
  hvm.acpiS4 = cfg.defbool('acpi_s4');
  hvm.acpiLaptopSlate = cfg.defbool('acpi_laptop_slate');
  hvm.nx = cfg.defbool('nx');
  hvm.hpet = cfg.defbool('hpet');
  hvm.vptAlign = cfg.defbool('vpt_align');
  b.apic = cfg.defbool('apic');
  parseViridian(p, hvm);
  parseMmioHole(p, hvm);
  hvm.altp2m = cfg.defbool('altp2mhvm');
  if (hvm.altp2m !== undefined) {
    xl.err('WARNING: Specifying "altp2mhvm" is deprecated. Please use "altp2m" instead.\n');
  }
  hvm.smbiosFirmware = cfg.string('smbios_firmware');
  hvm.acpiFirmware = cfg.string('acpi_firmware');
  const boundary = cfg.long('rdm_mem_boundary');
  if (boundary !== undefined) hvm.rdmMemBoundaryMemkb = boundary * 1024;
  parseMcaCaps(p, hvm);
  parseFirmware(p, hvm);
}

function parseViridian(p: Parse, hvm: HvmInfo): void {
  const list = p.cfg.getList('viridian', true);
  if (list === EINVAL) {
    hvm.viridian = p.cfg.defbool('viridian', true);
    return;
  }
  const enable = new Set<number>();
  const disable = new Set<number>();
  for (const word of p.cfg.strings('viridian', true) ?? []) {
    if (word === 'all') for (let i = 0; i < VIRIDIAN_WIDTH; i++) enable.add(i);
    else if (word === 'defaults') hvm.viridian = true;
    else {
      const off = word.startsWith('!');
      const name = off ? word.slice(1) : word;
      const bit = VIRIDIAN.indexOf(name.toLowerCase());
      if (bit < 0) p.fail(`xl: unknown viridian enlightenment '${name}'\n`, 3);
      (off ? disable : enable).add(bit);
      (off ? enable : disable).delete(bit);
    }
  }
  hvm.viridianEnable = [...enable].sort((x, y) => x - y);
  hvm.viridianDisable = [...disable].sort((x, y) => x - y);
}

function parseMmioHole(p: Parse, hvm: HvmInfo): void {
  const mb = p.cfg.long('mmio_hole');
  if (mb === undefined) return;
  hvm.mmioHoleMemkb = mb * 1024;
  const bytes = hvm.mmioHoleMemkb * 1024;
  if (bytes < BELOW_4G_MMIO_LENGTH || bytes > BELOW_4G_MMIO_START) {
    p.fail(`ERROR: invalid value ${mb} for "mmio_hole"\n`);
  }
}

function parseMcaCaps(p: Parse, hvm: HvmInfo): void {
  const list = p.cfg.getList('mca_caps', true);
  if (list === EINVAL) p.fail('ERROR: unable to parse mca_caps.\n', 3);
  for (const cap of p.cfg.strings('mca_caps', true) ?? []) {
    if (cap !== 'lmce') p.fail(`ERROR: unrecognized MCA capability '${cap}'.\n`, 3);
    hvm.mcaCaps = 1;
  }
}

/** firmware= is a BIOS by its name, `uefi`, `bios`, or else a path. */
function parseFirmware(p: Parse, hvm: HvmInfo): void {
  const text = p.cfg.string('firmware');
  if (text === undefined) return;
  const known = biosType(text);
  if (known !== undefined) hvm.bios = known;
  else if ('uefi'.startsWith(text)) hvm.bios = 'ovmf';
  else if (!'bios'.startsWith(text)) hvm.firmware = text;
}

export function parsePvOrPvh(p: Parse): void {
  const { cfg, d } = p;
  const firmware = cfg.string('firmware');
  if (firmware !== undefined) {
    if (d.bInfo.kernel !== undefined) p.fail('ERROR: both kernel and firmware specified\n');
    if (!'pvgrub32'.startsWith(firmware) && !'pvgrub64'.startsWith(firmware)) {
      p.fail('ERROR: only pvgrub{32|64} supported as firmware options\n');
    }
    d.bInfo.kernel = `${p.xl.lx.paths.firmwareDir}/${firmware}.bin`;
  }
  if (d.bInfo.bootloader === undefined && d.bInfo.kernel === undefined) {
    p.fail('Neither kernel nor bootloader specified\n');
  }
}
