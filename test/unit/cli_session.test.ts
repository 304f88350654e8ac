/** A session on a whole host: the example of the guide, the simulator's own commands, records, scripts. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/assert.js';
import { readHostPath } from '../../src/cli/files.js';
import { Recorder } from '../../src/cli/recorder.js';
import { parseScript } from '../../src/cli/script.js';
import { Session, type SessionOptions } from '../../src/cli/session.js';
import { Terminal } from '../../src/cli/terminal.js';
import { collapse, traceLine } from '../../src/cli/trace.js';
import type { CommandResult } from '../../src/toolstack/shell/shell.js';
import { q35 } from '../helpers/q35.js';
import { ROOT } from '../support/built.js';

const EXAMPLE = path.join(ROOT, 'examples/gpu-passthrough');
const example = (o: SessionOptions = {}): Session => {
  const files: Record<string, string> = {};
  for (const f of fs.readdirSync(EXAMPLE)) {
    if (f.endsWith('.cfg')) files[`/root/${f}`] = fs.readFileSync(path.join(EXAMPLE, f), 'utf8');
  }
  return new Session(readHostPath(path.join(EXAMPLE, 'host')).host, { files, ...o });
};
const PCIBACK = '/sys/bus/pci/drivers/pciback';

describe('hiding a device', () => {
  test('FT-F10 pci-assignable-add unbinds, remembers the driver, adds the slot, binds, and quarantines', () => {
    const s = example();
    const seen: string[] = [];
    s.machine.hw.events.attach((e) => {
      if (e.kind === 'sysfs' && e.op === 'write')
        seen.push(`${e.path.replace('/sys/bus/pci/', '')} ${e.value}`);
      if (e.kind === 'xenstore' && e.op === 'write') seen.push(`${e.path} ${e.value}`);
    });
    expect(s.run('xl pci-assignable-add 01:00.0').exit).toBe(0);
    expect(seen.map((l) => l.trim())).toEqual([
      'drivers/nouveau/unbind 0000:01:00.0',
      '/libxl/pci/0000-01-00-0/driver_path /sys/bus/pci/drivers/nouveau',
      'drivers/pciback/new_slot 0000:01:00.0',
      'drivers/pciback/bind 0000:01:00.0',
    ]);
    expect(s.run('iommu show 01:00.0').stdout).toContain('owner d[IO]');
  });

  test('INV-T4 remove -r gives the device back to dom0 and to its driver, and leaves no driver_path', () => {
    const s = example();
    s.run('xl pci-assignable-add 01:00.0');
    expect(s.run('xl pci-assignable-remove -r 01:00.0').exit).toBe(0);
    expect(s.run('lspci -k -s 01:00.0').stdout).toContain('Kernel driver in use: nouveau');
    expect(s.run('iommu show 01:00.0').stdout).toContain('owner d0');
    expect(s.run('xenstore-ls -f /libxl/pci').stdout).toBe('/libxl/pci/0000-01-00-0 = ""\n');
    expect(s.run(`cat ${PCIBACK}/slots`).stdout).toBe('');
    expect(s.run(`ls ${PCIBACK} | grep -c 0000:`).stdout).toBe('0\n');
  });

  test('INV-T1 the list is what pciback has, less what a guest has', () => {
    const s = example();
    s.run('xl pci-assignable-add 01:00.0; xl pci-assignable-add 01:00.1; xl pci-assignable-add 02:00.0');
    expect(s.run('xl create gpu-vm-works.cfg').exit).toBe(0);
    expect(s.run('xl pci-assignable-list').stdout).toBe('0000:02:00.0 \n');
  });
});

describe('a guest', () => {
  test('FT-F26 permissive=1 reaches pciback and the nodes of the back end', () => {
    const s = example();
    s.run('xl pci-assignable-add 02:00.0');
    s.run(`sed 's/02:00.0/02:00.0,permissive=1/' nic-vm.cfg > p.cfg`);
    expect(s.run('xl create p.cfg').exit).toBe(0);
    expect(s.run(`cat ${PCIBACK}/permissive`).stdout).toBe('0000:02:00.0\n');
    expect(s.run('xenstore-read /local/domain/0/backend/pci/1/0/opts-0').stdout).toContain('permissive=1');
  });

  test('sees its devices, loads drivers for them, and its DMA stays at home', () => {
    const s = example();
    s.run(
      'xl pci-assignable-add 01:00.0; xl pci-assignable-add 01:00.1; xl create gpu-vm-works.cfg; xl create other.cfg',
    );
    expect(s.run('guest gpu-vm -- lspci | grep -i nvidia | wc -l').stdout).toBe('2\n');
    expect(s.run('guest gpu-vm -- lsmod | grep ^nvidia').stdout).toContain('nvidia ');
    expect(s.run('guest other -- glxinfo | grep -i renderer').stdout).toContain('llvmpipe');
    expect(s.run('guest gpu-vm dma 00:05.0 write 0x40000000')).toMatchObject({ exit: 0 });
    expect(s.run('dma 01:00.0 write 0x40000000').stdout).toMatch(/lands in memory of gpu-vm \(d1\)/);
    const before = s.run('xl dmesg | grep -c DMAR:').stdout;
    expect(s.run('dma 01:00.0 read @dom0')).toMatchObject({ exit: 1 });
    expect(Number(s.run('xl dmesg | grep -c DMAR:').stdout)).toBe(Number(before) + 2);
    expect(s.run('guest nobody lspci')).toMatchObject({ exit: 1, stderr: 'guest: nobody does not run\n' });
  });

  test('is unplugged when it is asked to be', () => {
    const s = example();
    s.run('xl pci-assignable-add 02:00.0; xl create nic-vm.cfg');
    expect(s.run('guest nic-vm -- lspci | grep -c 82574L').stdout).toBe('1\n');
    expect(s.run('xl pci-detach nic-vm 02:00.0').exit).toBe(0);
    expect(s.run('guest nic-vm -- lspci | grep -c 82574L').stdout).toBe('0\n');
    expect(s.run('xl pci-attach nic-vm 02:00.0').exit).toBe(0);
    expect(s.run('guest nic-vm -- lspci | grep -c 82574L').stdout).toBe('1\n');
  });
});

describe('the commands of the simulator', () => {
  test.each([
    ['dma 0e:00.0 read 0', '0e:00.0: no such device'],
    ['dma x read 0', 'x: not an address of a device'],
    ['dma 01:00.0 --rid 1.2.3 read 0', '1.2.3: not an address of a device'],
    ['dma 01:00.0 push 0', 'push: neither read nor write'],
    ['dma 01:00.0 read 1e5', '1e5: not an address of up to 52 bits'],
    ['dma 01:00.0 read 0xffffffffffffffff', '0xffffffffffffffff: not an address of up to 52 bits'],
    ['dma 01:00.0 read @nobody', '@nobody: no such domain, or one without memory'],
    ['dma 01:00.0 read 0 65537', '65537: not a number of bytes from 1 to 65536'],
  ])('%s: %s, and how it is meant', (line, why) => {
    expect(example().run(line)).toMatchObject({
      exit: 2,
      stderr: `dma: ${why}; usage: dma BDF [--rid BDF] read|write ADDRESS|@DOMAIN [BYTES]\n`,
    });
  });

  test('dma and iommu refuse what they do not understand', () => {
    const s = example();
    for (const line of [
      'dma',
      'dma 0e:00.0 read 0',
      'dma 01:00.0 push 0',
      'dma 01:00.0 read x',
      'dma 01:00.0 read 0 0',
      'iommu',
      'iommu show x',
    ])
      expect(s.run(line).exit, line).toBe(2);
  });

  test('a device with bus mastering off sends nothing', () => {
    const s = example();
    s.run('setpci -s 02:00.0 COMMAND=2');
    expect(s.run('dma 02:00.0 read 0x1000').stdout).toContain('never left the bus');
  });

  test('reboot starts over, with other command lines', () => {
    const s = example();
    s.run('xl pci-assignable-add 02:00.0');
    s.run('reboot --xen "iommu=1 pci-phantom=02:00,1" --linux "xen-pciback.hide=(06:00.0)"');
    expect(s.run('xl pci-assignable-list').stdout).toBe('0000:06:00.0 \n');
    expect(s.run('xl info | grep xen_commandline').stdout).toContain('pci-phantom=02:00,1');
    expect(s.run('reboot now')).toMatchObject({ exit: 2 });
  });
});

describe('records', () => {
  test('have the form of the recordings, and say what changed (recording 01, record 21)', () => {
    const recorder = new Recorder('intel');
    const s = new Session(q35('vtd'), {
      release: '4.17',
      cmdline: 'iommu=1,verbose,debug loglvl=all guest_loglvl=all',
      sinks: [recorder.sink],
    });
    const boot = recorder.booted(s);
    expect(boot.xen_log.filter((l) => l.startsWith('(XEN) PCI add device'))).toHaveLength(30);
    const r = recorder.record('xl pci-assignable-add 02:00.0.1', s.run('xl pci-assignable-add 02:00.0.1'));
    expect(Object.keys(r)).toEqual([
      'cmd',
      'exit',
      'stdout',
      'stderr',
      'xen_log',
      'dom0_kernel_log',
      'vtd_trace',
      'context_entries_changed',
      'context_entries',
    ]);
    expect(r.xen_log).toEqual(['(XEN) [VT-D]d0:PCIe: unmap 0000:02:00.0']);
    expect(r.vtd_trace).toEqual([
      'vtd_inv_desc invalidate desc type context-cache high 0x0 low 0x20000000031',
      'vtd_inv_desc_cc_devices context invalidate devices sid 0x200 fmask 0x0',
      'vtd_inv_desc_cc_device context invalidate device 02:00.00',
      'vtd_inv_desc invalidate desc type iotlb high 0x0 low 0xe2',
      'vtd_inv_desc_iotlb_domain iotlb invalidate whole domain 0x0',
    ]);
    expect(Object.keys(r.context_entries_changed)).toEqual(['02:00.0']);
    expect(r.context_entries_changed['02:00.0']).toMatchObject({
      before: { P: 1, TT: 0, AW: 2, DID: 0 },
      after: null,
    });
  });

  test('an AMD board has four words an entry (recording 40, record 3)', () => {
    const recorder = new Recorder('amd');
    const s = new Session(q35('amd'), {
      release: '4.17',
      cmdline: 'iommu=1,verbose,debug loglvl=all',
      sinks: [recorder.sink],
    });
    recorder.booted(s);
    const r = recorder.record('x', s.run('xl -v pci-assignable-add 02:00.0'));
    expect(r.vtd_trace).toEqual([
      'amdvi_devtab_inval device table entry for devid: 02:00.0 invalidated',
      'amdvi_pages_inval AMD-Vi pages for domain 0x0 invalidated',
    ]);
    const changed = r.context_entries_changed['02:00.0'];
    expect(changed?.before).toHaveLength(4);
    expect((changed!.before as string[])[0]).toMatch(/^0x600000[0-9a-f]{7}603$/);
    expect((changed!.after as string[])[0]).toMatch(/^0x600000[0-9a-f]{7}601$/);
  });

  test('traces count repetitions and collapse page flushes', () => {
    const desc = 'vtd_inv_desc invalidate desc type iotlb high 0x1000 low 0x100f2';
    const page = (a: string) => `vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x1 addr ${a} mask 0x0`;
    expect(collapse(['a', 'a', 'b', desc, page('0x1000'), desc, page('0x2000'), 'c'])).toEqual([
      'a   x2',
      'b',
      'vtd_inv_desc_iotlb_pages iotlb invalidate domain 0x1 page-selective x2 (collapsed; first addr 0x1000 mask 0x0)',
      'c',
    ]);
    expect(
      traceLine(
        { kind: 'fault', unit: 0, seg: 0, rid: 0x700, reason: 5, write: true, addrLo: 0, addrHi: 0x80 },
        'intel',
      ),
    ).toBe('vtd_dmar_fault sid 0x700 fault 5 addr 0x8000000000 write 1');
  });
});

describe('scripts', () => {
  test('are commands, prose and what is expected to fail', () => {
    expect(
      parseScript(
        's',
        '#!/bin/sh\n# Title\n\nls # exits 2\nfor i in a; do\n  echo $i\ndone\nfalse # fails\necho "# exits 3"\n',
      ),
    ).toEqual([
      { kind: 'prose', text: 'Title', line: 2 },
      { kind: 'command', text: 'ls', line: 4, expected: 2 },
      { kind: 'command', text: 'for i in a; do\n  echo $i\ndone', line: 5, expected: 0 },
      { kind: 'command', text: 'false', line: 8, expected: 'fails' },
      { kind: 'command', text: 'echo "# exits 3"', line: 9, expected: 0 },
    ]);
  });

  test.each([
    ['echo "x\n', 'line 1'],
    ['true\nfor i in a; do\necho\n', 'line 2'],
    ['true\n)\n', 'line 2'],
  ])('that cannot be read say where: %j', (text, place) => {
    expect(() => parseScript('s', text)).toThrow(InputError);
    expect(() => parseScript('s', text)).toThrow(place);
  });

  test('are shown as a terminal shows them, without control characters of others', () => {
    let shown = '';
    const terminal = new Terminal({
      write: (t) => {
        shown += t;
      },
      colours: false,
    });
    const result = (exit: number, text: string): CommandResult => ({
      exit,
      stdout: text,
      stderr: '',
      pieces: [{ fd: 1, text }],
    });
    terminal.prose('One');
    terminal.prose('two');
    terminal.command('a\nb');
    terminal.result(result(3, 'x\x1b[2J\ny'));
    expect(shown).toBe('One\ntwo\ndom0# a\n    > b\nx\\x1b[2J\ny\n[exit 3]\n');
  });
});
