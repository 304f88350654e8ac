/**
 * Config space made to order: small machines for tests, benchmarks and labs, as the same bytes that a dump of a real
 * machine would hold (PCI 3.0 chapter 6, PCIe 7.5).
 */
import { busOf, funcOf, type Sbdf, slotOf, withDevfn } from '../base/sbdf.js';
import type { FunctionDescription } from './host_description.js';

/** What a function is on the bus. */
export type FunctionKind =
  | 'host-bridge'
  | 'root-port'
  | 'pcie-to-pci-bridge'
  | 'pci-bridge'
  | 'pcie-endpoint'
  | 'pci-device'
  | 'amd-iommu';

export interface FunctionSpec {
  readonly sbdf: Sbdf;
  readonly kind: FunctionKind;
  readonly vendor?: number;
  readonly device?: number;
  /** 24 bits; the default suits the kind. */
  readonly classCode?: number;
  /** Bridges: buses behind it. */
  readonly secondary?: number;
  readonly subordinate?: number;
  /** Phantom functions announced in DEVCAP: 0 none, 1, 2 or 3 bits. */
  readonly phantomBits?: 0 | 1 | 2 | 3;
  readonly flr?: boolean;
  /** MSI vectors, a power of two, 64-bit without mask bits; 0 for no capability. */
  readonly msi?: number;
  /** MSI-X vectors, 0 for no capability. */
  readonly msix?: number;
  readonly ats?: boolean;
  /** Virtual functions, which are still off, and the memory of the first. */
  readonly sriov?: {
    readonly count: number;
    readonly offset: number;
    readonly stride: number;
    readonly bar: { readonly address: number; readonly bytes: number };
  };
  /** It is a virtual function. */
  readonly virtual?: boolean;
  /** Function 0 of a device with more than eight. */
  readonly ari?: boolean;
  /** Memory BARs, by index: address and size in bytes. */
  readonly bars?: readonly { readonly index: number; readonly address: number; readonly bytes: number }[];
  readonly driver?: string;
  readonly irq?: number;
}

const DEFAULT_CLASS: Readonly<Record<FunctionKind, number>> = {
  'host-bridge': 0x060000,
  'root-port': 0x060400,
  'pcie-to-pci-bridge': 0x060400,
  'pci-bridge': 0x060400,
  'pcie-endpoint': 0x020000,
  'pci-device': 0x020000,
  'amd-iommu': 0x080600,
};
/** Device/Port Type of the PCIe capability (7.5.3.2); undefined: no such capability. */
const PORT_TYPE: Readonly<Record<FunctionKind, number | undefined>> = {
  'host-bridge': undefined,
  'root-port': 4,
  'pcie-to-pci-bridge': 7,
  'pci-bridge': undefined,
  'pcie-endpoint': 0,
  'pci-device': undefined,
  'amd-iommu': undefined,
};

const CAP_PCIE = 0x40;
const CAP_MSIX = 0x80;
const CAP_IOMMU = 0xa0;
const CAP_MSI = 0xc0;
const BYTES = 4096;

