/**
 * The one stream of everything observable. Console, transcripts, golden comparison and timelines are its sinks.
 * With no sink attached an event costs the branch on `on`: write `if (ev.on) ev.emit({ … })`.
 */
export type ConsoleSource = 'xen' | 'dom0' | 'qemu' | 'guest';

export type SimEvent =
  | { kind: 'command'; cmd: string; exit?: number }
  | { kind: 'hypercall'; op: string; args: unknown; rc?: number }
  | { kind: 'vendorOp'; op: string; from: number; to: number; sbdf: number; rc: number }
  | { kind: 'lock'; lock: string; action: 'acquire' | 'release' }
  /** A word pair or quad of a hardware-visible table, before and after, as unsigned 32-bit words, low first. */
  | {
      kind: 'entry';
      unit: number;
      table: 'root' | 'context' | 'pte' | 'dte' | 'irte';
      id: number;
      before: readonly number[];
      after: readonly number[];
    }
  | { kind: 'reg'; unit: number; write: boolean; offset: number; size: 1 | 4 | 8; lo: number; hi: number }
  /** A descriptor or command fetched by an IOMMU from its queue. */
  | { kind: 'descriptor'; unit: number; words: readonly number[] }
  /** What the IOMMU did with a command or register write, in hardware terms. */
  | { kind: 'hw'; unit: number; what: string; args: readonly number[] }
  | {
      kind: 'dma';
      seg: number;
      rid: number;
      write: boolean;
      addrLo: number;
      addrHi: number;
      bytes: number;
      /** Machine frame reached, or -1 when the access was aborted. */
      mfn: number;
    }
  | {
      kind: 'fault';
      unit: number;
      seg: number;
      rid: number;
      reason: number;
      write: boolean;
      addrLo: number;
      addrHi: number;
    }
  | { kind: 'console'; source: ConsoleSource; level: number; text: string; domid?: number }
  | { kind: 'config'; sbdf: number; write: boolean; offset: number; size: number; value: number }
  | { kind: 'alloc'; mfn: number; order: number; owner: number; free: boolean }
  | {
      kind: 'xenstore';
      op: 'write' | 'rm' | 'mkdir' | 'watch' | 'commit' | 'abort';
      path: string;
      value?: string;
    }
  | { kind: 'qmp'; domid: number; dir: 'send' | 'recv'; json: string }
  | { kind: 'sysfs'; op: 'read' | 'write'; path: string; value?: string }
  | { kind: 'driver'; sbdf: number; driver: string | null }
  | {
      kind: 'domain';
      domid: number;
      what: 'create' | 'crash' | 'shutdown' | 'destroy' | 'pause' | 'unpause';
    };

/** What the stream adds to each event. */
export interface Stamp {
  /** Counts from 0 since boot. */
  seq: number;
  /** Simulated nanoseconds. */
  t: number;
  cpu: number;
  /** Domain whose vCPU ran. */
  dom: number;
}
export type StampedEvent = SimEvent & Stamp;
export type Sink = (e: StampedEvent) => void;

export class EventStream {
  /** True while a sink is attached. */
  on = false;
  private seq = 0;
  private readonly sinks: Sink[] = [];
  /** Set by the machine: reads the clock and the current CPU. */
  stamp: () => Omit<Stamp, 'seq'> = () => ({ t: 0, cpu: 0, dom: 0 });

  /** Attaches a sink; the result detaches it. */
  attach(sink: Sink): () => void {
    this.sinks.push(sink);
    this.on = true;
    return () => {
      const at = this.sinks.indexOf(sink);
      if (at >= 0) this.sinks.splice(at, 1);
      this.on = this.sinks.length > 0;
    };
  }

  emit(e: SimEvent): void {
    const stamped = { ...e, seq: this.seq++, ...this.stamp() } as StampedEvent;
    for (const sink of this.sinks) sink(stamped);
  }
}
