/** HyperTransport capabilities, as far as boards with an AMD IOMMU have them. @pciutils ls-caps.c cap_ht */
import type { LspciDevice } from './lspci_device.js';
import { field, flags, long, readable, rows } from './lspci_text.js';

/** By the five upper bits of the command. */
const KINDS: ReadonlyMap<number, string> = new Map([
  [0x08, 'Switch'],
  [0x10, 'Interrupt Discovery and Configuration'],
  [0x12, 'UnitID Clumping'],
  [0x13, 'Extended Configuration Space Access'],
  [0x14, 'Address Mapping'],
  [0x16, 'DirectRoute'],
  [0x17, 'VCSet'],
  [0x18, 'Retry Mode'],
  [0x19, 'X86 (reserved)'],
]);

const revision = (id: number): string => `${id >>> 5}.${String(id & 0x1f).padStart(2, '0')}`;

export function hyperTransport(d: LspciDevice, at: number, level: number): string {
  const command = d.read(at + 2, 2);
  const kind = command >>> 11;
  if (kind >>> 2 === 0) return primary(d, at, level);
  if (kind >>> 2 === 1) return 'HyperTransport: Host or Secondary Interface\n';
  if (kind === 0x11) return `HyperTransport: Revision ID: ${revision(command & 0xff)}\n`;
  if (kind !== 0x15)
    return `HyperTransport: ${KINDS.get(kind) ?? `#${kind.toString(16).padStart(2, '0')}`}\n`;
  const title = `HyperTransport: MSI Mapping ${flags(command, 'Enable Fixed')}\n`;
  if (level < 2 || (command & 2) !== 0 || !readable(d, at + 4, 8)) return title;
  return (
    title + rows(`Mapping Address Base: ${long(d.read(at + 8, 4))}${long(d.read(at + 4, 4) & ~0xf_ffff)}`)
  );
}

const WIDTHS = ['8bit', '16bit', '[2]', '32bit', '2bit', '4bit', '[6]', 'N/C'];
const LINK = 'CFlE@1 CST CFE <LkFail Init EOC TXO';

/** The fields that revisions before 1.05 of HyperTransport have. */
function primary(d: LspciDevice, at: number, level: number): string {
  const title = 'HyperTransport: Slave or Primary Interface\n';
  if (level < 2 || !readable(d, at + 4, 24)) return title;
  const id = d.read(at + 12, 1);
  if (id >= 0x22) return title;
  const command = d.read(at + 2, 2);
  const control = (n: number): string => {
    const word = d.read(at + 4 + 4 * n, 2);
    return `Link Control ${n}: ${flags(word, LINK)} <CRCErr=${field(word, 8, 4).toString(16)}`;
  };
  const config = (n: number): string => {
    const word = d.read(at + 6 + 4 * n, 2);
    const width = (low: number): string => WIDTHS[field(word, low, 3)]!;
    return `Link Config ${n}: MLWI=${width(0)} MLWO=${width(4)} LWI=${width(8)} LWO=${width(12)}`;
  };
  return (
    title +
    rows(
      ...(id > 0x11 ? ['!!! Possibly incomplete decoding'] : []),
      `Command: BaseUnitID=${command & 0x1f} UnitCnt=${field(command, 5, 5)} ${flags(command, 'MastHost@10 DefDir')}`,
      control(0),
      config(0),
      control(1),
      config(1),
      `Revision ID: ${revision(id)}`,
    )
  );
}
