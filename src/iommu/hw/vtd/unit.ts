/**
 * One VT-d remapping unit: its register page (VT-d chapter 11) and, for the bus, translation of DMA and interrupts.
 * Software reaches it only through registers and memory.
 */
import type { MmioDevice } from '../../../sim/mmio.js';
import { GCMD, GRAN, VTD_REG } from '../../format/vtd.js';
import type { Interrupt } from '../interrupt.js';
import { translated, translationRequest } from './ats.js';
import { contextGlobal, iecGlobal, wayFrame, wayFrames, wayPage } from './caches.js';
import {
  completionCleared,
  deliverPending,
  logsAdvanced,
  setFaultLog,
  statusCleared,
  switchFaultLog,
} from './faults.js';
import { remapInterrupt } from './intremap.js';
import { protectionSwitched } from './protection.js';
import {
  atRestAfterWait,
  contextInvalidate,
  drainQueue,
  iotlb,
  queueMoved,
  shownQueue,
  unexpectedCompletion,
} from './queue.js';
import { deviates } from './quirks.js';
import { FRCD_BLOCK, RESET, type Reg, regAt, VTD } from './regs.js';
import {
  CC_AT,
  CC_DID_AT,
  CC_ENTRIES,
  CC_VALID,
  CC_WORDS,
  NO_STAMP,
  TLB_SET_WORDS,
  VtdState,
} from './state.js';
import { probe, translate } from './translate.js';

/** A cached translation: what a DMA of some requester in domain `did` could still be given without reading memory. */
export interface CachedTranslation {
  readonly did: number;
  readonly dfn: number;
  readonly mfn: number;
  /** 4 KiB frames covered. */
  readonly frames: number;
  readonly read: boolean;
  readonly write: boolean;
}

/** A cached context entry; `root` is the frame of its page table, 0 for pass-through. */
export interface CachedContext {
  readonly rid: number;
  readonly did: number;
  readonly root: number;
  readonly passThrough: boolean;
  /** With caching mode: the entry was absent or malformed when it was read. */
  readonly faulting: boolean;
}

const { IQA, IQT } = VTD_REG;
const IQT_BITS = VTD.IQT_LO.rw;
/** RTADDR.TTM: 1 is scalable mode. */
const TTM = 0xc00;
const TTM_SCALABLE = 0x400;
/** IRTA.EIME. */
const EIME = 0x800;
/** IQA.DW. */
const DW = 0x800;
const ICC = 0x8000_0000 | 0;
const IVT = 0x8000_0000 | 0;

export class VtdUnit extends VtdState implements MmioDevice {
  constructor(...args: ConstructorParameters<typeof VtdState>) {
    super(...args);
    this.reset();
  }

  /** Devices are themselves again, and what waited for them is done. */
  devicesAnswer(): void {
    this.devicesBusy = false;
    this.awaitsDevice = false;
    drainQueue(this);
  }

  /** Power-on state of registers; caches are empty (11.2). */
  reset(): void {
    this.regs.fill(0);
    for (const r of RESET) this.regs[r.offset >>> 2] = r.reset;
    this.regs[VTD.VER.offset >>> 2] = this.opts.version;
    this.regs.set(this.opts.cap, VTD.CAP_LO.offset >>> 2);
    this.regs.set(this.opts.ecap, VTD.ECAP_LO.offset >>> 2);
    this.te = false;
    this.ire = false;
    this.qie = false;
    this.compatPass = false;
    this.rootFrame = 0;
    this.irFrame = 0;
    this.irEntries = 0;
    this.irX2apic = false;
    this.faultAt = 0;
    this.ivaLo = 0;
    this.ivaHi = 0;
    this.queueFrame = 0;
    this.queueBytes = 0;
    this.queueAt = 0;
    this.fetchedTo = 0;
    this.lastType = 0;
    this.scalable = false;
    this.modeless = false;
    this.descriptorBytes = 16;
    this.protects = false;
    this.faultLog = undefined;
    this.cache.fill(0, 0, NO_STAMP);
    this.ccUsed = false;
    this.tlbSizes = 0;
    this.iec.fill(0);
  }

  /** See translate.ts. */
  translate(rid: number, dfn: number, write: boolean): number {
    return translate(this, rid, dfn, write);
  }
  /** A read of no bytes: with CAP.ZLR a page that can only be written answers too (11.4.2). */
  zeroLengthRead(rid: number, dfn: number): number {
    const writes =
      this.zeroLengthReads && probe(this, rid, dfn, false) < 0 && probe(this, rid, dfn, true) >= 0;
    return translate(this, rid, dfn, writes);
  }
  /** See queue.ts. */
  unexpectedCompletion(rid: number): void {
    unexpectedCompletion(this, rid);
  }
  probe(rid: number, dfn: number, write: boolean): number {
    return probe(this, rid, dfn, write);
  }
  /** See ats.ts. */
  translated(rid: number, mfn: number, write: boolean): number {
    return translated(this, rid, mfn, write);
  }
  translationRequest(rid: number, dfn: number, write: boolean): number {
    return translationRequest(this, rid, dfn, write);
  }
  /** See intremap.ts. */
  remapInterrupt(rid: number, addrLo: number, data: number): Interrupt | number {
    return remapInterrupt(this, rid, addrLo, data);
  }

