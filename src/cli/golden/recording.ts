/** A recording of a real Xen: a folder with `ops.json`, one record a command, and the command line of QEMU. */
import fs from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import { InputError } from '../../base/assert.js';
import { LIMITS } from '../../base/limits.js';
import { readBytes } from '../files.js';

const lines = z.array(z.string());
const ContextEntry = z.object({
  P: z.int(),
  FPD: z.int(),
  TT: z.int(),
  SLPTPTR: z.string(),
  AW: z.int(),
  AVAIL: z.int(),
  DID: z.int(),
});
const Entry = z.union([ContextEntry, z.array(z.string()).length(4), z.null()]);
const Memory = z.object({ before: z.string(), after: z.string() });
const FaultRegisters = z.record(z.string(), z.union([z.string(), z.number(), z.array(z.string())]));

/** Seconds since 1970 until the year 2286. */
const TIME_MAX_S = 1e10;
/** A whole recording in seconds: its nanoseconds are exact numbers. */
const LENGTH_MAX_S = 30 * 86_400;

const Record = z.object({
  cmd: z.string().max(65_536),
  exit: z.int().optional(),
  stdout: z.string().default(''),
  stderr: z.string().default(''),
  /** How long it took, and when it began and ended. */
  seconds: z.number().nonnegative().max(86_400).optional(),
  t_start: z.number().nonnegative().max(TIME_MAX_S).optional(),
  t_end: z.number().nonnegative().max(TIME_MAX_S).optional(),
  xen_cmdline: z.string().optional(),
  xen_log: lines.default([]),
  dom0_kernel_log: lines.default([]),
  vtd_trace: lines.default([]),
  context_entries: z.record(z.string(), Entry).optional(),
  context_entries_changed: z.record(z.string(), z.object({ before: Entry, after: Entry })).optional(),
  amd_devtab: z.object({ dtes: z.record(z.string(), z.array(z.string()).length(4)) }).optional(),
  debug_keys: z.record(z.string(), lines).optional(),
  fault_regs: z.object({ before: FaultRegisters, after: FaultRegisters }).optional(),
  machine_memory: z.record(z.string(), Memory).optional(),
  /** Of `<note>` records: machine addresses that later commands use. */
  note: z.string().optional(),
  pages: lines.optional(),
  zero: lines.optional(),
  leaf: z.string().optional(),
  injected_events: lines.optional(),
});
const Recording = z.array(Record).min(1).max(100_000);

export type RecordedEntry = z.infer<typeof Entry>;
export type GoldenRecord = z.infer<typeof Record>;

export interface Recording {
  readonly name: string;
  readonly dir: string;
  /** The first one is the boot. */
  readonly records: readonly GoldenRecord[];
  /** Command line of QEMU. */
  readonly qemu: string;
}

/** @throws InputError: a file is missing, no JSON, or not of this form */
export function readRecording(dir: string): Recording {
  const file = path.join(dir, 'ops.json');
  const remedy = 'name a folder with ops.json and qemu-cmdline.txt';
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(readBytes(file)).toString('utf8'));
  } catch (e) {
    if (e instanceof InputError) throw new InputError(e.source, e.place, e.problem, remedy);
    throw new InputError(file, '', `no JSON: ${(e as Error).message.slice(0, 200)}`, remedy);
  }
  const parsed = Recording.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new InputError(
      file,
      issue.path.join('.').slice(0, 200),
      issue.message.slice(0, 200),
      'correct the record',
    );
  }
  checkLength(file, parsed.data);
  const qemu = Buffer.from(readBytes(path.join(dir, 'qemu-cmdline.txt'))).toString('utf8');
  return { name: path.basename(path.resolve(dir)), dir, records: parsed.data, qemu };
}

/** The clock of the simulated host goes as far as the records together and the pauses between them. */
function checkLength(file: string, records: readonly GoldenRecord[]): void {
  let lengthS = 0;
  let endedAt: number | undefined;
  records.forEach((record, i) => {
    const { seconds = 0, t_start: startedAt } = record;
    const pauseS = startedAt === undefined || endedAt === undefined ? 0 : Math.max(0, startedAt - endedAt);
    lengthS += seconds + pauseS;
    if (lengthS > LENGTH_MAX_S)
      throw new InputError(
        file,
        `${i}`,
        'the recording takes more than 30 days',
        'correct seconds, t_start, t_end',
      );
    endedAt = record.t_end;
  });
}

/** Guest configurations of the recorded host by its paths: `cfg` beside the topology file, and the recording's own. */
export function recordedConfigurations(topology: string, dir: string): Record<string, string> {
  const files: Record<string, string> = {};
  let total = 0;
  for (const folder of [path.join(path.dirname(topology), 'cfg'), path.join(dir, 'cfg')]) {
    if (!fs.existsSync(folder)) continue;
    for (const name of fs.readdirSync(folder).sort()) {
      if (!/^[\w.-]{1,64}$/.test(name)) continue;
      const bytes = readBytes(path.join(folder, name));
      total += bytes.length;
      if (total > LIMITS.inputBytesMax) throw new InputError(folder, name, 'too many files', 'remove some');
      files[`/h1/cfg/${name}`] = Buffer.from(bytes).toString('latin1');
    }
  }
  return files;
}
type Record<K extends string, V> = { [key in K]: V };
