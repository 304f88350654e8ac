/** The PCI devices of QEMU's i440fx board as its command line asks for them. QEMU 7.2, hw/i386/pc_piix.c */

import { EmulatedBars } from './emulated_bars.js';

/** One function on the guest's bus 0 that QEMU emulates. */
export interface EmulatedFunction {
  readonly slot: number;
  readonly func: number;
  readonly vendor: number;
  readonly device: number;
  /** Class code, 24 bits. */
  readonly classCode: number;
  readonly desc: string;
  /** QEMU's type of the device. */
  readonly model: string;
  readonly qdevId: string;
  readonly bars: EmulatedBars;
}

/** Vendor, device, class, description of QEMU's PCI devices by -device name. */
const MODELS = new Map<string, readonly [number, number, number, string]>([
  ['VGA', [0x1234, 0x1111, 0x030000, 'VGA controller']],
  ['cirrus-vga', [0x1013, 0x00b8, 0x030000, 'VGA controller']],
  ['qxl-vga', [0x1b36, 0x0100, 0x030000, 'VGA controller']],
  ['rtl8139', [0x10ec, 0x8139, 0x020000, 'Ethernet controller']],
  ['e1000', [0x8086, 0x100e, 0x020000, 'Ethernet controller']],
  ['virtio-net', [0x1af4, 0x1000, 0x020000, 'Ethernet controller']],
  ['lsi53c895a', [0x1000, 0x0012, 0x010000, 'SCSI controller']],
  ['ahci', [0x8086, 0x2922, 0x010601, 'SATA controller']],
  ['intel-hda', [0x8086, 0x2668, 0x040300, 'Audio controller']],
  ['AC97', [0x8086, 0x2415, 0x040100, 'Audio controller']],
  ['ac97', [0x8086, 0x2415, 0x040100, 'Audio controller']],
  ['es1370', [0x1274, 0x5000, 0x040100, 'Audio controller']],
  ['piix3-usb-uhci', [0x8086, 0x7020, 0x0c0300, 'USB controller']],
  ['nec-usb-xhci', [0x1033, 0x0194, 0x0c0330, 'USB controller']],
  ['virtio-serial', [0x1af4, 0x1003, 0x078000, 'Class 1920']],
  ['xen-pvdevice', [0x5853, 0xc000, 0xff8000, 'Class 65408']],
]);

const IGD_SLOT = 2;

export class Board {
  /** Emulated functions, in the order of their making. */
  readonly functions: EmulatedFunction[] = [];
  /** Slot 2 is kept for an Intel display. @qemu xen_igd_reserve_slot */
  readonly igdPassthru: boolean;
  private readonly used = new Set<number>();
  /** Slot that nobody gets who does not ask for it; -1 for none. */
  private reserved = -1;

  constructor(argv: readonly string[]) {
    const machine = argv[argv.indexOf('-machine') + 1] ?? '';
    const hvm = argv.includes('-machine') && !machine.startsWith('xenpv');
    this.igdPassthru = machine.includes('igd-passthru=on');
    if (!hvm) return;
    if (this.igdPassthru) this.reserved = IGD_SLOT;
    this.put(0, 0, 0x8086, 0x1237, 0x060000, 'Host bridge', 'i440FX');
    this.put(1, 0, 0x8086, 0x7000, 0x060100, 'ISA bridge', 'PIIX3');
    this.put(1, 1, 0x8086, 0x7010, 0x010180, 'IDE controller', 'piix3-ide');
    if (argv.includes('-usb')) this.put(1, 2, 0x8086, 0x7020, 0x0c0300, 'USB controller', 'piix3-usb-uhci');
    this.put(1, 3, 0x8086, 0x7113, 0x068000, 'Bridge', 'PIIX4_PM');
    if (machine.startsWith('xenfv'))
      this.put(this.freeSlot(), 0, 0x5853, 0x0001, 0xff8000, 'Class 65408', 'xen-platform');
    argv.forEach((arg, i) => {
      if (arg === '-device') this.addDevice(argv[i + 1] ?? '');
    });
  }

  private addDevice(text: string): void {
    const [name = '', ...options] = text.split(',');
    const model = MODELS.get(name);
    if (model === undefined) return;
    const id = options.find((o) => o.startsWith('id='))?.slice('id='.length) ?? '';
    const [vendor, device, classCode, desc] = model;
    const vgamem = options.find((o) => o.startsWith('vgamem_mb='))?.slice('vgamem_mb='.length);
    this.put(this.freeSlot(), 0, vendor, device, classCode, desc, name, id, vgamem);
  }

  private put(
    slot: number,
    func: number,
    vendor: number,
    device: number,
    classCode: number,
    desc: string,
    model: string,
    qdevId = '',
    vgamemMb?: string,
  ): void {
    this.used.add(slot);
    const bars = new EmulatedBars(model, vgamemMb === undefined ? undefined : Number(vgamemMb));
    this.functions.push({ slot, func, vendor, device, classCode, desc, model, qdevId, bars });
  }

  /** Lowest empty slot, -1 when the bus is full. */
  freeSlot(): number {
    for (let slot = 0; slot < 32; slot++) {
      if (!this.used.has(slot) && slot !== this.reserved) return slot;
    }
    return -1;
  }

  isReserved(slot: number): boolean {
    return slot === this.reserved;
  }

  /** The Intel display has come: its slot is like the others now. */
  openIgdSlot(): void {
    this.reserved = -1;
  }

  take(slot: number): void {
    this.used.add(slot);
  }

  release(slot: number): void {
    this.used.delete(slot);
  }
}
