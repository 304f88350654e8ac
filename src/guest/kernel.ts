/** A guest's kernel as far as passthrough goes: it finds its devices, loads drivers, and programs them. */
import { className, deviceName } from '../pci/names.js';
import { COMMAND, EXT_CAP } from '../pci/registers.js';
import type { Co } from '../sim/co.js';
import type { GuestPci } from './environment.js';
import { optionRoms, pciSetup } from './hvmloader.js';
import { type GuestProgram, moduleFor } from './program.js';
import { readBases, readVirtual } from './read_bases.js';

const COMMAND_DECODE_AND_MASTER = 0x7;

/** A device as the guest sees it. */
export interface GuestDevice {
  readonly devfn: number;
  readonly vendor: number;
  readonly device: number;
  readonly classCode: number;
  readonly revision: number;
  readonly module: string | undefined;
}

export class GuestKernel {
  /** Drivers at work, by devfn. */
  private readonly bound = new Map<number, string>();
  /** Devices found, by devfn. */
  readonly devices = new Map<number, GuestDevice>();
  readonly log: string[] = [];

  constructor(
    readonly domid: number,
    readonly name: string,
    readonly program: GuestProgram,
    /** A PV guest's bus appears when its front end has connected. */
    public pci: GuestPci | undefined,
    readonly isHvm: boolean,
  ) {}

  /** Firmware, then kernel. */
  *boot(): Co<void> {
    this.log.push(`Linux version ${this.program.kernel}`);
    if (this.isHvm && this.pci !== undefined) {
      yield* pciSetup(this.pci);
      yield* optionRoms(this.pci);
    }
    yield* this.scan();
  }

  /** Looks for devices that came or went, or only for those that went; true when there were any. */
  *scan(onlyGone = false): Co<boolean> {
    const present = this.pci?.functions() ?? [];
    let changed = false;
    for (const devfn of [...this.devices.keys()]) {
      if (present.includes(devfn)) continue;
      this.devices.delete(devfn);
      this.bound.delete(devfn);
      this.log.push(`pci 0000:00:${slot(devfn)}: removed`);
      changed = true;
    }
    if (onlyGone) return changed;
    for (const devfn of present) {
      if (this.devices.has(devfn)) continue;
      yield* this.add(this.pci!, devfn);
      changed = true;
    }
    return changed;
  }

  private *add(pci: GuestPci, devfn: number): Co<void> {
    if (!this.isHvm) {
      yield* tryIntxMask(pci, devfn);
      yield* readBases(pci, devfn);
      const sriov = findExtended(pci, devfn, EXT_CAP.SRIOV);
      if (sriov !== 0) yield* readVirtual(pci, devfn, sriov);
      yield* clearErrors(pci, devfn);
    }
    const id = pci.configRead(devfn, 0, 4);
    const rest = pci.configRead(devfn, 8, 4);
    const [vendor, device] = [id % 0x1_0000, Math.floor(id / 0x1_0000)];
    const classCode = Math.floor(rest / 256);
    const module = moduleFor(this.program, vendor, device, classCode >>> 8);
    const found = { devfn, vendor, device, classCode, revision: rest & 0xff, module };
    this.devices.set(devfn, found);
    this.log.push(
      `pci 0000:00:${slot(devfn)}: ${className(classCode)}: ${deviceName({ ...found, sbdf: devfn })}`,
    );
    if (module === undefined) return;
    const command = pci.configRead(devfn, 4, 2);
    yield* pci.configWrite(devfn, 4, 2, command | COMMAND_DECODE_AND_MASTER);
    this.bound.set(devfn, module);
    this.log.push(`${module} 0000:00:${slot(devfn)}: enabled`);
  }

  driverOf(devfn: number): string | undefined {
    return this.bound.get(devfn);
  }
  /** Loaded modules with how many devices each has, in the order of loading. */
  modules(): Map<string, number> {
    const all = new Map<string, number>();
    for (const m of this.bound.values()) all.set(m, (all.get(m) ?? 0) + 1);
    return all;
  }
  /** The display that has a driver of its own, if any. */
  gpu(): GuestDevice | undefined {
    for (const d of this.devices.values()) {
      const own =
        d.module === 'nvidia' || d.module === 'nouveau' || d.module === 'amdgpu' || d.module === 'i915';
      if (own && d.classCode >>> 16 === 3 && this.bound.has(d.devfn)) return d;
    }
    return undefined;
  }
}

export const slot = (devfn: number): string => `${(devfn >>> 3).toString(16).padStart(2, '0')}.${devfn & 7}`;

/** Linux turns the bit over and back to see whether INTx can be masked. @linux drivers/pci/probe.c pci_intx_mask_broken */
function* tryIntxMask(pci: GuestPci, devfn: number): Co<void> {
  const command = pci.configRead(devfn, 4, 2);
  yield* pci.configWrite(devfn, 4, 2, command ^ COMMAND.INTX_DISABLE);
  yield* pci.configWrite(devfn, 4, 2, command);
}

/** Headers of extended capabilities: no function has room for more. */
const EXTENDED_MAX = 480;

function findExtended(pci: GuestPci, devfn: number, id: number): number {
  let at = 0x100;
  for (let n = 0; n < EXTENDED_MAX && at >= 0x100; n++) {
    const header = pci.configRead(devfn, at, 4);
    if (header === 0 || header === 0xffff_ffff) return 0;
    if ((header & 0xffff) === id) return at;
    at = (header >>> 20) & ~3;
  }
  return 0;
}

/** Linux clears what AER has logged so far. @linux drivers/pci/pcie/aer.c pci_aer_raw_clear_status */
function* clearErrors(pci: GuestPci, devfn: number): Co<void> {
  const aer = findExtended(pci, devfn, EXT_CAP.AER);
  if (aer === 0) return;
  for (const status of [aer + 0x10, aer + 0x04])
    yield* pci.configWrite(devfn, status, 4, pci.configRead(devfn, status, 4));
}
