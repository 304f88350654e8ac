/** QEMU as libxl's device model: its monitor, its bus, its passed-through devices. QEMU 7.2 with Xen's accelerator. */
import { isErr } from '../base/errno.js';
import { funcOf, parseSbdf, slotOf } from '../base/sbdf.js';
import type { Co } from '../sim/co.js';
import { Board, type EmulatedFunction } from './board.js';
import type { QemuHost, QemuProcess } from './environment.js';
import { IGD_SBDF } from './igd.js';
import { XenPt } from './xen_pt.js';

type Args = Readonly<Record<string, unknown>>;

/** What a command answers: `return`, or the class and text of an error. */
type Answer =
  | { readonly return: unknown }
  | { readonly error: { readonly class: string; readonly desc: string } };

const fail = (desc: string, kind = 'GenericError'): Answer => ({ error: { class: kind, desc } });
const done = (value: unknown = {}): Answer => ({ return: value });
const INTEL = 0x8086;
const VNC_PORT = 5900;
const DISPLAY_VGA = 0x030000;
/** SeaBIOS's VGA BIOSes have less than 64 KiB, which are a power of two. @qemu pci_add_option_rom */
const VGA_ROM_PAGES = 16;

class QemuXen {
  readonly pid: number;
  readonly argv: readonly string[];
  /** As Debian packages it. */
  readonly version = '7.2.22';
  private readonly board: Board;
  private readonly devices: XenPt[] = [];
  private running = false;
  private serialTty: string | undefined = undefined;

  constructor(
    private readonly dom0: QemuHost,
    readonly domid: number,
    process: QemuProcess,
    private readonly logPath: string,
  ) {
    this.pid = process.pid;
    this.argv = process.argv;
    this.board = new Board(process.argv);
  }

  /** Makes the video memory and the ROM of a display part of the guest, behind its RAM. False: it never reports that it runs. */
  *start(videoKb: number, maxKb: number): Co<boolean> {
    const { dom0 } = this;
    dom0.fs.remove(this.logPath);
    dom0.fs.append(this.logPath, '');
    if (dom0.faults.on && dom0.faults.take('qmp')) return false;
    const serial = this.argv.indexOf('-serial');
    if (serial >= 0 && this.argv[serial + 1] === 'pty') {
      this.serialTty = dom0.openPty();
      dom0.fs.append(this.logPath, `char device redirected to ${this.serialTty} (label serial0)\n`);
    }
    const displays = this.board.functions.filter((f) => f.classCode === DISPLAY_VGA).length;
    const pages = Math.floor(videoKb / 4) + displays * VGA_ROM_PAGES;
    if (pages > 0 && !this.argv.includes('-xen-attach')) {
      const from = Math.floor((maxKb - videoKb) / 4);
      yield* dom0.hv.memoryOp({
        cmd: 'populate_physmap',
        domid: this.domid,
        gfns: Array.from({ length: pages }, (_, i) => this.vramGfn(from) + i),
        order: 0,
      });
    }
    this.running = true;
    return true;
  }

  /** RAM addresses count on above the hole: what does not fit below it lies above 4 GiB. */
  private vramGfn(afterPages: number): number {
    const hole = 0xf_0000;
    return afterPages <= hole ? afterPages : afterPages - hole + 0x10_0000;
  }

  *qmp(json: string): Co<string | undefined> {
    const { dom0 } = this;
    this.trace('send', json);
    if (!this.running || (dom0.faults.on && dom0.faults.take('qmp'))) return undefined;
    const request = JSON.parse(json) as { execute: string; arguments?: Args };
    const answer = JSON.stringify(yield* this.execute(request.execute, request.arguments ?? {}));
    this.trace('recv', answer);
    return answer;
  }

  private trace(dir: 'send' | 'recv', json: string): void {
    const { events } = this.dom0;
    if (events.on) events.emit({ kind: 'qmp', domid: this.domid, dir, json });
  }

