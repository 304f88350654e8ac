/**
 * What dom0's tools stand on: Xen through hypercalls, dom0's kernel through its files (sysfs above all), xenstore,
 * the process table. libxl, xl and the device models see the host through `Dom0` and nothing else.
 */
import type { BootFiles } from '../base/boot_file.js';
import type { Errno, Rc } from '../base/errno.js';
import type { Hypercalls } from '../hypervisor/public/hypercalls.js';
import type { Clock } from '../sim/clock.js';
import type { Co } from '../sim/co.js';
import type { EventStream } from '../sim/events.js';
import type { Faults } from '../sim/faults.js';
import type { ToolstackProfile } from './libxl/profile.js';

/** One view of the store: the store itself, or a transaction. Paths are absolute, values are text. */
export interface XenstoreView {
  /** The value of a node, '' for a directory made by mkdir; undefined when there is no such node. */
  read(path: string): string | undefined;
  /** Makes missing parents, with empty values. 0 or a negative errno. */
  write(path: string, value: string): Rc;
  mkdir(path: string): Rc;
  /** Removes the node and all below it; -ENOENT when there is none. */
  rm(path: string): Rc;
  /** Names of the children in the order in which they were made; undefined when there is no such node. */
  ls(path: string): string[] | undefined;
}

export interface Xenstore extends XenstoreView {
  /**
   * Runs `body` on a draft and commits when it returns 0, else drops the draft. The result is what `body` returned.
   * Nobody else can run in between (`body` is a plain function), so a commit never fails with -EAGAIN.
   * Watches fire after the commit.
   */
  transaction(body: (t: XenstoreView) => Rc): Rc;
  /** Access rights, `n0` `r3` and so on, owner first, as xs_set_permissions takes them. */
  setPerms(path: string, perms: readonly string[]): Rc;
  /** Tells who watches for it that a domain came, or that one went. */
  fireSpecial(name: '@introduceDomain' | '@releaseDomain'): void;
  /** A process of dom0 that is told at once, and then of every change. */
  watch(path: string, token: string, watcher: XenstoreWatcher): void;
  unwatch(path: string, token: string, watcher: XenstoreWatcher): void;
}

export interface XenstoreWatcher {
  xsChanged(path: string, token: string): Co<void>;
}

/** lstat() in one word. */
export type FileKind = 'file' | 'dir' | 'link';

/** dom0's files, sysfs included. Relative paths count from `/root`. Text is Latin-1: one char is one byte. */
export interface Vfs {
  /** Whole content, as cat prints it. */
  readFile(path: string): string | Errno;
  /**
   * One write(2) of the whole text, the file being created or truncated when it is an ordinary one. For a sysfs
   * attribute: the number of bytes it took (never partly), or the errno its store function returned (-ENOTTY is -25).
   */
  writeFile(path: string, text: string): Co<Rc>;
  append(path: string, text: string): Rc;
  remove(path: string): Rc;
  /** Does not follow a link in the last component; -ENOENT when missing. */
  lstat(path: string): FileKind | Errno;
  /** Follows links, as access(F_OK) does. */
  exists(path: string): boolean;
  /** The text of a link, often relative. */
  readlink(path: string): string | Errno;
  /** Absolute, without links. */
  realpath(path: string): string | Errno;
  readdir(path: string): string[] | Errno;
  /** pread(2); what lies behind the end is missing, so the result may be shorter. */
  pread(path: string, offset: number, bytes: number): Uint8Array | Errno;
  /** pwrite(2) into a binary attribute such as `config`; bytes written or an errno. */
  pwrite(path: string, offset: number, data: Uint8Array): Co<Rc>;
}

export interface Process {
  readonly pid: number;
  readonly argv: readonly string[];
}

/** What `ps` shows. */
export interface Processes {
  /** By pid. */
  readonly list: Map<number, Process>;
  spawn(argv: readonly string[]): Process;
  exit(pid: number): void;
}

