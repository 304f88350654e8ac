/** Do two lists hold the same things? For what is kept by a list that somebody else might have changed. */
export function sameItems<T>(a: readonly T[], b: readonly T[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** As sameItems(), of bytes, four at a time. */
export function sameBytes(a: DataView, b: DataView): boolean {
  const n = a.byteLength;
  if (n !== b.byteLength) return false;
  let at = 0;
  for (; at + 4 <= n; at += 4) if (a.getInt32(at) !== b.getInt32(at)) return false;
  for (; at < n; at++) if (a.getUint8(at) !== b.getUint8(at)) return false;
  return true;
}

/** What was made of a list the last time: machines are made again and again from one description. */
export class KnownBy<T, R extends object> {
  private readonly known = new WeakMap<readonly T[], { readonly given: readonly T[]; readonly made: R }>();
  constructor(private readonly make: (list: readonly T[]) => R) {}
  of(list: readonly T[]): R {
    const found = this.known.get(list);
    if (found !== undefined && sameItems(found.given, list)) return found.made;
    const made = this.make(list);
    this.known.set(list, { given: list.slice(), made });
    return made;
  }
}
