/** The event log: read, printed, acted on, restarted after an overflow. @xen drivers/passthrough/amd/iommu_init.c */
import { get } from '../../../base/layout.js';
import { formatSbdf, sbdfOf } from '../../../base/sbdf.js';
import { type Co, hold, pause } from '../../../sim/co.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import { AMD_REG, CONTROL, EVENT, EVENT_ENTRY, EVENT_FLAG, RING_PTR_MASK, STATUS } from '../../format/amd.js';
import { XENLOG } from '../types.js';
import { amdIommuPrintEntries } from './dump.js';
import { getDmaRequestorId } from './requestor.js';
import { type AmdUnit, type AmdVi, amdDebug, amdWarn, getIvrsMappings, hash } from './state.js';

const ENTRY_BYTES = 16;
/** @xen IOMMU_LOG_ENTRY_TIMEOUT */
const LOG_ENTRY_TIMEOUT = 1000;
/** How often the tasklet may find that there is more to do before somebody else must run. */
const ROUNDS_MAX = 64;

const EVENT_NAMES: readonly string[] = [
  'ILLEGAL_DEV_TABLE_ENTRY',
  'IO_PAGE_FAULT',
  'DEV_TABLE_HW_ERROR',
  'PAGE_TABLE_HW_ERROR',
  'ILLEGAL_COMMAND_ERROR',
  'COMMAND_HW_ERROR',
  'IOTLB_INV_TIMEOUT',
  'INVALID_DEV_REQUEST',
];
const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [0xe00, '??'],
  [EVENT_FLAG.TR, 'TR'],
  [EVENT_FLAG.RZ, 'RZ'],
  [EVENT_FLAG.PE, 'PE'],
  [EVENT_FLAG.RW, 'RW'],
  [EVENT_FLAG.PR, 'PR'],
  [EVENT_FLAG.I, 'I'],
  [EVENT_FLAG.US, 'US'],
  [EVENT_FLAG.NX, 'NX'],
  [EVENT_FLAG.GN, 'GN'],
];
const flagText = (flags: number): string =>
  hash(flags) + FLAG_NAMES.map(([bit, name]) => ((flags & bit) === 0 ? '' : ` ${name}`)).join('');
const hex8 = (w: number): string => (w >>> 0).toString(16).padStart(8, '0');

/** One entry at word `at`. @xen parse_event_log_entry */
function* parseEventLogEntry(amd: AmdVi, unit: AmdUnit, at: number): Co<void> {
  const t = amd.s.ram.words;
  const code = get(t, at, EVENT_ENTRY.CODE);
  const name = EVENT_NAMES[code - 1] ?? 'event';
  if (code !== EVENT.IO_PAGE_FAULT) {
    const words = [0, 1, 2, 3].map((i) => hex8(t[at + i]!)).join(' ');
    amd.s.printk(XENLOG.ERR, `${name} ${words}`);
    return;
  }
  const deviceId = get(t, at, EVENT_ENTRY.DEVICE_ID);
  const domid = get(t, at, EVENT_ENTRY.DOMAIN_ID);
  const addr = hex8(t[at + 3]!) + hex8(t[at + 2]!);
  const dfn = (t[at + 3]! >>> 0) * 0x10_0000 + (t[at + 2]! >>> 12);
  const who = formatSbdf(sbdfOf(unit.seg, deviceId));
  const flags = flagText(get(t, at, EVENT_ENTRY.FLAGS));
  amd.s.printk(XENLOG.ERR, `AMD-Vi: ${name}: ${who} d${domid} addr ${addr} flags ${flags}`);
  if (amd.opts.verbose) amdIommuPrintEntries(amd, unit, deviceId, dfn);
  // Every function whose requests carry this id pays for it.
  const ivrs = getIvrsMappings(amd, unit.seg)!;
  for (let bdf = 0; bdf < amd.ivrsBdfEntries; bdf++)
    if (getDmaRequestorId(ivrs, bdf) === deviceId)
      yield* amd.s.pciCheckDisableDevice(unit.seg, bdf >>> 8, bdf & 0xff);
}