  private *execute(command: string, args: Args): Co<Answer> {
    switch (command) {
      case 'qmp_capabilities':
        return done();
      case 'query-status':
        return done({ running: true, singlestep: false, status: 'running' });
      case 'query-chardev':
        return done(this.chardevs());
      case 'query-vnc':
        return done(this.vnc());
      case 'change-vnc-password':
        return done();
      case 'query-pci':
        return done(this.queryPci());
      case 'device_add':
        return yield* this.deviceAdd(args);
      case 'device_del':
        return this.deviceDel(String(args.id));
      default:
        return fail(`The command ${command} has not been found`, 'CommandNotFound');
    }
  }

  private chardevs(): unknown {
    const serial = this.serialTty;
    const item = (label: string, filename: string) => ({ label, filename, 'frontend-open': true });
    return serial === undefined ? [] : [item('serial0', `pty:${serial}`)];
  }

  private vnc(): unknown {
    const arg = this.argv[this.argv.indexOf('-vnc') + 1] ?? 'none';
    if (arg === 'none' || !this.argv.includes('-vnc')) return { enabled: false };
    const [host, display] = (arg.split(',')[0] ?? '').split(':');
    return { enabled: true, host, service: String(VNC_PORT + Number(display ?? 0)) };
  }

  private queryPci(): unknown {
    const id = (vendor: number, device: number) => ({ vendor, device });
    const emulated = this.board.functions.map((f) => ({
      bus: 0,
      slot: f.slot,
      function: f.func,
      class_info: { desc: f.desc, class: f.classCode >> 8 },
      id: id(f.vendor, f.device),
      qdev_id: f.qdevId,
      regions: [],
    }));
    const real = this.devices.map((d) => ({
      bus: 0,
      slot: d.slot,
      function: d.func,
      class_info: { class: d.hostRead(0x0a, 2) },
      id: id(d.hostRead(0, 2), d.hostRead(2, 2)),
      qdev_id: d.qdevId,
      regions: d.regions(),
    }));
    return [{ bus: 0, devices: [...emulated, ...real] }];
  }

  private *deviceAdd(args: Args): Co<Answer> {
    const driver = String(args.driver);
    if (driver !== 'xen-pci-passthrough') return fail(`'${driver}' is not a valid device model name`);
    const qdevId = String(args.id);
    if (this.devices.some((d) => d.qdevId === qdevId)) return fail(`Duplicate device ID '${qdevId}'`);
    const hostaddr = String(args.hostaddr);
    const config = `/sys/bus/pci/devices/${hostaddr}/config`;
    const probe = this.dom0.fs.pread(config, 0, 12);
    if (isErr(probe)) return fail(`failed to open file: ${config}: No such file or directory`);
    const display = this.board.igdPassthru && probe[0xa] === 0 && probe[0xb] === 3;
    const isIgdPlace = parseSbdf(hostaddr) === IGD_SBDF;
    if (display && isIgdPlace && (probe[0]! | (probe[1]! << 8)) === INTEL) this.board.openIgdSlot();
    const devfn = this.placeFor(args.addr);
    if (typeof devfn !== 'number') return devfn;
    if (isIgdPlace && !display)
      return fail("Need to enable igd-passthru if you're trying to passthrough IGD GFX");
    const pt = new XenPt(this.dom0, this.domid, qdevId, hostaddr, devfn, args.permissive === true, display);
    this.board.take(pt.slot);
    this.devices.push(pt);
    yield* pt.realize();
    return done();
  }

