/** QEMU behind libxl: where devices land, what they map, and what happens when it does not answer. */
import { describe, expect, test } from 'vitest';
import { parseSbdf, sbdf } from '../../src/base/sbdf.js';
import type { HostDescription } from '../../src/inputs/host_description.js';
import { runAlone } from '../../src/sim/co.js';
import type { DeviceModel } from '../../src/toolstack/dom0.js';
import { patched, type XlHost, xlHost } from './xl_host.js';

const HVM = 'name="g"\ntype="hvm"\nmemory=64\nvnc=0\npassthrough="enabled"\n';
const IGD = '00:02.0';
const [COMMAND, BAR0, OPREGION] = [0x04, 0x10, 0xfc];

/** The display of the board as an Intel one on the root bus, in the place of a port and what was behind it. */
function withIgd(host: HostDescription): HostDescription {
  const gone = [parseSbdf('00:02.0'), parseSbdf('02:00.0')];
  const gpu = host.functions.find((f) => f.sbdf === parseSbdf('01:00.0'))!;
  const config = Uint8Array.from(gpu.config);
  [config[0], config[1]] = [0x86, 0x80];
  // Not multifunction here; its OpRegion lies in reserved memory.
  config[0x0e] = 0;
  config.set([0x18, 0x00, 0xfe, 0x7f], OPREGION);
  const igd = { ...gpu, sbdf: sbdf(0, 0, 2, 0), config };
  const functions = [...host.functions.filter((f) => !gone.includes(f.sbdf)), igd];
  return { ...host, functions: functions.sort((a, b) => a.sbdf - b.sbdf) };
}

function guest(
  text: string,
  devices: readonly string[],
  adapt?: (h: HostDescription) => HostDescription,
): XlHost {
  const h = xlHost(adapt === undefined ? {} : { adapt });
  for (const d of devices) h.xl('pci-assignable-add', d);
  expect(h.create(HVM + text)).toMatchObject({ exit: 0 });
  h.steps();
  return h;
}
const dm = (h: XlHost): DeviceModel => h.dom0.deviceModels.get(1)!;
function ask(h: XlHost, execute: string, args: Record<string, unknown>): unknown {
  const answer = runAlone(dm(h).qmp(JSON.stringify({ execute, arguments: args })));
  return JSON.parse(answer ?? 'null');
}
const add = (h: XlHost, hostaddr: string, addr?: string): unknown =>
  ask(h, 'device_add', {
    driver: 'xen-pci-passthrough',
    id: `pci-pt-${hostaddr.slice(5).replace(':', '_')}`,
    hostaddr,
    ...(addr === undefined ? {} : { addr }),
  });
const failed = (desc: string): unknown => ({ error: { class: 'GenericError', desc } });

describe('slots', () => {
  test('a device takes the first free one, behind what QEMU emulates', () => {
    const h = guest('', ['02:00.0', '06:00.0']);
    expect([add(h, '0000:02:00.0'), add(h, '0000:06:00.0')]).toEqual([{ return: {} }, { return: {} }]);
    expect(dm(h).functions()).toEqual([0x00, 0x08, 0x09, 0x0b, 0x10, 0x18, 0x20, 0x28]);
  });
  test('one that is taken is refused, with the name of who has it', () => {
    const h = guest('', ['02:00.0', '06:00.0']);
    add(h, '0000:02:00.0', '6.0');
    const where = 'not available for xen-pci-passthrough, in use by';
    expect(add(h, '0000:06:00.0', '6.0')).toEqual(
      failed(`PCI: slot 6 function 0 ${where} xen-pci-passthrough,id=pci-pt-02_00.0`),
    );
    expect(add(h, '0000:06:00.0', '3.0')).toEqual(
      failed(`PCI: slot 3 function 0 ${where} cirrus-vga,id=(null)`),
    );
  });
  test('an id can be used once', () => {
    const h = guest('', ['02:00.0']);
    add(h, '0000:02:00.0');
    expect(add(h, '0000:02:00.0')).toEqual(failed("Duplicate device ID 'pci-pt-02_00.0'"));
  });
  // QEMU acpi_pcihp_device_unplug_request_cb: a guest that was not up may be asked again.
  test('a device that did not go can be asked to go again', () => {
    const h = guest('', ['02:00.0']);
    add(h, '0000:02:00.0');
    const del = () => ask(h, 'device_del', { id: 'pci-pt-02_00.0' });
    expect([del(), del()]).toEqual([{ return: {} }, { return: {} }]);
  });
  test('a failure of QEMU fails the attach, in its words', () => {
    const h = guest('', ['02:00.0', '06:00.0']);
    h.xl('pci-attach', 'g', '02:00.0@6');
    const r = h.xl('pci-attach', 'g', '06:00.0@6');
    expect([r.exit, r.err]).toEqual([
      1,
      expect.stringContaining('in use by xen-pci-passthrough,id=pci-pt-02_00.0'),
    ]);
  });
});

