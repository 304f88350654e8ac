/** From the text of a guest configuration to libxl's structure. @xen tools/xl/xl_parse.c parse_config_data */

import { strerror } from '../../base/errno.js';
import { makeDomainConfig, makePci } from '../libxl/schema.js';
import type { ActionOnShutdown, DomainConfig, Passthrough } from '../libxl/types.js';
import { EINVAL, ESRCH, XluConfig } from '../xlu/cfg.js';
import { xluPciParseSpecString, xluRdmParse } from '../xlu/pci.js';
import { type Xl, XlExit } from './context.js';
import type { Parse } from './parse_context.js';
import { parseCpuRange } from './parse_cpus.js';
import { parseDisks, parseNics, parseVfbs } from './parse_devices.js';
import { parseDeviceModel, parseGraphics } from './parse_dm.js';
import { parseHvm, parsePvOrPvh } from './parse_hvm.js';
import { parseRanges } from './parse_ranges.js';

const INT_MAX = 0x7fff_ffff;

/** Throws XlExit after the message where xl exits. `source` is the name messages use. */
export function parseConfigData(xl: Xl, source: string, text: string): DomainConfig {
  const cfg = new XluConfig(source, (t) => xl.err(t));
  const d = makeDomainConfig();
  const fail = (message: string, code = 1): never => {
    xl.err(message);
    throw new XlExit(code);
  };
  xl.lx.physinfo();
  const e = cfg.readData(text);
  if (e !== 0) fail(`Failed to parse config: ${strerror(e)}\n`);
  const p: Parse = { xl, cfg, d, fail };
  parseCreateInfo(p);
  parseResources(p);
  parseActions(p);
  parsePassthrough(p);
  parseBuild(p);
  if (d.bInfo.type === 'hvm') parseHvm(p);
  else parsePvOrPvh(p);
  parseAltp2m(p);
  parseRanges(p);
  parseDisks(p);
  parseNics(p);
  parseVfbs(p);
  parseDeviceModel(p);
  parseGraphics(p);
  d.cInfo.xendSuspendEvtchnCompat = cfg.defbool('xend_suspend_evtchn_compat');
  const relaxed = cfg.defbool('msr_relaxed');
  d.bInfo.archX86.msrRelaxed = relaxed;
  if (relaxed !== undefined) {
    xl.err(
      'WARNING: msr_relaxed will be removed in future versions.\n' +
        'If it fixes an issue you are having please report to xen-devel@lists.xenproject.org.\n',
    );
  }
  d.bInfo.vpmu = cfg.defbool('vpmu');
  return d;
}

/** strncmp(buf, name, strlen(buf)): any beginning of the name will do, the empty one too. */
const abbreviates = (text: string, name: string): boolean => name.startsWith(text);

function parseCreateInfo(p: Parse): void {
  const { cfg, d, fail } = p;
  const c = d.cInfo;
  c.ssidLabel = cfg.string('init_seclabel');
  const seclabel = cfg.string('seclabel');
  if (c.ssidLabel === undefined) c.ssidLabel = seclabel;
  else d.bInfo.execSsidLabel = seclabel;
  c.runHotplugScripts = p.xl.global.runHotplugScripts;

  const type = cfg.string('type');
  if (type !== undefined) {
    const known = (['hvm', 'pv', 'pvh'] as const).find((t) => abbreviates(type, t));
    c.type = known ?? fail(`Invalid domain type ${type}.\n`);
  }
  const builder = cfg.string('builder');
  if (builder !== undefined) {
    const built = abbreviates(builder, 'hvm') ? 'hvm' : abbreviates(builder, 'generic') ? 'pv' : undefined;
    if (built === undefined) fail(`Invalid domain type ${builder}.\n`);
    else if (c.type !== 'invalid' && c.type !== built) {
      fail('Contradicting "builder" and "type" options specified.\n');
    } else c.type = built;
  }
  if (c.type === 'invalid') c.type = 'pv';
  d.bInfo.type = c.type;
  c.hap = cfg.defbool('hap');
  c.name = cfg.string('name') ?? fail('Domain name must be specified.\n');
  const uuid = cfg.string('uuid');
  if (uuid === undefined) c.uuid = p.xl.lx.generateUuid(c.name);
  else c.uuid = parseUuid(uuid) ?? fail(`Failed to parse UUID: ${uuid}\n`);
  c.oos = cfg.defbool('oos');
  c.poolName = cfg.string('pool');
}

