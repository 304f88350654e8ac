/** libxl's context: the host, its hypercalls, its log. Everything in this folder works on one of these. */
import { hex } from '../../base/sbdf.js';
import type { PhysInfo } from '../../hypervisor/public/hypercalls.js';
import type { Dom0 } from '../dom0.js';
import { Xenctrl } from '../xenctrl.js';
import { EventLog } from './event_log.js';
import type { Log } from './log.js';
import type { ToolstackProfile } from './profile.js';

/** Where Debian's packages put things. */
export interface Paths {
  readonly firmwareDir: string;
  readonly qemu: string;
  readonly qemuTraditional: string;
  readonly seabios: string;
  readonly hvmloader: string;
  readonly ovmf: string;
  readonly runDir: string;
  readonly logDir: string;
  readonly scriptDir: string;
}

const debianPaths = (version: string): Paths => ({
  firmwareDir: `/usr/lib/xen-${version}/boot`,
  qemu: '/usr/libexec/xen-qemu-system-i386',
  qemuTraditional: `/usr/lib/xen-${version}/bin/qemu-dm`,
  hvmloader: `/usr/lib/xen-${version}/boot/hvmloader`,
  seabios: '/usr/share/seabios/bios-256k.bin',
  ovmf: '/usr/share/ovmf/OVMF.fd',
  runDir: '/var/run/xen',
  logDir: '/var/log/xen',
  scriptDir: '/etc/xen/scripts',
});

export class Libxl {
  readonly xc: Xenctrl;
  /** What `xl -vvv` tells of operations, watches and connections. */
  readonly event: EventLog;
  readonly profile: ToolstackProfile;
  readonly paths: Paths;
  /** More vCPUs than that are not even read. */
  readonly limits = { maxVcpus: 65_536 };

  constructor(
    readonly dom0: Dom0,
    readonly log: Log,
  ) {
    this.xc = new Xenctrl(dom0.hv, dom0.profile.release !== '4.17');
    this.event = new EventLog(log);
    this.profile = dom0.profile;
    this.paths = debianPaths(dom0.profile.version);
  }

  /** Is the program there? Debian has qemu-xen and no other model; files of dom0 can be more. @xen access(dm, X_OK) */
  isExecutable(path: string): boolean {
    return path === this.paths.qemu || this.dom0.fs.exists(path);
  }

  physinfo(): PhysInfo {
    return this.xc.physinfo();
  }

  domainPath(domid: number): string {
    return `/local/domain/${domid}`;
  }

  /** A random UUID, as far as a deterministic host has one: it follows from the time and from what it is for. */
  generateUuid(purpose: string): string {
    const b = this.bytes(purpose, 16);
    b[6] = (b[6]! & 0x0f) | 0x40;
    b[8] = (b[8]! & 0x3f) | 0x80;
    const text = b.map((x) => hex(x, 2)).join('');
    return text.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }

  /** Bytes that a real libxl reads from /dev/urandom. FNV-1a over the purpose, the time and the index. */
  bytes(purpose: string, n: number): number[] {
    const text = `${purpose} ${this.dom0.clock.nowNs}`;
    return Array.from({ length: n }, (_, i) => {
      let h = 0x811c9dc5 ^ i;
      for (let k = 0; k < text.length; k++) h = Math.imul(h ^ text.charCodeAt(k), 0x01000193);
      h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
      return (h ^ (h >>> 13)) & 0xff;
    });
  }
}
