/** The invalidation queue (VT-d 6.5.2): descriptors are fetched in order, from IQH up to IQT. */
import { GRAN, QI, QUEUE_ERROR, VTD_REG } from '../../format/vtd.js';
import {
  contextDevice,
  contextDomain,
  contextGlobal,
  iecGlobal,
  iecIndex,
  iotlbDomain,
  iotlbGlobal,
  iotlbPages,
  tell,
} from './caches.js';
import { raise, STATUS_BIT, setStatus } from './faults.js';
import { deviates } from './quirks.js';
import type { VtdState } from './state.js';

const IQH = VTD_REG.IQH >>> 2;
const IQT = VTD_REG.IQT >>> 2;
const IQA = VTD_REG.IQA >>> 2;
const FSTS = VTD_REG.FSTS >>> 2;
const ICS = VTD_REG.ICS >>> 2;
const IQERCD = VTD_REG.IQERCD >>> 2;
/** IQA.DW: descriptors of 256 bits. */
const DW = 0x800;
const { CONTEXT, IOTLB, DEV_IOTLB, IEC, WAIT, PASID_IOTLB, PASID_CACHE } = QI;
const { GLOBAL, DOMAIN, DEVICE_OR_PAGE } = GRAN;
const { ICE, IQE, ITE } = STATUS_BIT;
/** First words that drivers queue over and over, and the bits that may differ: fence; drains and domain; domain. */
const STATUS_WAIT = WAIT | 0x20;
const STATUS_WAIT_BITS = ~0x40;
const DOMAIN_IOTLB = IOTLB | (DOMAIN << 4);
const DOMAIN_IOTLB_BITS = 0xff3f;
const DEVICE_CONTEXT = CONTEXT | (DEVICE_OR_PAGE << 4);
const DEVICE_CONTEXT_BITS = 0xffff;

/**
 * Software moved the tail, switched the queue on, or cleared an error: fetches and executes what is queued. After a
 * device did not answer (ITE), what was fetched before is still executed, and nothing more until it is cleared.
 */
export function drainQueue(s: VtdState): void {
  if (drainPair(s)) return;
  const { regs } = s;
  const status = regs[FSTS]!;
  if ((status & ITE) === 0) s.fetchedTo = regs[IQT]!;
  if (s.draining) return;
  if (s.latencyNs > 0) {
    startTimer(s);
    return;
  }
  const head = regs[IQH]!;
  if (mayFetch(s, status, head)) drainLong(s, head);
}

/**
 * A request and the wait behind it, as drivers queue them over and over, in one step where nobody watches: the request
 * needs no device, and the status goes where the last one went. False, and nothing is done, when the queue holds
 * anything else, or stands still.
 */
function drainPair(s: VtdState): boolean {
  const { regs, queueAt } = s;
  const head = regs[IQH]!;
  const tail = regs[IQT]!;
  if (queueAt === 0 || s.events.on || s.latencyNs > 0) return false;
  if (head > 4096 - 32 || ((head + 32) & 4095) !== tail || (regs[FSTS]! & (ITE | IQE)) !== 0) return false;
  const { words } = s.ram;
  const at = (queueAt + head) >>> 2;
  const w0 = words[at]!;
  if ((w0 & 0xf) > IOTLB || (words[at + 4]! & STATUS_WAIT_BITS) !== STATUS_WAIT) return false;
  if (words[at + 6]! !== s.statusLo || words[at + 7]! !== s.statusHi) return false;
  s.fetchedTo = tail;
  if (isRequestRefused(s, w0, words[at + 1]!, words[at + 2]!, words[at + 3]!)) {
    s.lastType = w0 & 0xf;
    refuseDescriptor(s, at);
  } else {
    s.lastType = WAIT;
    words[s.statusAt] = words[at + 5]!;
    regs[IQH] = tail;
  }
  return true;
}

/** As many as there are, wherever the queue lies. */
function drainLong(s: VtdState, first: number): void {
  let head = first;
  do head = stepAt(s, head);
  while (head >= 0 && head !== s.fetchedTo);
}

