/** dom0 on the recorded board, with a Xen that only writes down what it is asked. */

import { readFileSync } from 'node:fs';
import { qemuXen } from '../../src/devicemodel/qemu.js';
import type { EvtchnOp } from '../../src/hypervisor/public/event_channel.js';
import type { Hypercalls } from '../../src/hypervisor/public/hypercalls.js';
import type { PhysdevOp } from '../../src/hypervisor/public/physdev.js';
import type { FunctionDescription, PhysicalSlot } from '../../src/inputs/host_description.js';
import { readTopology } from '../../src/inputs/topology.js';
import { PciHost } from '../../src/pci/bus.js';
import { RootComplex } from '../../src/pci/dma.js';
import { Clock } from '../../src/sim/clock.js';
import { type Co, runAlone } from '../../src/sim/co.js';
import { EventStream } from '../../src/sim/events.js';
import { Faults } from '../../src/sim/faults.js';
import { Ram } from '../../src/sim/ram.js';
import { Dom0Host } from '../../src/toolstack/host.js';
import type { ConfigPort } from '../../src/toolstack/kernel/config.js';
import { TOOLSTACK_PROFILES } from '../../src/toolstack/libxl/profile.js';

/** The first port that a small guest has left. */
const LEFT_PORT = 8;
/** Where dom0 gets its end of a channel. */
const BOUND_PORT = 77;

export class Recorder {
  readonly physdev: PhysdevOp[] = [];
  readonly channels: EvtchnOp[] = [];
  /** What the next calls return, by command. */
  readonly answers = new Map<string, number>();
  /** Guests that run: id and kind. */
  readonly running = new Map<number, 'pv' | 'hvm'>();
  *getDomainInfoList(): Co<unknown[]> {
    const flags = { paused: false, dying: false, shutdown: false };
    return [...this.running].map(([domid, kind]) => ({ domid, flags: { ...flags, hvm: kind === 'hvm' } }));
  }
  *physdevOp(op: PhysdevOp): Co<number> {
    this.physdev.push(op);
    return this.answers.get(op.cmd) ?? 0;
  }
  *eventChannelOp(op: EvtchnOp): Co<number> {
    this.channels.push(op);
    if (op.cmd === 'alloc_unbound') op.port = LEFT_PORT;
    if (op.cmd === 'bind_interdomain') op.port = BOUND_PORT;
    return 0;
  }
}

class Port implements ConfigPort {
  constructor(private readonly pci: PciHost) {}
  read(sbdf: number, reg: number, bytes: number): number {
    return this.pci.configRead(sbdf, reg, bytes);
  }
  *write(sbdf: number, reg: number, bytes: number, value: number): Co<void> {
    this.pci.configWrite(sbdf, reg, bytes, value);
  }
}

export interface Board {
  readonly dom0: Dom0Host;
  readonly pci: PciHost;
  readonly xen: Recorder;
  /** What the kernel printed since the last call, without times. */
  log(): string[];
  read(path: string): string | number;
  write(path: string, text: string): number;
}

export interface BoardOptions {
  readonly cmdline?: string;
  readonly pciback?: 'module' | 'builtin' | 'none';
  /** Drivers at boot besides those of the recording, by short address. */
  readonly drivers?: Readonly<Record<string, string>>;
  readonly functions?: readonly FunctionDescription[];
  readonly slots?: readonly PhysicalSlot[];
  readonly files?: Readonly<Record<string, string>>;
}

const bdf = (text: string): number => {
  const [bus, dev, fn] = text.split(/[:.]/);
  return Number.parseInt(bus!, 16) * 256 + Number.parseInt(dev!, 16) * 8 + Number(fn);
};

export const q35 = (): FunctionDescription[] =>
  readTopology('topology.json', readFileSync(new URL('../../fixtures/q35/topology.json', import.meta.url)));

export function board(o: BoardOptions = {}): Board {
  const events = new EventStream();
  const functions = (o.functions ?? q35()).map((f) => {
    const named = Object.entries(o.drivers ?? {}).find(([at]) => bdf(at) === f.sbdf);
    return named === undefined ? f : { ...f, driver: named[1] };
  });
  const pci = new PciHost(functions, events, new RootComplex(new Ram(1024), events));
  const xen = new Recorder();
  const dom0 = new Dom0Host({
    hv: xen as unknown as Hypercalls,
    config: new Port(pci),
    clock: new Clock(),
    events,
    faults: new Faults(),
    profile: TOOLSTACK_PROFILES['4.17'],
    qemu: qemuXen,
    functions,
    slots: o.slots ?? [],
    dom0: {
      hostname: 'dom0',
      kernelRelease: '6.1.0-56-amd64',
      kernelCmdline: o.cmdline ?? 'console=hvc0',
      pciback: o.pciback ?? 'module',
      files: o.files ?? {},
    },
  });
  runAlone(dom0.boot());
  let seen = 0;
  return {
    dom0,
    pci,
    xen,
    log() {
      const lines = dom0.kernel.log.lines.slice(seen).map((l) => l.text.slice(15));
      seen = dom0.kernel.log.lines.length;
      return lines;
    },
    read: (path) => dom0.fs.readFile(path),
    write: (path, text) => runAlone(dom0.fs.writeFile(path, text)),
  };
}
