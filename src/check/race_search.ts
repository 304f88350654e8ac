// edition: co
/** Looks for two hypercalls at once on which a replaced decision shows, by what devices then reach, and makes it short. */
import { Rng } from '../base/rng.js';
import type { Seams } from '../hypervisor/seams.js';
import { kitCalls, smallMachine, starts } from './calls.js';
import type { Command } from './commands.js';
import { type ExploreOptions, explorePair, type PairResult } from './explore.js';
import type { Violation } from './invariants/invariant.js';
import type { MachineSpec, Vendor } from './machines.js';
import { formatToken, type Replay } from './token.js';

export interface RaceSearchOptions {
  readonly vendor: Vendor;
  readonly seams: Partial<Seams>;
  readonly bug: string;
  /** What is given of the machine. */
  readonly machine?: Partial<MachineSpec>;
  /** Ids of the invariants that may show it. */
  readonly judges: readonly string[];
  /** Names of the hypercalls, of which any two are tried. */
  readonly calls: readonly string[];
  readonly seed: number;
  /** Asked before each pair: ends the search. */
  readonly enough?: () => boolean;
}

export interface FoundRace {
  readonly race: Replay;
  readonly violation: Violation;
  readonly token: string;
  /** Pairs tried before it showed. */
  readonly pairs: number;
}

interface Attempt {
  readonly machine: MachineSpec;
  readonly before: readonly Command[];
  readonly names: readonly string[];
}

const attempt = ({ machine, before, names }: Attempt, o: ExploreOptions): PairResult =>
  explorePair({ machine, before, calls: names.map((name) => kitCalls[name]!) }, o);

/** The first pair, in an order of the seed's, that the bug is to blame for, with as few commands before as it takes. */
export function searchRace(o: RaceSearchOptions): FoundRace | undefined {
  const tried = shuffled(attemptsOf(o), o.seed);
  for (const [i, one] of tried.entries()) {
    if (o.enough?.() === true) return undefined;
    const shown = showsIn(one, o);
    if (shown === undefined) continue;
    let best: Attempt & { readonly violation: NonNullable<PairResult['violation']> } = {
      ...one,
      violation: shown,
    };
    for (let n = best.before.length - 1; n >= 0; n--) {
      const shorter = { ...best, before: best.before.filter((_, k) => k !== n) };
      const violation = showsIn(shorter, o);
      if (violation !== undefined) best = { ...shorter, violation };
    }
    const { machine, before, names, violation } = best;
    const race: Replay = {
      release: '4.18',
      fixed: true,
      bug: o.bug,
      machine,
      commands: before,
      race: { calls: names, schedule: violation.schedule },
    };
    return { race, violation, token: formatToken(race), pairs: i + 1 };
  }
  return undefined;
}

/** What the bug breaks in a pair that is interrupted once, where nothing is broken without it. */
function showsIn(one: Attempt, o: RaceSearchOptions): PairResult['violation'] {
  const { violation } = attempt(one, { seams: o.seams, interrupted: true });
  if (violation === undefined || ![...o.judges, 'ASSERT'].includes(violation.id)) return undefined;
  return attempt(one, { interrupted: true }).violation === undefined ? violation : undefined;
}

function attemptsOf({ calls, machine, vendor }: RaceSearchOptions): Attempt[] {
  const pairs = calls.flatMap((a, i) => calls.slice(i).map((b) => [a, b]));
  return Object.values(starts).flatMap((before) =>
    pairs.map((names) => ({ machine: { ...smallMachine(vendor), ...machine }, before, names })),
  );
}

function shuffled<T>(list: readonly T[], seed: number): T[] {
  const rng = new Rng(seed);
  const left = [...list];
  return list.map(() => left.splice(rng.below(left.length), 1)[0]!);
}
