/**
 * Small random machines: buses, bridges of each kind, endpoints with and without phantom functions, reserved ranges,
 * one or two units, and the options of Xen that change what assignment does.
 */
import fc from 'fast-check';
import { busOf, formatSbdf, hex, type Sbdf, sbdf, withDevfn } from '../base/sbdf.js';
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

export type Vendor = 'vtd' | 'amd';

/** What one slot of the random machine holds. */
export type SlotKind =
  | 'endpoint' //       PCIe endpoint behind a root port
  | 'phantom1' //       the same with 1, 2 or 3 phantom bits
  | 'phantom2'
  | 'phantom3'
  | 'twoFunctions'
  | 'pcieToPci' //      two conventional devices behind a PCIe-to-PCI bridge
  | 'nestedBridge' //   one conventional device behind a legacy bridge behind a PCIe-to-PCI bridge
  | 'legacyBridge' //   one conventional device behind a legacy bridge
  | 'legacyDevice'; //  a conventional device on bus 0

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
} as const satisfies Omit<MachineSpec, 'vendor' | 'slots'>;

export const plainMachine = (
  vendor: Vendor,
  slots: readonly SlotKind[],
  more: Partial<MachineSpec> = {},
): MachineSpec => ({ vendor, slots, ...PLAIN_MACHINE, ...more });

/** A device that the random history may move about. */
export interface TestDevice {
  readonly sbdf: Sbdf;
  readonly conventional: boolean;
  /** Requester ids the device shares with its siblings behind a bridge: topmost bridge and (secondary bus, 0, 0). */
  readonly sharedRids: readonly number[];
  /** Distance of its phantom functions as the device announces or the option says; 0 for none. */
  readonly stride: number;
}

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

const slotKinds: readonly SlotKind[] = [
  'endpoint',
  'phantom1',
  'phantom2',
  'phantom3',
  'twoFunctions',
  'pcieToPci',
  'nestedBridge',
  'legacyBridge',
  'legacyDevice',
];

