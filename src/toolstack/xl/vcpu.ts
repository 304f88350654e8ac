/** vcpu-pin. @xen tools/xl/xl_vcpu.c */
import type { Co } from '../../sim/co.js';
import { domainInfo } from '../libxl/domain_info.js';
import { setAllAffinities, setVcpuAffinity } from '../libxl/sched.js';
import { strtol } from '../xlu/cnum.js';
import { type Xl, XlExit } from './context.js';
import { findDomain } from './find_domain.js';
import { getOptions } from './getopt.js';
import { applyGlobalMasks, parseCpuRange } from './parse_cpus.js';

const LONG_MAX = 2n ** 63n - 1n;

export function* mainVcpuPin(xl: Xl, argv: readonly string[]): Co<number> {
  const names = { force: 'f', 'ignore-global-affinity-masks': 'i' };
  const { args, flags } = getOptions(xl, argv, 'fi', names, 'vcpu-pin', 3);
  const has = (opt: string): boolean => flags.some((f) => f.opt === opt);
  const force = has('f');
  const domid = yield* findDomain(xl, args[0]!);
  const vcpu = strtol(args[1]!, 0, 10);
  const all = vcpu.end === 0 || vcpu.value < 0;
  if (all && args[1] !== 'all') return fail(xl, `Error: Invalid argument ${args[1]} as VCPU.\n`);
  if (all && force) return fail(xl, "Error: --force and 'all' as VCPU not allowed.\n");
  const [hard, soft] = [cpusOf(xl, args[2]!), cpusOf(xl, args[3] ?? '-')];
  if (xl.dryrun) {
    xl.out(
      `cpumap: ${hard === undefined ? '-' : shown(xl, hard)}${soft === undefined ? '' : ` ${shown(xl, soft)}`}\n`,
    );
    return 0;
  }
  if (hard !== undefined && !has('i')) {
    if ((yield* domainInfo(xl.lx, domid)) === undefined) return fail(xl, 'Could not get domain info\n');
    applyGlobalMasks(xl, [hard]);
  }
  if (!all) {
    // A long for xl, an unsigned int for libxl.
    const long = vcpu.overflow ? LONG_MAX : BigInt(vcpu.value);
    const rc = yield* setVcpuAffinity(xl.lx, domid, Number(BigInt.asUintN(32, long)), hard, soft, force);
    return rc === 0 ? 0 : fail(xl, `Could not set affinity for vcpu \`${long}'.\n`);
  }
  const info = yield* xl.lx.xc.domainInfo(domid);
  if (info === undefined) return fail(xl, 'libxl_list_vcpu failed.\n');
  if ((yield* setAllAffinities(xl.lx, domid, info.maxVcpuId + 1, hard, soft)) !== 0)
    xl.err('Could not set affinity.\n');
  return 0;
}

function fail(xl: Xl, text: string): number {
  xl.err(text);
  return 1;
}

/** Undefined for `-`: left as it is. */
function cpusOf(xl: Xl, text: string): number[] | undefined {
  if (text === '-') return undefined;
  const refuse = (why: string): never => {
    xl.err(why);
    throw new XlExit(1);
  };
  return parseCpuRange({ xl, fail: refuse }, text);
}

/** Runs of the CPUs that there are. @xen tools/xl/xl_utils.c print_bitmap */
function shown(xl: Xl, cpus: readonly number[]): string {
  const { maxCpuId } = xl.lx.physinfo();
  const there = cpus.filter((c) => c <= maxCpuId);
  if (there.length === 0) return 'none';
  if (there.length === maxCpuId + 1) return 'all';
  const runs: [number, number][] = [];
  for (const cpu of there) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] + 1 === cpu) last[1] = cpu;
    else runs.push([cpu, cpu]);
  }
  return runs.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(',');
}
