/** How a Linux guest answers control/shutdown. @linux drivers/xen/manage.c */
import type { Co } from '../sim/co.js';
import type { GuestStore, GuestWatcher } from './environment.js';

/** Words that the guest takes, with the reason it then stops for. @xen include/public/sched.h SHUTDOWN_* */
const REASONS: ReadonlyMap<string, number> = new Map([
  ['poweroff', 0],
  ['halt', 0],
  ['reboot', 1],
  ['suspend', 2],
]);

export class ShutdownHandler implements GuestWatcher {
  private readonly node: string;

  constructor(
    private readonly xs: GuestStore,
    domid: number,
    /** SCHEDOP_shutdown, when user space has come down. */
    private readonly stopped: (reason: number) => Co<number>,
  ) {
    this.node = `/local/domain/${domid}/control`;
  }

  /** @linux setup_shutdown_watcher */
  start(): void {
    this.xs.watch(`${this.node}/shutdown`, 'shutdown', this);
    for (const word of ['poweroff', 'reboot']) this.xs.write(`${this.node}/feature-${word}`, '1');
  }
  stop(): void {
    this.xs.unwatch(`${this.node}/shutdown`, 'shutdown', this);
  }

  /** @linux shutdown_handler */
  *xsChanged(_path: string, _token: string): Co<void> {
    const reason = REASONS.get(this.xs.read(`${this.node}/shutdown`) ?? '');
    if (reason === undefined) return;
    this.xs.write(`${this.node}/shutdown`, '');
    yield* this.stopped(reason);
  }
}
