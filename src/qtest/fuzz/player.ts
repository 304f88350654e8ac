/**
 * Plays a fuzz program on one side: turns its steps into qtest commands, and collects the replies. What a step does
 * depends on the steps before it alone, never on a reply, so two sides get the same commands.
 */
import { EDU, EDU_CMD } from '../edu.js';
import * as L from './layout.js';
import { OP, type Op, type Program } from './ops.js';
import type { Reach } from './reach.js';
import {
  BUFFER_BYTES,
  CONTEXT_ODD,
  DESCRIPTOR_ODD,
  digest,
  GCMD_BITS,
  HIGH_ADDRESS,
  normalized,
  PASS_THROUGH,
  PTE_ODD,
  QIE,
  R,
  READABLE,
  ROOT_ODD,
  SIRTP,
  SRTP,
  TE,
} from './values.js';

/** A board behind the qtest protocol. */
export interface Side {
  /** Replies, one a command. */
  send(lines: readonly string[]): Promise<string[]>;
  /** Waits until the device whose registers are at `bar` is done with its DMA. */
  dmaDone(bar: number): Promise<void>;
  /** A system reset, by QMP. */
  reset(): Promise<void>;
}

export interface Played {
  /** Replies of each step, joined; two more for setting up and for memory in the end. */
  readonly replies: readonly string[];
  /** Every command in order. */
  readonly script: readonly string[];
}

/** The table of level 1 that a slot is in. */
const half = (slot: number): number => slot >>> 2;
const bit = (n: number): bigint => 1n << BigInt(n);
const hex = (n: number | bigint): string => `0x${n.toString(16)}`;
const page = (frame: number): bigint => BigInt(frame) * 4096n;

export class Player {
  private lines: string[] = [];
  private readonly script: string[] = [];
  private tail = 0;
  private gcmd = 0;
  private readonly passes = [false, false];

  constructor(
    private readonly side: Side,
    private readonly reach?: Reach,
    /** Levels of the tables that most contexts name: 3 for a unit of 39 bits. */
    private readonly levels = 4,
  ) {}

  async play(program: Program): Promise<Played> {
    const replies: string[] = [];
    await this.side.reset();
    this.script.push('# system_reset');
    this.setUp();
    // The buffers of the devices outlive a reset: both begin with the same known bytes.
    for (const device of [0, 1]) await this.transfer(device, L.DATA * 4096, 0, BUFFER_BYTES, false);
    this.registers();
    replies.push(await this.flush());
    for (const op of program) {
      this.reach?.op(op);
      await this.step(op);
      this.readl(R.GSTS);
      replies.push(await this.flush());
    }
    replies.push(await this.ending());
    return { replies, script: this.script };
  }

  private async flush(): Promise<string> {
    const lines = this.lines;
    this.lines = [];
    this.script.push(...lines);
    const replies = await this.side.send(lines);
    if (this.reach !== undefined) for (const [i, r] of replies.entries()) this.reach.reply(lines[i]!, r);
    return replies.map((r, i) => normalized(lines[i]!, r)).join(' ');
  }

  private writeq(address: number, value: bigint): void {
    this.lines.push(`writeq ${hex(address)} ${hex(value)}`);
  }
  private reg(offset: number, value: number): void {
    this.lines.push(`writel ${hex(L.IOMMU + offset)} ${hex(value >>> 0)}`);
  }
  private regq(offset: number, value: bigint): void {
    this.writeq(L.IOMMU + offset, value);
  }
  private readl(offset: number): void {
    this.lines.push(`readl ${hex(L.IOMMU + offset)}`);
  }
  private readq(offset: number): void {
    this.lines.push(`readq ${hex(L.IOMMU + offset)}`);
  }

