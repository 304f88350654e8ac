/**
 * The recorded host come alive: each record's command at dom0's prompt, with what the recorder did beside it (debug
 * keys, pages held, events put into a log, registers and memory read before and after).
 */
import { HostCrash } from '../../base/assert.js';
import { hex64 } from '../../base/layout.js';
import { parseSbdf } from '../../base/sbdf.js';
import type { HostDescription } from '../../inputs/host_description.js';
import { AMD_REG } from '../../iommu/format/amd.js';
import { logEvent } from '../../iommu/hw/amd/event_log.js';
import { AmdIommuUnit } from '../../iommu/hw/amd/unit.js';
import { VtdUnit } from '../../iommu/hw/vtd/unit.js';
import type { Machine } from '../../machine.js';
import { PCI } from '../../pci/registers.js';
import { runAlone } from '../../sim/co.js';
import { DAMAGED_KERNEL } from '../../toolstack/libxl/build.js';
import type { CommandResult } from '../../toolstack/shell/shell.js';
import { type EntryRecord, entryRecord } from '../entries.js';
import { type CommandRecord, Recorder } from '../recorder.js';
import { Session } from '../session.js';
import { KERNEL } from './boot_files.js';
import { ConsoleLog } from './console_log.js';
import { fillBoot, fillGuests } from './console_ring.js';
import { RecordedDma } from './dma_command.js';
import { GuestStages } from './guest_stages.js';
import { bitsOf, dumpedBits, guestWalks, useKernelTables, usePageTables } from './guest_walks.js';
import { HeldPages } from './held_pages.js';
import { presetCommands } from './preset_commands.js';
import type { GoldenRecord, Recording } from './recording.js';
import { arrive, type Places, vcpuPlaces } from './vcpu_places.js';

export type FaultRegisters = Readonly<Record<string, string | number | readonly string[]>>;
interface Around<T> {
  readonly before: T;
  readonly after: T;
}

/** Our record of a command, in the form of the recordings. */
export interface ReplayRecord extends Partial<CommandRecord> {
  readonly cmd: string;
  readonly xen_cmdline?: string;
  readonly amd_devtab?: { readonly dtes: Readonly<Record<string, EntryRecord>> };
  readonly debug_keys?: Readonly<Record<string, readonly string[]>>;
  readonly fault_regs?: Around<FaultRegisters>;
  readonly machine_memory?: Readonly<Record<string, Around<string>>>;
}

const NOTHING: CommandResult = { exit: 0, stdout: '', stderr: '', pieces: [] };
/** What the recorder has of a command whose host died under it, and of each one after. */
const LOST: CommandResult = { exit: -999, stdout: '', stderr: '', pieces: [] };
const AGENT_IRQ = 3;
/** What the recorder gives each command line. */
const COMMAND_NS = 120e9;
/** The recorder looks at the console about a second after each command. */
const BETWEEN_NS = 1.05e9;
/** A PV guest is at its devices after this part of the time that making it took, and after so long when it runs already (s). */
const BOOT_SHARE = 0.6;
const NOTICE_S = 2;
/** QEMU is emulated, too: it takes its time to answer. */
const QMP_NS = 125e6;
const CREATES = /\bxl (?:-\w+ )*create\b/;

export class RecordedHost {
  readonly session: Session;
  /** What dom0's kernel said while nobody listened. */
  readonly unrecorded: string[] = [];
  private readonly recorder: Recorder;
  private readonly pages: HeldPages;
  /** When the command began, and when the one before it ended by the recorded host's clock (s). */
  private startedNs = 0;
  private endedAt: number | undefined = undefined;
  private guestNeedsS = NOTICE_S;
  private crashed = false;
  private readonly log: ConsoleLog;
  private readonly stages: GuestStages;
  /** Walks of tables, of guests that have not come yet. */
  private readonly walks: ReturnType<typeof guestWalks>;
  /** Where virtual CPUs ran. */
  private readonly places: ReadonlyMap<GoldenRecord, Places>;
  /** How far Xen had scrubbed, of commands whose guests' tables were dumped later. */
  private readonly scrubbed: ReadonlyMap<GoldenRecord, number>;
  /** Guests whose kernels have their page tables. */
  private readonly settled = new Set<number>();

