/** Interrupts through the remapping tables: pins of I/O APICs, and messages of devices. @xen drivers/passthrough/amd/iommu_intr.c */
import { panic } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { formatSbdf, hex } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { type MsiDesc, type MsiMsg, XENLOG } from '../types.js';
import {
  allocIntremapEntry,
  freeIntremapEntry,
  getIntremapEntry,
  getIntremapLock,
  INTREMAP_MAX_ENTRIES,
  type Irte,
  irteWords,
  updateIntremapEntry,
} from './intremap_table.js';
import { amdIommuFlushIntremap } from './iommu_cmd.js';
import type { IntremapTable, IvrsMappings } from './ivrs_mappings.js';
import { findIommuForDevice, getDmaRequestorId } from './requestor.js';
import { type AmdUnit, type AmdVi, amdDebug, amdWarn, getIvrsMappings, hash } from './state.js';

const REMAP_EN = 1;
const RTE_MASK = 0x1_0000;
/** Bits of a message's data, or of a redirection entry, that hold the number of the table's entry. */
const INDEX_MASK = INTREMAP_MAX_ENTRIES - 1;
/** Bits of a message's address that the entry now says: destination and its mode. */
const MSI_ADDR_DEST = 0xff004;

/** Whose entry is meant: the unit, the id whose table it is in, and the id that the IVRS gives the device. */
interface Source {
  readonly unit: AmdUnit;
  readonly ivrs: IvrsMappings;
  readonly reqId: number;
  readonly aliasId: number;
}

/** Xen follows the pointer without looking. */
function tableOf(ivrs: IvrsMappings, id: number): IntremapTable {
  const table = ivrs.intremap.get(id);
  if (table === undefined) panic('FATAL PAGE FAULT');
  return table;
}

function* flush(amd: AmdVi, s: Source): Co<void> {
  yield* amdIommuFlushIntremap(amd, s.unit, s.reqId);
  if (s.aliasId !== s.reqId) yield* amdIommuFlushIntremap(amd, s.unit, s.aliasId);
}

function changed(amd: AmdVi, s: Source, at: number, index: number, before: number[] | undefined): void {
  if (before === undefined) return;
  const after = irteWords(amd, s.unit, at);
  const id = s.reqId * INTREMAP_MAX_ENTRIES + index;
  amd.s.events.emit({ kind: 'entry', unit: s.unit.index, table: 'irte', id, before, after });
}

const wordsBefore = (amd: AmdVi, s: Source, at: number): number[] | undefined =>
  amd.s.events.on ? irteWords(amd, s.unit, at) : undefined;

/**
 * Writes entry `known`, or, when that is -1, the first of `nr` fresh ones from the table of `allocId`. An entry in use is
 * replaced at once and the unit told; before 4.20 it is switched off and flushed first, and in between the interrupt is
 * blocked. @returns the entry, or -ENOSPC
 */
function* writeEntry(
  amd: AmdVi,
  s: Source,
  allocId: number,
  known: number,
  nr: number,
  irte: Irte,
): Co<number> {
  const inPlace = amd.seams.amdUpdatesIrteInPlace();
  const lock = getIntremapLock(amd, s.ivrs, s.reqId);
  let index = known;
  for (;;) {
    {
      using _intremap = yield* hold(lock);
      if (index < 0) index = allocIntremapEntry(tableOf(s.ivrs, allocId), nr);
      if (index >= INTREMAP_MAX_ENTRIES) return E.NOSPC;
      const at = getIntremapEntry(amd, s.unit, tableOf(s.ivrs, s.reqId), index);
      const before = wordsBefore(amd, s, at);
      const { words } = amd.s.ram;
      if (inPlace || !s.unit.enabled || (words[at]! & REMAP_EN) === 0) {
        updateIntremapEntry(amd, s.unit, at, irte);
        changed(amd, s, at, index, before);
        break;
      }
      words[at] = words[at]! & ~REMAP_EN;
      changed(amd, s, at, index, before);
    }
    yield* flush(amd, s);
  }
  if (inPlace && known >= 0) yield* flush(amd, s);
  return index;
}

/**
 * Writes a pin's redirection entry, `lo` and `hi` as software means it. A pin that finds no room stays masked.
 * @xen amd_iommu_ioapic_update_ire
 */
