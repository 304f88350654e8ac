/**
 * What an interrupt remapping entry in memory says, read word by word from the manual (VT-d 9.10). Shares no code with
 * drivers or silicon.
 */
import type { TableMemory } from './tables.js';

export interface RemappedInterrupt {
  readonly vector: number;
  /** 0 fixed, 1 lowest priority; others are SMI, NMI, INIT and external. */
  readonly deliveryMode: number;
  /** Whether a requester may use the entry. */
  accepts(rid: number): boolean;
}

/** undefined: nothing is there. */
export function vtdInterrupt(m: TableMemory, index: number): RemappedInterrupt | undefined {
  const table = Math.floor(m.register(0xb8) / 4096) * 4096 + m.register(0xbc) * 2 ** 32;
  const at = table + index * 16;
  const low = m.read(at);
  if (low % 2 === 0) return undefined;
  const source = m.read(at + 8);
  const id = source % 65536;
  const qualifier = Math.floor(source / 65536) % 4;
  const kind = Math.floor(source / 262144) % 4;
  // Functions whose bits are not compared: none, bit 2, bits 2:1, all.
  const step = [1, 8, 8, 8][qualifier]!;
  const inSlot = (rid: number): number => [0, rid % 4, rid % 2, 0][qualifier]!;
  return {
    vector: Math.floor(low / 65536) % 256,
    deliveryMode: Math.floor(low / 32) % 8,
    accepts: (rid) => {
      if (kind === 0) return true;
      if (kind === 2)
        return Math.floor(rid / 256) >= Math.floor(id / 256) && Math.floor(rid / 256) <= id % 256;
      return Math.floor(rid / step) === Math.floor(id / step) && inSlot(rid) === inSlot(id);
    },
  };
}
