/**
 * In which record each guest with firmware got to its devices, and its kernel to where it answers: the console tells. How
 * fast the emulated host was is input, not answer.
 */
import type { HvmStages } from '../guests.js';
import type { ConsoleLog } from './console_log.js';
import type { GoldenRecord } from './recording.js';

/** Where Xen does not tell: a guest with firmware is emulated twice over there, its kernel takes a minute. */
const BOOT_NS = 60e9;

/** The firmware maps the devices where the guest's are; the legacy window of a display is QEMU's doing. */
const MAPPED = /^\(XEN\) memory_map:add: d(?:om)?(\d+) gfn=[0-9a-f]{5,} /;
const UPCALL = /^\(XEN\) d(\d+)v0: upcall vector [0-9a-f]{2}$/;
/** The kernel sizes a register. */
const UNMAPPED = /^\(XEN\) memory_map:remove: d(?:om)?(\d+) gfn=[0-9a-f]{5,} /;

/** The number of a record; `own`: it has the lines, else they came after the one before. */
interface When {
  readonly record: number;
  readonly own: boolean;
}

export class GuestStages implements HvmStages {
  /** The record that is played or waited for. */
  now = 0;
  /** Its command runs. */
  running = false;
  private readonly firmware = new Map<number, When>();
  private readonly kernels = new Map<number, When>();
  private readonly sized = new Map<number, When>();

  constructor(records: readonly GoldenRecord[], log: ConsoleLog) {
    records.forEach((r, i) => {
      if (i === 0) return;
      const keys = Object.keys(r.debug_keys ?? {});
      for (const line of r.xen_log) this.note(line, { record: i, own: true });
      for (const line of Object.values(r.debug_keys ?? {}).flat())
        this.note(line, { record: i, own: true }, i + 1);
      for (const line of log.missed(i, keys)) this.note(line, { record: i + 1, own: false });
    });
  }

  /** `then`: of debug keys, after which only the next command comes. */
  private note(line: string, when: When, then?: number): void {
    const kernel = then === undefined ? when : { record: then, own: false };
    const first = (map: Map<number, When>, domid: number, at = when): void => {
      if (!map.has(domid)) map.set(domid, at);
    };
    const mapped = MAPPED.exec(line)?.[1];
    if (mapped !== undefined) first(this.firmware, Number(mapped));
    const upcall = UPCALL.exec(line)?.[1];
    if (upcall !== undefined) first(this.kernels, Number(upcall), kernel);
    const unmapped = Number(UNMAPPED.exec(line)?.[1] ?? -1);
    if (this.kernels.has(unmapped)) first(this.sized, unmapped, kernel);
  }

  /** Whether something of this kind happened while the recorder waited for record `now`. */
  get unseen(): boolean {
    return [this.firmware, this.kernels, this.sized].some((map) =>
      [...map.values()].some((w) => !w.own && w.record === this.now),
    );
  }

  /** Whether record `now` has it, of a guest that this record itself made. */
  ownFirmware(domid: number): boolean {
    const when = this.firmware.get(domid);
    return when?.own === true && when.record === this.now;
  }

  /** What a record has came while its command ran. */
  private reached(map: ReadonlyMap<number, When>, domid: number): boolean | undefined {
    const when = map.get(domid);
    if (when === undefined) return undefined;
    return when.record < this.now || (when.record === this.now && (this.running || !when.own));
  }

  begins(domid: number): boolean {
    const when = this.firmware.get(domid);
    return when === undefined || when.record <= this.now;
  }

  /** A recording that tells it of some guest tells it of all. */
  kernelRuns(domid: number, ranNs: number): boolean {
    return this.reached(this.kernels, domid) ?? (this.kernels.size === 0 && ranNs >= BOOT_NS);
  }

  answers(domid: number, ranNs: number): boolean {
    return this.reached(this.sized, domid) ?? this.kernelRuns(domid, ranNs);
  }
}
