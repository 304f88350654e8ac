/** The ring of dom0's kernel: what `dmesg` prints. */
import type { Clock } from '../../sim/clock.js';
import type { EventStream } from '../../sim/events.js';

/** Levels of printk. */
export const KERN = { EMERG: 0, ERR: 3, WARNING: 4, NOTICE: 5, INFO: 6, DEBUG: 7 } as const;
const LINES_MAX = 16_384;

export interface KernelLine {
  readonly level: number;
  /** With its time: `[   10.585725] pciback 0000:01:00.0: …`. */
  readonly text: string;
}

export class KernelLog {
  readonly lines: KernelLine[] = [];
  constructor(
    private readonly clock: Clock,
    private readonly events: EventStream,
  ) {}

  print(level: number, message: string): void {
    const us = Math.floor(this.clock.nowNs / 1000);
    const stamp = `${String(Math.floor(us / 1e6)).padStart(5)}.${String(us % 1e6).padStart(6, '0')}`;
    for (const part of message.split('\n')) {
      const text = `[${stamp}] ${part}`;
      this.lines.push({ level, text });
      if (this.lines.length > LINES_MAX) this.lines.shift();
      if (this.events.on) this.events.emit({ kind: 'console', source: 'dom0', level, text });
    }
  }
  info(message: string): void {
    this.print(KERN.INFO, message);
  }
  warn(message: string): void {
    this.print(KERN.WARNING, message);
  }
  error(message: string): void {
    this.print(KERN.ERR, message);
  }
}
