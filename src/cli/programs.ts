/** Commands of the script shell that no real host has: they look into the simulated hardware, or into a guest. */
import { formatBdf, parseSbdf, type Sbdf, sbdfOf, segOf } from '../base/sbdf.js';
import { runInGuest } from '../guest/commands.js';
import type { Machine } from '../machine.js';
import type { Co } from '../sim/co.js';
import { DOMID, OWNER_FREE, OWNER_NONE } from '../sim/frames.js';
import type { Dom0Host } from '../toolstack/host.js';
import { type Call, complain, type Program } from '../toolstack/shell/program.js';
import { runXlDaemons } from '../toolstack/xl/daemon.js';
import { xl } from '../toolstack/xl/xl.js';
import { describeEntry, domainName } from './entries.js';
import type { Guests } from './guests.js';

export class XlProgram implements Program {
  constructor(private readonly dom0: Dom0Host) {}
  *run(call: Call): Co<number> {
    const code = yield* xl({ dom0: this.dom0, out: (t) => call.out(t), err: (t) => call.err(t) }, call.argv);
    yield* this.dom0.settle();
    yield* runXlDaemons(this.dom0);
    if (code === 139) call.err('Segmentation fault\n');
    return code;
  }
}

const DMA_USAGE = 'usage: dma BDF [--rid BDF] read|write ADDRESS|@DOMAIN [BYTES]';
const BYTES_MAX = 65_536;

/**
 * A DMA of a device, by its own engine, over the bus and through the IOMMU. `@gpu-vm` stands for the machine address of
 * the highest page of that domain: what a malicious driver would aim at.
 */
export class DmaProgram implements Program {
  constructor(
    private readonly machine: Machine,
    private readonly dom0: Dom0Host,
  ) {}

  *run(call: Call): Co<number> {
    const args = call.argv.slice(1);
    const device = args.shift();
    const as = args[0] === '--rid' ? args.splice(0, 2)[1] : device;
    const [direction, where, count = '64', ...more] = args;
    if (device === undefined || as === undefined || where === undefined || more.length > 0)
      return complain(call, DMA_USAGE, 2);
    const refuse = (what: string, why: string): number => complain(call, `${what}: ${why}; ${DMA_USAGE}`, 2);
    const sbdf = parseSbdf(device);
    if (sbdf === undefined) return refuse(device, 'not an address of a device');
    if (this.machine.hw.pci.functionAt(sbdf) === undefined) return refuse(device, 'no such device');
    const rid = parseSbdf(as);
    if (rid === undefined) return refuse(as, 'not an address of a device');
    if (direction !== 'read' && direction !== 'write') return refuse(direction!, 'neither read nor write');
    const address = this.address(where);
    if (typeof address === 'string') return refuse(where, address);
    const bytes = /^\d{1,6}$/.test(count) ? Number(count) : 0;
    if (bytes < 1 || bytes > BYTES_MAX) return refuse(count, `not a number of bytes from 1 to ${BYTES_MAX}`);
    const other = as === device ? undefined : rid & 0xffff;
    return yield* this.go(call, sbdf, other, direction === 'write', address, bytes);
  }

  private *go(
    call: Call,
    sbdf: Sbdf,
    rid: number | undefined,
    write: boolean,
    address: number,
    bytes: number,
  ): Co<number> {
    const data = new Uint8Array(bytes).fill(write ? 0xda : 0);
    const r = this.machine.dma(sbdf, { address, bytes, write, data, ...(rid === undefined ? {} : { rid }) });
    const as = rid === undefined ? '' : ` as ${formatBdf(sbdfOf(segOf(sbdf), rid))}`;
    const what = `${formatBdf(sbdf)}${as} ${write ? 'writes' : 'reads'} ${bytes} bytes at 0x${address.toString(16)}`;
    call.out(`${what}: ${this.outcome(r.status, r.mfn)}\n`);
    yield* this.machine.serviceInterrupts();
    return r.status === 'done' ? 0 : 1;
  }

  private outcome(status: string, mfn: number): string {
    if (status === 'fault') return 'FAULT, stopped by the IOMMU';
    if (status === 'blocked') return 'never left the bus (bus mastering is off, or a port refused its id)';
    if (status === 'masterAbort') return 'no memory answers there';
    if (mfn >= 0xfee00 && mfn <= 0xfeeff) return 'is an interrupt';
    const owner = this.machine.hw.frames.owner(mfn);
    const whose =
      owner === OWNER_FREE
        ? 'free memory'
        : owner === OWNER_NONE
          ? 'no RAM'
          : `memory of ${this.nameOf(owner)}`;
    return `lands in ${whose}, frame 0x${mfn.toString(16)}`;
  }

