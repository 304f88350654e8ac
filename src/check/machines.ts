/**
 * Small random machines: segments, buses, bridges of each kind, endpoints with and without phantom functions, reserved ranges,
 * one or two units, and the options of Xen that change what assignment does.
 */
import fc from 'fast-check';
import { busOf, formatSbdf, hex, type Sbdf, sbdf, segOf, withDevfn } from '../base/sbdf.js';
import { buildFunctions, type FunctionSpec } from '../inputs/build.js';
import {
  buildDmar,
  buildIvrs,
  DEFAULT_AMD_BASE,
  DEFAULT_UNIT_BASE,
  type ReservedSpec,
} from '../inputs/firmware.js';
import type { HostDescription } from '../inputs/host_description.js';
import { parseIvrs } from '../iommu/format/ivrs.js';
import { commonSlots, laySlots, rareSlots, type SlotKind, type TestDevice } from './slots.js';

export type { SlotKind, TestDevice } from './slots.js';

export type Vendor = 'vtd' | 'amd';

/** A machine as plain data: it prints, shrinks and replays. */
export interface MachineSpec {
  readonly vendor: Vendor;
  readonly slots: readonly SlotKind[];
  readonly quarantine: 'none' | 'basic' | 'scratch-page';
  readonly dom0: 'relaxed' | 'strict' | 'passthrough';
  /** VT-d: CAP.CM. */
  readonly cachingMode: boolean;
  /** Index into the assignable devices of the one with a reserved range, or -1. */
  readonly reserved: number;
  /** VT-d: a second unit for the devices behind the first root port. */
  readonly twoUnits: boolean;
  /** The reserved range belongs to the next device as well. */
  readonly sharedReserved: boolean;
  /** VT-d: units with 16 domain ids, which are dealt out. */
  readonly fewIds: boolean;
  /** VT-d: units that walk three levels only. */
  readonly threeLevels: boolean;
  /** VT-d: units that read tables past the caches of the CPU. */
  readonly unsnooped?: boolean;
  /** VT-d: `pci-phantom=` for the first endpoint, stride 1. */
  readonly phantomOption: boolean;
  /** A second reserved range of the same device, with 16 frames between. */
  readonly gapInReserved?: boolean;
  /** The reserved range is given by `rmrr=` or `ivmd=`, not by firmware. */
  readonly reservedByOption?: boolean;
  /** On a machine that somebody owns: the first device of those that the history moves. */
  readonly first?: number | undefined;
  /** Endpoints keep translations of their own, and Xen lets them. */
  readonly ats?: boolean | undefined;
  /** Two or three units, those but the last each behind a root port; `twoUnits` when not given. */
  readonly units?: number | undefined;
  /** Processors; two when not given. */
  readonly cpus?: number | undefined;
  /** Devices have MSI, and PCIe endpoints MSI-X. */
  readonly messages?: boolean | undefined;
  /** PCI segments, which slots lie on in turn; one when not given. */
  readonly segments?: number | undefined;
  /** false: I/O tables of small pages only. */
  readonly superpages?: boolean | undefined;
}

/** The plainest value of each property. */
export const PLAIN_MACHINE = {
  quarantine: 'basic',
  dom0: 'relaxed',
  cachingMode: false,
  reserved: -1,
  twoUnits: false,
  sharedReserved: false,
  fewIds: false,
  threeLevels: false,
  phantomOption: false,
  gapInReserved: false,
  reservedByOption: false,
  unsnooped: false,
  messages: false,
  segments: undefined,
} as const satisfies Omit<MachineSpec, 'vendor' | 'slots'>;

export const plainMachine = (
  vendor: Vendor,
  slots: readonly SlotKind[],
  more: Partial<MachineSpec> = {},
): MachineSpec => ({ vendor, slots, ...PLAIN_MACHINE, ...more });