// QEMU hw/pci/pci.c pci_add_option_rom: memory of the guest as the video memory is.
test('the ROM of a display makes up for the hole below 1 MiB and what is special', () => {
  const mem = (vga: string) => {
    const h = xlHost({ files: { '/cfg': `name="g"\ntype="hvm"\nmemory=160\n${vga}` } });
    h.xl('create', '-p', '/cfg');
    return /^g +\d+ +(\d+)/m.exec(h.xl('list').out)?.[1];
  };
  expect([mem(''), mem('vga="none"\n')]).toEqual(['160', '159']);
});

describe('base addresses', () => {
  const RAM_BAR = 0xf300_0000;
  function withNic(): { h: XlHost; devfn: number } {
    const h = guest('', ['02:00.0']);
    h.xl('pci-attach', 'g', '02:00.0@8');
    const devfn = 0x40;
    runAlone(dm(h).configWrite(devfn, COMMAND, 2, 0));
    h.steps();
    return { h, devfn };
  }
  const mapped = (h: XlHost): string[] => h.calls().filter((c) => c.startsWith('memory_mapping'));

  test('are sized as the device sizes them', () => {
    const { h, devfn } = withNic();
    runAlone(dm(h).configWrite(devfn, BAR0, 4, 0xffff_ffff));
    expect(dm(h).configRead(devfn, BAR0, 4)).toBe(0xfffe_0000);
  });
  test('are mapped where the guest puts them once it decodes, and not before', () => {
    const { h, devfn } = withNic();
    runAlone(dm(h).configWrite(devfn, BAR0, 4, RAM_BAR));
    expect(mapped(h)).toEqual([]);
    runAlone(dm(h).configWrite(devfn, COMMAND, 2, 2));
    expect(mapped(h)).toContain('memory_mapping:1:+f3000=fe640/32');
    runAlone(dm(h).configWrite(devfn, COMMAND, 2, 0));
    expect(mapped(h)).toContain('memory_mapping:1:-f3000=fe640/32');
  });
  test('are decoded by the device whatever the guest says of it, so that no access of the host goes unanswered', () => {
    const { h, devfn } = withNic();
    const command = (): number => h.machine.hw.pci.configRead(0x200, COMMAND, 2);
    expect(command() & 2).toBe(2);
    runAlone(dm(h).configWrite(devfn, COMMAND, 2, 4));
    expect(command() & 6).toBe(6);
    expect(dm(h).configRead(devfn, COMMAND, 2) & 3).toBe(0);
  });
  // The table of MSI-X is said to lie in BAR 0, at 512 KiB; the register has 128.
  test('are mapped no further than they reach where the table of MSI-X is said to lie behind them', () => {
    const h = guest('', ['02:00.0'], patched('02:00.0', { 164: 0, 165: 0, 166: 8, 167: 0 }));
    h.xl('pci-attach', 'g', '02:00.0@8');
    runAlone(dm(h).configWrite(0x40, BAR0, 4, RAM_BAR));
    runAlone(dm(h).configWrite(0x40, COMMAND, 2, 0));
    h.steps();
    runAlone(dm(h).configWrite(0x40, COMMAND, 2, 2));
    expect(mapped(h).filter((c) => c.includes('=fe640'))).toEqual(['memory_mapping:1:+f3000=fe640/32']);
  });
  // QEMU hw/display/vga.c vga_common_init: between 1 and 512 MiB, up to a power of two.
  test.each([
    ['0', 0xfff0_0008],
    ['17', 0xfe00_0008],
    ['4096', 0xe000_0008],
    ['abc', 0xff00_0008],
  ])("of an emulated display with vgamem_mb=%s have QEMU's size", (mb, size) => {
    const h = guest(`device_model_args_hvm=["-device","VGA,vgamem_mb=${mb}"]\n`, []);
    const devfn = dm(h).functions().at(-1)!;
    runAlone(dm(h).configWrite(devfn, BAR0, 4, 0xffff_ffff));
    expect(dm(h).configRead(devfn, BAR0, 4)).toBe(size);
  });
  test('go with the device', () => {
    const { h, devfn } = withNic();
    runAlone(dm(h).configWrite(devfn, BAR0, 4, RAM_BAR));
    runAlone(dm(h).configWrite(devfn, COMMAND, 2, 2));
    h.steps();
    expect(h.xl('pci-detach', 'g', '02:00.0').exit).toBe(0);
    expect(mapped(h)).toContain('memory_mapping:1:-f3000=fe640/32');
  });
});