  /** Boots Xen and dom0. @throws InputError, HostCrash */
  constructor(
    private readonly recording: Recording,
    host: HostDescription,
  ) {
    this.recorder = new Recorder(host.ivrs === undefined ? 'intel' : 'amd');
    this.session = new Session(host, { release: '4.17', sinks: [this.recorder.sink] });
    this.pages = new HeldPages(this.session.machine);
    this.walks = guestWalks(recording.dir);
    this.scrubbed = scrubbedBits(recording.records);
    this.places = vcpuPlaces(recording.records);
    this.session.guests.logged = true;
    this.session.dom0.qmpNs = QMP_NS;
    this.log = new ConsoleLog(recording.dir, recording.records);
    this.stages = new GuestStages(recording.records, this.log);
    this.session.guests.stages = this.stages;
    // The recorder's agent opens the second serial line to set it up, and again for good.
    const { interrupts } = this.session.dom0.kernel;
    runAlone(interrupts.request(AGENT_IRQ));
    runAlone(interrupts.free(AGENT_IRQ));
    runAlone(interrupts.request(AGENT_IRQ));
    for (const [bdf, command] of presetCommands(recording.records))
      this.machine.hw.pci.configWrite(parseSbdf(bdf)!, PCI.COMMAND, 2, command);
    if (this.amdUnit !== undefined) this.amdUnit.logsRequests = false;
    this.session.shell.programs.set('/h1/dma', new RecordedDma(this.session, this.pages));
  }

  private get amdUnit(): AmdIommuUnit | undefined {
    return this.machine.units.find((u): u is AmdIommuUnit => u instanceof AmdIommuUnit);
  }

  private get machine(): Machine {
    return this.session.machine;
  }

  /** Record 0. */
  booted(): ReplayRecord {
    const cmdline = this.recording.records[0]!.xen_cmdline;
    const record = this.recorder.booted(this.session);
    fillBoot(this.machine.xen.console, this.recording.records[0]!.xen_log, record.xen_log);
    const { amd_devtab: table } = this.recording.records[0]!;
    return {
      ...record,
      ...(cmdline === undefined ? {} : { xen_cmdline: cmdline }),
      ...(table === undefined ? {} : { amd_devtab: { dtes: this.deviceTable(Object.keys(table.dtes)) } }),
    };
  }

  private deviceTable(bdfs: readonly string[]): Record<string, EntryRecord> {
    const dtes: Record<string, EntryRecord> = {};
    for (const bdf of bdfs) {
      const m = /^([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])$/.exec(bdf);
      if (m === null) continue;
      const rid = Number.parseInt(m[1]!, 16) * 256 + Number.parseInt(m[2]!, 16) * 8 + Number(m[3]);
      dtes[bdf] = entryRecord(this.machine, rid);
    }
    return dtes;
  }

  /** Runs what a record says and tells what came of it; undefined for notes, which only tell us addresses. */
  run(theirs: GoldenRecord, index: number): ReplayRecord | undefined {
    this.stages.now = index;
    if (theirs.cmd.startsWith('<')) {
      this.pages.note(theirs);
      return undefined;
    }
    if (this.crashed) return this.recorder.record(theirs.cmd, LOST);
    try {
      return this.runAlive(theirs);
    } catch (e) {
      if (!(e instanceof HostCrash)) throw e;
      this.crashed = true;
      this.recorder.panic(e, this.recording.records[0]!.xen_cmdline ?? '');
      return this.recorder.record(theirs.cmd, LOST);
    }
  }

  private runAlive(theirs: GoldenRecord): ReplayRecord {
    for (const [pin, cpu] of this.places.get(theirs)?.boundOn ?? [])
      this.machine.xen.irqs.boundOn.set(pin, cpu);
    this.pause(theirs);
    for (const event of theirs.injected_events ?? []) this.inject(event);
    const places = this.places.get(theirs);
    arrive(this.machine, places?.before ?? []);
    const addresses = Object.keys(theirs.machine_memory ?? {});
    const memoryBefore = addresses.map((a) => this.pages.read(a));
    const registersBefore = this.faultRegisters();
    this.stages.running = true;
    const result = this.command(theirs);
    this.takeAsLong(theirs);
    this.bootHere();
    this.stages.running = false;
    arrive(this.machine, places?.after ?? []);
    const record = this.recorder.record(theirs.cmd, result);
    fillGuests(this.machine.xen.console, this.log.shown(this.stages.now), record.xen_log);
    const memory = addresses.map((a, i): [string, Around<string>] => [
      a,
      { before: memoryBefore[i]!, after: this.pages.read(a) },
    ]);
    return {
      ...record,
      ...(theirs.debug_keys === undefined ? {} : { debug_keys: this.keys(Object.keys(theirs.debug_keys)) }),
      ...(theirs.fault_regs === undefined
        ? {}
        : { fault_regs: { before: registersBefore, after: this.faultRegisters() } }),
      ...(addresses.length === 0 ? {} : { machine_memory: Object.fromEntries(memory) }),
    };
  }

