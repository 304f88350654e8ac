/**
 * A run as Chrome trace JSON, which Perfetto and chrome://tracing show: a track for each CPU, device and IOMMU. One
 * event takes a microsecond, because many happen at one instant of simulated time; that time is among the arguments.
 */
import { formatSbdf } from '../base/sbdf.js';
import type { StampedEvent } from '../sim/events.js';

interface TraceEvent {
  readonly name: string;
  /** B and E: a span begins and ends; i: an instant; M: the name of a track. */
  readonly ph: 'B' | 'E' | 'i' | 'M';
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly s?: 't';
  readonly args?: Readonly<Record<string, unknown>>;
}

/** Groups of tracks. */
const CPU = 1;
const DEVICE = 2;
const IOMMU = 3;
const GROUPS: Readonly<Record<number, string>> = { [CPU]: 'vCPUs', [DEVICE]: 'devices', [IOMMU]: 'IOMMUs' };

const hex = (n: number): string => n.toString(16);

export class Timeline {
  private readonly events: TraceEvent[] = [];
  private readonly tracks = new Set<string>();
  private ts = 0;
  /** Spans open on each CPU. */
  private readonly open = new Map<number, string[]>();

  /** The start of what the caller does; `end()` ends it. */
  begin(name: string): void {
    this.add('B', CPU, 0, 'cpu0', name);
  }
  end(args: Readonly<Record<string, unknown>> = {}): void {
    this.add('E', CPU, 0, 'cpu0', '', args);
  }
  /** Something that was found out about a device, a CPU or the whole. */
  note(name: string): void {
    this.add('i', CPU, 0, 'cpu0', name);
  }

  /** Sink of the event stream. */
  take(e: StampedEvent): void {
    const at = { ns: e.t, dom: e.dom };
    const cpu = `cpu${e.cpu}`;
    switch (e.kind) {
      case 'lock':
        this.lock(e.cpu, e.lock, e.action === 'acquire');
        break;
      case 'vendorOp':
        this.device(e.sbdf, `${e.op} d${e.from} -> d${e.to}: ${e.rc}`, at);
        break;
      case 'driver':
        this.device(e.sbdf, `driver ${e.driver ?? 'none'}`, at);
        break;
      case 'fault':
        this.device(e.seg * 65536 + e.rid, `fault ${hex(e.reason)}`, at);
        this.unit(e.unit, `fault of ${hex(e.rid)}: reason ${hex(e.reason)}`, at);
        break;
      case 'dma':
        this.device(e.seg * 65536 + e.rid, `DMA to frame ${hex(e.mfn)}`, at);
        break;
      case 'descriptor':
        this.unit(e.unit, `descriptor ${e.words.map((w) => hex(w >>> 0)).join(' ')}`, at);
        break;
      case 'entry':
        this.unit(e.unit, `${e.table} ${hex(e.id)} written`, {
          ...at,
          before: e.before,
          after: e.after,
        });
        break;
      case 'reg':
        this.unit(e.unit, `register ${hex(e.offset)} ${e.write ? 'written' : 'read'}`, at);
        break;
      case 'hw':
        this.unit(e.unit, e.what, { ...at, args: e.args });
        break;
      case 'console':
        this.add('i', CPU, e.cpu, cpu, e.text, at);
        break;
      case 'domain':
        this.add('i', CPU, e.cpu, cpu, `d${e.domid}: ${e.what}`, at);
        break;
      case 'alloc':
        this.add('i', CPU, e.cpu, cpu, `${e.free ? 'free' : 'alloc'} ${hex(e.mfn)} d${e.owner}`, at);
        break;
      default:
        this.add('i', CPU, e.cpu, cpu, e.kind, at);
        break;
    }
  }

  /** The whole, as a file for Perfetto. */
  json(): string {
    const names = Object.entries(GROUPS).map(([pid, name]) => ({
      name: 'process_name',
      ph: 'M',
      pid: Number(pid),
      tid: 0,
      ts: 0,
      args: { name },
    }));
    return JSON.stringify({ traceEvents: [...names, ...this.events], displayTimeUnit: 'ns' });
  }

  /** Locks may be given back in any order; spans of a track must nest. */
  private lock(cpu: number, lock: string, taken: boolean): void {
    const open = this.open.get(cpu) ?? [];
    this.open.set(cpu, open);
    const name = `cpu${cpu}`;
    if (taken) {
      open.push(lock);
      this.add('B', CPU, cpu, name, lock);
      return;
    }
    const at = open.lastIndexOf(lock);
    if (at < 0) return;
    const inner = open.splice(at);
    for (let i = inner.length; i > 0; i--) this.add('E', CPU, cpu, name, '');
    for (const again of inner.slice(1)) {
      open.push(again);
      this.add('B', CPU, cpu, name, again);
    }
  }

  private device(sbdf: number, name: string, args: Readonly<Record<string, unknown>>): void {
    this.add('i', DEVICE, sbdf, formatSbdf(sbdf), name, args);
  }
  private unit(unit: number, name: string, args: Readonly<Record<string, unknown>>): void {
    this.add('i', IOMMU, unit, `iommu${unit}`, name, args);
  }

  private add(
    ph: 'B' | 'E' | 'i',
    pid: number,
    tid: number,
    track: string,
    name: string,
    args?: Readonly<Record<string, unknown>>,
  ): void {
    if (!this.tracks.has(`${pid}/${tid}`)) {
      this.tracks.add(`${pid}/${tid}`);
      this.events.push({ name: 'thread_name', ph: 'M', pid, tid, ts: 0, args: { name: track } });
    }
    const scope = ph === 'i' ? { s: 't' as const } : {};
    this.events.push({
      name,
      ph,
      pid,
      tid,
      ts: this.ts++,
      ...scope,
      ...(args === undefined ? {} : { args }),
    });
  }
}
