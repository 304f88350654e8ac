/**
 * Queued invalidation. Each request is a descriptor and a wait descriptor after it; hardware writes the wait's
 * status to a word of the CPU that waits. @xen drivers/passthrough/vtd/qinval.c
 */
import { assert } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { type Co, hold, pause } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { GCMD, QI, VTD_REG } from '../../format/vtd.js';
import { type Pdev, XENLOG } from '../types.js';
import {
  allocPgtableMaddr,
  dmarReadl,
  dmarWritel,
  dmarWriteMaddr,
  FLUSH,
  hexReg,
  type Vtd,
  type VtdIommu,
} from './state.js';
import { iommuWaitOp, MS, relaxNs, reportSlow, warnQueueFull, warnSlow } from './wait.js';

/** Descriptors per page. */
const PAGE_ENTRIES = 256;
const ENTRY_BYTES = 16;
const FRAME_BYTES = 4096;
const STAT_INIT = 0;
const STAT_DONE = 1;
/** Type, status write and fence. */
const WAIT_WORD = QI.WAIT | (1 << 5) | (1 << 6);
const { IQH, IQT } = VTD_REG;

/** Waits until the queue has room for one more. @xen qinval_next_index */
function* waitForSlot(iommu: VtdIommu, next: number): Co<void> {
  const start = iommu.vtd.s.clock.nowNs;
  while (iommu.reg.read32(IQH) >>> 4 === next) {
    warnQueueFull(iommu.vtd, iommu);
    yield* pause(iommu.vtd.s.clock, relaxNs(iommu, start));
  }
}

/** Index into RAM's words of descriptor `index`. @xen qi_map_entry */
const entryAt = (iommu: VtdIommu, index: number): number =>
  index < PAGE_ENTRIES
    ? (iommu.queueAt + index * ENTRY_BYTES) >>> 2
    : iommu.ram.slot(iommu.qinvalMfn + (index >>> 8)) * FRAME_WORDS + (index & (PAGE_ENTRIES - 1)) * 4;

/** Writes one descriptor and moves the tail over it. @xen qinval_next_index, qinval_update_qtail */
function* queueRequest(iommu: VtdIommu, w0: number, w1: number, w2: number, w3: number): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  const { reg } = iommu;
  const tail = reg.read32(IQT) >>> 4;
  const next = (tail + 1) & iommu.queueMask;
  if (reg.read32(IQH) >>> 4 === next) yield* waitForSlot(iommu, next);
  writeEntry(iommu.ram.words, entryAt(iommu, tail), w0, w1, w2, w3);
  reg.write32(IQT, next << 4);
}

function writeEntry(words: Int32Array, at: number, w0: number, w1: number, w2: number, w3: number): void {
  words[at] = w0 | 0;
  words[at + 1] = w1 | 0;
  words[at + 2] = w2 | 0;
  words[at + 3] = w3 | 0;
}

/** Index into RAM's words of the status that the current CPU waits for. */
const statusSlot = (vtd: Vtd): number => (vtd.pollAt + (vtd.s.cpus.current.id << 2)) >>> 2;

/** Waits until everything queued before is done. @xen queue_invalidate_wait, invalidate_sync */
export function* invalidateSync(iommu: VtdIommu, devIotlb: boolean): Co<Rc> {
  const { vtd } = iommu;
  const cpu = vtd.s.cpus.current.id;
  iommu.ram.words[statusSlot(vtd)] = STAT_INIT;
  yield* queueRequest(iommu, WAIT_WORD, STAT_DONE, vtd.pollLo + cpu * 4, vtd.pollHi);
  return yield* pollStatus(iommu, devIotlb);
}

/**
 * A request and the wait for it. Where nobody watches, the tail moves over both at once; nobody could see the register
 * lock held then either, so that it is enough that it may be taken.
 */
