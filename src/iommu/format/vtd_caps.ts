/** Which capability registers a VT-d unit can have at all. */
import { get } from '../../base/layout.js';
import { CAP, ECAP } from './vtd.js';

/** A 64-bit register as its two words, low first, signed as Int32Array holds them. */
export type Word64 = readonly [lo: number, hi: number];

/**
 * Why no unit can have these capabilities, undefined when one can. Values from outside are to be asked about first:
 * a unit that is made of unsound ones is a bug of ours.
 */
export function capabilityProblem(cap: Word64, ecap: Word64): string | undefined {
  const words = Int32Array.of(cap[0], cap[1], ecap[0], ecap[1]);
  const fro = (get(words, 0, CAP.FRO_HI) * 256 + get(words, 0, CAP.FRO_LO)) * 16;
  const froEnd = fro + (get(words, 0, CAP.NFR) + 1) * 16;
  const iro = get(words, 2, ECAP.IRO) * 16;
  if (fro < 0xc0 || iro < 0xc0) return 'fault or IOTLB registers overlap the fixed ones';
  if (froEnd > 4096 || iro + 16 > 4096) return 'fault or IOTLB registers lie beyond the register page';
  if (iro < froEnd && fro < iro + 16) return 'fault and IOTLB registers overlap';
  return undefined;
}
