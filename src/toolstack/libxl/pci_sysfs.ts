/** What libxl asks of dom0's sysfs about one PCI device. @xen tools/libs/light/libxl_pci.c */
import { isErr, type Rc } from '../../base/errno.js';
import { hex, type Sbdf, sbdf } from '../../base/sbdf.js';
import type { Co } from '../../sim/co.js';
import type { Libxl } from './libxl.js';
import { PCI } from './lines_pci.js';
import type { DevicePci } from './types.js';

export const SYSFS_PCI_DEV = '/sys/bus/pci/devices';
export const SYSFS_PCIBACK = '/sys/bus/pci/drivers/pciback';
const ENOENT = -2;

export const bdfText = (p: DevicePci): string =>
  `${hex(p.domain, 4)}:${hex(p.bus, 2)}:${hex(p.dev, 2)}.${p.func.toString(16)}`;
export const sbdfOfPci = (p: DevicePci): Sbdf => sbdf(p.domain, p.bus, p.dev, p.func);
export const samePci = (a: DevicePci, b: DevicePci): boolean =>
  a.domain === b.domain && a.bus === b.bus && a.dev === b.dev && a.func === b.func;
export const deviceFile = (p: DevicePci, file: string): string => `${SYSFS_PCI_DEV}/${bdfText(p)}/${file}`;

/** `0000:01:00.0` as sscanf with PCI_BDF reads it; undefined for other names. */
export function parseBdfName(
  name: string,
): { domain: number; bus: number; dev: number; func: number } | undefined {
  const m = /^([0-9a-f]{1,4}):([0-9a-f]{1,2}):([0-9a-f]{1,2})\.([0-9a-f])/i.exec(name);
  if (m === null) return undefined;
  const [domain, bus, dev, func] = m.slice(1).map((x) => Number.parseInt(x, 16)) as [
    number,
    number,
    number,
    number,
  ];
  return { domain, bus, dev, func };
}

/** Writes the device's address into an attribute. 0, or the errno that was logged and that later messages repeat. */
export function* sysfsWriteBdf(lx: Libxl, path: string, p: DevicePci): Co<number> {
  const { fs } = lx.dom0;
  if (!fs.exists(path)) {
    lx.log.error(PCI.writeBdfOpen, `Couldn't open ${path}`, -1, ENOENT);
    return ENOENT;
  }
  const rc: Rc = yield* fs.writeFile(path, bdfText(p));
  if (rc >= 0) return 0;
  lx.log.error(PCI.writeBdfWrite, `write to ${path} returned -1`, -1, rc);
  return rc;
}

/** Unbinds from whatever driver there is: its canonical path, '' when none was bound, or an errno. */
export function* sysfsDevUnbind(lx: Libxl, p: DevicePci): Co<string | number> {
  const { fs } = lx.dom0;
  const link = deviceFile(p, 'driver');
  if (isErr(fs.lstat(link))) return '';
  const driver = fs.realpath(link);
  if (typeof driver !== 'string') {
    lx.log.error(PCI.unbindRealpath, 'realpath() failed', -1, driver);
    return driver;
  }
  lx.log.debug(PCI.unbindRePlug, `Driver re-plug path: ${driver}`);
  const rc = yield* sysfsWriteBdf(lx, `${driver}/unbind`, p);
  if (rc < 0) lx.log.error(PCI.unbindFailed, "Couldn't unbind device", -1, rc);
  return rc < 0 ? rc : driver;
}

/** The number in an attribute such as `vendor`, or undefined with the two messages that libxl has for it. */
function readId(lx: Libxl, p: DevicePci, attribute: 'vendor' | 'device' | 'class'): number | undefined {
  const places = {
    vendor: [PCI.vendorOpen, PCI.vendorRead],
    device: [PCI.deviceOpen, PCI.deviceRead],
    class: [PCI.classOpen, PCI.classRead],
  } as const;
  const [open, read] = places[attribute];
  const text = lx.dom0.fs.readFile(deviceFile(p, attribute));
  if (typeof text !== 'string') {
    lx.log.error(open, `pci device ${bdfText(p)} does not have ${attribute} attribute`, -1, text);
    return undefined;
  }
  const m = /^0x([0-9a-f]+)/i.exec(text);
  if (m === null) {
    lx.log.error(read, `cannot read ${attribute} of pci device ${bdfText(p)}`, -1, 0);
    return undefined;
  }
  return Number.parseInt(m[1]!, 16);
}

/** The class code, `0x030000`. @xen sysfs_dev_get_class */
export const sysfsDevClass = (lx: Libxl, p: DevicePci): number | undefined => readId(lx, p, 'class');

const INTEL = 0x8086;

