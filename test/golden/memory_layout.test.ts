/** Where the recorded host puts its memory: expected values are the recordings' own. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { boardOf } from '../../src/cli/golden/board.js';
import { RecordedHost } from '../../src/cli/golden/recorded_host.js';
import { readRecording } from '../../src/cli/golden/recording.js';
import type { Session } from '../../src/cli/session.js';
import { runAlone } from '../../src/sim/co.js';

const GOLDEN = path.resolve('../shared/golden');

function boot(): Session {
  const recording = readRecording(path.join(GOLDEN, '03-vtd-topology'));
  return new RecordedHost(recording, boardOf(recording, path.join(GOLDEN, 'topology.json'))).session;
}

describe.skipIf(!fs.existsSync(GOLDEN))('memory of the recorded host', () => {
  test('Xen and dom0 leave 2013 of 3071 MiB', () => {
    // Recording 01, xl info.
    const { freePages, totalPages } = boot().machine.hypercalls.physInfo();
    expect([totalPages, freePages].map((n) => Math.floor(n / 256))).toEqual([3071, 2013]);
  });

  test('a guest gets the frames it has in the recordings', () => {
    const session = boot();
    session.run('xl pci-assignable-add 09:01.0');
    expect(session.run('xl create /h1/cfg/pv1ppb.cfg').exit).toBe(0);
    const d = session.machine.xen.domains.get(1)!;
    // Recording 03: `cr3: pfn 0x4a03 mfn 0x7ea03`.
    expect(d.pvGfns.get(0x4a00)).toBe(0x7ea00);
    // Recording 50, slpt-pv1-hotplug.json: what it has above 4 GiB.
    const high = [...d.pvGfns.values()].filter((mfn) => mfn >= 0x10_0000).sort((a, b) => a - b);
    expect([high.length, high[0], high.at(-1)]).toEqual([19, 0x12_f800, 0x13_fa00]);
  });

  test('its bounce buffer lies as low as there is memory', () => {
    const session = boot();
    session.run('xl pci-assignable-add 09:01.0; xl create /h1/cfg/pv1ppb.cfg');
    session.guests.slow = false;
    runAlone(session.dom0.settle());
    const d = session.machine.xen.domains.get(1)!;
    // Recording 50, slpt-pv1.json: 0x7b00000 to 0x7f00000, in pieces of 256 KiB.
    const low = d.extents.filter((x) => x.mfn < 0x1_0000).sort((a, b) => a.mfn - b.mfn);
    expect(low.map((x) => x.mfn)).toEqual(Array.from({ length: 16 }, (_, i) => 0x7b00 + i * 64));
    expect([...new Set(low.map((x) => x.order)), d.totPages]).toEqual([6, 40_960]);
  });

  test('/proc/iomem has what the recorded one has of PCI functions and bridges', () => {
    const recorded = readRecording(path.join(GOLDEN, '01-vtd-assignable')).records;
    const ofPci = (text: string): string[] =>
      text.split('\n').flatMap((l) => /^ *(\S+ : (?:PCI Bus 0000:(?!00$)|0000:).*)$/.exec(l)?.[1] ?? []);
    const theirs = ofPci(recorded.find((r) => r.cmd === 'cat /proc/iomem')!.stdout);
    const ours = ofPci(boot().run('cat /proc/iomem').stdout);
    expect(theirs.length).toBeGreaterThan(40);
    expect(theirs.filter((l) => !ours.includes(l))).toEqual([]);
  });
});
