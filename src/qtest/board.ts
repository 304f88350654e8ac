/**
 * The board that QEMU's tests drive: memory, a PCI bus with the devices of the command line, and at 0xfed90000 the same
 * remapping unit that a simulated machine has. There is no CPU, no firmware and no Xen.
 */
import { VtdUnit } from '../iommu/hw/vtd/unit.js';
import { ConfigPorts } from '../pci/access.js';
import { PciHost } from '../pci/bus.js';
import { RootComplex } from '../pci/dma.js';
import type { PciFunction, PciFunctionInit } from '../pci/function.js';
import { Clock } from '../sim/clock.js';
import { EventStream } from '../sim/events.js';
import type { MmioDevice } from '../sim/mmio.js';
import { Ram } from '../sim/ram.js';
import { type BoardOptions, commandLineError, type DeviceOption } from './board_options.js';
import { configOf, DEVICE_MODELS, type DeviceModel, Q35_CHIPSET } from './devices.js';
import { Edu } from './edu.js';
import { IommuTestdev } from './iommu_testdev.js';
import { Mch } from './mch.js';
import { unitOptions } from './unit_options.js';

export const IOMMU_BASE = 0xfed9_0000;
const IOMMU_BYTES = 0x1000;
/** Memory below 4 GiB ends here at the latest; the rest continues at 4 GiB. */
const LOW_MAX = 0x8000_0000;
const GIB4 = 2 ** 32;
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_END = 0xd00;
/** Virtual time between two accesses to the same word of the bus. */
const NO_DEVICE = 0xff;

export class QtestBoard {
  readonly clock = new Clock();
  readonly events = new EventStream();
  readonly ram: Ram;
  readonly lowBytes: number;
  readonly root: RootComplex;
  readonly pci: PciHost;
  readonly unit: VtdUnit | undefined;
  readonly mch: Mch;
  /** Messages of the unit and of devices, as `address data` in hex. For tests. */
  readonly interrupts: string[] = [];
  private readonly ports: ConfigPorts;
  private configAddress = 0;
  private readonly testdevs: IommuTestdev[] = [];
  private readonly power: { readonly fn: PciFunction; readonly words: Int32Array }[];

  constructor(readonly options: BoardOptions) {
    this.lowBytes = Math.min(options.ramBytes, LOW_MAX);
    const highBytes = options.ramBytes - this.lowBytes;
    const top = highBytes > 0 ? GIB4 + highBytes : this.lowBytes;
    this.ram = new Ram(Math.ceil(top / 4096));
    this.root = new RootComplex(this.ram, this.events, [
      { start: 0, count: this.lowBytes / 4096 },
      { start: GIB4 / 4096, count: highBytes / 4096 },
    ]);
    this.mch = new Mch(this.lowBytes, options.extendedTsegMbytes, options.smbase);
    const { inits, models } = slots(options);
    this.pci = new PciHost(inits, this.events, this.root);
    this.ports = new ConfigPorts(this.pci);
    this.unit = this.makeUnit(options);
    inits.forEach((init, i) => {
      this.attach(this.pci.functionAt(init.sbdf)!, models[i]!);
    });
    this.power = this.pci.functions().map((fn) => ({ fn, words: fn.config.save() }));
  }

  private makeUnit(options: BoardOptions): VtdUnit | undefined {
    const wanted = options.devices.filter((d) => d.driver === 'intel-iommu');
    if (wanted.length === 0) return undefined;
    if (wanted.length > 1) throw commandLineError('one intel-iommu at most');
    const unit = new VtdUnit(
      this.ram,
      this.events,
      this.clock,
      unitOptions(wanted[0]!.properties, options.quirks),
    );
    unit.onInterrupt = (_kind, address, data) => this.interrupt(address, data);
    this.root.install(unit, 0);
    this.root.onMsi = (_seg, rid, address, data) => {
      const sent = unit.remapInterrupt(rid, address | 0, data | 0);
      if (typeof sent !== 'number') this.interrupt(address, data);
    };
    return unit;
  }

  private interrupt(address: number, data: number): void {
    this.interrupts.push(`${address.toString(16)} ${data.toString(16)}`);
  }

