/**
 * Configuration space as pciback shows it to a PV guest, field by field.
 * @linux drivers/xen/xen-pciback/conf_space.c, conf_space_header.c, conf_space_capability.c, conf_space_quirks.c (6.1)
 */
import { describe, expect, test } from 'vitest';
import { E } from '../../src/base/errno.js';
import type { FunctionDescription } from '../../src/inputs/host_description.js';
import { runAlone } from '../../src/sim/co.js';
import { VirtualConfig } from '../../src/toolstack/pciback/conf_space.js';
import { VirtualBus } from '../../src/toolstack/pciback/vpci.js';
import { type BoardOptions, board, q35 } from './dom0_helpers.js';

const PCIBACK = '/sys/bus/pci/drivers/pciback';
const READ_ONLY = /read-only configuration space field at offset (0x[0-9a-f]+), size (\d)/;

/** `name` alone on a guest's bus; `before` runs on the booted host. */
function guest(name: string, o: BoardOptions = {}, before: (b: ReturnType<typeof board>) => void = () => {}) {
  const b = board(o);
  before(b);
  b.write(`${PCIBACK}/new_slot`, name);
  b.write(`${PCIBACK}/bind`, name);
  const dev = b.dom0.kernel.deviceNamed(name)!;
  const bus = new VirtualBus();
  bus.add(dev);
  const config = new VirtualConfig(b.dom0.kernel, b.dom0.pciback!, bus);
  const [devfn] = config.functions();
  b.log();
  return {
    b,
    dev,
    read: (reg: number, bytes = 4) => config.configRead(devfn!, reg, bytes),
    write: (reg: number, bytes: number, value: number) =>
      runAlone(config.configWrite(devfn!, reg, bytes, value)),
    device: (reg: number, bytes = 4) => b.pci.configRead(dev.sbdf, reg, bytes),
    /** What reaches the device from now on: offset, size and value. */
    sent() {
      const seen: number[][] = [];
      b.pci.events.attach((e) => {
        if (e.kind === 'config' && e.sbdf === dev.sbdf) seen.push([e.offset, e.size, e.value]);
      });
      return seen;
    },
    permissive: () => b.write(`${PCIBACK}/permissive`, name),
    /** Complaints about writes since the last look: offset and size. */
    complaints: () => b.log().flatMap((l) => READ_ONLY.exec(l)?.slice(1).join('/') ?? []),
  };
}
const NIC = '0000:02:00.0';
/** The board with one function's configuration space changed. */
const edited = (sbdf: number, edit: (config: Uint8Array) => void): FunctionDescription[] =>
  q35().map((f) => {
    if (f.sbdf !== sbdf) return f;
    const config = Uint8Array.from(f.config);
    edit(config);
    return { ...f, config };
  });

