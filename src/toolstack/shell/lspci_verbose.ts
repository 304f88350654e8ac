/** The indented lines of `lspci -v`. @pciutils lspci.c show_verbose, ls-caps.c */
import { hex } from '../../base/sbdf.js';
import { CAP, EXP_TYPE, EXT_CAP, PCI } from '../../pci/registers.js';
import { type LspciDevice, subsystemLine } from './lspci_device.js';

const CAPS_MAX = 48;
const EXT_CAPS_MAX = 480;

export function showVerbose(d: LspciDevice): string {
  const command = d.read(PCI.COMMAND, 2);
  const status = d.read(PCI.STATUS, 2);
  const flags = [
    ...((command & 4) !== 0 ? ['bus master'] : []),
    ...((status & 0x20) !== 0 ? ['66MHz'] : []),
    `${['fast', 'medium', 'slow', '??'][(status >>> 9) & 3]} devsel`,
    ...((command & 4) !== 0 ? [`latency ${d.read(0x0d, 1)}`] : []),
    ...(d.irq !== 0 ? [`IRQ ${d.irq}`] : []),
  ];
  let out = d.headerType === 0 ? subsystemLine(d) : '';
  out += `\tFlags: ${flags.join(', ')}\n`;
  out += regions(d, command);
  if (d.headerType === 1) out += bridge(d);
  return out + rom(d, command) + capabilities(d, status);
}

/** 4096 is `4K`. */
export function sizeText(bytes: number): string {
  const units = ['', 'K', 'M', 'G', 'T'];
  let n = bytes;
  let u = 0;
  while (u < units.length - 1 && n >= 1024 && n % 1024 === 0) {
    n /= 1024;
    u += 1;
  }
  return `${n}${units[u]}`;
}

function regions(d: LspciDevice, command: number): string {
  let out = '';
  for (const r of d.resources.slice(0, 6)) {
    if (r.flags === 0) continue;
    const size = ` [size=${sizeText(r.end - r.start + 1)}]`;
    if ((r.flags & 0x100) !== 0) {
      out += `\tI/O ports at ${hex(r.start, 4)}${(command & 1) === 0 ? ' [disabled]' : ''}${size}\n`;
      continue;
    }
    const width = (r.flags & 6) === 4 ? '64' : '32';
    const kind = (r.flags & 8) !== 0 ? 'prefetchable' : 'non-prefetchable';
    out += `\tMemory at ${hex(r.start, 8)} (${width}-bit, ${kind})${(command & 2) === 0 ? ' [disabled]' : ''}${size}\n`;
  }
  return out;
}

function rom(d: LspciDevice, command: number): string {
  const r = d.resources[6];
  if (r === undefined || r.flags === 0) return '';
  const off =
    (d.read(d.headerType === 1 ? PCI.ROM_ADDRESS1 : PCI.ROM_ADDRESS, 4) & 1) === 0 || (command & 2) === 0;
  return `\tExpansion ROM at ${hex(r.start, 8)}${off ? ' [disabled]' : ''} [size=${sizeText(r.end - r.start + 1)}]\n`;
}

function bridge(d: LspciDevice): string {
  const at = (reg: number): string => hex(d.read(reg, 1), 2);
  let out = `\tBus: primary=${at(0x18)}, secondary=${at(0x19)}, subordinate=${at(0x1a)}, sec-latency=${d.read(0x1b, 1)}\n`;
  const io = [(d.read(0x1c, 1) & 0xf0) << 8, ((d.read(0x1d, 1) & 0xf0) << 8) + 0xfff] as const;
  out += window('I/O behind bridge', io, 4, '16-bit');
  const word = (reg: number): number => (d.read(reg, 2) & 0xfff0) * 0x1_0000;
  out += window('Memory behind bridge', [word(0x20), word(0x22) + 0xf_ffff], 8, '32-bit');
  const wide = (d.read(0x24, 2) & 15) === 1;
  const upper = (reg: number): number => (wide ? d.read(reg, 4) * 2 ** 32 : 0);
  const prefetch = [word(0x24) + upper(0x28), word(0x26) + 0xf_ffff + upper(0x2c)] as const;
  return (
    out +
    window('Prefetchable memory behind bridge', prefetch, 8, prefetch[1] >= 2 ** 32 ? '64-bit' : '32-bit')
  );
}

function window(name: string, [base, limit]: readonly [number, number], width: number, bits: string): string {
  const state = base > limit ? ' [disabled]' : ` [size=${sizeText(limit - base + 1)}]`;
  return `\t${name}: ${hex(base, width)}-${hex(limit, width)}${state} [${bits}]\n`;
}

