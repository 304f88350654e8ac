/** Waiting for a unit to do what it was told. @xen drivers/passthrough/vtd/dmar.h IOMMU_WAIT_OP, IOMMU_FLUSH_WAIT */
import { panic } from '../../../base/assert.js';
import { type Co, pause } from '../../../sim/co.js';
import { XENLOG } from '../types.js';
import { dmarReadl, VTDPREFIX, type Vtd, type VtdIommu } from './state.js';

/** Shortest simulated time between two looks at a register or a status word: one turn of cpu_relax(). */
const RELAX_NS = 1000;
/** @xen DMAR_OPERATION_TIMEOUT */
const OPERATION_TIMEOUT_NS = 1e9;
/** Xen waits for ever; we call the host dead after a simulated minute and a half. */
const HUNG_NS = 90e9;
export const MS = 1e6;

/** Waits until the bits of `mask` read as all set or all clear; a unit that never gets there kills the host. */
export function* iommuWaitOp(iommu: VtdIommu, offset: number, mask: number, wanted: boolean): Co<void> {
  const { clock } = iommu.vtd.s;
  const start = clock.nowNs;
  while (wanted === ((dmarReadl(iommu, offset) & mask) === 0)) {
    if (clock.nowNs > start + OPERATION_TIMEOUT_NS) panic('DMAR hardware malfunction');
    yield* pause(clock, relaxNs(iommu, start));
  }
}

/**
 * How long to look away, having waited since `startNs`: the longer, the longer, within a thousandth. Bounds the
 * waits that Xen leaves unbounded.
 */
export function relaxNs(iommu: VtdIommu, startNs: number): number {
  const waited = iommu.vtd.s.clock.nowNs - startNs;
  if (waited > HUNG_NS) {
    panic(`IOMMU#${iommu.index} never completes an invalidation: the CPU waits for ever`);
  }
  return Math.max(RELAX_NS, Math.floor(waited / 1024));
}

/** Waits for `bit` of a register to clear, and says so when it takes long. The caller holds the register lock. */
export function* iommuFlushWait(
  what: 'write buffer' | 'context' | 'iotlb',
  iommu: VtdIommu,
  offset: number,
  bit: number,
): Co<void> {
  const { clock } = iommu.vtd.s;
  const { threshold } = iommu.vtd;
  const kind = what === 'write buffer' ? 'writeBuffer' : what;
  const start = clock.nowNs;
  const timeout = start + OPERATION_TIMEOUT_NS * threshold[kind];
  let warned = false;
  while ((dmarReadl(iommu, offset) & bit) !== 0) {
    if (!warned && clock.nowNs > timeout) {
      threshold[kind] |= threshold[kind] << 1;
      warnSlow(iommu, `${what} flush`);
      warned = true;
    }
    yield* pause(clock, relaxNs(iommu, start));
  }
  if (warned) reportSlow(iommu, `${what} flush`, clock.nowNs - start);
}

export const warnSlow = (iommu: VtdIommu, what: string): void =>
  iommu.vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX} IOMMU#${iommu.index}: ${what} taking too long`);
/** Xen divides nanoseconds by ten million and calls the result milliseconds. */
export const reportSlow = (iommu: VtdIommu, what: string, ns: number): void =>
  iommu.vtd.s.printk(
    XENLOG.WARNING,
    `${VTDPREFIX} IOMMU#${iommu.index}: ${what} took ${Math.floor(ns / 1e7)}ms`,
  );

/** Whether the once-only complaint about a full queue is still due. */
export function warnQueueFull(vtd: Vtd, iommu: VtdIommu): void {
  if (vtd.qiFullWarned) return;
  vtd.qiFullWarned = true;
  vtd.s.printk(XENLOG.ERR, `${VTDPREFIX} IOMMU#${iommu.index}: no QI slot available`);
}
