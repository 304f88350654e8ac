/** Booleans on Xen's command line. @xen common/kernel.c parse_bool, parse_boolean */

const TRUE: readonly string[] = ['1', 'on', 'yes', 'true', 'enable'];
const FALSE: readonly string[] = ['0', 'no', 'off', 'false', 'disable'];

/** 1, 0, or -1 when it is no boolean. @xen parse_bool */
export const parseBool = (s: string): number => (TRUE.includes(s) ? 1 : FALSE.includes(s) ? 0 : -1);

/** `name`, `no-name` or `name=<bool>`: 1 or 0; -1 when it is something else; -2 when only the value is. @xen parse_boolean */
export function parseBoolean(name: string, word: string): number {
  const negated = word.startsWith('no-');
  const s = negated ? word.slice(3) : word;
  if (!s.startsWith(name)) return -1;
  if (s.length === name.length) return negated ? 0 : 1;
  if (negated || s[name.length] !== '=') return -1;
  const value = parseBool(s.slice(name.length + 1));
  return value >= 0 ? value : -2;
}