export interface TestMachine {
  readonly spec: MachineSpec;
  readonly host: HostDescription;
  readonly devices: readonly TestDevice[];
  /** Frames of the reserved range, inclusive; undefined without one. */
  readonly reserved:
    | { readonly start: number; readonly end: number; readonly sbdfs: readonly Sbdf[] }
    | undefined;
  readonly cmdline: string;
  /** Frames of device memory that guests may be given: the first of sixteen. */
  readonly mmioFirst: number;
}

/** One slot in ten is of the rare kinds. */
const arbSlot = fc.oneof(
  { weight: 9, arbitrary: fc.constantFrom(...commonSlots) },
  { weight: 1, arbitrary: fc.constantFrom(...rareSlots) },
);

export const arbMachine = (vendor: Vendor): fc.Arbitrary<MachineSpec> =>
  fc.record({
    vendor: fc.constant(vendor),
    slots: fc.array(arbSlot, { minLength: 1, maxLength: 4 }),
    quarantine: fc.constantFrom('basic' as const, 'basic' as const, 'scratch-page' as const, 'none' as const),
    dom0: fc.constantFrom('relaxed' as const, 'strict' as const, 'strict' as const, 'passthrough' as const),
    cachingMode: fc.boolean(),
    reserved: fc.constantFrom(-1, -1, 0, 1),
    twoUnits: fc.boolean(),
    units: fc.constantFrom(undefined, undefined, 2, 3),
    sharedReserved: fc.constantFrom(false, false, true),
    fewIds: fc.constantFrom(false, false, false, vendor === 'vtd'),
    threeLevels: fc.constantFrom(false, false, false, vendor === 'vtd'),
    phantomOption: fc.constantFrom(false, false, false, vendor === 'vtd'),
    gapInReserved: fc.constantFrom(false, false, true),
    reservedByOption: fc.constantFrom(false, false, false, true),
    unsnooped: fc.constantFrom(false, false, false, vendor === 'vtd'),
    messages: fc.boolean(),
    segments: fc.oneof(
      { weight: 9, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: fc.constant(2) },
    ),
  });

/** For a machine that somebody owns: options of Xen, and which of the devices move. */
export const arbOptions = (vendor: Vendor): fc.Arbitrary<MachineSpec> =>
  fc
    .record({ spec: arbMachine(vendor), first: fc.nat(255) })
    .map(({ spec, first }) => ({ ...spec, slots: ['endpoint'], first }));

const RESERVED_START = 0x3f000;
const RESERVED_FRAMES = 16;
/** A second range of one page, where wanted. */
export const SECOND_RESERVED = RESERVED_START + 2 * RESERVED_FRAMES;
const RAM_BYTES = 0x3f00_0000;
const SECOND_UNIT_BASE = 0xfed9_1000;
/** Registers of the units of further segments. */
const VTD_SEGMENT_BASE = 0xfed9_8000;
const AMD_SEGMENT_BASE = 0xfeba_0000;
const WINDOWS_BASE = 0xb000_0000;
const WINDOW_BYTES = 2 ** 24;
const AMD_IOMMU = sbdf(0, 0, 0, 2);
/** Capabilities of the recorded board: 64K domain ids, 4-level tables with superpages, queued invalidation. */
const QEMU_CAP_LO = 0x222f_0606;
const QEMU_CAP_HI = 0x00d2_008c;
const QEMU_ECAP_LO = 0x00f0_0f4a;
const CM = 0x80;
/** ECAP.DT: device TLBs. */
const DT = 0x4;
/** ND in bits 2:0, SAGAW in 12:8, MGAW - 1 in 21:16. */
const ND = 0x7;
const WIDTHS = 0x3f_1f00;
const THREE_LEVELS = (38 << 16) | (2 << 8);

const capLo = (spec: MachineSpec): number =>
  ((spec.fewIds ? QEMU_CAP_LO & ~ND : QEMU_CAP_LO) & (spec.threeLevels ? ~WIDTHS : -1)) |
  (spec.threeLevels ? THREE_LEVELS : 0) |
  (spec.cachingMode ? CM : 0);

