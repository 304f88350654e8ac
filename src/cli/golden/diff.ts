/** Lines of one side against lines of the other. */
import { diffArrays } from 'diff';

export interface Edit {
  readonly kind: 'same' | 'theirs' | 'ours';
  readonly theirs: number;
  readonly ours: number;
}

/** Sides that differ in more lines are compared place by place. */
const EDITS_MAX = 4000;

/** A shortest edit script: indices of equal lines, and those that only one side has (the other index is -1). */
export function diffLines(theirs: readonly string[], ours: readonly string[]): Edit[] {
  const runs = diffArrays([...theirs], [...ours], { maxEditLength: EDITS_MAX });
  if (runs === undefined) return placeByPlace(theirs, ours);
  const edits: Edit[] = [];
  let [t, o] = [0, 0];
  for (const { count, added, removed } of runs) {
    for (let i = 0; i < count; i++) {
      if (added) edits.push({ kind: 'ours', theirs: -1, ours: o++ });
      else if (removed) edits.push({ kind: 'theirs', theirs: t++, ours: -1 });
      else edits.push({ kind: 'same', theirs: t++, ours: o++ });
    }
  }
  return edits;
}

function placeByPlace(theirs: readonly string[], ours: readonly string[]): Edit[] {
  const edits: Edit[] = [];
  for (let i = 0; i < Math.max(theirs.length, ours.length); i++) {
    if (i < theirs.length && i < ours.length && theirs[i] === ours[i]) {
      edits.push({ kind: 'same', theirs: i, ours: i });
      continue;
    }
    if (i < theirs.length) edits.push({ kind: 'theirs', theirs: i, ours: -1 });
    if (i < ours.length) edits.push({ kind: 'ours', theirs: -1, ours: i });
  }
  return edits;
}
