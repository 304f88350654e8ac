/**
 * The memory controller's registers that decide who sees system management memory: the one part of the q35 chipset
 * whose tests look at memory. (Intel 3 Series chipset data sheet 5.1.30, 5.1.31; 0x9c and 0x50 are QEMU's additions)
 */
const EXT_TSEG_MBYTES = 0x50;
const SMBASE = 0x9c;
const SMRAM = 0x9d;
const ESMRAMC = 0x9e;

const D_OPEN = 0x40;
const D_CLS = 0x20;
const D_LCK = 0x10;
const G_SMRAME = 0x08;
const H_SMRAME = 0x80;
const TSEG_SZ = 0x06;
const T_EN = 0x01;

const SMBASE_QUERY = 0xff;
const SMBASE_IN_RAM = 0x01;
const SMBASE_LCK = 0x02;
const SMBASE_START = 0x3_0000;
const SMBASE_BYTES = 0x2_0000;
const MIB = 0x10_0000;

export class Mch {
  private readonly bytes = new Uint8Array(256);
  private locked = false;
  private smbaseAsked = false;

  constructor(
    /** Bytes of memory below 4 GiB: TSEG is at their end. */
    private readonly lowBytes: number,
    private readonly extendedTsegMbytes: number,
    /** False for machine types before 5.0: the register at 0x9c is then a byte like any other. */
    private readonly hasSmbase: boolean,
  ) {
    this.reset();
  }

  reset(): void {
    this.bytes.fill(0);
    this.bytes[SMRAM] = 0x02;
    this.bytes[ESMRAMC] = 0x38;
    this.locked = false;
    this.smbaseAsked = false;
  }

  /** One byte, undefined for a register that is not one of these. */
  read(offset: number): number | undefined {
    const ours = (offset >= SMBASE && offset <= ESMRAMC) || offset >>> 1 === EXT_TSEG_MBYTES >>> 1;
    return ours ? this.bytes[offset] : undefined;
  }

  write(offset: number, value: number): void {
    if (offset === SMBASE) this.writeSmbase(value);
    else if (offset === SMRAM) this.writeSmram(value);
    else if (offset === ESMRAMC && !this.locked) {
      const rw = H_SMRAME | TSEG_SZ | T_EN;
      this.bytes[ESMRAMC] = (this.bytes[ESMRAMC]! & ~rw) | (value & rw);
    } else if (offset >>> 1 === EXT_TSEG_MBYTES >>> 1) this.writeExtended(offset, value);
  }

  /** All ones asks how large an extended TSEG would be; nothing else is taken. */
  private writeExtended(offset: number, value: number): void {
    this.bytes[offset] = value;
    const asked = this.bytes[EXT_TSEG_MBYTES]! + this.bytes[EXT_TSEG_MBYTES + 1]! * 256;
    if (asked !== 0xffff || this.extendedTsegMbytes === 0) return;
    this.bytes[EXT_TSEG_MBYTES] = this.extendedTsegMbytes & 0xff;
    this.bytes[EXT_TSEG_MBYTES + 1] = this.extendedTsegMbytes >>> 8;
  }

  private writeSmram(value: number): void {
    const rw = this.locked ? D_CLS : D_OPEN | D_CLS | D_LCK | G_SMRAME;
    this.bytes[SMRAM] = (this.bytes[SMRAM]! & ~rw) | (value & rw);
    if ((this.bytes[SMRAM]! & D_LCK) === 0) return;
    this.locked = true;
    this.bytes[SMRAM] = this.bytes[SMRAM]! & ~D_OPEN;
  }

  /** 0xff asks whether the feature is there; then only the lock bit can be set, once. */
  private writeSmbase(value: number): void {
    if (!this.hasSmbase) {
      this.bytes[SMBASE] = value;
      return;
    }
    if (this.bytes[SMBASE] === SMBASE_LCK) return;
    if (!this.smbaseAsked) {
      if (value !== SMBASE_QUERY) return;
      this.smbaseAsked = true;
      this.bytes[SMBASE] = SMBASE_IN_RAM;
    } else if ((value & SMBASE_LCK) !== 0) this.bytes[SMBASE] = SMBASE_LCK;
  }

  /** True where memory is hidden from everybody but system management mode: reads are all ones, writes are lost. */
  hides(address: number): boolean {
    const blackhole = this.hasSmbase && this.bytes[SMBASE] === SMBASE_LCK;
    if (blackhole && address >= SMBASE_START && address < SMBASE_START + SMBASE_BYTES) return true;
    const tseg = this.tsegBytes();
    return address >= this.lowBytes - tseg && address < this.lowBytes;
  }

  private tsegBytes(): number {
    if ((this.bytes[ESMRAMC]! & T_EN) === 0 || (this.bytes[SMRAM]! & G_SMRAME) === 0) return 0;
    const size = (this.bytes[ESMRAMC]! & TSEG_SZ) >>> 1;
    return (size === 3 ? this.extendedTsegMbytes : [1, 2, 8][size]!) * MIB;
  }
}