  private setUp(): void {
    this.buses();
    for (const [frame, count] of L.COMPARED)
      this.lines.push(`memset ${hex(frame * 4096)} ${hex(count * 4096)} 0x0`);
    for (let i = 0; i < 16; i++)
      this.lines.push(`memset ${hex((L.DATA + i) * 4096)} 0x1000 ${hex(0x41 + i)}`);
    this.writeq(L.ROOT_TABLE * 4096, page(L.CONTEXT_TABLE) | 1n);
    for (let d = 0; d < 2; d++) {
      for (let level = 4; level >= 1; level--) {
        for (let slot = 0; slot < (level === 1 ? 8 : 1); slot++)
          this.pte([OP.PTE, d, level - 1, slot, 3, 0, 0]);
      }
      this.pte([OP.PTE, d, 1, 1, 3, 0, 0]);
      this.putContext(
        d,
        1n | page(L.tableFrame(d, this.levels)),
        (BigInt(d + 1) << 8n) | BigInt(this.levels - 2),
      );
    }
  }

  /** Base address registers and bus mastering of both devices: a reset takes them away. */
  private buses(): void {
    for (const { slot, bar } of L.DEVICES) {
      const config = (offset: number, value: number): void => {
        this.lines.push(`outl 0xcf8 ${hex(0x8000_0000 + slot * 0x800 + offset)}`, `outl 0xcfc ${hex(value)}`);
      };
      config(0x10, bar);
      config(0x04, 6);
    }
  }

  private registers(): void {
    this.gcmd = 0;
    this.tail = 0;
    this.regq(R.RTADDR, page(L.ROOT_TABLE));
    this.reg(R.GCMD, SRTP);
    this.regq(R.IQA, page(L.QUEUE));
    this.regq(R.IQT, 0n);
    this.regq(R.IRTA, page(L.INTERRUPT_TABLE));
    this.setGcmd(QIE, true);
    this.setGcmd(TE, true);
  }

  private setGcmd(bits: number, on: boolean): void {
    this.gcmd = (on ? this.gcmd | bits : this.gcmd & ~bits) >>> 0;
    this.reg(R.GCMD, this.gcmd);
  }

  private async step(op: Op): Promise<void> {
    switch (op[0]) {
      case OP.PTE:
        this.pte(op);
        return;
      case OP.CONTEXT:
        this.context(op);
        return;
      case OP.ROOT:
        this.root(op);
        return;
      case OP.DMA:
        await this.dma(op);
        return;
      case OP.REG_WRITE:
        this.regWrite(op);
        return;
      case OP.REG_READ:
        this.regRead(op);
        return;
      case OP.QUEUE:
        this.queue(op);
        return;
      case OP.GCMD:
        this.command(op);
        return;
      case OP.CLEAR:
        this.clear(op);
        return;
      case OP.TAIL:
        this.regq(R.IQT, BigInt(op[1]! * 16));
        this.tail = op[1]! % L.QUEUE_ENTRIES;
        this.readq(R.IQH);
        this.readl(R.FSTS);
        return;
      case OP.RESET:
        await this.flush();
        await this.side.reset();
        this.script.push('# system_reset');
        this.buses();
        this.registers();
    }
  }

  private pte([, domain = 0, above = 0, slot = 0, permissions = 0, target = 0, odd = 0]: Op): void {
    const level = above + 1;
    const part = level === 1 ? half(slot) : 0;
    const index = level === 1 ? slot & 3 : level === 2 ? slot & 3 : slot & 1;
    let entry = BigInt(permissions) | this.target(domain, level, slot, index, target);
    if (odd !== 0) entry |= bit(PTE_ODD[odd]!);
    this.writeq(L.tableFrame(domain, level, part) * 4096 + index * 8, entry);
  }

