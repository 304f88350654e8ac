/** Device scopes: which buses and functions a structure of the DMAR is about. @xen drivers/passthrough/vtd/dmar.c */
import { E, type Rc } from '../../../base/errno.js';
import { bdfOf, formatSbdf, type Sbdf, sbdf } from '../../../base/sbdf.js';
import { type DeviceScope, type DmarBroken, SCOPE_TYPE } from '../../format/dmar.js';
import { XENLOG } from '../types.js';
import { type DmarScope, type DrhdUnit, VTDPREFIX, type Vtd } from './state.js';

const PCI_SECONDARY_BUS = 0x19;
const PCI_SUBORDINATE_BUS = 0x1a;
const PCI_BASE_CLASS = 0x0b;
const PCI_BASE_CLASS_DISPLAY = 3;
/** @xen MIN_SCOPE_LEN */
const MIN_SCOPE_LEN = 8;

/** The function a scope's path leads to: through the bridges as they are programmed now. */
function target(vtd: Vtd, seg: number, scope: DeviceScope): Sbdf {
  let bus = scope.startBus;
  for (let i = 0; i < scope.path.length - 1; i++) {
    const hop = scope.path[i]!;
    bus = vtd.s.confRead(sbdf(seg, bus, hop.dev, hop.fn), PCI_SECONDARY_BUS, 1);
  }
  const last = scope.path[scope.path.length - 1] ?? { dev: 0, fn: 0 };
  return sbdf(seg, bus, last.dev, last.fn);
}

/**
 * Fills `scope` (and what a unit's scope says of the unit) from its entries, undefined where their lengths make no
 * sense. @returns -EINVAL then. @xen acpi_parse_dev_scope, scope_device_count
 */
export function acpiParseDevScope(
  vtd: Vtd,
  entries: readonly DeviceScope[] | undefined,
  scope: DmarScope,
  drhd: DrhdUnit | undefined,
  seg: number,
): Rc {
  if (entries === undefined) {
    vtd.s.printk(XENLOG.WARNING, `${VTDPREFIX}Invalid device scope`);
    return E.INVAL;
  }
  let gfxOnly = drhd !== undefined && !drhd.includeAll && entries.some((e) => isCounted(e.type));
  for (const entry of entries) {
    const dev = target(vtd, seg, entry);
    if (!isCounted(entry.type)) {
      say(vtd, `Unknown scope type ${hex0x(entry.type)}`, '');
      gfxOnly = false;
      continue;
    }
    if (!parseOne(vtd, entry, dev, scope, drhd)) gfxOnly = false;
    scope.devices.push(bdfOf(dev));
  }
  if (drhd !== undefined && gfxOnly) drhd.gfxOnly = true;
  return 0;
}

const isCounted = (type: number): boolean => type >= SCOPE_TYPE.ENDPOINT && type <= SCOPE_TYPE.HPET;
const hex0x = (n: number): string => (n === 0 ? '0' : `0x${n.toString(16)}`);
const say = (vtd: Vtd, text: string, indent = ' '): void => {
  if (vtd.opts.verbose) vtd.s.printk(XENLOG.WARNING, VTDPREFIX + indent + text);
};

/** @returns whether the unit may still be one for graphics alone */
function parseOne(
  vtd: Vtd,
  entry: DeviceScope,
  dev: Sbdf,
  scope: DmarScope,
  drhd: DrhdUnit | undefined,
): boolean {
  switch (entry.type) {
    case SCOPE_TYPE.BRIDGE: {
      const sec = vtd.s.confRead(dev, PCI_SECONDARY_BUS, 1);
      const sub = vtd.s.confRead(dev, PCI_SUBORDINATE_BUS, 1);
      const buses = `start=${entry.startBus.toString(16)} sec=${sec.toString(16)} sub=${sub.toString(16)}`;
      say(vtd, `bridge: ${formatSbdf(dev)} ${buses}`);
      scope.addBuses(sec, sub);
      return false;
    }
    case SCOPE_TYPE.HPET:
      say(vtd, `MSI HPET: ${formatSbdf(dev)}`);
      drhd?.hpets.unshift({ id: entry.enumerationId, bdf: bdfOf(dev) });
      return false;
    case SCOPE_TYPE.IOAPIC:
      say(vtd, `IOAPIC: ${formatSbdf(dev)}`);
      drhd?.ioapics.unshift({ id: entry.enumerationId, bdf: bdfOf(dev) });
      return false;
    default:
      say(vtd, `endpoint: ${formatSbdf(dev)}`);
      return drhd === undefined || !vtd.s.pciDeviceDetect(dev) || isDisplay(vtd, dev, drhd);
  }
}

function isDisplay(vtd: Vtd, dev: Sbdf, drhd: DrhdUnit): boolean {
  if (vtd.s.confRead(dev, PCI_BASE_CLASS, 1) !== PCI_BASE_CLASS_DISPLAY) return false;
  if (dev === sbdf(0, 0, 2, 0)) vtd.igdDrhdAddress = drhd.address;
  return true;
}

/**
 * The scopes of a structure whose lengths do not add up, as far as Xen makes sense of them: it only insists on the
 * minimum of each. @returns undefined when one is shorter
 */
export function brokenScopes(broken: DmarBroken, offset: number): DeviceScope[] | undefined {
  const { bytes } = broken;
  const scopes: DeviceScope[] = [];
  for (let at = offset; at < bytes.length; at += bytes[at + 1]!) {
    const byte = (i: number): number => bytes[at + i] ?? 0;
    const length = byte(1);
    if (length < MIN_SCOPE_LEN) return undefined;
    const path: { dev: number; fn: number }[] = [];
    for (let i = 6; i + 1 < length && at + i + 1 < bytes.length; i += 2) {
      path.push({ dev: byte(i), fn: byte(i + 1) });
    }
    scopes.push({
      type: byte(0),
      flags: byte(2),
      reserved: byte(3),
      enumerationId: byte(4),
      startBus: byte(5),
      path,
    });
  }
  return scopes;
}

/** The functions of a scope that do not answer, when the segment can be looked at. */
export function missingDevices(vtd: Vtd, seg: number, scope: DmarScope): Sbdf[] {
  if (seg !== 0 && !vtd.s.segments().includes(seg)) return [];
  return scope.devices.map((bdf) => ((seg << 16) | bdf) >>> 0).filter((dev) => !vtd.s.pciDeviceDetect(dev));
}
