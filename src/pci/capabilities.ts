/** The capability lists of a function, and which writable registers each capability brings. */
import { get } from '../base/layout.js';
import * as R from './registers.js';

export interface Capability {
  /** Capability id, or extended capability id. */
  readonly id: number;
  /** Byte offset in config space; a multiple of 4. */
  readonly offset: number;
  readonly extended: boolean;
}

/** As many as fit: a list that is longer runs in a circle. */
const CAPS_MAX = 48;
const EXT_CAPS_MAX = (4096 - 256) / 8;

const wordAt = (words: Int32Array, byte: number): number => {
  const w = byte >>> 2;
  return w < words.length ? words[w]! : 0;
};

/** Both lists in the order of the chain. A chain that runs in a circle or out of config space ends there. */
export function listCapabilities(words: Int32Array): Capability[] {
  const caps: Capability[] = [];
  if (((wordAt(words, R.PCI.COMMAND) >>> 16) & R.STATUS_CAP_LIST) !== 0) {
    const pointer = headerType(words) === 2 ? 0x14 : R.PCI.CAPABILITY_LIST;
    let at = wordAt(words, pointer) & 0xfc;
    for (let n = 0; n < CAPS_MAX && at >= 0x40; n++) {
      const head = wordAt(words, at);
      if ((head & 0xff) === 0xff) break;
      caps.push({ id: head & 0xff, offset: at, extended: false });
      at = (head >>> 8) & 0xfc;
    }
  }
  let at = 0x100;
  for (let n = 0; n < EXT_CAPS_MAX && at >= 0x100; n++) {
    const head = wordAt(words, at);
    if (head === 0 || head === -1) break;
    caps.push({ id: head & 0xffff, offset: at, extended: true });
    at = (head >>> 20) & 0xffc;
  }
  return caps;
}

/** Byte offset of a capability, 0 when the function has none. */
export function findCapability(caps: readonly Capability[], id: number, extended = false): number {
  for (const c of caps) if (c.id === id && c.extended === extended) return c.offset;
  return 0;
}

export const headerType = (words: Int32Array): number => (words[3]! >>> 16) & 0x7f;

/** The writable registers of one capability of these words. */
export function tablesOf(words: Int32Array, cap: Capability): readonly R.RegisterTable[] {
  return cap.extended ? extendedTables(words, cap) : classicTables(words, cap);
}

function classicTables(words: Int32Array, cap: Capability): readonly R.RegisterTable[] {
  const at = cap.offset >>> 2;
  switch (cap.id) {
    case R.CAP.PM:
      return [R.PM];
    case R.CAP.VPD:
      return [R.VPD];
    case R.CAP.MSIX:
      return [R.MSIX];
    case R.CAP.MSI: {
      const is64 = wordBit(words, at, R.MSI_IS_64);
      const mask = wordBit(words, at, R.MSI_HAS_MASK);
      if (is64) return mask ? [R.MSI, R.MSI_64, R.MSI_64_MASK] : [R.MSI, R.MSI_64];
      return mask ? [R.MSI, R.MSI_32, R.MSI_32_MASK] : [R.MSI, R.MSI_32];
    }
    case R.CAP.EXP:
      return expressTables(words, at);
    default:
      return [];
  }
}

function expressTables(words: Int32Array, at: number): readonly R.RegisterTable[] {
  const tables = [R.EXP];
  const type = get(words, at, R.EXP_PORT_TYPE);
  const port = type === R.EXP_TYPE.ROOT_PORT || type === R.EXP_TYPE.DOWNSTREAM;
  if (port && wordBit(words, at, R.EXP_SLOT_IMPLEMENTED)) tables.push(R.EXP_SLOT);
  if (type === R.EXP_TYPE.ROOT_PORT || type === R.EXP_TYPE.RC_EVENT_COLLECTOR) tables.push(R.EXP_ROOT);
  if (get(words, at, R.EXP_VERSION) >= 2) tables.push(R.EXP_V2);
  return tables;
}

function extendedTables(words: Int32Array, cap: Capability): readonly R.RegisterTable[] {
  switch (cap.id) {
    case R.EXT_CAP.AER:
      // Only root ports have the root error registers.
      return headerType(words) === 1 && isRootPort(words) ? [R.AER, R.AER_ROOT] : [R.AER];
    case R.EXT_CAP.ACS:
      return [R.ACS];
    case R.EXT_CAP.ARI:
      return [R.ARI];
    case R.EXT_CAP.ATS:
      return [R.ATS];
    case R.EXT_CAP.SRIOV:
      return [R.SRIOV];
    case R.EXT_CAP.PRI:
      return [R.PRI];
    case R.EXT_CAP.LTR:
      return [R.LTR];
    case R.EXT_CAP.PASID:
      return [R.PASID];
    default:
      return [];
  }
}

function isRootPort(words: Int32Array): boolean {
  const at = findCapability(listCapabilities(words), R.CAP.EXP) >>> 2;
  return at !== 0 && at < words.length && get(words, at, R.EXP_PORT_TYPE) === R.EXP_TYPE.ROOT_PORT;
}

const wordBit = (words: Int32Array, at: number, f: { word: number; lo: number }): boolean =>
  ((wordAt(words, (at + f.word) * 4) >>> f.lo) & 1) !== 0;