  /**
   * Where an entry leads: as a rule to the table below, or to data. The interrupt range is left to tables that no odd bit
   * turns into tables of a higher level: QEMU reads device registers there as if they were entries.
   */
  private target(domain: number, level: number, slot: number, index: number, target: number): bigint {
    const large = level === 2 || level === 3;
    if (target === 1 && large) return (level === 2 ? page(index * 0x200) : 0n) | bit(7);
    if (target === 2) return page(L.NOWHERE + slot);
    if (target === 3 && level === 1 && half(slot) === 1) return page(0xfee00 + slot);
    if (target === 4) return page(L.tableFrame(1 - domain, Math.max(1, level - 1)));
    if (target === 5 && large) return page(0x201) | bit(7);
    if (level === 1) return page(L.DATA + domain * 8 + slot);
    return page(L.tableFrame(domain, level - 1, level === 2 ? index & 1 : 0));
  }

  private putContext(device: number, lo: bigint, hi: bigint): void {
    const at = L.CONTEXT_TABLE * 4096 + L.DEVICES[device]!.slot * 8 * 16;
    this.writeq(at, lo);
    this.writeq(at + 8, hi);
  }

  private context(op: Op): void {
    const [, device = 0, present = 0, fpd = 0, tt = 0, drawn = 0, where = 0, odd = 0, how = 0] = op;
    // Most draws are 2: then the width that the unit has.
    const aw = drawn === 2 ? this.levels - 2 : drawn === this.levels - 2 ? 2 : drawn;
    const frame = where === 1 ? L.NOWHERE : L.tableFrame(device, aw === 1 && where === 0 ? 3 : 4);
    const words = [
      BigInt(present | (fpd << 1) | (tt << 2)) | page(frame),
      (BigInt(device + 1) << 8n) | BigInt(aw),
    ];
    if (odd !== 0) {
      const [word, n] = CONTEXT_ODD[odd]!;
      words[word] = words[word]! | bit(n);
    }
    // Pass-through is looked at when something is invalidated (docs/qtest.md): translation is off meanwhile.
    const pass = tt === PASS_THROUGH || this.passes[device]!;
    this.passes[device] = tt === PASS_THROUGH;
    if (pass) this.whileOff(() => this.putContext(device, words[0]!, words[1]!));
    else {
      this.putContext(device, words[0]!, words[1]!);
      this.forget(device, how);
    }
  }

  private whileOff(change: () => void): void {
    this.reg(R.GCMD, (this.gcmd & ~TE) >>> 0);
    change();
    this.reg(R.GCMD, this.gcmd);
  }

  /** Nothing, or context cache and IOTLB in this order, as software has to (6.5.3.3). */
  private forget(device: number, how: number): void {
    const did = BigInt(device + 1);
    const sid = BigInt(L.DEVICES[device]!.slot * 8);
    if (how === 1) {
      this.enqueue(0x31n | (did << 16n) | (sid << 32n), 0n);
      this.enqueue(0x22n | (did << 16n), 0n);
    } else if (how === 2) {
      this.enqueue(0x11n, 0n);
      this.enqueue(0x12n, 0n);
    } else if (how === 3) {
      this.regq(R.CCMD, bit(63) | (3n << 61n) | (sid << 16n) | did);
      this.regq(R.IOTLB, bit(63) | (2n << 60n) | (did << 32n));
      this.readq(R.CCMD);
      this.readq(R.IOTLB);
    }
    if (how === 1 || how === 2) this.ring();
  }

  private root([, present = 0, odd = 0, where = 0]: Op): void {
    const words = [page(where === 1 ? L.NOWHERE : L.CONTEXT_TABLE) | BigInt(present), 0n];
    if (odd !== 0) {
      const [word, n] = ROOT_ODD[odd]!;
      words[word] = words[word]! ^ bit(n);
    }
    this.whileOff(() => {
      this.writeq(L.ROOT_TABLE * 4096, words[0]!);
      this.writeq(L.ROOT_TABLE * 4096 + 8, words[1]!);
    });
  }

