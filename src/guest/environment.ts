/** What a scripted guest stands on: its PCI bus, and xenstore with its own rights. Nothing else of the host. */
import type { Co } from '../sim/co.js';

/** Bus 0 of a guest, from a device model or from pciback. All ones where nothing answers. */
export interface GuestPci {
  /** devfns present, rising. */
  functions(): number[];
  configRead(devfn: number, reg: number, bytes: number): number;
  configWrite(devfn: number, reg: number, bytes: number, value: number): Co<void>;
}

export interface GuestWatcher {
  xsChanged(path: string, token: string): Co<void>;
}

/** xenstore as the guest may use it: what it may not do returns a negative errno, what it may not see is missing. */
export interface GuestStore {
  read(path: string): string | undefined;
  write(path: string, value: string): number;
  ls(path: string): string[] | undefined;
  watch(path: string, token: string, watcher: GuestWatcher): void;
  unwatch(path: string, token: string, watcher: GuestWatcher): void;
}

/** Event channels of the guest. */
export interface GuestChannels {
  /** A port that dom0 may bind to, 0 when there is none left. */
  alloc(): Co<number>;
  close(port: number): Co<void>;
}

export interface GuestOutput {
  out(text: string): void;
  err(text: string): void;
}
