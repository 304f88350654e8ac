/** getopt_long() with its reordering, and the help and errors that every command of xl shares. @xen tools/xl/xl_utils.c */

import { type Xl, XlExit } from './context.js';
import { help } from './help.js';

export interface Options {
  /** Options in the order given; `arg` is '' for those without one. */
  readonly flags: readonly { readonly opt: string; readonly arg: string }[];
  readonly args: readonly string[];
}

/** Long names by the letter they stand for; a colon after the letter in `short` tells which take an argument. */
export type LongOptions = Readonly<Record<string, string>>;

/**
 * Options of one command. Prints and exits on -h, on an unknown option (2), and when fewer than `required` arguments
 * are left (2).
 */
export function getOptions(
  xl: Xl,
  argv: readonly string[],
  short: string,
  long: LongOptions,
  command: string,
  required: number,
): Options {
  const flags: { opt: string; arg: string }[] = [];
  const args: string[] = [];
  const names: LongOptions = { ...long, help: 'h' };
  const bad = (c: string): never => {
    if (c === 'h') showHelp(xl, command);
    xl.err(`option \`${c}' not supported.\n`);
    throw new XlExit(2);
  };
  const takes = (c: string): boolean => short[short.indexOf(c) + 1] === ':';
  for (let i = 1; i < argv.length; i++) {
    const word = argv[i]!;
    if (word === '--') {
      args.push(...argv.slice(i + 1));
      break;
    }
    if (word === '-' || !word.startsWith('-')) {
      args.push(word);
      continue;
    }
    if (word.startsWith('--')) {
      const [name, value] = splitLong(word.slice(2));
      const opt = longOption(names, name) ?? bad('\0');
      if (takes(opt)) flags.push({ opt, arg: value ?? argv[++i] ?? bad(opt) });
      else if (value !== undefined) bad(opt);
      else flags.push({ opt, arg: '' });
    } else {
      for (let k = 1; k < word.length; k++) {
        const opt = word[k]!;
        if (opt === ':' || (opt !== 'h' && !short.includes(opt))) bad(opt);
        if (!takes(opt)) flags.push({ opt, arg: '' });
        else {
          const rest = word.slice(k + 1);
          flags.push({ opt, arg: rest !== '' ? rest : (argv[++i] ?? bad(opt)) });
          break;
        }
      }
    }
    if (flags[flags.length - 1]!.opt === 'h') showHelp(xl, command);
  }
  if (args.length < required) {
    xl.err(`'xl ${command}' requires at least ${required} argument${required > 1 ? 's' : ''}.\n\n`);
    help(xl, command);
    throw new XlExit(2);
  }
  return { flags, args };
}

function showHelp(xl: Xl, command: string): never {
  help(xl, command);
  throw new XlExit(0);
}

const splitLong = (text: string): [string, string | undefined] => {
  const at = text.indexOf('=');
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
};

/** An exact name, or a beginning that only one option has. */
function longOption(names: LongOptions, name: string): string | undefined {
  if (Object.hasOwn(names, name)) return names[name];
  const found = Object.keys(names).filter((n) => n.startsWith(name));
  return found.length === 1 ? names[found[0]!] : undefined;
}
