/**
 * How pciback reads device addresses, in its files and in `hide=`. @linux drivers/xen/xen-pciback/pci_stub.c
 * str_to_slot, str_to_quirk, pcistub_init
 */

/** -1 stands for `*`. */
export interface Slot {
  readonly domain: number;
  readonly bus: number;
  readonly slot: number;
  readonly func: number;
}
export interface QuirkField {
  readonly at: Slot;
  readonly reg: number;
  readonly size: number;
  readonly mask: number;
}

const X = '(?:0x)?([0-9a-f]{1,8})';
const star = (x: string): string => `(?:${x}|\\*)`;
/** A star for the slot asks for a star for the function. */
const SLOT_FUNC = `(?:${X}\\.${star(X)}|\\*\\.\\*)`;
const SLOT = new RegExp(`^\\s*(?:${X}:)?${X}:${SLOT_FUNC}\\s*$`, 'i');
const QUIRK = new RegExp(`^\\s*(?:${X}:)?${X}:${X}\\.${X}-${X}:${X}:${X}\\s*$`, 'i');
const HIDE = new RegExp(`^\\s*\\((?:${X}:)?${X}:${SLOT_FUNC}\\)\\s*`, 'i');

const num = (text: string | undefined, missing: number): number =>
  text === undefined ? missing : Number.parseInt(text, 16);

const slotOf = (m: RegExpExecArray): Slot => ({
  domain: num(m[1], 0),
  bus: num(m[2], 0),
  slot: num(m[3], -1),
  func: num(m[4], -1),
});

/** `[DDDD:]BB:SS.F`, with `*` for the function or for slot and function; undefined is -EINVAL. */
export function parseSlot(text: string): Slot | undefined {
  const m = SLOT.exec(text);
  return m === null ? undefined : slotOf(m);
}

/** `[DDDD:]BB:SS.F-REG:SIZE:MASK`, all in hex. */
export function parseQuirk(text: string): QuirkField | undefined {
  const m = QUIRK.exec(text);
  if (m === null) return undefined;
  return { at: slotOf(m), reg: num(m[5], 0), size: num(m[6], 0), mask: num(m[7], 0) };
}

/** `(01:00.0)(0000:03:00.*)`: the slots, and from where on it could not be read. */
export function parseHide(text: string): { readonly slots: readonly Slot[]; readonly errorAt?: string } {
  const slots: Slot[] = [];
  let rest = text;
  while (rest !== '') {
    const m = HIDE.exec(rest);
    if (m === null) return { slots, errorAt: rest };
    slots.push(slotOf(m));
    rest = rest.slice(m[0].length);
  }
  return { slots };
}

/** Every function that a slot names, or undefined when a number is out of its range (-EINVAL). */
export function expand(
  s: Slot,
): { readonly domain: number; readonly bus: number; readonly devfn: number }[] | undefined {
  if (s.domain > 0xffff || s.bus > 0xff || s.slot > 31 || s.func > 7) return undefined;
  const slots = s.slot < 0 ? range(32) : [s.slot];
  const funcs = s.func < 0 ? range(8) : [s.func];
  return slots.flatMap((slot) => funcs.map((fn) => ({ domain: s.domain, bus: s.bus, devfn: slot * 8 + fn })));
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/**
 * What the kernel command line says to a module: the last `NAME.KEY=VALUE`, `-` and `_` being the same in names.
 * A prefix that names no module is dropped without a word, which is what happens to `pciback.hide=`: the module of
 * today is called xen_pciback. @linux kernel/params.c
 */
export function moduleParameter(cmdline: string, module: string, key: string): string | undefined {
  let found: string | undefined;
  for (const word of splitParameters(cmdline)) {
    const eq = word.indexOf('=');
    const name = (eq < 0 ? word : word.slice(0, eq)).replaceAll('-', '_');
    if (name === `${module}.${key}`) found = eq < 0 ? '' : word.slice(eq + 1).replaceAll('"', '');
  }
  return found;
}

/** Blanks inside double quotes do not separate. */
function splitParameters(cmdline: string): string[] {
  const words: string[] = [];
  let word = '';
  let quoted = false;
  for (const c of cmdline) {
    if (c === '"') quoted = !quoted;
    if (!quoted && /\s/.test(c)) {
      if (word !== '') words.push(word);
      word = '';
    } else word += c;
  }
  return word === '' ? words : [...words, word];
}
