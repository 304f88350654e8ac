/**
 * Protected memory (VT-d 11.4.8): two ranges that firmware keeps devices out of before software translates. What is
 * refused is no fault, and is recorded nowhere.
 */
import { VTD_REG } from '../../format/vtd.js';
import type { VtdState } from './state.js';

const EPM = 0x8000_0000 | 0;
const PRS = 1;
const PMEN = VTD_REG.PMEN >>> 2;
/** Address bits 19:0 are not there, and count as ones in a limit. */
const LAST_FRAME_OF_MIB = 0xff;

const frame = (s: VtdState, offset: number): number => s.regs[offset >>> 2]! >>> 12;
const wideFrame = (s: VtdState, offset: number): number =>
  (s.regs[(offset >>> 2) + 1]! >>> 0) * 0x10_0000 + frame(s, offset);

/** Software wrote PMEN: the ranges are as they are named now, and PRS says that they are held. */
export function protectionSwitched(s: VtdState): void {
  if (!s.protectsLow && !s.protectsHigh) s.regs[PMEN] = 0;
  s.protects = (s.regs[PMEN]! & EPM) !== 0;
  s.regs[PMEN] = s.protects ? EPM | PRS : 0;
}

/**
 * True when a request for a machine frame is refused: one that passes untranslated, by pass-through, or translated
 * already. A base above its limit is no range.
 */
export function isProtected(s: VtdState, mfn: number): boolean {
  if (!s.protects) return false;
  const { PLMBASE, PLMLIMIT, PHMBASE, PHMLIMIT } = VTD_REG;
  if (s.protectsLow && mfn >= frame(s, PLMBASE) && mfn <= frame(s, PLMLIMIT) + LAST_FRAME_OF_MIB) return true;
  return s.protectsHigh && mfn >= wideFrame(s, PHMBASE) && mfn <= wideFrame(s, PHMLIMIT) + LAST_FRAME_OF_MIB;
}
