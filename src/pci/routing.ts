/**
 * Which function a configuration cycle reaches. The wires are fixed (PciBus); the numbers on them are what software
 * wrote into the bridges, so the table is made anew whenever such a register changes.
 */
import { sameItems } from '../base/same.js';
import { busOf, type Sbdf, segOf } from '../base/sbdf.js';
import { type ConfigLayout, layoutOf } from './config_layout.js';
import { ConfigWords } from './config_space.js';
import { PciBus, PciFunction, type PciFunctionInit } from './function.js';

/** Sorted by address; of several descriptions of one address the first one counts. */
function byAddress(inits: readonly PciFunctionInit[]): readonly PciFunctionInit[] {
  let ascending = true;
  for (let i = 1; i < inits.length; i++) if (inits[i - 1]!.sbdf >= inits[i]!.sbdf) ascending = false;
  if (ascending) return inits;
  const unique = new Map<Sbdf, PciFunctionInit>();
  for (const init of inits) if (!unique.has(init.sbdf)) unique.set(init.sbdf, init);
  return [...unique.values()].sort((a, b) => a.sbdf - b.sbdf);
}

/** What the functions of a machine are made from. */
interface Parts {
  readonly sorted: readonly PciFunctionInit[];
  readonly layouts: readonly ConfigLayout[];
  /** One array for the configuration spaces of all functions, as dumped. Nobody writes to it. */
  readonly words: Int32Array;
}
/** By description: machines are made again and again from one, which does not change. */
const known = new WeakMap<readonly PciFunctionInit[], Parts>();

function partsOf(inits: readonly PciFunctionInit[]): Parts {
  const found = known.get(inits);
  if (found !== undefined && sameItems(found.sorted, inits)) return found;
  const sorted = byAddress(inits);
  let length = 0;
  const layouts = sorted.map((init) => layoutOf(init.config, init.barBytes));
  for (const { initial } of layouts) length += initial.length;
  const words = new Int32Array(length);
  let at = 0;
  for (const { initial } of layouts) {
    words.set(initial, at);
    at += initial.length;
  }
  const parts = { sorted: [...sorted], layouts, words };
  known.set(inits, parts);
  return parts;
}

/**
 * Wires functions up as their numbers say: the bus below a bridge is the one with its secondary number. A bus that no
 * bridge leads to is a root bus. Bridges come before what is behind them, since a secondary number is higher.
 */
export function wire(inits: readonly PciFunctionInit[]): PciBus[] {
  const roots: PciBus[] = [];
  /** Those that functions may be on, by number. */
  const keys: number[] = [];
  const buses: PciBus[] = [];
  const { layouts, sorted, words } = partsOf(inits);
  const store = new ConfigWords(words);
  let at = 0;
  let key = -1;
  let bus: PciBus | undefined;
  for (let i = 0; i < sorted.length; i++) {
    const init = sorted[i]!;
    if (bus === undefined || init.sbdf >>> 8 !== key) {
      key = init.sbdf >>> 8;
      bus = buses[keys.indexOf(key)];
    }
    if (bus === undefined) {
      bus = new PciBus(segOf(init.sbdf), undefined, busOf(init.sbdf));
      keys.push(key);
      buses.push(bus);
      roots.push(bus);
    }
    const layout = layouts[i]!;
    const fn = new PciFunction(init, bus, undefined, 0, layout, store, at);
    at += layout.initial.length;
    bus.functions.push(fn);
    if (fn.secondary === undefined) continue;
    const below = (segOf(init.sbdf) << 8) | fn.secondaryBus;
    if (below > key && !keys.includes(below)) {
      keys.push(below);
      buses.push(fn.secondary);
    }
  }
  return roots;
}

/** All functions below and on a bus, parents first. */
export function collect(bus: PciBus, into: PciFunction[]): PciFunction[] {
  for (const fn of bus.functions) {
    into.push(fn);
    for (const vf of fn.vfs) into.push(vf);
    if (fn.secondary !== undefined) collect(fn.secondary, into);
  }
  return into;
}

/** Fills `routes` with every function that a config cycle can reach. */
export function routeAll(roots: readonly PciBus[], routes: Map<Sbdf, PciFunction>): void {
  if (routes.size > 0) routes.clear();
  const taken: number[] = [];
  for (const root of roots) taken.push((root.seg << 8) | root.number);
  for (const root of roots) routeBus(root, root.number, 0xff, routes, taken);
}

/** `bus` answers at number `first`; bridges on it share out the numbers above, up to `last`. */
function routeBus(
  bus: PciBus,
  first: number,
  last: number,
  routes: Map<Sbdf, PciFunction>,
  taken: number[],
): void {
  for (const fn of bus.functions) {
    addRoute(fn, routes);
    // Virtual functions may go on behind the bus, as far as the bridge above lets cycles pass.
    if (fn.vfs.length > 0) for (const vf of fn.vfs) if (busOf(vf.sbdf) <= last) addRoute(vf, routes);
  }
  let free = first + 1;
  const bridges = bus.functions.filter((fn) => fn.secondary !== undefined && !fn.holdsReset);
  if (bridges.length > 1) bridges.sort((a, b) => a.secondaryBus - b.secondaryBus);
  for (const bridge of bridges) {
    // Where claims overlap, the bridge with the lower number answers.
    const from = bridge.secondaryBus;
    const to = Math.min(bridge.subordinateBus, last);
    const key = (bus.seg << 8) | from;
    if (from < free || from > to || taken.includes(key)) continue;
    taken.push(key);
    routeBus(bridge.secondary!, from, to, routes, taken);
    free = to + 1;
  }
}

export function addRoute(fn: PciFunction, routes: Map<Sbdf, PciFunction>): void {
  const at = fn.sbdf;
  if (!routes.has(at)) routes.set(at, fn);
}