/** step(), where a look at the frames tells where the descriptor is. */
function stepAt(s: VtdState, head: number): number {
  if (s.opts.buffered === true) s.ram.evict(); // an invalidation flushes the buffers first (6.8)
  const wide = s.descriptorBytes === 32;
  const unfit = unfitMode(s, wide);
  if (unfit !== 0) {
    refuse(s, unfit);
    return -1;
  }
  if (wide && (s.fetchedTo & 16) !== 0) {
    refuse(s, QUEUE_ERROR.TAIL_MISALIGNED);
    return -1;
  }
  const at = locate(s, head);
  if (at >= 0) return wide ? wideStep(s, head, at) : step(s, head, at);
  refuse(s, QUEUE_ERROR.FETCH);
  return -1;
}

/** Why the mode of the root table has no descriptors of this width at all (6.5.2.11, table 26); 0 when it has. */
function unfitMode(s: VtdState, wide: boolean): number {
  if (s.modeless) return QUEUE_ERROR.TABLE_MODE;
  return s.scalable && !wide && !deviates(s, 'narrow-queue-in-scalable-mode') ? QUEUE_ERROR.WIDTH : 0;
}

/** Where the queue at IQA lies, and how long it is: of no length while it is off. */
export function queueMoved(s: VtdState): void {
  s.queueFrame = (s.regs[IQA + 1]! >>> 0) * 0x10_0000 + (s.regs[IQA]! >>> 12);
  s.queueBytes = s.qie ? 4096 << (s.regs[IQA]! & 7) : 0;
  s.descriptorBytes = (s.regs[IQA]! & DW) === 0 ? 16 : 32;
  s.queueAt = 0;
}

/** What a read of half of IQA returns: where the queue lies, and with a quirk where it lay when it was switched on. */
export function shownQueue(s: VtdState, offset: number): number {
  const word = s.regs[offset >>> 2]!;
  if (!deviates(s, 'iqa-latched')) return word;
  const high = (offset & 4) !== 0;
  return high ? Math.floor(s.queueFrame / 0x10_0000) : ((s.queueFrame % 0x10_0000) << 12) | (word & (DW | 7));
}

/** True when everything queued was executed and the last of it was a wait. */
export const atRestAfterWait = (s: VtdState): boolean => s.regs[IQH] === s.regs[IQT] && s.lastType === WAIT;

function startTimer(s: VtdState): void {
  if (s.regs[IQH] === s.fetchedTo || (s.regs[FSTS]! & IQE) !== 0) return;
  s.draining = true;
  s.queueAt = 0;
  s.clock.after(s.latencyNs, () => {
    s.draining = false;
    const head = s.regs[IQH]!;
    if (s.qie && mayFetch(s, s.regs[FSTS]!, head)) stepAt(s, head);
    drainQueue(s);
  });
}

/** Is there a descriptor to fetch? Not after an error; head and tail beyond the queue are one. */
function mayFetch(s: VtdState, status: number, head: number): boolean {
  const { fetchedTo } = s;
  if (head === fetchedTo || (status & IQE) !== 0) return false;
  if (head < s.queueBytes && fetchedTo < s.queueBytes) return true;
  if (s.qie) refuse(s, QUEUE_ERROR.TAIL);
  return false;
}

/** The descriptor at `head`, which lies at `at`. @returns the head after it, negative when the queue stands still at it */
function step(s: VtdState, head: number, at: number): number {
  if (s.awaitsDevice && (s.ram.words[at]! & 0xf) === WAIT) return -1;
  if (s.events.on) emitDescriptor(s, at);
  const { words } = s.ram;
  const w0 = words[at]!;
  s.lastType = w0 & 0xf;
  if (isRefused(s, w0, words[at + 1]!, words[at + 2]!, words[at + 3]!)) {
    refuseDescriptor(s, at);
    return -1;
  }
  const next = (head + 16) & (s.queueBytes - 1);
  s.regs[IQH] = next;
  return next;
}

