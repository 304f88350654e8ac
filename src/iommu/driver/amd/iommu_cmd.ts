/** Commands to a unit, each followed by a completion wait. @xen drivers/passthrough/amd/iommu_cmd.c */
import { panic } from '../../../base/assert.js';
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold, pause } from '../../../sim/co.js';
import { DOMID } from '../../../sim/frames.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { AMD_REG, CMD, RING_PTR_MASK } from '../../format/amd.js';
import { type IommuDomain, type Pdev, XENLOG } from '../types.js';
import { pciAtsDevice, pciAtsEnabled } from './ats.js';
import { findIommuForDevice, getDmaRequestorId } from './requestor.js';
import { type AmdUnit, type AmdVi, amdWarn, getIvrsMappings } from './state.js';

/** Stands for every page of a domain. @xen INV_IOMMU_ALL_PAGES_ADDRESS */
const ALL_PAGES_LO = 0xffff_f000 | 0;
const ALL_PAGES_HI = 0x7fff_ffff;
/** All pages, as a frame argument. */
export const ALL_PAGES = -1;
const CMD_BYTES = 16;
const CMD_DONE = 1;
/** One turn of a polling loop: short at first, longer once it has become a matter of milliseconds. */
const RELAX_NS = 1000;
const RELAX_LONG_NS = 100_000;
const LONG_AFTER_NS = 1_000_000;
/** A unit that has not answered by then never will; Xen would poll for ever. */
const HANG_NS = 20e9;

const nameOf = (unit: AmdUnit): string => formatSbdf(sbdfOf(unit.seg, unit.bdf));

/** @xen send_iommu_command */
function* sendIommuCommand(
  amd: AmdVi,
  unit: AmdUnit,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
): Co<void> {
  using _lock = yield* hold(unit.lock);
  const ring = unit.cmdBuffer;
  let tail = ring.tail + CMD_BYTES;
  if (tail === ring.size) tail = 0;
  const start = amd.s.clock.nowNs;
  while (tail === (unit.mmio.read32(AMD_REG.CMD_BUF_HEAD) & RING_PTR_MASK)) {
    if (!amd.noSlotWarned) {
      amd.noSlotWarned = true;
      amd.s.printk(XENLOG.ERR, `AMD IOMMU ${nameOf(unit)}: no cmd slot available`);
    }
    yield* relax(amd, unit, start);
  }
  const { ram } = amd.s;
  const at = ram.slot(ring.mfn + (ring.tail >>> 12)) * FRAME_WORDS + ((ring.tail & 0xfff) >>> 2);
  const t = ram.words;
  t[at] = w0;
  t[at + 1] = w1;
  t[at + 2] = w2;
  t[at + 3] = w3;
  ring.tail = tail;
  unit.mmio.write32(AMD_REG.CMD_BUF_TAIL, tail);
}

function* relax(amd: AmdVi, unit: AmdUnit, start: number): Co<void> {
  const waited = amd.s.clock.nowNs - start;
  if (waited > HANG_NS) panic(`AMD IOMMU ${nameOf(unit)} no longer executes commands`);
  yield* pause(amd.s.clock, waited < LONG_AFTER_NS ? RELAX_NS : RELAX_LONG_NS);
}

