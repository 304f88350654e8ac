/** What lspci calls things. The names are those of pci.ids, as far as the fixtures and the examples need them. */
import { formatBdf, formatSbdf, hex, type Sbdf } from '../base/sbdf.js';

/** A function as lspci sees it. A PciFunction is one. */
export interface LspciSubject {
  readonly sbdf: Sbdf;
  readonly vendor: number;
  readonly device: number;
  /** 24 bits. */
  readonly classCode: number;
  readonly revision: number;
  /** Vendor and device as the dump named them; it wins over the table. */
  readonly init?: { readonly name?: string };
}

export interface LspciOptions {
  /** `-n` is numbers, `-nn` both; names by default. */
  readonly ids?: 'names' | 'numbers' | 'both';
  /** `-D`, and what lspci does by itself when a segment other than 0 exists. */
  readonly domain?: boolean;
}

/** One line of `lspci`, without newline: `01:00.0 VGA compatible controller: … (rev a1)`. */
export function lspciLine(fn: LspciSubject, options: LspciOptions = {}): string {
  const address = options.domain === true ? formatSbdf(fn.sbdf) : formatBdf(fn.sbdf);
  const ids = options.ids ?? 'names';
  const revision = fn.revision === 0 ? '' : ` (rev ${hex(fn.revision, 2)})`;
  return `${address} ${className(fn.classCode, ids)}: ${deviceName(fn, ids)}${revision}`;
}

/** `VGA compatible controller`, `0300` or `VGA compatible controller [0300]`. */
export function className(classCode: number, ids: 'names' | 'numbers' | 'both' = 'names'): string {
  const code = classCode >>> 8;
  const digits = hex(code, 4);
  if (ids === 'numbers') return digits;
  const name = CLASSES.get(code);
  if (name !== undefined) return ids === 'both' ? `${name} [${digits}]` : name;
  return `${BASE_CLASSES.get(code >>> 8) ?? 'Class'} [${digits}]`;
}

/** `NVIDIA Corporation GA104 [GeForce RTX 3070]`, with what lspci prints for what it does not know. */
export function deviceName(fn: LspciSubject, ids: 'names' | 'numbers' | 'both' = 'names'): string {
  const vendor = hex(fn.vendor, 4);
  const device = hex(fn.device, 4);
  if (ids === 'numbers') return `${vendor}:${device}`;
  const known = fn.init?.name ?? tableName(fn.vendor, fn.device);
  if (known !== undefined) return ids === 'both' ? `${known} [${vendor}:${device}]` : known;
  const maker = VENDORS.get(fn.vendor);
  if (maker === undefined)
    return ids === 'both' ? `Device [${vendor}:${device}]` : `Device ${vendor}:${device}`;
  return ids === 'both' ? `${maker} Device [${vendor}:${device}]` : `${maker} Device ${device}`;
}

/** Vendor and device apart. A device whose name does not begin with its vendor's has no name for that. */
export function namesOf(
  fn: LspciSubject,
  ids: 'names' | 'numbers' | 'both' = 'names',
): readonly [string, string] {
  const numbers = [hex(fn.vendor, 4), hex(fn.device, 4)] as const;
  if (ids === 'numbers') return numbers;
  const whole = fn.init?.name ?? tableName(fn.vendor, fn.device);
  const maker = VENDORS.get(fn.vendor);
  const vendor = maker ?? 'Vendor';
  const rest =
    maker !== undefined && whole?.startsWith(`${maker} `) === true ? whole.slice(maker.length + 1) : whole;
  const device = rest === undefined || /^Device [0-9a-f]{4}/.test(rest) ? 'Device' : rest;
  if (ids === 'both') return [`${vendor} [${numbers[0]}]`, `${device} [${numbers[1]}]`];
  return [
    maker === undefined ? `Vendor ${numbers[0]}` : vendor,
    device === 'Device' ? `Device ${numbers[1]}` : device,
  ];
}

function tableName(vendor: number, device: number): string | undefined {
  const name = DEVICES.get(vendor * 65536 + device);
  return name === undefined ? undefined : `${VENDORS.get(vendor)} ${name}`;
}

const VENDORS: ReadonlyMap<number, string> = new Map([
  [0x1002, 'Advanced Micro Devices, Inc. [AMD/ATI]'],
  [0x1013, 'Cirrus Logic'],
  [0x1022, 'Advanced Micro Devices, Inc. [AMD]'],
  [0x104c, 'Texas Instruments'],
  [0x10de, 'NVIDIA Corporation'],
  [0x10ec, 'Realtek Semiconductor Co., Ltd.'],
  [0x144d, 'Samsung Electronics Co Ltd'],
  [0x14e4, 'Broadcom Inc. and subsidiaries'],
  [0x15b3, 'Mellanox Technologies'],
  [0x1af4, 'Red Hat, Inc.'],
  [0x1b36, 'Red Hat, Inc.'],
  [0x5853, 'XenSource, Inc.'],
  [0x8086, 'Intel Corporation'],
]);