/** step() for a descriptor of 256 bits: no type that this unit knows has anything in its upper half. */
function wideStep(s: VtdState, head: number, at: number): number {
  const { words } = s.ram;
  if ((words[at + 4]! | words[at + 5]! | words[at + 6]! | words[at + 7]!) !== 0) {
    refuseDescriptor(s, at);
    return -1;
  }
  return step(s, head, at) < 0 ? -1 : skipHalf(s);
}

/** The head is behind the lower half of a descriptor. */
function skipHalf(s: VtdState): number {
  const next = (s.regs[IQH]! + 16) & (s.queueBytes - 1);
  s.regs[IQH] = next;
  return next;
}

/**
 * Index into RAM's words of the descriptor at `head`, -1 outside memory. Where a queue of one page lies is kept for
 * drainPair(), once a status was written and while no device keeps the unit waiting.
 */
function locate(s: VtdState, head: number): number {
  const { ram } = s;
  const frame = s.queueFrame + (head >>> 12);
  if (frame >= ram.frames) return -1;
  const at = ram.peek(frame) << 10;
  const plain = s.queueBytes === 4096 && s.descriptorBytes === 16 && s.opts.buffered !== true;
  if (plain && s.statusAt >= 0 && !s.awaitsDevice) s.queueAt = at << 2;
  return at + ((head & 4095) >>> 2);
}

function emitDescriptor(s: VtdState, at: number): void {
  const words = [0, 1, 2, 3].map((i) => s.ram.words[at + i]! >>> 0);
  s.events.emit({ kind: 'descriptor', unit: s.index, words });
}

/** Invalidation queue error: the head stays until software clears IQE (6.5.2.11). `why` is for IQERCD. */
function refuse(s: VtdState, why: number): void {
  if (s.events.on) tell(s, 'queueError', s.regs[IQH]! >>> 4);
  s.regs[IQERCD] = why;
  setStatus(s, IQE);
}

/** The descriptor at `at` has a type that this unit does not know, or reserved bits. */
function refuseDescriptor(s: VtdState, at: number): void {
  const w0 = s.ram.words[at]!;
  const type = (w0 & 0xf) | ((w0 >>> 5) & 0x70);
  const known =
    type === PASID_IOTLB || type === PASID_CACHE
      ? takesPasids(s)
      : type === DEV_IOTLB
        ? s.deviceTlbs
        : type === IEC
          ? s.intRemap
          : type === CONTEXT || type === IOTLB || type === WAIT;
  refuse(s, known ? QUEUE_ERROR.RESERVED : QUEUE_ERROR.TYPE);
}

/** A device completed an invalidation that nobody asked it for: ICE, and the queue goes on (6.5.2.10). */
export function unexpectedCompletion(s: VtdState, rid: number): void {
  if (!s.deviceTlbs) return;
  s.regs[IQERCD + 1] = (s.regs[IQERCD + 1]! & 0xffff) | (rid << 16);
  setStatus(s, ICE);
}

/** As isRefused(). What drivers queue over and over is told apart first: short enough for V8 to put it in line. */
function isRequestRefused(s: VtdState, w0: number, w1: number, w2: number, w3: number): boolean {
  if ((w0 & DOMAIN_IOTLB_BITS) === DOMAIN_IOTLB && (w1 | w2 | w3) === 0) {
    iotlbDomain(s, w0 >>> 16);
    return false;
  }
  if ((w0 & DEVICE_CONTEXT_BITS) === DEVICE_CONTEXT && ((w1 >>> 16) | w2 | w3) === 0) {
    contextDevice(s, w0 >>> 16, w1, 0);
    return false;
  }
  return isRefused(s, w0, w1, w2, w3);
}

