/** dom0 as a whole: its kernel, its files, xenstore, its processes. What libxl and xl see is `Dom0`. */
import type { BootFiles } from '../base/boot_file.js';
import type { Sbdf } from '../base/sbdf.js';
import { VIRQ } from '../hypervisor/public/event_channel.js';
import type { Hypercalls } from '../hypervisor/public/hypercalls.js';
import type { Clock } from '../sim/clock.js';
import type { Co } from '../sim/co.js';
import type { EventStream } from '../sim/events.js';
import type { Faults } from '../sim/faults.js';
import { Daemons } from './daemons.js';
import type {
  DeviceModel,
  DeviceModelProgram,
  Dom0,
  DomainWatcher,
  Process,
  Processes,
  Uname,
} from './dom0.js';
import { allocUnbound, bindProcessors, bindVirq, processorChannels } from './kernel/channels.js';
import type { ConfigPort } from './kernel/config.js';
import { rootBusesOf } from './kernel/enumerate.js';
import { Dom0Kernel } from './kernel/kernel.js';
import type { KernelPci, KernelSlot } from './kernel/pci_dev.js';
import { findCapability } from './kernel/setup.js';
import type { ToolstackProfile } from './libxl/profile.js';
import type { BackendBus } from './pciback/backend.js';
import { loadPciback, type PcibackKind, startPciback } from './pciback/boot.js';
import type { Pciback } from './pciback/stub.js';
import { Dom0Files } from './sysfs/files.js';
import type { MemoryRange } from './sysfs/iomem.js';
import { Sysfs } from './sysfs/tree.js';
import { XenstoreDaemon } from './xenstore/store.js';

/** A function of the host, as far as dom0 has to be told about it. */
export interface Dom0Function {
  readonly sbdf: Sbdf;
  readonly config: Uint8Array;
  readonly driver?: string;
  /** Of its virtual functions, once they are enabled. */
  readonly virtual?: { readonly name?: string; readonly driver?: string };
  /** Vendor and device in words, for lspci. */
  readonly name?: string;
}

export interface Dom0Setup {
  readonly hv: Hypercalls;
  readonly config: ConfigPort;
  readonly clock: Clock;
  readonly events: EventStream;
  readonly faults: Faults;
  readonly profile: ToolstackProfile;
  readonly qemu: DeviceModelProgram;
  readonly functions: readonly Dom0Function[];
  readonly slots?: readonly KernelSlot[];
  /** The firmware's memory map. */
  readonly memory?: readonly MemoryRange[];
  readonly dom0: {
    readonly hostname: string;
    readonly kernelRelease: string;
    readonly kernelCmdline: string;
    readonly pciback: PcibackKind;
    readonly bootFiles?: BootFiles;
    readonly files: Readonly<Record<string, string>>;
  };
}

/** Kernels of guests that react to xenstore and to being unpaused. */
export interface GuestKernels {
  /** Does what there is to do; true when something was done. */
  poll(): Co<boolean>;
}

class ProcessTable implements Processes {
  readonly list = new Map<number, Process>();
  private next = 258;
  spawn(argv: readonly string[]): Process {
    const process = { pid: this.next++, argv };
    this.list.set(process.pid, process);
    return process;
  }
  exit(pid: number): void {
    this.list.delete(pid);
  }
}

/** Capability of a standard hot-plug controller. */
const SHPC = 0x0c;
const DOM0 = 0;
const ROUNDS_MAX = 10_000;
const KERNEL_VERSION = '#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)';
/** Nodes that xenstored and xen-init-dom0 make at boot, in their order. */
const FIRST_NODES: readonly (readonly [string, string])[] = [
  ['/tool/xenstored', ''],
  ['/local/domain/0/control/feature-poweroff', '1'],
  ['/local/domain/0/control/feature-reboot', '1'],
  ['/local/domain/0/control/feature-suspend', '1'],
  ['/local/domain/0/domid', '0'],
  ['/local/domain/0/name', 'Domain-0'],
  ['/local/pool/0/name', 'Pool-0'],
];

export class Dom0Host implements Dom0 {
  readonly hv: Hypercalls;
  readonly clock: Clock;
  readonly events: EventStream;
  readonly faults: Faults;
  readonly profile: ToolstackProfile;
  readonly xs: XenstoreDaemon;
  readonly kernel: Dom0Kernel;
  readonly fs: Dom0Files;
  readonly processes = new ProcessTable();
  readonly uname: Uname;
  readonly qemu: DeviceModelProgram;
  readonly bootFiles: BootFiles;
  readonly deviceModels = new Map<number, DeviceModel>();
  qmpNs = 0;
  readonly watchers = new Map<number, DomainWatcher>();
  /** Names of functions as the description gives them. */
  readonly names = new Map<Sbdf, string>();
  /** And those of their virtual functions. */
  readonly virtualNames = new Map<Sbdf, string>();
  private readonly daemons: Daemons;
  /** The thread that delivers watches has something to do until then. @linux xenwatch_thread */
  private busyUntilNs = 0;
  pciback: Pciback | undefined = undefined;
  backends: BackendBus | undefined = undefined;
  guests: GuestKernels | undefined = undefined;