describe('the header', () => {
  test('a virtual function has the ids and addresses that dom0 knows, not those it shows itself', () => {
    const g = guest('0000:03:00.1', { drivers: { '03:00.0': 'nvme' } }, (b) => {
      b.write('/sys/bus/pci/devices/0000:03:00.0/sriov_numvfs', '1');
      b.write('/sys/bus/pci/drivers/nvme/unbind', '0000:03:00.1');
    });
    expect([g.device(0), g.read(0), g.read(2, 2)]).toEqual([0xffff_ffff, 0x0010_1b36, 0x10]);
    expect([g.device(0x10), g.read(0x10), g.read(0x14)]).toEqual([0, 0xfe40_4004, 0]);
  });

  test('the interrupt line is the one that dom0 uses; firmware wrote another one there', () => {
    const g = guest(NIC);
    expect([g.device(0x3c, 1), g.read(0x3c, 1), g.read(0x3c, 2), g.read(0x3d, 1)]).toEqual([
      11, 22, 0x116, 1,
    ]);
    g.write(0x3c, 1, 5);
    g.write(0x3d, 1, 2);
    expect([g.device(0x3c, 2), g.read(0x3c, 2), g.complaints()]).toEqual([0x10b, 0x116, []]);
  });

  test('the cache line size is for guests, the latency and the result of BIST are not', () => {
    const g = guest('0000:09:01.0');
    g.write(0x0c, 1, 8);
    g.write(0x0d, 1, 0x40);
    expect([g.device(0x0c, 2), g.read(0x0c, 2)]).toEqual([8, 8]);
    const sent = g.sent();
    // Of a word Linux sees the field at its begin and the one at its end.
    g.write(0x0c, 4, 0x0f00_4010);
    expect([g.device(0x0c), g.complaints()]).toEqual([0x10, []]);
    expect(sent).toEqual([[0x0c, 1, 0x10]]);
  });

  // @linux conf_space_header.c bist_write: capable is bit 7, the code of completion bits 3:0
  test('BIST can be started, and what it says else can only be written as it is', () => {
    const functions = edited(0x908, (config) => {
      config[0x0f] = 0x82;
    });
    const g = guest('0000:09:01.0', { functions });
    const sent = g.sent();
    for (const value of [0, 0x41, 0x80, 0xc3, 0x82, 0xc2, 0x40]) g.write(0x0f, 1, value);
    expect(sent.map(([, , value]) => value)).toEqual([0x82, 0xc2, 0x40]);
    expect([g.read(0x0f, 1), g.complaints()]).toEqual([0x82, []]);
  });

  test.each([
    [0x06, 2, '0x6/2'],
    [0x08, 1, '0x8/1'],
    [0x2c, 4, '0x2c/4'],
    [0x34, 1, '0x34/1'],
    [0x3e, 1, '0x3e/1'],
    [0x48, 4, '0x48/4'],
    [0x110, 4, '0x110/4'],
  ])(
    'what no field holds, %i, is for dom0 alone: dropped, and said once for a device',
    (reg, bytes, told) => {
      const g = guest(NIC);
      const before = g.device(reg, bytes);
      g.write(reg, bytes, 0xffff_ffff);
      g.write(0x54, 4, 1);
      expect([g.device(reg, bytes), g.complaints()]).toEqual([before, [told]]);
    },
  );

  test('in permissive mode it reaches the device, and fields stay what they are', () => {
    const g = guest(NIC);
    g.permissive();
    g.write(0x108, 4, 0x10);
    g.write(0x3c, 1, 5);
    g.write(0x0d, 1, 0x40);
    g.write(0x10, 4, 0x1234_0000);
    expect([g.device(0x108) & 0x10, g.device(0x3c, 1), g.device(0x0d, 1), g.device(0x10)]).toEqual([
      0x10, 11, 0, 0xfe64_0000,
    ]);
    expect(g.complaints()).toEqual([]);
  });

  test('requests that do not lie in their place do nothing', () => {
    const g = guest(NIC);
    g.permissive();
    const before = [g.device(0x108), g.device(0x10c)];
    g.write(0x109, 2, 0xffff);
    g.write(0x10a, 4, 0xffff_ffff);
    g.write(0x1000, 4, 1);
    expect([g.device(0x108), g.device(0x10c), g.read(0xffd, 4)]).toEqual([...before, 0xffff_ffff]);
  });
});

