/** Why a request passed: the entry that leads there, or the cache that has it still, and which step of Xen left it so. */
import { formatSbdf, type Sbdf } from '../base/sbdf.js';
import type { Machine } from '../machine.js';
import type { IommuUnit } from '../machine_hw.js';
import type { StampedEvent } from '../sim/events.js';
import { type Command, showCommand } from './commands.js';
import { entryOf, translationOf } from './tables_now.js';

const hex = (n: number): string => n.toString(16);

/** Keys of what is written beside entries, which have that of their requester. */
const PAGES = -1;
const TOLD = -2;

type VendorOp = Extract<StampedEvent, { kind: 'vendorOp' }>;

/** A call of the vendor's driver, or what a command does beside such calls. */
interface Step {
  readonly command: number;
  call: VendorOp | undefined;
}

/** Which command, and which call of the driver in it, wrote each entry last. */
export class LastSteps {
  private readonly commands: Command[] = [];
  private readonly by = new Map<Sbdf, Step>();
  private now: Step = { command: 0, call: undefined };
  private ended = false;

  begin(c: Command): void {
    this.commands.push(c);
    this.now = { command: this.commands.length, call: undefined };
  }

  hear(machine: Machine, e: StampedEvent): void {
    if (e.kind === 'descriptor') this.by.set(TOLD, this.now);
    else if (e.kind === 'vendorOp') {
      this.now.call = e;
      this.now = { command: this.now.command, call: undefined };
    } else if (e.kind === 'entry' && e.table === 'pte') this.by.set(PAGES, this.now);
    else if (e.kind === 'entry' && (e.table === 'context' || e.table === 'dte'))
      this.by.set(machine.hw.idOn(e.unit, e.id), this.now);
  }

  /** Nothing is heard from now on. */
  end(): void {
    this.ended = true;
  }

  /** `its entry was last written by command 3 (deassign dev=0 dom=1 flags=0, assign_device of 0000:01:00.0)` */
  of(rid: Sbdf): string {
    return `its entry was last written by ${this.name(rid)}, ${this.ofPages()}`;
  }

  ofPages(): string {
    return `page tables by ${this.name(PAGES)}, units were last told to forget by ${this.name(TOLD)}`;
  }

  private name(key: number): string {
    if (this.ended) return 'one of the calls';
    const step = this.by.get(key);
    const command = step === undefined ? undefined : this.commands[step.command - 1];
    if (step === undefined || command === undefined) return 'Xen before the first command';
    const { call } = step;
    const within =
      call === undefined
        ? ''
        : `, ${call.op} of ${formatSbdf(call.sbdf)}${call.rc === 0 ? '' : ` = ${call.rc}`}`;
    return `command ${step.command} (${showCommand(command)}${within})`;
  }
}

/** What lets requester `rid` reach `mfn` at bus frame `dfn`. */
export function letBy(machine: Machine, rid: Sbdf, dfn: number, mfn: number): string {
  const entry = entryOf(machine, rid);
  if (translationOf(machine, rid, dfn)?.mfn !== mfn)
    return `${cacheOf(machine, rid, mfn)} has it still, the tables do not`;
  return entry!.passThrough
    ? `its entry (domain id ${entry!.did}) lets it pass untranslated`
    : `its entry (root ${hex(entry!.root)}, domain id ${entry!.did}) leads there`;
}

/** The cache that has a translation to a frame. */
function cacheOf(machine: Machine, rid: Sbdf, mfn: number): string {
  const unit = machine.unitFor(rid);
  const line = unit
    ?.cachedTranslations()
    .find((c) => mfn >= c.mfn && mfn < c.mfn + ('frames' in c ? c.frames : 1));
  if (unit === undefined || line === undefined) return 'a cache of entries';
  return `the IOTLB of unit ${machine.units.indexOf(unit)}, domain id ${'did' in line ? line.did : line.domid},`;
}

/** What a cache has that should have gone: whose, and who was told to forget when. */
export function stillCached(w: Blamed, unit: IommuUnit, did: number): string {
  const { machine } = w;
  const rids = w
    .allRids()
    .filter((rid) => machine.unitFor(rid) === unit && entryOf(machine, rid)?.did === did);
  const whose =
    rids.length === 0 ? 'which no requester has now' : `of requester ${rids.map(hex).join(' and ')}`;
  const cache = `the IOTLB of unit ${machine.units.indexOf(unit)} still had it for domain id ${did}, ${whose}`;
  return `${cache}; ${w.steps.ofPages()}`;
}
interface Blamed {
  readonly machine: Machine;
  readonly steps: LastSteps;
  allRids(): number[];
}
