/**
 * `/h1/dma` of the recorded host: `edu BDF w|r MADDR COUNT [N [GAPUS]]` lets an edu device copy between its buffer and
 * memory; `nic BDF RING N GAPUS` rings a transmit doorbell, each ring fetching one 16-byte descriptor.
 */
import { hex, parseSbdf, type Sbdf } from '../../base/sbdf.js';
import type { DmaResult } from '../../pci/dma.js';
import { DmaEngine, EDU, EDU_BUFFER, EDU_BUFFER_BYTES, EDU_COMMAND } from '../../pci/dma_engine.js';
import type { PciFunction } from '../../pci/function.js';
import type { Co } from '../../sim/co.js';
import { type Call, complain, type Program } from '../../toolstack/shell/program.js';
import type { Session } from '../session.js';
import type { HeldPages } from './held_pages.js';

const USAGE = 'usage: edu BDF w|r MADDR COUNT [N [GAPUS]] | nic BDF RING N GAPUS';
const EDU_IDS = 0x11e8_1234;
/** Status registers of the emulated NICs: e1000 and e1000e. */
const NIC_STATUS: Readonly<Record<number, string>> = { 269385862: '80080783', 282296454: '00080283' };
/** A transfer of the emulated device takes this long. */
const TRANSFER_NS = 100e6;
/** A doorbell, and what it takes when Xen handles and prints a fault. */
const DOORBELL_NS = 55e3;
const FAULT_NS = 3.4e6;
const DESCRIPTOR_BYTES = 16;
const COUNT_MAX = 10_000;

const number = (text: string | undefined): number =>
  text !== undefined && /^(0x[0-9a-f]{1,13}|\d{1,15})$/i.test(text) ? Number(text) : Number.NaN;

export class RecordedDma implements Program {
  private readonly engines = new Map<Sbdf, DmaEngine>();
  constructor(
    private readonly session: Session,
    private readonly pages: HeldPages,
  ) {}

  *run(call: Call): Co<number> {
    const [, kind, bdf = '', ...rest] = call.argv;
    const sbdf = parseSbdf(bdf);
    const fn = sbdf === undefined ? undefined : this.session.machine.hw.pci.functionAt(sbdf);
    if (fn === undefined) return complain(call, USAGE, 2);
    if (!fn.memoryDecode) return complain(call, `${bdf}: memory decode is off`, 3);
    if (kind === 'edu' && fn.config.word(0) === EDU_IDS) return yield* this.edu(call, bdf, fn, rest);
    if (kind === 'nic') return yield* this.nic(call, bdf, fn, rest);
    return complain(call, USAGE, 2);
  }

  private command(fn: PciFunction): string {
    return hex(this.session.machine.hw.pci.configRead(fn.sbdf, 4, 2), 4);
  }

  private *edu(call: Call, bdf: string, fn: PciFunction, rest: readonly string[]): Co<number> {
    const [direction, address, count] = rest;
    const [theirs, bytes, n, gapUs] = [
      number(address),
      number(count),
      number(rest[3] ?? '1'),
      number(rest[4] ?? '0'),
    ];
    const toMemory = direction === 'w';
    const bad = (!toMemory && direction !== 'r') || !(bytes >= 1 && bytes <= EDU_BUFFER_BYTES);
    if (bad || Number.isNaN(theirs) || !(n >= 0 && n <= COUNT_MAX) || !(gapUs >= 0))
      return complain(call, USAGE, 2);
    const engine = this.engine(fn);
    call.out(
      `edu ${bdf} id=${hex(engine.read32(EDU.ID), 8)} command=${this.command(fn)} ${toMemory ? 'device->memory' : 'memory->device'} addr=0x${theirs.toString(16)} count=${bytes}\n`,
    );
    const ours = this.pages.address(theirs);
    for (let i = 0; i < n; i++) {
      set64(engine, EDU.DMA_SOURCE, toMemory ? EDU_BUFFER : ours);
      set64(engine, EDU.DMA_TARGET, toMemory ? ours : EDU_BUFFER);
      set64(engine, EDU.DMA_COUNT, bytes);
      this.session.machine.hw.clock.advance(TRANSFER_NS);
      engine.write32(EDU.DMA_COMMAND, EDU_COMMAND.START | (toMemory ? EDU_COMMAND.TO_MEMORY : 0));
      // QEMU answers a read that the IOMMU refuses with zeroes.
      if (!toMemory && engine.last?.status === 'fault') engine.buffer.fill(0, 0, bytes);
      yield* this.session.machine.serviceInterrupts();
      call.out(`transfer ${i} done after ${TRANSFER_NS / 1e6} ms, command=${this.command(fn)}\n`);
      this.session.machine.hw.clock.advance(gapUs * 1000);
    }
    return 0;
  }

  private engine(fn: PciFunction): DmaEngine {
    const known = this.engines.get(fn.init.sbdf);
    if (known !== undefined) return known;
    const engine = new DmaEngine(this.session.machine.hw.pci, fn);
    this.engines.set(fn.init.sbdf, engine);
    return engine;
  }

  /** What a descriptor points to: an address, and how many bytes of it are a packet. */
  private fetchPacket(fn: PciFunction, descriptor: Uint8Array): DmaResult['status'] | undefined {
    const view = new DataView(descriptor.buffer);
    const bytes = view.getUint16(8, true);
    if (bytes === 0) return undefined;
    const address = view.getUint32(4, true) * 2 ** 32 + view.getUint32(0, true);
    return this.session.machine.dma(fn.sbdf, { address, bytes, write: false, data: new Uint8Array(bytes) })
      .status;
  }

  private *nic(call: Call, bdf: string, fn: PciFunction, rest: readonly string[]): Co<number> {
    const [theirs, n, gapUs] = [number(rest[0]), number(rest[1]), number(rest[2])];
    const bad = Number.isNaN(theirs) || !(n >= 1 && n <= COUNT_MAX) || !(gapUs >= 0);
    if (bad) return complain(call, USAGE, 2);
    const { machine } = this.session;
    const { clock } = machine.hw;
    const before = this.command(fn);
    const status = NIC_STATUS[fn.config.word(0) >>> 0] ?? '80080783';
    call.out(`nic ${bdf} status=${status} command=${before} ring=0x${theirs.toString(16)}\n`);
    const start = clock.nowNs;
    let was = before;
    for (let i = 0; i < n; i++) {
      const from = this.pages.address(theirs + i * DESCRIPTOR_BYTES);
      const data = new Uint8Array(DESCRIPTOR_BYTES);
      let how = machine.dma(fn.sbdf, { address: from, bytes: DESCRIPTOR_BYTES, write: false, data }).status;
      if (how === 'done') how = this.fetchPacket(fn, data) ?? how;
      clock.advance(DOORBELL_NS + (how === 'fault' ? FAULT_NS : 0));
      yield* machine.serviceInterrupts();
      const is = this.command(fn);
      if (is !== was) call.out(`doorbell ${i} (+${us(clock.nowNs - start)} us): command ${was} -> ${is}\n`);
      was = is;
      clock.advance(gapUs * 1000);
    }
    const took = clock.nowNs - start;
    const never = was === before ? ' (never changed)' : '';
    call.out(
      `${n} doorbells in ${us(took)} us (${us(took / n)} us each), TDH=${n}, command=${was}${never}\n`,
    );
    return 0;
  }
}

const us = (ns: number): number => Math.floor(ns / 1000);

function set64(engine: DmaEngine, offset: number, value: number): void {
  engine.write64(offset, (value % 2 ** 32) | 0, Math.floor(value / 2 ** 32));
}
