/**
 * A host device on the guest's bus: QEMU's xen-pci-passthrough. BARs, the interrupt line and part of the command
 * register are emulated; the rest is the device's own, written through where that is harmless or `permissive` says so.
 * QEMU 7.2, hw/xen/xen_pt.c and xen_pt_config_init.c
 */
import { isErr } from '../base/errno.js';
import { devfn as makeDevfn } from '../base/sbdf.js';
import type { Co } from '../sim/co.js';
import type { QemuHost } from './environment.js';
import { mapVga, OPREGION, Opregion } from './igd.js';
import { memoryMapping } from './memory_map.js';

const PAGE = 4096;
const COMMAND = 0x04;
const HEADER_TYPE = 0x0e;
const BAR0 = 0x10;
const ROM = 0x30;
const CAP_PTR = 0x34;
const INTERRUPT_LINE = 0x3c;
const INTERRUPT_PIN = 0x3d;
const COMMAND_IO = 1;
const COMMAND_MEMORY = 2;
const COMMAND_INTX_DISABLE = 0x400;
/** Command bits that the guest only sees written; decoding is among them since XSA-126. */
const COMMAND_EMULATED = 0x0743;
/** Capabilities whose control registers the guest may write: power management, MSI, PCIe, MSI-X. */
const CAP = { pm: 0x01, msi: 0x05, pcie: 0x10, msix: 0x11 } as const;

/** One base address register. Sizes in bytes; `high` is the upper half of the one before. */
interface Bar {
  readonly start: number;
  readonly size: number;
  readonly io: boolean;
  readonly mem64: boolean;
  readonly prefetch: boolean;
  readonly high: boolean;
}

/** A BAR as it is mapped into the guest now; both -1 when it is not. */
interface Mapping {
  guest: number;
}

const MSIX_ENTRY = 16;
const NONE: Bar = { start: 0, size: 0, io: false, mem64: false, prefetch: false, high: false };
const IORESOURCE = { io: 0x100, prefetch: 0x2000, mem64: 0x10_0000 } as const;

export class XenPt {
  readonly slot: number;
  readonly func: number;
  /** The unplug that the guest has not answered yet. */
  unplugRequested = false;
  private readonly bars: readonly Bar[];
  /** What the guest wrote: 64 words of emulated config space, by dword. */
  private readonly emulated = new Int32Array(64);
  private readonly mappings: Mapping[];
  private pirq = -1;
  private readonly opregion: Opregion;
  private readonly caps: readonly { readonly at: number; readonly id: number }[];

  constructor(
    private readonly dom0: QemuHost,
    private readonly domid: number,
    readonly qdevId: string,
    /** `0000:01:00.0` */
    readonly hostaddr: string,
    devfn: number,
    private readonly permissive: boolean,
    /** A display on a board that passes its first display through. */
    private readonly igd: boolean,
  ) {
    this.opregion = new Opregion(dom0, domid);
    this.slot = devfn >> 3;
    this.func = devfn & 7;
    this.bars = readBars(dom0, hostaddr);
    this.mappings = this.bars.map(() => ({ guest: -1 }));
    this.caps = this.findCaps();
  }

  private get dir(): string {
    return `/sys/bus/pci/devices/${this.hostaddr}`;
  }

  get devfn(): number {
    return makeDevfn(this.slot, this.func);
  }

  /** A register of the real device; all ones when it does not answer. */
  hostRead(reg: number, bytes: number): number {
    const raw = this.dom0.fs.pread(`${this.dir}/config`, reg, bytes);
    let value = 0;
    for (let i = 0; i < bytes; i++) value += (isErr(raw) ? 0xff : (raw[i] ?? 0xff)) * 2 ** (8 * i);
    return value;
  }

