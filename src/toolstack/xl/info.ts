/** info, dmesg, debug-keys and small questions. @xen tools/xl/xl_info.c, xl_misc.c */
import { hex } from '../../base/sbdf.js';
import type { Co } from '../../sim/co.js';
import { domainRename } from '../libxl/domain.js';
import { domidToName, nameToDomid } from '../libxl/domain_info.js';
import { DOMAIN } from '../libxl/lines_domain.js';
import { strtol } from '../xlu/cnum.js';
import type { Xl } from './context.js';
import { findDomain } from './find_domain.js';
import { getOptions } from './getopt.js';

const LABEL_WIDTH = 23;
const PAGES_PER_MB = 256;

/** `name value` of everything `xl info` prints; with an argument, the values whose name begins with it. */
export function mainInfo(xl: Xl, argv: readonly string[]): number {
  const { args } = getOptions(xl, argv, 'n', { numa: 'n' }, 'info', 0);
  const wanted = args[0];
  const print = (name: string, value: string | number, blank = ' '): void => {
    const line = `${name.padEnd(LABEL_WIDTH)}:${blank}${value}\n`;
    if (wanted === undefined) xl.out(line);
    else if (line.startsWith(wanted) && line[LABEL_WIDTH + 1] === ' ') xl.out(line.slice(LABEL_WIDTH + 2));
  };
  const { uname } = xl.dom0;
  print('host', uname.nodename);
  print('release', uname.release);
  print('version', uname.version);
  print('machine', uname.machine);
  physInfo(xl, print);
  xenInfo(xl, print);
  print('xend_config_format', 4);
  return 0;
}

type Print = (name: string, value: string | number, blank?: string) => void;

function physInfo(xl: Xl, print: Print): void {
  const p = xl.lx.physinfo();
  // Free processors of the pool, and the scheduler's name.
  for (const call of ['cpupool', 'sysctl'] as const) xl.lx.xc.buffers.other(call);
  print('nr_cpus', p.nrCpus);
  print('max_cpu_id', p.maxCpuId);
  print('nr_nodes', 1);
  print('cores_per_socket', p.coresPerSocket);
  print('threads_per_core', p.threadsPerCore);
  print('cpu_mhz', `${Math.floor(p.cpuKhz / 1000)}.${String(p.cpuKhz % 1000).padStart(3, '0')}`);
  print('hw_caps', Array.from({ length: 8 }, (_, i) => hex((p.hwCap[i] ?? 0) >>> 0, 8)).join(':'));
  const caps: readonly (readonly [string, boolean])[] = [
    ['pv', p.capPv],
    ['hvm', p.capHvm],
    ['hvm_directio', p.capHvm && p.capHvmDirectio],
    ['pv_directio', p.capPv && p.capHvmDirectio],
    ['hap', p.capHap],
    ['iommu_hap_pt_share', p.capIommuHapPtShare],
    ['gnttab-v1', true],
    ['gnttab-v2', true],
  ];
  print('virt_caps', caps.map(([name, on]) => (on ? ` ${name}` : '')).join(''), '');
  print('total_memory', Math.floor(p.totalPages / PAGES_PER_MB));
  print('free_memory', Math.floor(p.freePages / PAGES_PER_MB));
  print('sharing_freed_memory', 0);
  print('sharing_used_memory', 0);
  print('outstanding_claims', 0);
  print('free_cpus', 0);
}

function xenInfo(xl: Xl, print: Print): void {
  const v = xl.lx.xc.version();
  print('xen_major', v.major);
  print('xen_minor', v.minor);
  print('xen_extra', v.extra);
  print('xen_version', `${v.major}.${v.minor}${v.extra}`);
  print('xen_caps', v.capabilities);
  print('xen_scheduler', 'credit2');
  print('xen_pagesize', 4096);
  print('platform_params', 'virt_start=0xffff800000000000');
  print('xen_changeset', v.changeset);
  print('xen_commandline', v.commandline);
  print('cc_compiler', v.compiler);
  print('cc_compile_by', v.compileBy);
  print('cc_compile_domain', v.compileDomain);
  print('cc_compile_date', v.compileDate);
  print('build_id', v.buildId);
}

