/** A booted host with somebody at its prompt. */

import { InputError } from '../base/assert.js';
import type { Sbdf } from '../base/sbdf.js';
import { qemuXen } from '../devicemodel/qemu.js';
import type { HostDescription } from '../inputs/host_description.js';
import { type BootOptions, Machine } from '../machine.js';
import { type Co, runAlone } from '../sim/co.js';
import { Dom0Host } from '../toolstack/host.js';
import type { ConfigPort } from '../toolstack/kernel/config.js';
import { TOOLSTACK_PROFILES } from '../toolstack/libxl/profile.js';
import { type Call, complain, type Program } from '../toolstack/shell/program.js';
import { type CommandResult, Shell } from '../toolstack/shell/shell.js';
import { addSystemPrograms } from '../toolstack/shell/system.js';
import { Guests } from './guests.js';
import { DmaProgram, GuestProgramRunner, IommuProgram, XlProgram } from './programs.js';

/** dom0's configuration cycles: reads go straight to the bus, writes are looked at by Xen. */
class Dom0Port implements ConfigPort {
  constructor(private readonly machine: Machine) {}
  read(sbdf: Sbdf, reg: number, bytes: number): number {
    return this.machine.hw.pci.configRead(sbdf, reg, bytes);
  }
  *write(sbdf: Sbdf, reg: number, bytes: number, value: number): Co<void> {
    this.machine.dom0ConfigWrite(sbdf, reg, bytes, value);
  }
  *message(sbdf: Sbdf): Co<void> {
    yield* this.machine.sendMessage(sbdf);
  }
}

export interface SessionOptions extends BootOptions {
  /** Files of dom0 beside those of the description, by absolute path. */
  readonly files?: Readonly<Record<string, string>>;
}

/** What `reboot` changes: Xen's command line, and what is added to dom0's. */
export interface Reboot {
  readonly xen?: string;
  readonly linux?: string;
}

/** Everything that a boot makes anew. */
interface Booted {
  readonly machine: Machine;
  readonly dom0: Dom0Host;
  readonly guests: Guests;
  readonly shell: Shell;
}

export class Session {
  private booted: Booted;
  /** Set by the command `reboot`; done when its command line has ended. */
  reboot: Reboot | undefined = undefined;

  /** Boots Xen and dom0. @throws InputError, HostCrash */
  constructor(
    private readonly host: HostDescription,
    private readonly options: SessionOptions = {},
  ) {
    this.booted = this.boot({});
  }

  get machine(): Machine {
    return this.booted.machine;
  }
  get dom0(): Dom0Host {
    return this.booted.dom0;
  }
  get guests(): Guests {
    return this.booted.guests;
  }
  get shell(): Shell {
    return this.booted.shell;
  }

  private boot(r: Reboot): Booted {
    const { host, options } = this;
    const cmdline = r.xen ?? options.cmdline ?? host.xenCmdline;
    const machine = Machine.boot(host, { ...options, ...(cmdline === undefined ? {} : { cmdline }) });
    const { hw } = machine;
    const kernelCmdline =
      r.linux === undefined ? host.dom0.kernelCmdline : `${host.dom0.kernelCmdline} ${r.linux}`;
    const dom0 = new Dom0Host({
      hv: machine.hypercalls,
      config: new Dom0Port(machine),
      clock: hw.clock,
      events: hw.events,
      faults: hw.faults,
      profile: profileFor(options.release ?? '4.18'),
      qemu: qemuXen,
      functions: host.functions,
      ...(host.slots === undefined ? {} : { slots: host.slots }),
      memory: host.e820,
      dom0: { ...host.dom0, kernelCmdline, files: { ...host.dom0.files, ...options.files } },
    });
    runAlone(dom0.boot());
    const guests = new Guests(dom0, machine.hypercalls, host.guests ?? {});
    dom0.guests = guests;
    const shell = new Shell(dom0);
    addSystemPrograms(shell);
    const { programs } = shell;
    programs.set('xl', new XlProgram(dom0));
    programs.set('dma', new DmaProgram(machine, dom0));
    programs.set('iommu', new IommuProgram(machine));
    programs.set('guest', new GuestProgramRunner(guests, dom0));
    programs.set('reboot', new RebootProgram(this));
    return { machine, dom0, guests, shell };
  }

  /** Runs one command line to its end. */
  run(line: string): CommandResult {
    const result = runAlone(this.shell.run(line));
    if (this.reboot !== undefined) {
      const how = this.reboot;
      this.reboot = undefined;
      this.booted.machine.dispose();
      this.booted = this.boot(how);
    }
    return result;
  }
}

/** `reboot [--xen "OPTIONS"] [--linux "OPTIONS"]`: the host starts again, with another command line if one is given. */
class RebootProgram implements Program {
  constructor(private readonly session: Session) {}
  *run(call: Call): Co<number> {
    const values = new Map<string, string>();
    for (let i = 1; i < call.argv.length; i += 2) {
      const [name, value] = [call.argv[i]!, call.argv[i + 1]];
      if ((name !== '--xen' && name !== '--linux') || value === undefined)
        return complain(call, 'usage: reboot [--xen "OPTIONS"] [--linux "OPTIONS"]', 2);
      values.set(name, value);
    }
    const [xen, linux] = [values.get('--xen'), values.get('--linux')];
    this.session.reboot = {
      ...(xen === undefined ? {} : { xen }),
      ...(linux === undefined ? {} : { linux }),
    };
    return 0;
  }
}

/** `4.18.0` has the tools of `4.18`. */
function profileFor(release: string): (typeof TOOLSTACK_PROFILES)['4.18'] {
  for (const [name, profile] of Object.entries(TOOLSTACK_PROFILES)) {
    if (release === name || release.startsWith(`${name}.`)) return profile;
  }
  throw new InputError('release', '', `${release} is not modelled`, 'choose 4.17, 4.18 or 4.23');
}
