/** DMAR and IVRS tables made to order, as the bytes that firmware would leave in memory. */
import { bdfOf, funcOf, type Sbdf, segOf, slotOf } from '../base/sbdf.js';
import {
  ATSR_ALL_PORTS,
  type DeviceScope,
  type DmarStructure,
  DRHD_INCLUDE_PCI_ALL,
  encodeDmar,
  fixChecksum,
  SCOPE_TYPE,
} from '../iommu/format/dmar.js';
import {
  IVHD_DEV,
  IVHD_TYPE,
  IVMD_FLAG,
  IVMD_TYPE,
  type IvhdEntry,
  type IvrsBlock,
  makeIvrs,
  SPECIAL,
} from '../iommu/format/ivrs.js';
import type { FunctionSpec } from './build.js';

/** A range of memory that devices keep using by themselves. Frames, `end` inclusive. */
export interface ReservedSpec {
  readonly start: number;
  readonly end: number;
  /** Devices of one segment. */
  readonly devices: readonly Sbdf[];
}

export interface DmarSpec {
  /** Register pages of the units, the last one serving whatever no other names. Default: one at FED90000. */
  readonly unitBases?: readonly number[];
  /** Segment of each unit, 0 when not given. The last unit of a segment serves the rest of it. */
  readonly segments?: readonly number[];
  /** For the others: the bridges on bus 0 whose devices it serves. */
  readonly behind?: readonly (readonly Sbdf[])[];
  readonly reserved?: readonly ReservedSpec[];
  /** Every root port passes translation requests on: an ATSR for all of them. */
  readonly ats?: boolean;
  /** Bits of a host address; 48 by default. */
  readonly addressBits?: number;
  /** All functions, to find the way to a device behind bridges. */
  readonly functions: readonly FunctionSpec[];
}

export const DEFAULT_UNIT_BASE = 0xfed9_0000;

/** The hops from bus 0 to a function, as a device scope lists them. */
function pathTo(functions: readonly FunctionSpec[], at: Sbdf): { dev: number; fn: number }[] {
  const hop = { dev: slotOf(at & 0xff), fn: funcOf(at & 0xff) };
  const bus = (at >>> 8) & 0xff;
  if (bus === 0) return [hop];
  const bridge = functions.find((f) => f.secondary === bus && segOf(f.sbdf) === segOf(at));
  return bridge === undefined ? [hop] : [...pathTo(functions, bridge.sbdf), hop];
}

const scope = (functions: readonly FunctionSpec[], at: Sbdf, type: number): DeviceScope => ({
  type,
  flags: 0,
  reserved: 0,
  enumerationId: 0,
  startBus: 0,
  path: pathTo(functions, at),
});

export function buildDmar(spec: DmarSpec): Uint8Array {
  const bases = spec.unitBases ?? [DEFAULT_UNIT_BASE];
  const segmentOf = (i: number): number => spec.segments?.[i] ?? 0;
  const segments = [...new Set(bases.map((_, i) => segmentOf(i)))];
  const structures: DmarStructure[] = bases.map((base, i) => {
    const last = !bases.some((_, k) => k > i && segmentOf(k) === segmentOf(i));
    return {
      kind: 'drhd',
      flags: last ? DRHD_INCLUDE_PCI_ALL : 0,
      size: 0,
      segment: segmentOf(i),
      base,
      scopes: (spec.behind?.[i] ?? []).map((b) => scope(spec.functions, b, SCOPE_TYPE.BRIDGE)),
    };
  });
  for (const r of spec.reserved ?? []) {
    structures.push({
      kind: 'rmrr',
      reserved: 0,
      segment: segOf(r.devices[0] ?? 0),
      base: r.start * 4096,
      limit: r.end * 4096 + 4095,
      scopes: r.devices.map((d) => scope(spec.functions, d, SCOPE_TYPE.ENDPOINT)),
    });
  }
  for (const segment of spec.ats === true ? segments : [])
    structures.push({ kind: 'atsr', flags: ATSR_ALL_PORTS, reserved: 0, segment, scopes: [] });
  return fixChecksum(
    encodeDmar({
      signature: 'DMAR',
      revision: 1,
      checksum: 0,
      oemId: 'XPSIM',
      oemTableId: 'XPSIM',
      oemRevision: 1,
      creatorId: 'XPSM',
      creatorRevision: 1,
      hostAddressWidth: (spec.addressBits ?? 48) - 1,
      flags: 1,
      reserved: new Uint8Array(10),
      structures,
    }),
  );
}

export interface IvrsSpec {
  readonly functions: readonly FunctionSpec[];
  /** The IOMMU's own function. */
  readonly iommu: Sbdf;
  readonly base?: number;
  /** Further units, and the bridges on bus 0 whose devices each serves; all of its segment when not given. */
  readonly more?: readonly {
    readonly iommu: Sbdf;
    readonly base: number;
    readonly behind?: readonly Sbdf[];
  }[];
  readonly reserved?: readonly ReservedSpec[];
}

/** 00:14.0, where AMD's south bridges are. */
const SOUTH_BRIDGE = 0xa0;

/** IVinfo: 48 bits of physical addresses (bits 14:8), 64 of virtual ones (21:15). Without it no IVMD is in reach. */
const ADDRESS_SIZES = (48 << 8) | (64 << 15);

export const DEFAULT_AMD_BASE = 0xfeb8_0000;

