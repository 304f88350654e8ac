/** Backslash escapes of echo -e, printf and `$'…'`. */
const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n',
  t: '\t',
  r: '\r',
  '\\': '\\',
  a: '\x07',
  b: '\b',
  e: '\x1b',
  E: '\x1b',
  f: '\f',
  v: '\v',
};
/** `octal` is the form of an octal number: up to three digits for printf, these after a 0 for echo. */
export const unescapeText = (text: string, octal: string): string =>
  text.replace(new RegExp(`\\\\([ntr\\\\abeEfv]|x[0-9a-fA-F]{1,2}|${octal})`, 'g'), (_, e: string) => {
    if (e.startsWith('x')) return String.fromCharCode(Number.parseInt(e.slice(1), 16));
    return ESCAPES[e] ?? String.fromCharCode(Number.parseInt(e, 8) & 0xff);
  });
