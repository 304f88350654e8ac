import type { Co } from '../sim/co.js';
import type { QemuHost } from './environment.js';

/**
 * Maps or unmaps device memory, however many hypercalls it takes: Xen does a part and says how much. A mapping that
 * fails is taken back whole. @returns 0 or the first error. @xen tools/libs/ctrl/xc_domain.c xc_domain_memory_mapping
 */
export function* memoryMapping(
  host: QemuHost,
  domid: number,
  gfn: number,
  mfn: number,
  nr: number,
  add: boolean,
): Co<number> {
  let ret = 0;
  for (let done = 0; done < nr; ) {
    const [firstGfn, firstMfn, nrMfns] = [gfn + done, mfn + done, nr - done];
    const rc = yield* host.hv.domctl({ cmd: 'memory_mapping', domid, firstGfn, firstMfn, nrMfns, add });
    if (rc > 0) {
      done += rc;
      continue;
    }
    if (ret === 0) ret = rc;
    if (rc !== 0 && add) break;
    done += nrMfns;
  }
  if (ret !== 0 && add) yield* memoryMapping(host, domid, gfn, mfn, nr, false);
  return ret;
}
