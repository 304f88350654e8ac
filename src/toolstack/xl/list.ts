/** list and vm-list. @xen tools/xl/xl_info.c */
import type { DomainInfo } from '../../hypervisor/public/domctl.js';
import type { Co } from '../../sim/co.js';
import { domainInfo, domidToName } from '../libxl/domain_info.js';
import { domainListJson } from '../libxl/json.js';
import { retrieveConfig } from '../libxl/retrieve_config.js';
import type { Xl } from './context.js';
import { findDomain } from './find_domain.js';
import { getOptions } from './getopt.js';
import { help } from './help.js';

const LONG = { long: 'l', verbose: 'v', context: 'Z', cpupool: 'c', numa: 'n' };
/** By shutdown code; a domain that runs has code 0. */
const REASONS = '-rscwS';

export function* mainList(xl: Xl, argv: readonly string[]): Co<number> {
  const { flags, args } = getOptions(xl, argv, 'lvZcn', LONG, 'list', 0);
  if (args.length > 1) {
    help(xl, 'list');
    return 1;
  }
  let domains: DomainInfo[];
  if (args.length === 0) domains = yield* xl.lx.xc.domainList();
  else {
    const domid = yield* findDomain(xl, args[0]!);
    const info = yield* domainInfo(xl.lx, domid);
    if (info === undefined) {
      xl.err(`Error: Domain '${args[0]}' does not exist.\n`);
      return 1;
    }
    domains = [info];
  }
  const has = (opt: string): boolean => flags.some((f) => f.opt === opt);
  if (has('l')) listDetails(xl, domains);
  else listTable(xl, domains, has);
  return 0;
}

/** Domains without a stored configuration, as dom0 is one, are passed over. */
function listDetails(xl: Xl, domains: readonly DomainInfo[]): void {
  const items = domains.flatMap(({ domid }) => {
    const config = retrieveConfig(xl.lx, domid);
    return config === undefined ? [] : [{ domid, config }];
  });
  xl.out(`${domainListJson(items)}\n`);
}

function listTable(xl: Xl, domains: readonly DomainInfo[], has: (opt: string) => boolean): void {
  let title = 'Name                                        ID   Mem VCPUs\tState\tTime(s)';
  if (has('v')) title += '   UUID                            Reason-Code\tSecurity Label';
  else if (has('Z')) title += '   Security Label';
  if (has('c')) title += '         Cpupool';
  if (has('n')) title += ' NODE Affinity';
  xl.out(`${title}\n`);
  for (const d of domains) {
    let line = row(xl, d);
    if (has('v'))
      line += ` ${d.handle} ${(d.flags.shutdown ? d.shutdownReason.toString(16) : '-').padStart(8)}`;
    if (has('v') || has('Z')) line += ` ${'-'.padStart(16)}`;
    if (has('c')) line += 'Pool-0'.padStart(16);
    if (has('n')) line += ' all';
    xl.out(`${line}\n`);
  }
}

function row(xl: Xl, d: DomainInfo): string {
  const { flags } = d;
  const mb = Math.floor(((d.totPages + d.outstandingPages) * 4) / 1024);
  const reason = flags.shutdown ? (REASONS[d.shutdownReason] ?? '?') : '-';
  const state =
    (flags.running ? 'r' : '-') +
    (flags.blocked ? 'b' : '-') +
    (flags.paused ? 'p' : '-') +
    (flags.shutdown ? 's' : '-') +
    reason +
    (flags.dying ? 'd' : '-');
  const name = (domidToName(xl.lx, d.domid) ?? '(null)').padEnd(40);
  const numbers = `${String(d.domid).padStart(5)} ${String(mb).padStart(5)} ${String(d.nrOnlineVcpus).padStart(5)}`;
  const seconds = Math.fround(d.cpuTimeNs / 1e9).toFixed(1);
  return `${name} ${numbers}     ${state}  ${seconds.padStart(8)}`;
}

export function* mainVmList(xl: Xl, argv: readonly string[]): Co<number> {
  getOptions(xl, argv, '', {}, 'vm-list', 0);
  xl.out('UUID                                  ID    name\n');
  for (const d of yield* xl.lx.xc.domainList()) {
    const name = (domidToName(xl.lx, d.domid) ?? '(null)').padEnd(30);
    xl.out(`${d.handle}  ${d.domid}    ${name}\n`);
  }
  return 0;
}
