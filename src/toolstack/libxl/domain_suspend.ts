/** A domain stops and is written out. @xen tools/libs/light/libxl_dom_suspend.c, tools/libs/guest/xg_sr_save.c */
import { SHUTDOWN } from '../../hypervisor/public/domctl.js';
import type { Co } from '../../sim/co.js';
import { pause } from '../../sim/co.js';
import { loadConfig } from './config_store.js';
import { settled } from './defaults.js';
import { domainType } from './domain_info.js';
import type { Libxl } from './libxl.js';
import { DOMAIN } from './lines_domain.js';
import { ERROR } from './types.js';

const ACK_TIMEOUT_NS = 60e9;
const ACK_STEP_NS = 100e6;
/** Progress is told every 4 MiB. */
const STEP_FRAMES = 1024;

/** 0, or ERROR_*; the domain has shut down then. @xen libxl_domain_suspend */
export function* domainSuspend(lx: Libxl, domid: number): Co<number> {
  const type = yield* domainType(lx, domid);
  if (type === 'invalid') return ERROR.FAIL;
  const pv = type === 'pv';
  const frames = yield* framesOf(lx, domid, pv);
  lx.log.save(domid, pv ? 'x86 PV' : 'x86 HVM');
  const rc = yield* stop(lx, domid, type === 'hvm');
  if (rc !== 0) return rc;
  lx.log.progress('Frames', frames, STEP_FRAMES);
  if (!pv) yield* lx.xc.domctl({ cmd: 'gethvmcontext', domid });
  lx.log.progress('End of stream', 0, 1);
  return 0;
}

/** What the guest's frames are counted up to. @xen xc_domain_nr_gpfns */
function* framesOf(lx: Libxl, domid: number, pv: boolean): Co<number> {
  if (!pv) return (yield* lx.xc.memoryOp({ cmd: 'maximum_gpfn', domid })) + 1;
  return Math.floor(settled(loadConfig(lx, domid)?.bInfo.maxMemkb) / 4);
}

/** An HVM guest without drivers for it is not asked; the others take the word from xenstore. */
function* stop(lx: Libxl, domid: number, hvm: boolean): Co<number> {
  const { xs } = lx.dom0;
  const control = `${lx.domainPath(domid)}/control`;
  if (hvm && xs.read(`${control}/feature-poweroff`) !== '1') {
    yield* lx.xc.hv.shutdown(domid, SHUTDOWN.suspend);
    return 0;
  }
  if (xs.write(`${control}/shutdown`, 'suspend') < 0) return ERROR.FAIL;
  for (let ns = 0; ns <= ACK_TIMEOUT_NS; ns += ACK_STEP_NS) {
    yield* lx.dom0.settle();
    if (!xs.read(`${control}/shutdown`)) return 0;
    yield* pause(lx.dom0.clock, ACK_STEP_NS);
  }
  xs.write(`${control}/shutdown`, '');
  lx.log.error(DOMAIN.suspendCancelled, "guest didn't acknowledge suspend, cancelling request", domid);
  return ERROR.FAIL;
}
