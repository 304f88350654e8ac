/**
 * What dom0's kernel says, and what its shell shows, while recorded commands run: sysfs, pciback's files, xenstore,
 * lspci and setpci. xl itself is compared elsewhere.
 */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { Recorder } from '../../src/cli/recorder.js';
import { Session } from '../../src/cli/session.js';
import { type Q35Kind, q35 } from '../helpers/q35.js';
import { ROOT } from '../support/built.js';

const GOLDEN = path.join(ROOT, '../shared/golden');
const there = fs.existsSync(GOLDEN);

interface Op {
  readonly cmd: string;
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly dom0_kernel_log?: readonly string[];
  readonly xen_cmdline?: string;
}

/** Guest configurations as the recorded host had them, and what they name. */
function hostFiles(): Record<string, string> {
  const files: Record<string, string> = { '/h1/vmlinuz': 'kernel', '/h1/initrdU.gz': 'ramdisk' };
  for (const f of fs.readdirSync(`${GOLDEN}/cfg`))
    files[`/h1/cfg/${f}`] = fs.readFileSync(`${GOLDEN}/cfg/${f}`, 'latin1');
  return files;
}

/** Lines that depend on the speed of the recorded host, on the process table of bash, or on what guests do when. */
const NOISE = /clocksource|tsc:|segfault|^Code:|Already setup the GSI|^[12]\) |read-only configuration space/;

/** Without time stamps and noise; each line said in a row once. */
const kernelLines = (lines: readonly string[]): string[] =>
  lines.map((l) => l.replace(/^\[ *\d+\.\d+\] /, '')).filter((l) => !NOISE.test(l) && !/^\(/.test(l));

/** Commands that show dom0 rather than xl, guests or the QEMU board's own tools. */
const isOurs = (cmd: string): boolean =>
  !/\bxl\b|\/h1\/dma|\bip -br|iomem|guest-pv|lspci -v|lspci -x|guest_|sriov|modprobe nvme/.test(cmd) &&
  !cmd.startsWith('<');

/**
 * Records that still compare. 02b: the recorder lost its way, a guest was not made for want of a kernel. 03: QEMU's NVMe
 * controller keeps its virtual functions offline. 70: the configurations were not kept.
 */
const LAST: Readonly<Record<string, number>> = {
  '02b-vtd-pv-clean': 38,
  '03-vtd-topology': 50,
  '70-vtd-faults': 61,
};

interface Difference {
  readonly at: number;
  readonly cmd: string;
  readonly what: string;
  readonly wanted: unknown;
  readonly got: unknown;
}

function replay(
  name: string,
  kind: Q35Kind,
  kernelCmdline?: string,
): { differences: Difference[]; compared: number } {
  const ops = JSON.parse(fs.readFileSync(`${GOLDEN}/${name}/ops.json`, 'utf8')) as Op[];
  const recorder = new Recorder(kind === 'amd' ? 'amd' : 'intel');
  const session = new Session(
    q35(kind, { files: hostFiles(), ...(kernelCmdline === undefined ? {} : { kernelCmdline }) }),
    {
      release: '4.17',
      cmdline: ops[0]!.xen_cmdline ?? '',
      sinks: [recorder.sink],
    },
  );
  recorder.booted(session);
  const differences: Difference[] = [];
  let compared = 0;
  const last = LAST[name] ?? ops.length;
  ops.slice(0, last + 1).forEach((op, at) => {
    if (at === 0 || op.cmd.startsWith('<')) return;
    const r = recorder.record(op.cmd, session.run(op.cmd));
    const differ = (what: string, wanted: unknown, got: unknown): void => {
      compared += 1;
      if (JSON.stringify(wanted) !== JSON.stringify(got))
        differences.push({ at, cmd: op.cmd, what, wanted, got });
    };
    differ('kernel', kernelLines(op.dom0_kernel_log ?? []), kernelLines(r.dom0_kernel_log));
    if (!isOurs(op.cmd)) return;
    differ('exit', op.exit, r.exit);
    // Files of sysfs have no times here.
    const wanted = op.stdout.replace(/Nov 22 \d\d:\d\d/g, 'Nov 22 15:28');
    differ('stdout', wanted, r.stdout);
    differ('stderr', op.stderr.replace(/\/tmp\/\.cmd: line \d+: /g, 'bash: '), r.stderr);
  });
  return { differences, compared };
}

describe.skipIf(!there)('dom0 on the recorded board says what the recorded dom0 said', () => {
  test.each([
    ['01-vtd-assignable', 'vtd', undefined],
    ['02b-vtd-pv-clean', 'vtd', undefined],
    ['03-vtd-topology', 'vtd', undefined],
    ['10-phantom', 'vtd', undefined],
    ['21-caching-mode', 'vtd', undefined],
    ['41-hvm-amdvi', 'amd', undefined],
    ['43-amdvi-phantom', 'amd', undefined],
    ['70-vtd-faults', 'vtd', undefined],
    ['27-hide', 'vtd', 'console=hvc0 xen-pciback.hide=(02:00.0)(01:00.0)(01:00.1)'],
    ['40-amdvi', 'amd', undefined],
  ] as const)('%s', (name, kind, cmdline) => {
    const { compared, differences } = replay(name, kind, cmdline);
    expect(compared).toBeGreaterThan(10);
    expect(differences).toEqual([]);
  });
});
