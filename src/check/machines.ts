/**
 * Small random machines: buses, bridges of each kind, endpoints with and without phantom functions, reserved ranges,
 * one or two units, and the options of Xen that change what assignment does.
 */
import fc from 'fast-check';
import { type Sbdf, sbdf, withDevfn } from '../base/sbdf.js';
import { buildFunctions, type FunctionSpec } from '../inputs/build.js';
import { buildDmar, buildIvrs, DEFAULT_UNIT_BASE, type ReservedSpec } from '../inputs/firmware.js';
import type { HostDescription } from '../inputs/host_description.js';

export type Vendor = 'vtd' | 'amd';

/** What one slot of the random machine holds. */
export type SlotKind =
  | 'endpoint' //       PCIe endpoint behind a root port
  | 'phantom1' //       the same with 1, 2 or 3 phantom bits
  | 'phantom2'
  | 'phantom3'
  | 'twoFunctions'
  | 'pcieToPci' //      two conventional devices behind a PCIe-to-PCI bridge
  | 'legacyBridge' //   one conventional device behind a legacy bridge
  | 'legacyDevice'; //  a conventional device on bus 0

/** A machine as plain data: it prints, shrinks and replays. */
export interface MachineSpec {
  readonly vendor: Vendor;
  readonly slots: readonly SlotKind[];
  readonly quarantine: 'none' | 'basic' | 'scratch-page';
  readonly dom0: 'relaxed' | 'strict';
  /** VT-d: CAP.CM. */
  readonly cachingMode: boolean;
  /** Index into the assignable devices of the one with a reserved range, or -1. */
  readonly reserved: number;
  /** VT-d: a second unit for the devices behind the first root port. */
  readonly twoUnits: boolean;
}

/** A device that the random history may move about. */
export interface TestDevice {
  readonly sbdf: Sbdf;
  readonly conventional: boolean;
  /** Requester ids the device shares with its siblings behind a bridge: topmost bridge and (secondary bus, 0, 0). */
  readonly sharedRids: readonly number[];
}

export interface TestMachine {
  readonly spec: MachineSpec;
  readonly host: HostDescription;
  readonly devices: readonly TestDevice[];
  /** Frames of the reserved range, inclusive; undefined without one. */
  readonly reserved: { readonly start: number; readonly end: number; readonly sbdf: Sbdf } | undefined;
  readonly cmdline: string;
}

const slotKinds: readonly SlotKind[] = [
  'endpoint',
  'phantom1',
  'phantom2',
  'phantom3',
  'twoFunctions',
  'pcieToPci',
  'legacyBridge',
  'legacyDevice',
];

export const arbMachine = (vendor: Vendor): fc.Arbitrary<MachineSpec> =>
  fc.record({
    vendor: fc.constant(vendor),
    slots: fc.array(fc.constantFrom(...slotKinds), { minLength: 1, maxLength: 4 }),
    quarantine: fc.constantFrom('basic' as const, 'basic' as const, 'scratch-page' as const, 'none' as const),
    dom0: fc.constantFrom('relaxed' as const, 'strict' as const),
    cachingMode: fc.boolean(),
    reserved: fc.constantFrom(-1, -1, 0, 1),
    twoUnits: fc.boolean(),
  });

const RESERVED_START = 0x3f000;
const RESERVED_FRAMES = 16;
const RAM_BYTES = 0x3f00_0000;
const SECOND_UNIT_BASE = 0xfed9_1000;
const AMD_IOMMU = sbdf(0, 0, 0, 2);
/** Capabilities of the recorded board: 64K domain ids, 4-level tables with superpages, queued invalidation. */
const QEMU_CAP_LO = 0x222f_0606;
const QEMU_CAP_HI = 0x00d2_008c;
const QEMU_ECAP_LO = 0x00f0_0f4a;
const CM = 0x80;

const QUARANTINE_OPTION = {
  none: 'no-quarantine',
  basic: 'quarantine',
  'scratch-page': 'quarantine=scratch-page',
} as const;

