/** Segment, bus, device, function packed as Xen's pci_sbdf_t packs them: seg<<16 | bus<<8 | devfn, unsigned. */
export type Sbdf = number;

export const sbdf = (seg: number, bus: number, dev: number, fn: number): Sbdf =>
  (((seg & 0xffff) << 16) | ((bus & 0xff) << 8) | ((dev & 0x1f) << 3) | (fn & 7)) >>> 0;
/** From segment and 16-bit BDF (a requester id). */
export const sbdfOf = (seg: number, bdf: number): Sbdf => ((seg << 16) | (bdf & 0xffff)) >>> 0;
export const segOf = (s: Sbdf): number => s >>> 16;
export const busOf = (s: Sbdf): number => (s >>> 8) & 0xff;
export const bdfOf = (s: Sbdf): number => s & 0xffff;
export const devfnOf = (s: Sbdf): number => s & 0xff;
export const withDevfn = (s: Sbdf, devfn: number): Sbdf => ((s & 0xffff_ff00) | (devfn & 0xff)) >>> 0;
/** Device number of a devfn (bits 7:3). */
export const slotOf = (devfn: number): number => (devfn >>> 3) & 0x1f;
/** Function number of a devfn (bits 2:0). */
export const funcOf = (devfn: number): number => devfn & 7;
export const devfn = (dev: number, fn: number): number => ((dev & 0x1f) << 3) | (fn & 7);

export const hex = (n: number, width: number): string => n.toString(16).padStart(width, '0');

/** `03:00.0`: bus, device, function, as lspci prints it. */
export const formatBdf = (s: Sbdf): string =>
  `${hex(busOf(s), 2)}:${hex(slotOf(devfnOf(s)), 2)}.${funcOf(devfnOf(s))}`;
/** What Xen's %pp prints: `0000:03:00.0`. */
export const formatSbdf = (s: Sbdf): string => `${hex(segOf(s), 4)}:${formatBdf(s)}`;

/** Strict `[DDDD:]BB:DD.F`; undefined when malformed. (xl's own, laxer parser is in toolstack/xlu.) */
export function parseSbdf(text: string): Sbdf | undefined {
  const m = /^(?:([0-9a-f]{1,4}):)?([0-9a-f]{1,2}):([01]?[0-9a-f])\.([0-7])$/i.exec(text);
  if (m === null) return undefined;
  return sbdf(
    Number.parseInt(m[1] ?? '0', 16),
    Number.parseInt(m[2]!, 16),
    Number.parseInt(m[3]!, 16),
    Number(m[4]),
  );
}
