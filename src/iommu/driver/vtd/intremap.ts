/**
 * Interrupt remapping: switching it on, and the entries of I/O APIC pins and MSIs with the requester ids they accept.
 * x2APIC and posted interrupts are not modelled. @xen drivers/passthrough/vtd/intremap.c
 */
import { assert, panic } from '../../../base/assert.js';
import { E, type Rc } from '../../../base/errno.js';
import { get, set } from '../../../base/layout.js';
import { sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { DMAR_FLAG } from '../../format/dmar.js';
import { GCMD, IRTE, IRTE_WORDS, VTD_REG } from '../../format/vtd.js';
import { type MsiDesc, type MsiMsg, PDEV_TYPE, type Pdev, XENLOG } from '../types.js';
import { copyQuad } from './context_table.js';
import { findUpstreamBridge } from './device_context.js';
import { acpiFindMatchedDrhdUnit, ioapicToDrhd } from './drhd.js';
import { iommuFlushIecGlobal, iommuFlushIecIndex } from './qinval.js';
import {
  allocPgtableMaddr,
  dmarReadl,
  dmarWritel,
  dmarWriteMaddr,
  VTDPREFIX,
  type Vtd,
  type VtdIommu,
} from './state.js';
import { iommuWaitOp } from './wait.js';

/** @xen IREMAP_PAGE_ORDER, IREMAP_ENTRY_NR, IRTA_REG_TABLE_SIZE */
const PAGE_ORDER = 8;
const ENTRIES = 0x1_0000;
const TABLE_SIZE = 15;
const IRTA_EIME = 1 << 11;
/** Source validation: by id with qualifier, or by bus range (9.10). */
const SVT = { none: 0, sidSq: 1, bus: 2 } as const;
const DEST_LOWEST_PRIO = 1;

/** @returns -EINVAL where firmware or the unit's state forbid it, -ENOMEM. @xen enable_intremap */
export function* enableIntremap(iommu: VtdIommu): Co<Rc> {
  const { vtd } = iommu;
  const { s } = vtd;
  assert(iommu.intrRemap && vtd.opts.intremap !== 'off', 'interrupt remapping is there and wanted');
  if ((vtd.dmarFlags & DMAR_FLAG.INTR_REMAP) === 0) {
    s.printk(XENLOG.ERR, `${VTDPREFIX} Platform firmware does not support interrupt remapping`);
    return E.INVAL;
  }
  const sts = dmarReadl(iommu, VTD_REG.GSTS);
  if ((sts & GCMD.QIE) === 0) {
    s.printk(
      XENLOG.ERR,
      `${VTDPREFIX} Queued invalidation is not enabled on IOMMU #${iommu.index}: ` +
        'Should not enable interrupt remapping',
    );
    return E.INVAL;
  }
  if ((sts & GCMD.CFI) !== 0) {
    s.printk(
      XENLOG.WARNING,
      `${VTDPREFIX} Compatibility Format Interrupts permitted on IOMMU #${iommu.index}: ` +
        'Device pass-through will be insecure',
    );
  }
  if (iommu.intremap.mfn === 0) {
    iommu.intremap.mfn = allocPgtableMaddr(vtd, PAGE_ORDER);
    if (iommu.intremap.mfn === 0) return E.NOMEM;
    iommu.intremap.num = 0;
  }
  const gcmd = yield* setTable(iommu);
  yield* iommuFlushIecGlobal(iommu);
  yield* switchOn(iommu, gcmd | GCMD.IRE);
  return 0;
}

function* setTable(iommu: VtdIommu): Co<number> {
  using _register = yield* hold(iommu.registerLock);
  dmarWriteMaddr(iommu, VTD_REG.IRTA, iommu.intremap.mfn, TABLE_SIZE);
  const gcmd = dmarReadl(iommu, VTD_REG.GSTS) | GCMD.SIRTP;
  dmarWritel(iommu, VTD_REG.GCMD, gcmd >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.GSTS, GCMD.SIRTP, true);
  return gcmd;
}

function* switchOn(iommu: VtdIommu, gcmd: number): Co<void> {
  using _register = yield* hold(iommu.registerLock);
  dmarWritel(iommu, VTD_REG.GCMD, gcmd >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.GSTS, GCMD.IRE, true);
}

/** @xen disable_intremap */
export function* disableIntremap(iommu: VtdIommu): Co<void> {
  if (!iommu.intrRemap) return;
  using _register = yield* hold(iommu.registerLock);
  const sts = dmarReadl(iommu, VTD_REG.GSTS);
  if ((sts & GCMD.IRE) === 0) return;
  dmarWritel(iommu, VTD_REG.GCMD, (sts & ~GCMD.IRE) >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.GSTS, GCMD.IRE, false);
  if (!iommu.eim) return;
  // Firmware may have left extended mode on, which outlives remapping.
  const irta = dmarReadl(iommu, VTD_REG.IRTA);
  if ((irta & IRTA_EIME) === 0) return;
  dmarWritel(iommu, VTD_REG.IRTA, (irta & ~IRTA_EIME) >>> 0);
  yield* iommuWaitOp(iommu, VTD_REG.IRTA, IRTA_EIME, false);
}

/** First word of an entry that will be written. */
const irteAt = (iommu: VtdIommu, index: number): number =>
  iommu.vtd.s.ram.slot(iommu.intremap.mfn + (index >>> 8)) * FRAME_WORDS + (index & 0xff) * IRTE_WORDS;

/** The last of the first `nr` consecutive free entries, counted as used; ENTRIES when there are none. @xen alloc_remap_entry */
function allocRemapEntry(iommu: VtdIommu, nr: number): number {
  const { ram } = iommu.vtd.s;
  let found = 0;
  for (let i = 0; i < ENTRIES; i++) {
    const at = ram.peek(iommu.intremap.mfn + (i >>> 8)) * FRAME_WORDS + (i & 0xff) * IRTE_WORDS;
    const { words } = ram;
    const free = (words[at]! | words[at + 1]! | words[at + 2]! | words[at + 3]!) === 0;
    found = free ? found + 1 : 0;
    if (found === nr) {
      iommu.intremap.num += nr;
      return i;
    }
  }
  return ENTRIES;
}

/** Replaces an entry, in one go where the CPU can or half of it stays. @xen update_irte */
function updateIrte(iommu: VtdIommu, index: number, irte: Int32Array, atomic: boolean): void {
  const { s } = iommu.vtd;
  const at = irteAt(iommu, index);
  const { words } = s.ram;
  const sameLo = words[at] === irte[0] && words[at + 1] === irte[1];
  const sameHi = words[at + 2] === irte[2] && words[at + 3] === irte[3];
  if (!s.cpu.cx16 && atomic && !sameLo && !sameHi) panic('Xen BUG at drivers/passthrough/vtd/intremap.c');
  const before = s.events.on ? copyQuad(words, at) : undefined;
  for (let i = 0; i < IRTE_WORDS; i++) words[at + i] = irte[i]!;
  if (iommu.vtd.opts.nonCoherent) {
    s.syncCache(iommu.intremap.mfn + (index >>> 8), (index & 0xff) * IRTE_WORDS, IRTE_WORDS);
  }
  if (before !== undefined) {
    const after = copyQuad(words, at);
    s.events.emit({ kind: 'entry', unit: iommu.index, table: 'irte', id: index, before, after });
  }
}

function setIreSid(irte: Int32Array, svt: number, sq: number, sid: number): void {
  set(irte, 0, IRTE.SVT, svt);
  set(irte, 0, IRTE.SQ, sq);
  set(irte, 0, IRTE.SID, sid);
}

/** Requester ids that may raise a device's interrupts. @returns -ENXIO, -EOPNOTSUPP when they cannot be told. @xen set_msi_source_id */
export function setMsiSourceId(vtd: Vtd, pdev: Pdev, irte: Int32Array): Rc {
  const bdf = pdev.sbdf & 0xffff;
  switch (pdev.type) {
    case PDEV_TYPE.PCIE_ENDPOINT:
    case PDEV_TYPE.PCIE_BRIDGE:
    case PDEV_TYPE.PCIE2PCI_BRIDGE:
    case PDEV_TYPE.PCI_HOST_BRIDGE: {
      // Phantom functions differ in the bits above log2 of the stride: those are not compared.
      const stride = pdev.phantomStride;
      setIreSid(irte, SVT.sidSq, stride === 1 ? 3 : stride === 2 ? 2 : stride === 4 ? 1 : 0, bdf);
      return 0;
    }
    case PDEV_TYPE.PCI:
    case PDEV_TYPE.LEGACY_PCI_BRIDGE:
    case PDEV_TYPE.PCI2PCIE_BRIDGE: {
      const found = findUpstreamBridge(vtd, pdev, pdev.devfn);
      if (found < 0) return E.NXIO;
      if (found === 0) {
        setIreSid(irte, SVT.sidSq, 0, bdf);
        return 0;
      }
      const { bus, devfn } = vtd.bridge;
      const kind = vtd.s.pdevType(sbdfOf(pdev.seg, (bus << 8) | devfn));
      if (kind === PDEV_TYPE.PCIE2PCI_BRIDGE) setIreSid(irte, SVT.bus, 0, (bus << 8) | pdev.bus);
      else setIreSid(irte, vtd.seams.vtdLegacyBridgeByBus() ? SVT.bus : SVT.sidSq, 0, (bus << 8) | devfn);
      return 0;
    }
    default:
      return E.OPNOTSUPP;
  }
}

/**
 * Remaps `msg` of the (first) vector of `descs`; `entryNr` is the vector's number in its group.
 * @returns -EINVAL without unit, -EFAULT when all entries are used. @xen msi_msg_write_remap_rte
 */
export function* msiMsgWriteRemapRte(
  vtd: Vtd,
  descs: readonly MsiDesc[],
  entryNr: number,
  msg: MsiMsg,
): Co<Rc> {
  const first = descs[0]!;
  const drhd = acpiFindMatchedDrhdUnit(vtd, first.pdev);
  if (drhd === undefined) return E.INVAL;
  const iommu = drhd.iommu!;
  const irte = new Int32Array(IRTE_WORDS);
  const rc = setMsiSourceId(vtd, first.pdev, irte);
  if (rc !== 0 && vtd.seams.vtdReportsUnknownMsiSource()) return rc;

  using _intremap = yield* hold(iommu.intremapLock);
  if (first.remapIndex < 0) {
    const last = allocRemapEntry(iommu, descs.length);
    if (last >= ENTRIES) return E.FAULT;
    const index = vtd.seams.vtdMsiGroupFirst(last, descs.length);
    for (const [i, desc] of descs.entries()) desc.remapIndex = index + i;
  }
  const index = descs[entryNr]!.remapIndex;
  set(irte, 0, IRTE.DM, msg.addressLo >>> 2);
  set(irte, 0, IRTE.TM, msg.data >>> 15);
  set(irte, 0, IRTE.DLM, msg.data >>> 8);
  set(irte, 0, IRTE.RH, get(irte, 0, IRTE.DLM) === DEST_LOWEST_PRIO ? 1 : 0);
  set(irte, 0, IRTE.V, msg.data);
  set(irte, 0, IRTE.DST, ((msg.addressLo >>> 12) & 0xff) << 8);
  set(irte, 0, IRTE.P, 1);

  const base = index - entryNr;
  msg.addressLo = (0xfee0_0000 | ((base & 0x7fff) << 5) | 0x18 | (((base >> 15) & 1) << 2)) >>> 0;
  msg.addressHi = 0;
  msg.data = entryNr;
  updateIrte(iommu, index, irte, descs[entryNr]!.irteInitialized);
  descs[entryNr]!.irteInitialized = true;
  return yield* iommuFlushIecIndex(iommu, 0, index);
}

/** Gives the entries of a group back. @xen msi_msg_write_remap_rte with no message, free_remap_entry */
export function* msiFreeRemapEntries(vtd: Vtd, descs: readonly MsiDesc[]): Co<void> {
  const drhd = acpiFindMatchedDrhdUnit(vtd, descs[0]?.pdev);
  if (drhd === undefined) return;
  const iommu = drhd.iommu!;
  using _intremap = yield* hold(iommu.intremapLock);
  const empty = new Int32Array(IRTE_WORDS);
  for (const desc of descs) {
    if (desc.remapIndex < 0) continue;
    updateIrte(iommu, desc.remapIndex, empty, false);
    yield* iommuFlushIecIndex(iommu, 0, desc.remapIndex);
    iommu.intremap.num -= 1;
    desc.remapIndex = -1;
    desc.irteInitialized = false;
  }
}

/**
 * Writes an I/O APIC pin's redirection entry as an interrupt remapping entry. @returns the remappable redirection
 * entry as two words, or -EFAULT when all entries are used. @xen io_apic_write_remap_rte
 */
export function* ioApicWriteRemapRte(
  vtd: Vtd,
  apic: number,
  apicId: number,
  pin: number,
  lo: number,
  hi: number,
): Co<{ readonly lo: number; readonly hi: number } | Rc> {
  const drhd = ioapicToDrhd(vtd, apicId);
  assert(drhd !== undefined, 'every I/O APIC is in the scope of a unit');
  const iommu = drhd.iommu!;
  using _intremap = yield* hold(iommu.intremapLock);
  const key = apic * 256 + pin;
  const known = vtd.apicPinToIrte.get(key);
  const index = known ?? allocRemapEntry(iommu, 1);
  if (index >= ENTRIES) return E.FAULT;
  vtd.apicPinToIrte.set(key, index);
  const at = irteAt(iommu, index);
  const irte = vtd.s.ram.words.slice(at, at + IRTE_WORDS);
  set(irte, 0, IRTE.DST, (hi >>> 24) << 8);
  set(irte, 0, IRTE.DM, lo >>> 11);
  set(irte, 0, IRTE.TM, lo >>> 15);
  set(irte, 0, IRTE.DLM, lo >>> 8);
  set(irte, 0, IRTE.RH, get(irte, 0, IRTE.DLM) === DEST_LOWEST_PRIO ? 1 : 0);
  set(irte, 0, IRTE.V, lo);
  setIreSid(irte, SVT.sidSq, 0, drhd.ioapics.find((a) => a.id === apicId)!.bdf);
  set(irte, 0, IRTE.P, 1);
  // Vector, status, polarity, IRR, trigger and mask stay; the mode makes room for bit 15 of the index.
  const keep = 0x1_f0ff;
  const rte = {
    lo: (lo & keep) | (((index >> 15) & 1) << 11),
    hi: (((index & 0x7fff) << 17) | 0x1_0000) >>> 0,
  };
  vtd.ioapicRtes.set(key, rte);
  updateIrte(iommu, index, irte, known !== undefined && vtd.s.cpu.cx16);
  yield* iommuFlushIecIndex(iommu, 0, index);
  return rte;
}
