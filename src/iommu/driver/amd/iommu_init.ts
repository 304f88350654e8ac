/** Set-up of the units: tables, rings, registers. @xen drivers/passthrough/amd/iommu_init.c */
import { E, type Rc } from '../../../base/errno.js';
import { bits, get } from '../../../base/layout.js';
import { formatSbdf, hex, sbdf, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { AMD_REG, CONTROL, DEV_TAB_SIZE, DTE_WORDS, EXCL, RING_LENGTH } from '../../format/amd.js';
import { CAP_HEADER, EXT_FEATURE } from '../../format/amd_features.js';
import { type MsiMsg, XENLOG } from '../types.js';
import { amdIommuSetIntremapTable, iommuDteAddDeviceEntry } from './dte.js';
import { setIommuEventLogControl, writeControl } from './event_log.js';
import {
  amdIommuAllocIntremapTable,
  freeAllIntremapTables,
  gaEnabled,
  getOrderFromBytes,
  hasXt,
} from './intremap_table.js';
import { amdIommuFlushAllCaches } from './iommu_cmd.js';
import { getIommuFeatures } from './iommu_detect.js';
import { IvrsMappings } from './ivrs_mappings.js';
import { amdIommuGetIvrsDevEntries, parseIvrsTable } from './ivrs_table.js';
import { type AmdUnit, type AmdVi, amdDebug, amdError, amdWarn, type RingBuffer, say } from './state.js';

const PAGE = 4096;
const DTE_BYTES = 32;
const ENTRY_BYTES = 16;
/** @xen IOMMU_EVENT_LOG_DEFAULT_ENTRIES, IOMMU_PPR_LOG_DEFAULT_ENTRIES */
const LOG_ENTRIES = 512;
/** @xen MSI_FLAGS_ENABLE */
const PCI_MSI_FLAGS = 2;
const PCI_MSI_FLAGS_ENABLE = 1;
const PCI_MSI_ADDRESS_LO = 4;
const PCI_MSI_ADDRESS_HI = 8;
const PCI_MSI_DATA_64 = 12;
/** Flags of an IVHD. */
const IVHD_TT_ENABLE = 1;
const IVHD_PASS_PW = 2;
const IVHD_RES_PASS_PW = 4;
const IVHD_ISOC = 8;
/** Bits 51:32 of an address, in the upper word of a base register. */
const BASE_HI = bits(0, 19, 0);

const feature = (unit: AmdUnit, f: (typeof EXT_FEATURE)[keyof typeof EXT_FEATURE]): boolean =>
  get(unit.features, 0, f) !== 0;

/** @xen map_iommu_mmio_region */
function mapIommuMmioRegion(amd: AmdVi, unit: AmdUnit): Rc {
  const region = amd.s.mmio.find(unit.mmioBase);
  if (region === undefined || region.base !== unit.mmioBase) return E.NOMEM;
  unit.regs = region.device;
  if (amd.seams.amdDisablesFirmwareIommu()) return 0;
  // All of the region is zeroed, byte by byte; only these parts of it have registers.
  for (let offset = 0; offset < 0x200; offset++) unit.mmio.write8?.(offset, 0);
  for (let offset = 0x2000; offset < 0x2100; offset++) unit.mmio.write8?.(offset, 0);
  return 0;
}

/** A unit that firmware left running is stopped before Xen sets it up. */
function disableFirmwareIommu(amd: AmdVi, unit: AmdUnit): void {
  const lo = unit.mmio.read32(AMD_REG.CONTROL);
  const hi = unit.mmio.read32(AMD_REG.CONTROL + 4);
  if ((lo & CONTROL.IOMMU_EN) !== 0) {
    const who = formatSbdf(sbdfOf(unit.seg, unit.bdf));
    const ctrl = hex(hi, 8) + hex(lo, 8);
    amd.s.printk(XENLOG.WARNING, `AMD-Vi: IOMMU ${who} enabled by firmware (ctrl ${ctrl})`);
  }
  unit.ctrl = 0;
  writeControl(unit);
}

/** @xen amd_iommu_prepare_one */
function amdIommuPrepareOne(amd: AmdVi, unit: AmdUnit): Rc {
  if (!amd.mappings.has(unit.seg)) {
    const ivrs = new IvrsMappings(unit.seg, amd.ivrsBdfEntries);
    amd.mappings.set(unit.seg, ivrs);
    amd.firstMappings ??= ivrs;
  }
  const rc = mapIommuMmioRegion(amd, unit);
  if (rc !== 0) return rc;
  getIommuFeatures(amd, unit);
  if (amd.maxPagingMode < amd.minPagingMode) return E.RANGE;
  if (amd.seams.amdDisablesFirmwareIommu()) disableFirmwareIommu(amd, unit);
  return 0;
}

/** SATA in combined mode does not get on with remapping. @xen amd_sp5100_erratum28 */
function amdSp5100Erratum28(amd: AmdVi): boolean {
  for (let bus = 0; bus < 256; bus++) {
    const smbus = sbdf(0, bus, 0x14, 0);
    if (amd.s.confRead(smbus, 0, 4) !== 0x4385_1002) continue;
    if (((amd.s.confRead(smbus, 0xad, 1) >> 3) & 1) === 0) continue;
    amd.s.printk(XENLOG.WARNING, 'AMD-Vi: SP5100 erratum 28 detected, disabling IOMMU.');
    amd.s.printk(
      XENLOG.WARNING,
      'If possible, disable SATA Combined mode in BIOS or contact your vendor for BIOS update.',
    );
    return true;
  }
  return false;
}

/** @xen amd_iommu_prepare */
function* amdIommuPrepare(amd: AmdVi): Co<Rc> {
  const rc = prepare(amd);
  if (rc === 0) return 0;
  yield* amdIommuInitCleanup(amd);
  amd.ivhdType = 0;
  return rc;
}

function prepare(amd: AmdVi): Rc {
  if (!amd.seams.amdTableForEachDevice()) amd.opts.amdPerdevIntremap = false;
  if (amd.opts.intremap !== 'off' && amd.opts.amdPerdevIntremap && amdSp5100Erratum28(amd)) return E.NODEV;
  if (amd.ivrsBdfEntries !== 0) return 0;
  const entries = amdIommuGetIvrsDevEntries(amd);
  if (entries < 0) return entries;
  amd.ivrsBdfEntries = entries;
  let xt = true;
  for (const unit of amd.units) {
    const rc = amdIommuPrepareOne(amd, unit);
    if (rc !== 0) return rc;
    if (!hasXt(unit)) xt = false;
  }
  if (amd.opts.intremap !== 'off' && !xt) amd.opts.intremap = 'restricted';
  return parseIvrsTable(amd);
}

/** Bytes of the device table. @xen dt_alloc_size */
const dtAllocSize = (amd: AmdVi): number => PAGE * 2 ** getOrderFromBytes(amd.ivrsBdfEntries * DTE_BYTES);

/** @xen allocate_buffer */
function allocateBuffer(amd: AmdVi, bytes: number, name: string): number {
  const mfn = amd.s.allocXenPages(getOrderFromBytes(bytes));
  if (mfn === 0) amdError(amd, `cannot allocate ${name}`);
  return mfn;
}

/** @xen allocate_ring_buffer */
function allocateRingBuffer(amd: AmdVi, ring: RingBuffer, entries: number, name: string): boolean {
  ring.order = getOrderFromBytes(entries * ENTRY_BYTES);
  ring.size = PAGE * 2 ** ring.order;
  ring.head = 0;
  ring.tail = 0;
  ring.mfn = allocateBuffer(amd, ring.size, name);
  return ring.mfn !== 0;
}

/** Room for a command and its wait from each CPU, and one slot that stays empty. @xen allocate_cmd_buffer */
function allocateCmdBuffer(amd: AmdVi, unit: AmdUnit): boolean {
  if (amd.cmdEntries === 0) {
    const order = getOrderFromBytes((amd.s.cpu.count * 2 + 1) * ENTRY_BYTES);
    amd.cmdEntries = (PAGE * 2 ** order) / ENTRY_BYTES;
    amdDebug(amd, `using ${amd.cmdEntries}-entry cmd ring(s)`);
  }
  return allocateRingBuffer(amd, unit.cmdBuffer, amd.cmdEntries, 'Command Buffer');
}

/** Every id: valid and not translating, so that all its requests are aborted. The frames come zeroed. */
function prefillDeviceTable(amd: AmdVi, mfn: number, bytes: number): void {
  const { ram } = amd.s;
  const iv = amd.opts.intremap === 'off' ? 0 : 1;
  for (let page = 0; page < bytes / PAGE; page++) {
    const base = ram.slot(mfn + page) * FRAME_WORDS;
    const t = ram.words;
    for (let at = base; at < base + FRAME_WORDS; at += DTE_WORDS) {
      t[at] = 1; // V
      t[at + 4] = iv;
    }
  }
}

/** @xen amd_iommu_setup_device_table */
function amdIommuSetupDeviceTable(amd: AmdVi, ivrs: IvrsMappings): Rc {
  if (ivrs.devTableMfn === 0) {
    const bytes = dtAllocSize(amd);
    ivrs.devTableMfn = allocateBuffer(amd, bytes, 'Device Table');
    if (ivrs.devTableMfn === 0) return E.NOMEM;
    prefillDeviceTable(amd, ivrs.devTableMfn, bytes);
  }
  const { ram } = amd.s;
  const remap = amd.opts.intremap !== 'off';
  for (let bdf = 0; bdf < amd.ivrsBdfEntries; bdf++) {
    if (!ivrs.valid(bdf)) continue;
    if (remap && ivrs.requestor[bdf] === bdf && !tableForDevice(amd, ivrs, bdf)) return E.NOMEM;
    const table = ivrs.intremap.size === 0 ? undefined : ivrs.intremap.get(bdf);
    const at = ram.slot(ivrs.devTableMfn + (bdf >>> 7)) * FRAME_WORDS + (bdf & 127) * DTE_WORDS;
    iommuDteAddDeviceEntry(ram.words, at, ivrs, bdf);
    amdIommuSetIntremapTable(ram.words, at, table, gaEnabled(unitOf(amd, ivrs, bdf)), remap);
  }
  return 0;
}

/** The unit that serves an id; ids that are only aliases get the format of the first. */
const unitOf = (amd: AmdVi, ivrs: IvrsMappings, bdf: number): AmdUnit =>
  amd.units[Math.max(0, ivrs.unit(bdf))]!;

/** The interrupt table of a device that sends messages, shared with its phantom functions. False: no memory. */
function tableForDevice(amd: AmdVi, ivrs: IvrsMappings, bdf: number): boolean {
  const pdev = amd.s.pciGetPdev(sbdfOf(ivrs.seg, bdf));
  if (pdev === undefined || (pdev.msix === undefined && pdev.msiMaxvec === 0)) return true;
  if (ivrs.intremap.has(bdf)) return true;
  const unit = unitOf(amd, ivrs, bdf);
  const table = amdIommuAllocIntremapTable(amd, unit, pdev.msix?.nrEntries ?? pdev.msiMaxvec);
  if (table === undefined) return false;
  ivrs.intremap.set(bdf, table);
  if (pdev.phantomStride > 0)
    for (let id = bdf + pdev.phantomStride; id >>> 3 === bdf >>> 3; id += pdev.phantomStride)
      ivrs.intremap.set(id, table);
  return true;
}

/** Both halves of a base register, the lower first as Xen writes them. */
function writeBase(unit: AmdUnit, offset: number, mfn: number, low: number, high: number): void {
  const lo = ((mfn % 0x10_0000) << 12) | low;
  unit.mmio.write32(offset, lo >>> 0);
  unit.mmio.write32(offset + 4, (Math.floor(mfn / 0x10_0000) & BASE_HI.mask) | high);
}

const ringLength = (ring: RingBuffer): number => (ring.order + 8) << RING_LENGTH.lo;

/** @xen register_iommu_exclusion_range */
function registerIommuExclusionRange(unit: AmdUnit): void {
  const x = unit.exclusion;
  const limit = Math.floor(x.limit / PAGE);
  const base = Math.floor(x.base / PAGE);
  unit.mmio.write32(AMD_REG.EXCL_LIMIT + 4, Math.floor(limit / 0x10_0000));
  unit.mmio.write32(AMD_REG.EXCL_LIMIT, ((limit % 0x10_0000) << 12) >>> 0);
  unit.mmio.write32(AMD_REG.EXCL_BASE + 4, Math.floor(base / 0x10_0000));
  const flags = (x.allowAll ? 1 << EXCL.ALLOW.lo : 0) | (x.enable ? 1 << EXCL.EX_EN.lo : 0);
  unit.mmio.write32(AMD_REG.EXCL_BASE, (((base % 0x10_0000) << 12) | flags) >>> 0);
}

/** The unit's own interrupt. @xen __msi_set_enable */
function amdIommuMsiEnable(amd: AmdVi, unit: AmdUnit, enable: boolean): void {
  const where = sbdfOf(unit.seg, unit.bdf);
  const control = amd.s.confRead(where, unit.msiPos + PCI_MSI_FLAGS, 2);
  const wanted = enable ? control | PCI_MSI_FLAGS_ENABLE : control & ~PCI_MSI_FLAGS_ENABLE;
  amd.s.confWrite(where, unit.msiPos + PCI_MSI_FLAGS, 2, wanted);
}

/** The unit is a function with a 64-bit message; it is not remapped. @xen set_iommu_interrupt_handler, write_msi_msg */
export function setUnitMessage(amd: AmdVi, unit: AmdUnit, msg: MsiMsg): void {
  const where = sbdfOf(unit.seg, unit.bdf);
  amd.s.confWrite(where, unit.msiPos + PCI_MSI_ADDRESS_LO, 4, msg.addressLo);
  amd.s.confWrite(where, unit.msiPos + PCI_MSI_ADDRESS_HI, 4, msg.addressHi);
  amd.s.confWrite(where, unit.msiPos + PCI_MSI_DATA_64, 2, msg.data);
}

/** @xen set_iommu_ht_flags */
function setIommuHtFlags(unit: AmdUnit): void {
  const from = (flag: number, bit: number): number => ((unit.htFlags & flag) !== 0 ? bit : 0);
  let ctrl = unit.ctrl & ~(CONTROL.PASS_PW | CONTROL.RES_PASS_PW | CONTROL.ISOC);
  if ((unit.capHeader & (1 << CAP_HEADER.HT_TUNNEL.lo)) !== 0)
    ctrl = (ctrl & ~CONTROL.HT_TUN_EN) | from(IVHD_TT_ENABLE, CONTROL.HT_TUN_EN);
  ctrl |= from(IVHD_PASS_PW, CONTROL.PASS_PW) | from(IVHD_RES_PASS_PW, CONTROL.RES_PASS_PW);
  unit.ctrl = ctrl | from(IVHD_ISOC, CONTROL.ISOC) | CONTROL.COHERENT;
  writeControl(unit);
}

/** A ring starts at its beginning each time it is switched on. */
function setRingControl(unit: AmdUnit, head: number, tail: number, on: number, enable: boolean): void {
  if (enable) {
    unit.mmio.write64(head, 0, 0);
    unit.mmio.write64(tail, 0, 0);
  }
  unit.ctrl = enable ? unit.ctrl | on : unit.ctrl & ~on;
  writeControl(unit);
}
/** @xen set_iommu_command_buffer_control */
const setCommandBufferControl = (unit: AmdUnit, enable: boolean): void =>
  setRingControl(unit, AMD_REG.CMD_BUF_HEAD, AMD_REG.CMD_BUF_TAIL, CONTROL.CMD_BUF_EN, enable);
/** @xen set_iommu_ppr_log_control */
const setPprLogControl = (unit: AmdUnit, enable: boolean): void =>
  setRingControl(
    unit,
    AMD_REG.PPR_LOG_HEAD,
    AMD_REG.PPR_LOG_TAIL,
    CONTROL.PPR_EN | CONTROL.PPR_INT_EN | CONTROL.PPR_LOG_EN,
    enable,
  );

function setControl(unit: AmdUnit, bit: number, on: boolean): void {
  unit.ctrl = on ? unit.ctrl | bit : unit.ctrl & ~bit;
  writeControl(unit);
}

/** @xen enable_iommu */
function* enableIommu(amd: AmdVi, unit: AmdUnit): Co<void> {
  {
    using _lock = yield* hold(unit.lock);
    if (unit.enabled) return;
    const ppr = feature(unit, EXT_FEATURE.PPR_SUP);
    writeBase(unit, AMD_REG.DEV_TAB_BASE, unit.devTableMfn, (unit.devTablePages - 1) & DEV_TAB_SIZE.mask, 0);
    writeBase(unit, AMD_REG.CMD_BUF_BASE, unit.cmdBuffer.mfn, 0, ringLength(unit.cmdBuffer));
    writeBase(unit, AMD_REG.EVENT_LOG_BASE, unit.eventLog.mfn, 0, ringLength(unit.eventLog));
    registerIommuExclusionRange(unit);
    if (ppr) writeBase(unit, AMD_REG.PPR_LOG_BASE, unit.pprLog.mfn, 0, ringLength(unit.pprLog));
    if (unit.hasIrq) amdIommuMsiEnable(amd, unit, true);
    if (!amd.seams.amdEnablesMsiOnce()) amdIommuMsiEnable(amd, unit, true);
    setIommuHtFlags(unit);
    setCommandBufferControl(unit, true);
    if (unit.hasIrq) {
      setIommuEventLogControl(unit, true);
      if (ppr) {
        setPprLogControl(unit, true);
        amdDebug(amd, 'PPR Log Enabled.');
      }
    }
    if (feature(unit, EXT_FEATURE.GT_SUP)) {
      setControl(unit, CONTROL.GT_EN, true);
      amdDebug(amd, 'Guest Translation Enabled.');
    }
    setControl(unit, CONTROL.IOMMU_EN, true);
    unit.enabled = true;
  }
  if (feature(unit, EXT_FEATURE.IA_SUP)) yield* amdIommuFlushAllCaches(amd, unit);
}

/** @xen disable_iommu */
function* disableIommu(amd: AmdVi, unit: AmdUnit): Co<void> {
  using _lock = yield* hold(unit.lock);
  if (!unit.enabled) return;
  amdIommuMsiEnable(amd, unit, false);
  setCommandBufferControl(unit, false);
  setIommuEventLogControl(unit, false);
  if (feature(unit, EXT_FEATURE.PPR_SUP)) setPprLogControl(unit, false);
  if (feature(unit, EXT_FEATURE.GT_SUP)) setControl(unit, CONTROL.GT_EN, false);
  setControl(unit, CONTROL.IOMMU_EN, false);
  unit.enabled = false;
}

/** The unit must be a device that Xen knows. @xen set_iommu_interrupt_handler */
function setIommuInterruptHandler(amd: AmdVi, unit: AmdUnit): boolean {
  const where = sbdfOf(unit.seg, unit.bdf);
  if (amd.s.pciGetPdev(where) === undefined) {
    amdWarn(amd, `no pdev for ${formatSbdf(where)}`);
    return false;
  }
  unit.hasIrq = true;
  return true;
}

/** @xen amd_iommu_init_one */
function* amdIommuInitOne(amd: AmdVi, unit: AmdUnit): Co<Rc> {
  if (!allocateCmdBuffer(amd, unit)) return E.NODEV;
  if (!allocateRingBuffer(amd, unit.eventLog, LOG_ENTRIES, 'Event Log')) return E.NODEV;
  const ppr = feature(unit, EXT_FEATURE.PPR_SUP);
  if (ppr && !allocateRingBuffer(amd, unit.pprLog, LOG_ENTRIES, 'PPR Log')) return E.NODEV;
  if (!setIommuInterruptHandler(amd, unit)) return E.NODEV;
  unit.devTableMfn = amd.mappings.get(unit.seg)!.devTableMfn;
  unit.devTablePages = dtAllocSize(amd) / PAGE;
  yield* enableIommu(amd, unit);
  say(amd, `AMD-Vi: IOMMU ${amd.nrIommus} Enabled.`);
  amd.nrIommus += 1;
  return 0;
}

/** @xen amd_iommu_init */
export function* amdIommuInit(amd: AmdVi): Co<Rc> {
  let rc = yield* amdIommuPrepare(amd);
  if (rc !== 0) return rc;
  amd.pollMfn = amd.s.allocXenPages(0);
  if (amd.pollMfn === 0) rc = E.NOMEM;
  for (const ivrs of amd.mappings.values()) if (rc === 0) rc = amdIommuSetupDeviceTable(amd, ivrs);
  if (rc === 0) {
    amd.opts.hapPtShare = false;
    amd.s.printk(XENLOG.DEBUG, 'AMD-Vi: Disabled HAP memory map sharing with IOMMU');
    for (let i = 0; i < amd.units.length && rc === 0; i++) rc = yield* amdIommuInitOne(amd, amd.units[i]!);
  }
  if (rc !== 0) yield* amdIommuInitCleanup(amd);
  return rc;
}

function freeRing(amd: AmdVi, ring: RingBuffer): void {
  if (ring.mfn !== 0) amd.s.freeXenPages(ring.mfn, ring.order);
  ring.mfn = 0;
}

/** Gives up: the units stop, everything is freed, remapping is off. @xen amd_iommu_init_cleanup */
function* amdIommuInitCleanup(amd: AmdVi): Co<void> {
  freeAllIntremapTables(amd);
  for (let i = 0; i < amd.units.length; i++) {
    const unit = amd.units[i]!;
    unit.ctrl &= ~CONTROL.GA_EN;
    if (unit.enabled) yield* disableIommu(amd, unit);
    else if (unit.regs !== undefined) writeControl(unit);
    freeRing(amd, unit.cmdBuffer);
    freeRing(amd, unit.eventLog);
    freeRing(amd, unit.pprLog);
    unit.regs = undefined;
  }
  amd.units.length = 0;
  for (const ivrs of amd.mappings.values())
    if (ivrs.devTableMfn !== 0)
      amd.s.freeXenPages(ivrs.devTableMfn, getOrderFromBytes(amd.ivrsBdfEntries * DTE_BYTES));
  amd.mappings.clear();
  amd.firstMappings = undefined;
  if (amd.pollMfn !== 0) amd.s.freeXenPages(amd.pollMfn, 0);
  amd.pollMfn = 0;
  amd.opts.hwdomPassthrough = false;
  amd.opts.intremap = 'off';
}
