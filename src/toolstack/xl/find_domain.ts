import type { Co } from '../../sim/co.js';
import { qualifierToDomid } from '../libxl/domain_info.js';
import { type Xl, XlExit } from './context.js';

/** A domain by name or number; exits 1 when no domain has the name. @xen tools/xl/xl_utils.c find_domain */
export function* findDomain(xl: Xl, text: string): Co<number> {
  const domid = yield* qualifierToDomid(xl.lx, text);
  if (domid >= 0) return domid;
  xl.err(`${text} is an invalid domain identifier (rc=${domid})\n`);
  throw new XlExit(1);
}