export const arbMachine = (vendor: Vendor): fc.Arbitrary<MachineSpec> =>
  fc.record({
    vendor: fc.constant(vendor),
    slots: fc.array(fc.constantFrom(...slotKinds), { minLength: 1, maxLength: 4 }),
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

/** A root port, a PCIe-to-PCI bridge behind it, and two conventional devices. Takes two bus numbers. */
function pcieToPci(port: Sbdf, behind: number, functions: FunctionSpec[], devices: TestDevice[]): void {
  const bridge = sbdf(0, behind, 0, 0);
  functions.push({ sbdf: port, kind: 'root-port', secondary: behind, subordinate: behind + 1 });
  functions.push({ sbdf: bridge, kind: 'pcie-to-pci-bridge', secondary: behind + 1 });
  for (const dev of [1, 2]) {
    const at = sbdf(0, behind + 1, dev, 0);
    functions.push({ sbdf: at, kind: 'pci-device' });
    const sharedRids = [bridge & 0xffff, (behind + 1) << 8];
    devices.push({ sbdf: at, conventional: true, sharedRids, stride: 0 });
  }
}

/** A root port, a PCIe-to-PCI bridge, a PCI bridge behind that, and a conventional device. Takes three bus numbers. */
function nestedBridge(port: Sbdf, behind: number, functions: FunctionSpec[], devices: TestDevice[]): void {
  const bridge = sbdf(0, behind, 0, 0);
  const last = behind + 2;
  functions.push({ sbdf: port, kind: 'root-port', secondary: behind, subordinate: last });
  functions.push({ sbdf: bridge, kind: 'pcie-to-pci-bridge', secondary: behind + 1, subordinate: last });
  functions.push({ sbdf: sbdf(0, behind + 1, 3, 0), kind: 'pci-bridge', secondary: last });
  const at = sbdf(0, last, 1, 0);
  functions.push({ sbdf: at, kind: 'pci-device' });
  devices.push({ sbdf: at, conventional: true, sharedRids: [bridge & 0xffff, (behind + 1) << 8], stride: 0 });
}

/** A bridge of conventional PCI on bus 0, and a device behind it. Takes one bus number. */
function legacyBridge(port: Sbdf, behind: number, functions: FunctionSpec[], devices: TestDevice[]): void {
  functions.push({ sbdf: port, kind: 'pci-bridge', secondary: behind });
  const at = sbdf(0, behind, 1, 0);
  functions.push({ sbdf: at, kind: 'pci-device' });
  devices.push({ sbdf: at, conventional: true, sharedRids: [port & 0xffff], stride: 0 });
}

/** Units that are wanted; there are as many where there are enough root ports. */
const unitsOf = (spec: MachineSpec): number => spec.units ?? (spec.twoUnits && spec.vendor === 'vtd' ? 2 : 1);

/** Root ports that have units of their own. */
const splitPorts = (spec: MachineSpec, functions: readonly FunctionSpec[]): Sbdf[] =>
  functions.flatMap((f) => (f.kind === 'root-port' ? [f.sbdf] : [])).slice(0, unitsOf(spec) - 1);

/** Lays the slots out on buses and writes the firmware tables for them. */
export function layOut(spec: MachineSpec): TestMachine {
  const functions: FunctionSpec[] = [{ sbdf: sbdf(0, 0, 0, 0), kind: 'host-bridge' }];
  if (spec.vendor === 'amd')
    for (let i = 0; i < unitsOf(spec); i++)
      functions.push({ sbdf: withDevfn(AMD_IOMMU, 2 + i), kind: 'amd-iommu' });
  const devices: TestDevice[] = [];
  let bus = 1;
  spec.slots.forEach((kind, i) => {
    const port = sbdf(0, 0, i + 1, 0);
    const behind = bus;
    const plain = (at: Sbdf, stride: number): void => {
      devices.push({ sbdf: at, conventional: false, sharedRids: [], stride });
    };
    switch (kind) {
      case 'legacyDevice':
        functions.push({ sbdf: port, kind: 'pci-device' });
        devices.push({ sbdf: port, conventional: true, sharedRids: [], stride: 0 });
        return;
      case 'legacyBridge':
        legacyBridge(port, behind, functions, devices);
        bus += 1;
        return;
      case 'pcieToPci':
        pcieToPci(port, behind, functions, devices);
        bus += 2;
        return;
      case 'nestedBridge':
        nestedBridge(port, behind, functions, devices);
        bus += 3;
        return;
      default:
        functions.push({ sbdf: port, kind: 'root-port', secondary: behind });
        bus += 1;
    }
    const at = sbdf(0, behind, 0, 0);
    const phantomBits = kind === 'phantom1' ? 1 : kind === 'phantom2' ? 2 : kind === 'phantom3' ? 3 : 0;
    const msix = phantomBits === 0 ? 0 : 4;
    functions.push({ sbdf: at, kind: 'pcie-endpoint', phantomBits, msix, ats: spec.ats === true });
    const byOption = spec.phantomOption && !devices.some((d) => !d.conventional);
    const announced = phantomBits === 0 ? 0 : 8 >> phantomBits;
    plain(at, announced !== 0 ? announced : byOption ? (kind === 'twoFunctions' ? 2 : 1) : 0);
    if (kind === 'twoFunctions') {
      functions.push({ sbdf: withDevfn(at, 1), kind: 'pcie-endpoint' });
      plain(withDevfn(at, 1), 0);
    }
  });
  const holders =
    spec.reserved < 0 ? [] : devices.slice(spec.reserved, spec.reserved + (spec.sharedReserved ? 2 : 1));
  const reserved =
    holders.length === 0
      ? undefined
      : {
          start: RESERVED_START,
          end: RESERVED_START + RESERVED_FRAMES - 1,
          sbdfs: spec.vendor === 'amd' ? withSiblings(devices, holders) : holders.map((d) => d.sbdf),
        };
  const phantomOf = spec.phantomOption ? devices.find((d) => !d.conventional)?.sbdf : undefined;
  const phantom = phantomOf === undefined ? '' : ` pci-phantom=${hex(busOf(phantomOf), 2)}:00,1`;
  return {
    spec,
    host: hostOf(spec, spec.messages === true ? functions.map(withMessages) : functions, reserved),
    devices,
    reserved,
    mmioFirst: 0xc_0000,
    cmdline: `${optionsOf(spec)}${phantom}${rangeOption(spec, reserved, devices)}`,
  };
}

function withMessages(spec: FunctionSpec): FunctionSpec {
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
];

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
  const split = splitPorts(spec, functions);
  const bases = [...split.map((_, i) => SECOND_UNIT_BASE + i * 4096), DEFAULT_UNIT_BASE];
  return {
    name: `random-${spec.vendor}`,
    functions: buildFunctions(functions),
    e820: memoryMap(spec),
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
    ...(spec.vendor === 'vtd'
      ? {
          dmar: buildDmar({
            functions,
            unitBases: bases,
            ats: spec.ats === true,
            behind: split.map((port) => [port]),
            reserved: ranges,
          }),
          vtdUnits: bases.map((base) => ({
            base,
            cap: [capLo(spec), QEMU_CAP_HI] as const,
            ecap: [QEMU_ECAP_LO | (spec.ats === true ? DT : 0), 0] as const,
            ...(spec.unsnooped === true ? { unsnooped: true } : {}),
          })),
        }
      : {
          ivrs: buildIvrs({
            functions,
            iommu: AMD_IOMMU,
            more: split.map((port, i) => ({
              iommu: withDevfn(AMD_IOMMU, 3 + i),
              base: DEFAULT_AMD_BASE + (i + 1) * 0x4000,
              behind: [port],
            })),
            reserved: ranges,
          }),
        }),
    dom0: SMALL_DOM0,
  };
}