function* requestSync(iommu: VtdIommu, w0: number, w1: number, w2: number, w3: number): Co<Rc> {
  const { reg, vtd, ram, queueMask } = iommu;
  const { cpus, events } = vtd.s;
  if (events.on || cpus.exploring || !iommu.registerLock.mayTake())
    return yield* requestApart(iommu, w0, w1, w2, w3);
  const tail = reg.read32(IQT) >>> 4;
  const room = ((reg.read32(IQH) >>> 4) - tail - 1) & queueMask;
  if (room < 2 || tail > PAGE_ENTRIES - 2) return yield* requestApart(iommu, w0, w1, w2, w3);
  const at = (iommu.queueAt + tail * ENTRY_BYTES) >>> 2;
  const slot = statusSlot(vtd);
  ram.words[slot] = STAT_INIT;
  writeEntry(ram.words, at, w0, w1, w2, w3);
  writeEntry(ram.words, at + 4, WAIT_WORD, STAT_DONE, vtd.pollLo + cpus.current.id * 4, vtd.pollHi);
  reg.write32(IQT, ((tail + 2) & queueMask) << 4);
  return ram.words[slot] === STAT_DONE ? 0 : yield* pollStatus(iommu, false);
}

function* requestApart(iommu: VtdIommu, w0: number, w1: number, w2: number, w3: number): Co<Rc> {
  yield* queueRequest(iommu, w0, w1, w2, w3);
  return yield* invalidateSync(iommu, false);
}

function* pollStatus(iommu: VtdIommu, devIotlb: boolean): Co<Rc> {
  const { vtd } = iommu;
  const { clock, ram } = vtd.s;
  const slot = statusSlot(vtd);
  const what = `QI${devIotlb ? ' dev' : ''} wait descriptor`;
  const start = clock.nowNs;
  const timeout = start + (devIotlb ? vtd.opts.devIotlbTimeoutMs : 100) * vtd.threshold.qi * MS;
  let warned = false;
  while (ram.words[slot] !== STAT_DONE) {
    if (!warned && clock.nowNs > timeout) {
      vtd.threshold.qi |= vtd.threshold.qi << 1;
      warnSlow(iommu, what);
      printQiRegs(iommu);
      if (devIotlb && vtd.seams.vtdGivesUpOnDevice()) return E.TIMEDOUT;
      warned = true;
    }
    yield* pause(clock, relaxNs(iommu, start));
  }
  if (warned) reportSlow(iommu, what, clock.nowNs - start);
  return 0;
}

/** @xen print_qi_regs */
function printQiRegs(iommu: VtdIommu): void {
  const { s } = iommu.vtd;
  s.printk(XENLOG.WARNING, ` IQA = ${hexReg(iommu, VTD_REG.IQA)}`);
  s.printk(XENLOG.WARNING, ` IQH = ${hexReg(iommu, VTD_REG.IQH)}`);
  s.printk(XENLOG.WARNING, ` IQT = ${hexReg(iommu, VTD_REG.IQT)}`);
}

/** `gran` as GRAN. @xen queue_invalidate_context_sync */
export function* queueInvalidateContextSync(
  iommu: VtdIommu,
  did: number,
  sid: number,
  fm: number,
  gran: number,
): Co<Rc> {
  return yield* requestSync(iommu, QI.CONTEXT | (gran << 4) | (did << 16), sid | (fm << 16), 0, 0);
}

/** `gran` as GRAN; `dfn` and `order` matter for pages only. @xen queue_invalidate_iotlb_sync */
export function* queueInvalidateIotlbSync(
  iommu: VtdIommu,
  gran: number,
  did: number,
  order: number,
  dfn: number,
): Co<Rc> {
  const hi = Math.floor(dfn / 0x10_0000) | 0;
  const lo = ((dfn & 0xf_ffff) << 12) | order;
  return yield* requestSync(iommu, QI.IOTLB | (gran << 4) | iommu.drain | (did << 16), 0, lo, hi);
}

/** `lo` and `hi`: address as the descriptor holds it, S in bit 0. @xen qinval_device_iotlb_sync */
export function* qinvalDeviceIotlbSync(iommu: VtdIommu, pdev: Pdev, lo: number, hi: number): Co<Rc> {
  const depth = pdev.atsQueueDepth & 0x1f;
  yield* queueRequest(iommu, QI.DEV_IOTLB | (depth << 16), pdev.sbdf & 0xffff, lo, hi);
  return yield* invalidateSync(iommu, true);
}