describe('base addresses', () => {
  test.each([
    ['memory', 0x10, 0xffff_fff0, 0xfffe_0000, 0xfe64_0000],
    ['ports', 0x18, 0xffff_fffc, 0xffff_ffe1, 0x4001],
    ['the ROM', 0x30, 0xffff_f800, 0xfffc_0000, 0xfe60_0000],
  ])(
    'of %s tell their size when all bits of the address are set, and keep it to themselves then',
    (_what, reg, ones, size, address) => {
      const g = guest(NIC);
      expect(g.read(reg)).toBe(address);
      for (const value of [ones, 0xffff_ffff]) {
        g.write(reg, 4, value);
        expect(g.read(reg)).toBe(size);
        g.write(reg, 4, address);
        expect(g.read(reg)).toBe(address);
      }
      g.write(reg, 4, ones - 0x1_0000);
      expect([g.read(reg), g.device(reg), g.complaints()]).toEqual([address, address, []]);
    },
  );

  test('of 64 bits are two registers, the upper of which is asked with all of its bits', () => {
    const g = guest('0000:01:00.0');
    expect([g.read(0x18), g.read(0x1c)]).toEqual([0xfb80_000c, 0]);
    for (const reg of [0x18, 0x1c]) g.write(reg, 4, 0xffff_ffff);
    expect([g.read(0x18), g.read(0x1c)]).toEqual([0xffff_c00c, 0xffff_ffff]);
    g.write(0x1c, 4, 0xffff_fff0);
    expect([g.read(0x18), g.read(0x1c)]).toEqual([0xffff_c00c, 0]);
  });

  test('of 64 bits may lie above 4 GiB and be larger', () => {
    const functions = edited(0x100, (config) => {
      config.set([0x0c, 0, 0, 0, 0x84, 3, 0, 0], 0x18);
    }).map((f) => (f.sbdf === 0x100 ? { ...f, barBytes: [f.barBytes?.[0], 0, 2 ** 33] } : f));
    const g = guest('0000:01:00.0', { functions });
    expect([g.read(0x18), g.read(0x1c)]).toEqual([0xc, 0x384]);
    for (const reg of [0x18, 0x1c]) g.write(reg, 4, 0xffff_ffff);
    // @linux conf_space_header.c read_dev_bar: the two halves of minus the size
    expect([g.read(0x18), g.read(0x1c)]).toEqual([0xc, 0xffff_fffe]);
  });

  test('that are not there read zero, whatever is written', () => {
    const g = guest('0000:01:00.0');
    g.write(0x14, 4, 0xffff_ffff);
    g.write(0x24, 4, 0xffff_ffff);
    expect([g.read(0x14), g.read(0x24)]).toEqual([0, 0]);
  });

  test('that the device lost come back when the guest writes the address that was there, and no other', () => {
    const g = guest(NIC);
    g.b.pci.configWrite(g.dev.sbdf, 0x10, 4, 0);
    g.write(0x10, 4, 0x1234_0000);
    expect([g.device(0x10), g.read(0x10)]).toEqual([0, 0xfe64_0000]);
    g.write(0x10, 4, 0xfe64_0000);
    expect(g.device(0x10)).toBe(0xfe64_0000);
  });

  test('of a bridge are two, and its ROM at 0x38', () => {
    const g = guest('0000:00:04.0', {}, (b) => {
      b.write('/sys/bus/pci/drivers/pcieport/unbind', '0000:00:04.0');
    });
    for (const reg of [0x10, 0x14, 0x38, 0x18]) g.write(reg, 4, 0xffff_ffff);
    expect([g.read(0x10), g.read(0x14), g.read(0x38), g.read(0x18) & 0xffff]).toEqual([
      0xffff_f000, 0, 0, 0x0400,
    ]);
    expect(g.complaints()).toEqual(['0x18/4']);
  });
});

describe('the command register', () => {
  const [MASTER, INVALIDATE, PARITY, SERR] = [4, 0x10, 0x40, 0x100];
  const [FAST_BACK, INTX_DISABLE] = [0x200, 0x400];
  test("reads as the guest wrote it, but for bits that are the device's to tell", () => {
    const g = guest(NIC);
    const before = g.device(4, 2);
    g.write(4, 2, 3 | SERR | FAST_BACK | INTX_DISABLE);
    expect([g.read(4, 2), g.device(4, 2)]).toEqual([3 | SERR | INTX_DISABLE, before | 3]);
    expect(g.read(4)).toBe((g.device(6, 2) * 0x1_0000 + (3 | SERR | INTX_DISABLE)) >>> 0);
  });

  test('lets the device decode both kinds of addresses for either, and tells the guest of the one that it asked for', () => {
    const g = guest(NIC);
    for (const one of [1, 2]) {
      g.write(4, 2, one);
      expect([g.read(4, 2), g.device(4, 2) & 3]).toEqual([one, 3]);
    }
  });

  test('a byte of it leaves the other one', () => {
    const g = guest(NIC);
    g.write(4, 2, 3 | INTX_DISABLE);
    g.write(4, 1, 7);
    expect([g.read(4, 2), g.device(4, 2) & 7]).toEqual([7 | INTX_DISABLE, 7]);
    g.write(5, 1, 0);
    expect(g.read(4, 2)).toBe(7);
  });

  test('switches bus mastering on and off in the device', () => {
    const g = guest(NIC);
    g.write(4, 2, 7);
    expect(g.device(4, 2) & MASTER).toBe(MASTER);
    g.write(4, 2, 3);
    expect(g.device(4, 2) & MASTER).toBe(0);
  });

  test('lets a device write and invalidate once it has a cache line, which is 64 bytes', () => {
    const g = guest('0000:09:01.0');
    g.write(4, 2, 3 | INVALIDATE);
    expect([g.device(4, 2) & INVALIDATE, g.device(0x0c, 1), g.read(4, 2) & INVALIDATE]).toEqual([
      INVALIDATE,
      16,
      INVALIDATE,
    ]);
    g.write(4, 2, 3);
    expect([g.device(4, 2) & INVALIDATE, g.device(0x0c, 1)]).toEqual([0, 16]);
  });

  test("in permissive mode reaches the device, as far as it is the guest's", () => {
    const g = guest(NIC);
    g.permissive();
    g.write(4, 2, 3 | PARITY | FAST_BACK | INTX_DISABLE);
    expect(g.device(4, 2) & (PARITY | FAST_BACK | INTX_DISABLE)).toBe(FAST_BACK);
  });
});

