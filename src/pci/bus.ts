/** The PCI of a whole machine: all segments, configuration cycles, hot-plug and resets. */
import { busOf, type Sbdf, segOf, withDevfn } from '../base/sbdf.js';
import type { EventStream } from '../sim/events.js';
import { Table } from '../sim/table.js';
import type { Bar } from './bars.js';
import { allOnes, lane, type ResetKind, widen } from './config_space.js';
import { type DmaRequest, type DmaResult, dmaRequest, type RootComplex } from './dma.js';
import { PciBus, PciFunction, type PciFunctionInit } from './function.js';
import * as R from './registers.js';
import { addRoute, collect, routeAll, wire } from './routing.js';
import { virtualFunctions } from './virtual_functions.js';

/** No function has this address. */
const NOWHERE = -1;

export class PciHost {
  private readonly roots: PciBus[];
  /** By present address. Stale after a bridge's bus numbers changed. */
  private readonly routes = new Table<Sbdf, PciFunction>();
  private stale = true;
  /** What was found in them last: one function is read many times over. */
  private lastAt: Sbdf = NOWHERE;
  private last: PciFunction | undefined = undefined;
  /** Numbers of the buses with functions, `seg << 8 | bus`, ascending; undefined until somebody asks. */
  private buses: readonly number[] | undefined = undefined;

  constructor(
    inits: readonly PciFunctionInit[],
    readonly events: EventStream,
    /** Where requests of devices arrive. */
    readonly root: RootComplex,
  ) {
    this.roots = wire(inits);
  }

  private refresh(): void {
    if (!this.stale) return;
    routeAll(this.roots, this.routes);
    this.stale = false;
    this.lastAt = NOWHERE;
    this.buses = undefined;
  }

  /** Buses of a segment on which some function answers, ascending: on all others reads return ones. */
  busesInUse(seg: number): readonly number[] {
    if (this.stale) this.refresh();
    if (this.buses === undefined) {
      this.buses = busesOf(this.routes.keys());
    }
    // Most machines have one segment.
    if (seg === 0 && (this.buses.at(-1) ?? 0) <= 0xff) return this.buses;
    return this.buses.filter((b) => b >>> 8 === seg).map((b) => b & 0xff);
  }

  /** A configuration read of 1, 2 or 4 bytes, unsigned; all ones where nobody answers. */
  configRead(sbdf: Sbdf, offset: number, size: number): number {
    const fn = this.functionAt(sbdf);
    return fn === undefined ? allOnes(size) : fn.config.read(offset, size);
  }

  /** A configuration write; dropped where nobody answers. */
  configWrite(sbdf: Sbdf, offset: number, size: number, value: number): void {
    if (this.stale) this.refresh();
    if (this.events.on) {
      this.events.emit({ kind: 'config', sbdf, write: true, offset, size, value: value >>> 0 });
    }
    const fn = this.functionAt(sbdf);
    if (fn === undefined) return;
    if (fn.pf === undefined) fn.capturedBus = busOf(sbdf);
    const before = fn.config.write(offset, size, value);
    this.afterWrite(fn, offset >>> 2, before, widen(offset, value) & lane(offset, size));
  }

  /** What a write sets off. `data` are the written bits in their place in the word. */
  private afterWrite(fn: PciFunction, word: number, before: number, data: number): void {
    if (fn.isBridge && (word === 6 || word === 15)) {
      this.stale = true;
      const asserted = R.BRIDGE_CTL_BUS_RESET << 16;
      if (word === 15 && (data & asserted) !== 0 && (before & asserted) === 0) this.resetBelow(fn);
    } else if (fn.pm !== 0 && word === fn.pm + 1) {
      const woke = (before & 3) === 3 && fn.powerState === 0;
      if (woke && (before & R.PM_NO_SOFT_RESET) === 0) this.resetFunction(fn, 'flr');
    } else if (fn.exp !== 0 && word === fn.exp + 2) {
      const initiate = (data & (1 << R.EXP_DEVCTL_INITIATE_FLR.lo)) !== 0;
      if (initiate && fn.field(fn.exp, R.EXP_DEVCAP_FLR) !== 0) this.resetFunction(fn, 'flr');
    } else if (fn.af !== 0 && word === fn.af + 1) {
      const initiate = (data & (1 << R.AF_INITIATE_FLR.lo)) !== 0;
      if (initiate && fn.field(fn.af, R.AF_CAP_FLR) !== 0) this.resetFunction(fn, 'flr');
    } else if (fn.sriov !== 0 && word === fn.sriov + 2) {
      if (((before ^ data) & 1) !== 0) this.showVfs(fn);
    }
  }

