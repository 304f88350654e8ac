/** The event log (2.5): entries in a ring in memory, an overflow bit, an interrupt. */
import { get } from '../../../base/layout.js';
import {
  AMD_REG,
  CONTROL,
  EVENT,
  EVENT_ENTRY,
  EVENT_FLAG,
  RING_LENGTH,
  RING_PTR_MASK,
  STATUS,
} from '../../format/amd.js';
import { type AmdIommuState, regWord } from './state.js';

/** Bytes of the ring whose base register is at `offset`. */
export const ringBytes = (u: AmdIommuState, offset: number): number =>
  16 << get(u.regs, regWord(offset), RING_LENGTH);

/** A status bit and, where it was clear and `enable` is set in CONTROL, the unit's interrupt. */
export function raise(u: AmdIommuState, status: number, enable: number): void {
  if ((u.lo(AMD_REG.CONTROL) & enable) === 0) return;
  const before = u.lo(AMD_REG.STATUS);
  u.setLo(AMD_REG.STATUS, before | status);
  if ((before & status) === 0) u.onMsi?.();
}

/** Writes one entry. Without room the log stops and says so: further events are lost until software restarts it. */
export function logEvent(u: AmdIommuState, w0: number, w1: number, addrLo: number, addrHi: number): void {
  if ((u.lo(AMD_REG.STATUS) & STATUS.EVENT_LOG_RUN) === 0) return;
  const tail = u.lo(AMD_REG.EVENT_LOG_TAIL) & RING_PTR_MASK;
  let next = tail + 16;
  if (next >= ringBytes(u, AMD_REG.EVENT_LOG_BASE)) next = 0;
  if (next === (u.lo(AMD_REG.EVENT_LOG_HEAD) & RING_PTR_MASK)) {
    const status = u.lo(AMD_REG.STATUS) & ~STATUS.EVENT_LOG_RUN;
    u.setLo(AMD_REG.STATUS, status | STATUS.EVENT_OVERFLOW);
    raise(u, STATUS.EVENT_LOG_INT, CONTROL.EVENT_INT_EN);
    return;
  }
  const mfn = u.frame(AMD_REG.EVENT_LOG_BASE) + (tail >>> 12);
  if (mfn < u.ram.frames) {
    const at = u.ram.slot(mfn) * 1024 + ((tail & 0xfff) >>> 2);
    const t = u.ram.words;
    t[at] = w0;
    t[at + 1] = w1;
    t[at + 2] = addrLo;
    t[at + 3] = addrHi;
  }
  u.setLo(AMD_REG.EVENT_LOG_TAIL, next);
  raise(u, STATUS.EVENT_LOG_INT, CONTROL.EVENT_INT_EN);
}

/** An event about a request of `rid` for page `dfn`. `log` false: the DTE suppresses it, only the stream hears of it. */
export function dmaEvent(
  u: AmdIommuState,
  code: number,
  rid: number,
  domid: number,
  dfn: number,
  write: boolean,
  flags: number,
  log: boolean,
): void {
  const addrLo = (dfn % 0x10_0000) << 12;
  const addrHi = Math.floor(dfn / 0x10_0000);
  const f = write ? flags | EVENT_FLAG.RW : flags;
  if (u.events.on) {
    const addr = { addrLo: addrLo >>> 0, addrHi };
    u.events.emit({ kind: 'fault', unit: u.unit, seg: u.seg, rid, reason: code, write, ...addr });
  }
  if (!log || !u.logsRequests) return;
  const w1 = (code << EVENT_ENTRY.CODE.lo) | (f << EVENT_ENTRY.FLAGS.lo) | domid;
  logEvent(u, rid, w1, addrLo, addrHi);
}

/** An event about an interrupt of `rid`, sent to `addr`. `log` false: DTE or entry suppress it. */
export function interruptEvent(
  u: AmdIommuState,
  code: number,
  rid: number,
  domid: number,
  addr: number,
  flags: number,
  log: boolean,
): void {
  if (u.events.on) {
    const where = { addrLo: addr >>> 0, addrHi: 0 };
    u.events.emit({ kind: 'fault', unit: u.unit, seg: u.seg, rid, reason: code, write: true, ...where });
  }
  if (!log || !u.logsRequests) return;
  const f = flags | EVENT_FLAG.I;
  logEvent(u, rid, (code << EVENT_ENTRY.CODE.lo) | (f << EVENT_ENTRY.FLAGS.lo) | domid, addr, 0);
}

/** A command that cannot be executed, or read: the address of its entry is all there is to say. */
export function commandEvent(u: AmdIommuState, code: number, addr: number): void {
  const what = code === EVENT.ILLEGAL_COMMAND_ERROR ? 'illegal_command' : 'command_hw_error';
  if (u.events.on) u.events.emit({ kind: 'hw', unit: u.unit, what, args: [addr] });
  logEvent(u, 0, code << EVENT_ENTRY.CODE.lo, (addr % 2 ** 32) | 0, Math.floor(addr / 2 ** 32));
}