export function mainDmesg(xl: Xl, argv: readonly string[]): number {
  const { flags } = getOptions(xl, argv, 'c', { clear: 'c' }, 'dmesg', 0);
  const text = xl.dom0.hv
    .readConsole(flags.length > 0)
    .map((line) => `${line}\n`)
    .join('');
  xl.lx.xc.buffers.consoleRing(text.length);
  xl.out(text);
  return 0;
}

export function* mainDebugKeys(xl: Xl, argv: readonly string[]): Co<number> {
  const { args } = getOptions(xl, argv, '', {}, 'debug-keys', 1);
  xl.lx.xc.buffers.other('debugKeys');
  const rc = yield* xl.dom0.hv.debugKeys(args[0]!);
  if (rc >= 0) return 0;
  xl.lx.log.error(DOMAIN.debugKeys, 'sending debug keys', -1, rc);
  xl.err(`cannot send debug keys: ${args[0]}\n`);
  return 1;
}

export function* mainDomid(xl: Xl, argv: readonly string[]): Co<number> {
  const { args } = getOptions(xl, argv, '', {}, 'domid', 1);
  const domid = yield* nameToDomid(xl.lx, args[0]!);
  if (domid < 0) {
    xl.err(`Can't get domid of domain name '${args[0]}', maybe this domain does not exist.\n`);
    return 1;
  }
  xl.out(`${domid}\n`);
  return 0;
}

export function mainDomname(xl: Xl, argv: readonly string[]): number {
  const { args } = getOptions(xl, argv, '', {}, 'domname', 1);
  const n = strtol(args[0]!, 0, 10);
  if (n.end === 0 && n.value === 0) {
    xl.err('Invalid domain id.\n\n');
    return 1;
  }
  const name = domidToName(xl.lx, n.value);
  if (name === undefined) {
    xl.err(`Can't get domain name of domain id '${n.value}', maybe this domain does not exist.\n`);
    return 1;
  }
  xl.out(`${name}\n`);
  return 0;
}

export function* mainRename(xl: Xl, argv: readonly string[]): Co<number> {
  const { args } = getOptions(xl, argv, '', {}, 'rename', 2);
  const domid = yield* findDomain(xl, args[0]!);
  if ((yield* domainRename(xl.lx, domid, args[1]!)) === 0) return 0;
  xl.err(`Can't rename domain '${args[0]}'.\n`);
  return 1;
}

const pad2 = (n: number): string => String(n).padStart(2);
const zero2 = (n: number): string => String(n).padStart(2, '0');

/** Seconds since a domain's start; dom0 counts from boot. @xen uptime_to_string */
function uptimeText(total: number, short: boolean): string {
  const day = Math.floor(total / 86_400);
  const hour = Math.floor((total % 86_400) / 3600);
  const min = Math.floor((total % 3600) / 60);
  const days = day > 1 ? `${day} days, ` : day === 1 ? '1 day, ' : '';
  const clock = `${pad2(hour)}:${zero2(min)}`;
  return short ? `${days}${clock}` : `${days}${clock}:${zero2(Math.floor(total % 60))}`;
}

export function* mainUptime(xl: Xl, argv: readonly string[]): Co<number> {
  const { flags, args } = getOptions(xl, argv, 's', {}, 'uptime', 0);
  const short = flags.length > 0;
  const now = Math.floor(xl.dom0.clock.nowNs / 1e9);
  const domids: number[] = [];
  for (const name of args) domids.push(yield* findDomain(xl, name));
  if (args.length === 0) for (const d of yield* xl.lx.xc.domainList()) domids.push(d.domid);
  if (!short) xl.out(`${'Name'.padEnd(33)} ${'ID'.padStart(4)} Uptime\n`);
  for (const domid of domids) {
    const vm = xl.dom0.xs.read(`${xl.lx.domainPath(domid)}/vm`);
    const start = domid === 0 ? '0' : vm === undefined ? undefined : xl.dom0.xs.read(`${vm}/start_time`);
    if (start === undefined) continue;
    const up = uptimeText(now - Math.floor(Number(start)), short);
    const name = domidToName(xl.lx, domid) ?? '(null)';
    const time = `${zero2(Math.floor(now / 3600) % 24)}:${zero2(Math.floor(now / 60) % 60)}:${zero2(now % 60)}`;
    xl.out(
      short
        ? ` ${time} up ${up}, ${name} (${domid})\n`
        : `${name.padEnd(33)} ${String(domid).padStart(4)} ${up}\n`,
    );
  }
  return 0;
}
