/**
 * Which CPUs the scheduler had virtual CPUs on, as far as a recording of a machine with several tells: dom0's interrupts
 * follow its virtual CPU, each with the next that comes, which is an invalidation of its entry; dumps of the entries
 * (key `V`) say where each one had gone.
 */

import { irqArrives, runOn } from '../../hypervisor/irq/move.js';
import type { Machine } from '../../machine.js';
import { type Co, runAlone } from '../../sim/co.js';
import type { GoldenRecord } from './recording.js';

/** Entries of the recorder's serial line, of ACPI's pin and of dom0's disk: what comes of itself. */
const DOM0_ENTRIES: ReadonlySet<number> = new Set([0x03, 0x09, 0x22]);
const PINS = 24;

/** An interrupt of dom0 came and moved; `cpu` where dom0 was then, undefined where nobody knows. */
interface Arrival {
  readonly entry: number;
  readonly cpu: number | undefined;
}

export interface Places {
  /** Before anything else that a record shows of interrupts, and after it. */
  readonly before: readonly Arrival[];
  readonly after: readonly Arrival[];
  /** By pin: where dom0 is if it binds it in this record, as pciback does for a guest's device. */
  readonly boundOn: ReadonlyMap<number, number>;
}

const FLUSH = /^vtd_inv_desc_iec granularity 0x1 index 0x([0-9a-f]+) mask 0x0(?: {3}x\d+)?$/;
const ENTRY =
  /^\(XEN\) R: {2}([0-9a-f]{4}): {2}1 {3}0 {2}[0-9a-f]{4} [0-9a-f]{2} {4}0 {3}0 0000([0-9a-f]{2})00 /;

/** Which entries a record shows flushed, in order. */
const flushes = (record: GoldenRecord): number[] =>
  record.vtd_trace.flatMap((l) => {
    const m = FLUSH.exec(l);
    return m === null ? [] : [Number.parseInt(m[1]!, 16)];
  });

/** Where entries go that go to one CPU, from what key `V` printed. The destination is a mask in its second byte. */
function dumped(record: GoldenRecord): Map<number, number> {
  const found = new Map<number, number>();
  for (const line of record.debug_keys?.V ?? record.xen_log) {
    const m = ENTRY.exec(line);
    const cpu = m === null ? -1 : Math.log2(Number.parseInt(m[2]!, 16));
    if (Number.isInteger(cpu) && cpu >= 0) found.set(Number.parseInt(m![1]!, 16), cpu);
  }
  return found;
}

/** A dump is taken after what its record shows, and tells of the last time that each entry moved before it. */
export function vcpuPlaces(records: readonly GoldenRecord[]): Map<GoldenRecord, Places> {
  const places = new Map<GoldenRecord, Places>();
  let next = new Map<number, number>();
  let pins = new Map<number, number>();
  for (const record of records.slice(1).reverse()) {
    const dump = dumped(record);
    if (dump.size > 0) {
      next = new Map(dump);
      pins = new Map([...dump].filter(([entry]) => entry < PINS && !DOM0_ENTRIES.has(entry)));
    }
    const all = flushes(record);
    const arrivals = all.map((entry) => ({ entry, cpu: undefined as number | undefined }));
    for (const a of arrivals.toReversed()) {
      a.cpu = next.get(a.entry);
      next.delete(a.entry);
    }
    const first = all.findIndex((entry) => !DOM0_ENTRIES.has(entry));
    const ofDom0 = (a: Arrival): boolean => DOM0_ENTRIES.has(a.entry);
    const split = Math.max(first, 0);
    places.set(record, {
      before: arrivals.slice(0, split).filter(ofDom0),
      after: arrivals.slice(split).filter(ofDom0),
      boundOn: pins,
    });
  }
  return places;
}

/** dom0's virtual CPU goes there, or away and back, and the interrupt comes. */
export function arrive(machine: Machine, arrivals: readonly Arrival[]): void {
  for (const a of arrivals) runAlone(arriveOne(machine, a));
}

function* arriveOne({ xen }: Machine, { cpu, entry }: Arrival): Co<void> {
  const irq = entry < PINS ? entry : irqOf(xen.irqs.msis.values(), entry);
  runOn(xen, xen.hwdom, cpu ?? xen.hwdom.processor);
  if (irq !== undefined) yield* irqArrives(xen, irq);
}

const irqOf = (
  lists: Iterable<readonly { readonly irq: number; readonly remapIndex: number }[]>,
  entry: number,
): number | undefined => [...lists].flat().find((e) => e.remapIndex === entry)?.irq;
