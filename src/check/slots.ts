/** What the slots of a random machine hold, laid out on the buses of one segment or more. */
import { type Sbdf, sbdf, segOf, withDevfn } from '../base/sbdf.js';
import type { FunctionSpec } from '../inputs/build.js';

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
  | 'legacyDevice' //   a conventional device on bus 0
  | 'sriov' //          a physical function with two virtual ones, each a device that can be given away
  | 'ari'; //           a device with a ninth function

/** Slot kinds that any search draws often. */
export const commonSlots: readonly SlotKind[] = [
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
export const rareSlots: readonly SlotKind[] = ['sriov', 'ari'];

/** A device that the random history may move about. */
export interface TestDevice {
  readonly sbdf: Sbdf;
  readonly conventional: boolean;
  /** Requester ids the device shares with its siblings behind a bridge: topmost bridge and (secondary bus, 0, 0). */
  readonly sharedRids: readonly Sbdf[];
  /** Distance of its phantom functions as the device announces or the option says; 0 for none. */
  readonly stride: number;
  /** Of a virtual function, its physical one. */
  readonly physfn?: Sbdf;
  /** Dom0's kernel calls it a function beyond the eighth (ARI). */
  readonly extended?: boolean;
}

interface Wanted {
  readonly slots: readonly SlotKind[];
  readonly segments?: number | undefined;
  /** The first endpoint has phantom functions by option, stride 1. */
  readonly phantomOption: boolean;
  readonly ats?: boolean | undefined;
}

interface Laid {
  readonly functions: FunctionSpec[];
  readonly devices: TestDevice[];
}

/** A slot that is being laid out: its place on bus 0, and the next bus of its segment. */
interface Place extends Laid {
  readonly port: Sbdf;
  readonly bus: number;
}

/** Registers of one virtual function, and where those of the first are. */
const VF_BAR = { address: 0xd000_0000, bytes: 0x4000 } as const;
/** First VF Offset and VF Stride, as Intel's network cards have them: slot 16 of the bus and on. */
const VFS = { count: 2, offset: 0x80, stride: 2, bar: VF_BAR } as const;
/** A virtual function has no ids of its own in configuration space (PCIe 9.3.4.1). */
const NO_ID = 0xffff;
const NINTH = 8;

/** Slots in turn on each segment; bus numbers begin again on each. */
export function laySlots(spec: Wanted): Laid {
  const functions: FunctionSpec[] = [];
  const devices: TestDevice[] = [];
  const segments = spec.segments ?? 1;
  const buses = Array.from({ length: segments }, () => 1);
  spec.slots.forEach((kind, i) => {
    const seg = i % segments;
    const place = { port: sbdf(seg, 0, i + 1, 0), bus: buses[seg]!, functions, devices };
    buses[seg]! += laySlot(spec, kind, place);
  });
  return { functions, devices };
}

/** @returns how many bus numbers it took */
function laySlot(spec: Wanted, kind: SlotKind, p: Place): number {
  const { bus, devices, functions, port } = p;
  switch (kind) {
    case 'legacyDevice':
      functions.push({ sbdf: port, kind: 'pci-device' });
      devices.push({ sbdf: port, conventional: true, sharedRids: [], stride: 0 });
      return 0;
    case 'legacyBridge':
      return legacyBridge(p);
    case 'pcieToPci':
      return pcieToPci(p);
    case 'nestedBridge':
      return nestedBridge(p);
    default:
      functions.push({ sbdf: port, kind: 'root-port', secondary: bus });
      endpoint(spec, kind, sbdf(segOf(port), bus, 0, 0), p);
      return 1;
  }
}

function endpoint(spec: Wanted, kind: SlotKind, at: Sbdf, { functions, devices }: Place): void {
  const phantomBits = kind === 'phantom1' ? 1 : kind === 'phantom2' ? 2 : kind === 'phantom3' ? 3 : 0;
  const msix = phantomBits === 0 ? 0 : 4;
  functions.push({
    sbdf: at,
    kind: 'pcie-endpoint',
    phantomBits,
    msix,
    ats: spec.ats === true,
    ...(kind === 'sriov' ? { sriov: VFS } : {}),
    ...(kind === 'ari' ? { ari: true } : {}),
  });
  const byOption = spec.phantomOption && !devices.some((d) => !d.conventional);
  const alone = kind !== 'twoFunctions';
  const announced = phantomBits === 0 ? 0 : 8 >> phantomBits;
  const stride = announced !== 0 ? announced : byOption ? (alone ? 1 : 2) : 0;
  const plain = { conventional: false, sharedRids: [] };
  devices.push({ sbdf: at, ...plain, stride });
  const more = (devfn: number, how: Partial<FunctionSpec>, as: Partial<TestDevice>): void => {
    functions.push({ sbdf: withDevfn(at, devfn), kind: 'pcie-endpoint', ...how });
    devices.push({ sbdf: withDevfn(at, devfn), ...plain, stride: 0, ...as });
  };
  if (kind === 'twoFunctions') more(1, {}, {});
  if (kind === 'ari') more(NINTH, {}, { extended: true });
  for (let n = 0; kind === 'sriov' && n < VFS.count; n++)
    more(VFS.offset + n * VFS.stride, { virtual: true, vendor: NO_ID, device: NO_ID }, { physfn: at });
}

/** A root port, a PCIe-to-PCI bridge behind it, and two conventional devices. */
function pcieToPci({ bus, devices, functions, port }: Place): number {
  const seg = segOf(port);
  const bridge = sbdf(seg, bus, 0, 0);
  functions.push({ sbdf: port, kind: 'root-port', secondary: bus, subordinate: bus + 1 });
  functions.push({ sbdf: bridge, kind: 'pcie-to-pci-bridge', secondary: bus + 1 });
  for (const dev of [1, 2]) {
    const at = sbdf(seg, bus + 1, dev, 0);
    functions.push({ sbdf: at, kind: 'pci-device' });
    devices.push({ sbdf: at, conventional: true, sharedRids: [bridge, sbdf(seg, bus + 1, 0, 0)], stride: 0 });
  }
  return 2;
}

/** A root port, a PCIe-to-PCI bridge, a PCI bridge behind that, and a conventional device. */
function nestedBridge({ bus, devices, functions, port }: Place): number {
  const seg = segOf(port);
  const bridge = sbdf(seg, bus, 0, 0);
  const last = bus + 2;
  functions.push({ sbdf: port, kind: 'root-port', secondary: bus, subordinate: last });
  functions.push({ sbdf: bridge, kind: 'pcie-to-pci-bridge', secondary: bus + 1, subordinate: last });
  functions.push({ sbdf: sbdf(seg, bus + 1, 3, 0), kind: 'pci-bridge', secondary: last });
  const at = sbdf(seg, last, 1, 0);
  functions.push({ sbdf: at, kind: 'pci-device' });
  devices.push({ sbdf: at, conventional: true, sharedRids: [bridge, sbdf(seg, bus + 1, 0, 0)], stride: 0 });
  return 3;
}

/** A bridge of conventional PCI on bus 0, and a device behind it. */
function legacyBridge({ bus, devices, functions, port }: Place): number {
  functions.push({ sbdf: port, kind: 'pci-bridge', secondary: bus });
  const at = sbdf(segOf(port), bus, 1, 0);
  functions.push({ sbdf: at, kind: 'pci-device' });
  devices.push({ sbdf: at, conventional: true, sharedRids: [port], stride: 0 });
  return 1;
}
