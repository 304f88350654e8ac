import type { StateModel } from './explore_states.js';
import { type Field, FieldLayout, type PackedState } from './packed.js';

/** Where a toolstack is in its hypercall. A state each, as every one of these steps may be the last before a DMA. */
const AT = {
  BEGIN: 0,
  DEVICE: 1,
  DOMAIN: 2,
  LOCK: 3,
  OWNER: 4,
  DECIDE: 5,
  SAME: 6,
  ENTER: 7,
  OWN: 8,
  CLEAR: 9,
  FLUSH_CONTEXT: 10,
  FLUSH_IOTLB: 11,
  DISOWN: 12,
  BUSY: 13,
  UNLOCK: 14,
} as const;

/** Where a domain that maps and unmaps its page is. */
const MAP_AT = { BEGIN: 0, REVIVE: 1, MAP: 2, UNMAP: 3, FLUSH: 4, FREE: 5 } as const;

const TOOLS = 2;
const QUARANTINE = 0;

/** What a careless Xen leaves out, to see that it is noticed. */
export interface Omissions {
  readonly contextFlush?: boolean;
  readonly unmapFlush?: boolean;
}

interface Tool {
  readonly at: Field;
  readonly device: Field;
  readonly old: Field;
  readonly domain: Field;
}

/**
 * Assignment in the small: two toolstacks under the `pcidevs_lock`, devices whose IOMMU has a context cache and an
 * IOTLB, and guests that map and unmap one page each. Process 0 switches on; then come the toolstacks, the devices and
 * the guests. What must never be: a DMA to a page whose unmapping has returned; and, once nobody holds the lock, a DMA
 * into a domain that does not own the device. Domain 0 is quarantine.
 */
export class AssignProtocol implements StateModel {
  readonly choices: readonly number[];
  private readonly on: Field;
  private readonly lock: Field;
  private readonly owner: readonly Field[];
  private readonly context: readonly Field[];
  private readonly contextCache: readonly Field[];
  private readonly iotlb: readonly Field[];
  private readonly mapped: readonly Field[];
  private readonly dead: readonly Field[];
  private readonly tools: readonly Tool[];
  private readonly mappers: readonly Field[];

  constructor(
    private readonly devices: number,
    private readonly guests: number,
    private readonly omitted: Omissions = {},
  ) {
    const layout = new FieldLayout();
    this.on = layout.field(1);
    this.lock = layout.field(TOOLS);
    this.owner = layout.fields(devices, guests);
    this.context = layout.fields(devices, guests);
    this.contextCache = layout.fields(devices, guests);
    this.iotlb = layout.fields(devices, guests);
    this.mapped = layout.fields(guests + 1, 1);
    this.dead = layout.fields(guests + 1, 1);
    this.tools = Array.from({ length: TOOLS }, () => ({
      at: layout.field(AT.UNLOCK),
      device: layout.field(devices - 1),
      old: layout.field(guests),
      domain: layout.field(guests),
    }));
    this.mappers = layout.fields(guests, MAP_AT.FREE);
    this.choices = [
      1,
      ...Array<number>(TOOLS).fill(Math.max(devices, guests + 1)),
      ...Array<number>(devices).fill(3),
      ...Array<number>(guests).fill(1),
    ];
  }

  step(s: PackedState, process: number, choice: number): boolean {
    if (process === 0) return this.switchOn(s);
    if (s.get(this.on) === 0) return false;
    if (process <= TOOLS) return this.toolStep(s, process, choice);
    const device = process - 1 - TOOLS;
    if (device < this.devices) return this.dmaStep(s, device, choice);
    return this.mapperStep(s, device - this.devices + 1);
  }

  violation(before: PackedState, process: number, choice: number): string | undefined {
    const device = process - 1 - TOOLS;
    if (choice !== 2 || device < 0 || device >= this.devices) return undefined;
    const domain = before.get(this.iotlb[device]!);
    if (before.get(this.dead[domain]!) === 1)
      return `device ${device} reaches the page that domain ${domain} has unmapped`;
    if (before.get(this.lock) === 0 && before.get(this.owner[device]!) !== domain)
      return `device ${device} reaches domain ${domain}, which does not own it`;
    return undefined;
  }

  show(before: PackedState, process: number, choice: number): string {
    if (process === 0) return 'switch on';
    const name = (table: Readonly<Record<string, number>>, at: number): string =>
      Object.keys(table)[at]!.toLowerCase().replace('_', ' ');
    if (process <= TOOLS)
      return `toolstack ${process}: ${name(AT, before.get(this.tools[process - 1]!.at))} ${choice}`;
    const device = process - 1 - TOOLS;
    if (device < this.devices)
      return `device ${device}: ${['fills the context cache', 'fills the IOTLB', 'DMA'][choice]}`;
    const domain = device - this.devices + 1;
    return `domain ${domain}: ${name(MAP_AT, before.get(this.mappers[domain - 1]!))}`;
  }

