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
