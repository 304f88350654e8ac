/** Our own code is wrong: an assertion of the simulator, or an ASSERT() of Xen's debug build. Never caught in src. */
export class XenBug extends Error {
  override readonly name = 'XenBug';
}

/** Xen itself cannot go on: panic() and BUG_ON(). The machine is dead afterwards. */
export class HostCrash extends Error {
  override readonly name = 'HostCrash';
}

/** The input of a user is unusable: one clear line naming file, place and remedy. The CLI exits with 3. */
export class InputError extends Error {
  override readonly name = 'InputError';
  constructor(
    /** File or option as the user named it. */
    readonly source: string,
    /** Where in it: `line 12`, `offset 0x30`, or empty. */
    readonly place: string,
    readonly problem: string,
    readonly remedy: string,
  ) {
    super(`${source}${place === '' ? '' : `: ${place}`}: ${problem}; ${remedy}`);
  }
}

/** Throws XenBug unless `cond` holds; `what` states the property, so the message reads `not so: …`. */
export function assert(cond: boolean, what: string): asserts cond {
  if (!cond) notSo(what);
}

/** A failed assertion, where `assert` would make its text each time. */
export function notSo(what: string): never {
  throw new XenBug(`not so: ${what}`);
}

/** @xen BUG_ON and panic() */
export function panic(text: string): never {
  throw new HostCrash(text);
}