  /** A record tells when the recorded host read its kernel file wrongly (README of the recordings). */
  private command(theirs: GoldenRecord): CommandResult {
    const { dom0, shell } = this.session;
    this.startedNs = this.machine.hw.clock.nowNs;
    const { clock } = this.machine.hw;
    const deadlineNs = this.startedNs + COMMAND_NS;
    shell.deadlineNs = deadlineNs;
    dom0.fs.deadlineNs = deadlineNs;
    const kernel = dom0.fs.readFile(KERNEL);
    const damaged = theirs.stderr.includes('unable to XZ decompress kernel') && typeof kernel === 'string';
    if (damaged) dom0.fs.install(KERNEL, DAMAGED_KERNEL);
    const { heap } = this.machine.hw;
    heap.scrubbedBelow(this.scrubbedBits(theirs));
    const result = this.session.run(theirs.cmd);
    heap.scrubbedBelow(Number.POSITIVE_INFINITY);
    // Its kernel goes on with what a killed command has begun.
    if (clock.nowNs > deadlineNs) clock.goBack(deadlineNs);
    if (damaged) dom0.fs.install(KERNEL, kernel);
    return result;
  }

  /** How far Xen had scrubbed when the guest of this command was made, as far as its frames tell. */
  private scrubbedBits(theirs: GoldenRecord): number {
    const walk = this.walks.get(this.guestMadeBy(theirs.cmd) ?? '');
    if (walk !== undefined) return bitsOf(walk);
    return this.scrubbed.get(theirs) ?? Number.POSITIVE_INFINITY;
  }

