/** Where a fuzz program keeps its tables and data: physical frames of a board with 64 MiB. */

export const RAM_MIB = 64;
/** Frame beyond all memory, where nobody answers. */
export const NOWHERE = 0x1_0000;
export const ROOT_TABLE = 0x100;
export const CONTEXT_TABLE = 0x101;
export const QUEUE = 0x110;
export const STATUS = 0x111;
export const INTERRUPT_TABLE = 0x112;
/** First frame of the data that 4 KiB mappings lead to. */
export const DATA = 0x200;
/** Where the devices' buffers are written to in the end. */
export const DUMP = 0x180;

const TABLES = 0x120;
const TABLES_EACH = 8;

/** Tables of domain 0 or 1: one each of levels 4, 3 and 2, two of level 1. */
export const tableFrame = (domain: number, level: number, half = 0): number =>
  TABLES + domain * TABLES_EACH + (4 - level) + (level === 1 ? half : 0);

/** What is compared when a program has ended: frames with tables and data. */
export const COMPARED: readonly (readonly [frame: number, count: number])[] = [
  [ROOT_TABLE, 2],
  [QUEUE, 3],
  [TABLES, 2 * TABLES_EACH],
  [0, 4],
  [DATA, 16],
  [0x400, 4],
  [0x600, 4],
];

export const QUEUE_ENTRIES = 256;
export const IOMMU = 0xfed9_0000;

/** Two edu devices: slots and where their registers are put. */
export const DEVICES = [
  { slot: 3, bar: 0xe000_0000 },
  { slot: 4, bar: 0xe010_0000 },
] as const;

/** The options of the board, for a real QEMU and for the simulated one; `unit` are further properties of intel-iommu. */
export const boardArgs = (unit = ''): readonly string[] => [
  ...['-m', String(RAM_MIB), '-nodefaults', '-vga', 'none', '-net', 'none', '-display', 'none'],
  ...['-device', ['intel-iommu', 'intremap=on', ...unitProperties(unit)].join(',')],
  ...DEVICES.flatMap((d) => ['-device', `edu,addr=${d.slot},dma_mask=0xffffffffffffffff`]),
];
/** QEMU's own width is 39 or 48 bits, by its version: it is always said. */
function unitProperties(unit: string): readonly string[] {
  const given = unit.split(',').filter((p) => p !== '');
  return given.some((p) => p.startsWith('aw-bits=')) ? given : ['aw-bits=48', ...given];
}
/** Levels of the widest tables that a unit with these properties has. */
export const levelsOf = (unit: string): number => (unit.split(',').includes('aw-bits=39') ? 3 : 4);
