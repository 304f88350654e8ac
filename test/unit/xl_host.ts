/** The recorded board under the real Xen of this repository, with dom0 and `xl` on it. */

import { parseSbdf } from '../../src/base/sbdf.js';
import { qemuXen } from '../../src/devicemodel/qemu.js';
import type { GuestChannels } from '../../src/guest/environment.js';
import { pciSetup } from '../../src/guest/hvmloader.js';
import { Pcifront } from '../../src/guest/pcifront.js';
import type { DomainInfo, DomctlOp } from '../../src/hypervisor/public/domctl.js';
import type { EvtchnOp } from '../../src/hypervisor/public/event_channel.js';
import type { Hypercalls, PhysInfo, XenVersion } from '../../src/hypervisor/public/hypercalls.js';
import type { MemoryOp } from '../../src/hypervisor/public/memory.js';
import type { MmuextOp } from '../../src/hypervisor/public/mmu.js';
import type { PhysdevOp } from '../../src/hypervisor/public/physdev.js';
import type { HostDescription } from '../../src/inputs/host_description.js';
import { Machine } from '../../src/machine.js';
import { type Co, runAlone } from '../../src/sim/co.js';
import type { StampedEvent } from '../../src/sim/events.js';
import { Dom0Host, type GuestKernels } from '../../src/toolstack/host.js';
import { allocUnbound, bindProcessors } from '../../src/toolstack/kernel/channels.js';
import type { ConfigPort } from '../../src/toolstack/kernel/config.js';
import type { Release } from '../../src/toolstack/libxl/lines.js';
import { TOOLSTACK_PROFILES } from '../../src/toolstack/libxl/profile.js';
import type { Call, Program } from '../../src/toolstack/shell/program.js';
import { Shell } from '../../src/toolstack/shell/shell.js';
import { addSystemPrograms } from '../../src/toolstack/shell/system.js';
import { runXlDaemons } from '../../src/toolstack/xl/daemon.js';
import { xl } from '../../src/toolstack/xl/xl.js';
import { q35 } from '../helpers/q35.js';

class Port implements ConfigPort {
  constructor(private readonly machine: Machine) {}
  read(sbdf: number, reg: number, bytes: number): number {
    return this.machine.hw.pci.configRead(sbdf, reg, bytes);
  }
  *write(sbdf: number, reg: number, bytes: number, value: number): Co<void> {
    this.machine.hw.pci.configWrite(sbdf, reg, bytes, value);
  }
}

/** Kernels of guests, as far as PCI needs them: front ends of PV guests, firmware and hot-unplug of HVM ones. */
export class Guests implements GuestKernels {
  /** HVM guests take notice of an unplug request. */
  acpi = true;
  private readonly fronts = new Map<number, Pcifront>();
  private readonly booted = new Set<number>();
  constructor(private readonly dom0: Dom0Host) {}

  *poll(): Co<boolean> {
    let busy = false;
    for (const info of yield* this.dom0.hv.getDomainInfoList()) {
      const { domid, flags } = info;
      if (domid === 0 || flags.paused) continue;
      if (!flags.hvm) busy = this.startFront(domid) || busy;
      const dm = this.dom0.deviceModels.get(domid);
      if (dm === undefined) continue;
      if (!this.booted.has(domid)) yield* pciSetup(dm);
      this.booted.add(domid);
      if (!this.acpi) continue;
      for (const devfn of dm.functions().filter((d) => dm.ejectRequested(d))) yield* dm.eject(devfn);
    }
    return busy;
  }

  private startFront(domid: number): boolean {
    if (this.fronts.has(domid)) return false;
    runAlone(bindProcessors(this.dom0.hv, domid, 1));
    const front = new Pcifront(this.dom0.xs, new GuestPorts(this.dom0.hv, domid), domid);
    this.fronts.set(domid, front);
    front.start();
    return true;
  }
}

class GuestPorts implements GuestChannels {
  constructor(
    private readonly hv: Hypercalls,
    private readonly domid: number,
  ) {}
  *alloc(): Co<number> {
    return yield* allocUnbound(this.hv, this.domid, 0);
  }
  *close(port: number): Co<void> {
    yield* this.hv.eventChannelOp({ cmd: 'close', domid: this.domid, port });
  }
}

