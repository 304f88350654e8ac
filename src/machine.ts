/**
 * A whole host: hardware from a description, Xen on it, dom0 when somebody asks for it. Everything that can be seen or
 * done is reached from here.
 */
import { InputError } from './base/assert.js';
import { bdfOf, devfnOf, formatSbdf, type Sbdf, segOf } from './base/sbdf.js';
import { startXen } from './hypervisor/boot.js';
import { XenHypercalls } from './hypervisor/hypercalls.js';
import { doIrq } from './hypervisor/irq/do_irq.js';
import { moveArrived } from './hypervisor/irq/move.js';
import { isReadOnly } from './hypervisor/passthrough/segment.js';
import type { Hypercalls } from './hypervisor/public/hypercalls.js';
import { findRelease, releaseNames, seamsOf } from './hypervisor/releases/index.js';
import type { Seams } from './hypervisor/seams.js';
import type { Xen } from './hypervisor/xen.js';
import { createXen, type XenBootOptions } from './hypervisor/xen_state.js';
import type { HostDescription } from './inputs/host_description.js';
import { createHardware, type IommuUnit, type MachineHardware } from './machine_hw.js';
import type { DmaRequest, DmaResult } from './pci/dma.js';
import { type Co, runAlone } from './sim/co.js';
import type { Sink } from './sim/events.js';
import { restoreSnapshot, type Snapshot, takeSnapshot } from './sim/snapshot.js';
import { refuseDisposed } from './sim/spare.js';

export interface BootOptions {
  /** `4.17`, `4.18` (default), `4.23`, or a full release number that is known. */
  readonly release?: string;
  /** Repairs what the release is known to get wrong. */
  readonly fixed?: boolean;
  /** Single decisions replaced: historical bugs. */
  readonly seams?: Partial<Seams>;
  readonly cmdline?: string;
  /** Listeners attached before the first event. */
  readonly sinks?: readonly Sink[];
}

export class Machine implements Disposable {
  readonly hypercalls: Hypercalls;

  private constructor(
    readonly host: HostDescription,
    readonly hw: MachineHardware,
    readonly xen: Xen,
  ) {
    this.hypercalls = new XenHypercalls(xen);
  }

  /** Builds the hardware and boots Xen to the point where dom0's kernel starts. @throws HostCrash where Xen panics */
  static boot(host: HostDescription, o: BootOptions = {}): Machine {
    const hw = createHardware(host);
    for (const sink of o.sinks ?? []) hw.events.attach(sink);
    const name = o.release ?? '4.18';
    const release = findRelease(name);
    if (release === undefined)
      throw new InputError(
        'release',
        '',
        `${name} is not modelled`,
        `choose one of ${releaseNames.join(', ')}`,
      );
    const seams = seamsOf(release, o.fixed ?? false);
    const boot: XenBootOptions = {
      release,
      seams: o.seams === undefined ? seams : Object.freeze({ ...seams, ...o.seams }),
      cmdline: o.cmdline ?? host.xenCmdline ?? '',
      dom0MemBytes: host.dom0.memoryBytes,
      dom0Vcpus: host.dom0.vcpus,
      images: host.dom0.images,
      dmar: host.dmar,
      ivrs: host.ivrs,
      ioApic: host.ioApic,
      mcfg: host.mcfg ?? [],
      cpuKhz: host.cpu.khz,
      hwCaps: host.cpu.hwCaps ?? [],
    };
    const { xen, options } = createXen(hw, boot);
    runAlone(startXen(xen, boot, options));
    return new Machine(host, hw, xen);
  }

  /** Remapping units, in the order of the firmware table. */
  get units(): readonly IommuUnit[] {
    return this.hw.units;
  }

  /** The unit that answers for a requester id, undefined where there is none. */
  unitFor(sbdf: Sbdf): IommuUnit | undefined {
    return this.hw.unitFor(segOf(sbdf), sbdf & 0xffff);
  }

