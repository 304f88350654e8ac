/**
 * Fault logging and the unit's own interrupts (VT-d 7.2, 7.3). Primary logging fills registers; advanced logging, which
 * revision 4.0 of the specification took away, fills memory (7.2.2 of the revisions before).
 */
import { get } from '../../../base/layout.js';
import { AFLOG, VTD_REG } from '../../format/vtd.js';
import { deviates } from './quirks.js';
import { FaultLog, type UnitInterrupt, type VtdState } from './state.js';

const PFO = 0x01;
const PPF = 0x02;
const AFO = 0x04;
const APF = 0x08;
const IQE = 0x10;
const ICE = 0x20;
const ITE = 0x40;
/** Status bits that ask for a fault interrupt. */
const STATUS = PFO | PPF | AFO | APF | IQE | ICE | ITE;
export const STATUS_BIT = { PFO, PPF, IQE, ICE, ITE } as const;

const IM = 0x8000_0000 | 0;
const IP = 0x4000_0000;
const F = 0x8000_0000 | 0;
const READ = 0x4000_0000;

const FSTS = VTD_REG.FSTS >>> 2;

/**
 * A DMA was refused. `hidden`: its context entry was read and has FPD set, so faults up to there (reasons 1, 8, 9 and
 * 10) are never hidden (7.1.3, "qualified"). `addressType` as PCIe has it, 0 for an ordinary request.
 */
export function recordFault(
  s: VtdState,
  rid: number,
  dfn: number,
  write: boolean,
  reason: number,
  hidden: boolean,
  addressType = 0,
): void {
  const lo = (dfn % 0x10_0000) << 12;
  const hi = Math.floor(dfn / 0x10_0000) | 0;
  if (s.events.on) {
    s.events.emit({
      kind: 'fault',
      unit: s.index,
      seg: s.segment,
      rid,
      reason,
      write,
      addrLo: lo >>> 0,
      addrHi: hi >>> 0,
    });
  }
  if (hidden) return;
  log(s, rid, lo, hi, reason | (addressType << 28) | (write ? 0 : READ));
}

/** An interrupt request was refused. `index` is the interrupt index it named, 0 when it named none. */
export function recordInterruptFault(
  s: VtdState,
  rid: number,
  index: number,
  reason: number,
  hidden: boolean,
): void {
  const hi = (index & 0xffff) << 16;
  if (s.events.on) {
    s.events.emit({
      kind: 'fault',
      unit: s.index,
      seg: s.segment,
      rid,
      reason,
      write: true,
      addrLo: 0,
      addrHi: hi >>> 0,
    });
  }
  if (!hidden) log(s, rid, 0, hi, reason);
}

/** Takes the next record, or notes the overflow (7.2.1). */
function log(s: VtdState, rid: number, lo: number, hi: number, word3: number): void {
  if (s.faultLog?.on === true) {
    logInMemory(s, s.faultLog, rid, lo, hi, word3);
    return;
  }
  const regs = s.regs;
  const before = regs[FSTS]!;
  if ((before & PFO) !== 0) return;
  if (s.collapseFaults && hasPending(s, rid)) return;
  const at = (s.fro >>> 2) + s.faultAt * 4;
  if ((regs[at + 3]! & F) !== 0) {
    setStatus(s, PFO);
    return;
  }
  regs[at] = lo;
  regs[at + 1] = hi;
  regs[at + 2] = rid;
  regs[at + 3] = word3 | F;
  if ((before & PPF) === 0) regs[FSTS] = (before & ~0xff00) | (s.faultAt << 8);
  s.faultAt = (s.faultAt + 1) % s.records;
  setStatus(s, PPF);
}

const RECORD_BYTES = 16;

/** CAP.AFL: faults can be logged in memory. */
export const logsAdvanced = (s: VtdState): boolean => (s.opts.cap[0] & 8) !== 0;

/** GCMD.EAFL. True when faults are logged in memory from now on. */
export function switchFaultLog(s: VtdState, on: boolean): boolean {
  if (!logsAdvanced(s)) return false;
  s.faultLog ??= new FaultLog();
  s.faultLog.on = on;
  return on;
}