/** Executes a descriptor. True for one of no type this unit knows, or with reserved bits set (6.5.2.1 to 6.5.2.8). */
function isRefused(s: VtdState, w0: number, w1: number, w2: number, w3: number): boolean {
  switch (w0 & 0xf) {
    case WAIT:
      return waitDescriptor(s, w0, w1, w2, w3);
    case IOTLB:
      return iotlbDescriptor(s, w0, w1, w2, w3);
    case CONTEXT:
      return contextDescriptor(s, w0, w1, w2 | w3);
    case DEV_IOTLB:
      return deviceTlbDescriptor(s, w0, w1, w2, w3);
    case IEC:
      return iecDescriptor(s, w0, w1, w2 | w3);
    case PASID_IOTLB:
    case PASID_CACHE:
      return scalableDescriptor(s, w0, w2, w3);
    default:
      return true;
  }
}

/** QEMU takes descriptors of scalable mode and of device TLBs from anyone. */
const lax = (s: VtdState): boolean => deviates(s, 'lax-descriptors');

/**
 * PASID-selective invalidation (6.5.2.2, 6.5.2.4). Translations are kept by domain here, whatever their PASID: what is
 * asked for is forgotten with the rest of its domain.
 */
function scalableDescriptor(s: VtdState, w0: number, w2: number, w3: number): boolean {
  if (!takesPasids(s)) return !lax(s);
  const cacheOnly = (w0 & 0xf) === PASID_CACHE;
  const granularity = (w0 >>> 4) & 3;
  if (cacheOnly ? granularity === 2 || (w2 | w3) !== 0 : granularity < 2) return true;
  if (cacheOnly) contextGlobal(s);
  else iotlbDomain(s, w0 >>> 16);
  return false;
}

/** Descriptors with a PASID are 256 bits wide, and are known in scalable mode alone. */
const takesPasids = (s: VtdState): boolean =>
  s.scalable && (s.descriptorBytes === 32 || deviates(s, 'narrow-queue-in-scalable-mode'));

function contextDescriptor(s: VtdState, w0: number, w1: number, w23: number): boolean {
  if (((w0 & 0xffc0) | (w1 & (0xfffc_0000 | 0)) | w23) !== 0) return true;
  const did = w0 >>> 16;
  const granularity = (w0 >>> 4) & 3;
  if (granularity !== DEVICE_OR_PAGE) return contextInvalidate(s, granularity, did, 0, 0) === 0;
  contextDevice(s, did, w1 & 0xffff, (w1 >>> 16) & 3);
  return false;
}

/** Invalidates the context cache and says at which granularity; 0: the request was wrong and nothing was done. */
export function contextInvalidate(s: VtdState, asked: number, did: number, sid: number, fm: number): number {
  // Entries of scalable mode have no domain id.
  const global = s.scalable || deviates(s, 'context-domain-is-global');
  const granularity = asked === DOMAIN && global ? GLOBAL : asked;
  if (granularity === GLOBAL) contextGlobal(s);
  else if (granularity === DOMAIN) contextDomain(s, did);
  else if (granularity === DEVICE_OR_PAGE) contextDevice(s, did, sid, fm);
  return granularity;
}

function iecDescriptor(s: VtdState, w0: number, w1: number, w23: number): boolean {
  const odd = ((w0 & 0x07ff_ffe0) | (w1 & (0xffff_0000 | 0)) | w23) !== 0;
  if (odd && !deviates(s, 'lax-interrupt-entry-descriptors')) return true;
  if (!s.intRemap && !lax(s)) return true;
  if ((w0 & 0x10) === 0) iecGlobal(s);
  else iecIndex(s, w1 & 0xffff, w0 >>> 27);
  return false;
}

function iotlbDescriptor(s: VtdState, w0: number, w1: number, w2: number, w3: number): boolean {
  if (((w0 & 0xff00) | w1 | (w2 & 0xf80)) !== 0) return true;
  const granularity = (w0 >>> 4) & 3;
  if (granularity !== DOMAIN) return granularity === 0 || iotlbDescriptorOf(s, granularity, w0, w2, w3);
  iotlbDomain(s, w0 >>> 16);
  return false;
}

