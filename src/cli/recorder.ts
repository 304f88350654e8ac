/** One record a command, in the form of the recordings: what was printed, what Xen and dom0's kernel said, what the IOMMU saw. */
import type { HostCrash } from '../base/assert.js';
import { formatBdf, type Sbdf } from '../base/sbdf.js';
import type { StampedEvent } from '../sim/events.js';
import type { CommandResult } from '../toolstack/shell/shell.js';
import { type EntryRecord, entryRecord } from './entries.js';
import type { Session } from './session.js';
import { collapse, traceLine } from './trace.js';

export interface CommandRecord {
  readonly cmd: string;
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly xen_log: readonly string[];
  readonly dom0_kernel_log: readonly string[];
  readonly vtd_trace: readonly string[];
  readonly context_entries_changed: Readonly<
    Record<string, { readonly before: EntryRecord; readonly after: EntryRecord }>
  >;
  readonly context_entries: Readonly<Record<string, EntryRecord>>;
}

/** Lines below KERN_DEBUG reach dom0's console. */
const CONSOLE_LEVEL = 6;

export class Recorder {
  private readonly xenLog: string[] = [];
  private readonly kernelLog: string[] = [];
  private readonly trace: string[] = [];
  private session: Session | undefined = undefined;
  private entries: Record<string, EntryRecord> = {};
  /** Attach it before boot. */
  readonly sink = (e: StampedEvent): void => this.take(e);

  constructor(private readonly vendor: 'intel' | 'amd') {}

  private take(e: StampedEvent): void {
    if (e.kind === 'console') {
      if (e.source === 'xen') this.xenLog.push(`(XEN) ${e.text}`);
      else if (e.source === 'guest') this.xenLog.push(`(d${e.domid}) ${e.text}`);
      else if (e.source === 'dom0' && e.level <= CONSOLE_LEVEL) this.kernelLog.push(e.text);
      return;
    }
    const line = traceLine(e, this.vendor);
    if (line !== undefined) this.trace.push(...(typeof line === 'string' ? [line] : line));
  }

  /** Lines that the kernel has printed by now: what it does in the background comes later. */
  private kernelLinesSoFar(): number {
    const now = this.session?.machine.hw.clock.nowNs ?? 0;
    const late = this.kernelLog.findIndex((l) => Number(/^\[ *(\d+\.\d+)\]/.exec(l)?.[1] ?? 0) * 1e9 > now);
    return late < 0 ? this.kernelLog.length : late;
  }

  /** Nobody listens to the kernel between two commands. @returns what it said then */
  missKernelLines(): string[] {
    return this.kernelLog.splice(0, this.kernelLinesSoFar());
  }

  /** The last words of Xen. @xen drivers/char/console.c panic */
  panic(crash: HostCrash, cmdline: string): void {
    const stars = '****************************************';
    const noReboot = cmdline.split(' ').includes('noreboot');
    const then = noReboot ? "Manual reset required ('noreboot' specified)" : 'Reboot in five seconds...';
    for (const text of ['', stars, 'Panic on CPU 0:', crash.message, stars, '', then])
      this.xenLog.push(`(XEN) ${text}`);
  }

  /** The first record: what booting did. */
  booted(session: Session): CommandRecord {
    this.session = session;
    return this.record('<boot>', { exit: 0, stdout: '', stderr: '', pieces: [] });
  }

  record(cmd: string, r: CommandResult): CommandRecord {
    const before = this.entries;
    this.entries = this.readEntries();
    const changed: Record<string, { before: EntryRecord; after: EntryRecord }> = {};
    if (cmd !== '<boot>') {
      for (const bdf of Object.keys(this.entries)) {
        const [was, is] = [before[bdf] ?? null, this.entries[bdf] ?? null];
        if (JSON.stringify(was) !== JSON.stringify(is)) changed[bdf] = { before: was, after: is };
      }
    }
    return {
      cmd,
      exit: r.exit,
      stdout: r.stdout,
      stderr: r.stderr,
      xen_log: this.xenLog.splice(0),
      dom0_kernel_log: this.kernelLog.splice(0, this.kernelLinesSoFar()),
      vtd_trace: collapse(this.trace.splice(0)),
      context_entries_changed: changed,
      context_entries: this.entries,
    };
  }

  /** Entries of all devices, and of the ids under which those behind PCIe-to-PCI bridges appear. */
  private readEntries(): Record<string, EntryRecord> {
    const session = this.session!;
    const ids = new Set<Sbdf>();
    for (const dev of session.dom0.kernel.pci.devices.values()) {
      ids.add(dev.sbdf);
      if (dev.expressType === 7 && dev.subordinate !== undefined)
        ids.add(((dev.seg << 16) | (dev.subordinate.number << 8)) >>> 0);
      for (const rid of session.machine.phantomRids(dev.sbdf)) ids.add(((dev.seg << 16) | rid) >>> 0);
    }
    const entries: Record<string, EntryRecord> = {};
    for (const sbdf of [...ids].sort((a, b) => a - b))
      entries[formatBdf(sbdf)] = entryRecord(session.machine, sbdf);
    return entries;
  }
}
