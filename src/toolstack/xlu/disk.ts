/** Disk specifications: key=value and positional parameters mixed. @xen tools/libs/util/libxlu_disk_l.l, libxlu_disk.c */
import type { DeviceDisk, DiskBackend, DiskFormat } from '../libxl/types.js';
import { EINVAL, type XluConfig } from './cfg.js';
import { atoi } from './cnum.js';

/** One rule of the scanner. `match` gives the end of the text it takes and the length it counts with. */
interface Rule {
  readonly match: (spec: string, at: number) => { end: number; weight: number } | undefined;
  /** False ends the scan. */
  readonly act: (p: DiskParser, text: string) => boolean;
}

const value = (text: string): string => text.slice(text.indexOf('=') + 1);
const strip = (text: string, delimiter: string): string =>
  text.endsWith(delimiter) ? text.slice(0, -1) : text;

/** `key=[^,]*,?` */
const keyed = (key: string, act: (p: DiskParser, value: string) => void): Rule => ({
  match: (spec, at) => {
    if (!spec.startsWith(`${key}=`, at)) return undefined;
    const comma = spec.indexOf(',', at + key.length + 1);
    const end = comma < 0 ? spec.length : comma + 1;
    return { end, weight: end - at };
  },
  act: (p, text) => {
    act(p, value(strip(text, ',')));
    return true;
  },
});

/** `word,?` */
const word = (text: string, act: (d: DeviceDisk) => void): Rule => ({
  match: (spec, at) => {
    if (!spec.startsWith(text, at)) return undefined;
    const end = at + text.length + (spec[at + text.length] === ',' ? 1 : 0);
    return { end, weight: end - at };
  },
  act: (p) => {
    act(p.disk);
    return true;
  },
});

/** `prefix:/.*`: takes the prefix, counts as the whole rest. */
const prefix = (names: readonly string[], act: (p: DiskParser, name: string) => void): Rule => ({
  match: (spec, at) => {
    const name = names.find((n) => spec.startsWith(`${n}:`, at));
    return name === undefined ? undefined : { end: at + name.length + 1, weight: spec.length - at };
  },
  act: (p, text) => {
    act(p, text.slice(0, -1));
    return true;
  },
});

const sticky = (re: RegExp): Rule['match'] => {
  return (spec, at) => {
    re.lastIndex = at;
    const m = re.exec(spec);
    return m === null ? undefined : { end: at + m[0].length, weight: m[0].length };
  };
};

const FORMATS = new Map<string, DiskFormat>([
  ['', 'raw'],
  ['raw', 'raw'],
  ['qcow', 'qcow'],
  ['qcow2', 'qcow2'],
  ['vhd', 'vhd'],
  ['empty', 'empty'],
  ['qed', 'qed'],
]);
const BACKENDS: readonly DiskBackend[] = ['phy', 'tap', 'qdisk', 'standalone'];
const SPECIFICATIONS = ['xen', 'virtio'] as const;

