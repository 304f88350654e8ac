/** What a command of the shell is to the shell. */
import type { Co } from '../../sim/co.js';
import type { Stdio } from '../dom0.js';
import type { Dom0Host } from '../host.js';
import type { List } from './ast.js';
import type { Input } from './input.js';

/** The shell that a command runs in. */
export interface ShellHost {
  readonly dom0: Dom0Host;
  readonly variables: Map<string, string>;
  /** What a list prints. */
  capture(body: List): Co<string>;
  /** Runs another command. */
  call(argv: readonly string[], input: Input, io: Stdio): Co<number>;
}

/** A bound that nobody reaches by typing: too much output, too many turns. */
export class ShellLimit extends Error {
  override readonly name = 'ShellLimit';
}

/** A word that has no value: ends the shell it is in, or at the prompt the command line. */
export class ExpansionError extends Error {
  override readonly name = 'ExpansionError';
}

export class Call implements Stdio {
  private read: string | undefined = undefined;
  constructor(
    /** Name first. */
    readonly argv: readonly string[],
    /** Commands that read nothing leave it to the next one. */
    readonly input: Input,
    readonly shell: ShellHost,
    private readonly io: Stdio,
  ) {}
  /** All of its input. */
  get stdin(): string {
    this.read ??= this.input.rest();
    return this.read;
  }
  out(text: string): void {
    this.io.out(text);
  }
  err(text: string): void {
    this.io.err(text);
  }
}

/** A command that may lose the CPU: it calls Xen, waits or runs others. The result is its exit status. */
export interface Program {
  run(call: Call): Co<number>;
}

/** A command that only computes. */
export type Tool = (call: Call) => number;

/** `NAME: text`, to stderr; the result is `exit`. */
export function complain(call: Call, text: string, exit = 1): number {
  call.err(`${call.argv[0]}: ${text}\n`);
  return exit;
}

/** Lines without their newlines; text without a newline at its end still ends in a line. */
export function linesOf(text: string): string[] {
  if (text === '') return [];
  const lines = text.split('\n');
  if (lines[lines.length - 1] === '') lines.pop();
  return lines;
}

export interface Options {
  readonly flags: ReadonlySet<string>;
  readonly values: ReadonlyMap<string, string[]>;
  readonly args: readonly string[];
  /** The first option that is not known. */
  readonly unknown: string | undefined;
}

/** Short options in the way of getopt: `spec` lists letters, a colon after those that take a value. */
export function options(argv: readonly string[], spec: string): Options {
  const flags = new Set<string>();
  const values = new Map<string, string[]>();
  const args: string[] = [];
  let unknown: string | undefined;
  const rest = argv.slice(1);
  for (let i = 0; i < rest.length; i++) {
    const a = rest[i]!;
    if (a === '--') {
      args.push(...rest.slice(i + 1));
      break;
    }
    if (!a.startsWith('-') || a === '-') {
      args.push(a);
      continue;
    }
    for (let j = 1; j < a.length; j++) {
      const c = a[j]!;
      const at = c === ':' ? -1 : spec.indexOf(c);
      if (at < 0) unknown ??= c;
      else if (spec[at + 1] !== ':') flags.add(c);
      else {
        const value = j + 1 < a.length ? a.slice(j + 1) : rest[++i];
        if (value === undefined) unknown ??= c;
        else values.set(c, [...(values.get(c) ?? []), value]);
        break;
      }
    }
  }
  return { flags, values, args, unknown };
}
