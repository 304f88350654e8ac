/**
 * What an interrupt remapping entry in memory says, read word by word from the manuals (VT-d 9.10; AMD 2.2.2, 2.2.5).
 * Shares no code with drivers or silicon.
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

/** Entry `index` of the table that the device table names for `rid`; undefined where nothing is translated for it. */
export function amdInterrupt(m: TableMemory, rid: number, index: number): RemappedInterrupt | undefined {
  const at = Math.floor(m.register(0) / 4096) * 4096 + (m.register(4) % 2 ** 20) * 2 ** 32 + rid * 32;
  const low = m.read(at + 16);
  const high = m.read(at + 20);
  const translated = low % 2 === 1 && Math.floor(high / 2 ** 28) % 4 === 2;
  if (!translated || index >= 2 ** (Math.floor(low / 2) % 16)) return undefined;
  const table = Math.floor(low / 64) * 64 + (high % 2 ** 20) * 2 ** 32;
  // GAEn, bit 17 of the control register: entries of 128 bits.
  const wide = Math.floor(m.register(0x18) / 2 ** 17) % 2 === 1;
  const entry = m.read(table + index * (wide ? 16 : 4));
  if (entry % 2 === 0) return undefined;
  return {
    vector: wide ? m.read(table + index * 16 + 8) % 256 : Math.floor(entry / 65536) % 256,
    deliveryMode: Math.floor(entry / 4) % 8,
    accepts: () => true,
  };
}