/** `xl` as a program of the shell. */
class XlProgram implements Program {
  *run(call: Call): Co<number> {
    const { dom0 } = call.shell;
    return yield* xl({ dom0, out: (t) => call.out(t), err: (t) => call.err(t) }, call.argv);
  }
}

export interface Ran {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}

export interface XlHost {
  readonly machine: Machine;
  readonly dom0: Dom0Host;
  readonly guests: Guests;
  /** What Xen answers to hypercalls of these names instead of doing them. */
  readonly refused: Map<string, number>;
  xl(...argv: string[]): Ran;
  /** One line at dom0's prompt. */
  sh(line: string): Ran;
  /** `xl create` of this text, its name `/cfg`. */
  create(text: string, ...options: string[]): Ran;
  /** Hypercalls since the last look, as `cmd` or `cmd:detail`. */
  calls(): string[];
  /**
   * Everything since the last look, in order: hypercalls with `hv ` in front, writes to attributes (`sysfs `), changes of
   * xenstore (`xs `), commands to QEMU (`qmp `).
   */
  steps(): string[];
}

export interface XlHostOptions {
  readonly release?: Release;
  readonly board?: 'vtd' | 'amd';
  readonly cmdline?: string;
  readonly kernelCmdline?: string;
  readonly files?: Readonly<Record<string, string>>;
  /** A change to the board before it boots. */
  readonly adapt?: (host: HostDescription) => HostDescription;
}

/** The board with bytes of one function's configuration space changed. */
export const patched =
  (bdf: string, bytes: Readonly<Record<number, number>>) =>
  (host: HostDescription): HostDescription => ({
    ...host,
    functions: host.functions.map((f) => {
      if (f.sbdf !== parseSbdf(bdf)) return f;
      const config = Uint8Array.from(f.config);
      for (const [at, byte] of Object.entries(bytes)) config[Number(at)] = byte;
      return { ...f, config };
    }),
  });

const CMDLINE = 'iommu=1,verbose loglvl=all guest_loglvl=all dom0_mem=1G dom0_max_vcpus=1';

export function xlHost(o: XlHostOptions = {}): XlHost {
  const release = o.release ?? '4.18';
  const board = q35(o.board ?? 'vtd', {
    files: { '/h1/vmlinuz': 'kernel', '/h1/initrdU.gz': 'initrd', ...o.files },
    ...(o.kernelCmdline === undefined ? {} : { kernelCmdline: o.kernelCmdline }),
  });
  const host = o.adapt === undefined ? board : o.adapt(board);
  const machine = Machine.boot(host, { release, cmdline: o.cmdline ?? CMDLINE });
  const seen: string[] = [];
  const refused = new Map<string, number>();
  machine.hw.events.attach((e) => {
    const line = told(e);
    if (line !== undefined) seen.push(line);
  });
  const dom0 = new Dom0Host({
    hv: new Traced(machine.hypercalls, seen, refused),
    config: new Port(machine),
    clock: machine.hw.clock,
    events: machine.hw.events,
    faults: machine.hw.faults,
    profile: TOOLSTACK_PROFILES[release],
    qemu: qemuXen,
    functions: host.functions,
    dom0: host.dom0,
  });
  runAlone(dom0.boot());
  const guests = new Guests(dom0);
  dom0.guests = guests;
  const shell = new Shell(dom0);
  addSystemPrograms(shell);
  shell.programs.set('xl', new XlProgram());
  seen.length = 0;
  const run = (...argv: string[]): Ran => {
    let out = '';
    let err = '';
    const io = {
      dom0,
      out(t: string) {
        out += t;
      },
      err(t: string) {
        err += t;
      },
    };
    const exit = runAlone(xl(io, ['xl', ...argv]));
    runAlone(dom0.settle());
    runAlone(runXlDaemons(dom0));
    return { exit, out, err };
  };
  return {
    machine,
    dom0,
    guests,
    refused,
    sh(line) {
      const r = runAlone(shell.run(line));
      runAlone(runXlDaemons(dom0));
      return { exit: r.exit, out: r.stdout, err: r.stderr };
    },
    create(text, ...options) {
      dom0.fs.install('/cfg', text);
      return run('create', '/cfg', ...options);
    },
    xl: run,
    calls: () =>
      seen
        .splice(0)
        .filter((s) => s.startsWith('hv '))
        .map((s) => s.slice('hv '.length)),
    steps: () => seen.splice(0),
  };
}

