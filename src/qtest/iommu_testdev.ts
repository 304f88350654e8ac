/**
 * QEMU's iommu-testdev: a DMA write through the IOMMU, then a look at memory where it should have gone, all at once
 * when the trigger is read. (QEMU docs/specs/iommu-testdev)
 */
import type { MmioDevice } from '../sim/mmio.js';
import type { BusAccess } from './edu.js';

export const ITD = {
  TRIGGERING: 0x00,
  GVA_LO: 0x04,
  GVA_HI: 0x08,
  LEN: 0x0c,
  RESULT: 0x10,
  DBELL: 0x14,
  ATTRS: 0x18,
  GPA_LO: 0x1c,
  GPA_HI: 0x20,
} as const;
export const ITD_RESULT = {
  IDLE: 0xffff_ffff,
  BUSY: 0xffff_fffe,
  BAD_LEN: 0xdead_0001,
  TX_FAIL: 0xdead_0002,
  RD_FAIL: 0xdead_0003,
  MISMATCH: 0xdead_0004,
  NOT_ARMED: 0xdead_0005,
  BAD_ATTRS: 0xdead_0006,
} as const;
export const ITD_PATTERN = 0x1234_5678;
const LEN_MAX = 0x10_0000;
const ATTRS_RESET = 2; // non-secure

export class IommuTestdev implements MmioDevice {
  private readonly regs = new Uint32Array(9);
  private armed = false;

  constructor(
    private readonly bus: BusAccess,
    /** Memory as the CPU sees it; undefined where there is none. */
    private readonly memory: (address: number, bytes: number) => Uint8Array | undefined,
  ) {
    this.reset();
  }

  reset(): void {
    this.regs.fill(0);
    this.armed = false;
    this.set(ITD.RESULT, ITD_RESULT.IDLE);
    this.set(ITD.ATTRS, ATTRS_RESET);
  }

  private get(register: number): number {
    return this.regs[register >>> 2]!;
  }
  private set(register: number, value: number): void {
    this.regs[register >>> 2] = value;
  }

  read32(offset: number): number {
    if (offset === ITD.TRIGGERING) {
      this.set(ITD.RESULT, this.run());
      this.armed = false;
      return 0;
    }
    return offset === ITD.DBELL ? 0 : (this.regs[offset >>> 2] ?? 0);
  }

  write32(offset: number, value: number): void {
    if (offset === ITD.DBELL) {
      this.armed = (value & 1) !== 0;
      this.set(ITD.RESULT, this.armed ? ITD_RESULT.BUSY : ITD_RESULT.IDLE);
    } else if (offset !== ITD.TRIGGERING && offset <= ITD.GPA_HI) this.set(offset, value >>> 0);
  }
  write64(offset: number, lo: number, hi: number): void {
    this.write32(offset, lo);
    this.write32(offset + 4, hi);
  }

  private run(): number {
    if (!this.armed) return ITD_RESULT.NOT_ARMED;
    const bytes = this.get(ITD.LEN);
    if (bytes === 0 || bytes > LEN_MAX) return ITD_RESULT.BAD_LEN;
    if (inconsistent(this.get(ITD.ATTRS))) return ITD_RESULT.BAD_ATTRS;
    const data = new Uint8Array(bytes);
    for (let i = 0; i < bytes; i++) data[i] = (ITD_PATTERN >>> ((i % 4) * 8)) & 0xff;
    const address = this.get(ITD.GVA_HI) * 2 ** 32 + this.get(ITD.GVA_LO);
    if (!this.bus(address, data, true)) return ITD_RESULT.TX_FAIL;
    const there = this.memory(this.get(ITD.GPA_HI) * 2 ** 32 + this.get(ITD.GPA_LO), bytes);
    if (there === undefined) return ITD_RESULT.RD_FAIL;
    return there.every((b, i) => b === data[i]) ? 0 : ITD_RESULT.MISMATCH;
  }
}

/** With a valid space of secure or non-secure, the secure bit must say the same. */
function inconsistent(attrs: number): boolean {
  if ((attrs & 8) === 0) return false;
  const space = (attrs >>> 1) & 3;
  return space <= 1 && ((attrs & 1) !== 0) !== (space === 0);
}
