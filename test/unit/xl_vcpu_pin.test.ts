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
