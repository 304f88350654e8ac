/** Requests of devices that keep translations of their own (VT-d chapter 4, PCIe 10.2). */
import { FR, FR_SM, INTERRUPT_FRAMES, PROTECTED } from '../../format/vtd.js';
import { recordFault } from './faults.js';
import { isProtected } from './protection.js';
import { hawBits, type VtdState } from './state.js';
import { context, contextAllowsAts, contextHidesFaults, probe, translate } from './translate.js';

/** Address types as a fault record shows them. */
const TRANSLATION_REQUEST = 1;
const TRANSLATED = 2;

/**
 * A request that says it is translated already: its own frame when the context entry lets the device have a device
 * TLB, else the negative fault reason (4.2.4).
 */
export function translated(s: VtdState, rid: number, mfn: number, write: boolean): number {
  const reason = s.te ? atsReason(s, rid) || placeReason(s, mfn) : 0;
  if (reason === 0) return isProtected(s, mfn) ? -PROTECTED : mfn;
  recordFault(s, rid, mfn, write, reason, contextHidesFaults(s, reason), TRANSLATED);
  return -reason;
}

/** A frame that no host has, and the interrupt range, are no place for a translated request (LGN.1.2, LGN.4). */
function placeReason(s: VtdState, mfn: number): number {
  if (mfn >= 2 ** (hawBits(s.opts) - 12)) return s.scalable ? FR_SM.BEYOND_HAW : FR.BEYOND_MGAW;
  if (mfn < INTERRUPT_FRAMES.first || mfn > INTERRUPT_FRAMES.last) return 0;
  return s.scalable ? FR_SM.INTERRUPT_ADDR : FR.INTERRUPT_ADDR;
}

/**
 * A translation request: the machine frame, or a negative number. A page that is absent, or lacks the permission, is
 * an empty completion and no fault; without translation the request is unsupported (4.1.1).
 */
export function translationRequest(s: VtdState, rid: number, dfn: number, write: boolean): number {
  if (!s.te) return -1;
  const reason = atsReason(s, rid);
  if (reason !== 0) {
    recordFault(s, rid, dfn, write, reason, contextHidesFaults(s, reason), TRANSLATION_REQUEST);
    return -reason;
  }
  const found = probe(s, rid, dfn, write);
  const quiet = found === -FR.READ || found === -FR.WRITE || found === -FR.BEYOND_MGAW;
  return quiet ? found : translate(s, rid, dfn, write);
}

function atsReason(s: VtdState, rid: number): number {
  const reason = context(s, rid, true);
  return reason === 0 && !contextAllowsAts(s) ? FR.TT_BLOCKED : reason;
}
