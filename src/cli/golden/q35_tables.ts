/** Firmware of QEMU's q35 board as far as Xen looks at it: DMAR, IVRS and the memory map. @see QEMU hw/i386/acpi-build.c */
import { type Sbdf, sbdf, slotOf } from '../../base/sbdf.js';
import type { FunctionDescription } from '../../inputs/host_description.js';
import type { E820Entry } from '../../iommu/driver/types.js';
import {
  ATSR_ALL_PORTS,
  type DeviceScope,
  DMAR_FLAG,
  type DmarStructure,
  encodeDmar,
  fixChecksum,
  SCOPE_TYPE,
} from '../../iommu/format/dmar.js';
import {
  encodeIvrs,
  IVHD_DEV,
  IVHD_TYPE,
  type IvhdEntry,
  type IvrsBlock,
  SPECIAL,
  sealIvrs,
} from '../../iommu/format/ivrs.js';

export const VTD_BASE = 0xfed9_0000;
const AMD_BASE = 0xfed8_0000;
/** The root complex I/O APIC calls itself ff:00.0 on the VT-d board, 00:14.0 on the AMD one. */
const VTD_IOAPIC_BUS = 0xff;
const AMD_IOAPIC = 0x00a0;

const OEM = {
  revision: 1,
  checksum: 0,
  oemId: 'BOCHS ',
  oemTableId: 'BXPC    ',
  oemRevision: 1,
  creatorId: 'BXPC',
  creatorRevision: 1,
};

const isBridge = (f: FunctionDescription): boolean => (f.config[0xe]! & 0x7f) === 1;
const onBus = (functions: readonly FunctionDescription[], bus: number): FunctionDescription[] =>
  functions.filter((f) => f.sbdf >>> 8 === bus).sort((a, b) => a.sbdf - b.sbdf);

export interface DmarOptions {
  readonly addressBits: number;
  readonly interruptRemapping: boolean;
  /** `device-iotlb=on`. */
  readonly ats: boolean;
}

/** One unit that names the I/O APIC and every function of bus 0. */
export function q35Dmar(functions: readonly FunctionDescription[], o: DmarOptions): Uint8Array {
  const scope = { flags: 0, reserved: 0, startBus: 0 };
  const scopes: DeviceScope[] = [
    {
      ...scope,
      type: SCOPE_TYPE.IOAPIC,
      enumerationId: 0,
      startBus: VTD_IOAPIC_BUS,
      path: [{ dev: 0, fn: 0 }],
    },
    ...onBus(functions, 0).map((f) => ({
      ...scope,
      type: isBridge(f) ? SCOPE_TYPE.BRIDGE : SCOPE_TYPE.ENDPOINT,
      enumerationId: 0,
      path: [{ dev: slotOf(f.sbdf & 0xff), fn: f.sbdf & 7 }],
    })),
  ];
  const structures: DmarStructure[] = [
    { kind: 'drhd', flags: 0, size: 0, segment: 0, base: VTD_BASE, scopes },
  ];
  if (o.ats) structures.push({ kind: 'atsr', flags: ATSR_ALL_PORTS, reserved: 0, segment: 0, scopes: [] });
  return fixChecksum(
    encodeDmar({
      ...OEM,
      signature: 'DMAR',
      hostAddressWidth: o.addressBits - 1,
      flags: o.interruptRemapping ? DMAR_FLAG.INTR_REMAP : 0,
      reserved: new Uint8Array(10),
      structures,
    }),
  );
}

/** One IOMMU that names every function; what lies behind a bridge to conventional PCI has the alias it shows. */
export function q35Ivrs(
  functions: readonly FunctionDescription[],
  iommu: Sbdf,
  interruptRemapping: boolean,
): Uint8Array {
  const entries: IvhdEntry[] = [];
  nameBus(functions, 0, entries);
  if (interruptRemapping) {
    const { SPECIAL: type } = IVHD_DEV;
    entries.push({ type, id: 0, data: 0, usedId: AMD_IOAPIC, byte4: 0, byte7: SPECIAL.IOAPIC });
  }
  const ivhd: IvrsBlock = {
    kind: 'ivhd',
    type: IVHD_TYPE.BASIC,
    flags: 0xd1,
    deviceId: iommu,
    capOffset: 0x40,
    base: AMD_BASE,
    segment: 0,
    info: 0,
    attr: 0x44,
    entries,
  };
  return sealIvrs(encodeIvrs({ ...OEM, info: ADDRESS_BITS << 8, reserved: [0, 0], blocks: [ivhd] }));
}
/** Physical addresses of QEMU's processors. */
const ADDRESS_BITS = 40;

