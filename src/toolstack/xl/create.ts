/** xl create, and the daemon it leaves behind. @xen tools/xl/xl_vmcontrol.c create_domain, main_create */
import { strerror } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import { domainCreateNew } from '../libxl/create.js';
import { configSetDefault, settled } from '../libxl/defaults.js';
import { domainDestroy, domainUnpause } from '../libxl/domain.js';
import { domainConfigToJson } from '../libxl/json.js';
import { XTL } from '../libxl/log.js';
import { type DomainConfig, ERROR } from '../libxl/types.js';
import { INVALID_DOMID, isGuestDomid } from '../xenctrl.js';
import type { Xl } from './context.js';
import { DeathWatch } from './death_watch.js';
import { getOptions } from './getopt.js';
import { help } from './help.js';
import { parseConfigData } from './parse.js';
import { applyGlobalMasks } from './parse_cpus.js';

/** @xen struct domain_create */
interface DomainCreate {
  configFile: string | undefined;
  extraConfig: string;
  debug: boolean;
  daemonize: boolean;
  monitor: boolean;
  paused: boolean;
  quiet: boolean;
  ignoreMasks: boolean;
}

const LONG = {
  defconfig: 'f',
  dryrun: 'n',
  'ignore-global-affinity-masks': 'i',
  quiet: 'q',
  vncviewer: 'V',
  'vncviewer-autopass': 'A',
};

export function* mainCreate(xl: Xl, argv: readonly string[]): Co<number> {
  const d: DomainCreate = {
    configFile: undefined,
    extraConfig: '',
    debug: false,
    daemonize: true,
    monitor: true,
    paused: false,
    quiet: false,
    ignoreMasks: false,
  };
  const first = argv[1];
  const named = first !== undefined && !first.startsWith('-') && !first.includes('=');
  if (named) d.configFile = first;
  const rest = named ? argv.slice(1) : argv;
  const { flags, args } = getOptions(xl, rest, 'AFVcdef:inpq', LONG, 'create', 0);
  for (const { opt, arg } of flags) {
    if (opt === 'F') d.daemonize = false;
    else if (opt === 'd') d.debug = true;
    else if (opt === 'e') d.daemonize = d.monitor = false;
    else if (opt === 'f') d.configFile = arg;
    else if (opt === 'i') d.ignoreMasks = true;
    else if (opt === 'n') xl.dryrun = true;
    else if (opt === 'p') d.paused = true;
    else if (opt === 'q') d.quiet = true;
  }
  for (const arg of args) {
    if (arg.includes('=')) d.extraConfig += `${arg}\n`;
    else if (d.configFile === undefined) d.configFile = arg;
    else {
      help(xl, 'create');
      return 2;
    }
  }
  const rc = yield* createDomain(xl, d);
  return rc < 0 ? -rc : 0;
}

/** The text of the configuration with what stood on the command line behind it, or ERROR_*. */
function configText(xl: Xl, d: DomainCreate): string | number {
  if (d.configFile === undefined) {
    xl.err('Config file not specified and none in save file\n');
    return ERROR.INVAL;
  }
  let text: string | number = '';
  if (d.configFile !== '/dev/null') {
    text = xl.dom0.fs.readFile(d.configFile);
    if (typeof text === 'number') {
      xl.err(`Failed to read config file: ${d.configFile}: ${strerror(text)}\n`);
      return ERROR.FAIL;
    }
  }
  return d.extraConfig === '' ? text : `${text}\n${d.extraConfig}\n`;
}

/** ERROR_*, or 0 or more. */
function* createDomain(xl: Xl, d: DomainCreate): Co<number> {
  const text = configText(xl, d);
  if (typeof text === 'number') return text;
  const source = d.configFile!;
  if (!d.quiet) xl.err(`Parsing config from ${source}\n`);
  const config = parseConfigData(xl, source, text);
  if (!d.ignoreMasks) applyGlobalMasks(xl, config.bInfo.vcpuHardAffinity);
  if (d.debug || xl.dryrun) (xl.dryrun ? xl.out : xl.err)(domainConfigToJson(config));
  if (xl.dryrun) return 0;
  const domid = yield* startDomain(xl, config, d.paused);
  if (domid < 0) return domid;
  if (!d.daemonize && !d.monitor) return domid;
  watch(xl, domid, config, { name: source, text });
  return domid;
}

/** Makes and unpauses a domain: its id, or ERROR_*. What a failed creation left behind is destroyed once more. */
export function* startDomain(xl: Xl, config: DomainConfig, paused: boolean): Co<number> {
  if (xl.global.autoballoon && !freemem(xl, config)) {
    xl.err('failed to free memory for the domain\n');
    return ERROR.FAIL;
  }
  config.cInfo.domid = INVALID_DOMID;
  const { rc, domid } = yield* domainCreateNew(xl.lx, config);
  if (rc !== 0) {
    if (isGuestDomid(domid)) yield* domainDestroy(xl.lx, domid);
    return rc;
  }
  if (!paused) yield* domainUnpause(xl.lx, domid);
  return domid;
}

const EXTRA_KB = { pv: 1024, hvm: 2048 };
const ROUND_KB = 2048;

/** Whether the host has the memory. The dom0 of the simulator never gives any of its own back. */
function freemem(xl: Xl, config: DomainConfig): boolean {
  if (configSetDefault(xl.lx, config) !== 0) return false;
  const b = config.bInfo;
  const extra = b.type === 'pv' ? EXTRA_KB.pv : EXTRA_KB.hvm;
  const need = settled(b.targetMemkb) + settled(b.shadowMemkb) + settled(b.iommuMemkb) + extra;
  return xl.lx.physinfo().freePages * 4 >= Math.ceil(need / ROUND_KB) * ROUND_KB;
}

/** xl goes on in the background, its messages in a file. */
function watch(xl: Xl, domid: number, config: DomainConfig, source: { name: string; text: string }): void {
  const { dom0 } = xl;
  const name = config.cInfo.name ?? '';
  const process = dom0.processes.spawn(['xl', 'create', source.name]);
  const log = `${xl.lx.paths.logDir}/xl-${name}.log`;
  dom0.fs.remove(log);
  dom0.fs.append(log, `Waiting for domain ${name} (domid ${domid}) to die [pid ${process.pid}]\n`);
  const { minLevel } = xl.lx.log;
  const write = (text: string): void => void dom0.fs.append(log, text);
  dom0.watchers.set(domid, {
    ...(minLevel <= XTL.debug ? { death: new DeathWatch(dom0, domid, minLevel, write) } : {}),
    domid,
    name,
    pid: process.pid,
    onPoweroff: config.onPoweroff,
    onReboot: config.onReboot,
    onCrash: config.onCrash,
    onWatchdog: config.onWatchdog,
    onSoftReset: config.onSoftReset,
    source,
  });
}
