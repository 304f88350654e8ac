/** destroy, pause, shutdown and their relatives. @xen tools/xl/xl_vmcontrol.c */
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import { domainDestroy, domainPause, domainUnpause, pvControl } from '../libxl/domain.js';
import { ERROR } from '../libxl/types.js';
import type { Xl } from './context.js';
import { runXlDaemons } from './daemon.js';
import { findDomain } from './find_domain.js';
import { getOptions } from './getopt.js';

export function* mainPause(xl: Xl, argv: readonly string[]): Co<number> {
  const { args } = getOptions(xl, argv, '', {}, 'pause', 1);
  yield* domainPause(xl.lx, yield* findDomain(xl, args[0]!));
  return 0;
}

export function* mainUnpause(xl: Xl, argv: readonly string[]): Co<number> {
  const { args } = getOptions(xl, argv, '', {}, 'unpause', 1);
  yield* domainUnpause(xl.lx, yield* findDomain(xl, args[0]!));
  return 0;
}

export function* mainDestroy(xl: Xl, argv: readonly string[]): Co<number> {
  const { flags, args } = getOptions(xl, argv, 'f', {}, 'destroy', 1);
  const domid = yield* findDomain(xl, args[0]!);
  if (domid === 0 && flags.length === 0) {
    xl.err(
      'Not destroying domain 0; use -f to force.\n' +
        'This can only be done when using a disaggregated hardware domain and toolstack.\n\n',
    );
    return 1;
  }
  const rc = yield* domainDestroy(xl.lx, domid);
  if (rc === 0) return 0;
  xl.err(`destroy failed (rc=${rc})\n`);
  return 1;
}

export function* mainShutdown(xl: Xl, argv: readonly string[]): Co<number> {
  return yield* shutdownOrReboot(xl, argv, 'poweroff');
}

export function* mainReboot(xl: Xl, argv: readonly string[]): Co<number> {
  return yield* shutdownOrReboot(xl, argv, 'reboot');
}

type Command = 'poweroff' | 'reboot';

function* shutdownOrReboot(xl: Xl, argv: readonly string[], command: Command): Co<number> {
  const what = command === 'reboot' ? 'reboot' : 'shutdown';
  const { flags, args } = getOptions(xl, argv, 'awF', { all: 'a', wait: 'w' }, what, 0);
  const all = flags.some((f) => f.opt === 'a');
  if (args.length === 0 && !all) {
    xl.err('You must specify -a or a domain id.\n\n');
    return 1;
  }
  const waits = flags.filter((f) => f.opt === 'w').length;
  const domids: number[] = [];
  if (!all) domids.push(yield* findDomain(xl, args[0]!));
  else for (const d of yield* xl.lx.xc.domainList()) if (d.domid !== 0) domids.push(d.domid);
  for (const domid of domids) {
    const rc = yield* stopOne(
      xl,
      domid,
      command,
      flags.some((f) => f.opt === 'F'),
    );
    if (rc !== 0) return rc;
  }
  return waits > 0 ? yield* waitForDeaths(xl, domids, waits > 1) : 0;
}

const LOOK_NS = 100e6;
/** Whoever waits longer presses Ctrl-C: xl would wait for ever. */
const WAIT_MAX_NS = 3600e9;
const INTERRUPTED = 130;

/** Until every domain has shut down, or with -ww until it is gone. @xen wait_for_domain_deaths */
function* waitForDeaths(xl: Xl, domids: readonly number[], untilGone: boolean): Co<number> {
  const waiting = new Map(domids.map((domid) => [domid, false]));
  xl.err(`Waiting for ${waiting.size} domains\n`);
  const { clock } = xl.dom0;
  for (const end = clock.nowNs + WAIT_MAX_NS; clock.nowNs < end; ) {
    for (const [domid, stopped] of waiting) {
      const info = yield* xl.lx.xc.domainInfo(domid);
      if (info === undefined || info.flags.dying) {
        xl.err(`Domain ${domid} has been destroyed\n`);
        waiting.delete(domid);
      } else if (info.flags.shutdown && !stopped) {
        xl.err(`Domain ${domid} has been shut down, reason code ${info.shutdownReason}\n`);
        if (untilGone) xl.err(`Domain ${domid} continue waiting for death\n`);
        if (untilGone) waiting.set(domid, true);
        else waiting.delete(domid);
      }
    }
    if (waiting.size === 0) return 0;
    yield* xl.dom0.settle();
    yield* runXlDaemons(xl.dom0);
    yield* pause(clock, LOOK_NS);
  }
  return INTERRUPTED;
}

/** 0, or the exit code after the complaint. */
function* stopOne(xl: Xl, domid: number, command: Command, fallback: boolean): Co<number> {
  const reboot = command === 'reboot';
  xl.err(`${reboot ? 'Rebooting' : 'Shutting down'} domain ${domid}\n`);
  const rc = yield* pvControl(xl.lx, domid, command);
  if (rc === 0) return 0;
  if (rc === ERROR.NOPARAVIRT) {
    const button = reboot ? 'reset' : 'power';
    xl.err(
      fallback
        ? `PV control interface not available: sending ACPI ${button} button event.\n`
        : 'PV control interface not available:' +
            ` external graceful ${reboot ? 'reboot' : 'shutdown'} not possible.\n` +
            `Use "-F" to fallback to ACPI ${button} event.\n`,
    );
    // No guest of the simulator listens to its ACPI buttons.
    if (fallback) return 0;
  }
  xl.err(`${reboot ? 'reboot' : 'shutdown'} failed (rc=${rc})\n`);
  return 1;
}
