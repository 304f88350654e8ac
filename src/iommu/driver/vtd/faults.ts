/** What hardware recorded of refused requests, as console lines and as faults charged to devices. @xen drivers/passthrough/vtd/iommu.c */
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { VTD_REG } from '../../format/vtd.js';
import { XENLOG } from '../types.js';
import { dmarReadl, dmarWritel, hexq, VTDPREFIX, type Vtd, type VtdIommu } from './state.js';
import { printVtdEntries } from './utils.js';

const FSTS_PFO = 1;
const FSTS_PPF = 2;
/** Everything but the pending bit, which follows the records. @xen DMA_FSTS_FAULTS */
const FSTS_FAULTS = 0x7d;
const FRCD_F = 0x8000_0000;
const FECTL_IM = 0x8000_0000;
const RECORD_BYTES = 16;

/** Texts by fault reason. @xen dma_remap_fault_reasons */
const DMA_REASONS: readonly string[] = [
  'Software',
  'Present bit in root entry is clear',
  'Present bit in context entry is clear',
  'Invalid context entry',
  'Access beyond MGAW',
  'PTE Write access is not set',
  'PTE Read access is not set',
  'Next page table ptr is invalid',
  'Root table address invalid',
  'Context table ptr is invalid',
  'non-zero reserved fields in RTP',
  'non-zero reserved fields in CTP',
  'non-zero reserved fields in PTE',
  'Blocked a DMA translation request',
];
/** From 0x20. @xen intr_remap_fault_reasons */
const INTR_REASONS: readonly string[] = [
  'Detected reserved fields in the decoded interrupt-remapped request',
  'Interrupt index exceeded the interrupt-remapping table size',
  'Present field in the IRTE entry is clear',
  'Error accessing interrupt-remapping table pointed by IRTA_REG',
  'Detected reserved fields in the IRTE entry',
  'Blocked a compatibility format interrupt request',
  'Blocked an interrupt request due to source-id verification failure',
];

/** One record, as read. Address in two words; its low twelve bits are clear. */
interface FaultRecord {
  readonly reason: number;
  readonly read: boolean;
  readonly sourceId: number;
  readonly addrLo: number;
  readonly addrHi: number;
}

/** @xen iommu_page_fault_do_one */
function printFault(vtd: Vtd, iommu: VtdIommu, f: FaultRecord): void {
  const who = `Request device [${formatSbdf(sbdfOf(iommu.drhd.segment, f.sourceId))}]`;
  const say = (text: string): void => vtd.s.printk(XENLOG.G_WARNING, VTDPREFIX + text);
  const addr = hexq(f.addrLo, f.addrHi);
  const dma = DMA_REASONS[f.reason];
  const intr = INTR_REASONS[f.reason - 0x20];
  const kind = dma !== undefined ? 'DMAR' : intr !== undefined ? 'INTR-REMAP' : 'UNKNOWN';
  if (dma !== undefined) say(`DMAR:[${f.read ? 'DMA Read' : 'DMA Write'}] ${who} fault addr ${addr}`);
  else if (intr !== undefined) say(`INTR-REMAP: ${who} fault index ${(f.addrHi >>> 16).toString(16)}`);
  else say(`UNKNOWN: ${who} fault addr ${addr}`);

  const reason = f.reason.toString(16).padStart(2, '0');
  say(`${kind}: reason ${reason} - ${dma ?? intr ?? 'Unknown'}${vtd.s.seams.vtdFaultSuffix(iommu.index)}`);
  if (vtd.opts.verbose && dma !== undefined) {
    const gmfn = f.addrHi * 0x10_0000 + (f.addrLo >>> 12);
    printVtdEntries(iommu, f.sourceId >>> 8, f.sourceId & 0xff, gmfn);
  }
}

/** Reads and clears one record; undefined when it is empty. */
function* takeRecord(iommu: VtdIommu, at: number): Co<FaultRecord | undefined> {
  using _register = yield* hold(iommu.registerLock);
  const top = dmarReadl(iommu, at + 12);
  if ((top & FRCD_F) === 0) return undefined;
  const record = {
    reason: top & 0xff,
    read: ((top >>> 30) & 1) === 1,
    sourceId: dmarReadl(iommu, at + 8) & 0xffff,
    addrLo: (dmarReadl(iommu, at) & 0xffff_f000) >>> 0,
    addrHi: dmarReadl(iommu, at + 4),
  };
  dmarWritel(iommu, at + 12, FRCD_F);
  return record;
}

/** @xen __do_iommu_page_fault */
function* doOneUnit(vtd: Vtd, iommu: VtdIommu): Co<void> {
  const status = dmarReadl(iommu, VTD_REG.FSTS);
  if ((status & FSTS_PPF) !== 0) {
    let index = (status >>> 8) & 0xff;
    // A device may fault faster than we read; the next interrupt comes back for the rest.
    for (let taken = 0; taken < RECORDS_MAX; taken++) {
      const record = yield* takeRecord(iommu, iommu.faultRegOffset + index * RECORD_BYTES);
      if (record === undefined) break;
      printFault(vtd, iommu, record);
      yield* vtd.s.pciCheckDisableDevice(iommu.drhd.segment, record.sourceId >>> 8, record.sourceId & 0xff);
      // Xen wraps one record too late; the one behind the last reads as empty.
      index = index + 1 > iommu.faultRegs ? 0 : index + 1;
    }
  }
  if ((dmarReadl(iommu, VTD_REG.FSTS) & FSTS_PFO) !== 0) yield* clearOverflow(iommu);
}
const RECORDS_MAX = 65_536;

function* clearOverflow(iommu: VtdIommu): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  dmarWritel(iommu, VTD_REG.FSTS, FSTS_PFO);
}

/** @xen dma_msi_mask, dma_msi_unmask */
export function* dmaMsiMask(iommu: VtdIommu, masked: boolean): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  const rest = dmarReadl(iommu, VTD_REG.FECTL) & ~FECTL_IM;
  dmarWritel(iommu, VTD_REG.FECTL, (masked ? rest | FECTL_IM : rest) >>> 0);
}

/** The handler only schedules the tasklet; its controller masks the source before, and lets it go after. @xen dma_msi_type */
export function* faultInterrupts(vtd: Vtd): Co<void> {
  for (const drhd of vtd.drhds) {
    if ((dmarReadl(drhd.iommu!, VTD_REG.FSTS) & (FSTS_PPF | FSTS_PFO)) === 0) continue;
    yield* dmaMsiMask(drhd.iommu!, true);
    yield* dmaMsiMask(drhd.iommu!, false);
  }
}

/** Whatever unit interrupted, all are looked at. @xen do_iommu_page_fault */
export function* doIommuPageFault(vtd: Vtd): Co<void> {
  for (const drhd of vtd.drhds) yield* doOneUnit(vtd, drhd.iommu!);
}

/** What firmware left behind. @xen clear_fault_bits */
export function* clearFaultBits(iommu: VtdIommu): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  if ((dmarReadl(iommu, VTD_REG.FSTS) & FSTS_PPF) !== 0) {
    // Xen takes the number of records for a number of bytes, and so reaches one of sixteen.
    const end = iommu.faultRegOffset + iommu.faultRegs;
    for (let reg = iommu.faultRegOffset; reg < end; reg += RECORD_BYTES) {
      dmarWritel(iommu, reg + 12, FRCD_F);
    }
  }
  dmarWritel(iommu, VTD_REG.FSTS, FSTS_FAULTS);
}
