/** Firmware tables for machines whose own ones are missing: one unit in charge of everything. */
import { bdfOf, type Sbdf, segOf } from '../base/sbdf.js';
import {
  DMAR_FLAG,
  DRHD_INCLUDE_PCI_ALL,
  type Drhd,
  encodeDmar,
  fixChecksum,
  SCOPE_TYPE,
} from '../iommu/format/dmar.js';
import { IVHD_DEV, IVHD_TYPE, type IvhdEntry, makeIvrs, SPECIAL } from '../iommu/format/ivrs.js';
import { PciHost } from '../pci/bus.js';
import { aliasOf, RootComplex } from '../pci/dma.js';
import { EventStream } from '../sim/events.js';
import { Ram } from '../sim/ram.js';
import type { FunctionDescription } from './host_description.js';

const VTD_BASE = 0xfed9_0000;
const AMD_BASE = 0xfeb8_0000;
/** Where Intel chipsets put their I/O APIC and HPET, and where AMD's have the I/O APIC. */
const IOAPIC_BUS = 0xf0;
const AMD_IOAPIC = 0x00a0;

/** A DMAR with one unit for each segment that covers all of it; 46 bits of host address. */
export function defaultDmar(segments: readonly number[]): Uint8Array {
  const scope = { flags: 0, reserved: 0, enumerationId: 0 };
  const path = [{ dev: 0x1f, fn: 0 }];
  const units = segments.map(
    (segment, i): Drhd => ({
      kind: 'drhd',
      flags: DRHD_INCLUDE_PCI_ALL,
      size: 0,
      segment,
      base: VTD_BASE + i * 0x1000,
      scopes:
        segment === 0
          ? [
              { type: SCOPE_TYPE.IOAPIC, ...scope, startBus: IOAPIC_BUS, path },
              { type: SCOPE_TYPE.HPET, ...scope, startBus: 0, path },
            ]
          : [],
    }),
  );
  const table = encodeDmar({
    signature: 'DMAR',
    revision: 1,
    checksum: 0,
    oemId: 'XPSIM ',
    oemTableId: 'DEFAULT ',
    oemRevision: 1,
    creatorId: 'XPSM',
    creatorRevision: 1,
    hostAddressWidth: 45,
    flags: DMAR_FLAG.INTR_REMAP,
    reserved: new Uint8Array(10),
    structures: units,
  });
  return fixChecksum(table);
}

/** An AMD IOMMU's function: class 0806 with the secure device capability at 0x40 and MSI at 0x64. */
function iommuFunction(sbdf: Sbdf): FunctionDescription {
  const config = new Uint8Array(256);
  const view = new DataView(config.buffer);
  view.setUint32(0x00, 0x1419_1022, true);
  view.setUint32(0x04, 0x0010_0006, true);
  view.setUint32(0x08, 0x0806_0000, true);
  view.setUint32(0x34, 0x40, true);
  // Revision 1, type 3: an IOMMU; feature register and the extended header exist.
  view.setUint32(0x40, 0x190b_640f, true);
  view.setUint32(0x44, AMD_BASE + 1, true);
  view.setUint32(0x50, 0x0040_2830, true);
  view.setUint32(0x64, 0x0084_0005, true);
  return { sbdf, config, barBytes: [0, 0, 0, 0, 0, 0, 0] };
}

/** Secure device capability of class 0806. */
const isIommu = (f: FunctionDescription): boolean => f.config[0x0b] === 0x08 && f.config[0x0a] === 0x06;

/**
 * An IVRS with one unit for segment 0 that covers all ids, and the alias of each function behind a conventional
 * bridge. The unit is the IOMMU function of the dump; where there is none one is added at a free place of bus 0.
 */
export function defaultIvrs(functions: readonly FunctionDescription[]): {
  ivrs: Uint8Array;
  functions: readonly FunctionDescription[];
} {
  const all = functions.some(isIommu) ? functions : [...functions, iommuFunction(freePlace(functions))];
  const unit = all.find(isIommu)!;
  const capOffset = unit.config[0x34]!;
  const base = baseOf(unit, capOffset);
  const entries: IvhdEntry[] = [
    { type: IVHD_DEV.START, id: 0, data: 0 },
    { type: IVHD_DEV.END, id: 0xffff, data: 0 },
  ];
  const events = new EventStream();
  const host = new PciHost(all, events, new RootComplex(new Ram(1), events));
  for (const fn of host.functions()) {
    if (segOf(fn.sbdf) === 0 && aliasOf(fn) !== fn.rid) {
      entries.push({
        type: IVHD_DEV.ALIAS_SELECT,
        id: fn.rid,
        data: 0,
        usedId: aliasOf(fn),
        byte4: 0,
        byte7: 0,
      });
    }
  }
  entries.push({
    type: IVHD_DEV.SPECIAL,
    id: 0,
    data: 0,
    usedId: AMD_IOAPIC,
    byte4: 0,
    byte7: SPECIAL.IOAPIC,
  });
  const ivhd = { kind: 'ivhd', type: IVHD_TYPE.BASIC, flags: 0, segment: 0, info: 0, attr: 0 } as const;
  const ivrs = makeIvrs([{ ...ivhd, deviceId: bdfOf(unit.sbdf), capOffset, base, entries }]);
  return { ivrs, functions: [...all].sort((a, b) => a.sbdf - b.sbdf) };
}

/** The register base that firmware wrote into the capability, or the default where it wrote none. */
function baseOf(unit: FunctionDescription, cap: number): number {
  const view = new DataView(unit.config.buffer, unit.config.byteOffset, unit.config.length);
  if (cap + 12 > unit.config.length) return AMD_BASE;
  const low = view.getUint32(cap + 4, true);
  const base = view.getUint32(cap + 8, true) * 2 ** 32 + (low - (low % 0x4000));
  return base === 0 ? AMD_BASE : base;
}

/** 00:00.2, as on AMD's own boards, or the first free function number of bus 0. */
function freePlace(functions: readonly FunctionDescription[]): Sbdf {
  const taken = new Set(functions.map((f) => f.sbdf));
  for (let devfn = 2; devfn < 0x100; devfn++) if (!taken.has(devfn)) return devfn;
  return 1;
}
