/** Registers, bits and other values that fuzz programs are made of, and how their replies are written down. */
import { VTD_REG } from '../../iommu/format/vtd.js';
import { EDU } from '../edu.js';
import * as L from './layout.js';

/** Registers of the unit; where the last three are is in CAP and ECAP of QEMU's. */
export const R = { ...VTD_REG, IVA: 0xf0, IOTLB: 0xf8, FRCD: 0x220 } as const;
export const READABLE: readonly (readonly [offset: number, bytes: 4 | 8])[] = [
  ...([R.VER, R.GSTS, R.FSTS, R.FECTL, R.FEDATA, R.FEADDR, R.FEUADDR] as const).map((o) => [o, 4] as const),
  ...([R.ICS, R.IECTL, R.IEDATA, R.IEADDR, R.IEUADDR] as const).map((o) => [o, 4] as const),
  ...([R.CAP, R.ECAP, R.RTADDR, R.CCMD, R.IQH, R.IQT, R.IQA, R.IRTA, R.IOTLB] as const).map(
    (o) => [o, 8] as const,
  ),
  ...([R.IVA, R.FRCD, R.FRCD + 8] as const).map((o) => [o, 8] as const),
  ...([R.GCMD, R.CAP + 4, R.ECAP + 4, R.RTADDR + 4, R.CCMD + 4, R.IQA + 4, R.IQH + 4] as const).map(
    (o) => [o, 4] as const,
  ),
  [R.PMEN, 4],
];
export const TE = 0x8000_0000;
export const SRTP = 0x4000_0000;
export const QIE = 0x0400_0000;
export const IRE = 0x0200_0000;
export const SIRTP = 0x0100_0000;
export const GCMD_BITS = [TE, QIE, SRTP, IRE, SIRTP];
export const PASS_THROUGH = 2;
/** QEMU 7.2 stops when a transfer ends with the buffer. */
export const BUFFER_BYTES = EDU.BYTES - 4;

/** Odd bits of page-table entries: mostly ignored or reserved ones. */
export const PTE_ODD = [0, 2, 5, 6, 7, 8, 10, 11, 12, 46, 48, 50, 52, 58, 62, 63];
export const CONTEXT_ODD: readonly (readonly [word: 0 | 1, bit: number])[] = [
  [0, 0],
  [0, 4],
  [0, 11],
  [0, 48],
  [0, 60],
  [1, 3],
  [1, 7],
  [1, 24],
];
export const ROOT_ODD: readonly (readonly [word: 0 | 1, bit: number])[] = [
  [0, 0],
  [0, 1],
  [0, 11],
  [0, 48],
  [1, 0],
  [1, 40],
];
export const DESCRIPTOR_ODD: readonly (readonly [word: 0 | 1, bit: number])[] = [
  [0, 0],
  [0, 8],
  [0, 15],
  [0, 52],
  [1, 7],
  [1, 11],
  [1, 1],
  [0, 9],
  [1, 8],
  [0, 14],
];
/** Descriptors by the drawn number; the others are of the IOTLB. */
export const DESCRIPTORS: Readonly<Record<number, string>> = {
  1: 'context cache',
  4: 'interrupt entry cache',
  5: 'wait',
  6: 'wait',
  7: 'of other types',
};
export const HIGH_ADDRESS = [0, 2 ** 39, 2 ** 47, 2 ** 48, 2 ** 51];
const hex = (n: number): string => `0x${n.toString(16)}`;

/**
 * QEMU 7.2 leaves what it has for "no PASID" in the PASID bits of a fault record; without PASID support they are
 * reserved, and not compared.
 */
export function normalized(line: string, reply: string): string {
  if (!line.startsWith(`readq ${hex(L.IOMMU + R.FRCD + 8)}`)) return reply;
  const m = /^OK 0x([0-9a-f]{16})$/.exec(reply);
  if (m === null) return reply;
  return `OK 0x${(BigInt(`0x${m[1]}`) & 0xc000_00ff_0000_ffffn).toString(16).padStart(16, '0')}`;
}

/** FNV-1a, 64 bits as two of 32: memory is long, and only its equality matters. */
export function digest(text: string): string {
  let a = 0x811c_9dc5;
  let b = 0x1234_5678;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    a = Math.imul(a ^ c, 0x0100_0193);
    b = Math.imul(b ^ c, 0x0100_01b3) ^ (a >>> 15);
  }
  return `${(a >>> 0).toString(16)}-${(b >>> 0).toString(16)}`;
}

/** Replies without the words that all have: the form of the recordings. */
export const short = (replies: string): string =>
  replies
    .replaceAll(/OK(?: 0x0*([0-9a-f]+))?/g, (_, digits: string | undefined) => digits ?? '')
    .replaceAll(/ +/g, ' ')
    .trim();