/** A device model that serves one guest. QEMU implements it (src/devicemodel). */
export interface DeviceModel {
  readonly domid: number;
  readonly pid: number;
  readonly argv: readonly string[];
  /** What it greets its monitors with. */
  readonly version: string;
  /** Reads its arguments, and makes the video memory part of the guest. False: it never reports that it runs. */
  start(videoKb: number, maxKb: number): Co<boolean>;
  /**
   * One QMP command as JSON text; the answer is the line the monitor sends back, `{"return": …}` or `{"error": …}`,
   * or undefined when it does not answer (dead or wedged).
   */
  qmp(json: string): Co<string | undefined>;
  /** Config cycles of the guest on its emulated bus 0. All ones where nothing answers. `bytes` is 1, 2 or 4. */
  configRead(devfn: number, reg: number, bytes: number): number;
  configWrite(devfn: number, reg: number, bytes: number, value: number): Co<void>;
  /** devfns present on the guest's bus 0, rising. */
  functions(): number[];
  /** The guest answers (or not) the unplug request that `device_del` raised: what its ACPI hotplug code does. */
  ejectRequested(devfn: number): boolean;
  eject(devfn: number): Co<void>;
  /** The process ends; it drops what it holds of the guest. */
  stop(): Co<void>;
}

/** What is executed when libxl spawns a device model; it writes its log to `logPath`. */
export type DeviceModelProgram = (
  dom0: Dom0,
  domid: number,
  process: Process,
  logPath: string,
) => DeviceModel;

/** `uname -a` of dom0. */
export interface Uname {
  readonly nodename: string;
  readonly release: string;
  readonly version: string;
  readonly machine: string;
}

/** An `xl create` that stays behind to see its domain die. @xen tools/xl/xl_vmcontrol.c create_domain */
export interface DomainWatcher {
  readonly domid: number;
  readonly name: string;
  readonly pid: number;
  /** `destroy`, `restart`, `preserve` and so on, by what happened to the domain. */
  readonly onPoweroff: string;
  readonly onReboot: string;
  readonly onCrash: string;
  readonly onWatchdog: string;
  readonly onSoftReset: string;
  /** Text of the configuration and what was given on the command line, for a restart. */
  readonly source: { readonly name: string; readonly text: string };
  /** Of one that was asked to tell more (-vvv). */
  readonly death?: DeathListener;
}

/** A process that hears of the death of a domain, until it ends. */
export interface DeathListener {
  end(): void;
}

export interface Dom0 {
  readonly hv: Hypercalls;
  readonly clock: Clock;
  readonly events: EventStream;
  readonly faults: Faults;
  readonly xs: Xenstore;
  readonly fs: Vfs;
  readonly processes: Processes;
  readonly profile: ToolstackProfile;
  readonly uname: Uname;
  /** What is known of files that guests are built from. */
  readonly bootFiles: BootFiles;
  readonly qemu: DeviceModelProgram;
  /** By domain id; libxl fills it when it starts one. Empty at boot. */
  readonly deviceModels: Map<number, DeviceModel>;
  /** How long QEMU takes to answer. */
  readonly qmpNs: number;
  /** By domain id. Empty at boot. */
  readonly watchers: Map<number, DomainWatcher>;
  /** The pseudo terminal that the next open of /dev/ptmx gives: its path. */
  openPty(): string;
  /**
   * Lets whoever watches xenstore react until nobody has anything left to do: dom0's kernel (pciback's back end, which
   * resets devices and calls Xen) and the guests' front ends. Call it where libxl waits for a back end to reach a
   * state, then read the state. Watches are only queued by a write; nothing reacts inside `xs.write`.
   */
  settle(): Co<void>;
  /**
   * Nobody waits any longer for what the last `settle()` did: it is now `atNs`, and dom0's kernel is busy with it for as
   * long as it took.
   */
  stopWaiting(atNs: number): void;
}

/** What one command of the shell writes to: stdout and stderr. Text carries its own newlines. */
export interface Stdio {
  out(text: string): void;
  err(text: string): void;
}