/** @xen iommu_read_log */
function* iommuReadLog(amd: AmdVi, unit: AmdUnit): Co<void> {
  const log = unit.eventLog;
  using _lock = yield* hold(log.lock);
  const tail = unit.mmio.read32(AMD_REG.EVENT_LOG_TAIL) & RING_PTR_MASK;
  while (tail !== log.head) {
    const at = (): number =>
      amd.s.ram.slot(log.mfn + (log.head >>> 12)) * FRAME_WORDS + ((log.head & 0xfff) >>> 2);
    // Errata 732 and 733: the tail may move before the entry is there; its code tells.
    for (let count = 0; get(amd.s.ram.words, at(), EVENT_ENTRY.CODE) === 0; ) {
      if (++count === LOG_ENTRY_TIMEOUT) {
        amdDebug(amd, 'AMD-Vi: No entry written to Event Log');
        return;
      }
      yield* pause(amd.s.clock, 1000);
    }
    yield* parseEventLogEntry(amd, unit, at());
    amd.s.ram.words[at() + 1] = 0;
    log.head += ENTRY_BYTES;
    if (log.head === log.size) log.head = 0;
    unit.mmio.write32(AMD_REG.EVENT_LOG_HEAD, log.head);
  }
}

/** @xen set_iommu_event_log_control */
export function setIommuEventLogControl(unit: AmdUnit, enable: boolean): void {
  if (enable) {
    unit.mmio.write64(AMD_REG.EVENT_LOG_HEAD, 0, 0);
    unit.mmio.write64(AMD_REG.EVENT_LOG_TAIL, 0, 0);
  }
  const bits = CONTROL.EVENT_INT_EN | CONTROL.EVENT_LOG_EN;
  unit.ctrl = enable ? unit.ctrl | bits : unit.ctrl & ~bits;
  unit.ctrl &= ~CONTROL.COM_WAIT_INT_EN;
  writeControl(unit);
}

export function writeControl(unit: AmdUnit): void {
  unit.mmio.write64(AMD_REG.CONTROL, unit.ctrl, 0);
}

/** @xen iommu_reset_log */
function iommuResetLog(amd: AmdVi, unit: AmdUnit): void {
  for (let loop = 0; (unit.mmio.read32(AMD_REG.STATUS) & STATUS.EVENT_LOG_RUN) !== 0; loop++) {
    if (loop === 1000) {
      amdWarn(amd, `Log Run bit ${STATUS.EVENT_LOG_RUN} is not cleared before reset`);
      return;
    }
  }
  setIommuEventLogControl(unit, false);
  unit.mmio.write32(AMD_REG.STATUS, STATUS.EVENT_OVERFLOW);
  unit.eventLog.head = 0;
  setIommuEventLogControl(unit, true);
}

/** True when the tasklet must run again. @xen iommu_check_event_log */
function* iommuCheckEventLog(amd: AmdVi, unit: AmdUnit): Co<boolean> {
  unit.mmio.write32(AMD_REG.STATUS, STATUS.EVENT_LOG_INT);
  yield* iommuReadLog(amd, unit);
  using _lock = yield* hold(unit.lock);
  let again = false;
  if ((unit.mmio.read32(AMD_REG.STATUS) & STATUS.EVENT_OVERFLOW) !== 0) iommuResetLog(amd, unit);
  else if ((unit.ctrl & CONTROL.EVENT_INT_EN) === 0) {
    unit.ctrl |= CONTROL.EVENT_INT_EN;
    writeControl(unit);
    again = true;
  }
  // Erratum 787: look again whether the bit has been cleared.
  return again || (unit.mmio.read32(AMD_REG.STATUS) & STATUS.EVENT_LOG_INT) !== 0;
}

/** The page request log: nothing is ever in it, only its interrupt wants to be switched on again. @xen iommu_check_ppr_log */
function* iommuCheckPprLog(unit: AmdUnit): Co<boolean> {
  unit.mmio.write32(AMD_REG.STATUS, STATUS.PPR_LOG_INT);
  using _lock = yield* hold(unit.lock);
  if ((unit.ctrl & CONTROL.PPR_INT_EN) !== 0) return false;
  unit.ctrl |= CONTROL.PPR_INT_EN;
  writeControl(unit);
  return true;
}

/** The tasklet: looks at all units, whichever interrupted. @xen do_amd_iommu_irq */
export function* doAmdIommuIrq(amd: AmdVi): Co<void> {
  if (amd.units.length === 0) {
    amdDebug(amd, 'no device found, something must be very wrong!');
    return;
  }
  let again = true;
  for (let round = 0; again && round < ROUNDS_MAX; round++) {
    again = false;
    for (let i = 0; i < amd.units.length; i++) {
      const unit = amd.units[i]!;
      if (yield* iommuCheckEventLog(amd, unit)) again = true;
      if (unit.pprLog.mfn !== 0 && (yield* iommuCheckPprLog(unit))) again = true;
    }
  }
}

/** The interrupt: silences the unit until the tasklet has run. @xen iommu_interrupt_handler */
export function* iommuInterruptHandler(unit: AmdUnit): Co<void> {
  using _lock = yield* hold(unit.lock);
  unit.ctrl &= ~(CONTROL.EVENT_INT_EN | CONTROL.PPR_INT_EN);
  writeControl(unit);
}