/** libxl_uuid_from_string: 32 hex digits, hyphens where they may stand. */
const parseUuid = (text: string): string | undefined =>
  /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(text)
    ? text.toLowerCase()
    : undefined;

function parseResources(p: Parse): void {
  const { cfg, d, fail } = p;
  const b = d.bInfo;
  if (b.type === 'pvh') {
    b.pvh = {
      pvshim: cfg.defbool('pvshim'),
      pvshimPath: cfg.string('pvshim_path'),
      pvshimCmdline: cfg.string('pvshim_cmdline'),
      pvshimExtra: cfg.string('pvshim_extra'),
    };
  }
  b.blkdevStart = p.xl.global.blkdevStart;
  b.schedParams.weight = cfg.long('cpu_weight') ?? b.schedParams.weight;
  for (const key of ['cap', 'period', 'slice', 'latency', 'extratime'] as const) {
    b.schedParams[key] = cfg.long(key) ?? b.schedParams[key];
  }
  const memory = cfg.long('memory');
  if (memory !== undefined) b.targetMemkb = memory * 1024;
  const maxmem = cfg.long('maxmem');
  if (maxmem !== undefined) b.maxMemkb = maxmem * 1024;
  const asked = cfg.long('vcpus') ?? 0;
  const vcpus = p.xl.lx.profile.vcpusDefaultOne ? Math.max(asked, 1) : asked;
  if (vcpus > p.xl.lx.limits.maxVcpus) fail('Unable to allocate cpumap\n');
  b.availVcpus = Array.from({ length: Math.max(vcpus, 0) }, (_, i) => i);
  b.maxVcpus = cfg.long('maxvcpus') ?? 0;
  // The scan of vnuma= asks for the host's nodes whether or not the option is there.
  p.xl.lx.physinfo();
  b.maxMemkb ??= b.targetMemkb;
  if (b.maxVcpus === 0) b.maxVcpus = vcpus;
  if (b.maxVcpus < vcpus) fail('xl: maxvcpus < vcpus\n');
  parseAffinity(p, 'cpus', (v) => {
    b.vcpuHardAffinity = v;
  });
  parseAffinity(p, 'cpus_soft', (v) => {
    b.vcpuSoftAffinity = v;
  });
  b.maxGrantFrames = bounded(p, 'max_grant_frames', p.xl.global.maxGrantFrames);
  b.maxMaptrackFrames = bounded(p, 'max_maptrack_frames', p.xl.global.maxMaptrackFrames);
  b.maxGrantVersion = bounded(p, 'max_grant_version', p.xl.global.maxGrantVersion);
  b.claimMode = p.xl.global.claimMode;
}

/** A number of its own or the global one; anything wrong with it exits without a word. */
function bounded(p: Parse, key: string, otherwise: number): number {
  const n = p.cfg.getLong(key, true, 0, INT_MAX);
  if (typeof n !== 'number') return n.value;
  return n === ESRCH ? otherwise : p.fail('');
}

function parseAffinity(p: Parse, key: string, set: (vcpus: number[][]) => void): void {
  const { cfg, d } = p;
  const b = d.bInfo;
  const list = cfg.strings(key, true);
  const ranges = list ?? [];
  if (list === undefined) {
    const all = cfg.string(key);
    if (all === undefined) return;
    for (let i = 0; i < b.maxVcpus; i++) ranges.push(all);
  }
  const map = ranges.slice(0, b.maxVcpus).map((r) => parseCpuRange(p, r));
  if (list !== undefined || key === 'cpus_soft') b.numaPlacement = false;
  set(map);
}

const ACTIONS = new Map<string, ActionOnShutdown>([
  ['destroy', 'destroy'],
  ['restart', 'restart'],
  ['rename-restart', 'restart_rename'],
  ['preserve', 'preserve'],
  ['coredump-destroy', 'coredump_destroy'],
  ['coredump-restart', 'coredump_restart'],
  ['soft-reset', 'soft_reset'],
]);
/** The word of the configuration for an action. */
export const actionName = (action: ActionOnShutdown): string =>
  [...ACTIONS].find(([, a]) => a === action)![0];

