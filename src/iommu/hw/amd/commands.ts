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
  RING_PTR_MASK,
  STATUS,
} from '../../format/amd.js';
import { invalidateAll, invalidateDomain, invalidateDte, invalidateRange } from './caches.js';
import { commandEvent, raise, ringBytes } from './event_log.js';
import type { AmdIommuState } from './state.js';

/** Executes all that software has queued, unless the unit is stalled or stopped by a bad command. */
export function runCommands(u: AmdIommuState): void {
  if (u.stalled) return;
  const size = ringBytes(u, AMD_REG.CMD_BUF_BASE);
  const base = u.frame(AMD_REG.CMD_BUF_BASE);
  const tail = (u.lo(AMD_REG.CMD_BUF_TAIL) & RING_PTR_MASK) % size;
  let head = (u.lo(AMD_REG.CMD_BUF_HEAD) & RING_PTR_MASK) % size;
  while (head !== tail && (u.lo(AMD_REG.STATUS) & STATUS.CMD_BUF_RUN) !== 0) {
    const mfn = base + (head >>> 12);
    const addr = base * 4096 + head;
    if (mfn >= u.ram.frames) {
      stop(u, EVENT.COMMAND_HW_ERROR, addr);
      return;
    }
    const at = u.ram.peek(mfn) * FRAME_WORDS + ((head & 0xfff) >>> 2);
    if (!execute(u, at)) {
      stop(u, EVENT.ILLEGAL_COMMAND_ERROR, addr);
      return;
    }
    head += 16;
    if (head === size) head = 0;
    u.setLo(AMD_REG.CMD_BUF_HEAD, head);
  }
}

/** Fetching ends; software restarts it by way of CONTROL.CmdBufEn. */
function stop(u: AmdIommuState, code: number, addr: number): void {
  u.setLo(AMD_REG.STATUS, u.lo(AMD_REG.STATUS) & ~STATUS.CMD_BUF_RUN);
  commandEvent(u, code, addr);
}

/** The command at word `at`; false for one the unit does not know. */
function execute(u: AmdIommuState, at: number): boolean {
  const t = u.ram.words;
  const opcode = get(t, at, CMD_OPCODE);
  if (u.events.on) {
    const words = [t[at]! >>> 0, t[at + 1]! >>> 0, t[at + 2]! >>> 0, t[at + 3]! >>> 0];
    u.events.emit({ kind: 'descriptor', unit: u.unit, words });
  }
  const device = get(t, at, CMD_DEVICE.DEVICE_ID);
  switch (opcode) {
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

/** S=0: one page. S=1: the lowest zero bit of the address, from bit 12 on, gives the size; all ones means all. */
function invalidatePages(u: AmdIommuState, at: number): void {
  const t = u.ram.words;
  const domid = get(t, at, CMD_PAGES.DOMAIN_ID);
  const dfn = (t[at + 3]! >>> 0) * 0x10_0000 + get(t, at, CMD_PAGES.ADDR_LO);
  let order = 0;
  if (get(t, at, CMD_PAGES.S) === 1) {
    order = 1;
    for (let f = dfn; f % 2 === 1 && order < 52; f = Math.floor(f / 2)) order++;
  }
  if (order >= 40) invalidateDomain(u, domid);
  else invalidateRange(u, domid, dfn, order);
  if (u.events.on)
    u.events.emit({ kind: 'hw', unit: u.unit, what: 'pages_inval', args: [domid, dfn, order] });
}