  private switchOn(s: PackedState): boolean {
    if (s.get(this.on) === 1) return false;
    s.set(this.on, 1);
    return true;
  }

  private toolStep(s: PackedState, me: number, choice: number): boolean {
    const t = this.tools[me - 1]!;
    const at = s.get(t.at);
    if (at === AT.DEVICE || at === AT.DOMAIN) return this.choose(s, t, at, choice);
    if (choice !== 0) return false;
    const device = s.get(t.device);
    let next = at + 1;
    if (at === AT.BEGIN) {
      s.set(t.device, 0);
      s.set(t.old, 0);
      s.set(t.domain, 0);
    } else if (at === AT.LOCK) {
      if (s.get(this.lock) !== 0) return false;
      s.set(this.lock, me);
    } else if (at === AT.OWNER) s.set(t.old, s.get(this.owner[device]!));
    else if (at === AT.DECIDE) next = decide(s.get(t.old), s.get(t.domain));
    else if (at === AT.ENTER) s.set(this.context[device]!, s.get(t.domain));
    else if (at === AT.CLEAR) s.set(this.context[device]!, QUARANTINE);
    else if (at === AT.FLUSH_CONTEXT) {
      if (!this.omitted.contextFlush) s.set(this.contextCache[device]!, 0);
    } else if (at === AT.FLUSH_IOTLB) this.flush(s, s.get(t.old));
    else if (at === AT.OWN || at === AT.DISOWN) {
      s.set(this.owner[device]!, s.get(t.domain));
      next = AT.UNLOCK;
    } else if (at === AT.SAME || at === AT.BUSY) next = AT.UNLOCK;
    else {
      s.set(this.lock, 0);
      next = AT.BEGIN;
    }
    s.set(t.at, next);
    return true;
  }

  /** Which device, and which domain it shall have. */
  private choose(s: PackedState, t: Tool, at: number, choice: number): boolean {
    if (choice >= (at === AT.DEVICE ? this.devices : this.guests + 1)) return false;
    s.set(at === AT.DEVICE ? t.device : t.domain, choice);
    s.set(t.at, at + 1);
    return true;
  }

  /** The silicon, at any time: fills the context cache, fills the IOTLB, or does a DMA through both. */
  private dmaStep(s: PackedState, device: number, choice: number): boolean {
    const cached = s.get(this.contextCache[device]!);
    if (choice === 0) {
      const entry = s.get(this.context[device]!);
      if (cached !== 0 || entry === 0) return false;
      s.set(this.contextCache[device]!, entry);
      return true;
    }
    if (cached === 0) return false;
    if (choice === 2) return s.get(this.iotlb[device]!) === cached;
    if (s.get(this.iotlb[device]!) !== 0 || s.get(this.mapped[cached]!) === 0) return false;
    s.set(this.iotlb[device]!, cached);
    return true;
  }

  private mapperStep(s: PackedState, domain: number): boolean {
    const at = s.get(this.mappers[domain - 1]!);
    let next = at + 1;
    if (at === MAP_AT.BEGIN) next = s.get(this.mapped[domain]!) === 1 ? MAP_AT.UNMAP : MAP_AT.REVIVE;
    else if (at === MAP_AT.REVIVE) s.set(this.dead[domain]!, 0);
    else if (at === MAP_AT.MAP) {
      s.set(this.mapped[domain]!, 1);
      next = MAP_AT.BEGIN;
    } else if (at === MAP_AT.UNMAP) s.set(this.mapped[domain]!, 0);
    else if (at === MAP_AT.FLUSH) {
      if (!this.omitted.unmapFlush) this.flush(s, domain);
    } else {
      s.set(this.dead[domain]!, 1);
      next = MAP_AT.BEGIN;
    }
    s.set(this.mappers[domain - 1]!, next);
    return true;
  }

  /** A domain-selective invalidation of the IOTLB. */
  private flush(s: PackedState, domain: number): void {
    for (const entry of this.iotlb) if (s.get(entry) === domain) s.set(entry, 0);
  }
}

function decide(old: number, domain: number): number {
  if (old === domain) return AT.SAME;
  if (old !== QUARANTINE && domain !== QUARANTINE) return AT.BUSY;
  return old === QUARANTINE ? AT.ENTER : AT.CLEAR;
}