/** The bridges above a function, the nearest first. */
function bridgesAbove(functions: readonly FunctionSpec[], at: Sbdf): FunctionSpec[] {
  const bus = (at >>> 8) & 0xff;
  const above = (f: FunctionSpec): boolean => f.secondary === bus && segOf(f.sbdf) === segOf(at);
  const bridge = bus === 0 ? undefined : functions.find(above);
  return bridge === undefined ? [] : [bridge, ...bridgesAbove(functions, bridge.sbdf)];
}

/** The id that requests from behind a bridge to conventional PCI arrive with: the topmost one's own, or its bus's. */
function aliasBehind(functions: readonly FunctionSpec[], bridge: FunctionSpec): number {
  const all = [bridge, ...bridgesAbove(functions, bridge.sbdf)];
  const top = all.findLast((f) => f.kind === 'pcie-to-pci-bridge' || f.kind === 'pci-bridge')!;
  return top.kind === 'pcie-to-pci-bridge' ? top.secondary! << 8 : bdfOf(top.sbdf);
}

/** Entries of the functions that one unit serves; what lies behind a bridge to conventional PCI has its alias. */
function deviceEntries(spec: IvrsSpec, mine: (at: Sbdf) => boolean): IvhdEntry[] {
  const entries: IvhdEntry[] = [];
  const add = (type: number, id: number, usedId?: number): void => {
    entries.push(usedId === undefined ? { type, id, data: 0 } : { type, id, data: 0, usedId });
  };
  const behind = new Set<number>();
  for (const f of spec.functions) {
    if (f.kind !== 'pcie-to-pci-bridge' && f.kind !== 'pci-bridge') continue;
    behind.add(segOf(f.sbdf) * 256 + f.secondary!);
    if (!mine(f.sbdf)) continue;
    const first = f.secondary! << 8;
    add(IVHD_DEV.ALIAS_START, first, aliasBehind(spec.functions, f));
    add(IVHD_DEV.END, first | 0xff);
  }
  for (const f of spec.functions) {
    if (f.kind === 'amd-iommu' || behind.has(f.sbdf >>> 8) || !mine(f.sbdf)) continue;
    const whole = spec.functions.find(
      (o) => o.sbdf >>> 8 === f.sbdf >>> 8 && (o.sriov !== undefined || o.ari === true),
    );
    if (whole !== undefined) {
      // Functions come later than firmware, or have slot numbers: the whole bus is named.
      if (whole !== f) continue;
      add(IVHD_DEV.START, bdfOf(f.sbdf));
      add(IVHD_DEV.END, bdfOf(f.sbdf) | 0xff);
    } else if (f.phantomBits === undefined || f.phantomBits === 0) add(IVHD_DEV.SELECT, bdfOf(f.sbdf));
    else {
      // Phantom functions are requester ids of their own: the whole slot is named.
      add(IVHD_DEV.START, bdfOf(f.sbdf));
      add(IVHD_DEV.END, bdfOf(f.sbdf) | 7);
    }
  }
  return entries;
}

const ivhdBlock = (iommu: Sbdf, base: number, entries: readonly IvhdEntry[]): IvrsBlock => ({
  kind: 'ivhd',
  type: IVHD_TYPE.BASIC,
  flags: 0,
  deviceId: bdfOf(iommu),
  capOffset: 0xa0,
  base,
  segment: segOf(iommu),
  info: 0,
  attr: 0,
  entries,
});

/** Xen refuses a block of fewer bytes than the header of the longer form has. @xen amd_iommu_detect_one_acpi */
const PADDING: readonly IvhdEntry[] = [0, 1, 2, 3].map(() => ({ type: IVHD_DEV.PAD4, id: 0, data: 0 }));

/** The first IOMMU names every function that no further one does, and the I/O APIC, without which Xen has none. */
export function buildIvrs(spec: IvrsSpec): Uint8Array {
  const { more = [] } = spec;
  const rootOf = (at: Sbdf): Sbdf => bridgesAbove(spec.functions, at).at(-1)?.sbdf ?? at;
  const unitOf = (at: Sbdf): number =>
    more.findIndex((u) => u.behind?.includes(rootOf(at)) ?? segOf(u.iommu) === segOf(at));
  const ioApic: IvhdEntry = {
    type: IVHD_DEV.SPECIAL,
    id: 0,
    data: 0,
    usedId: SOUTH_BRIDGE,
    byte4: 0,
    byte7: SPECIAL.IOAPIC,
  };
  const blocks: IvrsBlock[] = [
    ivhdBlock(spec.iommu, spec.base ?? DEFAULT_AMD_BASE, [
      ioApic,
      ...deviceEntries(spec, (at) => unitOf(at) < 0),
      ...(more.length > 0 ? PADDING : []),
    ]),
    ...more.map((u, i) => {
      const entries = deviceEntries(spec, (at) => unitOf(at) === i);
      return ivhdBlock(u.iommu, u.base, [...entries, ...PADDING]);
    }),
  ];
  for (const r of spec.reserved ?? []) {
    for (const d of r.devices) {
      blocks.push({
        kind: 'ivmd',
        type: IVMD_TYPE.ONE,
        flags: IVMD_FLAG.UNITY | IVMD_FLAG.READ | IVMD_FLAG.WRITE,
        deviceId: bdfOf(d),
        auxData: 0,
        reserved: [0, 0],
        start: r.start * 4096,
        length: (r.end - r.start + 1) * 4096,
        rest: new Uint8Array(0),
      });
    }
  }
  return makeIvrs(blocks, ADDRESS_SIZES);
}