/** Sends a completion wait and polls until the unit has stored its mark. @xen flush_command_buffer */
function* flushCommandBuffer(amd: AmdVi, unit: AmdUnit, timeoutBaseMs: number): Co<void> {
  const { ram, cpus, clock } = amd.s;
  const offset = cpus.current.id * 8;
  const w = ram.slot(amd.pollMfn) * FRAME_WORDS + (offset >>> 2);
  ram.words[w] = 0;
  ram.words[w + 1] = 0;
  const lo = ((amd.pollMfn % 0x10_0000) << 12) | offset | 1;
  const hi = Math.floor(amd.pollMfn / 0x10_0000) | (CMD.COMPLETION_WAIT << 28);
  yield* sendIommuCommand(amd, unit, lo, hi, CMD_DONE, 0);
  if (ram.words[w] === CMD_DONE) return;
  const start = clock.nowNs;
  const base = timeoutBaseMs === 0 ? 100 : timeoutBaseMs;
  let deadline = start + base * amd.waitThreshold * 1e6;
  const what = timeoutBaseMs === 0 ? '' : 'iotlb ';
  while (ram.words[w] !== CMD_DONE) {
    if (deadline !== 0 && clock.nowNs > deadline) {
      amd.waitThreshold |= amd.waitThreshold << 1;
      amd.s.printk(XENLOG.WARNING, `AMD IOMMU ${nameOf(unit)}: ${what}completion wait taking too long`);
      deadline = 0;
      if (!amd.seams.amdWaitsForEver()) return;
    }
    yield* relax(amd, unit, start);
  }
  if (deadline !== 0) return;
  const took = Math.floor((clock.nowNs - start) / 10_000_000); // units of 10 ms, whatever the text says
  amd.s.printk(XENLOG.WARNING, `AMD IOMMU ${nameOf(unit)}: ${what}completion wait took ${took}ms`);
}

/** Frame with the low bits that tell the unit how many pages are meant: 2^order, order 9 or 18. */
const sizedFrame = (dfn: number, order: number): number =>
  Math.floor(dfn / 2 ** order) * 2 ** order + 2 ** (order - 1) - 1;

/** @xen invalidate_iommu_pages */
function* invalidateIommuPages(
  amd: AmdVi,
  unit: AmdUnit,
  dfn: number,
  domid: number,
  order: number,
): Co<void> {
  const w1 = (CMD.INVALIDATE_IOMMU_PAGES << 28) | domid;
  if (dfn === ALL_PAGES) {
    yield* sendIommuCommand(amd, unit, 0, w1, ALL_PAGES_LO | 3, ALL_PAGES_HI);
    return;
  }
  const frame = order === 0 ? dfn : sizedFrame(dfn, order);
  const sizeAndPde = order === 0 ? 0 : 3;
  const lo = ((frame % 0x10_0000) << 12) | sizeAndPde;
  yield* sendIommuCommand(amd, unit, 0, w1, lo, Math.floor(frame / 0x10_0000));
}

/** @xen invalidate_iotlb_pages */
function* invalidateIotlbPages(
  amd: AmdVi,
  unit: AmdUnit,
  maxpend: number,
  reqId: number,
  dfn: number,
  order: number,
): Co<void> {
  const s = amd.seams.amdIotlbSizeFlag(order !== 0 || dfn === ALL_PAGES ? 1 : 0);
  const w0 = (maxpend << 24) | reqId;
  const w1 = (CMD.INVALIDATE_IOTLB_PAGES << 28) | reqId;
  if (dfn === ALL_PAGES) {
    yield* sendIommuCommand(amd, unit, w0, w1, ALL_PAGES_LO | s, ALL_PAGES_HI);
    return;
  }
  const frame = order === 0 ? dfn : sizedFrame(dfn, order);
  const lo = ((frame % 0x10_0000) << 12) | s;
  yield* sendIommuCommand(amd, unit, w0, w1, lo, Math.floor(frame / 0x10_0000));
}

/** The device's own translation cache, if it has one that is on. @xen amd_iommu_flush_iotlb */
export function* amdIommuFlushIotlb(
  amd: AmdVi,
  devfn: number,
  pdev: Pdev,
  dfn: number,
  order: number,
): Co<void> {
  if (!amd.opts.ats || (amd.seams.amdAsksWhoHasAts() && pciAtsDevice(amd, pdev) === 0)) return;
  if (!pciAtsEnabled(amd, pdev)) return;
  const unit = findIommuForDevice(amd, pdev.seg, pdev.sbdf & 0xffff);
  const bdf = (pdev.bus << 8) | devfn;
  if (unit === undefined) {
    amdWarn(amd, `can't find IOMMU for ${formatSbdf(sbdfOf(pdev.seg, bdf))}`);
    return;
  }
  if (!hasIotlbCap(unit)) return;
  const reqId = getDmaRequestorId(getIvrsMappings(amd, unit.seg)!, bdf);
  yield* invalidateIotlbPages(amd, unit, pdev.atsQueueDepth & 0xff, reqId, dfn, order);
  yield* flushCommandBuffer(amd, unit, amd.opts.devIotlbTimeoutMs);
}

