/**
 * Base address registers of the devices that QEMU emulates. Nothing of the host is behind them, but a guest's firmware
 * gives them addresses, and so they decide where those of passed-through devices come to lie. Sizes are QEMU 7.2's.
 */

/** One register by its offset; `kind` as the low bits of the register. */
interface BarShape {
  readonly reg: number;
  readonly bytes: number;
  readonly kind: 'io' | 'mem' | 'prefetch' | 'mem64' | 'rom';
}

const KB = 1024;
const MB = 1024 * KB;
const bar = (n: number, kind: BarShape['kind'], bytes: number): BarShape => ({
  reg: 0x10 + 4 * n,
  kind,
  bytes,
});
const rom = (bytes: number): BarShape => ({ reg: 0x30, kind: 'rom', bytes });

const SHAPES: ReadonlyMap<string, readonly BarShape[]> = new Map([
  ['piix3-ide', [bar(4, 'io', 16)]],
  ['piix3-usb-uhci', [bar(4, 'io', 32)]],
  ['xen-platform', [bar(0, 'io', 256), bar(1, 'prefetch', 16 * MB)]],
  ['xen-pvdevice', [bar(1, 'prefetch', 4 * MB)]],
  ['cirrus-vga', [bar(0, 'prefetch', 32 * MB), bar(1, 'mem', 4 * KB), rom(64 * KB)]],
  ['VGA', [bar(0, 'prefetch', 16 * MB), bar(2, 'mem', 4 * KB), rom(64 * KB)]],
  ['rtl8139', [bar(0, 'io', 256), bar(1, 'mem', 256), rom(256 * KB)]],
  ['e1000', [bar(0, 'mem', 128 * KB), bar(1, 'io', 64), rom(256 * KB)]],
  ['lsi53c895a', [bar(0, 'io', 256), bar(1, 'mem', KB), bar(2, 'mem', 8 * KB)]],
  ['ahci', [bar(4, 'io', 32), bar(5, 'mem', 4 * KB)]],
  ['intel-hda', [bar(0, 'mem', 16 * KB)]],
  ['nec-usb-xhci', [bar(0, 'mem64', 16 * KB)]],
]);
const FLAGS = { io: 1, mem: 0, prefetch: 8, mem64: 4, rom: 0 } as const;

/** @qemu hw/display/vga.c vga_common_init. What is no number QEMU refuses; here it changes nothing. */
function videoBytes(mb: number, fallback: number): number {
  if (Number.isNaN(mb)) return fallback;
  return 2 ** Math.ceil(Math.log2(Math.min(Math.max(mb, 1), 512))) * MB;
}

export class EmulatedBars {
  /** What the guest wrote, by offset. */
  private readonly written = new Map<number, number>();
  private readonly shapes: readonly BarShape[];

  /** `vgamemMb`: video memory where the command line says how much. */
  constructor(model: string, vgamemMb: number | undefined) {
    const shapes = SHAPES.get(model) ?? [];
    this.shapes =
      model === 'VGA' && vgamemMb !== undefined
        ? shapes.map((s) => (s.kind === 'prefetch' ? { ...s, bytes: videoBytes(vgamemMb, s.bytes) } : s))
        : shapes;
  }

  /** The dword at `reg`; 0 where there is no register. */
  read(reg: number): number {
    const shape = this.shapes.find((s) => s.reg === reg);
    if (shape === undefined) {
      const low = this.shapes.find((s) => s.reg === reg - 4 && s.kind === 'mem64');
      return low === undefined ? 0 : (this.written.get(reg) ?? 0);
    }
    const kept = this.written.get(reg) ?? 0;
    const enable = shape.kind === 'rom' ? kept % 2 : 0;
    return kept - (kept % shape.bytes) + FLAGS[shape.kind] + enable;
  }

  write(reg: number, value: number): void {
    this.written.set(reg, value);
  }
}
