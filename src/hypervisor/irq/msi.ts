/** Messages of devices: their entries, what hardware is told, and the way back. @xen arch/x86/msi.c */
import { E, type Rc } from '../../base/errno.js';
import { formatSbdf, sbdfOf } from '../../base/sbdf.js';
import { type MsiMsg, type Pdev, XENLOG } from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import { denyAccess } from '../io_caps.js';
import {
  CAP_ID,
  pciConfRead16,
  pciConfRead32,
  pciConfWrite16,
  pciConfWrite32,
  pciFindCapOffset,
} from '../passthrough/config.js';
import type { Xen } from '../xen.js';
import type { CpuMask, IrqDesc, MsiEntry } from './desc.js';
import { assignIrqVector, clearIrqVector } from './vectors.js';

const FLAGS = 2;
const MSI_ENABLE = 0x0001;
const MSI_QSIZE = 0x0070;
const MSI_64BIT = 0x0080;
const MSI_MASKBIT = 0x0100;
const MSIX_ENABLE = 0x8000;
const MSIX_MASKALL = 0x4000;
const COMMAND = 4;
const COMMAND_MEMORY = 0x2;
const COMMAND_INTX_DISABLE = 0x400;

/** What a caller wants of a device. @xen struct msi_info */
export interface MsiRequest {
  readonly irq: number;
  /** MSI: vectors. MSI-X: number of the table entry. */
  readonly entryNr: number;
  readonly msix: boolean;
}

/** The message for a vector and its CPUs: logical destination, lowest priority. @xen msi_compose_msg */
export const composeMsiMsg = (vector: number, cpus: CpuMask): MsiMsg => ({
  addressLo: (0xfee0_000c | ((cpus & 0xff) << 12)) >>> 0,
  addressHi: 0,
  data: 0x4100 | vector,
});

/** Of the address: which CPUs. @xen MSI_ADDR_DEST_ID_MASK */
const DEST_MASK = 0xf_f000;

/** Makes the entries of a request. @returns the first one, or a negative errno. @xen pci_enable_msi */
export function pciEnableMsi(xen: Xen, pdev: Pdev, msi: MsiRequest): MsiEntry | Rc {
  const type = msi.msix ? 'msix' : 'msi';
  const known = msisOf(xen, pdev).find((e) => e.type === type && e.irq === msi.irq);
  if (known !== undefined) {
    const what = `irq ${msi.irq} already mapped to ${msi.msix ? 'MSI-X' : 'MSI'} on ${formatSbdf(pdev.sbdf)}`;
    xen.services.printk(XENLOG.ERR, what);
    return xen.seams.msiTwiceIsRefused() ? E.EXIST : known;
  }
  const other = msisOf(xen, pdev).find((e) => e.type === (msi.msix ? 'msi' : 'msix'));
  if (other !== undefined) {
    const name = msi.msix ? 'MSI' : 'MSI-X';
    xen.services.printk(XENLOG.WARNING, `${name} already in use on ${formatSbdf(pdev.sbdf)}`);
    pciDisableMsi(xen, other);
  }
  return msi.msix ? enableMsix(xen, pdev, msi) : enableMsi(xen, pdev, msi);
}

export const msisOf = (xen: Xen, pdev: Pdev): readonly MsiEntry[] => xen.irqs.msis.get(pdev.sbdf) ?? [];

function remember(xen: Xen, entry: MsiEntry): void {
  const list = xen.irqs.msis.get(entry.pdev.sbdf);
  if (list === undefined) xen.irqs.msis.set(entry.pdev.sbdf, [entry]);
  else list.push(entry);
}