  read32(offset: number): number {
    const word = (offset & ~7) === IQA ? shownQueue(this, offset) : (this.regs[offset >>> 2] ?? 0);
    const value = word >>> ((offset & 3) * 8);
    if (this.events.on) this.regEvent(false, offset, 4, value, 0);
    return value >>> 0;
  }

  write32(offset: number, value: number): void {
    if (this.events.on) this.regEvent(true, offset, 4, value >>> 0, 0);
    if (offset === IQT) this.moveTail(value);
    else this.store(offset, value | 0);
  }

  write64(offset: number, lo: number, hi: number): void {
    if (this.events.on) this.regEvent(true, offset, 8, lo >>> 0, hi >>> 0);
    // The high half last: the bits that start something are there.
    this.store(offset, lo | 0);
    this.store(offset + 4, hi | 0);
  }

  private regEvent(write: boolean, offset: number, size: 4 | 8, lo: number, hi: number): void {
    this.events.emit({ kind: 'reg', unit: this.index, write, offset, size, lo, hi });
  }

  private moveTail(value: number): void {
    this.regs[IQT >>> 2] = value & IQT_BITS;
    drainQueue(this);
  }

  private store(offset: number, value: number): void {
    if (offset === IQT) {
      this.moveTail(value);
      return;
    }
    const reg = regAt(offset, this.fro, this.records, this.iro);
    if (reg === undefined || (!this.registerInvalidation && this.invalidates(offset))) return; // reserved: ignored
    const { rw1c = 0 } = reg;
    const rw = this.writable(reg);
    const at = offset >>> 2;
    const old = this.regs[at]!;
    this.regs[at] = (old & ~rw & ~(value & rw1c)) | (value & rw);
    this.onWrite(offset, value, reg);
  }

  /** Some bits are there on some units only. */
  private writable(reg: Reg): number {
    const rw = reg.rw ?? 0;
    if (reg === VTD.RTADDR_LO) {
      return this.scalableMode || deviates(this, 'rtaddr-keeps-mode') ? rw | TTM : rw;
    }
    if (reg === VTD.IQA_LO) return this.scalableMode ? rw | DW : rw;
    if (reg === VTD.IRTA_LO) return this.eim || deviates(this, 'irta-keeps-mode') ? rw : rw & ~EIME;
    if (reg === VTD.AFLOG_LO || reg === VTD.AFLOG_HI) return logsAdvanced(this) ? rw : 0;
    if (reg.offset >= VTD_REG.PMEN && reg.offset < VTD_REG.IQH) return this.protectionWritable(reg) ? rw : 0;
    if (!deviates(this, 'narrow-event-registers')) return rw;
    return reg === VTD.FEUADDR || reg === VTD.IEUADDR ? 0 : reg === VTD.FEDATA ? 0xffff : rw;
  }

  private invalidates(offset: number): boolean {
    return (offset & ~7) === VTD_REG.CCMD || (offset >= this.iro && offset < this.iro + 16);
  }

  private protectionWritable(reg: Reg): boolean {
    if (reg === VTD.PMEN) return this.protectsLow || this.protectsHigh;
    return reg.offset < VTD_REG.PHMBASE ? this.protectsLow : this.protectsHigh;
  }

  /** What a write sets going. */
  private onWrite(offset: number, value: number, reg: Reg): void {
    switch (offset) {
      case VTD_REG.GCMD:
        this.globalCommand(value);
        return;
      case VTD_REG.CCMD:
        this.ccmdSid = value >>> 16;
        return;
      case VTD_REG.CCMD + 4:
        this.ccmdFm = value & 3;
        if ((value & ICC) !== 0) this.start(() => this.contextCommand());
        return;
      case VTD_REG.IQA:
      case VTD_REG.IQA + 4:
        if (!deviates(this, 'iqa-latched')) queueMoved(this);
        return;
      case VTD_REG.PMEN:
        protectionSwitched(this);
        return;
      case VTD_REG.FSTS:
        statusCleared(this);
        if (!deviates(this, 'iqe-needs-doorbell')) drainQueue(this);
        return;
      case VTD_REG.FECTL:
        deliverPending(this, 'fault', VTD_REG.FECTL);
        return;
      case VTD_REG.IECTL:
        deliverPending(this, 'completion', VTD_REG.IECTL);
        return;
      case VTD_REG.ICS:
        completionCleared(this);
        return;
      case this.iro:
        this.ivaLo = value;
        return;
      case this.iro + 4:
        this.ivaHi = value;
        return;
      case this.iro + 12:
        if ((value & IVT) !== 0) this.start(() => this.iotlbCommand());
        return;
    }
    if (reg === FRCD_BLOCK[3]) statusCleared(this, false);
  }

