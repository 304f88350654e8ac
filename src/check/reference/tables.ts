/**
 * What the tables in memory say about a requester id, read word by word from the manuals (VT-d 9.1, 9.3; AMD 2.2.2).
 * Shares no code with drivers or silicon: it is what both are judged by.
 */

/** Memory and the unit's registers, as plain functions. */
export interface TableMemory {
  /** The 32-bit word at a machine address, unsigned. */
  read(address: number): number;
  /** A 32-bit register of the unit, unsigned. */
  register(offset: number): number;
}

/** undefined: nothing is translated for the id (absent, or blocked). */
export interface TableEntry {
  /** Frame of the page-table root; 0 for pass-through. */
  readonly root: number;
  readonly did: number;
  readonly passThrough: boolean;
}

const frame = (low: number, high: number): number => (high % 2 ** 20) * 2 ** 20 + Math.floor(low / 4096);

export function vtdEntry(m: TableMemory, rid: number): TableEntry | undefined {
  const rootTable = frame(m.register(0x20), m.register(0x24)) * 4096;
  const rootAt = rootTable + Math.floor(rid / 256) * 16;
  if (m.read(rootAt) % 2 === 0) return undefined;
  const at = frame(m.read(rootAt), m.read(rootAt + 4)) * 4096 + (rid % 256) * 16;
  const low = m.read(at);
  if (low % 2 === 0) return undefined;
  const type = Math.floor(low / 4) % 4;
  return {
    root: type === 2 ? 0 : frame(low, m.read(at + 4)),
    did: Math.floor(m.read(at + 8) / 256) % 65536,
    passThrough: type === 2,
  };
}

export function amdEntry(m: TableMemory, rid: number): TableEntry | undefined {
  const at = frame(m.register(0), m.register(4)) * 4096 + rid * 32;
  const low = m.read(at);
  const valid = low % 2 === 1;
  const translating = Math.floor(low / 2) % 2 === 1;
  if (!valid || !translating) return undefined;
  const mode = Math.floor(low / 512) % 8;
  return {
    root: frame(low, m.read(at + 4)),
    did: m.read(at + 8) % 65536,
    passThrough: mode === 0,
  };
}
