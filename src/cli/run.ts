/** `xpsim run` and `xpsim shell`. */
import path from 'node:path';
import readline from 'node:readline/promises';
import { fileURLToPath } from 'node:url';
import { HostCrash, InputError } from '../base/assert.js';
import type { HostInput } from '../inputs/host.js';
import { ShellSyntaxError } from '../toolstack/shell/lexer.js';
import { parseShell } from '../toolstack/shell/parse.js';
import { configurationsBeside, readBytes, readHostPath } from './files.js';
import { Interrupted, Interrupts } from './interrupts.js';
import { Recorder } from './recorder.js';
import { parseScript, type ScriptItem } from './script.js';
import { Session } from './session.js';
import { consoleFile, eventFile, type FileSink } from './sinks.js';
import { PROMPT, type Screen, Terminal } from './terminal.js';

export interface RunOptions {
  readonly host?: string;
  readonly xen?: string;
  readonly fixed?: boolean;
  readonly cmdline?: string;
  readonly json?: boolean;
  readonly events?: string;
  readonly console?: string;
}

export const EXIT = { ok: 0, failed: 1, usage: 2, input: 3, bug: 70, interrupted: 130 } as const;

/** The machine that is booted when none is named. */
const EXAMPLE_HOST = fileURLToPath(new URL('../../../examples/gpu-passthrough/host', import.meta.url));

interface Opened {
  readonly session: Session;
  readonly recorder: Recorder | undefined;
  readonly sinks: readonly FileSink[];
  readonly input: HostInput;
}

function open(o: RunOptions, files: Readonly<Record<string, string>>): Opened {
  const input = readHostPath(o.host ?? EXAMPLE_HOST);
  const recorder =
    o.json === true ? new Recorder(input.host.ivrs === undefined ? 'intel' : 'amd') : undefined;
  if (o.events !== undefined && o.console !== undefined && isOneFile(o.events, o.console))
    throw new InputError(o.events, '', 'is named for --events and for --console', 'name two files');
  const sinks: FileSink[] = [];
  if (o.events !== undefined) sinks.push(eventFile(o.events));
  if (o.console !== undefined) sinks.push(consoleFile(o.console));
  const session = new Session(input.host, {
    files,
    fixed: o.fixed ?? false,
    sinks: [...sinks.map((s) => s.sink), ...(recorder === undefined ? [] : [recorder.sink])],
    ...(o.xen === undefined ? {} : { release: o.xen }),
    ...(o.cmdline === undefined ? {} : { cmdline: o.cmdline }),
  });
  return { session, recorder, sinks, input };
}

/** Devices take two writers. */
const isOneFile = (a: string, b: string): boolean =>
  path.resolve(a) === path.resolve(b) && !path.resolve(a).startsWith('/dev/');

const screenOf = (stream: NodeJS.WriteStream): Screen => ({
  write: (text) => void stream.write(text),
  colours: stream.isTTY === true && process.env.NO_COLOR === undefined,
});

/** Lets signals in. */
const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

export async function runScript(script: string, o: RunOptions): Promise<number> {
  const interrupts = new Interrupts();
  const progress = { line: 1, commands: 0 };
  let sinks: readonly FileSink[] = [];
  try {
    const items = parseScript(script, Buffer.from(readBytes(script)).toString('utf8'));
    const opened = interrupts.during(() => open(o, configurationsBeside(script)));
    sinks = opened.sinks;
    return await runItems(script, items, opened, interrupts, progress);
  } catch (e) {
    if (!(e instanceof Interrupted)) throw e;
    const { commands, line } = progress;
    process.stderr.write(`xpsim: interrupted in line ${line} of ${script}; ${commands} commands ran\n`);
    return EXIT.interrupted;
  } finally {
    interrupts.stop();
    for (const s of sinks) s.close();
  }
}

const printJson = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

/** Where a script is: the line whose turn it is, and how many commands have ended. */
interface Progress {
  line: number;
  commands: number;
}

