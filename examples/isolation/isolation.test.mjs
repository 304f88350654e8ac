// Does passthrough stay isolated on this machine? Put your own folder in place of the example host:
//   lspci.txt (sudo lspci -vvnnxxxx), DMAR or IVRS (/sys/firmware/acpi/tables), and docs/host.md for the rest.
// Runs with node --test, and with `import { test } from 'vitest'` as well.
import assert from 'node:assert';
import fs from 'node:fs';
import { test } from 'node:test';
import { HOST_FILES, readHost } from 'xen-passthrough-sim';
import { isolation } from 'xen-passthrough-sim/check';

const folder = new URL('../gpu-passthrough/host/', import.meta.url);
const files = HOST_FILES.filter((name) => fs.existsSync(new URL(name, folder)));
const { host } = readHost(
  'host',
  new Map(files.map((name) => [name, fs.readFileSync(new URL(name, folder))])),
);

test('no device of the machine reaches memory that is not its owner’s', () => {
  const verdict = isolation({
    host,
    runs: 20,
    commands: 40,
    require: ['assign 0', 'move guest -> quarantine', 'dma lands', 'dma fault'],
    replay: process.env.XPSIM_REPLAY,
  });
  assert.equal(verdict, 'holds');
});