/** Types of PCI Express ports whose secondary bus is PCI Express: root ports and switch ports. */
const EXPRESS_PORTS = [4, 5, 6];

function nameBus(functions: readonly FunctionDescription[], bus: number, entries: IvhdEntry[]): void {
  for (const f of onBus(functions, bus)) {
    entries.push({ type: IVHD_DEV.SELECT, id: f.sbdf, data: 0 });
    if (!isBridge(f)) continue;
    const [first, last] = [f.config[0x19]! << 8, (f.config[0x1a]! << 8) | 0xff];
    const express = expressType(f.config);
    const end = { type: IVHD_DEV.END, id: last, data: 0 };
    if (EXPRESS_PORTS.includes(express)) {
      if (first >>> 8 !== last >>> 8 && first >>> 8 > bus) nameBus(functions, first >>> 8, entries);
      else entries.push({ type: IVHD_DEV.START, id: first, data: 0 }, end);
    } else {
      const usedId = express < 0 ? f.sbdf : first;
      entries.push({ type: IVHD_DEV.ALIAS_START, id: first, data: 0, usedId, byte4: 0, byte7: 0 }, end);
    }
  }
}

/** Port type of the PCI Express capability, -1 for a conventional function. */
function expressType(config: Uint8Array): number {
  let at = config[0x34]! & 0xfc;
  for (let n = 0; n < 48 && at >= 0x40; n++) {
    if (config[at] === 0x10) return config[at + 2]! >>> 4;
    at = config[at + 1]! & 0xfc;
  }
  return -1;
}

/** The function of QEMU's AMD IOMMU, as `lspci -xxxx` shows it once Xen runs; what the IVRS describes. */
export function amdIommuFunction(slot: number): FunctionDescription {
  const config = new Uint8Array(256);
  const view = new DataView(config.buffer);
  const dwords: readonly (readonly [number, number])[] = [
    [0x00, 0x0050_1022],
    [0x04, 0x0010_0103],
    [0x08, 0x0806_0000],
    [0x2c, 0x1100_1af4],
    [0x34, 0x60],
    [0x40, 0x1f03_000f],
    [0x44, AMD_BASE],
    [0x4c, 0xff00_0000],
    [0x50, 0x0018_2840],
    [0x58, 0x0000_4005],
    [0x5c, 0x0000_5808],
    [0x60, 0x0080_5c05],
  ];
  for (const [at, value] of dwords) view.setUint32(at, value, true);
  return { sbdf: sbdf(0, 0, slot, 0), config };
}

/** QEMU gives the PCI hole a gigabyte more once there is this much memory. */
const BIG = 0xb000_0000;
/** What SeaBIOS takes for ACPI tables at the end of low memory. */
const FIRMWARE_BYTES = 0x2_8000;

/** What Xen finds: low memory with the firmware's pieces, the PCI windows, memory above 4 GiB. */
export function q35E820(memoryBytes: number, amdCpu: boolean): E820Entry[] {
  const low = Math.min(memoryBytes, memoryBytes >= BIG ? 0x8000_0000 : BIG);
  const at = (start: number, end: number, type: E820Entry['type'] = 'reserved'): E820Entry => ({
    start,
    end,
    type,
  });
  const map = [
    at(0, 0x9_fc00, 'usable'),
    at(0x9_fc00, 0xa_0000),
    at(0xf_0000, 0x10_0000),
    at(0x10_0000, low - FIRMWARE_BYTES, 'usable'),
    at(low - FIRMWARE_BYTES, low),
    at(0xb000_0000, 0xc000_0000),
    at(0xfed1_c000, 0xfed2_0000),
    at(0xfffc_0000, 2 ** 32),
  ];
  if (memoryBytes > low) map.push(at(2 ** 32, 2 ** 32 + memoryBytes - low, 'usable'));
  // The HyperTransport range.
  if (amdCpu) map.push(at(0xfd_0000_0000, 0x100_0000_0000));
  return map;
}
