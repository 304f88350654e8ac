/** The front end of a PV guest's PCI bus. @linux drivers/pci/xen-pcifront.c */
import type { Co } from '../sim/co.js';
import type { GuestChannels, GuestStore, GuestWatcher } from './environment.js';

/** @xen include/public/io/xenbus.h */
const STATE = {
  INITIALISING: 1,
  INITIALISED: 3,
  CONNECTED: 4,
  CLOSING: 5,
  CLOSED: 6,
  RECONFIGURING: 7,
  RECONFIGURED: 8,
} as const;
/** The grant that a small guest has left when it gets here. */
const GRANT_REF = '8';
const MAGIC = '7';

export class Pcifront implements GuestWatcher {
  private readonly node: string;
  private backend: string | undefined = undefined;
  private state: number = STATE.INITIALISING;
  private port = 0;
  /** The bus is there: config cycles work. */
  get connected(): boolean {
    return this.state === STATE.CONNECTED || this.state === STATE.RECONFIGURING;
  }

  constructor(
    private readonly xs: GuestStore,
    private readonly channels: GuestChannels,
    private readonly domid: number,
  ) {
    this.node = `/local/domain/${domid}/device/pci`;
  }

  /** Looks for a device to drive, and keeps looking. */
  start(): void {
    this.xs.watch(this.node, 'bus', this);
  }
  stop(): void {
    this.xs.unwatch(this.node, 'bus', this);
    this.forget();
  }

  *xsChanged(_path: string, token: string): Co<void> {
    if (token === 'bus') yield* this.busChanged();
    else yield* this.backendChanged();
  }

  private *busChanged(): Co<void> {
    const there = this.xs.read(`${this.node}/0/backend`);
    if (there === undefined) {
      if (this.backend !== undefined) {
        yield* this.reportChannel();
        this.forget();
      }
      return;
    }
    if (this.backend !== undefined || this.read(`${this.node}/0/state`) !== STATE.INITIALISING) return;
    this.backend = there;
    this.xs.write(`${this.node}/0/pci-op-ref`, GRANT_REF);
    this.port = yield* this.channels.alloc();
    this.xs.write(`${this.node}/0/event-channel`, String(this.port));
    this.xs.write(`${this.node}/0/magic`, MAGIC);
    this.switchTo(STATE.INITIALISED);
    this.xs.watch(`${there}/state`, 'backend', this);
  }

  private forget(): void {
    if (this.backend !== undefined) this.xs.unwatch(`${this.backend}/state`, 'backend', this);
    this.backend = undefined;
    this.state = STATE.INITIALISING;
  }

  /** @linux pcifront_backend_changed */
  private *backendChanged(): Co<void> {
    if (this.backend === undefined) return;
    switch (this.read(`${this.backend}/state`)) {
      case STATE.CONNECTED:
        if (this.state === STATE.INITIALISED) this.switchTo(STATE.CONNECTED);
        return;
      case STATE.RECONFIGURING:
        if (this.state === STATE.CONNECTED) this.switchTo(STATE.RECONFIGURING);
        return;
      case STATE.RECONFIGURED:
        if (this.state === STATE.RECONFIGURING) this.switchTo(STATE.CONNECTED);
        return;
      case STATE.CLOSING:
        yield* this.close();
        return;
    }
  }

  private *close(): Co<void> {
    if (this.state === STATE.CLOSED) return;
    yield* this.reportChannel();
    this.switchTo(STATE.CLOSED);
  }

  /** Linux closes its event channel twice, and reports what Xen answers. */
  private *reportChannel(): Co<void> {
    if (this.state === STATE.INITIALISING || this.state === STATE.CLOSED) return;
    const node = `/local/domain/${this.domid}/error/device/pci/0/error`;
    yield* this.channels.close(this.port);
    this.xs.write(node, `22 freeing event channel ${this.port}`);
  }

  private switchTo(state: number): void {
    if (this.xs.read(`${this.node}/0/state`) === undefined) return;
    this.state = state;
    this.xs.write(`${this.node}/0/state`, String(state));
  }
  private read(path: string): number | undefined {
    const text = this.xs.read(path);
    return text !== undefined && /^\d{1,3}$/.test(text) ? Number(text) : undefined;
  }
}
