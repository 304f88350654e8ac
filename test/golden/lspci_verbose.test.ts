/**
 * `lspci -vvv` of the recorded boards: what ours prints of the recorded registers and resources is, line by line, what
 * pciutils 3.9.0 printed of them.
 */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatSbdf } from '../../src/base/sbdf.js';
import { readLspci } from '../../src/inputs/lspci.js';
import type { LspciDevice } from '../../src/toolstack/shell/lspci_device.js';
import { showVerbose } from '../../src/toolstack/shell/lspci_verbose.js';
import { dumpedDevice, listings } from '../helpers/lspci_dump.js';

const GOLDEN = path.resolve('../shared/golden');
const there = fs.existsSync(GOLDEN);

interface Op {
  readonly cmd: string;
  readonly stdout: string;
}
const ops = (name: string): Op[] =>
  JSON.parse(fs.readFileSync(path.join(GOLDEN, name, 'ops.json'), 'utf8')) as Op[];

/** From ACPI and from the module tables: no part of configuration space. */
const ELSEWHERE = /^\t(Physical Slot|Kernel (driver|modules))/;
/** What `lspci -vvv` printed below the first line of each function. */
const recorded = (text: string): Map<string, string[]> =>
  new Map(
    [...listings(text)].map(([bdf, lines]) => [
      bdf,
      lines.filter((l) => l.startsWith('\t') && !ELSEWHERE.test(l)),
    ]),
  );

function printed(devices: readonly LspciDevice[]): Map<string, string[]> {
  return new Map(
    devices.map((d) => [formatSbdf(d.sbdf).slice(5), showVerbose(d, 3).trimEnd().split('\n')] as const),
  );
}

/** Records 4 to 7 of 01 were taken in a row: ids, text, registers and resources of one moment. */
function board(): { wanted: Map<string, string[]>; got: Map<string, string[]> } {
  const all = ops('01-vtd-assignable');
  const [ids, text, dump, sysfs] = [4, 5, 6, 7].map((i) => all[i]!.stdout) as [
    string,
    string,
    string,
    string,
  ];
  const resources = new Map(
    sysfs
      .split('== 0000:')
      .slice(1)
      .map((part) => {
        const [bdf, ...rest] = part.trimEnd().split('\n');
        const rows = rest.map((l) => l.split(' ').map(Number) as [number, number, number]);
        return [bdf!, rows.map(([start, end, flags]) => ({ start, end, flags }))] as const;
      }),
  );
  const subsystems = new Map(
    ids
      .trimEnd()
      .split('\n')
      .map((l) => l.split(' '))
      .map((w) => [w[0]!.slice(5), [Number(w[4]), Number(w[5])] as const] as const),
  );
  const irqs = new Map(
    [...listings(text)].map(([bdf, l]) => [bdf, Number(/IRQ (\d+)/.exec(l.join('\n'))?.[1] ?? 0)]),
  );
  const { functions } = readLspci('dump', new TextEncoder().encode(dump));
  const devices = functions.map((f) => {
    const bdf = formatSbdf(f.sbdf).slice(5);
    const [subsystemVendor, subsystemDevice] = subsystems.get(bdf)!;
    return {
      ...dumpedDevice(f),
      subsystemVendor,
      subsystemDevice,
      irq: irqs.get(bdf)!,
      resources: resources.get(bdf)!,
    };
  });
  return { wanted: recorded(text), got: printed(devices) };
}

describe.skipIf(!there)('lspci -vvv of the recorded registers', () => {
  test('01: every line of every function of the VT-d board', () => {
    const { wanted, got } = board();
    expect([...wanted.values()].flat().length).toBeGreaterThan(900);
    expect([...got.keys()]).toEqual([...wanted.keys()]);
    for (const [bdf, lines] of wanted) expect([bdf, ...got.get(bdf)!]).toEqual([bdf, ...lines]);
  });

  test('71b: the AMD IOMMU with its overlapping capabilities', () => {
    const { stdout } = ops('71b-amd-events').find((o) => o.cmd.includes('-xxxx'))!;
    const { functions } = readLspci('dump', new TextEncoder().encode(stdout));
    const got = printed(functions.map((f) => dumpedDevice(f)));
    // The command printed it twice, then the dump.
    expect(got).toEqual(recorded(stdout.slice(0, stdout.indexOf('\n\n'))));
  });
});
