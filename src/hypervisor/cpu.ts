import type { CpuFacts } from '../iommu/driver/types.js';

/** Physical address bits where nobody says how many the CPU has. */
const DEFAULT_PADDR_BITS = 46;

/** Frames that the CPU can address. @xen paddr_bits */
export const paddrFrames = (cpu: CpuFacts): number => 2 ** ((cpu.paddrBits ?? DEFAULT_PADDR_BITS) - 12);
