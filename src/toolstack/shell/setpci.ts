/** setpci: reads and writes configuration registers by name or number. @pciutils setpci.c */
import { hex } from '../../base/sbdf.js';
import { CAP } from '../../pci/registers.js';
import type { Co } from '../../sim/co.js';
import type { KernelPci } from '../kernel/pci_dev.js';
import { findCapability, findExtCapability } from '../kernel/setup.js';
import { matches, parseFilter } from './lspci_filter.js';
import { type Call, complain, options, type Program } from './program.js';

const REGISTERS: Readonly<Record<string, readonly [reg: number, bytes: number]>> = {
  VENDOR_ID: [0x00, 2],
  DEVICE_ID: [0x02, 2],
  COMMAND: [0x04, 2],
  STATUS: [0x06, 2],
  REVISION: [0x08, 1],
  CLASS_PROG: [0x09, 1],
  CLASS_DEVICE: [0x0a, 2],
  CACHE_LINE_SIZE: [0x0c, 1],
  LATENCY_TIMER: [0x0d, 1],
  HEADER_TYPE: [0x0e, 1],
  BIST: [0x0f, 1],
  BASE_ADDRESS_0: [0x10, 4],
  BASE_ADDRESS_1: [0x14, 4],
  BASE_ADDRESS_2: [0x18, 4],
  BASE_ADDRESS_3: [0x1c, 4],
  BASE_ADDRESS_4: [0x20, 4],
  BASE_ADDRESS_5: [0x24, 4],
  PRIMARY_BUS: [0x18, 1],
  SECONDARY_BUS: [0x19, 1],
  SUBORDINATE_BUS: [0x1a, 1],
  SUBSYSTEM_VENDOR_ID: [0x2c, 2],
  SUBSYSTEM_ID: [0x2e, 2],
  ROM_ADDRESS: [0x30, 4],
  CAPABILITIES: [0x34, 1],
  INTERRUPT_LINE: [0x3c, 1],
  INTERRUPT_PIN: [0x3d, 1],
  MIN_GNT: [0x3e, 1],
  BRIDGE_CONTROL: [0x3e, 2],
};
const CAPS: Readonly<Record<string, number>> = {
  CAP_PM: CAP.PM,
  CAP_VPD: CAP.VPD,
  CAP_MSI: CAP.MSI,
  CAP_PCIX: CAP.PCIX,
  CAP_EXP: CAP.EXP,
  CAP_MSIX: CAP.MSIX,
  CAP_AF: CAP.AF,
};
const EXT_CAPS: Readonly<Record<string, number>> = {
  ECAP_AER: 1,
  ECAP_DSN: 3,
  ECAP_ACS: 0xd,
  ECAP_ARI: 0xe,
  ECAP_ATS: 0xf,
  ECAP_SRIOV: 0x10,
};
const WIDTHS: Readonly<Record<string, number>> = { b: 1, w: 2, l: 4 };

export class Setpci implements Program {
  *run(call: Call): Co<number> {
    const o = options(call.argv, 's:d:vfDr');
    const [slots, ids] = [o.values.get('s') ?? [], o.values.get('d') ?? []];
    const { kernel } = call.shell.dom0;
    if (o.unknown !== undefined || o.args.length === 0 || slots.length + ids.length === 0)
      return complain(call, "No operation specified\nTry 'setpci --help' for more information.");
    const filter = parseFilter(slots, ids);
    if (typeof filter === 'string') {
      const why = filter.replace(':', '');
      return complain(call, `Unable to parse filter ${why}.\nTry \`setpci --help' for more information.`);
    }
    const devices = [...kernel.pci.devices.values()].filter((d) => matches(d, filter));
    if (devices.length === 0 && !o.flags.has('f'))
      complain(call, 'Warning: No devices selected for operation group 1.');
    for (const op of o.args) {
      for (const dev of devices) {
        const rc = yield* this.operate(call, dev, op);
        if (rc !== 0) return rc;
      }
    }
    return 0;
  }

  /** `REG[+OFFSET][.bwl][=VALUE[:MASK]]` */
  private *operate(call: Call, dev: KernelPci, op: string): Co<number> {
    const m = /^([A-Za-z_0-9]+)(?:\+([0-9a-f]{1,3}))?(?:\.([bwlBWL]))?(?:=(.*))?$/i.exec(op);
    const found = m === null ? undefined : locate(call, dev, m[1]!);
    if (m === null || found === undefined) return complain(call, `Unknown register "${op}"`);
    const width = m[3] === undefined ? found.bytes : WIDTHS[m[3].toLowerCase()]!;
    const reg = found.reg + Number.parseInt(m[2] ?? '0', 16);
    if (width === 0) return complain(call, `Missing width, you need to specify .b, .w or .l for "${op}"`);
    if (reg % width !== 0 || reg + width > 4096)
      return complain(call, `Unaligned or missing register "${op}"`);
    const { config } = call.shell.dom0.kernel;
    if (m[4] === undefined) {
      call.out(`${hex(config.read(dev.sbdf, reg, width), width * 2)}\n`);
      return 0;
    }
    let at = reg;
    for (const item of m[4].split(',')) {
      const v = /^([0-9a-f]{1,8})(?::([0-9a-f]{1,8}))?$/i.exec(item);
      if (v === null) return complain(call, `Invalid value "${item}"`);
      yield* writeMasked(call, dev, at, width, Number.parseInt(v[1]!, 16), v[2]);
      at += width;
    }
    return 0;
  }
}

function* writeMasked(
  call: Call,
  dev: KernelPci,
  reg: number,
  width: number,
  value: number,
  mask: string | undefined,
): Co<void> {
  const { config } = call.shell.dom0.kernel;
  const bits = mask === undefined ? -1 : Number.parseInt(mask, 16);
  const old = mask === undefined ? 0 : config.read(dev.sbdf, reg, width);
  yield* config.write(dev.sbdf, reg, width, ((old & ~bits) | (value & bits)) >>> 0);
}

/** Where a register is and how wide it is by name; a number has no width of its own. */
function locate(call: Call, dev: KernelPci, name: string): { reg: number; bytes: number } | undefined {
  const upper = name.toUpperCase();
  if (Object.hasOwn(REGISTERS, upper)) {
    const [reg, bytes] = REGISTERS[upper]!;
    return { reg, bytes };
  }
  const { config } = call.shell.dom0.kernel;
  const known = Object.hasOwn(CAPS, upper)
    ? findCapability(config, dev, CAPS[upper]!)
    : Object.hasOwn(EXT_CAPS, upper)
      ? findExtCapability(config, dev, EXT_CAPS[upper]!)
      : undefined;
  if (known !== undefined) return known === 0 ? undefined : { reg: known, bytes: 0 };
  // A bare number is a byte, as in every setpci.
  return /^[0-9a-f]{1,3}$/i.test(name) ? { reg: Number.parseInt(name, 16), bytes: 1 } : undefined;
}
