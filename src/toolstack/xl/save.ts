/** xl save. The file has the configuration, but no memory: nothing reads it. @xen tools/xl/xl_saverestore.c */
import type { Co } from '../../sim/co.js';
import { domainDestroy } from '../libxl/domain.js';
import { domainSuspend } from '../libxl/domain_suspend.js';
import { domainConfigToJson } from '../libxl/json.js';
import { retrieveConfig } from '../libxl/retrieve_config.js';
import { type Xl, XlExit } from './context.js';
import { findDomain } from './find_domain.js';
import { getOptions } from './getopt.js';
import { help } from './help.js';

/** In front of the configuration: its length; behind it a zero. */
const LENGTH_BYTES = 4;

export function* mainSave(xl: Xl, argv: readonly string[]): Co<number> {
  const { flags, args } = getOptions(xl, argv, 'cpD', {}, 'save', 2);
  if (args.length > 3) {
    help(xl, 'save');
    return 1;
  }
  if (args.length > 2 || flags.some((f) => f.opt !== 'D')) {
    xl.err('xl save: a file of its own, -c and -p are not simulated\n');
    return 1;
  }
  const domid = yield* findDomain(xl, args[0]!);
  const config = retrieveConfig(xl.lx, domid);
  if (config === undefined) {
    xl.err('unable to retrieve domain configuration\n');
    throw new XlExit(1);
  }
  config.cInfo.domid = flags.length > 0 ? domid : 0;
  const file = args[1]!;
  const json = domainConfigToJson(config);
  xl.dom0.fs.remove(file);
  if (xl.dom0.fs.append(file, json) < 0) {
    xl.err(`Failed to open temp file ${file} for writing\n`);
    throw new XlExit(1);
  }
  xl.err(`Saving to ${file} new xl format (info 0x3/0x0/${LENGTH_BYTES + json.length + 1})\n`);
  if ((yield* domainSuspend(xl.lx, domid)) !== 0) {
    xl.err('Failed to save domain, resuming domain\n');
    return 1;
  }
  yield* domainDestroy(xl.lx, domid);
  return 0;
}