  private nameOf(domid: number): string {
    if (domid === DOMID.XEN) return 'Xen';
    const name = domid < DOMID.FIRST_RESERVED ? this.dom0.xs.read(`/local/domain/${domid}/name`) : undefined;
    return name === undefined ? domainName(domid) : `${name} (d${domid})`;
  }

  /** A number, or `@NAME`; or what is wrong with it. */
  private address(text: string): number | string {
    if (/^(0x[0-9a-f]{1,13}|\d{1,15})$/i.test(text)) return Number(text);
    if (!text.startsWith('@')) return 'not an address of up to 52 bits';
    const domid = this.domidOf(text.slice(1));
    const { frames } = this.machine.hw;
    for (let mfn = frames.frames - 1; mfn >= 0; mfn--) if (frames.owner(mfn) === domid) return mfn * 4096;
    return 'no such domain, or one without memory';
  }

  private domidOf(name: string): number | undefined {
    if (name === 'dom0' || name === 'Domain-0') return 0;
    if (name === 'xen') return DOMID.XEN;
    if (/^\d{1,5}$/.test(name)) return Number(name);
    const found = this.dom0.xs
      .ls('/local/domain')
      ?.find((d) => this.dom0.xs.read(`/local/domain/${d}/name`) === name);
    return found === undefined ? undefined : Number(found);
  }
}

/** `iommu show BDF…`: the entry that translates a device's DMA, bit by bit. */
export class IommuProgram implements Program {
  constructor(private readonly machine: Machine) {}
  *run(call: Call): Co<number> {
    const [, verb, ...names] = call.argv;
    const usage = 'usage: iommu show BDF...';
    if (verb !== 'show' || names.length === 0) return complain(call, usage, 2);
    const wrong = names.find((n) => parseSbdf(n) === undefined);
    if (wrong !== undefined) return complain(call, `${wrong}: not an address of a device; ${usage}`, 2);
    for (const n of names)
      for (const line of describeEntry(this.machine, parseSbdf(n)!)) call.out(`${line}\n`);
    return 0;
  }
}

/** `guest NAME [--] COMMAND…`: typed inside a guest. Its devices' DMA too: `guest NAME dma 00:05.0 write 0x1000`. */
export class GuestProgramRunner implements Program {
  constructor(
    private readonly guests: Guests,
    private readonly dom0: Dom0Host,
  ) {}

  *run(call: Call): Co<number> {
    const [, name, ...rest] = call.argv;
    const argv = rest[0] === '--' ? rest.slice(1) : rest;
    if (name === undefined || argv.length === 0)
      return complain(call, 'usage: guest NAME [--] COMMAND...', 2);
    yield* this.dom0.settle();
    const guest = this.guests.find(name);
    if (guest === undefined) return complain(call, `${name} does not run`, 1);
    if (argv[0] !== 'dma') return runInGuest(guest, argv, call);
    const host = this.hostDevice(guest.domid, argv[1] ?? '');
    if (host === undefined)
      return complain(call, `${argv[1] ?? ''}: not a passed-through device of ${name}`, 1);
    return yield* call.shell.call(['dma', host, ...argv.slice(2)], call.input, call);
  }

  /** The device behind a slot of the guest's bus, from the nodes of the back end. */
  private hostDevice(domid: number, slot: string): string | undefined {
    const at = parseSbdf(slot);
    const { xs } = this.dom0;
    const node = `/local/domain/0/backend/pci/${domid}/0`;
    const count = Number(xs.read(`${node}/num_devs`) ?? 0);
    for (let i = 0; i < Math.min(count, 256); i++) {
      const vdevfn = xs.read(`${node}/vdevfn-${i}`);
      const vdev = parseSbdf((xs.read(`${node}/vdev-${i}`) ?? '').replace(/\.0(\d)$/, '.$1'));
      const devfn = vdevfn === undefined ? vdev : Number.parseInt(vdevfn, 16);
      if (devfn === at) return xs.read(`${node}/dev-${i}`);
    }
    return undefined;
  }
}
