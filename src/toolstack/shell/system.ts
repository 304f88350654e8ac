/** Commands that ask dom0's kernel, Xen's tools or the clock. */
import { strerror } from '../../base/errno.js';
import { type Co, pause } from '../../sim/co.js';
import type { Dom0Host } from '../host.js';
import { DRIVER_SPECS, modulesFor } from '../kernel/drivers.js';
import { KERN } from '../kernel/log.js';
import type { KernelPci } from '../kernel/pci_dev.js';
import { xenstoreCommand } from '../xenstore/commands.js';
import { addFilePrograms } from './file_tools.js';
import { lspci } from './lspci.js';
import type { LspciDevice } from './lspci_device.js';
import { type Call, complain, options, type Program } from './program.js';
import { Setpci } from './setpci.js';
import type { Shell } from './shell.js';

/** How lspci sees a device of dom0. */
export function lspciDevice(dom0: Dom0Host, dev: KernelPci): LspciDevice {
  const { config } = dom0.kernel;
  const slot = dom0.kernel.slotOf(dev)?.name;
  const { physfn } = dev;
  const name = physfn === undefined ? dom0.names.get(dev.sbdf) : dom0.virtualNames.get(physfn.sbdf);
  const read = (reg: number, bytes: number): number => config.read(dev.sbdf, reg, bytes);
  const extended = dev.cap.express !== 0 && read(0x100, 4) !== 0xffff_ffff;
  return {
    sbdf: dev.sbdf,
    vendor: dev.vendor,
    device: dev.device,
    classCode: dev.classCode,
    revision: dev.revision,
    subsystemVendor: dev.subsystemVendor,
    subsystemDevice: dev.subsystemDevice,
    headerType: dev.headerType,
    irq: dev.irq,
    driver: dev.driver?.name,
    modules: modulesFor(dev),
    resources: dev.resources,
    configBytes: extended ? 4096 : 256,
    read,
    ...(slot === undefined ? {} : { slot }),
    ...(name === undefined ? {} : { init: { name } }),
  };
}

class Lspci implements Program {
  *run(call: Call): Co<number> {
    const { dom0 } = call.shell;
    return lspci(
      [...dom0.kernel.pci.devices.values()].map((d) => lspciDevice(dom0, d)),
      call.argv,
      call,
    );
  }
}

class Xenstore implements Program {
  *run(call: Call): Co<number> {
    const exit = xenstoreCommand(call.shell.dom0.xs, call.argv, call);
    yield* call.shell.dom0.settle();
    return exit;
  }
}

class Lsmod implements Program {
  *run(call: Call): Co<number> {
    call.out('Module                  Size  Used by\n');
    const { core, modules } = call.shell.dom0.kernel;
    for (const name of [...modules].reverse()) {
      const bytes = DRIVER_SPECS.find((s) => s.module === name)?.bytes ?? 98304;
      const users = [...core.drivers.values()].reduce(
        (n, d) => n + (d.module === name ? d.devices.length : 0),
        0,
      );
      call.out(`${name.padEnd(19)} ${String(bytes).padStart(8)}  ${users}\n`);
    }
    return 0;
  }
}

class Modprobe implements Program {
  *run(call: Call): Co<number> {
    const o = options(call.argv, 'rvqf');
    const { kernel } = call.shell.dom0;
    for (const name of o.args) {
      const remove = o.flags.has('r') || call.argv[0] === 'rmmod';
      const rc = remove ? yield* kernel.rmmod(name) : yield* kernel.modprobe(name);
      if (rc === 0) continue;
      const { release } = call.shell.dom0.uname;
      const text = remove
        ? `FATAL: Module ${name} is not currently loaded.`
        : `FATAL: Module ${name} not found in directory /lib/modules/${release}`;
      return complain(
        call,
        call.argv[0] === 'rmmod' ? `ERROR: Module ${name} is not currently loaded` : text,
      );
    }
    return 0;
  }
}

class Dmesg implements Program {
  *run(call: Call): Co<number> {
    const { lines } = call.shell.dom0.kernel.log;
    call.out(
      lines
        .filter((l) => l.level <= KERN.DEBUG)
        .map((l) => `${l.text}\n`)
        .join(''),
    );
    return 0;
  }
}

class Uname implements Program {
  *run(call: Call): Co<number> {
    const { machine, nodename, release, version } = call.shell.dom0.uname;
    const o = options(call.argv, 'snrvmpioa');
    const parts: [string, string][] = [
      ['s', 'Linux'],
      ['n', nodename],
      ['r', release],
      ['v', version],
      ['m', machine],
      ['o', 'GNU/Linux'],
    ];
    const all = o.flags.has('a');
    const shown = parts.filter(([f]) => all || o.flags.has(f)).map(([, text]) => text);
    call.out(`${shown.length === 0 ? 'Linux' : shown.join(' ')}\n`);
    return 0;
  }
}

class Hostname implements Program {
  *run(call: Call): Co<number> {
    call.out(`${call.shell.dom0.uname.nodename}\n`);
    return 0;
  }
}

/** Simulated time passes; alarms that fall due go off. */
class Sleep implements Program {
  *run(call: Call): Co<number> {
    const seconds = call.argv.slice(1).reduce((n, a) => n + Number.parseFloat(a), 0);
    if (Number.isNaN(seconds) || call.argv.length < 2 || seconds < 0)
      return complain(call, `invalid time interval '${call.argv[1] ?? ''}'`);
    yield* pause(call.shell.dom0.clock, Math.min(seconds, 1e6) * 1e9);
    yield* call.shell.dom0.settle();
    return 0;
  }
}

class Ps implements Program {
  *run(call: Call): Co<number> {
    call.out('    PID TTY      STAT   TIME COMMAND\n');
    for (const p of call.shell.dom0.processes.list.values()) {
      call.out(`${String(p.pid).padStart(7)} ?        Ssl    0:00 ${p.argv.join(' ')}\n`);
    }
    return 0;
  }
}

class Tee implements Program {
  *run(call: Call): Co<number> {
    const o = options(call.argv, 'ai');
    const { fs } = call.shell.dom0;
    let exit = 0;
    call.out(call.stdin);
    for (const path of o.args) {
      const rc = o.flags.has('a') ? fs.append(path, call.stdin) : yield* fs.writeFile(path, call.stdin);
      if (rc < 0) exit = complain(call, `${path}: ${strerror(rc)}`);
    }
    return exit;
  }
}

export function addSystemPrograms(shell: Shell): void {
  const { programs } = shell;
  programs.set('lspci', new Lspci());
  programs.set('setpci', new Setpci());
  programs.set('lsmod', new Lsmod());
  programs.set('dmesg', new Dmesg());
  programs.set('uname', new Uname());
  programs.set('hostname', new Hostname());
  programs.set('sleep', new Sleep());
  programs.set('ps', new Ps());
  programs.set('tee', new Tee());
  addFilePrograms(shell);
  for (const name of ['modprobe', 'rmmod']) programs.set(name, new Modprobe());
  const xenstore = new Xenstore();
  for (const mode of ['', '-ls', '-read', '-write', '-rm', '-list', '-exists', '-chmod'])
    programs.set(`xenstore${mode}`, xenstore);
}
