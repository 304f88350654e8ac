/**
 * Event channels of a Linux that are no interrupts of devices: timers and calls between its processors, xenstore, the
 * console. @linux arch/x86/xen/smp_pv.c, drivers/xen/xenbus/xenbus_probe.c, drivers/xen/events/events_base.c
 */
import type { EvtchnOp } from '../../hypervisor/public/event_channel.js';
import { VIRQ } from '../../hypervisor/public/event_channel.js';
import type { Hypercalls } from '../../hypervisor/public/hypercalls.js';
import type { Co } from '../../sim/co.js';

/** Reschedule, call of one and of many, deferred work. A lock that is waited for needs one more where there are several. */
const IPIS = 4;

/** How many channels the processors have. */
export const processorChannels = (vcpus: number): number => vcpus * (1 + IPIS + (vcpus > 1 ? 1 : 0));

/** What a kernel binds before it looks at any device. */
export function* bindProcessors(hv: Hypercalls, domid: number, vcpus: number): Co<void> {
  yield* hv.eventChannelOp({ cmd: 'init_control', domid });
  const ipis = IPIS + (vcpus > 1 ? 1 : 0);
  for (let vcpu = 0; vcpu < vcpus; vcpu++) {
    yield* hv.eventChannelOp({ cmd: 'bind_virq', domid, virq: VIRQ.TIMER, vcpu });
    for (let i = 0; i < ipis; i++) yield* hv.eventChannelOp({ cmd: 'bind_ipi', domid, vcpu });
  }
}

/** The port, 0 when there is none. */
export function* bindVirq(hv: Hypercalls, virq: number): Co<number> {
  const op: EvtchnOp = { cmd: 'bind_virq', domid: 0, virq, vcpu: 0 };
  return (yield* hv.eventChannelOp(op)) === 0 ? (op.port ?? 0) : 0;
}

/** The port, 0 when `remote` has none for `domid`. */
export function* bindInterdomain(
  hv: Hypercalls,
  domid: number,
  remote: number,
  remotePort: number,
): Co<number> {
  const op: EvtchnOp = { cmd: 'bind_interdomain', domid, remote, remotePort };
  return (yield* hv.eventChannelOp(op)) === 0 ? (op.port ?? 0) : 0;
}

/** The port of `dom`, 0 when there is none left. */
export function* allocUnbound(hv: Hypercalls, dom: number, remote: number): Co<number> {
  const op: EvtchnOp = { cmd: 'alloc_unbound', dom, remote };
  return (yield* hv.eventChannelOp(op)) === 0 ? (op.port ?? 0) : 0;
}