/** Lays the slots out on buses and writes the firmware tables for them. */
export function layOut(spec: MachineSpec): TestMachine {
  const functions: FunctionSpec[] = [{ sbdf: sbdf(0, 0, 0, 0), kind: 'host-bridge' }];
  if (spec.vendor === 'amd') functions.push({ sbdf: AMD_IOMMU, kind: 'amd-iommu' });
  const devices: TestDevice[] = [];
  let bus = 1;
  spec.slots.forEach((kind, i) => {
    const port = sbdf(0, 0, i + 1, 0);
    const behind = bus;
    const plain = (at: Sbdf): void => {
      devices.push({ sbdf: at, conventional: false, sharedRids: [] });
    };
    switch (kind) {
      case 'legacyDevice':
        functions.push({ sbdf: port, kind: 'pci-device' });
        devices.push({ sbdf: port, conventional: true, sharedRids: [] });
        return;
      case 'legacyBridge': {
        functions.push({ sbdf: port, kind: 'pci-bridge', secondary: behind });
        const at = sbdf(0, behind, 1, 0);
        functions.push({ sbdf: at, kind: 'pci-device' });
        devices.push({ sbdf: at, conventional: true, sharedRids: [port & 0xffff] });
        bus += 1;
        return;
      }
      case 'pcieToPci': {
        const bridge = sbdf(0, behind, 0, 0);
        functions.push({ sbdf: port, kind: 'root-port', secondary: behind, subordinate: behind + 1 });
        functions.push({ sbdf: bridge, kind: 'pcie-to-pci-bridge', secondary: behind + 1 });
        for (const dev of [1, 2]) {
          const at = sbdf(0, behind + 1, dev, 0);
          functions.push({ sbdf: at, kind: 'pci-device' });
          devices.push({ sbdf: at, conventional: true, sharedRids: [bridge & 0xffff, (behind + 1) << 8] });
        }
        bus += 2;
        return;
      }
      default:
        functions.push({ sbdf: port, kind: 'root-port', secondary: behind });
        bus += 1;
    }
    const at = sbdf(0, behind, 0, 0);
    const phantomBits = kind === 'phantom1' ? 1 : kind === 'phantom2' ? 2 : kind === 'phantom3' ? 3 : 0;
    functions.push({ sbdf: at, kind: 'pcie-endpoint', phantomBits });
    plain(at);
    if (kind === 'twoFunctions') {
      functions.push({ sbdf: withDevfn(at, 1), kind: 'pcie-endpoint' });
      plain(withDevfn(at, 1));
    }
  });
  const reservedFor = spec.reserved >= 0 ? devices[spec.reserved] : undefined;
  const reserved =
    reservedFor === undefined
      ? undefined
      : { start: RESERVED_START, end: RESERVED_START + RESERVED_FRAMES - 1, sbdf: reservedFor.sbdf };
  return {
    spec,
    host: hostOf(spec, functions, reserved),
    devices,
    reserved,
    cmdline: `iommu=${QUARANTINE_OPTION[spec.quarantine]} dom0-iommu=${spec.dom0 === 'strict' ? 'strict' : 'no-strict'} loglvl=all guest_loglvl=all`,
  };
}

function hostOf(
  spec: MachineSpec,
  functions: readonly FunctionSpec[],
  reserved: TestMachine['reserved'],
): HostDescription {
  const ranges: ReservedSpec[] =
    reserved === undefined ? [] : [{ start: reserved.start, end: reserved.end, devices: [reserved.sbdf] }];
  const firstPort = functions.find((f) => f.kind === 'root-port');
  const split = spec.twoUnits && firstPort !== undefined;
  const bases = split ? [SECOND_UNIT_BASE, DEFAULT_UNIT_BASE] : [DEFAULT_UNIT_BASE];
  return {
    name: `random-${spec.vendor}`,
    functions: buildFunctions(functions),
    e820: [
      { start: 0, end: 0x9_f000, type: 'usable' },
      { start: 0x10_0000, end: RAM_BYTES, type: 'usable' },
      { start: RESERVED_START * 4096, end: (RESERVED_START + RESERVED_FRAMES) * 4096, type: 'reserved' },
    ],
    cpu: {
      vendor: spec.vendor === 'vtd' ? 'intel' : 'amd',
      count: 2,
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
            behind: split ? [[firstPort.sbdf]] : [],
            reserved: ranges,
          }),
          vtdUnits: bases.map((base) => ({
            base,
            cap: [QEMU_CAP_LO | (spec.cachingMode ? CM : 0), QEMU_CAP_HI] as const,
            ecap: [QEMU_ECAP_LO, 0] as const,
          })),
        }
      : { ivrs: buildIvrs({ functions, iommu: AMD_IOMMU, reserved: ranges }) }),
    dom0: {
      memoryBytes: 64 * 2 ** 20,
      vcpus: 1,
      hostname: 'dom0',
      kernelRelease: '6.1.0',
      kernelCmdline: '',
      pciback: 'module',
      files: {},
    },
  };
}
