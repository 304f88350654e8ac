/** Where dom0's virtual CPU was, out of flushes of interrupt entries and dumps of where they go. */
import { expect, test } from 'vitest';
import type { GoldenRecord } from '../../src/cli/golden/recording.js';
import { vcpuPlaces } from '../../src/cli/golden/vcpu_places.js';

const record = (flushed: readonly number[], dump?: Readonly<Record<number, number>>): GoldenRecord => ({
  cmd: 'true',
  stdout: '',
  stderr: '',
  xen_log: [],
  dom0_kernel_log: [],
  vtd_trace: flushed.map((i) => `vtd_inv_desc_iec granularity 0x1 index 0x${i.toString(16)} mask 0x0   x2`),
  ...(dump === undefined
    ? {}
    : {
        debug_keys: {
          V: Object.entries(dump).map(
            ([i, cpus]) =>
              `(XEN) R:  ${Number(i).toString(16).padStart(4, '0')}:  1   0  ff00 c8    0   0 00000${cpus}00   1  1  1  1 1`,
          ),
        },
      }),
});

test('a dump tells of the last move of each entry before it, and of pins bound until then', () => {
  const records = [
    record([]),
    record([0x3]),
    record([0x22, 0x3, 0x15, 0x3]),
    record([], { 3: 1, 21: 2, 22: 3, 34: 2 }),
    record([0x3]),
  ];
  const places = vcpuPlaces(records);
  const of = (i: number) => places.get(records[i]!)!;
  expect(of(1)).toMatchObject({ before: [], after: [{ entry: 0x3, cpu: undefined }] });
  expect(of(2).before).toEqual([
    { entry: 0x22, cpu: 1 },
    { entry: 0x3, cpu: undefined },
  ]);
  expect(of(2).after).toEqual([{ entry: 0x3, cpu: 0 }]);
  // An entry that goes to both CPUs tells nothing.
  expect([...of(2).boundOn]).toEqual([[0x15, 1]]);
  expect(of(4).after).toEqual([{ entry: 0x3, cpu: undefined }]);
});