export function* amdIommuIoapicUpdateIre(
  amd: AmdVi,
  apicId: number,
  pin: number,
  lo: number,
  hi: number,
): Co<Rc> {
  const io = amd.ioapics.find((i) => i.id === apicId);
  if (io === undefined) return 0;
  const unit = findIommuForDevice(amd, io.seg, io.bdf);
  if (unit === undefined) {
    amdWarn(amd, `failed to find IOMMU for IO-APIC @ ${hex(io.seg, 4)}:${hex(io.bdf, 4)}`);
    io.rtes.set(pin, { lo, hi });
    return 0;
  }
  const old = io.rtes.get(pin);
  if (old !== undefined && !amd.seams.amdUpdatesIrteInPlace()) io.rtes.set(pin, masked(old));
  const ivrs = getIvrsMappings(amd, io.seg)!;
  const reqId = ivrs.requestor[io.bdf]!;
  const irte = {
    vector: lo & 0xff,
    intType: (lo >>> 8) & 7,
    destMode: (lo >>> 11) & 1,
    dest: hi >>> 24,
  };
  const source = { unit, ivrs, reqId, aliasId: reqId };
  const index = yield* writeEntry(amd, source, reqId, io.pinToIndex.get(pin) ?? -1, 1, irte);
  if (index < 0) {
    const text = `Remapping IO-APIC ${hash(apicId)} pin ${pin} failed (${index})`;
    amd.s.printk(XENLOG.ERR, text);
    return index;
  }
  io.pinToIndex.set(pin, index);
  // Eight bits of the entry's number take the place of the vector, three that of the delivery mode.
  io.rtes.set(pin, { lo: (lo & ~INDEX_MASK) | index, hi });
  return 0;
}

const masked = (rte: { readonly lo: number; readonly hi: number }): { lo: number; hi: number } => ({
  lo: rte.lo | RTE_MASK,
  hi: rte.hi,
});

/** Under which ids a device's messages are looked up; undefined for a unit, whose own are not. @xen _find_iommu_for_device */
function sourceOf(amd: AmdVi, seg: number, bdf: number): Source | Rc {
  if (amd.units.some((u) => u.seg === seg && u.bdf === bdf)) return 0;
  const unit = findIommuForDevice(amd, seg, bdf);
  if (unit === undefined) {
    amdDebug(amd, `No IOMMU for MSI dev = ${formatSbdf(seg * 0x1_0000 + bdf)}`);
    return E.INVAL;
  }
  const ivrs = getIvrsMappings(amd, seg)!;
  return { unit, ivrs, reqId: getDmaRequestorId(ivrs, bdf), aliasId: ivrs.requestor[bdf]! };
}

/**
 * Remaps `msg` of `descs[entryNr]`, or without `msg` gives back what `descs[0]` and its group have.
 * @returns 0, -EINVAL without unit, -ENOSPC when the table is full. @xen amd_iommu_msi_msg_update_ire
 */
export function* amdIommuMsiMsgUpdateIre(
  amd: AmdVi,
  descs: readonly MsiDesc[],
  entryNr: number,
  msg: MsiMsg | undefined,
): Co<Rc> {
  const desc = descs[entryNr]!;
  const bdf = desc.pdev.sbdf & 0xffff;
  const source = sourceOf(amd, desc.pdev.seg, bdf);
  if (typeof source === 'number') return source;
  const nr = desc.nvec ?? 1;
  if (msg === undefined) {
    if (desc.remapIndex >= 0) yield* freeEntries(amd, source, desc, nr);
    return 0;
  }
  const irte = {
    vector: msg.data & 0xff,
    intType: (msg.data >>> 8) & 1,
    destMode: (msg.addressLo >>> 2) & 1,
    dest: (msg.addressLo >>> 12) & 0xff,
  };
  const allocId = amd.seams.amdIntremapTableId(bdf, source.reqId);
  const index = yield* writeEntry(amd, source, allocId, desc.remapIndex, nr, irte);
  if (index < 0) return index;
  const { ivrs, reqId, aliasId } = source;
  const ofAlias = ivrs.intremap.get(aliasId);
  if (reqId !== aliasId && ofAlias !== undefined && ofAlias !== ivrs.intremap.get(reqId))
    panic('Xen BUG at drivers/passthrough/amd/iommu_intr.c');
  desc.remapIndex = index;
  for (let i = 1; i < nr; i++) descs[entryNr + i]!.remapIndex = index + i;
  msg.data = (msg.data & ~INDEX_MASK) | index;
  if (amd.seams.amdUpdatesIrteInPlace()) msg.addressLo = (msg.addressLo & ~MSI_ADDR_DEST) >>> 0;
  return 0;
}

function* freeEntries(amd: AmdVi, s: Source, desc: MsiDesc, nr: number): Co<void> {
  {
    using _intremap = yield* hold(getIntremapLock(amd, s.ivrs, s.reqId));
    const table = tableOf(s.ivrs, s.reqId);
    for (let index = desc.remapIndex; index < desc.remapIndex + nr; index++) {
      const at = getIntremapEntry(amd, s.unit, table, index);
      const before = wordsBefore(amd, s, at);
      freeIntremapEntry(amd, s.unit, table, index);
      changed(amd, s, at, index, before);
    }
  }
  if (s.unit.enabled) yield* flush(amd, s);
  if (nr > 0) desc.remapIndex = -1;
}
