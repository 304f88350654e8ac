/**
 * `lspci -vv` of real machines, printed from their registers. One listing is of pciutils 3.9's form and
 * compared whole; of the others, which are of many versions, those lines whose form has not changed since.
 */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatSbdf } from '../../src/base/sbdf.js';
import { readLspci } from '../../src/inputs/lspci.js';
import { showVerbose } from '../../src/toolstack/shell/lspci_verbose.js';
import { dumpedDevice, listings, toldByKernel } from '../helpers/lspci_dump.js';
import { ROOT } from '../support/built.js';

const DIR = path.join(ROOT, '../shared/corpus/lspci');
const there = fs.existsSync(DIR);

/** Names, and what comes from firmware, ACPI or the driver core. */
const ELSEWHERE =
  /Subsystem:|^\t(DeviceName|Physical Slot|NUMA node|IOMMU group|Kernel (driver|modules)|Expansion ROM)/;
/** Lines that all versions print alike. */
const STABLE =
  /^\t(Control|Status|Latency|Bus|Secondary status|(Memory|I\/O) window \d|BridgeCtl.*16bInt):?|^\t16-bit|^\t\t\t?(Flags|Status|Masking|Vector table|PBA|AFC\w+|AFStatus|RootCtl|RootSta|SltCap|Changed|Caps|Arb|Ctrl|VC0|PRICtl|PRISta|PASIDC\w+|ATSC\w+|ARIC\w+|IOVC\w+|ACSC\w+|L1Sub\w+|PTM\w+|Max \w+ latency|VF offset|Supported Page|Initial VFs|HeaderLog|LaneErrStat|Desc|Link\d+|Addr|Port\w+Time|T_Common\w+): ?|^\t\t\t? ?MaxPayload \d+ bytes, MaxReadReq/;

/** What lines of that kind looked like in some old version. */
const OLD_FORMS = /Surpise|D0 PME-Enable|PASIDC\w+: \w+[+-],|PRI(Ctl|Sta): \w+-,/;
/** arm-n1sdp has half of the registers that its listing is of. */
const hasRegisters = (file: string): boolean =>
  file !== 'arm-n1sdp.txt' &&
  /^00: ([0-9a-f]{2} ){15}/m.test(fs.readFileSync(path.join(DIR, file), 'latin1')) &&
  /^\t(Control|Flags):/m.test(fs.readFileSync(path.join(DIR, file), 'latin1'));

/** Per function, lines of the listing that are chosen, and what ours prints of its registers. */
function* functionsOf(file: string, level: number, chosen: (line: string) => boolean) {
  const data = fs.readFileSync(path.join(DIR, file));
  const lists = listings(data.toString('latin1'));
  for (const f of readLspci(file, data).functions) {
    const full = formatSbdf(f.sbdf);
    const text = lists.get(full) ?? lists.get(full.slice(5)) ?? [];
    const wanted = text.filter((l) => l.startsWith('\t') && chosen(l));
    const device = { ...dumpedDevice(f), ...toldByKernel(text) };
    yield { bdf: full.slice(5), wanted, got: showVerbose(device, level).trimEnd().split('\n') };
  }
}

describe.skipIf(!there)('listings with registers', () => {
  test('genesys-adl-laptop.txt: every line of every function', () => {
    let lines = 0;
    for (const { bdf, wanted, got } of functionsOf('genesys-adl-laptop.txt', 2, (l) => !ELSEWHERE.test(l))) {
      expect([bdf, ...got.filter((l) => !ELSEWHERE.test(l))]).toEqual([bdf, ...wanted]);
      lines += wanted.length;
    }
    expect(lines).toBeGreaterThan(900);
  });

  test('lines that all versions print alike', () => {
    let lines = 0;
    const missing: string[] = [];
    for (const file of there ? fs.readdirSync(DIR).filter(hasRegisters) : [])
      for (const { bdf, wanted, got } of functionsOf(file, 2, (l) => STABLE.test(l) && !OLD_FORMS.test(l))) {
        const ours = new Set(got);
        missing.push(...wanted.filter((l) => !ours.has(l)).map((l) => `${file} ${bdf} ${l}`));
        lines += wanted.length;
      }
    expect(missing).toEqual([]);
    expect(lines).toBeGreaterThan(3400);
  });
});
