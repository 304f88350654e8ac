/** Lines of one side against lines of the other. */

export interface Edit {
  readonly kind: 'same' | 'theirs' | 'ours';
  readonly theirs: number;
  readonly ours: number;
}

/** Beyond this many cells the sides are compared place by place. */
const CELLS_MAX = 16_000_000;

/** A shortest edit script: indices of equal lines, and those that only one side has (the other index is -1). */
export function diffLines(theirs: readonly string[], ours: readonly string[]): Edit[] {
  let head = 0;
  while (head < theirs.length && head < ours.length && theirs[head] === ours[head]) head++;
  let tail = 0;
  while (
    tail < theirs.length - head &&
    tail < ours.length - head &&
    theirs[theirs.length - 1 - tail] === ours[ours.length - 1 - tail]
  )
    tail++;
  const edits: Edit[] = [];
  for (let i = 0; i < head; i++) edits.push({ kind: 'same', theirs: i, ours: i });
  middle(theirs, ours, head, theirs.length - tail, ours.length - tail, edits);
  for (let i = tail; i > 0; i--)
    edits.push({ kind: 'same', theirs: theirs.length - i, ours: ours.length - i });
  return edits;
}

/** Longest common subsequence of what lies between equal heads and tails. */
function middle(
  theirs: readonly string[],
  ours: readonly string[],
  from: number,
  theirEnd: number,
  ourEnd: number,
  edits: Edit[],
): void {
  const rows = theirEnd - from;
  const columns = ourEnd - from;
  if (rows * columns > CELLS_MAX) {
    placeByPlace(theirs, ours, from, theirEnd, ourEnd, edits);
    return;
  }
  const width = columns + 1;
  const length = new Int32Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i--) {
    for (let j = columns - 1; j >= 0; j--) {
      const at = i * width + j;
      length[at] =
        theirs[from + i] === ours[from + j]
          ? length[at + width + 1]! + 1
          : Math.max(length[at + width]!, length[at + 1]!);
    }
  }
  let i = 0;
  let j = 0;
  while (i < rows || j < columns) {
    if (i < rows && j < columns && theirs[from + i] === ours[from + j]) {
      edits.push({ kind: 'same', theirs: from + i++, ours: from + j++ });
    } else if (j >= columns || (i < rows && length[(i + 1) * width + j]! >= length[i * width + j + 1]!)) {
      edits.push({ kind: 'theirs', theirs: from + i++, ours: -1 });
    } else edits.push({ kind: 'ours', theirs: -1, ours: from + j++ });
  }
}

function placeByPlace(
  theirs: readonly string[],
  ours: readonly string[],
  from: number,
  theirEnd: number,
  ourEnd: number,
  edits: Edit[],
): void {
  for (let i = from; i < Math.max(theirEnd, ourEnd); i++) {
    if (i < theirEnd && i < ourEnd && theirs[i] === ours[i]) edits.push({ kind: 'same', theirs: i, ours: i });
    else {
      if (i < theirEnd) edits.push({ kind: 'theirs', theirs: i, ours: -1 });
      if (i < ourEnd) edits.push({ kind: 'ours', theirs: -1, ours: i });
    }
  }
}