const RULES: readonly Rule[] = [
  {
    match: (spec, at) => {
      let end = at;
      while (' \t\n'.includes(spec[end] ?? '.')) end++;
      return end === at ? undefined : { end, weight: spec.length - at };
    },
    act: () => true,
  },
  keyed('format', (p, v) => p.setFormat(v)),
  word('cdrom', (d) => {
    d.isCdrom = 1;
  }),
  word('devtype=cdrom', (d) => {
    d.isCdrom = 1;
  }),
  word('devtype=disk', (d) => {
    d.isCdrom = 0;
  }),
  {
    ...keyed('devtype', () => {}),
    act: (p, text) => {
      p.error(text, 'unknown value for type');
      return true;
    },
  },
  keyed('access', (p, v) => p.setAccess(v)),
  keyed('backend', (p, v) => p.save('backend', 'backendDomname', v)),
  keyed('backendtype', (p, v) => p.setEnum('backend', 'backend', BACKENDS, v, 'backendtype')),
  keyed('specification', (p, v) =>
    p.setEnum('specification', 'specification', SPECIFICATIONS, v, 'specification'),
  ),
  keyed('vdev', (p, v) => p.save('vdev', 'vdev', v)),
  keyed('script', (p, v) => p.save('script', 'script', v)),
  word('direct-io-safe', (d) => {
    d.directIoSafe = true;
  }),
  word('discard', (d) => {
    d.discardEnable = true;
  }),
  word('no-discard', (d) => {
    d.discardEnable = false;
  }),
  word('colo', (d) => {
    d.coloEnable = true;
  }),
  word('no-colo', (d) => {
    d.coloEnable = false;
  }),
  keyed('colo-host', (p, v) => p.save('colo-host', 'coloHost', v)),
  keyed('colo-port', (p, v) => p.setColoPort(v)),
  keyed('colo-export', (p, v) => p.save('colo-export', 'coloExport', v)),
  keyed('active-disk', (p, v) => p.save('active-disk', 'activeDisk', v)),
  keyed('hidden-disk', (p, v) => p.save('hidden-disk', 'hiddenDisk', v)),
  word('trusted', (d) => {
    d.trusted = true;
  }),
  word('untrusted', (d) => {
    d.trusted = false;
  }),
  {
    match: (spec, at) =>
      spec.startsWith('target=', at) ? { end: spec.length, weight: spec.length - at } : undefined,
    act: (p, text) => {
      p.save('target', 'pdevPath', value(strip(text, ',')));
      return true;
    },
  },
  {
    match: sticky(/[a-z][-a-z0-9]*=[^,],?/y),
    act: (p, text) => {
      p.error(text, 'unknown parameter');
      return true;
    },
  },
  prefix(['raw', 'qcow2', 'qcow', 'vhd'], (p, name) => {
    p.hadDeprecatedPrefix = true;
    p.setFormat(name);
  }),
  prefix(['iscsi', 'enbd', 'nbd', 'drbd'], (p, name) => {
    p.hadDeprecatedPrefix = true;
    p.save('script', 'script', `block-${name}`);
  }),
  prefix(['tapdisk', 'tap2', 'tap', 'aio', 'ioemu', 'file', 'phy'], (p) => {
    p.hadDeprecatedPrefix = true;
  }),
  {
    match: (spec, at) => {
      const m = sticky(/[a-z][a-z0-9]*:/y)(spec, at);
      if (m === undefined) return undefined;
      const rest = spec[m.end];
      return rest === undefined || /[a-z0-9]/.test(rest) ? m : { end: m.end, weight: spec.length - at };
    },
    act: (p, text) => {
      p.error(text, 'unknown deprecated disk prefix');
      return false;
    },
  },
  { match: sticky(/[^=,]*,|[^=,]+/y), act: (p, text) => p.positional(strip(text, ',')) },
];

class DiskParser {
  err = 0;
  hadDeprecatedPrefix = false;
  private accessSet = false;
  constructor(
    private readonly cfg: XluConfig,
    private readonly spec: string,
    readonly disk: DeviceDisk,
  ) {}

  error(near: string | undefined, message: string): void {
    const where = near === undefined ? '' : `: near \`${near}'`;
    this.cfg.report(
      `${this.cfg.source}: config parsing error in disk specification: ${message}${where} in \`${this.spec}'\n`,
    );
    this.err = EINVAL;
  }

  scan(): void {
    for (let at = 0; at < this.spec.length; ) {
      let best: { rule: Rule; end: number; weight: number } | undefined;
      for (const rule of RULES) {
        const m = rule.match(this.spec, at);
        if (m !== undefined && (best === undefined || m.weight > best.weight)) best = { rule, ...m };
      }
      if (best === undefined) {
        // At the very end the scanner stops before it can complain.
        if (at + 1 < this.spec.length) this.error(this.spec.slice(at), 'bad disk syntax');
        return;
      }
      if (!best.rule.act(this, this.spec.slice(at, best.end))) return;
      at = best.end;
    }
  }

