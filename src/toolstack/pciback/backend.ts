/**
 * pciback's side of the PV protocol: one back end a guest, driven by what libxl and the front end write into xenstore.
 * @linux drivers/xen/xen-pciback/xenbus.c, drivers/xen/xenbus/xenbus_probe.c
 */
import { E, type Rc } from '../../base/errno.js';
import type { Co } from '../../sim/co.js';
import { bindInterdomain } from '../kernel/channels.js';
import type { Dom0Kernel } from '../kernel/kernel.js';
import type { KernelPci } from '../kernel/pci_dev.js';
import type { XenstoreDaemon, XsWatcher } from '../xenstore/store.js';
import { VirtualConfig } from './conf_space.js';
import { parseSlot } from './slots.js';
import type { Pciback, StubOwner } from './stub.js';
import { VirtualBus } from './vpci.js';
import { readNumber, readState, XENBUS } from './xenbus.js';

const ROOT = '/local/domain/0/backend/pci';
/** Magic of the shared page, checked as text. @xen include/public/io/pciif.h XEN_PCI_MAGIC */
const MAGIC = '7';
const DEVS_MAX = 4096;
const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');

/** What both ends of the protocol need of a host. */
export interface BackendHost {
  readonly xs: XenstoreDaemon;
  readonly kernel: Dom0Kernel;
  readonly stub: Pciback;
}

/** The bus of back ends: makes one when its nodes appear, drops it when they go. */
export class BackendBus implements XsWatcher {
  readonly backends = new Map<string, PciBackend>();
  constructor(private readonly host: BackendHost) {}

  start(): void {
    this.host.xs.watch(ROOT, 'backend', this);
  }

  *xsChanged(path: string): Co<void> {
    const m = /^\/local\/domain\/0\/backend\/pci(\/\d+\/\d+)?(\/|$)/.exec(path);
    if (m === null) return;
    if (m[1] !== undefined) return yield* this.nodeChanged(ROOT + m[1]);
    // Something higher up changed: look at what is known and at what is there.
    for (const node of [...this.backends.keys()]) yield* this.nodeChanged(node);
    for (const domid of this.host.xs.ls(ROOT) ?? []) {
      for (const devid of this.host.xs.ls(`${ROOT}/${domid}`) ?? [])
        yield* this.nodeChanged(`${ROOT}/${domid}/${devid}`);
    }
  }

  private *nodeChanged(node: string): Co<void> {
    const { xs } = this.host;
    const there = this.backends.get(node);
    if (xs.read(node) === undefined) {
      if (there !== undefined) yield* this.drop(there);
    } else if (there === undefined && readState(xs, node) === XENBUS.INITIALISING) {
      const frontend = xs.read(`${node}/frontend`);
      const domid = readNumber(xs, `${node}/frontend-id`);
      if (frontend === undefined || domid === undefined) return;
      const backend = new PciBackend(this.host, this, node, frontend, domid);
      this.backends.set(node, backend);
      yield* backend.probe();
    }
  }

  /** @linux device_unregister, xen_pcibk_xenbus_remove */
  *drop(backend: PciBackend): Co<void> {
    if (!this.backends.delete(backend.node)) return;
    yield* backend.free();
  }

  /** The back end that serves a guest. */
  of(domid: number): PciBackend | undefined {
    for (const b of this.backends.values()) if (b.domid === domid) return b;
    return undefined;
  }
}

export class PciBackend implements XsWatcher, StubOwner {
  readonly bus = new VirtualBus();
  /** What the guest reads and writes through the shared page. */
  readonly config: VirtualConfig;
  /** What this driver last switched to, which is not always what stands in xenstore. */
  private state: number = XENBUS.INITIALISING;
  private port = 0;

  constructor(
    private readonly host: BackendHost,
    private readonly parent: BackendBus,
    readonly node: string,
    readonly frontend: string,
    readonly domid: number,
  ) {
    this.config = new VirtualConfig(host.kernel, host.stub, this.bus);
  }

  *probe(): Co<void> {
    this.switchTo(XENBUS.INIT_WAIT);
    this.host.xs.watch(this.node, 'be', this);
    this.host.xs.watch(`${this.frontend}/state`, 'fe', this);
    yield* this.backendChanged();
  }