describe('capabilities', () => {
  const [PM, MSI, MSIX] = [0xc8, 0xd0, 0xa0];
  test("power states are the guest's; waking the host is not: neither announced nor enabled", () => {
    const functions = edited(0x200, (config) => {
      config[PM + 3] = 0xc8; // PME from D0 and both kinds of D3
    });
    const g = guest(NIC, { functions });
    expect([g.device(PM + 2, 2), g.read(PM + 2, 2), g.read(PM)]).toEqual([0xc822, 0x22, 0x0022_d001]);
    g.write(PM + 4, 2, 0x103);
    expect([g.device(PM + 4, 2), g.read(PM + 4, 2)]).toEqual([3, 3]);
    g.write(PM + 4, 2, 0);
    expect(g.device(PM + 4, 2)).toBe(0);
    for (const reg of [PM, PM + 2]) g.write(reg, 2, 0xffff);
    expect([g.device(PM), g.complaints()]).toEqual([0xc822_d001, []]);
  });

  test.each([
    ['MSI', MSI + 2, 1],
    ['MSI-X', MSIX + 2, 0x8000],
  ])('%s is switched on through Xen, not here, unless the device is permissive', (_what, reg, enable) => {
    const g = guest(NIC);
    const before = g.device(reg, 2);
    g.write(reg, 2, before | enable);
    expect([g.device(reg, 2), g.complaints()]).toEqual([before, []]);
    g.permissive();
    g.write(reg, 2, before | enable);
    expect(g.device(reg, 2)).toBe(before | enable);
  });

  // @linux conf_space_capability.c pm_ctrl_write: its own bits first, then the power state by way of the PCI core
  test('of power management PME status and what the data register shows are written, and the state after them', () => {
    const g = guest(NIC);
    const sent = g.sent();
    g.write(PM + 4, 2, 0x1f03);
    expect(sent).toEqual([
      [PM + 4, 2, 0x1e00],
      [PM + 4, 2, 0x1e03],
    ]);
    g.write(PM + 4, 2, 0x1e03);
    expect(sent).toHaveLength(2);
    g.write(PM + 4, 2, 0x1e00);
    // @linux drivers/pci/pci.c pci_power_up: the whole word to 0
    expect([sent[2], g.complaints()]).toEqual([[PM + 4, 2, 0], []]);
  });

  // @linux drivers/pci/pci.c pci_restore_bars, setup-res.c pci_std_update_resource
  test.each([
    ['02:00.0', 0xc8, [0x10, 0x14, 0x18, 0x1c, 0x30], [0xfe64_0000, 0xfe66_0000, 0x4001, 0xfe68_0000, 0]],
    ['01:00.0', 0x40, [0x10, 0x14, 0x18, 0x1c], [0xfe00_0000, 0, 0xfb80_000c, 5]],
  ])('a device that loses its addresses when it wakes up, %s, gets them back', (name, pm, regs, values) => {
    // The display gets power management, and its 64-bit register lies above 4 GiB.
    const functions = edited(0x100, (config) => {
      config.set([1, config[0x34]!, 3, 0, 0, 0, 0, 0], 0x40);
      config.set([0x40], 0x34);
      config.set([0, 0, 0, 0xfe], 0x10);
      config.set([0x0c, 0, 0x80, 0xfb, 5, 0, 0, 0], 0x18);
      config[6] = config[6]! | 0x10;
    });
    const g = guest(`0000:${name}`, { functions });
    g.write(pm + 4, 2, 3);
    expect(g.device(pm + 4, 2)).toBe(3);
    const seen: number[][] = [];
    // A write is told of before it is done.
    g.b.pci.events.attach(() => seen.push(regs.map((reg) => g.device(reg))));
    g.write(pm + 4, 2, 0);
    expect(seen[1]).toEqual(regs.map((reg) => (reg === 0x18 ? values[2]! & 0xf : 0)));
    expect(regs.map((reg) => g.device(reg))).toEqual(values);
  });

  // @linux conf_space_capability.c vpd_address_write
  test('vital product data can be read, and not written', () => {
    const VPD = 0x60;
    const functions = edited(0x200, (config) => {
      config.set([3, config[0x34]!, 0, 0], VPD);
      config[0x34] = VPD;
    });
    const g = guest(NIC, { functions });
    const sent = g.sent();
    g.write(VPD + 2, 2, 0x8010);
    g.write(VPD + 4, 4, 0x1234_5678);
    g.write(VPD, 2, 0xffff);
    expect(sent).toEqual([]);
    g.write(VPD + 2, 2, 0x10);
    expect([sent, g.read(VPD + 2, 2), g.complaints()]).toEqual([[[VPD + 2, 2, 0x10]], 0x10, []]);
  });

  test("where MSI points is nobody's but dom0's", () => {
    const g = guest(NIC);
    const before = g.device(MSI + 4);
    g.write(MSI + 4, 4, 0xfee0_0000);
    expect([g.device(MSI + 4), g.complaints()]).toEqual([before, ['0xd4/4']]);
  });
});

