/** How dom0's kernel reaches configuration space: cycles on the bus, which Xen may look at on their way. */
import type { Sbdf } from '../../base/sbdf.js';
import type { Co } from '../../sim/co.js';

export interface ConfigPort {
  /** All ones where nobody answers. `bytes` is 1, 2 or 4, `reg` aligned to it. */
  read(sbdf: Sbdf, reg: number, bytes: number): number;
  write(sbdf: Sbdf, reg: number, bytes: number, value: number): Co<void>;
  /** The device has done what its driver asked for and sends its first message. */
  message?(sbdf: Sbdf): Co<void>;
}
