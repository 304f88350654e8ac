/**
 * Per requester id: which id its DTE has, which unit serves it, what its DTE must say. Packed, since an IVRS may
 * cover all 65536 ids of a segment. @xen struct ivrs_mappings
 */
import type { SpinLock } from '../../../sim/locks.js';

/** A table of interrupt remapping entries. Phantom functions share that of their device. */
export interface IntremapTable {
  readonly mfn: number;
  /** Pages, as a power of two. */
  readonly order: number;
  /** 1 for each entry that somebody has. @xen intremap_inuse */
  readonly inuse: Uint8Array;
  freed: boolean;
}

/** A range that a device must reach at its own address. Bytes, page aligned. @xen struct ivrs_unity_map */
export interface UnityMap {
  addr: number;
  length: number;
  read: boolean;
  write: boolean;
  /** From an IVMD for all devices. */
  global: boolean;
}

const VALID = 1;
const ALLOW_EXCLUSION = 2;
const BLOCK_ATS = 4;
const UNIT_SHIFT = 3;
const NO_MAPS: readonly UnityMap[] = Object.freeze([]);

export class IvrsMappings {
  /** @xen dte_requestor_id */
  readonly requestor: Uint16Array;
  private readonly attrs: Uint16Array;
  private readonly settings: Uint8Array;
  private readonly unity = new Map<number, UnityMap[]>();
  readonly intremap = new Map<number, IntremapTable>();
  /** Made on first use. @xen intremap_lock */
  readonly intremapLocks = new Map<number, SpinLock>();
  /** First frame of the segment's device table, 0 while there is none. @xen IVRS_MAPPINGS_DEVTAB */
  devTableMfn = 0;

  constructor(
    readonly seg: number,
    entries: number,
  ) {
    this.requestor = new Uint16Array(entries);
    for (let bdf = 0; bdf < entries; bdf++) this.requestor[bdf] = bdf;
    this.attrs = new Uint16Array(entries);
    this.settings = new Uint8Array(entries);
  }

  private flag(bdf: number, bit: number, on: boolean): void {
    this.attrs[bdf] = on ? this.attrs[bdf]! | bit : this.attrs[bdf]! & ~bit;
  }
  valid(bdf: number): boolean {
    return (this.attrs[bdf]! & VALID) !== 0;
  }
  setValid(bdf: number): void {
    this.flag(bdf, VALID, true);
  }
  /** @xen dte_allow_exclusion */
  allowExclusion(bdf: number): boolean {
    return (this.attrs[bdf]! & ALLOW_EXCLUSION) !== 0;
  }
  setAllowExclusion(bdf: number): void {
    this.flag(bdf, ALLOW_EXCLUSION, true);
  }
  blockAts(bdf: number): boolean {
    return (this.attrs[bdf]! & BLOCK_ATS) !== 0;
  }
  setBlockAts(bdf: number, on: boolean): void {
    this.flag(bdf, BLOCK_ATS, on);
  }
  /** Index of the unit that serves `bdf`, -1 for none. @xen iommu */
  unit(bdf: number): number {
    return (this.attrs[bdf]! >>> UNIT_SHIFT) - 1;
  }
  setUnit(bdf: number, index: number): void {
    this.attrs[bdf] = (this.attrs[bdf]! & ((1 << UNIT_SHIFT) - 1)) | ((index + 1) << UNIT_SHIFT);
  }
  /** Data setting of the device entry. @xen device_flags */
  deviceFlags(bdf: number): number {
    return this.settings[bdf]!;
  }
  setDeviceFlags(bdf: number, flags: number): void {
    this.settings[bdf] = flags;
  }
  /** Newest first. */
  unityMaps(bdf: number): readonly UnityMap[] {
    return this.unity.size === 0 ? NO_MAPS : (this.unity.get(bdf) ?? NO_MAPS);
  }
  addUnityMap(bdf: number, map: UnityMap): void {
    const maps = this.unity.get(bdf);
    if (maps === undefined) this.unity.set(bdf, [map]);
    else maps.unshift(map);
  }
  /** Everything of `from` but the unit: for a function that the IVRS forgot. */
  copy(bdf: number, from: number): void {
    this.requestor[bdf] = this.requestor[from] === from ? bdf : this.requestor[from]!;
    this.attrs[bdf] = this.attrs[from]! & ((1 << UNIT_SHIFT) - 1);
    this.settings[bdf] = this.settings[from]!;
    const maps = this.unity.get(from);
    if (maps !== undefined) this.unity.set(bdf, maps);
    const table = this.intremap.get(from);
    if (table !== undefined) this.intremap.set(bdf, table);
  }
}
