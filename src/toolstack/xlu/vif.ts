/** `rate=` of a network interface. @xen tools/libs/util/libxlu_vif.c */
import type { DeviceNic } from '../libxl/types.js';
import { EINVAL, type XluConfig } from './cfg.js';
import { strtol } from './cnum.js';

const EOVERFLOW = 75;
const UINT32_MAX = 0xffff_ffff;
const UINT64_MAX = 2 ** 64 - 1;

const UNITS: Readonly<Record<string, number>> = { G: 1e9, M: 1e6, K: 1e3 };

/** `10Mb/s@20ms`. 0, EINVAL or EOVERFLOW, the message printed. */
export function xluVifParseRate(cfg: XluConfig, rate: string, nic: DeviceNic): number {
  const fail = (errno: number, msg: string, text: string): number => {
    cfg.report(`${cfg.source}: config parsing error in vif: ${msg} in \`${text}'\n`);
    return errno;
  };
  const at = rate.indexOf('@');
  const amount = at < 0 ? rate : rate.slice(0, at);
  const interval = at < 0 ? undefined : rate.slice(at + 1);
  if (amount === '') return fail(EINVAL, 'no rate specified', rate);
  if (!/^[0-9]+[GMK]?[Bb]\/s$/.test(amount)) return fail(EINVAL, 'invalid rate', amount);
  const n = strtol(amount, 0, 0);
  if (n.value === 0 || n.value > UINT32_MAX) return fail(EOVERFLOW, 'rate overflow', amount);
  let bytes = n.value * (UNITS[amount[n.end]!] ?? 1);
  if (amount[n.end] === 'b' || amount[n.end + 1] === 'b') bytes = Math.floor(bytes / 8);

  let usecs = 50_000;
  if (interval !== undefined) {
    if (!/^[0-9]+[mu]?s?$/.test(interval)) return fail(EINVAL, 'invalid replenishment interval', interval);
    const t = strtol(interval, 0, 0);
    const unit = interval[t.end];
    usecs = t.value * (unit === 's' || unit === undefined ? 1e6 : unit === 'm' ? 1e3 : 1);
    if (t.value === 0 || t.value > UINT32_MAX || usecs > UINT32_MAX) {
      return fail(EOVERFLOW, 'replenishment interval overflow', interval);
    }
  }
  if (bytes > UINT64_MAX / usecs) return fail(EOVERFLOW, 'rate overflow', rate);
  nic.rateIntervalUsecs = usecs;
  nic.rateBytesPerInterval = Math.floor((bytes * usecs) / 1e6);
  return 0;
}