const QUARANTINE_OPTION = {
  none: 'no-quarantine',
  basic: 'quarantine',
  'scratch-page': 'quarantine=scratch-page',
} as const;

/** Units that are wanted; there are as many where there are enough root ports. */
const unitsOf = (spec: MachineSpec): number => spec.units ?? (spec.twoUnits && spec.vendor === 'vtd' ? 2 : 1);

/** Root ports of segment 0 that have units of their own. */
const splitPorts = (spec: MachineSpec, functions: readonly FunctionSpec[]): Sbdf[] =>
  functions
    .flatMap((f) => (f.kind === 'root-port' && segOf(f.sbdf) === 0 ? [f.sbdf] : []))
    .slice(0, unitsOf(spec) - 1);

/** Segments but the first. */
const furtherSegments = (spec: MachineSpec): number[] =>
  Array.from({ length: (spec.segments ?? 1) - 1 }, (_, i) => i + 1);

/** Host bridges and AMD's units, which are functions of bus 0. */
function rootFunctions(spec: MachineSpec): FunctionSpec[] {
  const functions: FunctionSpec[] = [{ sbdf: sbdf(0, 0, 0, 0), kind: 'host-bridge' }];
  if (spec.vendor === 'amd')
    for (let i = 0; i < unitsOf(spec); i++)
      functions.push({ sbdf: withDevfn(AMD_IOMMU, 2 + i), kind: 'amd-iommu' });
  for (const seg of furtherSegments(spec)) {
    functions.push({ sbdf: sbdf(seg, 0, 0, 0), kind: 'host-bridge' });
    if (spec.vendor === 'amd') functions.push({ sbdf: sbdf(seg, 0, 0, 2), kind: 'amd-iommu' });
  }
  return functions;
}

/**
 * Devices that hold the reserved range: firmware names those that are there when it hands over, all on one segment, and
 * an IVMD has none to name.
 */
function holdersOf(spec: MachineSpec, devices: readonly TestDevice[]): TestDevice[] {
  const able = devices.filter(
    (d) => d.physfn === undefined && (spec.vendor === 'vtd' || segOf(d.sbdf) === 0),
  );
  const first = spec.reserved < 0 ? undefined : able[spec.reserved];
  if (first === undefined) return [];
  const here = able.filter((d) => segOf(d.sbdf) === segOf(first.sbdf));
  const at = here.indexOf(first);
  return here.slice(at, at + (spec.sharedReserved ? 2 : 1));
}

/** Lays the slots out on buses and writes the firmware tables for them. */
export function layOut(spec: MachineSpec): TestMachine {
  const slots = laySlots(spec);
  const { devices } = slots;
  const functions = [...rootFunctions(spec), ...slots.functions];
  const holders = holdersOf(spec, devices);
  const reserved =
    holders.length === 0
      ? undefined
      : {
          start: RESERVED_START,
          end: RESERVED_START + RESERVED_FRAMES - 1,
          sbdfs: spec.vendor === 'amd' ? withSiblings(devices, holders) : holders.map((d) => d.sbdf),
        };
  const phantomOf = spec.phantomOption ? devices.find((d) => !d.conventional)?.sbdf : undefined;
  const phantom = phantomOf === undefined ? '' : ` pci-phantom=${phantomName(phantomOf)},1`;
  return {
    spec,
    host: hostOf(spec, spec.messages === true ? functions.map(withMessages) : functions, reserved),
    devices,
    reserved,
    mmioFirst: 0xc_0000,
    cmdline: `${optionsOf(spec)}${phantom}${rangeOption(spec, reserved, devices)}`,
  };
}