  /** Invalidation by register is done at once, or when a slow unit gets to it. */
  private start(run: () => void): void {
    if (this.latencyNs > 0) this.clock.after(this.latencyNs, run);
    else run();
  }

  /**
   * GCMD (11.4.4): one-shot bits latch, the others switch; GSTS shows the outcome. Bits for what the unit lacks do
   * nothing.
   */
  private globalCommand(value: number): void {
    const gsts = VTD_REG.GSTS >>> 2;
    if (this.events.on) {
      this.events.emit({
        kind: 'hw',
        unit: this.index,
        what: 'gcmd',
        args: [this.regs[gsts]! >>> 0, value >>> 0],
      });
    }
    let status = this.regs[gsts]!;
    if ((value & GCMD.SRTP) !== 0) {
      this.setRootTable();
      status |= GCMD.SRTP;
    }
    if ((value & GCMD.SFL) !== 0 && logsAdvanced(this)) {
      setFaultLog(this);
      status |= GCMD.SFL;
    }
    if ((value & GCMD.SIRTP) !== 0 && (this.intRemap || deviates(this, 'interrupt-table-anyway'))) {
      const lo = this.regs[VTD_REG.IRTA >>> 2]!;
      this.irFrame = this.frameIn(VTD_REG.IRTA);
      this.irEntries = 2 << (lo & 0xf);
      this.irX2apic = this.eim && (lo & 0x800) !== 0;
      status |= GCMD.SIRTP;
      this.hw('intremapTable', this.irFrame, this.irEntries);
      if (this.forgetsWithInterruptTable) iecGlobal(this);
    }
    this.flushOnEnable(value);
    this.te = (value & GCMD.TE) !== 0;
    this.ire = this.intRemap && (value & GCMD.IRE) !== 0;
    this.compatPass = this.intRemap && (value & GCMD.CFI) !== 0 && !deviates(this, 'no-compatibility-format');
    const started = this.switchQueue((value & GCMD.QIE) !== 0);
    const inMemory = switchFaultLog(this, (value & GCMD.EAFL) !== 0);
    if (!this.te && !this.ire) {
      this.faultAt = 0;
      if (this.faultLog !== undefined) this.faultLog.at = 0;
    }
    status &= GCMD.SRTP | GCMD.SIRTP | GCMD.SFL | GCMD.WBF;
    if (this.te) status |= GCMD.TE;
    if (inMemory) status |= GCMD.EAFL;
    if (this.qie) status |= GCMD.QIE;
    if (this.ire) status |= GCMD.IRE;
    if (this.compatPass) status |= GCMD.CFI;
    this.regs[gsts] = status;
    if ((value & GCMD.WBF) !== 0 && this.writeBuffer) this.flushWriteBuffer();
    if (started || !deviates(this, 'iqe-needs-doorbell')) drainQueue(this);
  }

  private setRootTable(): void {
    this.rootFrame = this.frameIn(VTD_REG.RTADDR);
    const mode = this.scalableMode ? this.regs[VTD_REG.RTADDR >>> 2]! & TTM : 0;
    this.scalable = mode === TTM_SCALABLE;
    this.modeless = mode > TTM_SCALABLE;
    // The mode says which descriptors are valid.
    this.queueAt = 0;
    this.hw('rootTable', this.rootFrame);
    if (this.forgetsWithRoot) this.forgetTranslations();
  }

  /** GSTS.WBFS is set until what the CPU wrote before has left the buffers (11.4.4.1). */
  private flushWriteBuffer(): void {
    const gsts = VTD_REG.GSTS >>> 2;
    this.regs[gsts] = this.regs[gsts]! | GCMD.WBF;
    this.start(() => {
      this.hw('writeBuffer');
      if (this.opts.buffered === true) this.ram.evict();
      this.regs[gsts] = this.regs[gsts]! & ~GCMD.WBF;
    });
  }

  /** True when the queue was off and is on now. */
  private switchQueue(on: boolean): boolean {
    const qie = this.queued && on;
    if (qie === this.qie) return false;
    if (!qie && deviates(this, 'qie-off-needs-wait') && !atRestAfterWait(this)) return false;
    this.qie = qie;
    this.regs[VTD_REG.IQH >>> 2] = 0;
    this.fetchedTo = 0;
    if (qie) queueMoved(this);
    else this.queueBytes = this.queueAt = 0;
    return qie;
  }