  /** The name in the configuration file that a command makes a guest from. */
  private guestMadeBy(cmd: string): string | undefined {
    const words = CREATES.test(cmd) ? cmd.split(/[\s;&|]/) : [];
    const file = words.find((w) => w.startsWith('/') && w.endsWith('.cfg'));
    const text = file === undefined ? undefined : this.session.dom0.fs.readFile(file);
    return typeof text === 'string' ? /^ *name *= *["']([\w.-]{1,64})["']/m.exec(text)?.[1] : undefined;
  }

  /** What kernels of new guests did with their pages. */
  private usePages(): void {
    for (const domid of this.machine.xen.domains.keys()) {
      const guest = this.session.guests.find(String(domid));
      if (guest === undefined || this.settled.has(domid)) continue;
      this.settled.add(domid);
      const walk = this.walks.get(guest.name);
      if (walk === undefined || !usePageTables(this.machine, domid, walk))
        useKernelTables(this.machine, domid);
      this.walks.delete(guest.name);
    }
  }

  /**
   * What goes on between two records. Guests that the command before has made get as far as their devices only now: what
   * that prints is in the record where the recording has it, or in none when it came while the recorder waited.
   */
  private pause(theirs: GoldenRecord): void {
    const waited =
      theirs.t_start === undefined || this.endedAt === undefined ? 0 : theirs.t_start - this.endedAt;
    this.machine.hw.clock.advance(Math.max(BETWEEN_NS, waited * 1e9));
    this.unrecorded.push(...this.recorder.missKernelLines());
    const { dom0, guests } = this.session;
    // Without times a guest gets to its devices as soon as it runs.
    const seen = theirs.t_start === undefined || guestsProbe(theirs);
    const unseen = !seen && (waited >= this.guestNeedsS || this.stages.unseen);
    guests.unanswered = !seen && !unseen;
    guests.slow = false;
    runAlone(dom0.settle());
    guests.slow = true;
    guests.unanswered = !seen;
    this.usePages();
    if (unseen) this.recorder.record('<unseen>', NOTHING);
  }

  /** Guests whose firmware was done before the record that made them was. */
  private bootHere(): void {
    const { dom0, guests } = this.session;
    const made = [...this.machine.xen.domains.keys()].filter((d) => guests.find(String(d)) === undefined);
    if (!made.some((d) => this.stages.ownFirmware(d))) return;
    guests.slow = false;
    runAlone(dom0.settle());
    guests.slow = true;
  }

  /** The recorded host was slower than the simulated one. */
  private takeAsLong(theirs: GoldenRecord): void {
    const { clock } = this.machine.hw;
    clock.advance(Math.max(0, (theirs.seconds ?? 0) * 1e9 - (clock.nowNs - this.startedNs)));
    this.endedAt = theirs.t_end;
    this.guestNeedsS = CREATES.test(theirs.cmd) ? BOOT_SHARE * (theirs.seconds ?? 0) : NOTICE_S;
  }

  /** What each debug key prints. */
  private keys(keys: readonly string[]): Record<string, readonly string[]> {
    const printed: Record<string, readonly string[]> = {};
    for (const key of keys) {
      runAlone(this.machine.hypercalls.debugKeys(key));
      printed[key] = this.recorder.record('<keys>', NOTHING).xen_log;
      fillGuests(this.machine.xen.console, this.log.shown(this.stages.now, key), printed[key]);
    }
    return printed;
  }

  /** Two 64-bit words that the recorder wrote into the AMD IOMMU's event log, as hardware would have. */
  private inject(event: string): void {
    const unit = this.amdUnit;
    const m = /^([0-9a-f]{8})([0-9a-f]{8}) ([0-9a-f]{8})([0-9a-f]{8})$/.exec(event);
    if (unit === undefined || m === null) return;
    const [w1, w0, high, low] = m.slice(1).map((w) => Number.parseInt(w, 16) | 0) as [
      number,
      number,
      number,
      number,
    ];
    logEvent(unit, w0, w1, low, high);
    runAlone(this.machine.serviceInterrupts());
  }

  private faultRegisters(): FaultRegisters {
    const unit = this.machine.units[0];
    if (unit instanceof VtdUnit) return vtdFaultRegisters(unit);
    return unit === undefined ? {} : amdEventRegisters(unit);
  }
}

/** By the command that made a guest: how far Xen had scrubbed then, from the first dump of tables before the next one. */
function scrubbedBits(records: readonly GoldenRecord[]): Map<GoldenRecord, number> {
  const found = new Map<GoldenRecord, number>();
  let bits: number | undefined;
  for (let i = records.length - 1; i >= 0; i--) {
    const record = records[i]!;
    bits = dumpedBits(record.xen_log) ?? bits;
    if (!CREATES.test(record.cmd)) continue;
    if (bits !== undefined) found.set(record, bits);
    bits = undefined;
  }
  return found;
}

/** One line a time that a device is turned on: by pciback when it takes it, by each step of a guest's kernel. */
const TURNED_ON = /^\[ *\d+\.\d{6}\] Already setup the GSI :\d+$/;
const TAKEN = /^\[ *\d+\.\d{6}\] pciback \S+: xen_pciback: seizing device$/;

/** An HVM guest's firmware maps its devices, its kernel runs. */
const MAPPED = /^\(XEN\) (?:(?:memory_map|ioport_map):add: |d\d+v0: upcall vector )/;

/** A guest's kernel turns a device off and on for each register: the interrupt's pin, too. What it prints may be lost. */
const TOGGLED =
  /^(?:vtd_inv_desc_iec granularity 0x1 index 0x1[0-7] mask 0x0|amdvi_intr_inval Interrupt table invalidated) {3}x\d\d+$/;

/** Whether a guest got at its devices while this record was taken. */
function guestsProbe({
  dom0_kernel_log: log,
  xen_log: console,
  debug_keys: keys = {},
  vtd_trace: trace,
}: GoldenRecord): boolean {
  if ([console, ...Object.values(keys)].flat().some((l) => MAPPED.test(l))) return true;
  if (trace.some((l) => TOGGLED.test(l))) return true;
  const count = (form: RegExp): number => log.filter((l) => form.test(l)).length;
  return count(TURNED_ON) > count(TAKEN);
}

const FSTS = 0x34;
const FECTL = 0x38;
const hex32 = (n: number): string => `0x${(n >>> 0).toString(16).padStart(8, '0')}`;

function vtdFaultRegisters(unit: VtdUnit): FaultRegisters {
  // CAP: FRO in bits 33:24, NFR in bits 47:40.
  const capHigh = unit.read32(0xc);
  const at = ((unit.read32(8) >>> 24) + (capHigh & 3) * 256) * 16;
  const records = ((capHigh >>> 8) & 0xff) + 1;
  const words: string[] = [];
  for (let i = 0; i < records * 2; i++)
    words.push(hex64(unit.read32(at + i * 8), unit.read32(at + i * 8 + 4)));
  return { FSTS: hex32(unit.read32(FSTS)), FECTL: hex32(unit.read32(FECTL)), NFR: records, FRCD: words };
}

function amdEventRegisters(unit: AmdIommuUnit): FaultRegisters {
  const value = (offset: number): string => {
    const n = unit.read32(offset + 4) * 2 ** 32 + unit.read32(offset);
    return `0x${n.toString(16)}`;
  };
  return {
    evt_base: value(AMD_REG.EVENT_LOG_BASE),
    control: value(AMD_REG.CONTROL),
    evt_head: value(AMD_REG.EVENT_LOG_HEAD),
    evt_tail: value(AMD_REG.EVENT_LOG_TAIL),
    status: value(AMD_REG.STATUS),
  };
}