  private async dma(op: Op): Promise<void> {
    const [
      ,
      device = 0,
      write = 0,
      l4 = 0,
      l3 = 0,
      l2 = 0,
      l1 = 0,
      offset = 0,
      length = 0,
      high = 0,
      fresh = 0,
    ] = op;
    if (fresh === 1) this.clear([OP.CLEAR, 0]);
    const iova = HIGH_ADDRESS[high]! + l4 * 2 ** 39 + l3 * 2 ** 30 + l2 * 2 ** 21 + l1 * 4096 + offset * 128;
    await this.transfer(device, iova, offset * 64, 4 * (length + 1), write === 1);
    this.faults();
  }

  private async transfer(
    device: number,
    bus: number,
    inside: number,
    bytes: number,
    write: boolean,
  ): Promise<void> {
    const { bar } = L.DEVICES[device]!;
    const own = BigInt(EDU.BUFFER + inside);
    this.writeq(bar + EDU.SRC, write ? own : BigInt(bus));
    this.writeq(bar + EDU.DST, write ? BigInt(bus) : own);
    this.writeq(bar + EDU.CNT, BigInt(bytes));
    this.writeq(bar + EDU.CMD, BigInt(EDU_CMD.RUN | (write ? EDU_CMD.TO_PCI : 0)));
    await this.flush();
    this.script.push('clock_step 100000000');
    await this.side.dmaDone(bar);
  }

  private faults(): void {
    this.readl(R.FSTS);
    this.readq(R.FRCD);
    this.readq(R.FRCD + 8);
  }

  private regRead([, which = 0]: Op): void {
    const [offset, bytes] = READABLE[which % READABLE.length]!;
    if (bytes === 8) this.readq(offset);
    else this.readl(offset);
  }

  private regWrite([, which = 0, a = 0, b = 0]: Op): void {
    const sid = BigInt(L.DEVICES[b & 1]!.slot * 8);
    switch (which) {
      case 0:
      case 1:
        // Fixed or lowest priority: anything else would wake the CPU.
        this.reg(R.FECTL, (b & 1) * TE);
        this.reg(R.FEDATA, ((a * 0x1_0000) | b) & ~0x700);
        this.reg(R.FEADDR, 0xfee0_0000 + (a & 0xf_fffc));
        this.readl(R.FECTL);
        return;
      case 2:
        this.reg(R.IECTL, (b & 1) * TE);
        this.reg(R.IEDATA, b & ~0x700);
        this.reg(R.IEADDR, 0xfee0_0000 + (a & 0xf_fffc));
        this.readl(R.IECTL);
        return;
      case 3:
        this.reg(R.ICS, a & 1);
        this.readl(R.IECTL);
        return;
      case 4:
        this.regq(R.IRTA, page(L.INTERRUPT_TABLE) | BigInt(a & 0xf));
        return;
      case 5:
        this.reg(R.FEUADDR, a);
        this.readl(R.FEUADDR);
        return;
      case 6:
      case 7:
      case 8:
        this.regq(
          R.CCMD,
          bit(63) | (BigInt(a & 3) << 61n) | (BigInt(b & 3) << 32n) | (sid << 16n) | BigInt(1 + (b & 1)),
        );
        this.regq(R.IOTLB, bit(63) | (1n << 60n));
        this.readq(R.CCMD);
        this.readq(R.IOTLB);
        return;
      case 9:
      case 10:
      case 11:
      case 12:
        this.regq(R.IVA, page(this.pageOf(b)) | BigInt(a % 24));
        this.regq(R.IOTLB, bit(63) | (BigInt((a >>> 6) & 3) << 60n) | (BigInt(1 + (b & 1)) << 32n));
        this.readq(R.IOTLB);
        return;
      case 13:
        this.regq(R.RTADDR, page((a & 3) === 0 ? L.NOWHERE : L.ROOT_TABLE));
        this.readq(R.RTADDR);
        if ((b & 1) === 1) this.reg(R.GCMD, (this.gcmd | SRTP) >>> 0);
        return;
      case 14:
        this.reg(R.GCMD, this.gcmd);
        return;
      default:
        this.reg(R.PMEN, a);
        this.readl(R.PMEN);
    }
  }

