/** How the C library reads numbers out of text: the parsers of xl are built on it, odd cases included. */

export interface Scanned {
  readonly value: number;
  /** Index of the first character not read; equal to the start when there was no number. */
  readonly end: number;
  /** errno ERANGE: `value` is the limit of a 64-bit long. */
  readonly overflow: boolean;
}

/** isspace() in the C locale. */
export const isSpace = (c: string | undefined): boolean =>
  c === ' ' || c === '\t' || c === '\n' || c === '\v' || c === '\f' || c === '\r';

const digitOf = (c: string | undefined): number => {
  if (c === undefined) return 99;
  const x = c.charCodeAt(0);
  if (x >= 48 && x <= 57) return x - 48;
  if (x >= 97 && x <= 122) return x - 87;
  if (x >= 65 && x <= 90) return x - 55;
  return 99;
};

/** strtol(&text[at], &end, base); base 0 takes 0x and a leading 0 as C does. */
export function strtol(text: string, at: number, base: 0 | 8 | 10 | 16): Scanned {
  let i = at;
  while (isSpace(text[i])) i++;
  const negative = text[i] === '-';
  if (negative || text[i] === '+') i++;
  let radix: number = base;
  const hex = text[i] === '0' && (text[i + 1] === 'x' || text[i + 1] === 'X') && digitOf(text[i + 2]) < 16;
  if ((base === 0 || base === 16) && hex) {
    radix = 16;
    i += 2;
  } else if (base === 0) radix = text[i] === '0' ? 8 : 10;
  const from = i;
  let value = 0;
  while (digitOf(text[i]) < radix) value = value * radix + digitOf(text[i++]);
  if (i === from) return { value: 0, end: at, overflow: false };
  const overflow = value >= 2 ** 63 && !(negative && value === 2 ** 63);
  if (overflow) value = 2 ** 63;
  return { value: negative ? -value : value, end: i, overflow };
}

/** atoi(): 0 when there is no number. */
export const atoi = (text: string): number => {
  const n = strtol(text, 0, 10).value;
  return n >= 2 ** 31 || n < -(2 ** 31) ? Number(BigInt.asIntN(32, BigInt(n))) : n;
};

/**
 * One %x of sscanf into an unsigned int: leading blanks, a sign and 0x are taken, the x also where no digit follows.
 * undefined when nothing matched.
 */
export function scanHex(text: string, at: number): { value: number; end: number } | undefined {
  const n = strtol(text, at, 16);
  if (n.end === at) return undefined;
  const loneZero = text[n.end - 1] === '0' && (n.end - 1 === at || digitOf(text[n.end - 2]) >= 16);
  const end = loneZero && (text[n.end] === 'x' || text[n.end] === 'X') ? n.end + 1 : n.end;
  return { value: n.overflow ? 0xffff_ffff : ((n.value % 2 ** 32) + 2 ** 32) % 2 ** 32, end };
}

/** isxdigit() */
export const isXdigit = (c: string | undefined): boolean => digitOf(c) < 16;

/** strtok(text, delims): runs of delimiters count as one, and none at the ends. */
export function strtok(text: string, delims: string): string[] {
  const out: string[] = [];
  let word = '';
  for (const c of text) {
    if (!delims.includes(c)) word += c;
    else if (word !== '') {
      out.push(word);
      word = '';
    }
  }
  if (word !== '') out.push(word);
  return out;
}
