import { assert, notSo } from '../../base/assert.js';
import { PackedState } from './packed.js';

/** A closed system of processes that take steps in any order; each step is atomic. */
export interface StateModel {
  /** For each process, how many choices it has at most; a choice that is not possible now is refused. */
  readonly choices: readonly number[];
  /** Takes a step in place. False: that process cannot do that now, and `state` is as it was. */
  step(state: PackedState, process: number, choice: number): boolean;
  /** What is wrong with a step that was just taken from `before`. */
  violation(before: PackedState, process: number, choice: number): string | undefined;
  /** A step as a reader wants to see it. */
  show(before: PackedState, process: number, choice: number): string;
}

export interface StateSpace {
  /** Distinct states, the first among them. */
  readonly states: number;
  readonly transitions: number;
  /** The shortest way to what went wrong; absent when every state was seen and nothing was. */
  readonly violation?: { readonly what: string; readonly steps: readonly string[] };
}

const TAKEN = 0x8000_0000 | 0;
const FIRST_SIZE = 1 << 16;

/** All states found so far in the order they were found, and an open hash table of them. */
class Visited {
  count = 0;
  private lo = new Int32Array(FIRST_SIZE);
  private hi = new Int32Array(FIRST_SIZE);
  /** Which state each was found from. */
  private parents = new Int32Array(FIRST_SIZE);
  private table = new Int32Array(4 * FIRST_SIZE);

  /** True when it was not known. */
  add(state: PackedState, parent: number): boolean {
    const { lo } = state;
    const hi = state.hi | TAKEN;
    if (this.count === this.lo.length) this.grow();
    if (!this.insert(lo, hi)) return false;
    this.lo[this.count] = lo;
    this.hi[this.count] = hi;
    this.parents[this.count++] = parent;
    return true;
  }

  load(index: number, state: PackedState): void {
    state.lo = this.lo[index]!;
    state.hi = this.hi[index]! & ~TAKEN;
  }

  parent(index: number): number {
    return this.parents[index]!;
  }

  private insert(lo: number, hi: number): boolean {
    const { table } = this;
    const mask = table.length - 2;
    let i = hash(lo, hi) & mask;
    while (table[i + 1] !== 0) {
      if (table[i] === lo && table[i + 1] === hi) return false;
      i = (i + 2) & mask;
    }
    table[i] = lo;
    table[i + 1] = hi;
    return true;
  }

  /** The table stays at most half full. */
  private grow(): void {
    const longer = (a: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> => {
      const b = new Int32Array(2 * a.length);
      b.set(a);
      return b;
    };
    this.lo = longer(this.lo);
    this.hi = longer(this.hi);
    this.parents = longer(this.parents);
    this.table = new Int32Array(2 * this.table.length);
    for (let i = 0; i < this.count; i++) this.insert(this.lo[i]!, this.hi[i]!);
  }
}

/** Even: the index of the first word of a slot. */
function hash(lo: number, hi: number): number {
  const a = Math.imul(lo ^ (hi >>> 15) ^ (hi << 17), 0x9e37_79b1);
  const b = Math.imul(a ^ (a >>> 15) ^ hi, 0x85eb_ca6b);
  return (b ^ (b >>> 13)) << 1;
}

/**
 * Every state that `model` can reach from all zeros, breadth first and without reduction, up to the first violation.
 * States are kept whole: none is taken for another. Throws when there are more than `maxStates`.
 */
export function exploreStates(model: StateModel, maxStates = 2 ** 24): StateSpace {
  const visited = new Visited();
  const before = new PackedState();
  const after = new PackedState();
  visited.add(before, -1);
  let transitions = 0;
  for (let at = 0; at < visited.count; at++) {
    visited.load(at, before);
    for (let process = 0; process < model.choices.length; process++) {
      const choices = model.choices[process]!;
      for (let choice = 0; choice < choices; choice++) {
        after.lo = before.lo;
        after.hi = before.hi;
        if (!model.step(after, process, choice)) continue;
        transitions++;
        const what = model.violation(before, process, choice);
        if (what !== undefined) {
          const steps = [...trail(model, visited, at), model.show(before, process, choice)];
          return { states: visited.count, transitions, violation: { what, steps } };
        }
        visited.add(after, at);
      }
    }
    assert(visited.count <= maxStates, `more than ${maxStates} states`);
  }
  return { states: visited.count, transitions };
}

/** The steps that lead to a state, found again by taking those of each of its ancestors. */
function trail(model: StateModel, visited: Visited, last: number): string[] {
  const steps: string[] = [];
  const from = new PackedState();
  const to = new PackedState();
  for (let at = last; visited.parent(at) >= 0; at = visited.parent(at)) {
    visited.load(visited.parent(at), from);
    visited.load(at, to);
    steps.unshift(stepBetween(model, from, to));
  }
  return steps;
}

function stepBetween(model: StateModel, from: PackedState, to: PackedState): string {
  const after = new PackedState();
  for (let process = 0; process < model.choices.length; process++)
    for (let choice = 0; choice < model.choices[process]!; choice++) {
      after.lo = from.lo;
      after.hi = from.hi;
      if (model.step(after, process, choice) && after.lo === to.lo && after.hi === to.hi)
        return model.show(from, process, choice);
    }
  return notSo('no step leads to a state that was found');
}