  private attach(fn: PciFunction, { model, option }: Placed): void {
    const bus = (address: number, data: Uint8Array, write: boolean): boolean => {
      const done = this.pci.dma(fn, { address, bytes: data.length, write, data }).status === 'done';
      if (!done && !write && this.options.quirks.has('failed-read-zeros')) data.fill(0);
      return done;
    };
    if (model.kind === 'edu') fn.regions = [new Edu(this.clock, bus, eduBits(option))];
    if (model.kind === 'testdev') {
      const device = new IommuTestdev(bus, (a, n) => (this.isRam(a) ? this.read(a, n) : undefined));
      this.testdevs.push(device);
      fn.regions = [device];
    }
  }

  /** What a system reset does: registers of chipset, unit and devices; memory stays. */
  reset(): void {
    this.mch.reset();
    this.unit?.reset();
    for (const device of this.testdevs) device.reset();
    for (const { fn, words } of this.power) fn.config.load(words);
    this.configAddress = 0;
  }

  isRam(address: number): boolean {
    return this.root.isRam(Math.floor(address / 4096));
  }

  /** A read of the CPU: what is in memory, or what devices answer in accesses of up to 8 bytes. */
  read(address: number, bytes: number): Uint8Array {
    const out = new Uint8Array(bytes);
    for (let i = 0; i < bytes; ) {
      const at = address + i;
      if (this.isRam(at)) {
        const end = Math.min(bytes, i + 4096 - (at % 4096));
        if (this.mch.hides(at)) out.fill(NO_DEVICE, i, end);
        else this.copyOut(at, out, i, end);
        i = end;
        continue;
      }
      const size = accessSize(at, bytes - i);
      const words = this.readDevice(at, size);
      for (let b = 0; b < size; b++, i++) out[i] = words[b >>> 2]! >>> ((b & 3) * 8);
    }
    return out;
  }

  write(address: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; ) {
      const at = address + i;
      if (this.isRam(at)) {
        const end = Math.min(data.length, i + 4096 - (at % 4096));
        if (!this.mch.hides(at)) this.copyIn(at, data, i, end);
        i = end;
        continue;
      }
      const size = accessSize(at, data.length - i);
      this.writeDevice(at, size, data.subarray(i, i + size));
      i += size;
    }
  }

  /** Bytes of one page of memory; what hides memory hides whole pages. */
  private copyOut(address: number, out: Uint8Array, start: number, end: number): void {
    const base = this.ram.at(address - (address % 4096));
    const { words } = this.ram;
    for (let i = start, o = address % 4096; i < end; i++, o++)
      out[i] = words[base + (o >>> 2)]! >>> ((o & 3) * 8);
  }
  private copyIn(address: number, data: Uint8Array, start: number, end: number): void {
    const base = this.ram.slot(Math.floor(address / 4096)) * 1024;
    const { words } = this.ram;
    for (let i = start, o = address % 4096; i < end; i++, o++) {
      const shift = (o & 3) * 8;
      const w = base + (o >>> 2);
      words[w] = (words[w]! & ~(0xff << shift)) | (data[i]! << shift);
    }
  }

  private deviceAt(address: number): { device: MmioDevice; offset: number } | undefined {
    if (this.unit !== undefined && address >= IOMMU_BASE && address < IOMMU_BASE + IOMMU_BYTES)
      return { device: this.unit, offset: address - IOMMU_BASE };
    const hit = this.pci.decode(address);
    const device = hit?.fn.regions?.[hit.bar.index];
    return hit === undefined || device === undefined ? undefined : { device, offset: hit.offset };
  }

  /** Low and high word; where nobody answers a read is zero, as on QEMU's system bus. */
  private readDevice(address: number, size: number): readonly number[] {
    const hit = this.deviceAt(address);
    if (hit === undefined) return [0, 0];
    const lo = hit.device.read32(hit.offset);
    return size === 8 ? [lo, hit.device.read32(hit.offset + 4)] : [lo, 0];
  }

  private writeDevice(address: number, size: number, data: Uint8Array): void {
    const hit = this.deviceAt(address);
    // Registers take whole words.
    if (hit === undefined || size < 4) return;
    const word = (at: number): number =>
      data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24);
    if (size === 8) hit.device.write64(hit.offset, word(0), word(4));
    else hit.device.write32(hit.offset, word(0));
  }

  /** The I/O ports 0xcf8 to 0xcff; all others read as ones. */
  readPort(port: number, size: number): number {
    if (port < CONFIG_ADDRESS || port + size > CONFIG_END) return 2 ** (size * 8) - 1;
    const at = this.lowBits(port);
    if (port >= 0xcfc && this.mchSelected) {
      const own = this.mch.read((this.configAddress & 0xfc) | (at & 3));
      if (own !== undefined && size === 1) return own;
    }
    return this.ports.read(at, size);
  }

  writePort(port: number, size: number, value: number): void {
    if (port < CONFIG_ADDRESS || port + size > CONFIG_END) return;
    if (port === CONFIG_ADDRESS && size === 4) this.configAddress = value >>> 0;
    const at = this.lowBits(port);
    if (port >= 0xcfc && this.mchSelected) {
      const first = (this.configAddress & 0xfc) | (at & 3);
      for (let i = 0; i < size; i++) this.mch.write(first + i, (value >>> (8 * i)) & 0xff);
    }
    this.ports.write(at, size, value);
  }

  /** The quirk cf8-low-bits: bits 1:0 of the address select the byte together with those of the port. */
  private lowBits(port: number): number {
    if (port < 0xcfc || !this.options.quirks.has('cf8-low-bits')) return port;
    return port | (this.configAddress & 3);
  }
  private get mchSelected(): boolean {
    return (this.configAddress & 0x80ff_ff00) >>> 0 === 0x8000_0000;
  }
}

