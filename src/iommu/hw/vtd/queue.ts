/** The invalidation queue (VT-d 6.5.2): descriptors are fetched in order, from IQH up to IQT. */
import { GRAN, QI, VTD_REG } from '../../format/vtd.js';
import {
  contextDevice,
  contextDomain,
  contextGlobal,
  iecGlobal,
  iecIndex,
  iotlbDomain,
  iotlbGlobal,
  iotlbPages,
} from './caches.js';
import { raise, STATUS_BIT, setStatus } from './faults.js';
import type { VtdState } from './state.js';

const IQH = VTD_REG.IQH >>> 2;
const IQT = VTD_REG.IQT >>> 2;
const IQA = VTD_REG.IQA >>> 2;
const FSTS = VTD_REG.FSTS >>> 2;
const ICS = VTD_REG.ICS >>> 2;

/** Reserved bits of each descriptor type, one line a type: words 0 to 3. */
const RESERVED: readonly (readonly [number, number, number, number])[] = [
  [-1, -1, -1, -1],
  [0xffc0, 0xfffc_0000 | 0, -1, -1], // context cache
  [0xff00, -1, 0xf80, 0], // IOTLB
  [0xffe0_0ff0 | 0, 0x000f_0000, 0xffe, 0], // device TLB; bits 15:12 and 63:52 name its physical function
  [0x07ff_ffe0, 0xffff_0000 | 0, -1, -1], // interrupt entry cache
  [0xffff_ff80 | 0, 0, 0x3, 0], // wait
];

/**
 * Software moved the tail, switched the queue on, or cleared an error: fetches and executes what is queued. After a
 * device did not answer (ITE), what was fetched before is still executed, and nothing more until it is cleared.
 */
export function drainQueue(s: VtdState): void {
  if ((s.regs[FSTS]! & STATUS_BIT.ITE) === 0) s.fetchedTo = s.regs[IQT]!;
  if (s.draining) return;
  if (s.latencyNs > 0) {
    startTimer(s);
    return;
  }
  while (step(s));
}

function startTimer(s: VtdState): void {
  if (!runnable(s)) return;
  s.draining = true;
  s.clock.after(s.latencyNs, () => {
    s.draining = false;
    step(s);
    drainQueue(s);
  });
}

const runnable = (s: VtdState): boolean =>
  s.qie && s.regs[IQH] !== s.fetchedTo && (s.regs[FSTS]! & STATUS_BIT.IQE) === 0;

/** One descriptor; false when there is none or the queue stands still. */
function step(s: VtdState): boolean {
  if (!runnable(s)) return false;
  const regs = s.regs;
  const head = regs[IQH]!;
  const bytes = 4096 << (regs[IQA]! & 7);
  if (head >= bytes || s.fetchedTo >= bytes) return refuse(s);
  const frame = (regs[IQA + 1]! >>> 0) * 0x10_0000 + (regs[IQA]! >>> 12) + (head >>> 12);
  if (frame >= s.ram.frames) return refuse(s);
  const at = s.ram.peek(frame) * 1024 + ((head & 4095) >>> 2);
  const words = s.ram.words;
  const w0 = words[at]!;
  const w1 = words[at + 1]!;
  const w2 = words[at + 2]!;
  const w3 = words[at + 3]!;
  if (s.events.on) {
    s.events.emit({
      kind: 'descriptor',
      unit: s.index,
      words: [w0 >>> 0, w1 >>> 0, w2 >>> 0, w3 >>> 0],
    });
  }
  if (!execute(s, w0, w1, w2, w3)) return refuse(s);
  regs[IQH] = (head + 16) & (bytes - 1);
  return true;
}

/** Invalidation queue error: the head stays at the descriptor until software clears IQE (7.1.2). */
function refuse(s: VtdState): false {
  if (s.events.on)
    s.events.emit({ kind: 'hw', unit: s.index, what: 'queueError', args: [s.regs[IQH]! >>> 4] });
  setStatus(s, STATUS_BIT.IQE);
  return false;
}

