/** `xpsim run` and `xpsim shell`. */
import readline from 'node:readline/promises';
import { fileURLToPath } from 'node:url';
import { HostCrash } from '../base/assert.js';
import type { HostInput } from '../inputs/host.js';
import { ShellSyntaxError } from '../toolstack/shell/lexer.js';
import { parseShell } from '../toolstack/shell/parse.js';
import { configurationsBeside, readBytes, readHostPath } from './files.js';
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

const screenOf = (stream: NodeJS.WriteStream): Screen => ({
  write: (text) => void stream.write(text),
  colours: stream.isTTY === true && process.env.NO_COLOR === undefined,
});

/** Lets signals in. */
const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class Interrupts {
  count = 0;
  private readonly onSigint = (): void => {
    this.count += 1;
  };
  constructor() {
    process.on('SIGINT', this.onSigint);
  }
  stop(): void {
    process.off('SIGINT', this.onSigint);
  }
}

export async function runScript(script: string, o: RunOptions): Promise<number> {
  const items = parseScript(script, Buffer.from(readBytes(script)).toString('utf8'));
  const { input, recorder, session, sinks } = open(o, configurationsBeside(script));
  const terminal = new Terminal(screenOf(process.stdout));
  if (recorder === undefined) for (const note of input.notes) terminal.note(`(${note})`);
  else printJson(recorder.booted(session));
  const interrupts = new Interrupts();
  try {
    return await runItems(script, items, session, recorder, terminal, interrupts);
  } finally {
    interrupts.stop();
    for (const s of sinks) s.close();
  }
}

const printJson = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

async function runItems(
  script: string,
  items: readonly ScriptItem[],
  session: Session,
  recorder: Recorder | undefined,
  terminal: Terminal,
  interrupts: Interrupts,
): Promise<number> {
  let done = 0;
  for (const item of items) {
    await breathe();
    if (interrupts.count > 0) {
      process.stderr.write(
        `xpsim: interrupted before line ${item.line} of ${script}; ${done} commands ran\n`,
      );
      return EXIT.interrupted;
    }
    if (item.kind === 'prose') {
      if (recorder === undefined) terminal.prose(item.text);
      continue;
    }
    if (recorder === undefined) terminal.command(item.text);
    const result = runOne(session, item);
    if (typeof result === 'string') {
      process.stderr.write(`xpsim: ${script}: line ${item.line}: ${result}\n`);
      return EXIT.failed;
    }
    if (recorder === undefined) terminal.result(result);
    else printJson(recorder.record(item.text, result));
    done += 1;
    if (session.shell.exited !== undefined) return session.shell.exited === 0 ? EXIT.ok : EXIT.failed;
    if (item.expected === 'fails' ? result.exit === 0 : result.exit !== item.expected) {
      const wanted = item.expected === 'fails' ? 'a failure' : `exit ${item.expected}`;
      process.stderr.write(
        `xpsim: ${script}: line ${item.line}: exit ${result.exit} where ${wanted} was expected\n`,
      );
      return EXIT.failed;
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
  const { input, recorder, session, sinks } = open(o, {});
  const terminal = new Terminal(screenOf(process.stdout));
  const tty = process.stdin.isTTY === true && recorder === undefined;
  if (recorder === undefined) for (const note of input.notes) terminal.note(`(${note})`);
  else printJson(recorder.booted(session));
  const rl = readline.createInterface({
    input: process.stdin,
    output: tty ? process.stdout : undefined,
    prompt: PROMPT,
  });
  let interrupted = false;
  rl.on('SIGINT', () => {
    interrupted = true;
    rl.close();
  });
  let done = 0;
  let pending = '';
  if (tty) rl.prompt();
  try {
    for await (const line of rl) {
      pending = pending === '' ? line : `${pending}\n${line}`;
      if (pending.trim() !== '' && !isIncomplete(pending)) {
        const text = pending;
        pending = '';
        if (!tty && recorder === undefined) terminal.command(text);
        const result = session.run(text);
        if (recorder === undefined) terminal.result(result);
        else printJson(recorder.record(text, result));
        done += 1;
        if (session.shell.exited !== undefined) break;
      } else if (pending.trim() === '') pending = '';
      if (tty) {
        rl.setPrompt(pending === '' ? PROMPT : '> ');
        rl.prompt();
      }
    }
  } catch (e) {
    if (!(e instanceof HostCrash)) throw e;
    process.stderr.write(`xpsim: Xen crashed: ${e.message}\n`);
    return EXIT.failed;
  } finally {
    rl.close();
    for (const s of sinks) s.close();
  }
  if (tty) process.stdout.write('\n');
  if (interrupted) process.stderr.write(`xpsim: interrupted; ${done} commands ran\n`);
  return interrupted ? EXIT.interrupted : (session.shell.exited ?? EXIT.ok);
}

function isIncomplete(text: string): boolean {
  try {
    parseShell(text);
    return false;
  } catch (e) {
    return e instanceof ShellSyntaxError && e.incomplete;
  }
}