/** The unit can command devices' translation caches. @xen iommu_has_cap(PCI_CAP_IOTLB_SHIFT) */
export const hasIotlbCap = (unit: AmdUnit): boolean => (unit.capHeader & (1 << 24)) !== 0;

/** @xen amd_iommu_flush_all_iotlbs */
function* amdIommuFlushAllIotlbs(amd: AmdVi, d: IommuDomain, dfn: number, order: number): Co<void> {
  for (let pdev = d.pdevList.first; pdev !== undefined; pdev = pdev.listNext) {
    let devfn = pdev.devfn;
    do {
      yield* amdIommuFlushIotlb(amd, devfn, pdev, dfn, order);
      devfn += pdev.phantomStride;
    } while (devfn !== pdev.devfn && devfn >>> 3 === pdev.devfn >>> 3);
  }
}

/** After changes of a domain's page tables: every unit, then the devices. @xen _amd_iommu_flush_pages */
export function* amdIommuFlushPages(amd: AmdVi, d: IommuDomain, dfn: number, order: number): Co<void> {
  for (let i = 0; i < amd.units.length; i++) {
    const unit = amd.units[i]!;
    yield* invalidateIommuPages(amd, unit, dfn, d.domid, order);
    yield* flushCommandBuffer(amd, unit, 0);
  }
  if (!amd.opts.ats) return;
  yield* amdIommuFlushAllIotlbs(amd, d, dfn, order);
  // Hidden devices belong to d[XEN] but work for the hardware domain.
  if (d === amd.s.hwdom) yield* amdIommuFlushAllIotlbs(amd, amd.s.domXen, dfn, order);
}

/** @xen amd_iommu_flush_all_pages */
export function* amdIommuFlushAllPages(amd: AmdVi, d: IommuDomain): Co<void> {
  yield* amdIommuFlushPages(amd, d, ALL_PAGES, 0);
}

/** The cached DTE, and the pages of the domain id it carried; DOMID.INVALID where it did not translate. @xen amd_iommu_flush_device */
export function* amdIommuFlushDevice(amd: AmdVi, unit: AmdUnit, reqId: number, domid: number): Co<void> {
  yield* sendIommuCommand(amd, unit, reqId, CMD.INVALIDATE_DEVTAB_ENTRY << 28, 0, 0);
  yield* flushCommandBuffer(amd, unit, 0);
  if (domid === DOMID.INVALID) return;
  yield* invalidateIommuPages(amd, unit, ALL_PAGES, domid, 0);
  yield* flushCommandBuffer(amd, unit, 0);
}

/** Cached interrupt remapping entries of an id. @xen amd_iommu_flush_intremap */
export function* amdIommuFlushIntremap(amd: AmdVi, unit: AmdUnit, reqId: number): Co<void> {
  yield* sendIommuCommand(amd, unit, reqId, CMD.INVALIDATE_INTERRUPT_TABLE << 28, 0, 0);
  yield* flushCommandBuffer(amd, unit, 0);
}

/** @xen amd_iommu_flush_all_caches */
export function* amdIommuFlushAllCaches(amd: AmdVi, unit: AmdUnit): Co<void> {
  yield* sendIommuCommand(amd, unit, 0, CMD.INVALIDATE_IOMMU_ALL << 28, 0, 0);
  yield* flushCommandBuffer(amd, unit, 0);
}