  *xsChanged(_path: string, token: string): Co<void> {
    if (!this.parent.backends.has(this.node)) return;
    if (token === 'be') yield* this.backendChanged();
    else yield* this.frontendChanged();
  }

  /** libxl wrote something: the first set-up, or a device more while the guest has not connected yet. */
  private *backendChanged(): Co<void> {
    const state = readState(this.host.xs, this.node);
    if (state === XENBUS.INIT_WAIT) yield* this.setup();
    else if (state === XENBUS.INITIALISED) yield* this.reconfigure(XENBUS.INITIALISED);
  }

  private *frontendChanged(): Co<void> {
    switch (readState(this.host.xs, this.frontend)) {
      case XENBUS.INITIALISED:
        return yield* this.attach();
      case XENBUS.RECONFIGURING:
        return yield* this.reconfigure(XENBUS.RECONFIGURING);
      case XENBUS.CONNECTED:
        return this.switchTo(XENBUS.CONNECTED);
      case XENBUS.CLOSING:
        yield* this.disconnect();
        return this.switchTo(XENBUS.CLOSING);
      case XENBUS.CLOSED:
        yield* this.disconnect();
        this.switchTo(XENBUS.CLOSED);
        if (this.host.xs.read(`${this.node}/online`) !== '1') yield* this.parent.drop(this);
        return;
      case XENBUS.UNKNOWN:
        return yield* this.parent.drop(this);
    }
  }

  /** @linux xen_pcibk_setup_backend */
  private *setup(): Co<void> {
    const count = this.deviceCount();
    if (count === undefined) return;
    for (let i = 0; i < count; i++) {
      if ((yield* this.exportDevice(i)) !== 0) return;
      this.write(`state-${i}`, String(XENBUS.INITIALISED));
    }
    this.publishRoot();
    this.switchTo(XENBUS.INITIALISED);
    yield* this.attach();
  }

  /** @linux xen_pcibk_attach */
  private *attach(): Co<void> {
    const { xs } = this.host;
    if (readState(xs, this.node) !== XENBUS.INITIALISED) return;
    if (readState(xs, this.frontend) !== XENBUS.INITIALISED) return;
    const ref = readNumber(xs, `${this.frontend}/pci-op-ref`);
    const channel = readNumber(xs, `${this.frontend}/event-channel`);
    const magic = xs.read(`${this.frontend}/magic`);
    if (ref === undefined || channel === undefined) {
      this.fatal(E.NOENT, 'Error reading configuration from frontend');
      return;
    }
    if (magic !== MAGIC) {
      const versions = `${magic ?? '(null)'}/${MAGIC}`;
      this.fatal(E.FAULT, `version mismatch (${versions}) with pcifront - halting pciback`);
      return;
    }
    this.port = yield* bindInterdomain(this.host.kernel.hv, 0, this.domid, channel);
    this.switchTo(XENBUS.CONNECTED);
  }

  /** @linux xen_pcibk_disconnect */
  private *disconnect(): Co<void> {
    const { port } = this;
    this.port = 0;
    if (port !== 0) yield* this.host.kernel.hv.eventChannelOp({ cmd: 'close', domid: 0, port });
  }

  /** @linux xen_pcibk_reconfigure */
  private *reconfigure(state: number): Co<void> {
    const { xs } = this.host;
    if (readState(xs, this.node) !== state) return;
    const count = this.deviceCount();
    if (count === undefined) return;
    for (let i = 0; i < count; i++) {
      const substate = readNumber(xs, `${this.node}/state-${i}`);
      if (substate === XENBUS.INITIALISING) {
        if ((yield* this.exportDevice(i)) !== 0) return;
        this.publishRoot();
        this.write(`state-${i}`, String(XENBUS.INITIALISED));
      } else if (substate === XENBUS.CLOSING) {
        if ((yield* this.removeDevice(i)) !== 0) return;
      }
    }
    if (state !== XENBUS.INITIALISED) this.switchTo(XENBUS.RECONFIGURED);
  }