/** True when one of the devices is an Intel display of a class that counts. @xen libxl__is_igd_vga_passthru */
export function isIgdVgaPassthru(lx: Libxl, pcidevs: readonly DevicePci[]): boolean {
  for (const p of pcidevs) {
    const vendor = readId(lx, p, 'vendor');
    const device = readId(lx, p, 'device');
    if (vendor !== INTEL || device === undefined || device === 0xffff) continue;
    const cls = sysfsDevClass(lx, p);
    if (cls !== undefined && lx.profile.igdClasses.includes(cls)) return true;
  }
  return false;
}

/** 1, 0, or an errno that was logged. @xen pciback_dev_has_slot */
export function pcibackHasSlot(lx: Libxl, p: DevicePci): number {
  const path = `${SYSFS_PCIBACK}/slots`;
  const text = lx.dom0.fs.readFile(path);
  if (typeof text !== 'string') {
    lx.log.error(PCI.slotsOpen, `Couldn't open ${path}`, -1, text);
    return text;
  }
  for (const line of text.split('\n')) {
    const bdf = parseBdfName(line);
    if (bdf === undefined) break;
    if (samePci({ ...p, ...bdf }, p)) return 1;
  }
  return 0;
}

/** 1, 0, or -1 with the reason logged. @xen pciback_dev_is_assigned */
export function pcibackIsAssigned(lx: Libxl, p: DevicePci): number {
  const { fs } = lx.dom0;
  if (!fs.exists(SYSFS_PCIBACK)) {
    lx.log.error(PCI.pcibackNotLoaded, 'Looks like pciback driver is not loaded');
    return -1;
  }
  const path = `${SYSFS_PCIBACK}/${bdfText(p)}`;
  const kind = fs.lstat(path);
  if (typeof kind === 'string') return 1;
  if (kind === ENOENT) return 0;
  lx.log.error(PCI.pcibackAccess, `Accessing ${path}`, -1, kind);
  return -1;
}

/** One line of `resource`: a BAR. */
export interface Resource {
  readonly start: number;
  readonly size: number;
  readonly io: boolean;
}

const RESOURCES = 7;
const BAR_IO = 1;

/**
 * The BARs of a device that have an address, or the errno of reading them. With `bits32`, numbers are cut to 32 bits
 * as a %x of sscanf cuts them.
 */
export function readResources(lx: Libxl, p: DevicePci, bits32 = false): readonly Resource[] | number {
  const text = lx.dom0.fs.readFile(deviceFile(p, 'resource'));
  if (typeof text !== 'string') return text;
  const out: Resource[] = [];
  for (const line of text.split('\n').slice(0, RESOURCES)) {
    const numbers = line.split(' ').map((x) => Number.parseInt(x, 16));
    if (numbers.length < 3 || numbers.some(Number.isNaN)) continue;
    const cut = (n: number): number => (bits32 ? n % 2 ** 32 : n);
    const [start, end, flags] = [cut(numbers[0]!), cut(numbers[1]!), cut(numbers[2]!)];
    const size = end - start + 1;
    if (start !== 0) {
      out.push({ start, size: bits32 ? (size + 2 ** 32) % 2 ** 32 : size, io: flags % 2 === BAR_IO });
    }
  }
  return out;
}

/** The legacy interrupt, 0 when there is none, or the errno of reading it. */
export function readIrq(lx: Libxl, p: DevicePci): number {
  const text = lx.dom0.fs.readFile(deviceFile(p, 'irq'));
  if (typeof text !== 'string') return text;
  const irq = Number.parseInt(text, 10);
  return Number.isNaN(irq) || irq >= lx.profile.irqLineLimit ? 0 : irq;
}

/** Resets one function through pciback or the device's own attribute; what fails is only reported. */
export function* devicePciReset(lx: Libxl, p: DevicePci): Co<void> {
  const { fs } = lx.dom0;
  const flr = `${SYSFS_PCIBACK}/do_flr`;
  if (fs.exists(flr)) {
    const rc = yield* fs.writeFile(flr, bdfText(p));
    if (rc >= 0) return;
    const text = lx.profile.resetErrorHasResult
      ? `write to ${flr} returned -1`
      : `write '${bdfText(p)}' to ${flr} failed`;
    lx.log.error(PCI.flrWrite, text, -1, lx.profile.resetErrorHasResult ? undefined : rc);
    return;
  }
  const reset = deviceFile(p, 'reset');
  if (!fs.exists(reset)) {
    const text = `The kernel doesn't support reset from sysfs for PCI device ${bdfText(p)}`;
    lx.log.error(PCI.resetMissing, text);
    return;
  }
  const rc = yield* fs.writeFile(reset, '1');
  if (rc >= 0) return;
  const text = lx.profile.resetErrorHasResult ? `write to ${reset} returned -1` : `write to ${reset} failed`;
  lx.log.error(PCI.resetWrite, text, -1, rc);
}
