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
  /** Levels of the page table. */
  readonly levels: number;
}

/** What a page table says of one frame. */
export interface Translation {
  readonly mfn: number;
  readonly read: boolean;
  readonly write: boolean;
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
    levels: (m.read(at + 8) % 8) + 2,
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
    levels: mode,
  };
}

/** A second-level table (VT-d 9.8), which an EPT table is too: read in bit 0, write in bit 1, page size in bit 7. */
export function walkVtd(m: TableMemory, e: TableEntry, dfn: number): Translation | undefined {
  if (e.passThrough) return { mfn: dfn, read: true, write: true };
  if (dfn >= 512 ** e.levels) return undefined;
  let table = e.root;
  let read = true;
  let write = true;
  for (let level = e.levels; level >= 1; level--) {
    const span = 512 ** (level - 1);
    const at = table * 4096 + (Math.floor(dfn / span) % 512) * 8;
    const low = m.read(at);
    read &&= low % 2 === 1;
    write &&= Math.floor(low / 2) % 2 === 1;
    if (low % 4 === 0) return undefined;
    table = frame(low, m.read(at + 4));
    if (level === 1 || Math.floor(low / 128) % 2 === 1) return { mfn: table + (dfn % span), read, write };
  }
  return undefined;
}

/** An AMD table (48882 2.2.3): present in bit 0, next level in bits 11:9, IR and IW in bits 61 and 62. */
export function walkAmd(m: TableMemory, e: TableEntry, dfn: number): Translation | undefined {
  if (e.passThrough) return { mfn: dfn, read: true, write: true };
  if (dfn >= 512 ** e.levels) return undefined;
  let table = e.root;
  let read = true;
  let write = true;
  for (let level = e.levels; level >= 1; ) {
    const at = table * 4096 + (Math.floor(dfn / 512 ** (level - 1)) % 512) * 8;
    const low = m.read(at);
    const high = m.read(at + 4);
    if (low % 2 === 0) return undefined;
    read &&= Math.floor(high / 2 ** 29) % 2 === 1;
    write &&= Math.floor(high / 2 ** 30) % 2 === 1;
    table = frame(low, high);
    const next = Math.floor(low / 512) % 8;
    if (next === 0 || next === 7) return { mfn: table + (dfn % 512 ** (level - 1)), read, write };
    if (next >= level) return undefined;
    level = next;
  }
  return undefined;
}

/** Frames of the tables that a walk for `dfn` visits, root first. */
export function tablesOnVtd(m: TableMemory, e: TableEntry, dfn: number): number[] {
  const visited: number[] = [];
  let table = e.root;
  for (let level = e.levels; level >= 1; level--) {
    visited.push(table);
    const at = table * 4096 + (Math.floor(dfn / 512 ** (level - 1)) % 512) * 8;
    const low = m.read(at);
    if (low % 4 === 0 || Math.floor(low / 128) % 2 === 1) break;
    table = frame(low, m.read(at + 4));
  }
  return visited;
}
