/**
 * What libxl's event machinery writes into the log of `xl -vvv`: operations, xenstore watches, QMP connections. An
 * operation that has to wait is handed on first; one that need not is over before. @xen tools/libs/light/libxl_event.c
 */
import { hex } from '../../base/sbdf.js';
import { type AoPlaces, EVENT } from './lines_event.js';
import { type Log, XTL } from './log.js';

/** Where the heap of the simulated process begins, and how far apart its objects are. */
const HEAP = 0x5555_5575_9000;
const OBJECT_BYTES = 0x90;
/** The first four slots are made at once, and the last of them is taken first. */
const FIRST_SLOT = 3;

/** One `libxl__ev_qmp`: it stays connected from one command to the next. */
export interface QmpConnection {
  readonly address: string;
  domid: number;
  connected: boolean;
}

/** One `libxl__ev_xswatch`. */
export interface WatchState {
  readonly address: string;
  path: string | undefined;
  token: string;
}

interface Operation {
  readonly address: string;
  readonly places: AoPlaces;
  readonly domid: number;
  handedOn: boolean;
}

export class EventLog {
  private objects = 0;
  private watches = 0;
  private ao: Operation | undefined = undefined;
  private readonly poller: string;

  constructor(private readonly log: Log) {
    this.poller = this.address();
  }

  /** Whether anybody reads it. */
  get on(): boolean {
    return this.log.minLevel <= XTL.debug;
  }

  private address(): string {
    return `0x${hex(HEAP + OBJECT_BYTES * this.objects++, 12)}`;
  }

  /** @xen libxl__ao_create */
  begin(places: AoPlaces, domid: number): void {
    if (!this.on) return;
    const address = this.address();
    this.ao = { address, places, domid, handedOn: false };
    const text = `ao ${address}: create: how=(nil) callback=(nil) poller=${this.poller}`;
    this.log.debug(places.create, text, domid);
  }

  /** The operation goes back to the event loop for the first time. @xen libxl__ao_inprogress */
  waits(): void {
    if (this.ao !== undefined) this.handOn(this.ao, 'i');
  }

  private handOn(ao: Operation, flags: string): void {
    if (ao.handedOn) return;
    ao.handedOn = true;
    const text = `ao ${ao.address}: inprogress: poller=${this.poller}, flags=${flags}`;
    this.log.debug(ao.places.inProgress, text, ao.domid);
  }

  /** @xen libxl__ao_complete, libxl__ao__destroy */
  end(rc: number): void {
    const { ao } = this;
    if (ao === undefined) return;
    this.log.debug(EVENT.aoComplete, `ao ${ao.address}: complete, rc=${rc}`);
    this.handOn(ao, 'ic');
    this.log.debug(EVENT.aoDestroy, `ao ${ao.address}: destroy`);
    this.ao = undefined;
  }

  /** It could not even be begun. @xen libxl__ao_create_fail */
  fail(): void {
    const { ao } = this;
    if (ao === undefined) return;
    this.log.debug(EVENT.aoCreateFail, `ao ${ao.address}: create fail`);
    this.log.debug(EVENT.aoDestroy, `ao ${ao.address}: destroy`);
    this.ao = undefined;
  }

  /** A process destroys the domain, and the operation waits for it. @xen devices_destroy_cb */
  forked(pid: number, domid: number): void {
    if (!this.on) return;
    this.log.debug(EVENT.forkedDestroy, `Forked pid ${pid} for destroy of domain`, domid);
    this.waits();
  }

  /** Nobody has asked to hear of it. */
  progress(): void {
    if (this.ao !== undefined)
      this.log.debug(EVENT.aoProgress, `ao ${this.ao.address}: progress report: ignored`);
  }

  watch(): WatchState {
    return { address: this.on ? this.address() : '', path: undefined, token: '' };
  }

  watchRegister(w: WatchState, path: string): void {
    if (!this.on) return;
    w.path = path;
    w.token = `${FIRST_SLOT}/${(this.watches++).toString(16)}`;
    this.log.debug(EVENT.watchRegister, `${this.named(w)}: register slotnum=${FIRST_SLOT}`);
  }

  watchEvent(w: WatchState): void {
    if (this.on) this.log.debug(EVENT.watchEvent, `${this.named(w)}: event epath=${w.path ?? ''}`);
  }

  /** Also for one that is not, or no longer, registered. */
  watchDeregister(w: WatchState): void {
    if (!this.on) return;
    if (w.path === undefined) {
      this.log.debug(EVENT.watchUnregistered, `watch w=${w.address}: deregister unregistered`);
      return;
    }
    this.log.debug(EVENT.watchDeregister, `${this.named(w)}: deregister slotnum=${FIRST_SLOT}`);
    w.path = undefined;
  }

  private named(w: WatchState): string {
    return `watch w=${w.address} wpath=${w.path ?? ''} token=${w.token}`;
  }

  /** `domid` 0: it belongs to a guest without a device model, and nobody has told it which. */
  qmp(domid: number): QmpConnection {
    return { address: this.on ? this.address() : '', domid, connected: false };
  }

  qmpSend(ev: QmpConnection, command: string, socket: string): void {
    if (!this.on) return;
    this.log.debug(EVENT.qmpSend, ` ev ${ev.address}, cmd '${command}'`, ev.domid);
    if (!ev.connected) this.log.debug(EVENT.qmpConnecting, `Connecting to ${socket}`, ev.domid);
  }

  /** QEMU answers; it says what it is first. */
  qmpAnswered(ev: QmpConnection, version: string): void {
    this.waits();
    if (!ev.connected) this.log.debug(EVENT.qmpVersion, `QEMU version: ${version}`, ev.domid);
    ev.connected = true;
  }

  qmpDispose(ev: QmpConnection): void {
    if (this.on) this.log.debug(EVENT.qmpDispose, ` ev ${ev.address}`, ev.domid);
    ev.connected = false;
  }
}