function parseActions(p: Parse): void {
  const read = (key: string, otherwise: string): ActionOnShutdown => {
    const text = p.cfg.string(key) ?? otherwise;
    return ACTIONS.get(text) ?? p.fail(`Unknown ${key} action "${text}" specified\n`);
  };
  const { d } = p;
  d.onPoweroff = read('on_poweroff', 'destroy');
  d.onReboot = read('on_reboot', 'restart');
  d.onWatchdog = read('on_watchdog', 'destroy');
  d.onCrash = read('on_crash', 'destroy');
  d.onSoftReset = read('on_soft_reset', 'soft-reset');
}

const PASSTHROUGH: readonly Passthrough[] = ['default', 'disabled', 'enabled', 'sync_pt', 'share_pt'];

function parsePassthrough(p: Parse): void {
  const { cfg, d, fail } = p;
  const b = d.bInfo;
  const hvm = b.type === 'hvm';
  if (b.type === 'pv') b.pv.e820Host = cfg.defbool('e820_host');
  const msitranslate = cfg.long('pci_msitranslate') ?? 0;
  const powerMgmt = cfg.long('pci_power_mgmt') ?? 0;
  const permissive = cfg.long('pci_permissive') ?? 0;
  const seize = cfg.long('pci_seize') ?? 0;
  // PV and PVH share the memory of HVM's fields, which reads as zero there: policy strict.
  let rdmPolicy = hvm ? b.hvm.rdm.policy : 'strict';
  const rdmText = cfg.string('rdm');
  if (rdmText !== undefined) {
    const rdm = { strategy: 'uninitialised', policy: 'uninitialised' } as typeof b.hvm.rdm;
    if (xluRdmParse(rdm, rdmText, cfg.report) === 0) {
      if (hvm) b.hvm.rdm = rdm;
      rdmPolicy = rdm.policy;
    }
  }
  for (const spec of cfg.strings('pci') ?? []) {
    const pci = makePci();
    d.pcidevs.push(pci);
    pci.msitranslate = msitranslate !== 0;
    pci.powerMgmt = powerMgmt !== 0;
    pci.permissive = permissive !== 0;
    pci.seize = seize !== 0;
    pci.rdmPolicy = rdmPolicy;
    const rc = xluPciParseSpecString(pci, spec, cfg.report);
    if (rc !== 0) fail(`unable to parse PCI_SPEC_STRING \`${spec}' for passthrough\n`, -rc);
  }
  if (d.pcidevs.length > 0 && b.type === 'pv') b.pv.e820Host = true;
  for (const path of cfg.strings('dtdev') ?? []) d.dtdevs.push({ path });
  const mode = cfg.string('passthrough');
  if (mode !== undefined) {
    const known = PASSTHROUGH.find((m) => m === mode.toLowerCase());
    d.cInfo.passthrough = known ?? fail(`ERROR: unknown passthrough option '${mode}'\n`);
  }
}

const TSC_MODES = ['default', 'always_emulate', 'native', 'native_paravirt'] as const;

function parseTscMode(p: Parse): void {
  const { cfg, d, fail, xl } = p;
  const n = cfg.long('tsc_mode', true);
  if (n !== undefined) {
    const name = TSC_MODES[n];
    const example = name === undefined ? '' : `e.g. tsc_mode="${name}"`;
    xl.err(
      'WARNING: specifying "tsc_mode" as an integer is deprecated. ' +
        `Please use the named parameter variant. ${example}\n`,
    );
    d.bInfo.tscMode = name ?? fail(`ERROR: invalid value ${n} for "tsc_mode"\n`);
    return;
  }
  const text = cfg.string('tsc_mode');
  if (text === undefined) return;
  if (xl.lx.profile.tscModeEchoed) xl.err(`got a tsc mode string: "${text}"\n`);
  const known = TSC_MODES.find((m) => m === text.toLowerCase());
  d.bInfo.tscMode = known ?? fail(`ERROR: invalid value "${text}" for "tsc_mode"\n`);
}

const TIMER_MODES = [
  'delay_for_missed_ticks',
  'no_delay_for_missed_ticks',
  'no_missed_ticks_pending',
  'one_missed_tick_pending',
];