const EXT_NAMES: ReadonlyMap<number, string> = new Map([
  [EXT_CAP.AER, 'Advanced Error Reporting'],
  [EXT_CAP.ACS, 'Access Control Services'],
  [EXT_CAP.ARI, 'Alternative Routing-ID Interpretation (ARI)'],
  [EXT_CAP.ATS, 'Address Translation Service (ATS)'],
  [EXT_CAP.SRIOV, 'Single Root I/O Virtualization (SR-IOV)'],
  [EXT_CAP.PRI, 'Page Request Interface (PRI)'],
  [EXT_CAP.LTR, 'Latency Tolerance Reporting'],
  [EXT_CAP.PASID, 'Process Address Space ID (PASID)'],
  [0x02, 'Virtual Channel'],
  [0x19, 'Secondary PCI Express'],
]);

function capabilities(d: LspciDevice, status: number): string {
  if ((status & 0x10) === 0) return '';
  let out = '';
  let at = d.read(PCI.CAPABILITY_LIST, 1) & 0xfc;
  for (let n = 0; n < CAPS_MAX && at >= 0x40; n++) {
    const id = d.read(at, 1);
    if (id === 0xff) break;
    out += `\tCapabilities: [${hex(at, 2)}] ${capability(d, at, id)}\n`;
    at = d.read(at + 1, 1) & 0xfc;
  }
  at = d.configBytes > 256 ? 0x100 : 0;
  for (let n = 0; n < EXT_CAPS_MAX && at >= 0x100; n++) {
    const head = d.read(at, 4);
    if (head === 0 || head === 0xffff_ffff) break;
    out += `\tCapabilities: [${hex(at, 3)}] ${extended(d, at, head & 0xffff)}\n`;
    at = (head >>> 20) & 0xffc;
  }
  return out;
}

function extended(d: LspciDevice, at: number, id: number): string {
  if (id === 3) {
    const bytes = [7, 6, 5, 4, 3, 2, 1, 0].map((i) => hex(d.read(at + 4 + i, 1), 2));
    return `Device Serial Number ${bytes.join('-')}`;
  }
  return EXT_NAMES.get(id) ?? `Extended Capability ID 0x${id.toString(16)}`;
}

const sign = (on: boolean): string => (on ? '+' : '-');
const PORT_TYPES: ReadonlyMap<number, string> = new Map([
  [EXP_TYPE.ENDPOINT, 'Endpoint'],
  [EXP_TYPE.LEGACY_ENDPOINT, 'Legacy Endpoint'],
  [EXP_TYPE.ROOT_PORT, 'Root Port'],
  [EXP_TYPE.UPSTREAM, 'Upstream Port'],
  [EXP_TYPE.DOWNSTREAM, 'Downstream Port'],
  [EXP_TYPE.PCIE_TO_PCI, 'PCI-Express to PCI/PCI-X Bridge'],
  [EXP_TYPE.PCI_TO_PCIE, 'PCI/PCI-X to PCI-Express Bridge'],
  [EXP_TYPE.RC_ENDPOINT, 'Root Complex Integrated Endpoint'],
  [EXP_TYPE.RC_EVENT_COLLECTOR, 'Root Complex Event Collector'],
]);

function capability(d: LspciDevice, at: number, id: number): string {
  const word = d.read(at + 2, 2);
  switch (id) {
    case CAP.PM:
      return `Power Management version ${word & 7}`;
    case CAP.MSI: {
      const count = `Count=${1 << ((word >>> 4) & 7)}/${1 << ((word >>> 1) & 7)}`;
      return `MSI: Enable${sign((word & 1) !== 0)} ${count} Maskable${sign((word & 0x100) !== 0)} 64bit${sign((word & 0x80) !== 0)}`;
    }
    case CAP.MSIX:
      return `MSI-X: Enable${sign((word & 0x8000) !== 0)} Count=${(word & 0x7ff) + 1} Masked${sign((word & 0x4000) !== 0)}`;
    case CAP.EXP: {
      const type = (word >>> 4) & 15;
      const port = type === EXP_TYPE.ROOT_PORT || type === EXP_TYPE.DOWNSTREAM;
      const slot = port ? ` (Slot${sign((word & 0x100) !== 0)})` : '';
      return `Express (v${word & 15}) ${PORT_TYPES.get(type) ?? `Unknown type ${type}`}${slot}, MSI ${hex((word >>> 9) & 31, 2)}`;
    }
    case CAP.VPD:
      return 'Vital Product Data';
    case CAP.AF:
      return 'PCI Advanced Features';
    case CAP.PCIX:
      return 'PCI-X non-bridge device';
    case 0x09:
      return `Vendor Specific Information: Len=${hex(d.read(at + 2, 1), 2)} <?>`;
    case 0x0d:
      return `Subsystem: Device ${hex(d.read(at + 4, 2), 4)}:${hex(d.read(at + 6, 2), 4)}`;
    case 0x12:
      return `SATA HBA v1.0`;
    default:
      return `Capability ID 0x${id.toString(16)} [${hex(word, 4)}]`;
  }
}