/** By vendor * 65536 + device. */
const DEVICES: ReadonlyMap<number, string> = new Map([
  [0x1013_00b8, 'GD 5446'],
  [0x104c_8232, 'XIO3130 PCI Express Switch (Upstream)'],
  [0x104c_8233, 'XIO3130 PCI Express Switch (Downstream)'],
  [0x10de_228b, 'GA104 High Definition Audio Controller'],
  [0x10de_2484, 'GA104 [GeForce RTX 3070]'],
  [0x1af4_1050, 'Virtio 1.0 GPU'],
  [0x1b36_000c, 'QEMU PCIe Root port'],
  [0x1b36_0010, 'QEMU NVM Express Controller'],
  [0x5853_0001, 'Xen Platform Device'],
  [0x8086_100e, '82540EM Gigabit Ethernet Controller'],
  [0x8086_10d3, '82574L Gigabit Network Connection'],
  [0x8086_1237, '440FX - 82441FX PMC [Natoma]'],
  [0x8086_244e, '82801 PCI Bridge'],
  [0x8086_2918, '82801IB (ICH9) LPC Interface Controller'],
  [0x8086_2922, '82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA Controller [AHCI mode]'],
  [0x8086_2930, '82801I (ICH9 Family) SMBus Controller'],
  [0x8086_293e, '82801I (ICH9 Family) HD Audio Controller'],
  [0x8086_29c0, '82G33/G31/P35/P31 Express DRAM Controller'],
  [0x8086_7000, '82371SB PIIX3 ISA [Natoma/Triton II]'],
  [0x8086_7010, '82371SB PIIX3 IDE [Natoma/Triton II]'],
  [0x8086_7113, '82371AB/EB/MB PIIX4 ACPI'],
]);

/** By base class and sub-class. */
const CLASSES: ReadonlyMap<number, string> = new Map([
  [0x0000, 'Non-VGA unclassified device'],
  [0x0001, 'VGA compatible unclassified device'],
  [0x0100, 'SCSI storage controller'],
  [0x0101, 'IDE interface'],
  [0x0104, 'RAID bus controller'],
  [0x0106, 'SATA controller'],
  [0x0107, 'Serial Attached SCSI controller'],
  [0x0108, 'Non-Volatile memory controller'],
  [0x0180, 'Mass storage controller'],
  [0x0200, 'Ethernet controller'],
  [0x0207, 'Infiniband controller'],
  [0x0280, 'Network controller'],
  [0x0300, 'VGA compatible controller'],
  [0x0302, '3D controller'],
  [0x0380, 'Display controller'],
  [0x0400, 'Multimedia video controller'],
  [0x0401, 'Multimedia audio controller'],
  [0x0403, 'Audio device'],
  [0x0480, 'Multimedia controller'],
  [0x0500, 'RAM memory'],
  [0x0502, 'CXL'],
  [0x0580, 'Memory controller'],
  [0x0600, 'Host bridge'],
  [0x0601, 'ISA bridge'],
  [0x0604, 'PCI bridge'],
  [0x0607, 'CardBus bridge'],
  [0x0680, 'Bridge'],
  [0x0700, 'Serial controller'],
  [0x0701, 'Parallel controller'],
  [0x0780, 'Communication controller'],
  [0x0800, 'PIC'],
  [0x0805, 'SD Host controller'],
  [0x0806, 'IOMMU'],
  [0x0880, 'System peripheral'],
  [0x0b40, 'Co-processor'],
  [0x0c00, 'FireWire (IEEE 1394)'],
  [0x0c03, 'USB controller'],
  [0x0c05, 'SMBus'],
  [0x0c06, 'InfiniBand'],
  [0x0c80, 'Serial bus controller'],
  [0x1080, 'Encryption controller'],
  [0x1101, 'Performance counters'],
  [0x1180, 'Signal processing controller'],
]);

const BASE_CLASSES: ReadonlyMap<number, string> = new Map([
  [0x00, 'Unclassified device'],
  [0x01, 'Mass storage controller'],
  [0x02, 'Network controller'],
  [0x03, 'Display controller'],
  [0x04, 'Multimedia controller'],
  [0x05, 'Memory controller'],
  [0x06, 'Bridge'],
  [0x07, 'Communication controller'],
  [0x08, 'Generic system peripheral'],
  [0x09, 'Input device controller'],
  [0x0a, 'Docking station'],
  [0x0b, 'Processor'],
  [0x0c, 'Serial bus controller'],
  [0x0d, 'Wireless controller'],
  [0x0e, 'Intelligent controller'],
  [0x0f, 'Satellite communications controller'],
  [0x10, 'Encryption controller'],
  [0x11, 'Signal processing controller'],
  [0x12, 'Processing accelerators'],
  [0x13, 'Non-Essential Instrumentation'],
  [0x40, 'Coprocessor'],
  [0xff, 'Unassigned class'],
]);