  /**
   * A configuration write of dom0's. Lost where Xen keeps the function to itself (an AMD IOMMU).
   * @xen arch/x86/pv/emul-priv-op.c pci_cfg_ok
   */
  dom0ConfigWrite(sbdf: Sbdf, reg: number, bytes: number, value: number): void {
    if (!isReadOnly(this.xen, sbdf)) this.hw.pci.configWrite(sbdf, reg, bytes, value);
  }

  /** A memory request of a function's DMA engine, through bridges, IOMMU and memory. */
  dma(sbdf: Sbdf, request: DmaRequest): DmaResult {
    const fn = this.hw.pci.functionAt(sbdf);
    if (fn === undefined)
      throw new InputError('dma', formatSbdf(sbdf), 'no such function', 'lspci lists them');
    return this.hw.pci.dma(fn, request);
  }

  /** Frame that requester `rid` of segment `seg` reaches now, -1 when blocked; no bus master check, real translation. */
  translate(seg: number, rid: number, dfn: number, write: boolean): number {
    return this.hw.root.dmaTranslate(seg, rid, dfn, write);
  }

  /**
   * A message by requester `rid` of segment `seg`, through the unit to a CPU; `rounds` as in doIrq.
   * @returns the interrupt that it is to Xen, -1 when it is none or was refused
   */
  raise(seg: number, rid: number, address: number, data: number, rounds = 0): number {
    const unit = this.hw.unitFor(seg, rid);
    if (unit === undefined || !('remapInterrupt' in unit)) return doIrq(this.xen, data & 0xff, rounds);
    const sent = unit.remapInterrupt(rid, address | 0, data | 0);
    return typeof sent === 'number' ? -1 : doIrq(this.xen, sent.vector, rounds);
  }

  /** A device sends the first of its messages, as Xen told it to. */
  *sendMessage(sbdf: Sbdf): Co<void> {
    const entry = this.xen.irqs.msis.get(sbdf)?.[0];
    if (entry === undefined) return;
    this.raise(segOf(sbdf), bdfOf(sbdf), entry.sent.addressLo, entry.sent.data);
    yield* this.serviceInterrupts();
  }

  /**
   * What follows interrupts: they move to where they are wanted; Xen's fault tasklet reads what the units have recorded,
   * prints it, and punishes.
   */
  *serviceInterrupts(): Co<void> {
    yield* moveArrived(this.xen);
    if (this.xen.ops !== undefined) yield* this.xen.ops.pollFaults();
  }

  /** Requester ids of a device's phantom functions, without its own. */
  phantomRids(sbdf: Sbdf): number[] {
    const pdev = this.xen.pdevs.get(sbdf);
    const stride = pdev?.phantomStride ?? 0;
    const rids: number[] = [];
    if (stride === 0) return rids;
    for (let fn = devfnOf(sbdf) + stride; fn >>> 3 === devfnOf(sbdf) >>> 3; fn += stride) {
      rids.push((sbdf & 0xff00) | fn);
    }
    return rids;
  }

  /** The whole machine as it is now, at rest. Listeners are not part of it: they stay attached, or stay away. */
  snapshot(): Snapshot {
    return takeSnapshot(this, { constants: [this.host, this.xen.seams, this.xen.version] });
  }

  /** Everything is again as it was when `snapshot` was taken of this machine; any number of times. */
  restore(snapshot: Snapshot): void {
    restoreSnapshot(snapshot);
  }

  /**
   * The machine is done with: the next one gets its memory, which then need not be made and collected. Whatever is asked
   * of it from now on is refused with a XenBug, of its parts and snapshots too; reading what they keep beside memory is
   * not. Who never calls it leaves the memory to the collector.
   */
  dispose(): void {
    if (this.hw === DISPOSED) return;
    const { ram, frames, cpus } = this.hw;
    Object.assign(this, { hw: DISPOSED, xen: DISPOSED, hypercalls: DISPOSED });
    cpus.stop();
    ram.giveBack();
    frames.giveBack();
  }
  /** For `using machine = Machine.boot(host);` */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Stands for every part of a machine that was disposed of. */
const DISPOSED = new Proxy(Object.freeze({}) as never, {
  get(_, name): never {
    refuseDisposed(String(name));
  },
});
