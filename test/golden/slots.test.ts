/**
 * Physical slots of the recorded boards: dom0's kernel named them on the console while it booted, and lspci where their
 * cards are.
 */
import fs from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { q35Slots } from '../../src/cli/golden/q35_slots.js';
import { readTopology } from '../../src/inputs/topology.js';
import { listings } from '../helpers/lspci_dump.js';

const GOLDEN = path.resolve('../shared/golden');
const there = fs.existsSync(GOLDEN);
const slots = () =>
  q35Slots(readTopology('topology.json', fs.readFileSync(path.join(GOLDEN, 'topology.json'))));

describe.skipIf(!there)('physical slots', () => {
  const logs = there
    ? fs.readdirSync(GOLDEN).flatMap((n) => {
        const file = path.join(GOLDEN, n, 'serial-full.log.gz');
        return fs.existsSync(file) ? [[n, file] as const] : [];
      })
    : [];

  test.each(logs)('%s: the kernel registered slots of these names, in this order', (_, file) => {
    const text = gunzipSync(fs.readFileSync(file)).toString('latin1');
    const registered = [...text.matchAll(/acpiphp: Slot \[([\d-]+)\] registered/g)].map((m) => m[1]);
    expect(registered.length).toBeGreaterThan(60);
    expect(slots().map((s) => s.name)).toEqual(registered);
  });

  test('lspci found each card of 01 in its slot, and the others in none', () => {
    const ops = JSON.parse(fs.readFileSync(path.join(GOLDEN, '01-vtd-assignable', 'ops.json'), 'utf8')) as {
      cmd: string;
      stdout: string;
    }[];
    const shown = [...listings(ops.find((o) => o.cmd === 'lspci -vvv')!.stdout)];
    const found = shown.map(([bdf, lines]) => [
      bdf,
      lines.find((l) => l.startsWith('\tPhysical Slot: '))?.slice(16),
    ]);
    const made = shown.map(([bdf]) => {
      const [bus, device] = bdf.split(/[:.]/).map((n) => Number.parseInt(n, 16));
      return [bdf, slots().find((s) => s.bus === bus && s.device === device)?.name];
    });
    expect(made).toEqual(found);
  });
});