/** False for a descriptor that is malformed or of no type this unit knows. */
function execute(s: VtdState, w0: number, w1: number, w2: number, w3: number): boolean {
  const type = w0 & 0xf;
  const reserved = RESERVED[type];
  if (reserved === undefined) return false;
  if (((w0 & reserved[0]) | (w1 & reserved[1]) | (w2 & reserved[2]) | (w3 & reserved[3])) !== 0) return false;
  switch (type) {
    case QI.CONTEXT:
      return contextDescriptor(s, w0, w1);
    case QI.IOTLB:
      return iotlbDescriptor(s, w0, w2, w3);
    case QI.DEV_IOTLB:
      return deviceTlbDescriptor(s, w1, w2, w3);
    case QI.IEC:
      if ((w0 & 0x10) === 0) iecGlobal(s);
      else iecIndex(s, w1 & 0xffff, w0 >>> 27);
      return true;
    case QI.WAIT:
      wait(s, w0, w1, w2, w3);
      return true;
    default:
      return false;
  }
}

function contextDescriptor(s: VtdState, w0: number, w1: number): boolean {
  const did = w0 >>> 16;
  const granularity = (w0 >>> 4) & 3;
  if (granularity === GRAN.GLOBAL) contextGlobal(s);
  else if (granularity === GRAN.DOMAIN) contextDomain(s, did);
  else if (granularity === GRAN.DEVICE_OR_PAGE) contextDevice(s, did, w1 & 0xffff, (w1 >>> 16) & 3);
  else return false;
  return true;
}

function iotlbDescriptor(s: VtdState, w0: number, w2: number, w3: number): boolean {
  const granularity = (w0 >>> 4) & 3;
  if (granularity === 0) return false;
  const dfn = (w3 >>> 0) * 0x10_0000 + (w2 >>> 12);
  return iotlb(s, granularity, w0 >>> 16, dfn, w2 & 0x3f) !== 0;
}

/** Performs an IOTLB invalidation and says at which granularity; 0: the request was wrong and nothing was done. */
export function iotlb(s: VtdState, granularity: number, did: number, dfn: number, am: number): number {
  if (granularity === GRAN.GLOBAL) iotlbGlobal(s);
  else if (granularity === GRAN.DOMAIN || !s.pageSelective) iotlbDomain(s, did);
  else if (am <= s.mamv) iotlbPages(s, did, dfn, am);
  else return 0;
  return granularity === GRAN.DEVICE_OR_PAGE && !s.pageSelective ? GRAN.DOMAIN : granularity;
}

/** With S set, the lowest clear bit of the address says how many pages are meant (6.5.2.5). */
function deviceTlbDescriptor(s: VtdState, w1: number, w2: number, w3: number): boolean {
  if (!s.deviceTlbs) return false;
  let dfn = (w3 >>> 0) * 0x10_0000 + (w2 >>> 12);
  let frames = 1;
  if ((w2 & 1) !== 0) {
    let rest = dfn;
    frames = 2;
    while (rest % 2 === 1) {
      rest = (rest - 1) / 2;
      frames *= 2;
    }
    dfn -= dfn % frames;
  }
  if (s.events.on) {
    s.events.emit({ kind: 'hw', unit: s.index, what: 'deviceTlb', args: [w1 & 0xffff, dfn, frames] });
  }
  if (!s.onDeviceTlb(w1 & 0xffff, dfn, frames)) setStatus(s, STATUS_BIT.ITE);
  return true;
}

/**
 * Everything before it is done by now: status is written, then the completion interrupt sent (6.5.2.8). A wait behind
 * a device that did not answer is aborted.
 */
function wait(s: VtdState, w0: number, data: number, w2: number, w3: number): void {
  if ((s.regs[FSTS]! & STATUS_BIT.ITE) !== 0) return;
  if ((w0 & 0x20) !== 0) {
    const addr = (w3 >>> 0) * 0x1_0000_0000 + ((w2 & ~3) >>> 0);
    if (addr < s.ram.frames * 4096) s.ram.write32(addr, data);
  }
  if (s.events.on) s.events.emit({ kind: 'hw', unit: s.index, what: 'wait', args: [data >>> 0] });
  if ((w0 & 0x10) === 0) return;
  const before = s.regs[ICS]!;
  s.regs[ICS] = before | 1;
  if ((before & 1) === 0) raise(s, 'completion', VTD_REG.IECTL);
}
