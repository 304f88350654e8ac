/** Files that follow the event stream: everything as JSON lines, or the consoles through pino. */
import fs from 'node:fs';
import { type DestinationStream, type Logger, pino } from 'pino';
import { InputError } from '../base/assert.js';
import type { Sink, StampedEvent } from '../sim/events.js';

export interface FileSink {
  readonly sink: Sink;
  close(): void;
}

const BUFFER = 1 << 16;

class LineFile implements DestinationStream {
  private readonly fd: number;
  private pending: string[] = [];
  private bytes = 0;
  constructor(private readonly name: string) {
    try {
      this.fd = fs.openSync(name, 'w');
    } catch (e) {
      throw unwritable(name, e);
    }
  }
  write(line: string): void {
    this.pending.push(line);
    this.bytes += line.length;
    if (this.bytes > BUFFER) this.flush();
  }
  private flush(): void {
    const text = this.pending.join('');
    this.pending = [];
    this.bytes = 0;
    try {
      fs.writeFileSync(this.fd, text);
    } catch (e) {
      throw unwritable(this.name, e);
    }
  }
  close(): void {
    this.flush();
    fs.closeSync(this.fd);
  }
}

const REMEDIES: Readonly<Record<string, string>> = { ENOSPC: 'free some space or name another file' };

function unwritable(name: string, e: unknown): InputError {
  const code = (e as { code?: string }).code ?? String(e);
  return new InputError(name, '', `cannot be written (${code})`, REMEDIES[code] ?? 'name another file');
}

/** `--events FILE`: one event a line. */
export function eventFile(name: string): FileSink {
  const file = new LineFile(name);
  return { sink: (e) => file.write(`${JSON.stringify(e)}\n`), close: () => file.close() };
}

/** `--console FILE`: console lines of Xen, dom0, QEMU and guests, Xen's own text as `msg`. */
export function consoleFile(name: string): FileSink {
  const file = new LineFile(name);
  const log = pino({ base: null, timestamp: false, level: 'trace' }, file);
  return { sink: (e) => toLog(log, e), close: () => file.close() };
}

function toLog(log: Logger, e: StampedEvent): void {
  if (e.kind !== 'console') return;
  const { domid, level, source, t, text } = e;
  const fields = { t, source, ...(domid === undefined ? {} : { domid }) };
  if (level <= 3) log.error(fields, text);
  else if (level === 4) log.warn(fields, text);
  else if (level <= 6) log.info(fields, text);
  else log.debug(fields, text);
}
