/** Ids of domains that died within the last minute are not given out again. @xen libxl_domain.c libxl__is_domid_recent */
import type { Libxl } from './libxl.js';

/** LIBXL_DOMID_REUSE_TIMEOUT */
const REUSE_SECONDS = 60;

const path = (lx: Libxl): string => `${lx.paths.runDir}/domid-history`;
const seconds = (lx: Libxl): number => Math.floor(lx.dom0.clock.nowNs / 1e9);

/** `seconds domid` lines that still count. */
function recent(lx: Libxl): { readonly at: number; readonly domid: number }[] {
  const text = lx.dom0.fs.readFile(path(lx));
  if (typeof text !== 'string') return [];
  return text
    .split('\n')
    .map((line) => line.split(' ').map(Number))
    .filter((n) => n.length === 2 && seconds(lx) - n[0]! <= REUSE_SECONDS)
    .map((n) => ({ at: n[0]!, domid: n[1]! }));
}

export const domidRecent = (lx: Libxl, domid: number): boolean => recent(lx).some((e) => e.domid === domid);

export function markDomidRecent(lx: Libxl, domid: number): void {
  const lines = [...recent(lx), { at: seconds(lx), domid }].map((e) => `${e.at} ${e.domid}\n`);
  lx.dom0.fs.remove(path(lx));
  lx.dom0.fs.append(path(lx), lines.join(''));
}