  save(
    what: string,
    field:
      | 'backendDomname'
      | 'pdevPath'
      | 'vdev'
      | 'script'
      | 'coloHost'
      | 'coloExport'
      | 'activeDisk'
      | 'hiddenDisk',
    text: string,
  ): void {
    if (this.disk[field]) this.error(text, `${what} respecified`);
    else this.disk[field] = text;
  }

  setFormat(text: string): void {
    const format = FORMATS.get(text);
    if (format === undefined) this.error(text, 'unknown value for format');
    else this.respecify('format', format, text);
  }

  setEnum<F extends 'backend' | 'specification'>(
    field: F,
    what: string,
    names: readonly DeviceDisk[F][],
    text: string,
    option: string,
  ): void {
    const known = names.find((n) => n === text);
    if (known === undefined) this.error(text, `unknown value for ${option}`);
    else if (this.disk[field] !== 'unknown' && this.disk[field] !== known)
      this.error(text, `${what} respecified`);
    else this.disk[field] = known;
  }

  private respecify(field: 'format', to: DiskFormat, text: string): void {
    if (this.disk[field] !== 'unknown' && this.disk[field] !== to) this.error(text, `${field} respecified`);
    else this.disk[field] = to;
  }

  setAccess(text: string): void {
    if (text === 'r' || text === 'ro') this.disk.readwrite = 0;
    else if (text === 'rw' || text === 'w' || text === '') this.disk.readwrite = 1;
    else this.error(text, 'unknown value for access');
  }

  setColoPort(text: string): void {
    const port = atoi(text);
    if (port === 0) this.error(text, 'unknown value for colo_port');
    else this.disk.coloPort = port;
  }

  /** `vdev:cdrom`: true when there was a colon. */
  private vdevAndDevtype(text: string): boolean {
    const colon = text.lastIndexOf(':');
    if (colon < 0) return false;
    this.save('vdev', 'vdev', text.slice(0, colon));
    const type = text.slice(colon + 1);
    if (type === 'cdrom') this.disk.isCdrom = 1;
    else if (type === 'disk') this.disk.isCdrom = 0;
    else this.error(type, 'unknown deprecated type');
    return true;
  }

  /** target, format, vdev, access, in that order; a prefix has named the format already. */
  positional(text: string): boolean {
    const { disk } = this;
    if (this.err !== 0) return true;
    if (disk.pdevPath === undefined) this.save('target', 'pdevPath', text);
    else if (!this.hadDeprecatedPrefix && disk.format === 'unknown') {
      if (disk.pdevPath === '' && this.vdevAndDevtype(text)) disk.format = 'empty';
      else this.setFormat(text);
    } else if (disk.vdev === undefined) {
      if (!this.vdevAndDevtype(text)) this.save('vdev', 'vdev', text);
    } else if (!this.accessSet) {
      this.accessSet = true;
      this.setAccess(text);
    } else {
      this.error(text, 'too many positional parameters');
      return false;
    }
    return true;
  }
}

/** 0 or EINVAL, with a message for each mistake. */
export function xluDiskParse(cfg: XluConfig, spec: string, disk: DeviceDisk): number {
  disk.readwrite = 1;
  const p = new DiskParser(cfg, spec, disk);
  p.scan();
  if (p.err !== 0) return p.err;
  if (disk.format === 'unknown') disk.format = 'raw';
  if (disk.isCdrom !== 0) {
    disk.removable = 1;
    disk.readwrite = 0;
    if (!disk.pdevPath) disk.format = 'empty';
  }
  if (disk.vdev === undefined) p.error(undefined, 'no vdev specified');
  else if (disk.pdevPath === undefined && disk.removable === 0) {
    p.error(undefined, 'no target specified (and device not removable)');
  }
  return p.err;
}