const accessSize = (address: number, left: number): number => {
  for (const size of [8, 4, 2]) if (left >= size && address % size === 0) return size;
  return 1;
};

interface Placed {
  readonly model: DeviceModel;
  readonly option: DeviceOption | undefined;
}

const EDU_MASK_BITS = 28;

/** The property dma_mask, as the number of its bits. */
function eduBits(option: DeviceOption | undefined): number {
  const mask = option?.properties.get('dma_mask');
  if (mask === undefined) return EDU_MASK_BITS;
  return Math.min(64, Math.max(12, Math.round(Math.log2(Number(mask) + 1))));
}

/** Which function sits where: `addr=` decides, the others take the lowest free slot. */
function slots(options: BoardOptions): { inits: PciFunctionInit[]; models: Placed[] } {
  const taken = new Map<number, Placed>();
  for (const { devfn, model } of Q35_CHIPSET) taken.set(devfn, { model, option: undefined });
  if (options.vga) taken.set(0x08, { model: DEVICE_MODELS.get('VGA')!, option: undefined });
  for (const option of options.devices) {
    const model = DEVICE_MODELS.get(option.driver);
    if (model === undefined) continue;
    const asked = option.properties.get('addr');
    const devfn = asked === undefined ? freeSlot(taken) : parseAddress(asked);
    if (taken.has(devfn)) throw commandLineError(`slot of ${option.driver} is taken`);
    taken.set(devfn, { model, option });
  }
  const placed = [...taken].sort(([a], [b]) => a - b);
  const several = (devfn: number): boolean => placed.some(([d]) => d !== devfn && d >>> 3 === devfn >>> 3);
  return {
    inits: placed.map(([devfn, { model }]) => ({
      sbdf: devfn,
      config: configOf(model, several(devfn)),
      barBytes: Array.from({ length: 7 }, (_, i) => model.bars?.[i] ?? 0),
    })),
    models: placed.map(([, p]) => p),
  };
}

function freeSlot(taken: ReadonlyMap<number, Placed>): number {
  for (let slot = 1; slot < 31; slot++) {
    if (![...taken.keys()].some((devfn) => devfn >>> 3 === slot)) return slot * 8;
  }
  throw commandLineError('no free slot on the bus');
}

/** `1c.0`, `1c`, `0x1c`: slot and function in hex. */
function parseAddress(text: string): number {
  const m = /^(?:0x)?([0-9a-f]{1,2})(?:\.([0-7]))?$/i.exec(text);
  const slot = m === null ? 32 : Number.parseInt(m[1]!, 16);
  if (slot > 31) throw commandLineError(`addr=${text} is no slot`);
  return slot * 8 + Number(m?.[2] ?? 0);
}
