/** `xl -N create` of every recorded configuration, against what a real xl 4.17.7 printed. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type XlHost, xlHost } from '../unit/xl_host.js';

const golden = fileURLToPath(new URL('../../../shared/golden', import.meta.url));
const there = existsSync(golden);

interface Op {
  readonly cmd: string;
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

const readOps = (name: string): Op[] =>
  there ? (JSON.parse(readFileSync(`${golden}/${name}/ops.json`, 'utf8')) as Op[]) : [];

/** Words as a shell splits them: quotes, no expansion. */
const words = (cmd: string): string[] =>
  [...cmd.matchAll(/(?:[^\s'"]|'[^']*'|"[^"]*")+/g)].map(([w]) => w.replace(/'([^']*)'|"([^"]*)"/g, '$1$2'));

/** The UUID is random. */
const comparable = (text: string): string => text.replace(/"uuid": "[0-9a-f-]{36}"/, '"uuid": "…"');

const cfgFiles = (): Record<string, string> =>
  Object.fromEntries(
    readdirSync(`${golden}/cfg`).map((f) => [`/h1/cfg/${f}`, readFileSync(`${golden}/cfg/${f}`, 'latin1')]),
  );

describe.skipIf(!there)('recording 05', () => {
  const host: XlHost | undefined = there ? xlHost({ release: '4.17', files: cfgFiles() }) : undefined;
  const ops = readOps('05-xl-cfg-dryrun').slice(1);

  test.each(ops.map((op, i) => [i + 1, op] as const))('record %i prints and exits as xl did', (_, op) => {
    const ran = host!.xl(...words(op.cmd).slice(1));
    expect({ cmd: op.cmd, exit: ran.exit, out: comparable(ran.out), err: ran.err }).toEqual({
      cmd: op.cmd,
      exit: op.exit,
      out: comparable(op.stdout),
      err: op.stderr,
    });
  });
});
