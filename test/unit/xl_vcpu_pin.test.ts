/** `xl vcpu-pin` and `cpus=`: a virtual CPU goes where it may run, and its interrupts after it. @xen tools/xl/xl_vcpu.c */
import { expect, test } from 'vitest';
import { xlHost } from './xl_host.js';

const FILES = {
  '/h1/cfg/two.cfg': 'name="two"\ntype="pv"\nmemory=160\nvcpus=1\ncpus="1"\nkernel="/h1/vmlinuz"\n',
};

test('xl vcpu-pin 0 0 1 sends dom0 to the second CPU, and each of its interrupts is asked to follow', () => {
  const h = xlHost();
  const { xen } = h.machine;
  const bound = [...xen.irqs.descs.values()].filter(
    (d) => d.guests.includes(xen.hwdom) && d.handler !== 'none',
  );
  expect(bound.length).toBeGreaterThan(0);
  expect(h.xl('vcpu-pin', '0', '0', '1')).toEqual({ exit: 0, out: '', err: '' });
  expect([xen.hwdom.processor, ...new Set(bound.map((d) => d.pendingMask))]).toEqual([1, 2]);
  // It may stay where it is.
  expect(h.xl('vcpu-pin', 'Domain-0', 'all', '0-1').exit).toBe(0);
  expect(xen.hwdom.processor).toBe(1);
});

test('a guest with cpus="1" starts on the second CPU', () => {
  const h = xlHost({ files: FILES });
  expect(h.xl('create', '/h1/cfg/two.cfg').exit).toBe(0);
  expect([...h.machine.xen.domains.values()].find((d) => d.domid === 1)?.processor).toBe(1);
});

test('what xl vcpu-pin refuses', () => {
  const h = xlHost();
  expect(h.xl('vcpu-pin', '0', 'x', '1').err).toBe('Error: Invalid argument x as VCPU.\n');
  expect(h.xl('vcpu-pin', '-f', '0', 'all', '1').err).toBe("Error: --force and 'all' as VCPU not allowed.\n");
  expect(h.xl('vcpu-pin', '0', '0', 'q').err).toBe('Invalid pcpu range: q.\n');
  const none = h.xl('vcpu-pin', '0', '0', '7');
  expect(none).toEqual({
    exit: 1,
    out: '',
    err: "libxl: error: libxl_sched.c:62:libxl__set_vcpuaffinity: Setting vcpu affinity: Invalid argument\nCould not set affinity for vcpu `0'.\n",
  });
  expect(h.xl('vcpu-pin', '0', '0', '-').err).toBe("Could not set affinity for vcpu `0'.\n");
  expect(h.xl('vcpu-pin', '0', 'all', '7')).toMatchObject({ exit: 0 });
  expect(h.xl('-N', 'vcpu-pin', '0', '0', '1', 'all').out).toBe('cpumap: 1 all\n');
});

test('-f with nothing to set succeeds, and a number of a virtual CPU is cut to 32 bits', () => {
  const h = xlHost();
  expect(h.xl('vcpu-pin', '-f', '0', '0', '-', '-').exit).toBe(0);
  expect(h.xl('vcpu-pin', '0', '4294967296', '1').exit).toBe(0);
  expect(h.machine.xen.hwdom.processor).toBe(1);
  expect(h.xl('vcpu-pin', '0', '9'.repeat(30), '1').err).toContain(
    "Could not set affinity for vcpu `9223372036854775807'.\n",
  );
});

test('a set without CPUs ends xl before Xen hears of it, but not with --ignore-global-affinity-masks', () => {
  const h = xlHost({ files: FILES });
  const empty = { exit: 1, out: '', err: 'vcpu hard affinity map is empty\n' };
  expect(h.xl('vcpu-pin', '0', '0', '999')).toEqual(empty);
  expect(h.xl('vcpu-pin', '0', '0', '^0')).toEqual(empty);
  expect(h.xl('vcpu-pin', '-i', '0', '0', '^0').err).toContain('Setting vcpu affinity: Invalid argument\n');
  expect(h.xl('create', '/h1/cfg/two.cfg', 'cpus="^1"').err).toContain(empty.err);
  expect(h.xl('create', '-i', '/h1/cfg/two.cfg', 'cpus="^1"').err).toContain(
    "setting affinity failed on vcpu `0'\n",
  );
});

test('a domain that is not there: libxl says so since 4.18', () => {
  const why =
    'libxl: error: libxl_domain.c:354:libxl_domain_info: Domain 77:Getting domain info: No such process\n';
  const old = xlHost({ release: '4.17' });
  expect(xlHost().xl('vcpu-pin', '77', '0', '1').err).toBe(`${why}Could not get domain info\n`);
  expect(old.xl('vcpu-pin', '77', '0', '1').err).toBe('Could not get domain info\n');
  expect(xlHost().xl('list', '77').err).toBe(`${why}Error: Domain '77' does not exist.\n`);
});

test('CPUs that the host does not have are told with -vvv', () => {
  const h = xlHost();
  const told =
    'libxl: debug: libxl_sched.c:74:libxl__set_vcpuaffinity: New hard affinity for vcpu 0 has unreachable cpus\n';
  expect(h.xl('-vvv', 'vcpu-pin', '0', '0', 'all').err).toContain(told);
  expect(h.xl('-vvv', 'vcpu-pin', '0', '0', '0-1').err).not.toContain(told);
});