function iotlbDescriptorOf(s: VtdState, granularity: number, w0: number, w2: number, w3: number): boolean {
  if (granularity === DEVICE_OR_PAGE && !s.pageSelective) return true;
  const dfn = (w3 >>> 0) * 0x10_0000 + (w2 >>> 12);
  return iotlb(s, granularity, w0 >>> 16, dfn, w2 & 0x3f) === 0;
}

/** Performs an IOTLB invalidation and says at which granularity; 0: the request was wrong and nothing was done. */
export function iotlb(s: VtdState, granularity: number, did: number, dfn: number, am: number): number {
  if (granularity === GLOBAL) iotlbGlobal(s);
  else if (granularity === DOMAIN || !s.pageSelective) iotlbDomain(s, did);
  else if (am <= s.mamv) iotlbPages(s, did, dfn, am);
  else return 0;
  return granularity === DEVICE_OR_PAGE && !s.pageSelective ? DOMAIN : granularity;
}

/** With S set, the lowest clear bit of the address says how many pages are meant (6.5.2.5). */
function deviceTlbDescriptor(s: VtdState, w0: number, w1: number, w2: number, w3: number): boolean {
  // Bits 15:12 and 63:52 name the physical function of a VF, where the unit wants that.
  if (!s.namesPhysical && ((w0 & 0xf000) | (w1 & (0xfff0_0000 | 0))) !== 0) return true;
  if (((w0 & (0xffe0_0ff0 | 0)) | (w1 & 0x000f_0000) | (w2 & 0xffe)) !== 0) return true;
  if (!s.deviceTlbs) return !lax(s);
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
  if (s.events.on) tell(s, 'deviceTlb', w1 & 0xffff, dfn, frames);
  if (s.devicesBusy) {
    s.awaitsDevice = true;
    s.queueAt = 0;
  }
  if (!s.onDeviceTlb(w1 & 0xffff, dfn, frames)) {
    s.regs[IQERCD + 1] = (s.regs[IQERCD + 1]! & (0xffff_0000 | 0)) | (w1 & 0xffff);
    setStatus(s, ITE);
  }
  return false;
}

/**
 * Everything before it is done by now: status is written, then the completion interrupt sent (6.5.2.9). A wait behind
 * a device that did not answer is aborted.
 */
function waitDescriptor(s: VtdState, w0: number, data: number, w2: number, w3: number): boolean {
  if (((w0 & (0xffff_ff80 | 0)) | (w2 & 0x3)) !== 0) return true;
  if ((w0 & 0x30) === 0 && deviates(s, 'wait-needs-action')) return true;
  if ((s.regs[FSTS]! & ITE) !== 0) return false;
  const at = (w0 & 0x20) !== 0 ? locateStatus(s, w2, w3) : -1;
  if (at >= 0) s.ram.words[at] = data;
  if (s.events.on) tell(s, 'wait', data >>> 0);
  if ((w0 & 0x10) !== 0) completed(s);
  return false;
}

/**
 * Index into RAM's words of a status word, -1 outside memory. Kept for the next wait, as frames stay where they are, if
 * software holds the frame as Xen does: it counts as written then.
 */
function locateStatus(s: VtdState, lo: number, hi: number): number {
  // Address bits beyond those of the host are ignored.
  const frame = (hi & ~s.beyondHaw) * 0x10_0000 + (lo >>> 12);
  if (frame >= s.ram.frames) return -1;
  const slot = s.ram.slot(frame);
  const at = (slot << 10) + ((lo & 4095) >>> 2);
  if (s.ram.isHeld(slot)) {
    s.statusLo = lo;
    s.statusHi = hi;
    s.statusAt = at;
  }
  return at;
}

function completed(s: VtdState): void {
  const before = s.regs[ICS]!;
  s.regs[ICS] = before | 1;
  if ((before & 1) === 0) raise(s, 'completion', VTD_REG.IECTL);
}