  /** A function level reset, or the part of a bus reset that one function sees. Its virtual functions vanish. */
  resetFunction(fn: PciFunction, kind: ResetKind): void {
    fn.reset(kind);
    if (fn.vfs.length > 0) this.showVfs(fn);
    if (fn.isBridge || kind === 'bus') this.stale = true;
  }

  private resetBelow(bridge: PciFunction): void {
    for (const fn of collect(bridge.secondary!, [])) this.resetFunction(fn, 'bus');
  }

  private showVfs(pf: PciFunction): void {
    for (const vf of pf.vfs) vf.present = false;
    pf.vfs = virtualFunctions(pf, pf.bus);
    this.stale = true;
  }

  /** The function that answers there now. */
  functionAt(sbdf: Sbdf): PciFunction | undefined {
    if (this.stale) this.refresh();
    if (sbdf === this.lastAt) return this.last;
    this.last = this.routes.get(sbdf);
    this.lastAt = sbdf;
    return this.last;
  }

  /** All functions that are plugged in, reachable or not, parents before children. */
  functions(): PciFunction[] {
    const all: PciFunction[] = [];
    for (const root of this.roots) collect(root, all);
    return all;
  }

  /** Segments with at least one root bus, ascending. */
  segments(): number[] {
    const segs: number[] = [];
    for (const { seg } of this.roots) if (!segs.includes(seg)) segs.push(seg);
    return segs.length > 1 ? segs.sort((a, b) => a - b) : segs;
  }

  /** Hot plug: the function appears on the bus that has its number now, or on a new root bus. */
  addFunction(init: PciFunctionInit): PciFunction {
    this.refresh();
    const bus = this.busNumbered(segOf(init.sbdf), busOf(init.sbdf));
    const fn = new PciFunction(init, bus);
    const at = bus.functions.findIndex((other) => other.devfn >= fn.devfn);
    if (at >= 0 && bus.functions[at]!.devfn === fn.devfn) {
      bus.functions[at]!.present = false;
      bus.functions[at] = fn;
      this.stale = true;
    } else bus.functions.splice(at < 0 ? bus.functions.length : at, 0, fn);
    if (fn.isBridge) this.stale = true;
    else addRoute(fn, this.routes);
    this.lastAt = NOWHERE;
    this.buses = undefined;
    return fn;
  }

  private busNumbered(seg: number, number: number): PciBus {
    for (const bus of this.roots) if (bus.seg === seg && bus.number === number) return bus;
    for (const fn of this.functions()) {
      if (fn.secondary !== undefined && fn.bus.seg === seg && fn.secondaryBus === number) return fn.secondary;
    }
    const bus = new PciBus(seg, undefined, number);
    this.roots.push(bus);
    return bus;
  }

  /** Hot unplug, with everything behind a bridge; the result is what stood there. */
  removeFunction(sbdf: Sbdf): PciFunction | undefined {
    const fn = this.functionAt(sbdf);
    if (fn === undefined) return undefined;
    const gone = fn.secondary === undefined ? [fn, ...fn.vfs] : [fn, ...collect(fn.secondary, [])];
    for (const each of gone) each.present = false;
    if (fn.pf !== undefined) fn.pf.vfs = fn.pf.vfs.filter((vf) => vf !== fn);
    else {
      const list = fn.bus.functions;
      const at = list.indexOf(fn);
      if (at >= 0) list.splice(at, 1);
    }
    this.lastAt = NOWHERE;
    this.buses = undefined;
    if (gone.length === 1) this.routes.delete(sbdf);
    else this.stale = true;
    return fn;
  }

  /** The function and base address register that decode a memory address now, if any does. */
  decode(address: number): { fn: PciFunction; bar: Bar; offset: number } | undefined {
    for (const fn of this.functions()) {
      for (const bar of fn.config.bars) {
        if (bar.kind === 'io' || bar.kind === 'rom') continue;
        const base = fn.barAddress(bar);
        if (base > 0 && address >= base && address < base + bar.bytes)
          return { fn, bar, offset: address - base };
      }
    }
    return undefined;
  }

  /** A memory request of a device, from its own function to memory. @see DmaRequest */
  dma(fn: PciFunction, request: DmaRequest): DmaResult {
    return dmaRequest(this.root, fn, request);
  }

  /** Requester id of phantom function `devfn` of a function: what Xen calls its phantoms. */
  phantomRid(fn: PciFunction, devfn: number): number {
    return withDevfn(fn.rid, devfn) & 0xffff;
  }
}

function busesOf(addresses: Iterable<Sbdf>): number[] {
  const buses: number[] = [];
  let ascending = true;
  let last = -1;
  for (const at of addresses) {
    const bus = at >>> 8;
    if (bus === last) continue;
    if (bus < last) ascending = false;
    buses.push(bus);
    last = bus;
  }
  return ascending ? buses : [...new Set(buses)].sort((a, b) => a - b);
}
