/** libxl's messages: `libxl: error: libxl_pci.c:1677:libxl__device_pci_add: Domain 8:text`. @xen libxl__logv */
import { strerror } from '../../base/errno.js';
import { isGuestDomid } from '../xenctrl.js';
import type { Place, Release } from './lines.js';

/** Levels of xentoollog, most talkative first. */
export const XTL = {
  debug: 1,
  verbose: 2,
  detail: 3,
  progress: 4,
  info: 5,
  notice: 6,
  warning: 7,
  error: 8,
} as const;
type Level = keyof typeof XTL;
/** What `xl` prints without -v. Each -v lowers it by one. */
export const XTL_DEFAULT = XTL.progress;

export class Log {
  constructor(
    private readonly release: Release,
    readonly minLevel: number,
    private readonly write: (text: string) => void,
  ) {}

  /** A log that nobody reads. */
  silent(): Log {
    return new Log(this.release, XTL.error + 1, this.write);
  }

  /** `errno`, of either sign, adds what strerror() says of it. */
  private put(level: Level, at: Place, domid: number, text: string, errno?: number): void {
    if (XTL[level] < this.minLevel) return;
    const domain = isGuestDomid(domid) ? `Domain ${domid}:` : '';
    const why = errno === undefined ? '' : `: ${strerror(errno)}`;
    this.write(
      `libxl: ${level}: ${at.file}:${at.lines[this.release]}:${at.func[this.release]}: ${domain}${text}${why}\n`,
    );
  }

  /** LOG, LOGE, LOGD and LOGED of ERROR: give `domid` for the D, `errno` for the E. */
  error(at: Place, text: string, domid = -1, errno?: number): void {
    this.put('error', at, domid < 0 ? 0xffff_ffff : domid, text, errno);
  }

  /** What libxc says of a kernel that it cannot use. @xen xc_dom_panic with XC_INVALID_KERNEL */
  invalidKernel(at: Place, text: string): void {
    const place = `${at.file}:${at.lines[this.release]}: ${at.func[this.release]}`;
    if (XTL.error >= this.minLevel) this.write(`xc: error: panic: ${place}${text}: Invalid kernel\n`);
  }

  /** @xen xc_dom_printf */
  domainBuilder(text: string): void {
    if (XTL.detail >= this.minLevel) this.write(`domainbuilder: detail: ${text}\n`);
  }

  /** What libxc says without a place. @xen xc_report */
  libxc(text: string): void {
    if (XTL.detail >= this.minLevel) this.write(`xc: detail: ${text}\n`);
  }

  /** libxc begins to write a domain out. @xen xc_domain_save */
  save(domid: number, type: string): void {
    if (XTL.info >= this.minLevel) this.write(`xc: info: Saving domain ${domid}, type ${type}\n`);
  }

  /** How far libxc is, in steps of 5 %, or with -v of 1 %. @xen xc_report_progress_step, stdiostream_progress */
  progress(what: string, total: number, step: number): void {
    const say = (done: number, percent: number, level = 'progress'): void =>
      this.write(`xc: ${level}: ${what}: ${done}/${total}  ${String(percent).padStart(3)}%\n`);
    if (XTL.progress < this.minLevel) return;
    if (total === 0) say(0, 0);
    const every = XTL.detail >= this.minLevel ? 1 : 5;
    let last = 0;
    for (let done = 0; total > 0 && last < 100; done = Math.min(done + step, total)) {
      const percent = Math.floor((done * 100) / total);
      if (percent < last + every) continue;
      say(done, percent, percent < last + 5 ? 'detail' : 'progress');
      last = percent;
    }
  }

  /** `kind` is the code's description. @xen xc_dom_panic */
  panic(at: Place, text: string, kind: 'Internal error' | 'Out of memory'): void {
    if (XTL.error < this.minLevel) return;
    this.write(`xc: error: panic: ${at.file}:${at.lines[this.release]}: ${text}: ${kind}\n`);
  }

  warn(at: Place, text: string, domid = -1, errno?: number): void {
    this.put('warning', at, domid < 0 ? 0xffff_ffff : domid, text, errno);
  }

  info(at: Place, text: string, domid = -1, errno?: number): void {
    this.put('info', at, domid < 0 ? 0xffff_ffff : domid, text, errno);
  }

  detail(at: Place, text: string, domid = -1): void {
    this.put('detail', at, domid < 0 ? 0xffff_ffff : domid, text);
  }

  debug(at: Place, text: string, domid = -1): void {
    this.put('debug', at, domid < 0 ? 0xffff_ffff : domid, text);
  }
}