  private *hostWrite(reg: number, bytes: number, value: number): Co<void> {
    const data = Uint8Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);
    yield* this.dom0.fs.pwrite(`${this.dir}/config`, reg, data);
  }

  /** Turns decoding on and routes the legacy interrupt; without one the device may not raise it. @qemu xen_pt_realize */
  *realize(): Co<void> {
    let command = 0;
    for (const bar of this.bars.slice(0, 6)) {
      if (bar.size > 0 && !bar.high) command |= bar.io ? COMMAND_IO : COMMAND_MEMORY;
    }
    if (this.igd) yield* mapVga(this.dom0, this.domid, true);
    this.emulated[INTERRUPT_LINE >> 2] = this.hostRead(INTERRUPT_LINE, 1);
    if (this.hostRead(INTERRUPT_PIN, 1) !== 0 && !(yield* this.bindIrq())) command |= COMMAND_INTX_DISABLE;
    if (command !== 0) yield* this.hostWrite(COMMAND, 2, this.hostRead(COMMAND, 2) | command);
  }

  /** True when the interrupt line works. */
  private *bindIrq(): Co<boolean> {
    const { dom0, domid } = this;
    const irqText = dom0.fs.readFile(`${this.dir}/irq`);
    const irq = typeof irqText === 'string' ? Number.parseInt(irqText, 10) : 0;
    if (!(irq > 0)) return false;
    const op = { cmd: 'map_pirq' as const, domid, type: 'gsi' as const, index: irq, pirq: irq };
    if ((yield* dom0.hv.physdevOp(op)) < 0) return false;
    const rc = yield* dom0.hv.domctl({
      cmd: 'bind_pt_irq',
      domid,
      machineIrq: op.pirq,
      irqType: 'pci',
      bus: 0,
      device: this.slot,
      intx: this.hostRead(INTERRUPT_PIN, 1) - 1,
    });
    if (rc >= 0) this.pirq = op.pirq;
    else yield* dom0.hv.physdevOp({ cmd: 'unmap_pirq', domid, pirq: op.pirq });
    return rc >= 0;
  }

  /** Unmaps everything and lets the interrupt go. @qemu xen_pt_destroy */
  *unrealize(): Co<void> {
    for (let i = 0; i < this.bars.length; i++) yield* this.map(i, -1);
    yield* this.releaseIrq();
    if (this.igd) yield* mapVga(this.dom0, this.domid, false);
    yield* this.opregion.unmap();
  }

  private *releaseIrq(): Co<void> {
    const { dom0, domid, pirq } = this;
    if (pirq < 0) return;
    yield* dom0.hv.domctl({
      cmd: 'unbind_pt_irq',
      domid,
      machineIrq: pirq,
      irqType: 'pci',
      bus: 0,
      device: this.slot,
      intx: this.hostRead(INTERRUPT_PIN, 1) - 1,
    });
    yield* dom0.hv.physdevOp({ cmd: 'unmap_pirq', domid, pirq });
    this.pirq = -1;
  }

  configRead(reg: number, bytes: number): number {
    const dword = reg & ~3;
    const word = this.emulatedDword(dword);
    const value = word ?? this.hostRead(dword, 4);
    const shifted = Math.floor(value / 2 ** (8 * (reg & 3)));
    return shifted % 2 ** (8 * bytes);
  }

  /** The dword as the guest sees it, undefined when it is the device's own. */
  private emulatedDword(dword: number): number | undefined {
    const kept = this.emulated[dword >> 2]! >>> 0;
    if (dword === OPREGION && this.igd) return this.opregion.read();
    if (dword === COMMAND) {
      const host = this.hostRead(dword, 4);
      return host - (host & COMMAND_EMULATED) + (kept & COMMAND_EMULATED);
    }
    if (dword >= BAR0 && dword < BAR0 + 24) return this.barValue((dword - BAR0) >> 2);
    if (dword === ROM) return this.barValue(6);
    if (dword === INTERRUPT_LINE) {
      return this.hostRead(dword, 4) - this.hostRead(dword, 1) + (kept & 0xff);
    }
    return undefined;
  }

  private barValue(i: number): number {
    const bar = this.bars[i] ?? NONE;
    const kept = this.emulated[i === 6 ? ROM >> 2 : (BAR0 >> 2) + i]! >>> 0;
    if (bar.high) {
      const size = this.bars[i - 1]!.size;
      const mask = size > 2 ** 32 ? 2 ** 32 - size / 2 ** 32 : 0xffff_ffff;
      return (kept & mask) >>> 0;
    }
    if (bar.size === 0) return 0;
    const mask = bar.size >= 2 ** 32 ? 0 : (2 ** 32 - bar.size) >>> 0;
    const flags = i === 6 ? kept & 1 : bar.io ? 1 : (bar.mem64 ? 4 : 0) | (bar.prefetch ? 8 : 0);
    return (((kept & mask) >>> 0) | flags) >>> 0;
  }

  *configWrite(reg: number, bytes: number, value: number): Co<void> {
    const dword = reg & ~3;
    const shift = reg & 3;
    if (dword === OPREGION && this.igd) {
      if (bytes === 4) yield* this.opregion.write(value, this.hostRead(OPREGION, 4));
      return;
    }
    const old = this.emulated[dword >> 2]! >>> 0;
    const width = 2 ** (8 * bytes);
    const unit = 2 ** (8 * shift);
    const merged = old - (Math.floor(old / unit) % width) * unit + (value % width) * unit;
    const emulates = dword === COMMAND || (dword >= BAR0 && dword < BAR0 + 24) || dword === ROM;
    if (emulates || dword === INTERRUPT_LINE) this.emulated[dword >> 2] = merged | 0;
    if (dword === COMMAND && reg === COMMAND) {
      const kept = this.hostRead(COMMAND, 2) & COMMAND_EMULATED;
      yield* this.hostWrite(COMMAND, 2, (value & 0xffff & ~COMMAND_EMULATED) | kept);
    } else if (!emulates && dword !== INTERRUPT_LINE && this.mayWrite(reg)) {
      yield* this.hostWrite(reg, bytes, value);
    }
    if (emulates) yield* this.remap();
  }

  /** Whether a register outside the header is written through. */
  private mayWrite(reg: number): boolean {
    if (this.permissive) return true;
    const cap = this.caps.find((c) => reg >= c.at + 2 && reg < c.at + capBytes(c.id));
    return cap !== undefined && cap.id !== CAP.msi && cap.id !== CAP.msix;
  }

  /** Maps what the guest has enabled where it wants it. */
  private *remap(): Co<void> {
    const command = this.emulated[COMMAND >> 2]! & 0xffff;
    for (let i = 0; i < this.bars.length; i++) {
      const bar = this.bars[i]!;
      if (bar.size === 0 || bar.high) continue;
      const low = this.barValue(i);
      const decodes = (command & (bar.io ? COMMAND_IO : COMMAND_MEMORY)) !== 0;
      const on = decodes && (i !== 6 || (low & 1) !== 0);
      const base = bar.io ? low - (low & 3) : low - (low & 15);
      const high = bar.mem64 ? this.barValue(i + 1) : 0;
      const address = base + high * 2 ** 32;
      yield* this.map(i, on && address !== 0 && base < 2 ** 32 - PAGE ? address : -1);
    }
  }

  /** Moves BAR `i` to guest address `to`, -1 for nowhere. @qemu xen_pt_region_update */
  private *map(i: number, to: number): Co<void> {
    const bar = this.bars[i]!;
    const mapping = this.mappings[i]!;
    if (bar.size === 0 || bar.high || mapping.guest === to) return;
    if (mapping.guest >= 0) yield* this.mapOp(bar, mapping.guest, false);
    mapping.guest = to;
    if (to >= 0) yield* this.mapOp(bar, to, true);
  }

  private *mapOp(bar: Bar, guest: number, add: boolean): Co<void> {
    const { domid } = this;
    if (bar.io) {
      yield* this.dom0.hv.domctl({
        cmd: 'ioport_mapping',
        domid,
        firstGport: guest,
        firstMport: bar.start,
        nrPorts: bar.size,
        add,
      });
    } else {
      for (const [from, bytes] of this.mappable(bar)) {
        const [gfn, mfn] = [Math.floor((guest + from) / PAGE), Math.floor((bar.start + from) / PAGE)];
        yield* memoryMapping(this.dom0, domid, gfn, mfn, Math.ceil(bytes / PAGE), add);
      }
    }
  }

  /** Offset and bytes of what the guest may reach by itself: all but the MSI-X table. @qemu xen_pt_msix_init */
  private mappable(bar: Bar): (readonly [number, number])[] {
    const cap = this.caps.find((c) => c.id === CAP.msix);
    const table = cap === undefined ? 0 : this.hostRead(cap.at + 4, 4);
    if (cap === undefined || this.bars[table & 7] !== bar) return [[0, bar.size]];
    const start = Math.min(table - (table & 7), bar.size);
    const bytes = Math.ceil((((this.hostRead(cap.at + 2, 2) & 0x7ff) + 1) * MSIX_ENTRY) / PAGE) * PAGE;
    const pieces = [
      [0, start],
      [start + bytes, bar.size - start - bytes],
    ] as const;
    return pieces.filter(([, n]) => n > 0);
  }

  /** Capabilities of the host device; a broken chain ends after 48 hops. */
  private findCaps(): { at: number; id: number }[] {
    const out: { at: number; id: number }[] = [];
    let at = this.hostRead(CAP_PTR, 1) & ~3;
    for (let hops = 0; at >= 0x40 && at < 0x100 && hops < 48; hops++) {
      out.push({ at, id: this.hostRead(at, 1) });
      at = this.hostRead(at + 1, 1) & ~3;
    }
    return out;
  }

  /** Regions as query-pci tells of them. */
  regions(): { bar: number; type: string; address: number; size: number }[] {
    return this.bars.flatMap((bar, i) =>
      bar.size === 0 || bar.high
        ? []
        : [{ bar: i, type: bar.io ? 'io' : 'memory', address: this.mappings[i]!.guest, size: bar.size }],
    );
  }

  get isMultifunction(): boolean {
    return (this.hostRead(HEADER_TYPE, 1) & 0x80) !== 0;
  }
}

const capBytes = (id: number): number =>
  id === CAP.pm ? 8 : id === CAP.pcie ? 0x3c : id === CAP.msi ? 0x18 : 0x0c;

/** Seven BARs (the ROM last) out of sysfs. */
function readBars(dom0: QemuHost, hostaddr: string): Bar[] {
  const text = dom0.fs.readFile(`/sys/bus/pci/devices/${hostaddr}/resource`);
  const lines = typeof text === 'string' ? text.split('\n') : [];
  const bars: Bar[] = [];
  for (let i = 0; i < 7; i++) {
    const [start, end, flags] = (lines[i] ?? '').split(' ').map((x) => Number.parseInt(x, 16));
    const before = bars[i - 1];
    if (before?.mem64 === true && i < 6) bars.push({ ...NONE, high: true });
    else if (!start || end === undefined || flags === undefined) bars.push(NONE);
    else {
      const has = (bit: number): boolean => Math.floor(flags / bit) % 2 === 1;
      bars.push({
        start,
        size: end - start + 1,
        io: has(IORESOURCE.io),
        prefetch: has(IORESOURCE.prefetch),
        mem64: has(IORESOURCE.mem64) && i < 6,
        high: false,
      });
    }
  }
  return bars;
}