/** `[segment:]bus:slot` of a function 0. */
const phantomName = (at: Sbdf): string => {
  const seg = segOf(at) === 0 ? '' : `${hex(segOf(at), 4)}:`;
  return `${seg}${hex(busOf(at), 2)}:00`;
};

function withMessages(spec: FunctionSpec): FunctionSpec {
  if (spec.virtual === true) return { ...spec, msix: 4 };
  if (spec.kind === 'pcie-endpoint') return { ...spec, msi: 8, msix: 4 };
  return spec.kind === 'pci-device' ? { ...spec, msi: 8 } : spec;
}

/** Options of Xen that the machine asks for. */
export const optionsOf = (spec: MachineSpec): string =>
  `iommu=${QUARANTINE_OPTION[spec.quarantine]}${spec.superpages === false ? ',no-superpages' : ''}${spec.ats === true ? ' ats' : ''} dom0-iommu=${spec.dom0 === 'relaxed' ? 'no-strict' : spec.dom0} loglvl=all guest_loglvl=all`;

/** Register pages of the machine's units. */
export function unitFrames({ host }: TestMachine): number[] {
  if (host.vtdUnits !== undefined) return host.vtdUnits.map((u) => u.base / 4096);
  if (host.ivrs === undefined) return [];
  return parseIvrs(host.ivrs).blocks.flatMap((b) => ('entries' in b ? [b.base / 4096] : []));
}

/** Device memory that guests may be given, by index: 6 is a unit's registers, 7 a page that nobody writes. */
export function mmioFrame(layout: TestMachine, index: number): number {
  const unit = index === 6 ? unitFrames(layout)[0] : undefined;
  return unit ?? (index === 7 ? READ_ONLY_FRAME : layout.mmioFirst + index);
}
/** HPET: Xen keeps it for itself. */
const READ_ONLY_FRAME = 0xfed00;

/** `rmrr=` for the reserved range, where it is given that way. */
function rangeOption(
  spec: MachineSpec,
  reserved: TestMachine['reserved'],
  devices: readonly TestDevice[],
): string {
  if (reserved === undefined || spec.reservedByOption !== true) return '';
  const range = `${reserved.start.toString(16)}-${reserved.end.toString(16)}`;
  // As IVMDs of firmware that name a range of ids: phantom functions are among them.
  const slot = (at: Sbdf): string => {
    const phantoms = devices.find((d) => d.sbdf === at)!.stride !== 0;
    return phantoms ? `${formatSbdf(at)}-${formatSbdf(withDevfn(at, 7))}` : formatSbdf(at);
  };
  if (spec.vendor === 'amd') return ` ivmd=${range}=${reserved.sbdfs.map(slot).join(',')}`;
  const names = reserved.sbdfs.map((at) => formatSbdf(at)).join(',');
  return ` rmrr=${range}=${names}`;
}

/** A range for a device whose id is taken over by a bridge is one for all behind that bridge. */
const withSiblings = (all: readonly TestDevice[], some: readonly TestDevice[]): Sbdf[] =>
  all
    .filter((d) => some.some((s) => s === d || s.sharedRids.some((rid) => d.sharedRids.includes(rid))))
    .map((d) => d.sbdf);

const SMALL_DOM0: HostDescription['dom0'] = {
  memoryBytes: 64 * 2 ** 20,
  vcpus: 1,
  hostname: 'dom0',
  kernelRelease: '6.1.0',
  kernelCmdline: '',
  pciback: 'module',
  files: {},
};

/** Windows to configuration space, sixteen buses of each segment; a machine of one segment has none. */
const windowsOf = (spec: MachineSpec): NonNullable<HostDescription['mcfg']> =>
  furtherSegments(spec).length === 0
    ? []
    : [0, ...furtherSegments(spec)].map((seg) => ({
        base: WINDOWS_BASE + seg * WINDOW_BYTES,
        seg,
        firstBus: 0,
        lastBus: 15,
      }));