/** A step of the toolstack; undefined for what other parts do. */
function told(e: StampedEvent): string | undefined {
  if (e.kind === 'sysfs' && e.op === 'write') return `sysfs ${e.path} ${e.value ?? ''}`.trim();
  if (e.kind === 'qmp' && e.dir === 'send') return `qmp ${e.json}`;
  if (e.kind !== 'xenstore' || (e.op !== 'write' && e.op !== 'mkdir' && e.op !== 'rm')) return undefined;
  return e.op === 'write' ? `xs ${e.path}=${e.value ?? ''}` : `xs ${e.op} ${e.path}`;
}

/** Writes down what is asked of Xen, in order. */
class Traced implements Hypercalls {
  constructor(
    private readonly hv: Hypercalls,
    private readonly seen: string[],
    private readonly refused: ReadonlyMap<string, number>,
  ) {}
  *domctl(op: DomctlOp): Co<number> {
    const rc = this.refused.get(op.cmd) ?? (yield* this.hv.domctl(op));
    this.seen.push(`hv ${op.cmd}${detail(op)}${rc < 0 ? `=${rc}` : ''}`);
    return rc;
  }
  *physdevOp(op: PhysdevOp): Co<number> {
    const rc = this.refused.get(op.cmd) ?? (yield* this.hv.physdevOp(op));
    this.seen.push(`hv ${op.cmd}${rc < 0 ? `=${rc}` : ''}`);
    return rc;
  }
  *eventChannelOp(op: EvtchnOp): Co<number> {
    return yield* this.hv.eventChannelOp(op);
  }
  *mmuextOp(op: MmuextOp): Co<number> {
    return yield* this.hv.mmuextOp(op);
  }
  *memoryOp(op: MemoryOp): Co<number> {
    if (op.cmd === 'set_memory_map') {
      const map = op.entries.map((e) => `${e.start.toString(16)}+${e.bytes.toString(16)}/${e.type}`);
      this.seen.push(`hv set_memory_map:${map.join(',')}`);
    }
    return yield* this.hv.memoryOp(op);
  }
  *getDomainInfoList(): Co<DomainInfo[]> {
    return yield* this.hv.getDomainInfoList();
  }
  physInfo(): PhysInfo {
    return this.hv.physInfo();
  }
  machineMemoryMap(): ReturnType<Hypercalls['machineMemoryMap']> {
    return this.hv.machineMemoryMap();
  }
  version(): XenVersion {
    return this.hv.version();
  }
  *debugKeys(keys: string): Co<number> {
    return yield* this.hv.debugKeys(keys);
  }
  readConsole(clear: boolean): readonly string[] {
    return this.hv.readConsole(clear);
  }
  *setUpcallVector(domid: number, vcpu: number, vector: number): Co<number> {
    return yield* this.hv.setUpcallVector(domid, vcpu, vector);
  }
  *shutdown(domid: number, reason: number): Co<number> {
    return yield* this.hv.shutdown(domid, reason);
  }
}

/** `:domid:device`, `:domid:+a0/32` for a permission, `:domid:+f3000=fe640/32` for a mapping. */
function detail(op: DomctlOp): string {
  if ('machineSbdf' in op) return `:${op.domid.toString(16)}:${op.machineSbdf.toString(16)}`;
  if (op.cmd === 'iomem_permission') {
    return `:${op.domid}:${op.allow ? '+' : '-'}${op.firstMfn.toString(16)}/${op.nrMfns}`;
  }
  if (op.cmd === 'memory_mapping') {
    const where = `${op.firstGfn.toString(16)}=${op.firstMfn.toString(16)}/${op.nrMfns}`;
    return `:${op.domid}:${op.add ? '+' : '-'}${where}`;
  }
  return '';
}