/** @xen msi_capability_init */
function enableMsi(xen: Xen, pdev: Pdev, msi: MsiRequest): MsiEntry | Rc {
  const pos = pciFindCapOffset(xen, pdev.sbdf, CAP_ID.MSI);
  if (pos === 0) return E.NODEV;
  const before = pciConfRead16(xen, pdev.sbdf, pos + FLAGS);
  const control = (before & ~MSI_QSIZE) | (Math.log2(msi.entryNr) << 4);
  pciConfWrite16(xen, pdev.sbdf, pos + FLAGS, before & ~MSI_ENABLE);
  if (xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
  const maskbit = (control & MSI_MASKBIT) !== 0;
  const entries = Array.from({ length: msi.entryNr }, (_, i) =>
    newEntry(pdev, msi.irq, {
      type: 'msi',
      entryNr: i,
      nvec: i === 0 ? msi.entryNr : 0,
      pos,
      is64: (control & MSI_64BIT) !== 0,
      maskbit,
    }),
  );
  if (maskbit) {
    const mask = pos + ((control & MSI_64BIT) !== 0 ? 16 : 12);
    const all = 2 ** pdev.msiMaxvec - 1;
    pciConfWrite32(xen, pdev.sbdf, mask, (pciConfRead32(xen, pdev.sbdf, mask) | all) >>> 0);
  }
  for (const e of entries) {
    e.hostMasked = maskbit;
    e.group = entries;
  }
  remember(xen, entries[0]!);
  // Whoever had switched it on has it on again.
  pciConfWrite16(xen, pdev.sbdf, pos + FLAGS, control);
  return entries[0]!;
}

/** Of a virtual function the physical one says it. @xen memory_decoded */
function memoryDecoded(xen: Xen, pdev: Pdev): boolean {
  const { bus, devfn } = pdev.isVirtfn ? pdev.physfn : pdev;
  return (pciConfRead16(xen, sbdfOf(pdev.seg, bus * 256 + devfn), COMMAND) & COMMAND_MEMORY) !== 0;
}

/** @xen msix_capability_init */
function enableMsix(xen: Xen, pdev: Pdev, msi: MsiRequest): MsiEntry | Rc {
  const { msix } = pdev;
  if (msix === undefined) return E.NODEV;
  const control = pciConfRead16(xen, pdev.sbdf, msix.pos + FLAGS);
  pciConfWrite16(xen, pdev.sbdf, msix.pos + FLAGS, control | MSIX_ENABLE | MSIX_MASKALL);
  if (!memoryDecoded(xen, pdev)) {
    pciConfWrite16(xen, pdev.sbdf, msix.pos + FLAGS, control & ~MSIX_ENABLE);
    return E.NXIO;
  }
  if (xen.faults.on && xen.faults.take('alloc')) {
    pciConfWrite16(xen, pdev.sbdf, msix.pos + FLAGS, control & ~MSIX_ENABLE);
    return E.NOMEM;
  }
  const entry = newEntry(pdev, msi.irq, {
    type: 'msix',
    entryNr: msi.entryNr,
    nvec: 1,
    pos: msix.pos,
    is64: true,
    maskbit: true,
  });
  entry.hostMasked = true;
  entry.guestMasked = true;
  remember(xen, entry);
  msix.usedEntries += 1;
  const kept = msix.guestMaskall ? control | MSIX_MASKALL : control & ~MSIX_MASKALL;
  pciConfWrite16(xen, pdev.sbdf, msix.pos + FLAGS, msix.usedEntries === 1 ? kept : control);
  return entry;
}

type Shape = Pick<MsiEntry, 'type' | 'entryNr' | 'nvec' | 'pos' | 'is64' | 'maskbit'>;

function newEntry(pdev: Pdev, irq: number, shape: Shape): MsiEntry {
  const entry: MsiEntry = {
    ...shape,
    pdev,
    irq,
    remapIndex: -1,
    irteInitialized: false,
    hostMasked: false,
    guestMasked: false,
    msg: { addressLo: 0, addressHi: 0, data: 0 },
    sent: { addressLo: 0, addressHi: 0, data: 0 },
    group: [],
  };
  entry.group = [entry];
  return entry;
}

/** Gives a device's message its interrupt, and tells hardware. @xen setup_msi_irq */
export function* setupMsiIrq(xen: Xen, desc: IrqDesc, entry: MsiEntry): Co<Rc> {
  desc.msi = entry;
  desc.handler = entry.maskbit ? 'msi_maskable' : 'msi';
  const rc = yield* writeMsiMsg(xen, entry, composeMsiMsg(desc.vector, desc.cpuMask), true);
  if (rc !== 0) {
    desc.handler = 'none';
    desc.msi = undefined;
  }
  return rc;
}

/** `force`: the device is told, whatever it was told before. @xen write_msi_msg */
function* writeMsiMsg(xen: Xen, entry: MsiEntry, msg: MsiMsg, force: boolean): Co<Rc> {
  entry.msg = { ...msg };
  const known = entry.remapIndex >= 0;
  if (xen.opts.intremap !== 'off' && xen.ops?.updateIreFromMsi !== undefined) {
    const rc = yield* xen.ops.updateIreFromMsi(entry.group, entry.group.indexOf(entry), msg);
    if (rc !== 0 || (known && !force && xen.seams.msiIsWrittenOnce())) return rc;
  }
  entry.sent = msg;
  if (entry.type === 'msix' || entry.entryNr !== 0) return 0;
  const { pos, pdev } = entry;
  pciConfWrite32(xen, pdev.sbdf, pos + 4, msg.addressLo);
  if (entry.is64) pciConfWrite32(xen, pdev.sbdf, pos + 8, msg.addressHi);
  pciConfWrite16(xen, pdev.sbdf, pos + (entry.is64 ? 12 : 8), msg.data & 0xffff);
  return 0;
}

/**
 * Tells a device again what a reset made it forget: messages, masks, and that they are on.
 * @returns 0, -EPERM or -ENXIO. @xen pci_restore_msi_state
 */
export function* pciRestoreMsiState(xen: Xen, pdev: Pdev): Co<Rc> {
  if (xen.cpus.current.domid !== xen.hwdom.domid) return E.PERM;
  let msix: { readonly at: number; readonly control: number } | undefined;
  for (const entry of [...msisOf(xen, pdev)]) {
    const at = entry.pos + FLAGS;
    const control = pciConfRead16(xen, pdev.sbdf, at);
    if (entry.type === 'msi') pciConfWrite16(xen, pdev.sbdf, at, control & ~MSI_ENABLE);
    else if (msix === undefined) {
      msix = { at, control };
      pciConfWrite16(xen, pdev.sbdf, at, control | MSIX_ENABLE | MSIX_MASKALL);
      if (!memoryDecoded(xen, pdev)) {
        pciConfWrite16(xen, pdev.sbdf, at, control & ~MSIX_ENABLE);
        return E.NXIO;
      }
    }
    yield* writeMsiMsg(xen, entry, entry.msg, true);
    if (entry.type !== 'msi') continue;
    for (const e of entry.group) writeMask(xen, e);
    const vectors = Math.log2(entry.nvec) << 4;
    const off = pciConfRead16(xen, pdev.sbdf, at) & ~(MSI_QSIZE | MSI_ENABLE);
    pciConfWrite16(xen, pdev.sbdf, at, off | vectors | MSI_ENABLE);
  }
  if (msix !== undefined) pciConfWrite16(xen, pdev.sbdf, msix.at, msix.control | MSIX_ENABLE);
  return 0;
}

/** @xen msi_set_mask_bit */
function writeMask(xen: Xen, entry: MsiEntry): void {
  if (!entry.maskbit) return;
  const reg = entry.pos + (entry.is64 ? 16 : 12);
  const bit = 1 << entry.entryNr;
  const before = pciConfRead32(xen, entry.pdev.sbdf, reg);
  const masked = entry.hostMasked || entry.guestMasked;
  pciConfWrite32(xen, entry.pdev.sbdf, reg, (masked ? before | bit : before & ~bit) >>> 0);
}

/** @xen set_msi_affinity */
export function* setMsiAffinity(xen: Xen, desc: IrqDesc, cpus: CpuMask): Co<void> {
  const entry = desc.msi;
  if (assignIrqVector(xen.irqs, desc, cpus) < 0 || entry === undefined) return;
  const last = xen.seams.msiIsRemembered() ? entry.msg : readMsiMsg(xen, entry);
  const target = composeMsiMsg(desc.vector, cpus & desc.cpuMask);
  yield* writeMsiMsg(
    xen,
    entry,
    {
      addressLo: ((last.addressLo & ~DEST_MASK) | (target.addressLo & DEST_MASK)) >>> 0,
      addressHi: last.addressHi,
      data: (last.data & ~0xff) | (target.data & 0xff),
    },
    false,
  );
}

/**
 * What a device says its message is: as Xen composed it where that is what Xen wrote there, since remapping is undone.
 * What the device has put in its place is taken as it stands. @xen read_msi_msg, until 4.14
 */
function readMsiMsg(xen: Xen, entry: MsiEntry): MsiMsg {
  const { pos, pdev } = entry;
  const [lo, hi] = [pos + 4, pos + 8];
  if (entry.type === 'msix' || entry.entryNr !== 0) return entry.msg;
  const msg = {
    addressLo: pciConfRead32(xen, pdev.sbdf, lo),
    addressHi: entry.is64 ? pciConfRead32(xen, pdev.sbdf, hi) : 0,
    data: pciConfRead16(xen, pdev.sbdf, entry.is64 ? hi + 4 : hi),
  };
  const { sent } = entry;
  return msg.addressLo === sent.addressLo && msg.data === sent.data ? entry.msg : msg;
}

/** Hardware no longer sends it. @xen pci_disable_msi */
export function pciDisableMsi(xen: Xen, entry: MsiEntry): void {
  const { pdev, pos } = entry;
  const control = pciConfRead16(xen, pdev.sbdf, pos + FLAGS);
  if (entry.type === 'msi') {
    pciConfWrite16(xen, pdev.sbdf, pos + FLAGS, control & ~MSI_ENABLE);
    if (entry.irq > 0 && !xen.irqs.desc(entry.irq).isGuest) intx(xen, pdev);
    return;
  }
  if ((control & MSIX_ENABLE) === 0)
    pciConfWrite16(xen, pdev.sbdf, pos + FLAGS, control | MSIX_ENABLE | MSIX_MASKALL);
  pciConfWrite16(xen, pdev.sbdf, pos + FLAGS, control);
  pdev.msix!.usedEntries -= 1;
}

/** The line of the device works again. @xen pci_intx */
function intx(xen: Xen, pdev: Pdev): void {
  const command = pciConfRead16(xen, pdev.sbdf, COMMAND);
  pciConfWrite16(xen, pdev.sbdf, COMMAND, command & ~COMMAND_INTX_DISABLE);
}

/** Interrupts and remapping entries of a request are free again. @xen msi_free_irq */
export function* msiFreeIrq(xen: Xen, first: MsiEntry): Co<void> {
  for (const entry of [...first.group].reverse()) {
    if (entry.irq >= 0) destroyIrq(xen, entry.irq);
    if (xen.opts.intremap !== 'off' && xen.ops?.updateIreFromMsi !== undefined)
      yield* xen.ops.updateIreFromMsi([entry], 0, undefined);
  }
  const list = xen.irqs.msis.get(first.pdev.sbdf) ?? [];
  const at = list.indexOf(first);
  if (at >= 0) list.splice(at, 1);
}

/** @xen destroy_irq */
export function destroyIrq(xen: Xen, irq: number): void {
  const desc = xen.irqs.descs.get(irq);
  if (desc === undefined) return;
  const creator = xen.domains.get(desc.creator);
  const kept = creator === undefined ? 0 : denyAccess(xen, creator.irqCaps, irq, irq);
  if (kept !== 0) {
    const what = `Could not revoke d${desc.creator} access to IRQ${irq} (error ${kept})`;
    xen.services.printk(XENLOG.G_ERR, what);
  }
  clearIrqVector(xen.irqs, desc);
  xen.irqs.descs.delete(irq);
}