function* queueInvalidateIecSync(iommu: VtdIommu, gran: number, im: number, iidx: number): Co<Rc> {
  yield* queueRequest(iommu, QI.IEC | (gran << 4) | (im << 27), iidx, 0, 0);
  const rc = yield* invalidateSync(iommu, false);
  // Any read of the unit drains what was posted to it.
  dmarReadl(iommu, VTD_REG.CAP);
  return rc;
}
/** @xen iommu_flush_iec_global */
export function* iommuFlushIecGlobal(iommu: VtdIommu): Co<Rc> {
  return yield* queueInvalidateIecSync(iommu, 0, 0, 0);
}
/** @xen iommu_flush_iec_index */
export function* iommuFlushIecIndex(iommu: VtdIommu, im: number, iidx: number): Co<Rc> {
  return yield* queueInvalidateIecSync(iommu, 1, im, iidx);
}

/** Two slots per CPU and one that stays free, rounded up to pages. @xen enable_qinval */
function sizeQueues(vtd: Vtd): void {
  const bytes = (vtd.s.cpu.count * 2 + 1) * ENTRY_BYTES;
  while (4096 << vtd.qiOrder < bytes) vtd.qiOrder++;
  vtd.qiEntries = PAGE_ENTRIES << vtd.qiOrder;
}

/** A status word per CPU: a page is enough for a thousand. */
function allocPollWords(vtd: Vtd): boolean {
  if (vtd.pollAt !== 0) return true;
  assert(vtd.s.cpu.count <= FRAME_WORDS, 'a page holds the status word of each CPU');
  const mfn = vtd.s.allocXenPages(0);
  if (mfn === 0) return false;
  vtd.pollAt = vtd.s.ram.hold(mfn) * FRAME_BYTES;
  vtd.pollLo = (mfn & 0xf_ffff) << 12;
  vtd.pollHi = Math.floor(mfn / 0x10_0000);
  return true;
}

/** @returns 0, -ENOENT where there is no queue or it was forbidden, -ENOMEM. @xen enable_qinval */
export function* enableQinval(iommu: VtdIommu): Co<Rc> {
  const { vtd } = iommu;
  if (!iommu.queuedInval || !vtd.opts.qinval) return E.NOENT;
  if ((dmarReadl(iommu, VTD_REG.GSTS) & GCMD.QIE) !== 0 && iommu.qinvalMfn !== 0) return 0;

  if (iommu.qinvalMfn === 0) {
    if (vtd.qiEntries === 0) sizeQueues(vtd);
    if (!allocPollWords(vtd)) return E.NOMEM;
    iommu.qinvalMfn = allocPgtableMaddr(vtd, vtd.qiOrder);
    if (iommu.qinvalMfn === 0) return E.NOMEM;
    iommu.queueMask = vtd.qiEntries - 1;
    iommu.queueAt = iommu.ram.hold(iommu.qinvalMfn) * FRAME_BYTES;
  }
  iommu.flush = FLUSH.queued;

  using _register = yield* hold(iommu.registerLock);
  // Writing the base resets head and tail.
  dmarWriteMaddr(iommu, VTD_REG.IQA, iommu.qinvalMfn, vtd.qiOrder);
  iommu.reg.write64(VTD_REG.IQT, 0, 0);
  const sts = dmarReadl(iommu, VTD_REG.GSTS);
  dmarWritel(iommu, VTD_REG.GCMD, (sts | GCMD.QIE) >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.GSTS, GCMD.QIE, true);
  return 0;
}

/** Register-based invalidation is gone from version 6 on. @xen has_register_based_invalidation */
export const hasRegisterBasedInvalidation = (iommu: VtdIommu): boolean => (iommu.version & 0xf0) >> 4 < 6;

/** @xen disable_qinval */
export function* disableQinval(iommu: VtdIommu): Co<void> {
  if (!iommu.queuedInval) return;
  yield* turnQueueOff(iommu);
  iommu.flush = hasRegisterBasedInvalidation(iommu) ? FLUSH.register : FLUSH.noop;
}

function* turnQueueOff(iommu: VtdIommu): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  const sts = dmarReadl(iommu, VTD_REG.GSTS);
  if ((sts & GCMD.QIE) === 0) return;
  dmarWritel(iommu, VTD_REG.GCMD, (sts & ~GCMD.QIE) >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.GSTS, GCMD.QIE, false);
}
