/** `xl shutdown` and `xl reboot` with guests that answer control/shutdown. @xen tools/xl/xl_vmcontrol.c */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { readHostPath } from '../../src/cli/files.js';
import { Session } from '../../src/cli/session.js';
import { ROOT } from '../support/built.js';

const HOST = path.join(ROOT, 'examples/gpu-passthrough/host');
const session = (): Session => {
  const guest = (name: string, more = ''): string => `name="${name}"\ntype="hvm"\nmemory=256\n${more}`;
  const files = {
    '/root/nic.cfg': guest('nic', "pci=['02:00.0']\n"),
    '/root/deaf.cfg': guest('deaf', 'xen_platform_pci=0\n'),
    '/root/pv.cfg': 'name="pv"\ntype="pv"\nkernel="/root/vmlinuz"\nmemory=160\n',
    '/root/vmlinuz': 'bzImage',
    '/root/kept.cfg': guest('kept', 'on_poweroff="preserve"\n'),
  };
  return new Session(readHostPath(HOST).host, { files });
};
const names = (s: Session): string[] =>
  s
    .run('xl list')
    .stdout.split('\n')
    .slice(1, -1)
    .map((line) => line.split(' ')[0]!);

describe('xl shutdown', () => {
  test('ends a guest as its configuration says, and its device goes to quarantine', () => {
    const s = session();
    s.run('xl pci-assignable-add 02:00.0');
    expect(s.run('xl create nic.cfg').exit).toBe(0);
    const r = s.run('xl shutdown nic');
    expect([r.exit, r.stdout, r.stderr]).toEqual([0, '', 'Shutting down domain 1\n']);
    expect(names(s)).toEqual(['Domain-0']);
    expect(s.run('iommu show 02:00.0').stdout).toContain('owner d[IO]');
    expect(s.run('cat /var/log/xen/xl-nic.log').stdout).toContain(
      'Domain 1 has shut down, reason code 0 0x0\n',
    );
  });

  test('an acknowledged word is taken out of the store', () => {
    const s = session();
    s.run('xl create kept.cfg');
    expect(s.run('xenstore-read /local/domain/1/control/feature-poweroff').stdout).toBe('1\n');
    s.run('xl shutdown kept');
    expect(s.run('xenstore-read /local/domain/1/control/shutdown').stdout).toBe('\n');
    expect(s.run('xl list').stdout).toMatch(/^kept +1 +\d+ +1 +---s-- /m);
  });

  test('a PV guest listens too', () => {
    const s = session();
    expect(s.run('xl create pv.cfg').exit).toBe(0);
    expect(s.run('xl shutdown -a').stderr).toBe('Shutting down domain 1\n');
    expect(names(s)).toEqual(['Domain-0']);
  });

  test.each([
    ['-w', ''],
    ['-ww', 'Domain 1 continue waiting for death\nDomain 1 has been destroyed\n'],
  ])('%s waits and tells', (flag, more) => {
    const s = session();
    s.run('xl create nic.cfg pci=[]');
    const told = 'Waiting for 1 domains\nDomain 1 has been shut down, reason code 0\n';
    expect(s.run(`xl shutdown ${flag} nic`).stderr).toBe(`Shutting down domain 1\n${told}${more}`);
  });

  test('a guest without the platform device has nobody who listens', () => {
    const s = session();
    s.run('xl create deaf.cfg');
    const r = s.run('xl shutdown deaf');
    expect([r.exit, r.stderr]).toEqual([
      1,
      'Shutting down domain 1\nPV control interface not available: external graceful shutdown not possible.\n' +
        'Use "-F" to fallback to ACPI power event.\nshutdown failed (rc=-10)\n',
    ]);
    expect(names(s)).toEqual(['Domain-0', 'deaf']);
  });
});

test('who waits for a guest that does not listen waits until he presses Ctrl-C', () => {
  const s = session();
  s.run('xl create deaf.cfg');
  expect(s.run('xl shutdown -F -w deaf').exit).toBe(130);
  expect(names(s)).toEqual(['Domain-0', 'deaf']);
});

test('xl reboot makes the guest anew, with another id', () => {
  const s = session();
  s.run('xl pci-assignable-add 02:00.0');
  s.run('xl create nic.cfg');
  expect(s.run('xl reboot nic').stderr).toBe('Rebooting domain 1\n');
  expect(s.run('xl domid nic').stdout).toBe('2\n');
  expect(s.run('xl pci-list nic').stdout).toContain('0000:02:00.0');
});
