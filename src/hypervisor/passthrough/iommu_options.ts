/** `iommu=` and `dom0-iommu=`. Words that are not understood give -EINVAL; the others count. @xen drivers/passthrough/iommu.c */
import { E, type Rc } from '../../base/errno.js';
import type { IommuOptions } from '../../iommu/driver/types.js';
import { parseBool, parseBoolean } from './bool_param.js';

type Flag = {
  [K in keyof IommuOptions]-?: IommuOptions[K] extends boolean ? K : never;
}[keyof IommuOptions];

/** Words of `iommu=` that are a flag of their own. */
const IOMMU_FLAGS: ReadonlyMap<string, Flag> = new Map<string, Flag>([
  ['force', 'force'],
  ['required', 'force'],
  ['igfx', 'igfx'],
  ['qinval', 'qinval'],
  ['superpages', 'superpages'],
  ['verbose', 'verbose'],
  ['snoop', 'snoop'],
  ['intpost', 'intpost'],
  ['crash-disable', 'crashDisable'],
  ['amd-iommu-perdev-intremap', 'amdPerdevIntremap'],
  ['dom0-passthrough', 'hwdomPassthrough'],
  ['dom0-strict', 'hwdomStrict'],
  ['sharept', 'hapPtShare'],
]);

/** @xen parse_iommu_param */
export function parseIommuParam(o: IommuOptions, value: string): Rc {
  let rc: Rc = 0;
  for (const word of value.split(',')) {
    const on = parseBool(word);
    if (on >= 0) o.enable = on === 1;
    else if (word === 'quarantine=scratch-page') o.quarantine = 'scratch-page';
    else if (!setFlag(o, word, IOMMU_FLAGS) && !setIommuWord(o, word)) rc = E.INVAL;
  }
  return rc;
}

/** Words that set more, or other things, than a flag. */
function setIommuWord(o: IommuOptions, word: string): boolean {
  const quarantine = parseBoolean('quarantine', word);
  const intremap = parseBoolean('intremap', word);
  const debug = parseBoolean('debug', word);
  if (quarantine >= 0) o.quarantine = quarantine === 1 ? 'basic' : 'none';
  else if (intremap >= 0) o.intremap = intremap === 1 ? 'full' : 'off';
  else if (debug >= 0) {
    o.debug = debug === 1;
    if (o.debug) o.verbose = true;
  } else return false;
  return true;
}

const DOM0_FLAGS: ReadonlyMap<string, Flag> = new Map<string, Flag>([
  ['passthrough', 'hwdomPassthrough'],
  ['strict', 'hwdomStrict'],
  ['map-inclusive', 'hwdomInclusive'],
]);

/** @xen parse_dom0_iommu_param */
export function parseDom0IommuParam(o: IommuOptions, value: string): Rc {
  let rc: Rc = 0;
  for (const word of value.split(',')) {
    const reserved = parseBoolean('map-reserved', word);
    if (setFlag(o, word, DOM0_FLAGS)) continue;
    if (reserved >= 0) o.hwdomReserved = reserved === 1 ? 1 : 0;
    else if (/^none([:;]|$)/.test(word)) o.hwdomNone = true;
    else rc = E.INVAL;
  }
  return rc;
}

function setFlag(o: IommuOptions, word: string, flags: ReadonlyMap<string, Flag>): boolean {
  for (const [name, flag] of flags) {
    const on = parseBoolean(name, word);
    if (on < 0) continue;
    o[flag] = on === 1;
    return true;
  }
  return false;
}