  /** A page that DMAs use. */
  private pageOf(n: number): number {
    return ((n >>> 4) & 1) * 0x4_0000 + ((n >>> 2) & 3) * 0x200 + (n & 3);
  }

  private queue([, type = 0, granularity = 0, domain = 0, where = 0, mask = 0, odd = 0, ring = 0]: Op): void {
    const did = BigInt(domain);
    const words = this.descriptor(type, granularity, did, where, mask);
    if (odd !== 0) {
      const [word, n] = DESCRIPTOR_ODD[odd]!;
      words[word] = words[word]! ^ bit(n);
    }
    this.enqueue(words[0]!, words[1]!);
    // Context entries may only be forgotten together with what was translated by them.
    if (type === 1) this.enqueue(0x12n, 0n);
    if (ring === 1) this.ring();
  }

  private descriptor(
    type: number,
    granularity: number,
    did: bigint,
    where: number,
    mask: number,
  ): [bigint, bigint] {
    const sid = BigInt(L.DEVICES[where & 1]!.slot * 8);
    const g = BigInt(granularity) << 4n;
    switch (type) {
      case 1:
        return [1n | g | (did << 16n) | (sid << 32n) | (BigInt(mask & 3) << 48n), 0n];
      case 4:
        return [4n | (g & 0x10n) | (BigInt(mask) << 27n) | (BigInt(where) << 32n), 0n];
      case 5:
      case 6:
        // Status or interrupt; both at once stop QEMU.
        return (granularity & 1) === 0
          ? [5n | 0x20n | (BigInt(0x5a00 + where) << 32n), page(L.STATUS) + BigInt(where * 4)]
          : [5n | (granularity === 1 ? 0x10n : 0n), 0n];
      case 7:
        return [BigInt(where & 0xf) === 5n ? 0n : BigInt(where & 0xf) & ~4n, 0n];
      default:
        return [2n | g | (did << 16n), page(this.pageOf(where)) | BigInt(mask)];
    }
  }

  private enqueue(lo: bigint, hi: bigint): void {
    this.writeq(L.QUEUE * 4096 + this.tail * 16, lo);
    this.writeq(L.QUEUE * 4096 + this.tail * 16 + 8, hi);
    this.tail = (this.tail + 1) % L.QUEUE_ENTRIES;
  }

  private ring(): void {
    this.regq(R.IQT, BigInt(this.tail * 16));
    this.readq(R.IQH);
    this.readl(R.FSTS);
  }

  private command([, which = 0, on = 0]: Op): void {
    const bits = GCMD_BITS[which]!;
    if (bits === SRTP || bits === SIRTP) this.reg(R.GCMD, (this.gcmd | bits) >>> 0);
    else this.setGcmd(bits, on === 1);
    if (bits === QIE) {
      this.readq(R.IQH);
      // A queue that was switched off begins anew.
      if (on === 0) this.tail = 0;
      this.regq(R.IQT, BigInt(this.tail * 16));
    }
  }

  private clear([, what = 0]: Op): void {
    if (what !== 1) this.regq(R.FRCD + 8, bit(63));
    if (what !== 2) this.reg(R.FSTS, 0x11);
    this.readl(R.FSTS);
    this.readl(R.FECTL);
  }

  /** Buffers of the devices by DMA without translation, then all memory that was in play. */
  private async ending(): Promise<string> {
    this.gcmd = (this.gcmd & ~TE) >>> 0;
    this.reg(R.GCMD, this.gcmd);
    for (const device of [0, 1]) await this.transfer(device, (L.DUMP + device) * 4096, 0, BUFFER_BYTES, true);
    for (const [frame, count] of [...L.COMPARED, [L.DUMP, 2] as const]) {
      for (let i = 0; i < count; i++) this.lines.push(`read ${hex((frame + i) * 4096)} 0x1000`);
    }
    return digest(await this.flush());
  }
}