  private deviceCount(): number | undefined {
    const count = readNumber(this.host.xs, `${this.node}/num_devs`);
    if (count !== undefined && count <= DEVS_MAX) return count;
    const there = this.host.xs.read(`${this.node}/num_devs`) !== undefined;
    this.fatal(there ? E.INVAL : E.NOENT, 'Error reading number of devices');
    return undefined;
  }

  /** @linux xen_pcibk_export_device, vpci.c __xen_pcibk_add_pci_dev */
  private *exportDevice(i: number): Co<Rc> {
    const { kernel, stub, xs } = this.host;
    const text = xs.read(`${this.node}/dev-${i}`);
    const slot = text === undefined ? undefined : parseSlot(text);
    if (slot === undefined) return this.failed(E.INVAL, 'Error parsing pci device configuration');
    const dev = stub.take(slot, this);
    if (dev === undefined) {
      const at = `${hex(slot.domain, 4)}:${hex(slot.bus, 2)}:${hex(slot.slot, 2)}.${slot.func}`;
      return this.failed(E.INVAL, `Couldn't locate PCI device (${at})! perhaps already in-use?`);
    }
    const place = this.bus.add(dev);
    if (place === undefined) return this.failed(E.NOMEM, 'No more space on root virtual PCI bus');
    const where = `slot ${place.slot}${place.joined ? ` func ${place.func}` : ''}`;
    kernel.log.info(`pciback ${dev.name}: xen_pciback: vpci: assign to virtual ${where}`);
    // The function has two digits here: front ends read it so.
    this.write(`vdev-${i}`, `0000:00:${hex(place.slot, 2)}.${hex(place.func, 2)}`);
    kernel.log.info(`pciback ${dev.name}: registering for ${this.domid}`);
    return 0;
  }

  /** @linux xen_pcibk_remove_device */
  private *removeDevice(i: number): Co<Rc> {
    const text = this.host.xs.read(`${this.node}/vdev-${i}`);
    const slot = text === undefined ? undefined : parseSlot(text);
    if (slot === undefined) return this.failed(E.INVAL, 'Error parsing pci device configuration');
    const dev = this.bus.at(slot.slot, slot.func);
    if (dev === undefined) return E.INVAL;
    yield* this.releaseDevice(dev);
    return 0;
  }

  *releaseDevice(dev: KernelPci): Co<void> {
    if (!this.bus.remove(dev)) return;
    this.config.forget(dev);
    yield* this.host.stub.put(dev);
  }

  private publishRoot(): void {
    const count = readNumber(this.host.xs, `${this.node}/root_num`) ?? 0;
    for (let i = 0; i < count; i++) if (this.host.xs.read(`${this.node}/root-${i}`) === '0000:00') return;
    this.write(`root-${count}`, '0000:00');
    this.write('root_num', String(count + 1));
  }

  /** Everything the guest had goes back, reset. @linux free_pdev */
  *free(): Co<void> {
    this.host.xs.unwatch(this.node, 'be', this);
    this.host.xs.unwatch(`${this.frontend}/state`, 'fe', this);
    yield* this.disconnect();
    for (const dev of this.bus.all()) yield* this.releaseDevice(dev);
  }

  /** @linux xenbus_switch_state */
  private switchTo(state: number): void {
    if (this.state === state || this.host.xs.read(`${this.node}/state`) === undefined) return;
    this.state = state;
    this.write('state', String(state));
  }

  private write(key: string, value: string): void {
    this.host.xs.write(`${this.node}/${key}`, value);
  }

  private failed(rc: Rc, text: string): Rc {
    this.fatal(rc, text);
    return rc;
  }

  /** Says what is wrong where the front end can read it, and closes. @linux xenbus_dev_fatal */
  private fatal(rc: Rc, text: string): void {
    const name = this.node.slice(ROOT.length + 1).replace('/', '-');
    this.host.kernel.log.error(`pciback pci-${name}: ${rc} ${text}`);
    this.host.xs.write(
      `/local/domain/0/error/${this.node.slice('/local/domain/0/'.length)}/error`,
      `${-rc} ${text}`,
    );
    this.switchTo(XENBUS.CLOSING);
  }
}
