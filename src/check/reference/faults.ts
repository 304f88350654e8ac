/** Fault accounting as the advisory text has it: halved after a quiet 10 ms, bus master off at ten. */

export interface FaultAccount {
  time: number;
  count: number;
}

export const FAULTS_MAX = 10;
const QUIET_NS = 10_000_000;

export function countFault(account: FaultAccount, nowNs: number): void {
  const gap = nowNs - account.time;
  if (gap < 0 || gap > QUIET_NS) account.count = Math.floor(account.count / 2);
  account.count += 1;
  account.time = nowNs;
}

/**
 * The device that answers for a requester id of segment 0: the one that is there, or the one below it in its slot
 * whose stride is the highest function bit that had to be taken away. `strideOf` is undefined for an unknown id.
 */
export function chargedFor(rid: number, strideOf: (rid: number) => number | undefined): number | undefined {
  if (strideOf(rid) !== undefined) return rid;
  let at = rid;
  for (const bit of [4, 2, 1]) {
    if (Math.floor(at / bit) % 2 === 0) continue;
    at -= bit;
    if (strideOf(at) === bit) return at;
  }
  return undefined;
}
