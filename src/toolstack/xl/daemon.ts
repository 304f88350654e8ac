/** The xl processes that wait for their domains to die. @xen tools/xl/xl_vmcontrol.c handle_domain_death */
import type { DomainInfo } from '../../hypervisor/public/domctl.js';
import { SHUTDOWN } from '../../hypervisor/public/domctl.js';
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import type { Dom0, DomainWatcher } from '../dom0.js';
import { domainDestroy } from '../libxl/domain.js';
import { Libxl } from '../libxl/libxl.js';
import { Log, XTL_DEFAULT } from '../libxl/log.js';
import type { ActionOnShutdown } from '../libxl/types.js';
import type { Xl } from './context.js';
import { startDomain } from './create.js';
import { readGlobalConfig } from './global_config.js';
import { actionName, parseConfigData } from './parse.js';

const REBOOT_PAUSE_NS = 2e9;

/** Lets every daemon look at its domain once: call it after anything that may have ended one. */
export function* runXlDaemons(dom0: Dom0): Co<void> {
  for (const w of [...dom0.watchers.values()]) {
    const write = (text: string): void => {
      dom0.fs.append(`/var/log/xen/xl-${w.name}.log`, text);
    };
    const lx = new Libxl(dom0, new Log(dom0.profile.release, XTL_DEFAULT, write));
    const info = yield* lx.xc.domainInfo(w.domid);
    if (info === undefined || info.flags.dying) {
      write(`Domain ${w.domid} has been destroyed.\n`);
      endWatch(dom0, w);
    } else if (info.flags.shutdown) {
      // xenstored tells of shutdowns as it does of deaths.
      dom0.xs.fireSpecial('@releaseDomain');
      yield* dom0.settle();
      yield* domainDied(dom0, lx, w, info, write);
    }
  }
}

function endWatch(dom0: Dom0, w: DomainWatcher): void {
  w.death?.end();
  dom0.watchers.delete(w.domid);
  dom0.processes.exit(w.pid);
}

function actionFor(w: DomainWatcher, reason: number): ActionOnShutdown | undefined {
  if (reason === SHUTDOWN.suspend) return undefined;
  const byReason = [w.onPoweroff, w.onReboot, '', w.onCrash, w.onWatchdog, w.onSoftReset];
  return (byReason[reason] ?? 'destroy') as ActionOnShutdown;
}

function* domainDied(
  dom0: Dom0,
  lx: Libxl,
  w: DomainWatcher,
  info: DomainInfo,
  write: (text: string) => void,
): Co<void> {
  const reason = info.shutdownReason;
  write(`Domain ${w.domid} has shut down, reason code ${reason} 0x${reason.toString(16)}\n`);
  const action = actionFor(w, reason);
  if (action === undefined) {
    write('Domain has suspended.\n');
    endWatch(dom0, w);
    return;
  }
  write(`Action for shutdown reason code ${reason} is ${actionName(action)}\n`);
  if (action === 'preserve') {
    write('Done. Exiting now\n');
    endWatch(dom0, w);
    return;
  }
  write(`Domain ${w.domid} needs to be cleaned up: destroying the domain\n`);
  yield* domainDestroy(lx, w.domid);
  endWatch(dom0, w);
  if (action === 'destroy' || action === 'coredump_destroy') {
    write('Done. Exiting now\n');
    return;
  }
  write('Done. Rebooting now\n');
  yield* pause(dom0.clock, REBOOT_PAUSE_NS);
  yield* restart(dom0, lx, w, write);
}

/** A new domain from the configuration of the old one, watched as before. */
function* restart(dom0: Dom0, lx: Libxl, w: DomainWatcher, write: (text: string) => void): Co<void> {
  const io = { dom0, out: write, err: write };
  const xl: Xl = { ...io, lx, global: readGlobalConfig(io, lx), dryrun: false, force: false };
  const domid = yield* startDomain(xl, parseConfigData(xl, w.source.name, w.source.text), false);
  if (domid < 0) return;
  const { pid } = dom0.processes.spawn(['xl', 'create', w.source.name]);
  dom0.watchers.set(domid, { ...w, domid, pid });
  write(`Waiting for domain ${w.name} (domid ${domid}) to die [pid ${pid}]\n`);
}