  constructor(private readonly setup: Dom0Setup) {
    const { clock, config, dom0, events, faults, hv } = setup;
    this.hv = hv;
    this.clock = clock;
    this.events = events;
    this.faults = faults;
    this.profile = setup.profile;
    this.qemu = setup.qemu;
    this.bootFiles = dom0.bootFiles ?? {};
    this.xs = new XenstoreDaemon(events, faults);
    this.daemons = new Daemons(hv, this.xs);
    this.kernel = new Dom0Kernel(hv, config, clock, events);
    this.kernel.slots.push(...(setup.slots ?? []));
    this.uname = {
      nodename: dom0.hostname,
      release: dom0.kernelRelease,
      version: KERNEL_VERSION,
      machine: 'x86_64',
    };
    const proc = new Map([
      ['cmdline', `${dom0.kernelCmdline}\n`],
      ['version', `Linux version ${dom0.kernelRelease} ${KERNEL_VERSION}\n`],
    ]);
    this.fs = new Dom0Files(new Sysfs(this.kernel, proc, setup.memory), events, faults, clock);
    this.fs.install('/etc/hostname', `${dom0.hostname}\n`);
    for (const [path, text] of Object.entries(dom0.files)) this.fs.install(path, text);
    for (const f of setup.functions) {
      if (f.name !== undefined) this.names.set(f.sbdf, f.name);
      if (f.virtual?.name !== undefined) this.virtualNames.set(f.sbdf, f.virtual.name);
      if (f.virtual?.driver !== undefined) this.kernel.virtualDrivers.set(f.sbdf, f.virtual.driver);
    }
  }

  /** From the kernel's first line to a shell prompt. */
  *boot(): Co<void> {
    const { dom0, functions } = this.setup;
    const { kernel, xs } = this;
    kernel.log.info(`Linux version ${dom0.kernelRelease} ${KERNEL_VERSION}`);
    kernel.log.info(`Command line: ${dom0.kernelCmdline}`);
    for (const { bus, seg } of rootBusesOf(functions)) yield* kernel.pci.scanRoot(seg, bus);
    yield* this.bindProcessors();
    const storePort = yield* allocUnbound(this.hv, DOM0, DOM0);
    yield* bindVirq(this.hv, VIRQ.PCPU_STATE);
    kernel.irqs.takeChannels(2);
    yield* kernel.interrupts.bootLegacy();
    if (dom0.pciback === 'builtin') yield* this.loadPciback('builtin');
    yield* this.bindDrivers(true);
    for (const virq of [VIRQ.MCA, VIRQ.CONSOLE]) yield* bindVirq(this.hv, virq);
    kernel.irqs.takeChannels(2);
    yield* kernel.interrupts.startLegacy();
    if (dom0.pciback === 'module') yield* this.loadPciback('module');
    yield* this.bindDrivers(false);
    for (const [path, value] of FIRST_NODES) xs.write(path, value);
    yield* this.daemons.start(storePort);
    if (this.pciback !== undefined) this.backends = yield* startPciback(kernel, xs, this.pciback);
    yield* this.settle();
  }

  private *bindProcessors(): Co<void> {
    const own = (yield* this.hv.getDomainInfoList()).find((i) => i.domid === DOM0);
    const vcpus = own?.nrOnlineVcpus ?? 1;
    yield* bindProcessors(this.hv, DOM0, vcpus);
    this.kernel.irqs.takeChannels(processorChannels(vcpus));
  }

  private *loadPciback(kind: 'module' | 'builtin'): Co<void> {
    this.pciback = yield* loadPciback(this.kernel, this.setup.dom0.kernelCmdline, kind);
  }

  /** The drivers that the description names; ports get theirs also where it is silent. */
  private *bindDrivers(builtin: boolean): Co<void> {
    const { kernel } = this;
    const described = new Map(this.setup.functions.map((f) => [f.sbdf, f.driver]));
    for (const dev of [...kernel.pci.devices.values()]) {
      const port = dev.expressType === 4 || dev.expressType === 5 || dev.expressType === 6;
      const name = described.get(dev.sbdf) ?? (port ? 'pcieport' : undefined);
      // The driver for bridges with a hot-plug controller enables them, and gives up where firmware has it.
      if (builtin && dev.headerType === 1 && findCapability(this.setup.config, dev, SHPC) !== 0)
        yield* this.tryHotplug(dev);
      if (name === undefined || name === 'pciback' || dev.driver !== undefined) continue;
      if (kernel.isBuiltin(name, dev) === builtin) yield* kernel.bindAtBoot(name, dev);
    }
  }

  /** @linux drivers/pci/hotplug/shpchp_core.c shpc_probe */
  private *tryHotplug(dev: KernelPci): Co<void> {
    const { interrupts, power } = this.kernel;
    yield* power.enable(dev);
    if ((yield* interrupts.allocVectors(dev, 1)) !== 0) return;
    yield* interrupts.requestVectors(dev);
    yield* interrupts.freeVectors(dev);
  }

  stopWaiting(atNs: number): void {
    this.busyUntilNs = this.clock.nowNs;
    this.clock.goBack(atNs);
  }

  *settle(): Co<void> {
    if (this.clock.nowNs < this.busyUntilNs) return;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      yield* this.xs.settle();
      if (this.guests === undefined || !(yield* this.guests.poll())) return;
    }
  }

  /** The lowest terminal that no domain has: each one is somebody's console or serial port. */
  openPty(): string {
    const { xs } = this;
    const used = new Set<string>();
    for (const id of xs.ls('/local/domain') ?? []) {
      const dom = `/local/domain/${id}`;
      used.add(xs.read(`${dom}/console/tty`) ?? '');
      for (const port of xs.ls(`${dom}/serial`) ?? []) used.add(xs.read(`${dom}/serial/${port}/tty`) ?? '');
    }
    let n = 0;
    while (used.has(`/dev/pts/${n}`)) n++;
    // Nothing of what a guest prints waits there.
    this.fs.install(`/dev/pts/${n}`, '');
    return `/dev/pts/${n}`;
  }
}
