/** xenstored and xenconsoled, as far as they hold event channels. @xen tools/xenstored, tools/console/daemon/io.c */
import { VIRQ } from '../hypervisor/public/event_channel.js';
import type { Hypercalls } from '../hypervisor/public/hypercalls.js';
import type { Co } from '../sim/co.js';
import { bindInterdomain, bindVirq } from './kernel/channels.js';
import type { XenstoreDaemon, XsWatcher } from './xenstore/store.js';

const INTRODUCE = '@introduceDomain';
const RELEASE = '@releaseDomain';
const DOM0 = 0;

export class Daemons implements XsWatcher {
  /** Their ports by the domain that they serve. */
  private readonly ports = new Map<number, number[]>();
  constructor(
    private readonly hv: Hypercalls,
    private readonly xs: XenstoreDaemon,
  ) {}

  /** `storePort` is where dom0's kernel waits for xenstored. */
  *start(storePort: number): Co<void> {
    yield* bindVirq(this.hv, VIRQ.DOM_EXC);
    if (storePort !== 0) yield* bindInterdomain(this.hv, DOM0, DOM0, storePort);
    yield* bindVirq(this.hv, VIRQ.CON_RING);
    this.xs.watch(INTRODUCE, 'daemons', this);
    this.xs.watch(RELEASE, 'daemons', this);
  }

  *xsChanged(path: string): Co<void> {
    const domids = (this.xs.ls('/local/domain') ?? []).map(Number);
    if (path === INTRODUCE) {
      for (const domid of domids) if (domid !== DOM0 && !this.ports.has(domid)) yield* this.serve(domid);
      return;
    }
    for (const [domid, ports] of this.ports) {
      if (domids.includes(domid)) continue;
      this.ports.delete(domid);
      for (const port of ports) yield* this.hv.eventChannelOp({ cmd: 'close', domid: DOM0, port });
    }
  }

  /** The store first: the console is found through it. */
  private *serve(domid: number): Co<void> {
    const ports: number[] = [];
    for (const node of ['store/port', 'console/port']) {
      const there = Number(this.xs.read(`/local/domain/${domid}/${node}`) ?? 0);
      const port = there > 0 ? yield* bindInterdomain(this.hv, DOM0, domid, there) : 0;
      if (port !== 0) ports.push(port);
    }
    if (ports.length > 0) this.ports.set(domid, ports);
  }
}
