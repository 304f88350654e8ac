/** What fuzz programs reached: how often each kind of step was drawn, and each kind of answer given. */
import * as L from './layout.js';
import { OP, type Op } from './ops.js';
import { DESCRIPTORS, R } from './values.js';

const FSTS = `readl 0x${(L.IOMMU + R.FSTS).toString(16)}`;
const FRCD_HIGH = `readq 0x${(L.IOMMU + R.FRCD + 8).toString(16)}`;
const PENDING = 1n << 63n;
const BITS = { 1: 'fault overflow', 16: 'queue error' } as const;

export class Reach {
  readonly counts = new Map<string, number>();

  private count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
  op(op: Op): void {
    const name = Object.entries(OP).find(([, code]) => code === op[0])?.[0] ?? 'unknown';
    this.count(`step ${name}`);
    if (op[0] === OP.QUEUE) this.count(`descriptor ${DESCRIPTORS[op[1]!] ?? 'IOTLB'}`);
  }
  /** A pending fault record is counted at each look at it. */
  reply(line: string, reply: string): void {
    if (!reply.startsWith('OK 0x')) return;
    if (line === FRCD_HIGH) {
      const value = BigInt(reply.slice(3));
      if ((value & PENDING) !== 0n) this.count(`fault reason ${Number((value >> 32n) & 0xffn)}`);
    }
    if (line !== FSTS) return;
    const status = Number(reply.slice(3));
    for (const [bit, name] of Object.entries(BITS)) if ((status & Number(bit)) !== 0) this.count(name);
  }
  /** One line a kind, in order of name. */
  lines(): string[] {
    const rows = [...this.counts].sort(([a], [b]) => (a < b ? -1 : 1));
    return rows.map(([what, n]) => `# ${what.padEnd(24)} ${n}`);
  }
}
