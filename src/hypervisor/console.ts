/** Xen's console: log levels, the rate limit of guest messages, and the ring that `xl dmesg` reads. @xen drivers/char/console.c */
import type { LogLevel } from '../iommu/driver/types.js';
import type { Clock } from '../sim/clock.js';
import type { EventStream } from '../sim/events.js';

/** Levels below `lower` always print; from `lower` to below `upper` only as fast as the rate limit allows. */
interface Thresholds {
  lower: number;
  upper: number;
}

const LEVELS: Readonly<Record<string, number>> = { none: 0, error: 1, warning: 2, info: 3, debug: 4, all: 4 };
/** @xen printk_ratelimit_ms, printk_ratelimit_burst */
const RATELIMIT_MS = 5000;
const RATELIMIT_BURST = 10;

export class Console {
  private readonly ring: string[] = [];
  private ringBytes = 0;
  private readonly host: Thresholds = { lower: 2, upper: 2 };
  private readonly guest: Thresholds = { lower: 0, upper: 2 };
  private tokens = RATELIMIT_BURST * RATELIMIT_MS;
  private lastMs = 0;
  private missed = 0;

  constructor(
    private readonly events: EventStream,
    private readonly clock: Clock,
    /** Bytes the ring keeps; the oldest lines fall out. @xen conring_size */
    private readonly ringBytesMax = 64 * 1024,
  ) {}

  /** `loglvl=` and `guest_loglvl=`: `<min>[/<rate-limited max>]`. False when malformed. @xen parse_log_level */
  setLevels(which: 'host' | 'guest', spec: string): boolean {
    const [low = '', high] = spec.split('/', 2);
    const lower = LEVELS[low];
    const upper = high === undefined ? lower : LEVELS[high];
    if (lower === undefined || upper === undefined) return false;
    const t = which === 'host' ? this.host : this.guest;
    t.lower = lower;
    t.upper = Math.max(lower, upper);
    return true;
  }

  /** One line; guest levels (XENLOG.G_*) obey `guest_loglvl` and the rate limit. @xen vprintk_common */
  printk(level: LogLevel, text: string): void {
    const guest = level >= 4;
    const t = guest ? this.guest : this.host;
    const severity = guest ? level - 4 : level;
    if (severity >= t.upper) return;
    if (severity >= t.lower && !this.rateLimitAllows()) return;
    this.putLine(text, level);
  }

  /** Output of a key handler or a banner: printed whatever the levels are. */
  printAlways(text: string): void {
    this.putLine(text, 0);
  }

  /** What a guest writes to its debug port, prefixed `(dN)`. @xen hvm_print_line */
  guestLine(domid: number, text: string): void {
    this.append(`(d${domid}) ${text}`);
    if (this.events.on) this.events.emit({ kind: 'console', source: 'guest', level: 0, text, domid });
  }

  private putLine(text: string, level: number): void {
    this.append(`(XEN) ${text}`);
    if (this.events.on) this.events.emit({ kind: 'console', source: 'xen', level, text });
  }

  private append(line: string): void {
    this.ring.push(line);
    this.ringBytes += line.length + 1;
    while (this.ringBytes > this.ringBytesMax) this.ringBytes -= this.ring.shift()!.length + 1;
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