const memoryMap = (spec: MachineSpec): HostDescription['e820'] => [
  { start: 0, end: 0x9_f000, type: 'usable' },
  { start: 0x10_0000, end: RAM_BYTES, type: 'usable' },
  { start: RESERVED_START * 4096, end: (SECOND_RESERVED + 1) * 4096, type: 'reserved' },
  // Xen takes a range by option only below the end of memory.
  ...(spec.reservedByOption === true
    ? [
        {
          start: (SECOND_RESERVED + 1) * 4096,
          end: (SECOND_RESERVED + 2) * 4096,
          type: 'usable' as const,
        },
      ]
    : []),
  ...windowsOf(spec).map(({ base }) => ({
    start: base,
    end: base + WINDOW_BYTES,
    type: 'reserved' as const,
  })),
];

/** The DMAR, and what its units can do. */
function vtdTables(
  spec: MachineSpec,
  functions: readonly FunctionSpec[],
  reserved: readonly ReservedSpec[],
): Pick<HostDescription, 'dmar' | 'vtdUnits'> {
  const split = splitPorts(spec, functions);
  const further = furtherSegments(spec);
  const bases = [
    ...split.map((_, i) => SECOND_UNIT_BASE + i * 4096),
    DEFAULT_UNIT_BASE,
    ...further.map((seg) => VTD_SEGMENT_BASE + seg * 4096),
  ];
  const ats = spec.ats === true;
  return {
    dmar: buildDmar({
      functions,
      unitBases: bases,
      segments: [...split.map(() => 0), 0, ...further],
      ats,
      behind: split.map((port) => [port]),
      reserved,
    }),
    vtdUnits: bases.map((base) => ({
      base,
      cap: [capLo(spec), QEMU_CAP_HI] as const,
      ecap: [QEMU_ECAP_LO | (ats ? DT : 0), 0] as const,
      ...(spec.unsnooped === true ? { unsnooped: true } : {}),
    })),
  };
}

function amdTables(
  spec: MachineSpec,
  functions: readonly FunctionSpec[],
  reserved: readonly ReservedSpec[],
): Pick<HostDescription, 'ivrs'> {
  const behindPorts = splitPorts(spec, functions).map((port, i) => ({
    iommu: withDevfn(AMD_IOMMU, 3 + i),
    base: DEFAULT_AMD_BASE + (i + 1) * 0x4000,
    behind: [port],
  }));
  const further = furtherSegments(spec).map((seg) => ({
    iommu: sbdf(seg, 0, 0, 2),
    base: AMD_SEGMENT_BASE + seg * 0x4000,
  }));
  return { ivrs: buildIvrs({ functions, iommu: AMD_IOMMU, more: [...behindPorts, ...further], reserved }) };
}

function hostOf(
  spec: MachineSpec,
  functions: readonly FunctionSpec[],
  reserved: TestMachine['reserved'],
): HostDescription {
  const ranges: ReservedSpec[] =
    reserved === undefined || spec.reservedByOption === true
      ? []
      : [{ start: reserved.start, end: reserved.end, devices: reserved.sbdfs }];
  if (ranges.length > 0 && spec.gapInReserved === true)
    ranges.push({ start: SECOND_RESERVED, end: SECOND_RESERVED, devices: ranges[0]!.devices });
  return {
    name: `random-${spec.vendor}`,
    functions: buildFunctions(functions),
    e820: memoryMap(spec),
    mcfg: windowsOf(spec),
    cpu: {
      vendor: spec.vendor === 'vtd' ? 'intel' : 'amd',
      count: spec.cpus ?? 2,
      model: 'random',
      khz: 2_000_000,
      hap: true,
      hap2m: true,
      hap1g: true,
      cx16: true,
    },
    ...(spec.vendor === 'vtd' ? vtdTables(spec, functions, ranges) : amdTables(spec, functions, ranges)),
    dom0: SMALL_DOM0,
  };
}
