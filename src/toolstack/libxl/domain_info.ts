/** Who a domain is: names, types, what Xen says of it. @xen tools/libs/light/libxl_utils.c, libxl_dom.c */
import type { DomainInfo } from '../../hypervisor/public/domctl.js';
import type { Co } from '../../sim/co.js';
import type { Libxl } from './libxl.js';
import { DOMAIN } from './lines_domain.js';
import { type DeviceModelVersion, type DomainType, ERROR } from './types.js';

const ESRCH = 3;

/** By number, or by name; a number is taken unseen. ERROR_INVAL when no domain has the name. */
export function* qualifierToDomid(lx: Libxl, text: string): Co<number> {
  if (/^[0-9]*$/.test(text)) return text === '' ? 0 : Number(text);
  return yield* nameToDomid(lx, text);
}

export function* nameToDomid(lx: Libxl, name: string): Co<number> {
  for (const info of yield* lx.xc.domainList()) {
    if (domidToName(lx, info.domid) === name) return info.domid;
  }
  return ERROR.INVAL;
}

export const domidToName = (lx: Libxl, domid: number): string | undefined =>
  lx.dom0.xs.read(`${lx.domainPath(domid)}/name`);

/** The domain, or undefined; since 4.18 libxl says why. @xen libxl_domain_info */
export function* domainInfo(lx: Libxl, domid: number): Co<DomainInfo | undefined> {
  const info = yield* lx.xc.domainInfo(domid);
  if (info === undefined && lx.xc.single) lx.log.error(DOMAIN.info, 'Getting domain info', domid, ESRCH);
  return info;
}

/** @xen libxl__domain_type */
export function* domainType(lx: Libxl, domid: number): Co<DomainType> {
  const info: DomainInfo | undefined = yield* lx.xc.findDomain(domid);
  if (info === undefined) {
    lx.log.error(DOMAIN.typeInfo, 'unable to get dominfo', domid, ESRCH);
    return 'invalid';
  }
  if (!info.flags.hvm) return 'pv';
  const type = lx.dom0.xs.read(`/libxl/${domid}/type`);
  if (type === 'hvm' || type === 'pvh' || type === 'pv') return type;
  const path = `/libxl/${domid}/type`;
  if (type === undefined) lx.log.error(DOMAIN.typeRead, `xenstore read failed: \`${path}'`, -1, -2);
  lx.log.warn(DOMAIN.typeUnknown, `unable to get domain type for domid=${domid}, assuming HVM`);
  return 'hvm';
}

/** @xen libxl__device_model_version_running */
export function deviceModelRunning(lx: Libxl, domid: number): DeviceModelVersion {
  const text = lx.dom0.xs.read(`/libxl/${domid}/dm-version`);
  if (text === undefined) return lx.profile.traditionalModel ? 'qemu_xen_traditional' : 'unknown';
  return text === 'qemu_xen' || text === 'qemu_xen_traditional' ? text : 'unknown';
}