  /** devfn of a new device: as asked, or the first free slot. @qemu do_pci_register_device */
  private placeFor(addr: unknown): number | Answer {
    if (addr === undefined) {
      const slot = this.board.freeSlot();
      return slot < 0
        ? fail('PCI: no slot/function available for xen-pci-passthrough, all in use or reserved')
        : slot << 3;
    }
    const [slot = 0, func = 0] = String(addr)
      .split('.')
      .map((x) => Number.parseInt(x, 16));
    const where = `PCI: slot ${slot} function ${func} not available for xen-pci-passthrough`;
    if (this.board.isReserved(slot)) return fail(`${where}, reserved`);
    const real = this.devices.find((d) => d.slot === slot && d.func === func);
    if (real !== undefined) return fail(`${where}, in use by xen-pci-passthrough,id=${real.qdevId}`);
    const own = this.board.functions.find((f) => f.slot === slot && f.func === func);
    if (own === undefined) return (slot << 3) | func;
    return fail(`${where}, in use by ${own.model},id=${own.qdevId === '' ? '(null)' : own.qdevId}`);
  }

  /** A guest that was not up may be asked again: the first request is forgotten after less than a millisecond. @qemu acpi_pcihp_device_unplug_request_cb */
  private deviceDel(id: string): Answer {
    const pt = this.devices.find((d) => d.qdevId === id);
    if (pt === undefined) return fail(`Device '${id}' not found`, 'DeviceNotFound');
    pt.unplugRequested = true;
    return done();
  }

  functions(): number[] {
    const emulated = this.board.functions.map((f) => (f.slot << 3) | f.func);
    return [...emulated, ...this.devices.map((d) => d.devfn)].sort((a, b) => a - b);
  }

  configRead(devfn: number, reg: number, bytes: number): number {
    const pt = this.devices.find((d) => d.devfn === devfn);
    if (pt !== undefined) return pt.configRead(reg, bytes);
    const ones = 2 ** (8 * bytes) - 1;
    const f = this.board.functions.find((x) => x.slot === slotOf(devfn) && x.func === funcOf(devfn));
    if (f === undefined) return ones;
    const word = emulatedDword(f, reg & ~3);
    return Math.floor(word / 2 ** (8 * (reg & 3))) % (ones + 1);
  }

  *configWrite(devfn: number, reg: number, bytes: number, value: number): Co<void> {
    const pt = this.devices.find((d) => d.devfn === devfn);
    if (pt !== undefined) yield* pt.configWrite(reg, bytes, value);
    else if (bytes === 4) {
      const f = this.board.functions.find((x) => x.slot === slotOf(devfn) && x.func === funcOf(devfn));
      f?.bars.write(reg, value);
    }
  }

  ejectRequested(devfn: number): boolean {
    return this.devices.some((d) => d.devfn === devfn && d.unplugRequested);
  }

  *eject(devfn: number): Co<void> {
    const at = this.devices.findIndex((d) => d.devfn === devfn && d.unplugRequested);
    const pt = this.devices[at];
    if (pt === undefined) return;
    this.devices.splice(at, 1);
    this.board.release(pt.slot);
    yield* pt.unrealize();
    this.trace('recv', JSON.stringify({ event: 'DEVICE_DELETED', data: { device: pt.qdevId } }));
  }

  /** Killed: nothing is unmapped or unbound, Xen cleans up with the domain. */
  *stop(): Co<void> {
    this.running = false;
    const name = this.argv[0]!.slice(this.argv[0]!.lastIndexOf('/') + 1);
    this.dom0.fs.append(this.logPath, `${name}: terminating on signal 1 from pid ${this.pid + 1} (xl)\n`);
  }
}

function emulatedDword(f: EmulatedFunction, dword: number): number {
  if (dword === 0) return f.vendor + f.device * 0x1_0000;
  if (dword === 8) return f.classCode * 256;
  if (dword === 0xc) return f.slot === 1 ? 0x80_0000 : 0;
  return f.bars.read(dword);
}

/** The program behind libxl's command line: a process that has not read its arguments yet. */
export const qemuXen = (dom0: QemuHost, domid: number, process: QemuProcess, logPath: string): QemuXen =>
  new QemuXen(dom0, domid, process, logPath);
