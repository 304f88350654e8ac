/** Do two lists hold the same things? For what is kept by a list that somebody else might have changed. */
export function sameItems<T>(a: ArrayLike<T>, b: ArrayLike<T>): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}
