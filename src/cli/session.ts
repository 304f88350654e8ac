/** A booted host with somebody at its prompt. */
import { InputError } from '../base/assert.js';
import type { Sbdf } from '../base/sbdf.js';
import type { HostDescription } from '../inputs/host_description.js';
import { type BootOptions, Machine } from '../machine.js';
import type { PciHost } from '../pci/bus.js';
import { type Co, runAlone } from '../sim/co.js';
import { Dom0Host } from '../toolstack/host.js';
import type { ConfigPort } from '../toolstack/kernel/config.js';
import { TOOLSTACK_PROFILES } from '../toolstack/libxl/profile.js';
import { type CommandResult, Shell } from '../toolstack/shell/shell.js';
import { addSystemPrograms } from '../toolstack/shell/system.js';
import { Guests } from './guests.js';
import { DmaProgram, GuestProgramRunner, IommuProgram, XlProgram } from './programs.js';

/** dom0's configuration cycles go straight to the bus. */
class BusPort implements ConfigPort {
  constructor(private readonly pci: PciHost) {}
  read(sbdf: Sbdf, reg: number, bytes: number): number {
    return this.pci.configRead(sbdf, reg, bytes);
  }
  *write(sbdf: Sbdf, reg: number, bytes: number, value: number): Co<void> {
    this.pci.configWrite(sbdf, reg, bytes, value);
  }
}

export interface SessionOptions extends BootOptions {
  /** Files of dom0 beside those of the description, by absolute path. */
  readonly files?: Readonly<Record<string, string>>;
}

export class Session {
  private constructor(
    readonly machine: Machine,
    readonly dom0: Dom0Host,
    readonly guests: Guests,
    readonly shell: Shell,
  ) {}

  /** Boots Xen and dom0. @throws InputError, HostCrash */
  static boot(host: HostDescription, o: SessionOptions = {}): Session {
    const cmdline = o.cmdline ?? host.xenCmdline;
    const machine = Machine.boot(host, { ...o, ...(cmdline === undefined ? {} : { cmdline }) });
    const { hw } = machine;
    const dom0 = new Dom0Host({
      hv: machine.hypercalls,
      config: new BusPort(hw.pci),
      clock: hw.clock,
      events: hw.events,
      faults: hw.faults,
      profile: profileFor(o.release ?? '4.18'),
      functions: host.functions,
      dom0: { ...host.dom0, files: { ...host.dom0.files, ...o.files } },
    });
    runAlone(dom0.boot());
    const guests = new Guests(dom0, machine.hypercalls, host.guests ?? {});
    dom0.guests = guests;
    const shell = new Shell(dom0);
    addSystemPrograms(shell);
    shell.programs.set('xl', new XlProgram(dom0));
    shell.programs.set('dma', new DmaProgram(machine, dom0));
    shell.programs.set('iommu', new IommuProgram(machine));
    shell.programs.set('guest', new GuestProgramRunner(guests, dom0));
    return new Session(machine, dom0, guests, shell);
  }

  /** Runs one command line to its end. */
  run(line: string): CommandResult {
    return runAlone(this.shell.run(line));
  }
}

/** `4.18.0` has the tools of `4.18`. */
function profileFor(release: string): (typeof TOOLSTACK_PROFILES)['4.18'] {
  for (const [name, profile] of Object.entries(TOOLSTACK_PROFILES)) {
    if (release === name || release.startsWith(`${name}.`)) return profile;
  }
  throw new InputError('release', '', `${release} is not modelled`, 'choose 4.17, 4.18 or 4.23');
}