/** Software set the fault log: AFLOG says where it lies and how long it is, and its first record is the next one. */
export function setFaultLog(s: VtdState): void {
  const at = VTD_REG.AFLOG >>> 2;
  s.faultLog ??= new FaultLog();
  s.faultLog.frame = (s.regs[at + 1]! >>> 0) * 0x10_0000 + (s.regs[at]! >>> 12);
  s.faultLog.records = (4096 << get(s.regs, at, AFLOG.FLS)) / RECORD_BYTES;
  s.faultLog.at = 0;
}

/**
 * Writes the next record of the fault log: a fault recording register without F, as reason 0 is what tells a record
 * that software cleared. The first one in the log sets APF; one that has no room left sets AFO, and nothing is logged
 * while that is set.
 */
function logInMemory(s: VtdState, into: FaultLog, rid: number, lo: number, hi: number, word3: number): void {
  if ((s.regs[FSTS]! & AFO) !== 0) return;
  if (into.at >= into.records) {
    setStatus(s, AFO);
    return;
  }
  const offset = into.at * RECORD_BYTES;
  const frame = into.frame + (offset >>> 12);
  if (frame < s.ram.frames) {
    const at = (s.ram.slot(frame) << 10) + ((offset & 4095) >>> 2);
    s.ram.words[at] = lo;
    s.ram.words[at + 1] = hi;
    s.ram.words[at + 2] = rid;
    s.ram.words[at + 3] = word3;
  }
  into.at++;
  if (offset === 0) setStatus(s, APF);
}

function hasPending(s: VtdState, rid: number): boolean {
  for (let i = 0; i < s.records; i++) {
    const at = (s.fro >>> 2) + i * 4;
    if ((s.regs[at + 3]! & F) !== 0 && (s.regs[at + 2]! & 0xffff) === rid) return true;
  }
  return false;
}

/** Sets status bits; the first of them since software cleared all raises the fault event. */
export function setStatus(s: VtdState, bits: number): void {
  const before = s.regs[FSTS]!;
  s.regs[FSTS] = before | bits;
  if ((before & STATUS) === 0) raise(s, 'fault', VTD_REG.FECTL);
}

/** After software cleared status or record bits: PPF follows the records, and a serviced event is pending no more. */
export function statusCleared(s: VtdState, byStatus = true): void {
  let pending = false;
  for (let i = 0; i < s.records; i++) {
    if ((s.regs[(s.fro >>> 2) + i * 4 + 3]! & F) !== 0) pending = true;
  }
  if (!pending) s.regs[FSTS] = s.regs[FSTS]! & ~PPF;
  if (!byStatus && deviates(s, 'fault-pending-needs-status-write')) return;
  if ((s.regs[FSTS]! & STATUS) === 0) s.regs[VTD_REG.FECTL >>> 2] = s.regs[VTD_REG.FECTL >>> 2]! & ~IP;
}

/** After software cleared IWC: a completion event that was still masked is pending no more. */
export function completionCleared(s: VtdState): void {
  const control = VTD_REG.IECTL >>> 2;
  if ((s.regs[VTD_REG.ICS >>> 2]! & 1) === 0) s.regs[control] = s.regs[control]! & ~IP;
}

/** An event happened: its message goes out now, or stays pending while it is masked. `control` is FECTL or IECTL. */
export function raise(s: VtdState, kind: UnitInterrupt, control: number): void {
  const c = control >>> 2;
  s.regs[c] = s.regs[c]! | IP;
  deliverPending(s, kind, control);
}

/** Sends a pending message unless it is masked; also called when the mask is cleared. */
export function deliverPending(s: VtdState, kind: UnitInterrupt, control: number): void {
  const c = control >>> 2;
  if ((s.regs[c]! & IP) === 0 || (s.regs[c]! & IM) !== 0) return;
  s.regs[c] = s.regs[c]! & ~IP;
  // Data and address registers follow their control register.
  s.onInterrupt(kind, s.regs[c + 2]! >>> 0, s.regs[c + 1]! >>> 0, s.regs[c + 3]! >>> 0);
}
