/** States of the xenbus handshake, and how a driver reads and writes them. @xen include/public/io/xenbus.h */
export const XENBUS = {
  UNKNOWN: 0,
  INITIALISING: 1,
  INIT_WAIT: 2,
  INITIALISED: 3,
  CONNECTED: 4,
  CLOSING: 5,
  CLOSED: 6,
  RECONFIGURING: 7,
  RECONFIGURED: 8,
} as const;

/** A number written in xenstore; undefined when the node is missing or holds something else. */
export function readNumber(xs: { read(path: string): string | undefined }, path: string): number | undefined {
  const text = xs.read(path);
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

/** A node without state counts as Unknown. */
export const readState = (xs: { read(path: string): string | undefined }, node: string): number =>
  readNumber(xs, `${node}/state`) ?? XENBUS.UNKNOWN;
