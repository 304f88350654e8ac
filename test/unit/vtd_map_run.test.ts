import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { iommuMap, iommuUnmap } from '../../src/hypervisor/passthrough/iommu.js';
import { IOMMUF } from '../../src/iommu/driver/types.js';
import { Machine } from '../../src/machine.js';
import { runAlone } from '../../src/sim/co.js';
import { HOSTS } from '../support/hosts.js';

const READ = IOMMUF.readable;
const READ_WRITE = IOMMUF.readable | IOMMUF.writable;

/** Everything that memory holds after dom0 got its tables and these ranges were mapped for it. */
function memoryAfter(
  ranges: readonly { dfn: number; mfn: number; count: number; flags: number; unmap: boolean }[],
  watched: boolean,
  cmdline: string,
): unknown {
  const sinks = watched ? [() => {}] : [];
  const m = Machine.boot(HOSTS.intel(), { sinks, cmdline });
  const d = m.xen.hwdom;
  const results: unknown[] = [];
  for (const r of ranges) {
    const acc = { flags: 0 };
    const rc = r.unmap
      ? runAlone(iommuUnmap(m.xen, d, r.dfn, r.count, 0, acc))
      : runAlone(iommuMap(m.xen, d, r.dfn, r.mfn, r.count, r.flags, acc));
    results.push(rc, acc.flags);
    m.xen.services.processPendingSoftirqs();
  }
  const words = createHash('sha1').update(m.hw.ram.words.subarray(0, (m.hw.ram.touched + 1) * 1024));
  return [results, m.hw.ram.touched, words.digest('hex'), d.iommu.pgtables];
}

const near = (at: number) => fc.integer({ min: at, max: at + 1200 });
const range = fc
  .record({
    dfn: fc.oneof(near(0x100_0000), near(0x100_0000 + 2 ** 18 - 600)),
    shift: fc.constantFrom(0, 0, 512, 1, -512),
    count: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 400, max: 3000 })),
    flags: fc.constantFrom(READ_WRITE, READ_WRITE, READ),
    unmap: fc.constantFrom(false, false, false, true),
  })
  .map(({ dfn, shift, ...rest }) => ({ dfn, mfn: dfn + shift, ...rest }));

/** Pages where no table is yet, from the middle of one on; and the same once more, with fewer rights. */
const middle = { dfn: 0x100_0008, mfn: 0x100_0008, count: 30, flags: READ_WRITE, unmap: false };
const twice = [middle, { ...middle, flags: READ }];

test.each(['', 'iommu=no-superpages dom0-iommu=strict'])(
  'pages mapped in runs leave the memory that pages mapped one by one leave (%s)',
  (cmdline) => {
    fc.assert(
      fc.property(fc.array(range, { maxLength: 6 }), (ranges) => {
        expect(memoryAfter(ranges, false, cmdline)).toEqual(memoryAfter(ranges, true, cmdline));
      }),
      { numRuns: 12, examples: [[[middle]], [twice]] },
    );
  },
);
