/** Xen's console: log levels, the rate limit of guest messages, and the ring that `xl dmesg` reads. @xen drivers/char/console.c */
import { E, type Rc } from '../base/errno.js';
import { type LogLevel, XENLOG } from '../iommu/driver/types.js';
import type { Clock } from '../sim/clock.js';
import type { EventStream } from '../sim/events.js';

/** Levels below `lower` always print; from `lower` to below `upper` only as fast as the rate limit allows. */
class Thresholds {
  constructor(
    public lower: number,
    public upper: number,
  ) {}
}

/** What `loglvl=` knows; a word begins with one of these. @xen __parse_loglvl */
const LEVELS: readonly (readonly [string, number])[] = [
  ['none', 0],
  ['error', 1],
  ['warning', 2],
  ['info', 3],
  ['debug', 4],
  ['all', 4],
];
const OTHER_LEVEL = 2;
/** @xen loglvl_str */
const LEVEL_NAMES = ['Nothing', 'Errors', 'Errors and warnings', 'Errors, warnings and info', 'All'] as const;

function parseLevel(text: string): { level: number; rest: string } {
  const known = LEVELS.find(([word]) => text.startsWith(word));
  return known === undefined
    ? { level: OTHER_LEVEL, rest: text }
    : { level: known[1], rest: text.slice(known[0].length) };
}

/** @xen printk_ratelimit_ms, printk_ratelimit_burst */
const RATELIMIT_MS = 5000;
const RATELIMIT_BURST = 10;
/** The ring that is there from the start. @xen _CONRING_SIZE */
const RING_BYTES = 16 * 1024;
/** Larger ones are cut to this. */
const RING_BYTES_LIMIT = 64 * 1024 * 1024;

export class Console {
  private readonly ring: string[] = [];
  private ringBytes = 0;
  private ringBytesMax = RING_BYTES;
  private readonly host: Thresholds;
  private readonly guest = new Thresholds(0, 2);
  private tokens = RATELIMIT_BURST * RATELIMIT_MS;
  private lastMs = 0;
  private missed = 0;

  /** `threshold`: host messages of this level and above are not printed unless `loglvl=` says so. */
  constructor(
    private readonly events: EventStream,
    private readonly clock: Clock,
    threshold = 3,
  ) {
    this.host = new Thresholds(threshold, threshold);
  }

  /**
   * `loglvl=` and `guest_loglvl=`: `<always>[/<rate-limited>]`. -EINVAL when something is left over, and what could be
   * read counts. @xen _parse_loglvl
   */
  setLevels(which: 'host' | 'guest', spec: string): Rc {
    const low = parseLevel(spec);
    const high = low.rest.startsWith('/') ? parseLevel(low.rest.slice(1)) : low;
    const t = which === 'host' ? this.host : this.guest;
    t.lower = low.level;
    t.upper = Math.max(low.level, high.level);
    return high.rest === '' ? 0 : E.INVAL;
  }

  /** What is printed, in words. @xen console_endboot */
  levels(which: 'host' | 'guest'): string {
    const { lower, upper } = which === 'host' ? this.host : this.guest;
    return lower === upper
      ? LEVEL_NAMES[lower]!
      : `${LEVEL_NAMES[lower]} (Rate-limited: ${LEVEL_NAMES[upper]})`;
  }

  /**
   * The ring for good, in whole powers of two and never smaller: what was asked for, else by CPUs and log level.
   * @returns its KiB. @xen console_init_postirq, console_init_ring
   */
  allocateRing(askedBytes: number, cpus: number): number {
    const asked = askedBytes > 0 ? askedBytes : cpus * (512 << this.host.lower);
    this.ringBytesMax = RING_BYTES;
    while (this.ringBytesMax < Math.min(asked, RING_BYTES_LIMIT)) this.ringBytesMax *= 2;
    return this.ringBytesMax / 1024;
  }

  /** One line; guest levels (XENLOG.G_*) obey `guest_loglvl` and the rate limit. @xen vprintk_common */
  printk(level: LogLevel, text: string): void {
    if (this.prints(level)) this.putLine(text, level);
  }

  /** Output of a key handler or a banner: printed whatever the levels are. */
  printAlways(text: string): void {
    this.putLine(text, 0);
  }

  /** Whether a message of this level is printed now; asking may use up a token. @xen printk_prefix_check */
  private prints(level: LogLevel): boolean {
    const guest = level >= XENLOG.G_ERR;
    const t = guest ? this.guest : this.host;
    const severity = guest ? level - XENLOG.G_ERR : level;
    return severity < t.lower || (severity < t.upper && this.rateLimitAllows());
  }

  private putLine(text: string, level: number): void {
    this.append(`(XEN) ${text}`);
    if (this.events.on) this.events.emit({ kind: 'console', source: 'xen', level, text });
  }

  /** One line of the ring as it is, which nobody hears of. */
  append(line: string): void {
    this.ring.push(line);
    this.ringBytes += line.length + 1;
    // The ring counts bytes: its oldest line loses its beginning first.
    while (this.ringBytes > this.ringBytesMax) {
      const first = this.ring[0]!;
      const excess = this.ringBytes - this.ringBytesMax;
      this.ringBytes -= Math.min(excess, first.length + 1);
      if (excess > first.length) this.ring.shift();
      else this.ring[0] = first.slice(excess);
    }
  }

  /** @xen __printk_ratelimit */
  private rateLimitAllows(): boolean {
    const nowMs = Math.floor(this.clock.nowNs / 1e6);
    this.tokens = Math.min(this.tokens + nowMs - this.lastMs, RATELIMIT_BURST * RATELIMIT_MS);
    this.lastMs = nowMs;
    if (this.tokens < RATELIMIT_MS) {
      this.missed += 1;
      return false;
    }
    this.tokens -= RATELIMIT_MS;
    const lost = this.missed;
    this.missed = 0;
    if (lost > 0) this.putLine(`printk: ${lost} messages suppressed.`, 1);
    return true;
  }

  /** All lines kept, oldest first, with their prefixes. @xen XEN_SYSCTL_readconsole */
  lines(): readonly string[] {
    return this.ring;
  }

  clear(): void {
    this.ring.length = 0;
    this.ringBytes = 0;
  }
}