describe('fields that an administrator adds', () => {
  const quirk = (b: ReturnType<typeof board>, text: string): number => b.write(`${PCIBACK}/quirks`, text);
  test("are the guest's from then on, and no more than they", () => {
    const g = guest(NIC);
    expect(quirk(g.b, '0000:02:00.0-108:2:ffff')).toBeGreaterThan(0);
    g.write(0x108, 2, 0x10);
    expect([g.device(0x108) & 0xffff, g.complaints()]).toEqual([0x10, []]);
    g.write(0x10a, 2, 1);
    expect([g.device(0x108) >>> 16, g.complaints()]).toEqual([0, ['0x10a/2']]);
  });

  test('that begin where another one does are none', () => {
    const g = guest(NIC);
    quirk(g.b, '0000:02:00.0-10:4:ffffffff');
    g.write(0x10, 4, 0x1234_0000);
    expect([g.device(0x10), g.read(0x10)]).toEqual([0xfe64_0000, 0xfe64_0000]);
  });

  test.each([
    ['02:00.0-108:2:1ffff', E.INVAL],
    ['02:00.0-108:1:100', E.INVAL],
    ['02:00.0-1000:1:ff', E.INVAL],
    ['02:00.0-108:3:ff', E.INVAL],
    ['02:00.0-108', E.INVAL],
    ['06:00.0-108:2:ffff', E.NODEV],
  ])('%s is refused', (text, rc) => {
    expect(quirk(guest(NIC).b, `0000:${text}`)).toBe(rc);
  });

  test.each([['02:00.0-108:4:ffffffff'], ['02:00.0-fff:1:ff'], ['02:00.0-108:2:ffff']])(
    '%s is taken',
    (text) => {
      const g = guest(NIC);
      expect(quirk(g.b, `0000:${text}`)).toBeGreaterThan(0);
      // @linux pci_stub.c quirks_show: address, ids, and of each field register, size and mask.
      const [reg, size, mask] = text.slice('02:00.0-'.length).split(':');
      const field = `\t\t${reg!.padStart(8, '0')}:${size}:${mask!.padStart(8, '0')}\n`;
      expect(g.b.read(`${PCIBACK}/quirks`)).toBe(`02:00.0\n\t8086:10d3:8086:0000\n${field}`);
    },
  );
});

