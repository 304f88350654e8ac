/** Event channels that stand for interrupts. @xen common/event_channel.c */
import { E, type Rc } from '../base/errno.js';
import type { Co } from '../sim/co.js';
import type { Domain } from './domain.js';
import { pirqGuestBind, pirqGuestUnbind, unmaskForGuest } from './irq/guest_bind.js';
import { nrPirqs } from './pirq.js';
import type { EvtchnOp } from './public/event_channel.js';
import type { Xen } from './xen.js';

const WILL_SHARE = 1;

/** @returns 0, -EINVAL, -EPERM, -EEXIST, -EBUSY. @xen do_event_channel_op */
export function* eventChannelOp(xen: Xen, op: EvtchnOp): Co<Rc> {
  const d = xen.domains.get(xen.cpus.current.domid);
  if (d === undefined) return E.SRCH;
  return op.cmd === 'bind_pirq' ? yield* bindPirq(xen, d, op) : yield* close(xen, d, op.port);
}

/** @xen evtchn_bind_pirq */
function* bindPirq(xen: Xen, d: Domain, op: Extract<EvtchnOp, { cmd: 'bind_pirq' }>): Co<Rc> {
  if (op.pirq < 0 || op.pirq >= nrPirqs(xen, d)) return E.INVAL;
  const pirq = d.pirqs.get(op.pirq);
  if (pirq === undefined || pirq.irq <= 0) return E.INVAL;
  if (!d.irqCaps.contains(pirq.irq, pirq.irq)) return E.PERM;
  if ([...d.eventChannels.values()].includes(op.pirq)) return E.EXIST;
  const rc = d.isHvm ? 0 : yield* pirqGuestBind(xen, d, pirq, (op.flags & WILL_SHARE) !== 0);
  if (rc !== 0) return rc;
  let port = 1;
  while (d.eventChannels.has(port)) port += 1;
  d.eventChannels.set(port, op.pirq);
  op.port = port;
  unmaskForGuest(xen, pirq.irq);
  return 0;
}

/** @xen evtchn_close */
function* close(xen: Xen, d: Domain, port: number): Co<Rc> {
  const number = d.eventChannels.get(port);
  if (number === undefined) return E.INVAL;
  d.eventChannels.delete(port);
  const pirq = d.pirqs.get(number);
  if (pirq?.bound === true && !d.isHvm) yield* pirqGuestUnbind(xen, d, pirq);
  return 0;
}