/** One function as 4096 bytes of config space. */
export function buildFunction(spec: FunctionSpec, multifunction: boolean): FunctionDescription {
  const config = new Uint8Array(BYTES);
  const view = new DataView(config.buffer);
  const put16 = (at: number, v: number): void => view.setUint16(at, v, true);
  const put32 = (at: number, v: number): void => view.setUint32(at, v >>> 0, true);
  const bridge = spec.secondary !== undefined;
  const portType = PORT_TYPE[spec.kind];
  put16(0x00, spec.vendor ?? 0x8086);
  put16(0x02, spec.device ?? 0x1000);
  put16(0x04, spec.kind === 'host-bridge' ? 0x0006 : 0x0007);
  put32(0x08, (spec.classCode ?? DEFAULT_CLASS[spec.kind]) * 256);
  view.setUint8(0x0e, (bridge ? 1 : 0) | (multifunction ? 0x80 : 0));
  if (bridge) {
    view.setUint8(0x18, busOf(spec.sbdf));
    view.setUint8(0x19, spec.secondary);
    view.setUint8(0x1a, spec.subordinate ?? spec.secondary);
  }
  for (const bar of spec.bars ?? []) put32(0x10 + bar.index * 4, bar.address);
  let chain = 0x34;
  const link = (at: number, id: number): void => {
    view.setUint8(chain, at);
    view.setUint8(at, id);
    chain = at + 1;
    put16(0x06, 0x0010);
  };
  if (portType !== undefined) {
    link(CAP_PCIE, 0x10);
    put16(CAP_PCIE + 2, 2 | (portType << 4));
    put32(CAP_PCIE + 4, ((spec.phantomBits ?? 0) << 3) | ((spec.flr ?? true) ? 0x1000_0000 : 0) | 0x8000);
  }
  if ((spec.msix ?? 0) > 0) {
    link(CAP_MSIX, 0x11);
    put16(CAP_MSIX + 2, spec.msix! - 1);
  }
  if ((spec.msi ?? 0) > 0) {
    link(CAP_MSI, 0x05);
    put16(CAP_MSI + 2, 0x0080 | (Math.log2(spec.msi!) << 1));
  }
  if (spec.kind === 'amd-iommu') {
    link(CAP_IOMMU, 0x0f); // AMD IOMMU capability block (3.2.1), then the MSI it raises
    put16(CAP_IOMMU + 2, 0x1f03);
    link(CAP_MSI, 0x05);
    put16(CAP_MSI + 2, 0x0080);
  }
  const barBytes: (number | undefined)[] = [];
  putExtended(spec, put16, put32);
  if (spec.sriov !== undefined) barBytes[VF_BARS] = spec.sriov.bar.bytes;
  for (const bar of spec.bars ?? []) barBytes[bar.index] = bar.bytes;
  return {
    sbdf: spec.sbdf,
    config,
    barBytes,
    ...(spec.driver === undefined ? {} : { driver: spec.driver }),
    ...(spec.irq === undefined ? {} : { irq: spec.irq }),
  };
}

/** Where the sizes of a virtual function's registers are in `barBytes`. */
const VF_BARS = 7;
const EXTENDED = 0x100;
/** A capability takes no more. */
const EXTENDED_BYTES = 0x40;

/** Extended capabilities: ATS (PCIe 10.5.1), ARI (7.8.7), SR-IOV (9.3.3). */
function putExtended(
  spec: FunctionSpec,
  put16: (at: number, v: number) => void,
  put32: (at: number, v: number) => void,
): void {
  const ids = [
    ...(spec.ats === true ? [0x0f] : []),
    ...(spec.ari === true ? [0x0e] : []),
    ...(spec.sriov === undefined ? [] : [0x10]),
  ];
  ids.forEach((id, i) => {
    const at = EXTENDED + i * EXTENDED_BYTES;
    const next = i + 1 < ids.length ? at + EXTENDED_BYTES : 0;
    put32(at, id + 0x1_0000 + next * 2 ** 20);
    if (id !== 0x10 || spec.sriov === undefined) return;
    const { bar, count, offset, stride } = spec.sriov;
    put16(at + 0x0c, count);
    put16(at + 0x0e, count);
    put16(at + 0x14, offset);
    put16(at + 0x16, stride);
    put32(at + 0x24, bar.address);
  });
}

/** All functions of a machine; slots with several functions get the multi-function bit. */
export function buildFunctions(specs: readonly FunctionSpec[]): FunctionDescription[] {
  const slots = new Map<number, number>();
  for (const s of specs) {
    const slot = withDevfn(s.sbdf, slotOf(s.sbdf & 0xff) * 8);
    slots.set(slot, (slots.get(slot) ?? 0) + 1);
  }
  return specs.map((s) => {
    const slot = withDevfn(s.sbdf, slotOf(s.sbdf & 0xff) * 8);
    return buildFunction(s, slots.get(slot)! > 1 && funcOf(s.sbdf & 0xff) === 0);
  });
}