async function runItems(
  script: string,
  items: readonly ScriptItem[],
  { input, recorder, session }: Opened,
  interrupts: Interrupts,
  progress: Progress,
): Promise<number> {
  const terminal = new Terminal(screenOf(process.stdout));
  const failed = (line: number, what: string): number => {
    process.stderr.write(`xpsim: ${script}: line ${line}: ${what}\n`);
    return EXIT.failed;
  };
  if (recorder === undefined) for (const note of input.notes) terminal.note(`(${note})`);
  else printJson(recorder.booted(session));
  for (const item of items) {
    progress.line = item.line;
    await breathe();
    if (interrupts.count > 0) throw new Interrupted();
    if (item.kind === 'prose') {
      if (recorder === undefined) terminal.prose(item.text);
      continue;
    }
    if (recorder === undefined) terminal.command(item.text);
    const result = interrupts.during(() => runOne(session, item));
    if (typeof result === 'string') return failed(item.line, result);
    if (recorder === undefined) terminal.result(result);
    else printJson(recorder.record(item.text, result));
    progress.commands += 1;
    if (session.shell.exited !== undefined) return session.shell.exited === 0 ? EXIT.ok : EXIT.failed;
    if (item.expected === 'fails' ? result.exit === 0 : result.exit !== item.expected) {
      const wanted = item.expected === 'fails' ? 'a failure' : `exit ${item.expected}`;
      return failed(item.line, `exit ${result.exit} where ${wanted} was expected`);
    }
  }
  return EXIT.ok;
}

/** A crash of Xen ends the script: its words. */
function runOne(session: Session, item: ScriptItem): ReturnType<Session['run']> | string {
  try {
    return session.run(item.text);
  } catch (e) {
    if (e instanceof HostCrash) return `Xen crashed: ${e.message}`;
    throw e;
  }
}

/** One command after the other from a person, or from a pipe. */
export async function interactive(o: RunOptions): Promise<number> {
  const interrupts = new Interrupts();
  const progress = { line: 1, commands: 0 };
  let sinks: readonly FileSink[] = [];
  try {
    const opened = interrupts.during(() => open(o, {}));
    sinks = opened.sinks;
    return await converse(opened, interrupts, progress);
  } catch (e) {
    if (e instanceof Interrupted) {
      process.stderr.write(`xpsim: interrupted; ${progress.commands} commands ran\n`);
      return EXIT.interrupted;
    }
    if (!(e instanceof HostCrash)) throw e;
    process.stderr.write(`xpsim: Xen crashed: ${e.message}\n`);
    return EXIT.failed;
  } finally {
    interrupts.stop();
    for (const s of sinks) s.close();
  }
}

async function converse(
  { input, recorder, session }: Opened,
  interrupts: Interrupts,
  progress: Progress,
): Promise<number> {
  const terminal = new Terminal(screenOf(process.stdout));
  const tty = process.stdin.isTTY === true && recorder === undefined;
  if (recorder === undefined) for (const note of input.notes) terminal.note(`(${note})`);
  else printJson(recorder.booted(session));
  const rl = readline.createInterface({
    input: process.stdin,
    output: tty ? process.stdout : undefined,
    prompt: PROMPT,
  });
  const stop = (): void => rl.close();
  rl.on('SIGINT', () => process.emit('SIGINT'));
  process.on('SIGINT', stop);
  const runTyped = (text: string): void => {
    if (!tty && recorder === undefined) terminal.command(text);
    const result = withKeys(tty, () => interrupts.during(() => session.run(text)));
    if (recorder === undefined) terminal.result(result);
    else printJson(recorder.record(text, result));
    progress.commands += 1;
  };
  let pending = '';
  if (tty) rl.prompt();
  try {
    for await (const line of rl) {
      if (interrupts.count > 0) break;
      pending = pending === '' ? line : `${pending}\n${line}`;
      if (pending.trim() === '') pending = '';
      else if (!isIncomplete(pending)) {
        runTyped(pending);
        pending = '';
        if (session.shell.exited !== undefined) break;
      }
      if (tty) {
        rl.setPrompt(pending === '' ? PROMPT : '> ');
        rl.prompt();
      }
    }
    // The shell says what is missing.
    if (pending !== '' && interrupts.count === 0) runTyped(pending);
  } finally {
    rl.close();
    process.off('SIGINT', stop);
    if (tty) process.stdout.write('\n');
  }
  if (interrupts.count > 0) throw new Interrupted();
  return session.shell.exited ?? EXIT.ok;
}

/** While a command runs, Ctrl-C must be a signal: nobody reads keys. */
function withKeys<T>(tty: boolean, work: () => T): T {
  if (tty) process.stdin.setRawMode(false);
  try {
    return work();
  } finally {
    if (tty) process.stdin.setRawMode(true);
  }
}

function isIncomplete(text: string): boolean {
  try {
    parseShell(text);
    return false;
  } catch (e) {
    return e instanceof ShellSyntaxError && e.incomplete;
  }
}
