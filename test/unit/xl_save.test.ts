/** `xl save`, as recorded of 4.17.7. @xen tools/xl/xl_saverestore.c, tools/libs/toollog/xtl_logger_stdio.c */
import { describe, expect, test } from 'vitest';
import { domainConfigToJson } from '../../src/toolstack/libxl/json.js';
import { makeDomainConfig } from '../../src/toolstack/libxl/schema.js';
import { xlHost } from './xl_host.js';

const PV = 'name="g"\ntype="pv"\nmemory=160\nkernel="/h1/vmlinuz"\n';
const HVM = 'name="g"\ntype="hvm"\nmemory=160\n';
const steps = (each: number, total: number): string[] =>
  Array.from({ length: 20 }, (_, i) => {
    const percent = String((i + 1) * 5).padStart(3);
    return `xc: progress: Frames: ${each * (i + 1)}/${total}  ${percent}%`;
  });
function host(cfg: string) {
  const h = xlHost({ release: '4.17', files: { '/cfg': cfg } });
  h.xl('pci-assignable-add', '02:00.0');
  h.xl('create', '/cfg');
  h.calls();
  return h;
}

describe('xl save', () => {
  test('of an HVM guest without PV drivers stops it, tells how far it is, and destroys it', () => {
    const h = host(`${HVM}pci=["02:00.0"]\n`);
    h.guests.acpi = false;
    const { exit, err } = h.xl('save', 'g', '/tmp/save');
    const [saving, ...lines] = err.trimEnd().split('\n');
    expect(saving).toMatch(/^Saving to \/tmp\/save new xl format \(info 0x3\/0x0\/\d+\)$/);
    expect([exit, lines]).toEqual([
      0,
      [
        'xc: info: Saving domain 1, type x86 HVM',
        ...steps(52_224, 0xff000),
        'xc: progress: End of stream: 0/0    0%',
        'libxl: warning: libxl_pci.c:2218:pci_remove_timeout: Domain 1:timed out waiting for DM to remove pci-pt-02_00.0',
      ],
    ]);
    expect(h.calls()).toContain('gethvmcontext');
    expect(h.xl('list').out).not.toContain('\ng ');
  });

  test('counts the length of the configuration, its zero and itself', () => {
    const h = host(PV);
    const { err } = h.xl('save', 'g', '/tmp/save');
    const length = Number(/\/(\d+)\)/.exec(err)![1]);
    const json = h.dom0.fs.readFile('/tmp/save') as string;
    expect(length).toBe(json.length + 5);
    expect(json).not.toContain('"domid"');
    expect(domainConfigToJson(makeDomainConfig()).endsWith('}\n')).toBe(true);
  });

  test('a guest that does not take the word goes on', () => {
    const h = host(PV);
    const { exit, err } = h.xl('save', 'g', '/tmp/save');
    expect([exit, err.trimEnd().split('\n').slice(1)]).toEqual([
      1,
      [
        'xc: info: Saving domain 1, type x86 PV',
        "libxl: error: libxl_dom_suspend.c:269:domain_suspend_common_pvcontrol_suspending: Domain 1:guest didn't acknowledge suspend, cancelling request",
        'Failed to save domain, resuming domain',
      ],
    ]);
    expect(h.xl('list').out).toContain('\ng ');
  });

  test('with -v each percent is told', () => {
    const { err } = host(HVM).xl('-v', 'save', 'g', '/tmp/save');
    expect(err).toContain('xc: detail: Frames: 11264/1044480    1%\n');
  });

  test('frames of an HVM guest are counted up to its highest one, above 4 GiB where it has memory there', () => {
    const { err } = host('name="g"\ntype="hvm"\nmemory=1024\nmaxmem=4096\n').xl('save', 'g', '/tmp/save');
    const total = Number(/Frames: \d+\/(\d+) +100%/.exec(err)![1]);
    expect(total).toBeGreaterThan(0x10_0000);
  });

  test('dom0 has no configuration', () => {
    const h = host(PV);
    expect(h.xl('save', '0', '/tmp/save')).toMatchObject({
      exit: 1,
      err: 'unable to retrieve domain configuration\n',
    });
  });
});
