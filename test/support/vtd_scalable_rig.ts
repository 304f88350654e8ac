/** A VT-d unit in scalable mode, with hands that write its tables. */
import { caps, REG, Rig, SRTP, TE, words64 } from './vtd_rig.js';

export const RID = 0x0010;

/** Scalable mode: directory and table of PASIDs below the context entry. */
export class Scalable extends Rig {
  readonly contexts = this.frame();
  readonly upper = this.frame();
  readonly directory = this.frame();
  readonly pasids = this.frame();
  constructor(
    bits: 'first' | 'second' = 'second',
    changes: readonly [number, number, number, number][] = [],
  ) {
    super(caps([[3, 11, 11, 1], bits === 'first' ? [3, 15, 15, 1] : [3, 14, 14, 1], ...changes]));
    this.put(this.rootFrame, 0, ...words64(this.contexts, 1), ...words64(this.upper, 1));
    this.put(this.contexts, (RID & 0x7f) * 8, ...words64(this.directory, 1));
    this.put(this.directory, 0, ...words64(this.pasids, 1));
  }
  /** RTADDR.TTM is 1. */
  start(): this {
    this.unit.write64(REG.RTADDR, ...words64(this.rootFrame, 0x400));
    this.unit.write32(REG.GCMD, SRTP);
    this.unit.write32(REG.GCMD, TE);
    return this;
  }
  second(root: number, at = 0): void {
    this.put(this.pasids, at, ...words64(root, 1 + (2 << 6) + (2 << 2)), 7, 0);
  }
  first(root: number): void {
    this.put(this.pasids, 0, 1 + (1 << 6), 0, 7, 0, ...words64(root));
  }
}