describe('the line of a device', () => {
  // @linux pciback_ops.c xen_pcibk_control_isr
  test("has a handler of pciback's while the guest lets the device decode, one for a device", () => {
    const g = guest(NIC);
    const bound = () => g.b.xen.channels.filter((op) => op.cmd === 'bind_pirq').length;
    const closed = () => g.b.xen.channels.filter((op) => op.cmd === 'close').length;
    const [before, gone] = [bound(), closed()];
    for (const command of [3, 7, 2]) {
      g.write(4, 2, command);
      expect([bound() - before, closed() - gone]).toEqual([1, 0]);
    }
    g.write(4, 2, 0);
    expect([bound() - before, closed() - gone]).toEqual([1, 1]);
    g.write(4, 2, 0);
    expect([bound() - before, closed() - gone]).toEqual([1, 1]);
  });

  // @linux pci_stub.c irq_handlers_show, irq_handler_state_store
  test('is listed with its state, which an administrator can turn; turned off, the handler stays for good', () => {
    const g = guest(NIC);
    const shown = () => String(g.b.read(`${PCIBACK}/irq_handlers`));
    const turn = (name: string) => g.b.write(`${PCIBACK}/irq_handler_state`, name);
    const closed = () => g.b.xen.channels.filter((op) => op.cmd === 'close').length;
    const gone = closed();
    expect(shown()).toBe(`${NIC}:off:not acking:0\n`);
    g.write(4, 2, 3);
    expect(shown()).toBe(`${NIC}:on:acking:0\n`);
    expect(turn(NIC)).toBeGreaterThan(0);
    expect(shown()).toBe(`${NIC}:off:acking:0\n`);
    g.write(4, 2, 0);
    expect([shown(), closed() - gone]).toEqual([`${NIC}:off:acking:0\n`, 0]);
    turn(NIC);
    expect(shown()).toBe(`${NIC}:on:acking:0\n`);
    expect([turn('0000:06:00.0'), turn('x')]).toEqual([E.NOENT, E.INVAL]);
  });

  // @linux pciback_ops.c xen_pcibk_control_isr, with reset
  test('that was turned off no longer acknowledges after a reset', () => {
    const g = guest(NIC);
    g.write(4, 2, 3);
    g.b.write(`${PCIBACK}/irq_handler_state`, NIC);
    expect(String(g.b.read(`${PCIBACK}/irq_handlers`))).toBe(`${NIC}:off:acking:0\n`);
    runAlone(g.b.dom0.pciback!.put(g.dev));
    expect(String(g.b.read(`${PCIBACK}/irq_handlers`))).toBe(`${NIC}:off:not acking:0\n`);
  });

  test('of a bridge has none', () => {
    const g = guest('0000:00:04.0', {}, (b) => {
      b.write('/sys/bus/pci/drivers/pcieport/unbind', '0000:00:04.0');
    });
    const before = g.b.xen.channels.length;
    g.write(4, 2, 0);
    g.write(4, 2, 3);
    expect(g.b.xen.channels.length).toBe(before);
  });
});

describe('what pciback takes', () => {
  test.each([
    ['ffff:ff:1f.7', 'ffff:ff:1f.7\n'],
    ['10000:00:00.0', E.INVAL],
    ['0000:100:00.0', E.INVAL],
    ['0000:00:20.0', E.INVAL],
    ['0000:00:00.8', E.INVAL],
    ['0:1.*', Array.from({ length: 8 }, (_, i) => `0000:00:01.${i}\n`).join('')],
  ])('as a slot: %s', (text, says) => {
    const b = board();
    const rc = b.write(`${PCIBACK}/new_slot`, text);
    if (typeof says === 'number') expect([rc, b.read(`${PCIBACK}/slots`)]).toEqual([says, '']);
    else expect(b.read(`${PCIBACK}/slots`)).toBe(says);
  });

  // @linux pci_stub.c pcistub_probe
  test('is no CardBus bridge', () => {
    const functions = edited(0x908, (config) => {
      config[0x0e] = 2;
    });
    const b = board({ functions });
    b.write(`${PCIBACK}/new_slot`, '0000:09:01.0');
    b.log();
    expect(b.write(`${PCIBACK}/bind`, '0000:09:01.0')).toBe(E.NODEV);
    expect(b.log()).toEqual([
      "pciback 0000:09:01.0: xen_pciback: can't export pci devices that don't have a normal (0) or bridge (1) header type!",
    ]);
    expect(b.dom0.kernel.deviceNamed('0000:09:01.0')?.driver).toBeUndefined();
  });
});
