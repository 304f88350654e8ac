/** Interrupt remapping (VT-d chapter 5): what a message-signalled interrupt becomes on its way to the CPU. */
import { FR_INTR } from '../../format/vtd.js';
import { asSent, type Interrupt } from '../interrupt.js';
import { recordInterruptFault } from './faults.js';
import { IEC_ENTRIES, IEC_WORDS, type VtdState } from './state.js';

const FORMAT = 0x10;
const SHV = 0x8;
const PRESENT = 0x1;
const FPD = 0x2;
/** Reserved bits of a remapped entry: words 0, 2 and 3. IM (posting) is reserved where posting is not supported. */
const RSVD0 = 0xff00_f000 | 0;
const RSVD2 = 0xfff0_0000 | 0;
/** Of the destination, without x2APIC: an 8-bit id in bits 15:8. */
const RSVD_XAPIC = 0xffff_00ff | 0;

/**
 * The interrupt that a write of `data` to 0xFEEx_xxxx (`addrLo`) by requester `rid` becomes, or the negative fault
 * reason, after the fault was recorded.
 */
export function remapInterrupt(s: VtdState, rid: number, addrLo: number, data: number): Interrupt | number {
  if (!s.ire) return asSent(addrLo, data);
  if ((addrLo & FORMAT) === 0) {
    if (s.compatPass && !s.irX2apic) return asSent(addrLo, data);
    return refuse(s, rid, 0, FR_INTR.COMPAT_BLOCKED, false);
  }
  const handle = ((addrLo >>> 5) & 0x7fff) | ((addrLo & 0x4) << 13);
  const withSub = (addrLo & SHV) !== 0;
  const index = handle + (withSub ? data & 0xffff : 0);
  // Without SHV the data is an I/O APIC's own vector and trigger mode, and nobody looks at it.
  if (withSub && data >>> 16 !== 0) return refuse(s, rid, index, FR_INTR.REQUEST_RESERVED, false);
  if (index >= s.irEntries) return refuse(s, rid, index, FR_INTR.INDEX_BEYOND, false);
  const at = fetchEntry(s, index);
  if (at < 0) return refuse(s, rid, index, FR_INTR.TABLE_ACCESS, false);
  const w0 = s.iec[at]!;
  const w2 = s.iec[at + 2]!;
  const hidden = (w0 & FPD) !== 0;
  const reason = checkEntry(w0, s.irX2apic ? 0 : s.iec[at + 1]! & RSVD_XAPIC, w2, s.iec[at + 3]!, rid);
  if (reason !== 0) {
    // What is not present or malformed is not kept.
    if (reason !== FR_INTR.SOURCE_INVALID) s.iec[at - 1] = 0;
    return refuse(s, rid, index, reason, hidden);
  }
  const dst = s.iec[at + 1]!;
  return {
    vector: (w0 >>> 16) & 0xff,
    dest: s.irX2apic ? dst >>> 0 : (dst >>> 8) & 0xff,
    logical: (w0 & 0x4) !== 0,
    deliveryMode: (w0 >>> 5) & 7,
    level: (w0 & 0x10) !== 0,
    redirectionHint: (w0 & 0x8) !== 0,
  };
}

function refuse(s: VtdState, rid: number, index: number, reason: number, hidden: boolean): number {
  recordInterruptFault(s, rid, index, reason, hidden);
  return -reason;
}

/** Index of the entry's first word in the cache, filled from memory if need be; -1 where memory does not answer. */
function fetchEntry(s: VtdState, index: number): number {
  const at = (index % IEC_ENTRIES) * IEC_WORDS;
  if (s.iec[at] !== index + 1) {
    const frame = s.irFrame + (index >>> 8);
    if (frame >= s.tableLimit) return -1;
    const from = s.tables.peek(frame) * 1024 + (index & 0xff) * 4;
    const iec = s.ownIec();
    for (let w = 0; w < 4; w++) iec[at + 1 + w] = s.tables.words[from + w]!;
    iec[at] = index + 1;
  }
  return at + 1;
}

/** 0, or the fault reason, in the manual's order (5.1.4): present, source, reserved bits. */
function checkEntry(w0: number, oddDestination: number, w2: number, w3: number, rid: number): number {
  if ((w0 & PRESENT) === 0) return FR_INTR.NOT_PRESENT;
  const svt = (w2 >>> 18) & 3;
  if (!isSource(svt, w2, rid)) return FR_INTR.SOURCE_INVALID;
  if ((w0 & RSVD0) !== 0 || oddDestination !== 0 || (w2 & RSVD2) !== 0 || w3 !== 0 || svt === 3)
    return FR_INTR.ENTRY_RESERVED;
  return 0;
}

function isSource(svt: number, w2: number, rid: number): boolean {
  const sid = w2 & 0xffff;
  if (svt === 1) {
    const sq = (w2 >>> 16) & 3;
    const ignored = sq === 0 ? 0 : sq === 1 ? 4 : sq === 2 ? 6 : 7;
    return ((sid ^ rid) & ~ignored) === 0;
  }
  const bus = rid >>> 8;
  return svt !== 2 || (bus >= sid >>> 8 && bus <= (sid & 0xff));
}
