/** Event channels. @xen common/event_channel.c */
import { E, type Rc } from '../base/errno.js';
import type { Co } from '../sim/co.js';
import { FRAME_TYPE } from '../sim/frames.js';
import type { Domain, EventChannel } from './domain.js';
import { pirqGuestBind, pirqGuestUnbind, unmaskForGuest } from './irq/guest_bind.js';
import { nrPirqs } from './pirq.js';
import { type EvtchnOp, VIRQ } from './public/event_channel.js';
import type { Xen } from './xen.js';

const WILL_SHARE = 1;
/** @xen NR_VIRQS */
const NR_VIRQS = 24;
/** As many as libxl lets a domain have. @xen libxl_domain_build_info.event_channels */
const PORTS_MAX = 1023;
/** The page that a domain shares with Xen, and the first one of its grant table. */
const SHARED_PAGES = 2;

/** @returns 0, or -ESRCH, -EINVAL, -EPERM, -EEXIST, -EBUSY, -ENOENT, -ENOSPC, -ENOMEM. @xen do_event_channel_op */
export function* eventChannelOp(xen: Xen, op: EvtchnOp): Co<Rc> {
  const domid = 'domid' in op && op.domid !== undefined ? op.domid : xen.cpus.current.domid;
  const d = xen.domains.get(domid);
  if (d === undefined) return E.SRCH;
  switch (op.cmd) {
    case 'bind_pirq':
      return yield* bindPirq(xen, d, op);
    case 'close':
      return yield* close(xen, d, op.port);
    case 'alloc_unbound': {
      const owner = xen.domains.get(op.dom);
      return owner === undefined ? E.SRCH : take(xen, owner, op, { state: 'unbound', remote: op.remote });
    }
    case 'bind_interdomain':
      return bindInterdomain(xen, d, op);
    case 'bind_virq':
      return bindVirq(xen, d, op);
    case 'bind_ipi':
      return op.vcpu >= 0 && op.vcpu < d.maxVcpus
        ? take(xen, d, op, { state: 'ipi', vcpu: op.vcpu })
        : E.NOENT;
    case 'init_control':
      if (!d.fifoEvents && xen.faults.on && xen.faults.take('alloc')) return E.NOMEM;
      d.fifoEvents = true;
      return 0;
  }
}

/** The lowest free port becomes `channel`. @xen get_free_port */
function take(xen: Xen, d: Domain, op: { port?: number }, channel: EventChannel): Rc {
  let port = 1;
  while (d.eventChannels.has(port)) port += 1;
  if (port > PORTS_MAX) return E.NOSPC;
  sharePages(xen, d);
  d.eventChannels.set(port, channel);
  op.port = port;
  return 0;
}

/** Pages that Xen has of each domain; here once it has an event channel. @xen share_xen_page_with_guest */
function sharePages(xen: Xen, d: Domain): void {
  if (d.xenPages !== undefined) return;
  const pages = Array.from({ length: SHARED_PAGES }, () => xen.heap.alloc(0, d.domid, FRAME_TYPE.shared));
  d.xenPages = pages.filter((mfn) => mfn >= 0);
}

/** @xen evtchn_bind_interdomain */
function bindInterdomain(xen: Xen, d: Domain, op: Extract<EvtchnOp, { cmd: 'bind_interdomain' }>): Rc {
  const rd = xen.domains.get(op.remote);
  if (rd === undefined) return E.SRCH;
  const there = rd.eventChannels.get(op.remotePort);
  if (there?.state !== 'unbound' || there.remote !== d.domid) return E.INVAL;
  const rc = take(xen, d, op, { state: 'interdomain', remote: op.remote, port: op.remotePort });
  if (rc !== 0) return rc;
  rd.eventChannels.set(op.remotePort, { state: 'interdomain', remote: d.domid, port: op.port! });
  return 0;
}

/** Those that a vCPU has for itself may be bound once by each. @xen evtchn_bind_virq, virq_is_global */
function bindVirq(xen: Xen, d: Domain, op: Extract<EvtchnOp, { cmd: 'bind_virq' }>): Rc {
  const { vcpu, virq } = op;
  if (virq < 0 || virq >= NR_VIRQS) return E.INVAL;
  const global = virq !== VIRQ.TIMER && virq !== VIRQ.DEBUG;
  if (global && vcpu !== 0) return E.INVAL;
  if (vcpu < 0 || vcpu >= d.maxVcpus) return E.NOENT;
  for (const c of d.eventChannels.values())
    if (c.state === 'virq' && c.virq === virq && c.vcpu === vcpu) return E.EXIST;
  return take(xen, d, op, { state: 'virq', virq, vcpu });
}

/** @xen evtchn_bind_pirq */
function* bindPirq(xen: Xen, d: Domain, op: Extract<EvtchnOp, { cmd: 'bind_pirq' }>): Co<Rc> {
  if (op.pirq < 0 || op.pirq >= nrPirqs(xen, d)) return E.INVAL;
  const pirq = d.pirqs.get(op.pirq);
  if (pirq === undefined || pirq.irq <= 0) return E.INVAL;
  if (!d.irqCaps.contains(pirq.irq, pirq.irq)) return E.PERM;
  for (const c of d.eventChannels.values()) if (c.state === 'pirq' && c.pirq === op.pirq) return E.EXIST;
  const rc = d.isHvm ? 0 : yield* pirqGuestBind(xen, d, pirq, (op.flags & WILL_SHARE) !== 0);
  if (rc !== 0) return rc;
  const taken = take(xen, d, op, { state: 'pirq', pirq: op.pirq });
  if (taken === 0) unmaskForGuest(xen, pirq.irq);
  return taken;
}

/** The other end of a channel waits for somebody to bind it again. @xen evtchn_close */
function* close(xen: Xen, d: Domain, port: number): Co<Rc> {
  const channel = d.eventChannels.get(port);
  if (channel === undefined) return E.INVAL;
  d.eventChannels.delete(port);
  if (channel.state === 'interdomain') unbindOther(xen, d, channel);
  if (channel.state !== 'pirq') return 0;
  const pirq = d.pirqs.get(channel.pirq);
  if (pirq?.bound === true && !d.isHvm) yield* pirqGuestUnbind(xen, d, pirq);
  return 0;
}

function unbindOther(xen: Xen, d: Domain, { remote, port }: { remote: number; port: number }): void {
  const rd = xen.domains.get(remote);
  if (rd?.eventChannels.has(port) === true) rd.eventChannels.set(port, { state: 'unbound', remote: d.domid });
}

/** What a dying domain has of ports; those of interrupts end with these. @xen evtchn_destroy */
export function evtchnDestroy(xen: Xen, d: Domain): void {
  for (const [port, channel] of d.eventChannels) {
    if (channel.state === 'pirq') continue;
    d.eventChannels.delete(port);
    if (channel.state === 'interdomain') unbindOther(xen, d, channel);
  }
}

/** @xen domain_destroy: free_xenheap_page() of the shared page, grant_table_destroy() */
export function freeSharedPages(xen: Xen, d: Domain): void {
  for (const mfn of d.xenPages ?? []) xen.heap.release(mfn, 0);
  d.xenPages = undefined;
}
