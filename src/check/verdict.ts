/** One call for a test of one's own, in any framework: `expect(isolation({ host })).toBe('holds')`. */
import type { HostDescription } from '../inputs/host_description.js';
import { violationOf } from './bug_search.js';
import { checkHistories, type HistoryOptions } from './histories.js';
import type { Vendor } from './machines.js';
import { parseForOneVcpu, seamsOfBug } from './token.js';

export interface IsolationOptions {
  /** The machine; random ones of `vendor` when not given. */
  readonly host?: HostDescription;
  readonly vendor?: Vendor;
  /** `4.18` when not given. */
  readonly release?: string;
  /** Known flaws of the release are repaired; true when not given. */
  readonly fixed?: boolean;
  /** Histories, 100 when not given, and commands of each, 60. */
  readonly runs?: number;
  readonly commands?: number;
  readonly seed?: number;
  /** What must be reached, as `assign -16` or `roll-back`. */
  readonly require?: readonly string[];
  /** A token, such as `process.env.XPSIM_REPLAY`: its history alone is run. */
  readonly replay?: string | undefined;
}

/** `holds`, or what is wrong: the shrunk history with its token, or what was never reached. @throws InputError */
export function isolation(o: IsolationOptions): string {
  if (o.replay !== undefined && o.replay !== '') return replayed(o.replay, o.host);
  const run: HistoryOptions = {
    vendor: o.host === undefined ? (o.vendor ?? 'vtd') : o.host.ivrs === undefined ? 'vtd' : 'amd',
    release: o.release ?? '4.18',
    fixed: o.fixed ?? true,
    runs: o.runs ?? 100,
    commands: o.commands ?? 60,
    seed: o.seed ?? 1,
    swarm: true,
    ...(o.host === undefined ? {} : { host: o.host }),
    ...(o.require === undefined ? {} : { require: o.require }),
  };
  const { failure, missing } = checkHistories(run);
  if (failure !== undefined) return failure.report;
  return missing.length === 0 ? 'holds' : `never reached: ${missing.join(', ')}`;
}

/** The history of a token, on the machine it is of. @throws InputError */
function replayed(token: string, host: HostDescription | undefined): string {
  const { bug, commands, fixed, machine, release, host: named } = parseForOneVcpu(token, host !== undefined);
  const own = named === undefined ? undefined : host;
  const failed = violationOf({ machine, commands }, { release, fixed, host: own, seams: seamsOfBug(bug) });
  return failed === undefined ? 'holds' : `${failed.violation.id}: ${failed.violation.what}`;
}
