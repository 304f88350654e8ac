/** Requests of devices that keep translations of their own: PCIe ATS, as DTE.I allows it (2.2.2.1, 2.5.2). */
import { EVENT, EVENT_FLAG } from '../../format/amd.js';
import { dmaEvent } from './event_log.js';
import { type AmdIommuState, DTE_CACHE, DTE_FLAG, DTE_KIND } from './state.js';
import { dteOf, probe, translate } from './translate.js';

/** A request that says it is translated already: its own frame where the entry has I, -1 when it is aborted. */
export function translated(u: AmdIommuState, rid: number, mfn: number, write: boolean): number {
  if (!u.enabled) return mfn;
  const e = dteOf(u, rid);
  const kind = u.dteCache[e + DTE_CACHE.KIND]!;
  if (kind === DTE_KIND.PASS) return mfn;
  if (kind !== DTE_KIND.WALK && kind !== DTE_KIND.FLAT) return translate(u, rid, mfn, write);
  return allowsAts(u, e) ? mfn : refused(u, rid, mfn, write, 0);
}

/**
 * A translation request: the machine frame, or -1. A page that is absent or lacks the permission is an answer without
 * rights, and no event; without an entry, or without I in it, the request is aborted.
 */
export function translationRequest(u: AmdIommuState, rid: number, dfn: number, write: boolean): number {
  if (!u.enabled) return -1;
  const e = dteOf(u, rid);
  const kind = u.dteCache[e + DTE_CACHE.KIND]!;
  const translates = kind === DTE_KIND.WALK || kind === DTE_KIND.FLAT;
  if (!translates || !allowsAts(u, e)) return refused(u, rid, dfn, write, EVENT_FLAG.TR);
  return probe(u, rid, dfn, write) < 0 ? -1 : translate(u, rid, dfn, write);
}

const allowsAts = (u: AmdIommuState, e: number): boolean =>
  (u.dteCache[e + DTE_CACHE.FLAGS]! & DTE_FLAG.I) !== 0;

function refused(u: AmdIommuState, rid: number, dfn: number, write: boolean, flags: number): -1 {
  dmaEvent(u, EVENT.ILLEGAL_DEV_TABLE_ENTRY, rid, 0, dfn, write, flags, true);
  return -1;
}
