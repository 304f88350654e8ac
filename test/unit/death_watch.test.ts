/** The log of a waiting `xl -vvv create`, as recorded of 4.17.7. @xen tools/libs/light/libxl_domain.c */
import { expect, test } from 'vitest';
import { runAlone } from '../../src/sim/co.js';
import { runXlDaemons } from '../../src/toolstack/xl/daemon.js';
import { type XlHost, xlHost } from './xl_host.js';

const CFG = 'name="hvm1"\ntype="hvm"\nmemory=160\n';
function log(h: XlHost): string[] {
  runAlone(h.dom0.settle());
  runAlone(runXlDaemons(h.dom0));
  const text = h.dom0.fs.readFile('/var/log/xen/xl-hvm1.log');
  return (typeof text === 'string' ? text : '')
    .replaceAll(/0x[0-9a-f]+/g, '0x')
    .trimEnd()
    .split('\n');
}
const callback = 'libxl: debug: libxl_domain.c:';
const watch = 'watch w=0x wpath=@releaseDomain token=3/0';
const EVENT = `libxl: debug: libxl_event.c:750:watchfd_callback: ${watch}: event epath=@releaseDomain`;
const DONE = [
  `${callback}915:domain_death_xswatch_callback: [evg=0] all reported`,
  `${callback}977:domain_death_xswatch_callback: domain death search done`,
];

test('libxl looks for the domain at once and when xenstored tells of one that went', () => {
  const h = xlHost({ release: '4.17', files: { '/cfg': CFG } });
  h.xl('-vvv', 'create', '-p', '/cfg');
  const before = log(h);
  expect(before).toEqual([
    expect.stringMatching(/^Waiting for domain hvm1 \(domid 1\) to die \[pid \d+\]$/),
    `libxl: debug: libxl_event.c:812:libxl__ev_xswatch_register: ${watch}: register slotnum=3`,
    EVENT,
    `${callback}908:domain_death_xswatch_callback: Domain 1:[evg=0x] nentries=1 rc=1 1..1`,
    `${callback}919:domain_death_xswatch_callback: Domain 1:[evg=0x]   got=domaininfos[0] got->domain=1`,
    `${callback}947:domain_death_xswatch_callback: Domain 1:Exists shutdown_reported=0 dominf.flags=ffff010a`,
    ...DONE,
  ]);
  h.xl('destroy', 'hvm1');
  expect(log(h).slice(before.length)).toEqual([
    EVENT,
    `${callback}908:domain_death_xswatch_callback: Domain 1:[evg=0x] nentries=1 rc=0 0..0`,
    `${callback}919:domain_death_xswatch_callback: Domain 1:[evg=0x]   got=domaininfos[0] got->domain=-1`,
    `${callback}868:domain_death_occurred: Domain 1:empty list`,
    ...DONE,
    'Domain 1 has been destroyed.',
    `libxl: debug: libxl_event.c:849:libxl__ev_xswatch_deregister: ${watch}: deregister slotnum=3`,
    'xencall:buffer: debug: total allocations:4 total releases:4',
    'xencall:buffer: debug: current allocations:0 maximum allocations:2',
    'xencall:buffer: debug: cache current size:2',
    'xencall:buffer: debug: cache hits:2 misses:2 toobig:0',
    'xencall:buffer: debug: total allocations:0 total releases:0',
    'xencall:buffer: debug: current allocations:0 maximum allocations:0',
    'xencall:buffer: debug: cache current size:0',
    'xencall:buffer: debug: cache hits:0 misses:0 toobig:0',
  ]);
});

test('a domain that is gone while one with a higher number is there is missing from the list', () => {
  const h = xlHost({ files: { '/cfg': CFG, '/two': CFG.replace('hvm1', 'hvm2') } });
  h.xl('-vvv', 'create', '-p', '/cfg');
  h.xl('create', '-p', '/two');
  log(h);
  h.xl('destroy', 'hvm1');
  const text = log(h).join('\n');
  expect(text).toContain('nentries=1 rc=1 2..2\n');
  expect(text).toContain('got=domaininfos[0] got->domain=2\n');
  expect(text).toContain('domain_death_occurred: Domain 1:missing from list\n');
  // A list is asked for in the same way under all releases.
  expect(text).toContain('total allocations:4 total releases:4\n');
});

test('a shutdown of another domain makes it look, too', () => {
  const h = xlHost({ files: { '/cfg': CFG, '/two': CFG.replace('hvm1', 'hvm2') } });
  h.xl('-vvv', 'create', '/cfg');
  h.xl('create', '/two');
  const before = log(h).length;
  runAlone(h.dom0.hv.shutdown(2, 0));
  expect(log(h).slice(before).join('\n')).toContain('Domain 1:Exists shutdown_reported=0');
});

test('a shutdown is reported once', () => {
  const h = xlHost({ release: '4.17', files: { '/cfg': `${CFG}on_poweroff="preserve"\n` } });
  h.xl('-vvv', 'create', '/cfg');
  log(h);
  runAlone(h.dom0.hv.shutdown(1, 0));
  const text = log(h).join('\n');
  expect(text).toMatch(/Exists shutdown_reported=0 dominf\.flags=1[0-9a-f][26]$/m);
  expect(text.match(/960:domain_death_xswatch_callback: {2}shutdown reporting/g)).toHaveLength(1);
});

test('without -vvv it says no more than what came of the domain', () => {
  const h = xlHost({ release: '4.17', files: { '/cfg': CFG } });
  h.xl('create', '/cfg');
  h.xl('destroy', 'hvm1');
  expect(log(h)).toEqual([expect.stringContaining('Waiting for domain'), 'Domain 1 has been destroyed.']);
});
