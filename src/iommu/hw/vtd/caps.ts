/** What a unit can do, as its capability registers say it (VT-d 11.4.2, 11.4.3), and two boards' values. */
import { type Field, type Layout, set } from '../../../base/layout.js';
import { CAP, ECAP } from '../../format/vtd.js';
import type { Word64 } from '../../format/vtd_caps.js';

import type { VtdQuirk } from './quirks.js';

export type { Word64 } from '../../format/vtd_caps.js';

/** Shape of one unit. */
export interface VtdOptions {
  /** Number of the unit in the DMAR's order. */
  readonly index: number;
  readonly segment: number;
  readonly cap: Word64;
  readonly ecap: Word64;
  /** Version register: 0x10 is 1.0. */
  readonly version: number;
  /** Host address width in bits: entries that point beyond it have reserved bits set. */
  readonly haw: number;
  /** Time one queued descriptor, or one invalidation by register, takes. 0: done when the write returns. */
  readonly latencyNs?: number;
  /** Further faults of a requester with a pending record are dropped without overflow (7.2.1 allows it; QEMU does). */
  readonly collapseFaults?: boolean;
  /** Tables are read from memory past the CPU's caches, as ECAP.C clear allows: writes have to be written back. */
  readonly unsnooped?: boolean;
  /** What the CPU writes stays in buffers, where walks do not find it, until they are flushed: why CAP.RWBF is there. */
  readonly buffered?: boolean;
  /** Deviations from the specification that are asked for; none in a machine. */
  readonly quirks?: ReadonlySet<VtdQuirk> | undefined;
}

/** A register word pair from named fields; what is not named is zero. */
export function word64(layout: Layout, values: Readonly<Record<string, number>>): Word64 {
  const words = new Int32Array(2);
  for (const [name, value] of Object.entries(values)) set(words, 0, layout[name] as Field, value);
  return [words[0]!, words[1]!];
}

/**
 * A present-day Intel client unit, with 3- and 4-level tables, 48-bit addresses and 16-bit domain ids (real clients
 * have 8-bit ids; a machine with thousands of domains needs more), one fault record at 0x400, IOTLB at 0x500.
 */
export const DEFAULT_CAP: Word64 = word64(CAP, {
  DRD: 1,
  DWD: 1,
  MAMV: 18,
  NFR: 0,
  PSI: 1,
  SLLPS: 3,
  FRO_LO: 0x40,
  ZLR: 1,
  MGAW: 47,
  SAGAW: 0b00110,
  ND: 6,
});
export const DEFAULT_ECAP: Word64 = word64(ECAP, {
  MHMV: 15,
  IRO: 0x50,
  SC: 1,
  PT: 1,
  EIM: 1,
  IR: 1,
  QI: 1,
  C: 1,
});
export const DEFAULT_VERSION = 0x10;

/** QEMU 7.2 with `intremap=on,aw-bits=48`, as Xen printed it on the recorded board: d2008c222f0606 and f00f4a. */
export const QEMU_CAP: Word64 = [0x222f_0606, 0x00d2_008c];
export const QEMU_ECAP: Word64 = [0x00f0_0f4a, 0];
/** The same board with `caching-mode=on`. */
export const QEMU_CAP_CM: Word64 = [0x222f_0686, 0x00d2_008c];
