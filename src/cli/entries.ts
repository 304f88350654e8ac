/**
 * What the remapping hardware holds for a requester id, read from the tables in memory as the hardware finds them
 * through its registers, never from Xen's bookkeeping.
 */
import { get, getFrame, hex64 } from '../base/layout.js';
import { formatBdf, hex, type Sbdf } from '../base/sbdf.js';
import { AMD_REG, DTE, DTE_WORDS, INT_CTL } from '../iommu/format/amd.js';
import { CONTEXT, CONTEXT_WORDS, ROOT, ROOT_WORDS, TT } from '../iommu/format/vtd.js';
import { VtdUnit } from '../iommu/hw/vtd/unit.js';
import type { Machine } from '../machine.js';
import type { IommuUnit } from '../machine_hw.js';

/** A context entry in the form of the recordings. */
export interface ContextRecord {
  readonly lo: string;
  readonly hi: string;
  readonly P: number;
  readonly FPD: number;
  readonly TT: number;
  readonly SLPTPTR: string;
  readonly AW: number;
  readonly AVAIL: number;
  readonly DID: number;
}
/** A DTE is its four 64-bit words. */
export type EntryRecord = ContextRecord | readonly string[] | null;

export function entryRecord(machine: Machine, sbdf: Sbdf): EntryRecord {
  const unit = machine.unitFor(sbdf);
  if (unit === undefined) return null;
  return unit instanceof VtdUnit
    ? contextRecord(machine, unit, sbdf & 0xffff)
    : dteRecord(machine, unit, sbdf & 0xffff);
}

/** Word index of the context entry, -1 when the root entry is not present or translation was never set up. */
function contextAt(machine: Machine, unit: VtdUnit, rid: number): number {
  const { ram } = machine.hw;
  if (unit.rootFrame === 0) return -1;
  const root = ram.peek(unit.rootFrame) * 1024 + (rid >>> 8) * ROOT_WORDS;
  if (get(ram.words, root, ROOT.P) === 0) return -1;
  return ram.peek(getFrame(ram.words, root)) * 1024 + (rid & 0xff) * CONTEXT_WORDS;
}

function contextRecord(machine: Machine, unit: VtdUnit, rid: number): ContextRecord | null {
  const at = contextAt(machine, unit, rid);
  const t = machine.hw.ram.words;
  if (at < 0 || (t[at] === 0 && t[at + 1] === 0 && t[at + 2] === 0 && t[at + 3] === 0)) return null;
  return {
    lo: hex64(t[at]!, t[at + 1]!),
    hi: hex64(t[at + 2]!, t[at + 3]!),
    P: get(t, at, CONTEXT.P),
    FPD: get(t, at, CONTEXT.FPD),
    TT: get(t, at, CONTEXT.TT),
    SLPTPTR: `0x${(getFrame(t, at) * 4096).toString(16)}`,
    AW: get(t, at, CONTEXT.AW),
    AVAIL: get(t, at, CONTEXT.AVAIL),
    DID: get(t, at, CONTEXT.DID),
  };
}

function dteAt(machine: Machine, unit: Exclude<IommuUnit, VtdUnit>, rid: number): number {
  const table = unit.frame(AMD_REG.DEV_TAB_BASE);
  if (table === 0) return -1;
  return machine.hw.ram.peek(table + (rid >>> 7)) * 1024 + (rid & 0x7f) * DTE_WORDS;
}

function dteRecord(machine: Machine, unit: Exclude<IommuUnit, VtdUnit>, rid: number): string[] | null {
  const at = dteAt(machine, unit, rid);
  if (at < 0) return null;
  const t = machine.hw.ram.words;
  return [0, 2, 4, 6].map((i) => hex64(t[at + i]!, t[at + i + 1]!));
}

/** Lines for people: the bits and what they mean, then who owns the device as far as Xen is concerned. */
export function describeEntry(machine: Machine, sbdf: Sbdf): string[] {
  const unit = machine.unitFor(sbdf);
  const lines =
    unit === undefined
      ? ['no remapping unit answers for this device: its DMA is not translated']
      : unit instanceof VtdUnit
        ? describeContext(machine, unit, sbdf & 0xffff)
        : describeDte(machine, unit, sbdf & 0xffff);
  return [...lines, owner(machine, sbdf)].map((l) => `${formatBdf(sbdf)}  ${l}`);
}

const TT_NAMES: Readonly<Record<number, string>> = {
  [TT.MULTI_LEVEL]: 'translated',
  [TT.DEV_IOTLB]: 'translated, device TLB allowed',
  [TT.PASS_THRU]: 'passed through',
};

function describeContext(machine: Machine, unit: VtdUnit, rid: number): string[] {
  const r = contextRecord(machine, unit, rid);
  const name = `DMAR unit ${unit.index}, context entry`;
  if (r === null) return [`${name}: absent, every DMA faults`];
  if (r.P === 0) return [`${name}: not present, every DMA faults`];
  return [
    `${name} ${r.hi} ${r.lo}`,
    `P=1 TT=${r.TT} (${TT_NAMES[r.TT] ?? 'reserved'}) AW=${r.AW} (${r.AW + 2} levels) DID=${r.DID} root=${r.SLPTPTR}`,
  ];
}

function describeDte(machine: Machine, unit: Exclude<IommuUnit, VtdUnit>, rid: number): string[] {
  const at = dteAt(machine, unit, rid);
  const name = `AMD IOMMU ${unit.unit}, DTE`;
  if (at < 0) return [`${name}: no device table`];
  const t = machine.hw.ram.words;
  const f = (field: (typeof DTE)[keyof typeof DTE]): number => get(t, at, field);
  const words = [6, 4, 2, 0].map((i) => hex64(t[at + i]!, t[at + i + 1]!)).join(' ');
  const [v, tv] = [f(DTE.V), f(DTE.TV)];
  const meaning = v === 0 ? 'passes untranslated' : tv === 0 ? 'every DMA is refused' : 'translated';
  const mode = f(DTE.MODE);
  const root = `0x${(getFrame(t, at) * 4096).toString(16)}`;
  const interrupts = f(DTE.INT_CTL) === INT_CTL.TRANSLATED ? 'remapped' : 'blocked';
  return [
    `${name} ${words}`,
    `V=${v} TV=${tv} (${meaning}) mode=${mode} DomainID=${f(DTE.DOMAIN_ID)} root=${root} interrupts ${interrupts}`,
  ];
}

function owner(machine: Machine, sbdf: Sbdf): string {
  const pdev = machine.xen.pdevs.get(sbdf);
  if (pdev === undefined) return 'Xen knows no such device';
  return `owner ${domainName(pdev.domain?.domid ?? -1)}${pdev.quarantine ? ', marked for quarantine' : ''}`;
}

/** `d1`, `d[IO]`, `nobody`. */
export function domainName(domid: number): string {
  if (domid < 0 || domid === 0x7ff4) return 'nobody';
  if (domid === 0x7ff1) return 'd[IO]';
  if (domid === 0x7ff2) return 'd[XEN]';
  return domid < 0x7ff0 ? `d${domid}` : `d[${hex(domid, 4)}]`;
}