describe('an Intel display', () => {
  test('is refused by a board that does not pass its display through', () => {
    const h = guest('', [IGD], withIgd);
    expect(add(h, '0000:00:02.0')).toEqual(
      failed("Need to enable igd-passthru if you're trying to passthrough IGD GFX"),
    );
    expect(dm(h).functions()).not.toContain(0x20);
  });
  test('gets slot 2, and the legacy VGA ranges', () => {
    const h = guest(`gfx_passthru=1\npci=["${IGD}"]\n`, [IGD], withIgd);
    expect(h.xl('pci-list', 'g').out).toBe('Vdev Device\n02.0 0000:00:02.0\n');
    const again = xlHost({ adapt: withIgd });
    again.xl('pci-assignable-add', IGD);
    again.steps();
    again.create(`${HVM}gfx_passthru=1\npci=["${IGD}"]\n`);
    const calls = again.calls();
    expect(calls.filter((c) => c === 'ioport_mapping')).toHaveLength(2);
    expect(calls).toContain('memory_mapping:1:+a0=a0/32');
  });
  test('has its OpRegion where the guest asks for it first', () => {
    const h = guest(`gfx_passthru=1\npci=["${IGD}"]\n`, [IGD], withIgd);
    const devfn = 0x10;
    expect(dm(h).configRead(devfn, OPREGION, 4)).toBe(0);
    runAlone(dm(h).configWrite(devfn, OPREGION, 4, 0xfc00_0000));
    runAlone(dm(h).configWrite(devfn, OPREGION, 4, 0xfd00_0000));
    expect(dm(h).configRead(devfn, OPREGION, 4)).toBe(0xfc00_0018);
    expect(h.calls()).toEqual(['iomem_permission:1:+7ffe0/3', 'memory_mapping:1:+fc000=7ffe0/3']);
  });
  test('keeps slot 2 free for it when another display is passed through', () => {
    const h = guest('gfx_passthru="igd"\npci=["02:00.0"]\n', ['02:00.0']);
    expect(h.xl('pci-list', 'g').out).toBe('Vdev Device\n05.0 0000:02:00.0\n');
    expect(add(h, '0000:06:00.0', '2.0')).toEqual(
      failed('PCI: slot 2 function 0 not available for xen-pci-passthrough, reserved'),
    );
  });
});

describe('a monitor that does not answer', () => {
  test('at start: no domain', () => {
    const h = xlHost();
    h.machine.hw.faults.failNth(1, 'qmp');
    const r = h.create(HVM);
    expect([r.exit, r.err]).toEqual([3, expect.stringContaining('device model did not start')]);
    expect(h.xl('list').out.split('\n')).toHaveLength(3);
  });
  test('at an attach: ten seconds pass, and the device is not given', () => {
    const h = guest('', ['02:00.0']);
    const before = h.dom0.clock.nowNs;
    h.machine.hw.faults.failNth(1, 'qmp');
    const r = h.xl('pci-attach', 'g', '02:00.0');
    expect(r.exit).toBe(1);
    expect(Math.round((h.dom0.clock.nowNs - before) / 1e9)).toBe(10);
    expect(h.calls().filter((c) => c.startsWith('assign'))).toEqual([]);
    expect(r.err).toBe(
      'libxl: error: libxl_pci.c:1809:device_pci_add_done: ' +
        'Domain 1:libxl__device_pci_add failed for PCI device 0:2:0.0 (rc -9)\n' +
        'libxl: error: libxl_device.c:1487:device_addrm_aocomplete: unable to add device\n',
    );
  });
});
