import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/assert.js';
import { formatSbdf } from '../../src/base/sbdf.js';
import { readHostFile } from '../../src/inputs/host.js';
import { readLspci } from '../../src/inputs/lspci.js';
import { PciHost } from '../../src/pci/bus.js';
import { RootComplex } from '../../src/pci/dma.js';
import { EventStream } from '../../src/sim/events.js';
import { Ram } from '../../src/sim/ram.js';
import { ROOT } from '../support/built.js';

const CORPUS = path.join(ROOT, '../shared/corpus');
const there = fs.existsSync(CORPUS);

interface Row {
  readonly file: string;
  /** Functions by the number of bytes listed, as another reader counted them; 0 is none. */
  readonly counted: Map<number, number>;
}
/** `config bytes per function {'nohex': 28, 256: 14}` */
function rows(): Row[] {
  if (!there) return [];
  const lines = fs.readFileSync(path.join(CORPUS, 'INDEX.tsv'), 'utf8').split('\n');
  return lines.flatMap((line) => {
    const [kind, file, , special] = line.split('\t');
    if (kind !== 'lspci') return [];
    const sizes = /config bytes per function \{([^}]*)\}/.exec(special ?? '')?.[1] ?? '';
    const counted = new Map<number, number>();
    for (const [, size, n] of sizes.matchAll(/(\d+|'nohex'): (\d+)/g)) {
      // 254 is a line with a message of pcilib in it.
      const bytes = size === "'nohex'" ? 0 : size === '254' ? 256 : Number(size);
      counted.set(bytes, (counted.get(bytes) ?? 0) + Number(n));
    }
    return [{ file: file!, counted }];
  });
}
const withBytes = (r: Row): boolean => [...r.counted.keys()].some((size) => size > 0);
const dataOf = (file: string): Uint8Array => fs.readFileSync(path.join(CORPUS, file));

describe.skipIf(!there)('dumps of real machines', () => {
  test('the corpus is the one that was counted', () => {
    expect([rows().length, rows().filter(withBytes).length]).toEqual([60, 51]);
  });

  test.each(rows().filter(withBytes))(
    '$file: as many functions of each size as another reader counted',
    (row) => {
      const { functions, notes } = readLspci(row.file, dataOf(row.file));
      const gone = notes.filter((n) => /all ones|cannot name/.test(n)).length;
      let wanted = 0;
      for (const [size, n] of row.counted) if (size > 0) wanted += n;
      // Some files list functions first without bytes and then again with them; others were counted once a listing.
      expect(functions.length + gone).toBe(wanted);
      for (const [size, n] of row.counted) {
        if (size <= 256) continue;
        const read = functions.filter((f) => f.config.length === size).length;
        expect([size, read <= n && read >= n - gone]).toEqual([size, true]);
      }
    },
  );

  test.each(rows().filter((r) => !withBytes(r)))('$file: refused, as it has no bytes', ({ file }) => {
    expect(() => readLspci(file, dataOf(file))).toThrow(/but no config space bytes; take the dump again/);
  });

  test.each(rows().filter(withBytes))(
    '$file: every function whose bridges are there answers as dumped',
    ({ file }) => {
      const { host } = readHostFile(file, dataOf(file));
      const events = new EventStream();
      const pci = new PciHost(host.functions, events, new RootComplex(new Ram(1), events));
      const silent = host.functions.filter((f) => pci.functionAt(f.sbdf) === undefined);
      // A bridge whose range does not hold a bus that exists in the dump hides it: none of these machines has one.
      expect(silent.map((f) => formatSbdf(f.sbdf))).toEqual([]);
      for (const f of host.functions) {
        expect(pci.configRead(f.sbdf, 0, 4)).toBe(new DataView(f.config.buffer).getUint32(0, true));
      }
    },
  );

  test.each(rows().filter(withBytes))(
    '$file: cut anywhere it is read or refused, never anything else',
    ({ file }) => {
      const data = dataOf(file);
      for (let i = 1; i <= 20; i++) {
        const cut = Math.floor((data.length * i) / 21) + i;
        try {
          readLspci(file, data.subarray(0, cut));
        } catch (e) {
          expect(e).toBeInstanceOf(InputError);
          expect((e as Error).message).toMatch(/cut off|no config space bytes/);
        }
      }
    },
  );
});
