/** The command buffer (2.4): fetched from the head while it differs from the tail. */
import { get } from '../../../base/layout.js';
import { FRAME_WORDS } from '../../../sim/ram.js';
import {
  AMD_REG,
  CMD,
  CMD_DEVICE,
  CMD_OPCODE,
  CMD_PAGES,
  CMD_WAIT,
  CONTROL,
  EVENT,
  STATUS,
} from '../../format/amd.js';
import {
  invalidateAll,
  invalidateDomain,
  invalidateDte,
  invalidateInterrupts,
  invalidateRange,
} from './caches.js';
import { commandEvent, raise } from './event_log.js';
import { type AmdIommuState, CMD_HEAD_WORD, CMD_TAIL_WORD } from './state.js';

/** Executes all that software has queued, unless the unit is stalled or stopped by a bad command. */
export function runCommands(u: AmdIommuState): void {
  if (u.stalled || !u.cmdRunning) return;
  const { regs, ram } = u;
  const size = u.cmdBytes;
  const tail = regs[CMD_TAIL_WORD]! & (size - 1);
  let head = regs[CMD_HEAD_WORD]! & (size - 1);
  while (head !== tail) {
    const mfn = u.cmdBase + (head >>> 12);
    if (mfn >= ram.frames) {
      stop(u, EVENT.COMMAND_HW_ERROR, head);
      return;
    }
    if (!execute(u, ram.peek(mfn) * FRAME_WORDS + ((head & 0xfff) >>> 2))) {
      stop(u, EVENT.ILLEGAL_COMMAND_ERROR, head);
      return;
    }
    head = (head + 16) & (size - 1);
    regs[CMD_HEAD_WORD] = head;
  }
}

/** Fetching ends; software restarts it by way of CONTROL.CmdBufEn. */
function stop(u: AmdIommuState, code: number, head: number): void {
  u.cmdRunning = false;
  u.setLo(AMD_REG.STATUS, u.lo(AMD_REG.STATUS) & ~STATUS.CMD_BUF_RUN);
  commandEvent(u, code, u.cmdBase * 4096 + head);
}

/** The command at word `at`; false for one the unit does not know. */
function execute(u: AmdIommuState, at: number): boolean {
  const t = u.ram.words;
  if (u.events.on) {
    const words = [t[at]! >>> 0, t[at + 1]! >>> 0, t[at + 2]! >>> 0, t[at + 3]! >>> 0];
    u.events.emit({ kind: 'descriptor', unit: u.unit, words });
  }
  const device = t[at]! & CMD_DEVICE.DEVICE_ID.mask;
  switch (t[at + 1]! >>> CMD_OPCODE.lo) {
    case CMD.COMPLETION_WAIT:
      completionWait(u, at);
      return true;
    case CMD.INVALIDATE_DEVTAB_ENTRY:
      invalidateDte(u, device);
      if (u.events.on) told(u, 'devtab_inval', device);
      return true;
    case CMD.INVALIDATE_IOMMU_PAGES:
      invalidatePages(u, at);
      return true;
    case CMD.INVALIDATE_IOTLB_PAGES:
      if (u.events.on) told(u, 'iotlb_inval', device);
      return true;
    case CMD.INVALIDATE_INTERRUPT_TABLE:
      if (hasReserved(t, at)) return false;
      invalidateInterrupts(u, device);
      if (u.events.on) told(u, 'intr_inval', device);
      return true;
    case CMD.INVALIDATE_IOMMU_ALL:
      invalidateAll(u);
      if (u.events.on) told(u, 'all_inval', 0);
      return true;
    case CMD.PREFETCH_IOMMU_PAGES:
    case CMD.COMPLETE_PPR_REQUEST:
      return true; // hints and answers that leave nothing to see
    default:
      return false;
  }
}

/** INVALIDATE_INTERRUPT_TABLE has a device id and nothing else (2.4.5). */
const hasReserved = (t: Int32Array, at: number): boolean =>
  t[at]! >>> 16 !== 0 || (t[at + 1]! & 0x0fff_ffff) !== 0 || (t[at + 2]! | t[at + 3]!) !== 0;

function told(u: AmdIommuState, what: string, arg: number): void {
  u.events.emit({ kind: 'hw', unit: u.unit, what, args: [arg] });
}

/** Every command before it is done by then: the unit executes them one after the other. */
function completionWait(u: AmdIommuState, at: number): void {
  const t = u.ram.words;
  if (get(t, at, CMD_WAIT.S) === 1) {
    const lo = t[at]! & ~7;
    const mfn = get(t, at, CMD_WAIT.ADDR_HI) * 0x10_0000 + (lo >>> 12);
    const d0 = t[at + 2]!;
    const d1 = t[at + 3]!;
    if (mfn < u.ram.frames) {
      const to = u.ram.slot(mfn) * FRAME_WORDS + ((lo & 0xfff) >>> 2);
      u.ram.words[to] = d0;
      u.ram.words[to + 1] = d1;
    }
  }
  if (get(u.ram.words, at, CMD_WAIT.I) === 1) raise(u, STATUS.COM_WAIT_INT, CONTROL.COM_WAIT_INT_EN);
}

/** Trailing ones of a 32-bit word. */
const trailingOnes = (w: number): number => (w === -1 ? 32 : 31 - Math.clz32(~w & -~w));

/**
 * S=0: one page. S=1: the lowest zero bit of the address, from bit 12 on, gives the size; up to bit 62 all ones mean
 * everything.
 */
function invalidatePages(u: AmdIommuState, at: number): void {
  const t = u.ram.words;
  const domid = get(t, at, CMD_PAGES.DOMAIN_ID);
  const low = t[at + 2]! | 0xfff;
  const order = get(t, at, CMD_PAGES.S) === 0 ? 0 : sizeOrder(low, t[at + 3]!);
  const dfn = (t[at + 3]! >>> 0) * 0x10_0000 + get(t, at, CMD_PAGES.ADDR_LO);
  if (order >= 40) invalidateDomain(u, domid);
  else invalidateRange(u, domid, dfn, order);
  if (u.events.on)
    u.events.emit({ kind: 'hw', unit: u.unit, what: 'pages_inval', args: [domid, dfn, order] });
}

/** log2 of the pages; `low` has its bits 11:0 set. */
const sizeOrder = (low: number, high: number): number =>
  (low === -1 ? 32 + trailingOnes(high) : trailingOnes(low)) - 11;
