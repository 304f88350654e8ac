/** The command `xl`. @xen tools/xl/xl.c main */
import type { Co } from '../../sim/co.js';
import { HypercallBuffers } from '../hypercall_buffers.js';
import { Libxl } from '../libxl/libxl.js';
import { Log, XTL, XTL_DEFAULT } from '../libxl/log.js';
import { commandTable, lookupCommand } from './cmdtable.js';
import { type Xl, type XlContext, XlExit } from './context.js';
import { mainCreate } from './create.js';
import { readGlobalConfig } from './global_config.js';
import { help } from './help.js';
import {
  mainDebugKeys,
  mainDmesg,
  mainDomid,
  mainDomname,
  mainInfo,
  mainRename,
  mainUptime,
} from './info.js';
import { mainList, mainVmList } from './list.js';
import {
  mainPciAssignableAdd,
  mainPciAssignableList,
  mainPciAssignableRemove,
  mainPciAttach,
  mainPciDetach,
  mainPciList,
} from './pci.js';
import { mainSave } from './save.js';
import { mainVcpuPin } from './vcpu.js';
import { mainDestroy, mainPause, mainReboot, mainShutdown, mainUnpause } from './vmcontrol.js';

export type { XlContext } from './context.js';

interface GlobalOptions {
  verbosity: number;
  dryrun: boolean;
  force: boolean;
  /** Index of the command in argv. */
  at: number;
}

/** Options before the command; undefined after an unknown one. */
function globalOptions(xl: XlContext, argv: readonly string[]): GlobalOptions | undefined {
  const o: GlobalOptions = { verbosity: 0, dryrun: false, force: false, at: 1 };
  for (; argv[o.at]?.startsWith('-') && argv[o.at] !== '-'; o.at++) {
    if (argv[o.at] === '--') {
      o.at++;
      break;
    }
    for (const c of argv[o.at]!.slice(1)) {
      if (c === 'v') o.verbosity++;
      else if (c === 'N') o.dryrun = true;
      else if (c === 'f') o.force = true;
      else if (c !== 't' && c !== 'T') {
        xl.err(`xl: invalid option -- '${c}'\nunknown global option\n`);
        return undefined;
      }
    }
  }
  return o;
}

/** Runs `argv` (`argv[0]` is `xl`) to its end; the exit code. */
export function* xl(ctx: XlContext, argv: readonly string[]): Co<number> {
  const options = globalOptions(ctx, argv);
  if (options === undefined) return 1;
  const name = argv[options.at];
  if (name === undefined) {
    help(ctx);
    return 1;
  }
  const { dom0 } = ctx;
  const minLevel = Math.max(0, XTL_DEFAULT - options.verbosity);
  const log = new Log(dom0.profile.release, minLevel, (t) => ctx.err(t));
  const lx = new Libxl(dom0, log);
  lx.xc.buffers.other('open');
  let code: number;
  try {
    const global = readGlobalConfig(ctx, lx);
    const run: Xl = {
      dom0,
      lx,
      global,
      dryrun: options.dryrun,
      force: options.force,
      out: (t) => ctx.out(t),
      err: (t) => ctx.err(t),
    };
    code = yield* dispatch(run, name, argv.slice(options.at));
  } catch (e) {
    if (!(e instanceof XlExit)) throw e;
    code = e.code;
  }
  if (minLevel <= XTL.debug && code < SIGNALLED) {
    ctx.err(lx.xc.buffers.statistics());
    // A second handle, open and never used.
    ctx.err(new HypercallBuffers().statistics());
  }
  return code;
}

/** Exit codes from here on are deaths by a signal. */
const SIGNALLED = 128;

function* dispatch(run: Xl, name: string, argv: readonly string[]): Co<number> {
  const row = lookupCommand(commandTable(run.dom0.profile.release), name);
  if (row === undefined) {
    if (name === 'help') {
      help(run, argv[1]);
      return 0;
    }
    run.err('command not implemented\n');
    return 1;
  }
  if (run.dryrun && !row[1].includes('N')) {
    run.err('command does not implement -N (dryrun) option\n');
    return 1;
  }
  return yield* runCommand(run, row[0], argv);
}

function* runCommand(run: Xl, name: string, argv: readonly string[]): Co<number> {
  switch (name) {
    case 'create':
      return yield* mainCreate(run, argv);
    case 'destroy':
      return yield* mainDestroy(run, argv);
    case 'list':
      return yield* mainList(run, argv);
    case 'vm-list':
      return yield* mainVmList(run, argv);
    case 'info':
      return mainInfo(run, argv);
    case 'dmesg':
      return mainDmesg(run, argv);
    case 'debug-keys':
      return yield* mainDebugKeys(run, argv);
    case 'pci-assignable-add':
      return yield* mainPciAssignableAdd(run, argv);
    case 'pci-assignable-remove':
      return yield* mainPciAssignableRemove(run, argv);
    case 'pci-assignable-list':
      return mainPciAssignableList(run, argv);
    case 'pci-attach':
      return yield* mainPciAttach(run, argv);
    case 'pci-detach':
      return yield* mainPciDetach(run, argv);
    case 'pci-list':
      return yield* mainPciList(run, argv);
    default:
      return yield* runOther(run, name, argv);
  }
}

function* runOther(run: Xl, name: string, argv: readonly string[]): Co<number> {
  switch (name) {
    case 'shutdown':
      return yield* mainShutdown(run, argv);
    case 'reboot':
      return yield* mainReboot(run, argv);
    case 'save':
      return yield* mainSave(run, argv);
    case 'pause':
      return yield* mainPause(run, argv);
    case 'unpause':
      return yield* mainUnpause(run, argv);
    case 'vcpu-pin':
      return yield* mainVcpuPin(run, argv);
    case 'domid':
      return yield* mainDomid(run, argv);
    case 'domname':
      return mainDomname(run, argv);
    case 'rename':
      return yield* mainRename(run, argv);
    case 'uptime':
      return yield* mainUptime(run, argv);
    default:
      run.err(`xl ${name}: this command is not simulated\n`);
      return 1;
  }
}