  /** Software has to invalidate after it gave a root table (6.6); a unit may do so by itself. */
  private flushOnEnable(value: number): void {
    const switched = ((value & GCMD.TE) !== 0) !== this.te;
    if ((!switched && (value & GCMD.SRTP) === 0) || !deviates(this, 'flush-on-enable')) return;
    this.forgetTranslations();
  }

  private forgetTranslations(): void {
    contextGlobal(this);
    iotlb(this, GRAN.GLOBAL, 0, 0, 0);
  }

  private hw(what: string, ...args: number[]): void {
    if (this.events.on) this.events.emit({ kind: 'hw', unit: this.index, what, args });
  }

  private frameIn(offset: number): number {
    return (this.regs[(offset >>> 2) + 1]! >>> 0) * 0x10_0000 + (this.regs[offset >>> 2]! >>> 12);
  }

  /** CCMD with ICC set. Ignored while the queue is on: ICC stays set (6.5.1 forbids mixing the two). */
  private contextCommand(): void {
    if (this.qie) return;
    if (this.opts.buffered === true) this.ram.evict();
    const at = (VTD_REG.CCMD >>> 2) + 1;
    const asked = (this.regs[at]! >>> 29) & 3;
    const did = this.regs[at - 1]! & this.didMask;
    const done = contextInvalidate(this, asked, did, this.ccmdSid, this.ccmdFm);
    this.regs[at] = (this.regs[at]! & 0x6000_0000) | (done << 27);
  }

  /** IOTLB with IVT set. IAIG says what was done, 0 for a request that was wrong. */
  private iotlbCommand(): void {
    if (this.qie) return;
    if (this.opts.buffered === true) this.ram.evict();
    const at = (this.iro >>> 2) + 3;
    const word = this.regs[at]!;
    const dfn = (this.ivaHi >>> 0) * 0x10_0000 + (this.ivaLo >>> 12);
    const asked = (word >>> 28) & 3;
    const done = asked === 0 ? 0 : iotlb(this, asked, word & this.didMask, dfn, this.ivaLo & 0x3f);
    this.regs[at] = (word & 0x3003_ffff) | (done << 25);
  }

  /** Every translation in the IOTLB that is still valid. For checks; allocates. */
  cachedTranslations(): CachedTranslation[] {
    const found: CachedTranslation[] = [];
    if (this.tlbSizes === 0) return found;
    const m = this.cache;
    const dids = new Map<number, number>();
    for (let way = 0; way < CC_AT; way += (way & 3) === 3 ? TLB_SET_WORDS - 3 : 1) {
      const meta = m[way + 12]!;
      const stamp = m[way + 4]!;
      if (stamp === 0 || (meta & 3) === 0) continue;
      const did = dids.get(stamp) ?? this.didOf(stamp);
      dids.set(stamp, did);
      if (did < 0) continue;
      const frames = wayFrames(this, way);
      found.push({
        did,
        dfn: wayPage(this, way) * frames,
        mfn: wayFrame(this, way),
        frames,
        read: (meta & 1) !== 0,
        write: (meta & 2) !== 0,
      });
    }
    return found;
  }

  /** Every valid entry of the context cache. For checks; allocates. */
  cachedContexts(): CachedContext[] {
    const found: CachedContext[] = [];
    for (let e = 0; e < CC_ENTRIES; e++) {
      const at = CC_AT + e * CC_WORDS;
      const tag = this.cache[at]!;
      if ((tag & CC_VALID) === 0) continue;
      const kind = this.cache[at + 3]! & 0x18;
      found.push({
        rid: tag & 0xffff,
        did: this.cache[CC_DID_AT + e]!,
        root: kind === 0 || kind === 0x18 ? this.cache[at + 2]! : 0,
        passThrough: kind === 0x8,
        faulting: kind === 0x10,
      });
    }
    return found;
  }

  /**
   * True when some cached translation still produces machine frame `mfn`: giving the frame to somebody else now would
   * let a device of the old owner reach it. Quick where nothing is cached.
   */
  stillProduces(mfn: number): boolean {
    if (this.tlbSizes === 0) return false;
    const m = this.cache;
    for (let way = 0; way < CC_AT; way += (way & 3) === 3 ? TLB_SET_WORDS - 3 : 1) {
      if (m[way + 4] === 0 || (m[way + 12]! & 3) === 0) continue;
      const first = wayFrame(this, way);
      if (mfn >= first && mfn < first + wayFrames(this, way) && this.didOf(m[way + 4]!) >= 0) return true;
    }
    return false;
  }

  /** Domain id that a stamp stands for now, -1 for one of the past. */
  private didOf(stamp: number): number {
    const at = this.cache.indexOf(stamp, NO_STAMP + 1);
    if (at < 0) return -1;
    const low = (at - NO_STAMP - 1) % 256;
    return this.stampDir.indexOf(at - low) * 256 + low;
  }
}
