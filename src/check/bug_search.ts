/** Looks for a history on which a replaced decision shows, by the general properties alone, and makes it short. */
import type { Seams } from '../hypervisor/seams.js';
import { arbCommandOf, type Command } from './commands.js';
import { checkHistories, type History, invariants, type RunOptions, runHistory } from './histories.js';
import type { Invariant, Violation } from './invariants/invariant.js';
import { type MachineSpec, PLAIN_MACHINE, type Vendor } from './machines.js';
import { formatToken } from './token.js';

export interface SearchOptions {
  readonly vendor: Vendor;
  readonly seams: Partial<Seams>;
  readonly release?: string | undefined;
  /** Other flaws of the release are repaired. */
  readonly fixed?: boolean | undefined;
  readonly bug?: string;
  /** What is given of the machine. */
  readonly machine?: Partial<MachineSpec>;
  /** Ids of the invariants that are asked; default: all. */
  readonly judges?: readonly string[] | undefined;
  /** Kinds of commands to draw from. */
  readonly ops?: readonly string[] | undefined;
  readonly seed: number;
  /** Histories at most, and commands of each. */
  readonly runs: number;
  readonly commands: number;
  readonly limitMs?: number;
}

export interface Found {
  readonly history: History;
  readonly violation: Violation;
  readonly token: string;
  /** Histories tried before it showed. */
  readonly histories: number;
}

const judgesOf = (ids: readonly string[] | undefined): readonly Invariant[] =>
  ids === undefined ? invariants : invariants.filter((i) => ids.includes(i.id));

/** What a history violates with these decisions. An assertion or a crash of Xen is a violation too. */
export function violationOf(
  h: History,
  o: RunOptions & Pick<SearchOptions, 'judges'>,
  judges: readonly Invariant[] = judgesOf(o.judges),
): { violation: Violation; at: number } | undefined {
  try {
    const { violation, at, world } = runHistory(h, { ...o, fixed: o.fixed ?? true }, judges);
    world.machine.dispose();
    return violation === undefined ? undefined : { violation, at };
  } catch (e) {
    const what = e instanceof Error ? `${e.name}: ${e.message}` : String(e);
    return { violation: { id: 'ASSERT', what }, at: h.commands.length - 1 };
  }
}

/** The first history that violates anything, made short. */
export function searchBug(o: SearchOptions): Found | undefined {
  const r = checkHistories({
    vendor: o.vendor,
    release: o.release ?? '4.18',
    fixed: o.fixed ?? true,
    seams: o.seams,
    machine: o.machine ?? {},
    runs: o.runs,
    commands: o.commands,
    seed: o.seed,
    invariants: judgesOf(o.judges),
    shrink: false,
    draw: arbCommandOf(o.ops),
    ...(o.limitMs === undefined ? {} : { limitMs: o.limitMs }),
  });
  if (r.failing === undefined) return undefined;
  // What fails without the decision is not its doing.
  const doing = (h: History): { violation: Violation; at: number } | undefined => {
    const found = violationOf(h, o);
    return found !== undefined &&
      violationOf(h, { seams: {}, release: o.release, fixed: o.fixed }) === undefined
      ? found
      : undefined;
  };
  if (doing(r.failing) === undefined) return undefined;
  const fixed = new Set(Object.keys(o.machine ?? {}));
  const history = shorten(r.failing, doing, fixed);
  const { violation } = violationOf(history, o)!;
  const token = formatToken({
    ...history,
    release: o.release ?? '4.18',
    fixed: o.fixed ?? true,
    bug: o.bug,
  });
  return { history, violation, token, histories: r.histories };
}

type Fails = (h: History) => { violation: Violation; at: number } | undefined;

/** Leaves out and simplifies what the violation does not need, as long as there is one. `given`: not to be touched. */
export function shorten(
  first: History,
  fails: Fails,
  given: ReadonlySet<string>,
  attemptsMax = Number.POSITIVE_INFINITY,
): History {
  let best = cut(first, fails(first)!.at);
  let attempts = 0;
  const attempt = (h: History): boolean => {
    attempts += 1;
    if (attempts > attemptsMax) return false;
    const failed = fails(h);
    if (failed === undefined) return false;
    best = cut(h, failed.at);
    return true;
  };
  let before = '';
  while (before !== JSON.stringify(best)) {
    before = JSON.stringify(best);
    for (let size = best.commands.length >> 1; size >= 1; size >>= 1) leaveOut(() => best, size, attempt);
    simplifyCommands(() => best, attempt);
    simplifyMachine(() => best, attempt, given);
  }
  return best;
}

const cut = (h: History, at: number): History => ({
  machine: h.machine,
  commands: h.commands.slice(0, at + 1),
});

function leaveOut(best: () => History, size: number, attempt: (h: History) => boolean): void {
  for (let i = best().commands.length - size; i >= 0; i -= 1) {
    const { machine, commands } = best();
    if (i + size > commands.length) continue;
    attempt({ machine, commands: [...commands.slice(0, i), ...commands.slice(i + size)] });
  }
}

/** Numbers towards 0, one argument at a time. */
function simplifyCommands(best: () => History, attempt: (h: History) => boolean): void {
  for (let i = 0; i < best().commands.length; i++) {
    for (const [key, value] of Object.entries(best().commands[i]!)) {
      if (typeof value !== 'number' || value === 0 || key === 'order') continue;
      for (const smaller of value > 1 ? [0, 1] : [0]) {
        const { machine, commands } = best();
        if (i >= commands.length) return;
        const changed = { ...commands[i]!, [key]: smaller } as Command;
        if (attempt({ machine, commands: commands.map((c, j) => (j === i ? changed : c)) })) break;
      }
    }
  }
}

function simplifyMachine(
  best: () => History,
  attempt: (h: History) => boolean,
  given: ReadonlySet<string>,
): void {
  for (let i = best().machine.slots.length - 1; i >= 0 && best().machine.slots.length > 1; i--) {
    const { machine, commands } = best();
    if (given.has('slots')) break;
    attempt({ machine: { ...machine, slots: machine.slots.filter((_, j) => j !== i) }, commands });
  }
  for (const [key, value] of Object.entries(PLAIN_MACHINE)) {
    const { machine, commands } = best();
    if (given.has(key) || machine[key as keyof MachineSpec] === value) continue;
    attempt({ machine: { ...machine, [key]: value }, commands });
  }
}
