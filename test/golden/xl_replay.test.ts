/**
 * What was typed at the recorded host, typed here: each xl command and each look into xenstore has to answer the same,
 * exit code, output and errors. Left out are libxl's debugging lines, processor time, and identifiers made by chance.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type XlHost, xlHost } from '../unit/xl_host.js';

const GOLDEN = new URL('../../../shared/golden/', import.meta.url);
const THERE = existsSync(GOLDEN);

interface Op {
  readonly cmd: string;
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly xen_cmdline?: string;
}

interface Recording {
  readonly board: 'vtd' | 'amd';
  readonly kernelCmdline?: string;
  /** Commands that are compared. */
  readonly compared: number;
  /** Records that show something else than xl at work, each with the reason. */
  readonly except?: ReadonlyMap<number, string>;
  /** What happened on the recorded host around a command. */
  readonly around?: (h: XlHost, n: number, run: () => void) => void;
}

const VF = 'the recorded virtual function had no driver, and its host lost answers';
/** A guest that has not reached its kernel yet does not answer unplug requests. */
function busyGuests(h: XlHost, n: number, run: () => void): void {
  h.guests.acpi = n !== 26 && n !== 30;
  run();
}
/** The recorded host once failed to decompress a guest's kernel. */
function brokenKernel(h: XlHost, n: number, run: () => void): void {
  if (n === 39) h.dom0.fs.remove('/h1/vmlinuz');
  run();
  if (n === 39) h.dom0.fs.install('/h1/vmlinuz', 'kernel');
}

const RECORDINGS: readonly (readonly [string, Recording])[] = [
  ['01-vtd-assignable', { board: 'vtd', compared: 70 }],
  [
    '02b-vtd-pv-clean',
    {
      board: 'vtd',
      compared: 52,
      except: new Map([
        [21, 'the recorded guest also complains of an event channel'],
        [23, 'the same'],
        [26, 'the same'],
        [39, 'the message of the failed decompression'],
      ]),
      around: brokenKernel,
    },
  ],
  [
    '03-vtd-topology',
    {
      board: 'vtd',
      compared: 50,
      except: new Map([
        [52, VF],
        [57, VF],
        [59, VF],
      ]),
    },
  ],
  ['10-phantom', { board: 'vtd', compared: 9 }],
  ['11-quarantine-scratch', { board: 'vtd', compared: 9 }],
  ['18-rmrr', { board: 'vtd', compared: 9 }],
  ['21-caching-mode', { board: 'vtd', compared: 9 }],
  [
    '27-hide',
    {
      board: 'vtd',
      kernelCmdline: 'console=hvc0 xen-pciback.hide=(02:00.0)(01:00.0)(01:00.1)',
      compared: 9,
    },
  ],
  ['32-rmrr-shared', { board: 'vtd', compared: 12 }],
  ['40-amdvi', { board: 'amd', compared: 12 }],
  ['41-hvm-amdvi', { board: 'amd', compared: 21, around: busyGuests }],
  ['43-amdvi-phantom', { board: 'amd', compared: 12 }],
];

/** libxl's debugging, and what the recorder's shell says of a crash. */
const DEBUG = /^(libxl: debug|xencall:buffer|domainbuilder|xc: detail|xenforeignmemory|\/tmp\/\.cmd:)/;

function essence(text: string): string[] {
  return text
    .replace(/"uuid": "[0-9a-f-]{36}"/g, '"uuid"')
    .split('\n')
    .filter((line) => line !== '' && !DEBUG.test(line))
    .map((line) => line.replace(/^(\S+ +\d+ +\d+ +\d+) +[-rbpscd]{6} +\d+\.\d$/, '$1'));
}

/** xl and xenstore-ls, alone or with grep behind; not what prints Xen's or another program's text. */
const isOurs = (cmd: string): boolean =>
  /^(xl|xenstore-ls)\b/.test(cmd) && !/dmesg|debug-keys|xl info|\bps\b|\bcat\b|\btail\b/.test(cmd);

function replay(name: string, r: Recording): number {
  const [boot, ...ops] = JSON.parse(readFileSync(new URL(`${name}/ops.json`, GOLDEN), 'utf8')) as Op[];
  const cfg = new URL('cfg/', GOLDEN);
  const files = readdirSync(cfg).map((f) => [`/h1/cfg/${f}`, readFileSync(new URL(f, cfg), 'latin1')]);
  const h = xlHost({
    release: '4.17',
    board: r.board,
    files: Object.fromEntries(files),
    cmdline: (boot!.xen_cmdline ?? '').replace(/^.*?xen\.gz\s*/, ''),
    ...(r.kernelCmdline === undefined ? {} : { kernelCmdline: r.kernelCmdline }),
  });
  let compared = 0;
  ops.forEach((op, i) => {
    const n = i + 1;
    if (op.cmd.startsWith('<')) return;
    let got = { exit: -1, out: '', err: '' };
    const run = (): void => {
      got = h.sh(op.cmd);
    };
    if (r.around === undefined) run();
    else r.around(h, n, run);
    if (!isOurs(op.cmd) || r.except?.has(n) === true || op.exit === -999) return;
    const expected = { exit: op.exit, out: essence(op.stdout), err: essence(op.stderr) };
    expect({ exit: got.exit, out: essence(got.out), err: essence(got.err) }, `${n}: ${op.cmd}`).toEqual(
      expected,
    );
    compared++;
  });
  return compared;
}

describe.skipIf(!THERE)('recorded sessions', () => {
  for (const [name, r] of RECORDINGS) {
    test(`${name}: every xl command answers as recorded`, () => {
      expect(replay(name, r)).toBe(r.compared);
    });
  }
});
