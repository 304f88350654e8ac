/**
 * What `xl -vvv` counts of hypercall buffers, as Debian's xl 4.17.7 prints it; `xc_domain_getinfo_single` of 4.18 takes one
 * buffer where the list takes two.
 */
import { describe, expect, test } from 'vitest';
import { xlHost } from './xl_host.js';

const PV = 'name="pv1"\ntype="pv"\nmemory=160\nkernel="/h1/vmlinuz"\n';
type Counts = readonly [
  total: number,
  most: number,
  cached: number,
  hits: number,
  misses: number,
  big: number,
];

function counts(err: string): Counts | undefined {
  const at = err.lastIndexOf('total allocations', err.lastIndexOf('total allocations') - 1);
  const text = err.slice(at);
  const of = (form: RegExp): number => Number(form.exec(text)?.[1]);
  return [
    of(/total allocations:(\d+)/),
    of(/maximum allocations:(\d+)/),
    of(/cache current size:(\d+)/),
    of(/cache hits:(\d+)/),
    of(/misses:(\d+)/),
    of(/toobig:(\d+)/),
  ];
}

describe('hypercall buffers of 4.17.7', () => {
  const h = xlHost({ release: '4.17', files: { '/cfg': PV } });
  h.xl('pci-assignable-add', '02:00.0');
  h.xl('create', '/cfg');
  test.each([
    ['list', [16, 2, 1, 11, 1, 4]],
    ['domid pv1', [16, 2, 1, 11, 1, 4]],
    ['pci-assignable-list', [8, 1, 1, 7, 1, 0]],
    ['info', [14, 2, 2, 12, 2, 0]],
    ['debug-keys Q', [10, 2, 2, 8, 2, 0]],
    ['pci-attach pv1 07:00.0', [18, 2, 2, 12, 2, 4]],
    ['pause pv1', [17, 2, 1, 12, 1, 4]],
    ['unpause pv1', [19, 2, 2, 13, 2, 4]],
    ['list -l pv1', [51, 2, 2, 39, 2, 10]],
  ] as const)('%s', (command, expected) => {
    expect(counts(h.xl('-vvv', ...command.split(' ')).err)).toEqual(expected);
  });

  test('a domain without devices comes', () => {
    h.xl('destroy', 'pv1');
    expect(counts(h.xl('-vvv', 'create', '/cfg').err)).toEqual([103, 3, 3, 91, 3, 9]);
  });
});

// As Debian's xl 4.17.7 counted on a host of 3 GiB with an AMD IOMMU.
describe('hypercall buffers of an HVM guest of 4.17.7', () => {
  const HVM =
    'name="hvm1"\ntype="hvm"\nmemory=160\nvcpus=1\nserial="pty"\nvnc=0\nsdl=0\nvga="none"\n' +
    'tsc_mode="native"\ncpuid="host,rdtscp=0"\nkernel="/h1/vmlinuz"\n';
  const host = (pci: string) => {
    const h = xlHost({ release: '4.17', files: { '/cfg': `${HVM}${pci}` } });
    h.xl('pci-assignable-add', '02:00.0');
    return h;
  };

  test('is made', () => {
    const h = host('');
    expect(counts(h.xl('-vvv', 'create', '-p', '/cfg').err)).toEqual([203, 3, 3, 190, 3, 10]);
  });
  test('with a device, whose connection to QEMU has a lock of its own', () => {
    const h = host('pci=["02:00.0"]\n');
    expect(counts(h.xl('-vvv', 'create', '-p', '/cfg').err)).toEqual([228, 3, 3, 214, 3, 11]);
  });
  test('gets a device, or not', () => {
    const h = host('passthrough="enabled"\n');
    h.xl('create', '/cfg');
    expect(counts(h.xl('-vvv', 'pci-attach', 'hvm1', '02:00.0').err)).toEqual([57, 2, 2, 46, 2, 9]);
    h.guests.acpi = false;
    h.xl('pci-detach', '-f', 'hvm1', '02:00.0');
    // QEMU still has it.
    expect(counts(h.xl('-vvv', 'pci-attach', 'hvm1', '02:00.0').err)).toEqual([29, 2, 2, 22, 2, 5]);
  });
  test('goes', () => {
    const h = host('');
    h.xl('create', '-p', '/cfg');
    const { err } = h.xl('-vvv', 'destroy', 'hvm1');
    expect(counts(err)).toEqual([35, 2, 2, 26, 2, 7]);
    expect(err).toContain('libxl: debug: libxl_aoutils.c:649:libxl__kill_xs_path: Device Model signaled\n');
    expect(err).toContain(
      'libxl: debug: libxl_linux.c:234:libxl__get_hotplug_script_info: Domain 1:backend_kind 6, no need to execute scripts\n' +
        'libxl: debug: libxl_device.c:1254:device_hotplug: Domain 1:No hotplug script to execute\n',
    );
  });
});

test('4.18: a back end without scripts has its name', () => {
  const h = xlHost({ files: { '/cfg': 'name="h"\ntype="hvm"\nmemory=160\n' } });
  h.xl('create', '/cfg');
  expect(h.xl('-vvv', 'destroy', 'h').err).toContain(
    'Domain 1:backend_kind vkbd, no need to execute scripts\n',
  );
});

test('4.18: one domain is one buffer, and its label two', () => {
  const h = xlHost({ files: { '/cfg': PV } });
  h.xl('create', '/cfg');
  expect(counts(h.xl('-vvv', 'unpause', 'pv1').err)?.[0]).toBe(18);
});

// libxl_domain.c retrieve_domain_configuration_end: the store decides which of the stored devices there are.
test('xl list -l leaves out a device that was detached, with a warning', () => {
  const h = xlHost({ files: { '/cfg': `${PV}pci=["02:00.0"]\n` } });
  h.xl('pci-assignable-add', '02:00.0');
  h.xl('create', '/cfg');
  expect(h.xl('list', '-l', 'pv1').out).toContain('"bus": 2');
  h.xl('pci-detach', 'pv1', '02:00.0');
  const { out, err } = h.xl('list', '-l', 'pv1');
  expect(out).not.toContain('"bus": 2');
  expect(err).toBe(
    'libxl: warning: libxl_domain.c:2601:retrieve_domain_configuration_end: Domain 1:' +
      'Device present in JSON but not in xenstore, ignored\n',
  );
});
