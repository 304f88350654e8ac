/** What a command line of QEMU says of the machine: memory, processors, the IOMMU's properties, what is booted. */
import { InputError } from '../../base/assert.js';

export interface QemuMachine {
  /** Model and features, as after `-cpu`. */
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly iommu: QemuIommu | undefined;
  /** Command line of dom0's kernel: what follows the first module's name. */
  readonly kernelCmdline: string;
  /** Devices on the root bus with the slot they asked for, in order. */
  readonly rootSlots: readonly number[];
}

export interface QemuIommu {
  readonly kind: 'intel' | 'amd';
  /** Root-bus slot that QEMU gives to an AMD IOMMU: the first one that is free when its turn comes. */
  readonly slot: number;
  readonly properties: ReadonlyMap<string, string>;
}

/** `on` and its spellings, by QEMU's own reading. */
export function flag(properties: ReadonlyMap<string, string>, name: string, byDefault: boolean): boolean {
  const value = properties.get(name);
  if (value === undefined) return byDefault;
  return value === 'on' || value === 'yes' || value === 'true' || value === 'y';
}

const WORD = /(?:[^\s'"\\]|\\[\s\S]|'[^']*'|"(?:[^"\\]|\\[\s\S])*")+/g;

/** Words as a shell splits them. */
export function words(text: string): string[] {
  return [...text.matchAll(WORD)].map(([w]) =>
    w.replace(/'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|\\([\s\S])/g, (_, single, double, escaped) =>
      String(single ?? escaped ?? (double as string).replace(/\\([\s\S])/g, '$1')),
    ),
  );
}

export function readQemuCmdline(source: string, text: string): QemuMachine {
  const argv = words(text);
  const value = (option: string): string | undefined => {
    const at = argv.indexOf(option);
    return at < 0 ? undefined : argv[at + 1];
  };
  const rootSlots: number[] = [];
  let iommu: QemuIommu | undefined;
  for (let i = 0; i + 1 < argv.length; i++) {
    if (argv[i] !== '-device') continue;
    const [name = '', ...rest] = argv[i + 1]!.split(',');
    const properties = new Map(rest.map((p): [string, string] => splitAt(p, '=')));
    if (name === 'intel-iommu' || name === 'amd-iommu')
      iommu = { kind: name === 'intel-iommu' ? 'intel' : 'amd', slot: freeSlot(rootSlots), properties };
    const slot = properties.get('addr');
    if (slot !== undefined && (properties.get('bus') ?? 'pcie.0') === 'pcie.0')
      rootSlots.push(Number.parseInt(slot, 16));
  }
  const cpus = Number(/^(?:cpus=)?(\d+)/.exec(value('-smp') ?? '1')?.[1] ?? 1);
  if (!(cpus >= 1 && cpus <= 512)) throw new InputError(source, '-smp', `${cpus} CPUs`, 'give 1 to 512');
  return {
    cpu: value('-cpu') ?? 'qemu64',
    cpus,
    memoryBytes: memorySize(source, value('-m') ?? '128M'),
    iommu,
    kernelCmdline: splitAt((value('-initrd') ?? '').split(',')[0]!, ' ')[1].trim(),
    rootSlots,
  };
}

function splitAt(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}

/** Slot 0 is the host bridge, 31 the south bridge. */
function freeSlot(taken: readonly number[]): number {
  for (let slot = 1; slot < 31; slot++) if (!taken.includes(slot)) return slot;
  return 30;
}

const UNITS: Readonly<Record<string, number>> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const MEMORY_MIN = 512 * 2 ** 20;
const MEMORY_MAX = 2 ** 44;

function memorySize(source: string, text: string): number {
  const m = /^(?:size=)?(\d{1,12})([KMGT]?)/i.exec(text);
  const bytes = m === null ? 0 : Number(m[1]) * UNITS[m[2] === '' ? 'M' : m[2]!.toUpperCase()]!;
  if (bytes < MEMORY_MIN || bytes > MEMORY_MAX || bytes % 4096 !== 0)
    throw new InputError(source, '-m', `${text} of memory`, 'give 512M to 16T');
  return bytes;
}
