/** Do two lists hold the same things? For what is kept by a list that somebody else might have changed. */
export function sameItems<T>(a: readonly T[], b: readonly T[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** As sameItems(), of bytes: by itself, as the engine then knows that it compares numbers. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
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
