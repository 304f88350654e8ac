/** Pieces of the text of `lspci -v`: flags, sizes, and what can be read of a device. */
import { hex } from '../../base/sbdf.js';
import type { LspciDevice } from './lspci_device.js';

export const sign = (on: boolean): string => (on ? '+' : '-');

/**
 * Flags by name, `Mem+ Cap-`. Names stand for one bit each, from bit 0 upwards; `Name@5` goes on from bit 5.
 */
export function flags(value: number, names: string): string {
  let next = 0;
  return names
    .split(' ')
    .map((token) => {
      const [name, bit] = token.split('@');
      if (bit !== undefined) next = Number(bit);
      const on = ((value >>> next) & 1) === 1;
      next += 1;
      return `${name}${sign(on)}`;
    })
    .join(' ');
}

/** `length` bits from bit `low`. */
export const field = (value: number, low: number, length: number): number =>
  Math.floor((value >>> 0) / 2 ** low) % 2 ** length;

/** Text for a number, or what stands for all others. */
export const pick = (names: readonly string[], index: number, other = 'Unknown'): string =>
  names[index] ?? other;

/** Whether lspci could fetch that much of the configuration space. */
export const readable = (d: LspciDevice, at: number, bytes: number): boolean => at + bytes <= d.configBytes;

export const devsel = (status: number): string => pick(['fast', 'medium', 'slow', '??'], field(status, 9, 2));

/** 4096 is `4K`. */
function sizeText(bytes: number): string {
  const units = ['', 'K', 'M', 'G', 'T'];
  let n = bytes;
  let u = 0;
  while (u < units.length - 1 && n % 1024 === 0) {
    n /= 1024;
    u += 1;
  }
  return `${n}${units[u]}`;
}

/** ` [size=4K]`, nothing for nothing. @pciutils show_size */
export const size = (bytes: number): string => (bytes > 0 ? ` [size=${sizeText(bytes)}]` : '');

/** 32 bits as lspci prints addresses and raw registers. */
export const long = (value: number): string => hex(value >>> 0, 8);

/** Lines of a capability below its title. */
export const rows = (...lines: readonly string[]): string => lines.map((l) => `\t\t${l}\n`).join('');
