/** Keys 'M' and 'i'. @xen arch/x86/msi.c dump_msi, irq.c dump_irqs, io_apic.c dump_ioapic_irq_info */
import type { Xen } from '../xen.js';
import type { CpuMask, IrqDesc } from './desc.js';

const HANDLER_NAMES = {
  none: 'none',
  '8259A': 'XT-PIC',
  edge: 'IO-APIC-edge',
  level: 'IO-APIC-level',
  dma_msi: 'DMA_MSI',
  amd_iommu_msi: 'AMD-IOMMU-MSI',
  msi_maskable: 'PCI-MSI/-X',
  msi: 'PCI-MSI',
} as const;

const inOrder = (xen: Xen): IrqDesc[] =>
  [...xen.irqs.descs.values()].filter((d) => d.handler !== 'none').sort((a, b) => a.irq - b.irq);
const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');

/** Key 'M'. */
export function dumpMsi(xen: Xen): void {
  xen.console.printAlways('MSI information:');
  for (const desc of inOrder(xen)) {
    const { msi } = desc;
    const vtd = desc.handler === 'dma_msi';
    if (msi === undefined && !vtd && desc.handler !== 'amd_iommu_msi') continue;
    const type = vtd ? 'IOMMU' : msi === undefined ? 'MSI' : msi.type === 'msi' ? 'MSI' : 'MSI-X';
    const dest = msi === undefined ? desc.cpuMask : (msi.msg.addressLo >>> 12) & 0xff;
    const maskbit = vtd || msi?.maskbit === true ? 1 : 0;
    const bits = `${msi?.hostMasked === true ? 'H' : ' '}${msi?.guestMasked === true ? 'G' : ' '}`;
    const now = msi === undefined || !msi.maskbit ? '?' : msi.hostMasked || msi.guestMasked ? '1' : '0';
    xen.console.printAlways(
      ` ${type.padEnd(6)}${String(desc.irq).padStart(4)} vec=${hex(desc.vector, 2)} lowest  edge   assert  log lowest dest=${hex(dest, 8)} mask=${maskbit}/${bits}/${now}`,
    );
  }
}

/** Ranges of set bits: `0-1`. */
function cpuList(mask: CpuMask): string {
  const runs: string[] = [];
  for (let i = 0; i < 32; i++) {
    if (((mask >>> i) & 1) === 0) continue;
    let end = i;
    while (end < 31 && ((mask >>> (end + 1)) & 1) === 1) end++;
    runs.push(i === end ? `${i}` : `${i}-${end}`);
    i = end;
  }
  return runs.join(',');
}

/** Vectors that the CPU itself uses. */
const DIRECT_VECTORS = [
  [0x22, 'irq_move_cleanup_interrupt'],
  [0xf9, 'pmu_apic_interrupt'],
  [0xfa, 'apic_timer_interrupt'],
  [0xfb, 'call_function_interrupt'],
  [0xfc, 'event_check_interrupt'],
  [0xfd, 'invalidate_interrupt'],
  [0xfe, 'error_interrupt'],
  [0xff, 'spurious_interrupt'],
] as const;

/** Key 'i'. */
export function dumpIrqs(xen: Xen): void {
  const print = (text: string): void => xen.console.printAlways(text);
  print('IRQ information:');
  for (const desc of inOrder(xen)) {
    const status = (desc.disabled ? 2 : 0) + (desc.isGuest ? 0x10 : 0);
    const masks = `aff:{${cpuList(desc.affinity)}}/{${cpuList(desc.cpuMask)}}`;
    print(
      `   IRQ:${String(desc.irq).padStart(4)} vec:${hex(desc.vector, 2)} ${HANDLER_NAMES[desc.handler].padEnd(15)} status=${hex(status, 3)} ${masks} ${boundTo(desc)}`,
    );
  }
  print('Direct vector information:');
  for (const [vector, name] of DIRECT_VECTORS) print(`   0x${vector.toString(16)} -> ${name}()`);
  dumpIoApic(xen);
}

function boundTo(desc: IrqDesc): string {
  if (desc.isGuest) {
    const guests = desc.guests.map((d) => {
      const pirq = [...d.pirqs.values()].find((p) => p.irq === desc.irq)?.pirq ?? 0;
      return `d${d.domid}:${String(pirq).padStart(3)}(---)`;
    });
    return `in-flight=0 ${guests.join(',')}`;
  }
  return desc.action === undefined ? 'mapped, unbound' : `${desc.action}()`;
}

function dumpIoApic(xen: Xen): void {
  const { ioApic } = xen.irqs;
  if (ioApic === undefined) return;
  xen.console.printAlways('IO-APIC interrupt information:');
  for (const desc of inOrder(xen)) {
    const rte = ioApic.rtes[desc.pin];
    if (rte === undefined) continue;
    xen.console.printAlways(`    IRQ${String(desc.irq).padStart(3)} Vec${String(desc.vector).padStart(3)}:`);
    xen.console.printAlways(
      `      Apic 0x00, Pin ${String(desc.pin).padStart(2)}: vec=${hex(rte.vector, 2)} delivery=${rte.deliveryMode === 1 ? 'LoPri' : 'Fixed'} dest=${rte.logical ? 'L' : 'P'} status=0 polarity=0 irr=0 trig=${rte.level ? 'L' : 'E'} mask=${rte.masked ? 1 : 0} dest_id:${hex(rte.dest, 2)}`,
    );
  }
}
