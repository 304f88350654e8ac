/**
 * An AMD IOMMU: registers (3.4) in front, device table, page tables, command buffer and event log in memory
 * behind. It knows nothing of Xen: what it does depends on registers and memory alone.
 */
import type { MmioDevice } from '../../../sim/mmio.js';
import { AMD_REG, CONTROL, EXCL, RING_PTR_MASK, STATUS } from '../../format/amd.js';
import type { Interrupt } from '../interrupt.js';
import { translated, translationRequest } from './ats.js';
import { type CachedDevice, type CachedTranslation, cachedDevices, cachedTranslations } from './caches.js';
import { runCommands } from './commands.js';
import { ringBytes } from './event_log.js';
import { remapInterrupt } from './intremap.js';
import { AmdIommuState, CMD_TAIL_WORD, regWord } from './state.js';
import { probe, translate } from './translate.js';

/** Features of QEMU's amd-iommu, on which the recordings were made. */
export const QEMU_FEATURES: readonly [number, number] = [0x29d3, 0];
/** Features of a Zen desktop part: page requests, x2APIC, invalidate-all, six levels. */
export const ZEN_FEATURES: readonly [number, number] = [0x2229_4ade, 0x058f_77ef];

/** STATUS bits that software clears by writing 1. */
const RW1C =
  STATUS.EVENT_OVERFLOW |
  STATUS.EVENT_LOG_INT |
  STATUS.COM_WAIT_INT |
  STATUS.PPR_LOG_OVERFLOW |
  STATUS.PPR_LOG_INT;

export class AmdIommuUnit extends AmdIommuState implements MmioDevice {
  /** Machine frame of bus frame `dfn` for requester `rid`; -1 when aborted, which the unit logs. */
  translate(rid: number, dfn: number, write: boolean): number {
    return translate(this, rid, dfn, write);
  }
  translated(rid: number, mfn: number, write: boolean): number {
    return translated(this, rid, mfn, write);
  }
  translationRequest(rid: number, dfn: number, write: boolean): number {
    return translationRequest(this, rid, dfn, write);
  }
  /** What a write of `data` to 0xFEEx_xxxx by `rid` becomes; minus the event code where it is blocked. */
  remapInterrupt(rid: number, addrLo: number, data: number): Interrupt | number {
    return remapInterrupt(this, rid, addrLo, data);
  }
  /** What `translate` would answer now, without leaving a trace in caches or log. */
  probe(rid: number, dfn: number, write: boolean): number {
    return probe(this, rid, dfn, write);
  }
  cachedTranslations(): CachedTranslation[] {
    return cachedTranslations(this);
  }
  cachedDevices(): CachedDevice[] {
    return cachedDevices(this);
  }
  /** Ends a stall: everything queued meanwhile is executed. */
  resume(): void {
    this.stalled = false;
    runCommands(this);
  }

  read32(offset: number): number {
    const at = regWord(offset);
    return at < 0 ? 0 : this.regs[at]! >>> 0;
  }

  write32(offset: number, value: number): void {
    if (this.events.on) this.told(offset, 4, value, 0);
    if (offset === AMD_REG.CMD_BUF_TAIL) {
      this.regs[CMD_TAIL_WORD] = value & RING_PTR_MASK;
      runCommands(this);
      return;
    }
    const at = regWord(offset);
    if (at >= 0) this.store(offset, value | 0);
  }

  write64(offset: number, lo: number, hi: number): void {
    if (this.events.on) this.told(offset, 8, lo, hi);
    const at = regWord(offset);
    if (at < 0) return;
    this.store(offset + 4, hi | 0);
    this.store(offset, lo | 0);
  }

  write8(offset: number, value: number): void {
    if (this.events.on) this.told(offset, 1, value & 0xff, 0);
    const at = regWord(offset);
    if (at < 0) return;
    const shift = (offset & 3) * 8;
    this.store(offset & ~3, (this.regs[at]! & ~(0xff << shift)) | ((value & 0xff) << shift));
  }

  private told(offset: number, size: 1 | 4 | 8, lo: number, hi: number): void {
    this.events.emit({
      kind: 'reg',
      unit: this.unit,
      write: true,
      offset,
      size,
      lo: lo >>> 0,
      hi: hi >>> 0,
    });
  }

  /** One half of a register, with what hardware does about it. */
  private store(offset: number, value: number): void {
    switch (offset) {
      case AMD_REG.EXT_FEATURE:
      case AMD_REG.EXT_FEATURE + 4:
        return; // read-only
      case AMD_REG.STATUS:
        this.setLo(offset, this.lo(offset) & ~(value & RW1C));
        return;
      case AMD_REG.CONTROL:
        this.control(value);
        return;
      case AMD_REG.CMD_BUF_HEAD:
      case AMD_REG.CMD_BUF_TAIL:
        this.setLo(offset, value & RING_PTR_MASK);
        runCommands(this);
        return;
      case AMD_REG.EVENT_LOG_HEAD:
      case AMD_REG.EVENT_LOG_TAIL:
        this.setLo(offset, value & RING_PTR_MASK);
        return;
      case AMD_REG.EXCL_BASE:
        this.setLo(offset, value);
        this.exclusion = (value & (1 << EXCL.EX_EN.lo)) !== 0;
        return;
      case AMD_REG.CMD_BUF_BASE:
      case AMD_REG.CMD_BUF_BASE + 4:
        this.regs[regWord(offset)] = value;
        this.cmdBase = this.frame(AMD_REG.CMD_BUF_BASE);
        this.cmdBytes = ringBytes(this, AMD_REG.CMD_BUF_BASE);
        return;
      default:
        this.regs[regWord(offset)] = value;
    }
  }

  /**
   * CONTROL: enables take effect at once. A ring runs from the moment its enable bit rises until it falls or the unit
   * stops it (3.4.14).
   */
  private control(value: number): void {
    const rose = value & ~this.lo(AMD_REG.CONTROL);
    this.setLo(AMD_REG.CONTROL, value);
    this.enabled = (value & CONTROL.IOMMU_EN) !== 0;
    let status = this.lo(AMD_REG.STATUS);
    if ((rose & CONTROL.CMD_BUF_EN) !== 0) status |= STATUS.CMD_BUF_RUN;
    if ((value & CONTROL.CMD_BUF_EN) === 0) status &= ~STATUS.CMD_BUF_RUN;
    if ((rose & CONTROL.EVENT_LOG_EN) !== 0) status |= STATUS.EVENT_LOG_RUN;
    if ((value & CONTROL.EVENT_LOG_EN) === 0) status &= ~STATUS.EVENT_LOG_RUN;
    this.setLo(AMD_REG.STATUS, status);
    this.cmdRunning = (status & STATUS.CMD_BUF_RUN) !== 0;
    runCommands(this);
  }
}