function parseTimerMode(p: Parse): void {
  const { cfg, d, fail, xl } = p;
  const n = cfg.long('timer_mode', true);
  const text = n === undefined ? cfg.string('timer_mode') : undefined;
  if (n === undefined && text === undefined) return;
  if (d.bInfo.type === 'pv') {
    fail('ERROR: "timer_mode" option is not supported for PV guests.\n', 3);
  }
  if (n !== undefined) {
    const name = TIMER_MODES[n];
    const example =
      name === undefined ? (n === -1 ? 'e.g. timer_mode="unknown"' : '') : `e.g. timer_mode="${name}"`;
    xl.err(
      'WARNING: specifying "timer_mode" as an integer is deprecated. ' +
        `Please use the named parameter variant. ${example}\n`,
    );
    d.bInfo.timerMode = name ?? fail(`ERROR: invalid value ${n} for "timer_mode"\n`);
    return;
  }
  const known = ['unknown', ...TIMER_MODES].find((m) => m === text!.toLowerCase());
  d.bInfo.timerMode = known ?? fail(`ERROR: invalid value "${text}" for "timer_mode"\n`);
}

function parseBuild(p: Parse): void {
  const { cfg, d, xl } = p;
  const b = d.bInfo;
  const kilobytes = (key: string): number | undefined => {
    const mb = cfg.long(key);
    return mb === undefined ? undefined : mb * 1024;
  };
  b.shadowMemkb = kilobytes('shadow_memory');
  b.disableMigrate = cfg.defbool('nomigrate');
  parseTscMode(p);
  b.rtcTimeoffset = cfg.long('rtc_timeoffset') ?? 0;
  if (cfg.long('vncviewer') !== undefined) {
    xl.err(
      'WARNING: ignoring "vncviewer" option. ' +
        'Use "-V" option of "xl create" to automatically spawn vncviewer.\n',
    );
  }
  b.localtime = cfg.defbool('localtime');
  b.videoMemkb = kilobytes('videoram');
  b.eventChannels = cfg.long('max_event_channels') ?? 0;
  b.kernel = cfg.string('kernel');
  b.ramdisk = cfg.string('ramdisk');
  b.deviceTree = cfg.string('device_tree');
  b.cmdline = parseCmdline(p);
  d.cInfo.driverDomain = cfg.defbool('driver_domain');
  b.acpi = cfg.defbool('acpi');
  b.bootloader = cfg.string('bootloader');
  const args = cfg.getList('bootloader_args', true);
  if (args === EINVAL) {
    const text = cfg.string('bootloader_args');
    if (text !== undefined) {
      xl.err(
        'WARNING: Specifying "bootloader_args" as a string is deprecated. Please use a list of arguments.\n',
      );
      b.bootloaderArgs = text.split(/[ \t\n]+/).filter((w) => w !== '');
    }
  } else b.bootloaderArgs = cfg.strings('bootloader_args', true) ?? [];
  parseTimerMode(p);
  b.nestedHvm = cfg.defbool('nestedhvm');
}

function parseCmdline(p: Parse): string | undefined {
  const cmdline = p.cfg.string('cmdline');
  const root = p.cfg.string('root');
  const extra = p.cfg.string('extra');
  if (cmdline !== undefined) {
    if (root !== undefined || extra !== undefined) {
      p.xl.err('Warning: ignoring root= and extra= in favour of cmdline=\n');
    }
    return cmdline;
  }
  if (root === undefined) return extra;
  return extra === undefined ? `root=${root}` : `root=${root} ${extra}`;
}

const ALTP2M = ['disabled', 'mixed', 'external', 'limited'] as const;

function parseAltp2m(p: Parse): void {
  const n = p.cfg.long('altp2m', true);
  if (n !== undefined) {
    p.d.bInfo.altp2m = ALTP2M[n] ?? p.fail(`ERROR: invalid value ${n} for "altp2m"\n`);
  } else {
    const text = p.cfg.string('altp2m');
    if (text !== undefined) {
      const known = ALTP2M.find((m) => m === text.toLowerCase());
      p.d.bInfo.altp2m = known ?? p.fail(`ERROR: invalid value "${text}" for "altp2m"\n`);
    }
  }
  p.d.bInfo.vmtraceBufKb = p.cfg.long('vmtrace_buf_kb', true) ?? 0;
}
