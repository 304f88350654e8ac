/**
 * What the log of a waiting `xl -vvv create` says of its domain: libxl looks for it each time that xenstored tells of a
 * domain that shut down or went. @xen tools/libs/light/libxl_domain.c domain_death_xswatch_callback
 */
import { hex } from '../../base/sbdf.js';
import type { DomainInfo } from '../../hypervisor/public/domctl.js';
import type { Co } from '../../sim/co.js';
import type { DeathListener, Dom0, XenstoreWatcher } from '../dom0.js';
import { HypercallBuffers } from '../hypercall_buffers.js';
import type { WatchState } from '../libxl/event_log.js';
import { Libxl } from '../libxl/libxl.js';
import { DOMAIN } from '../libxl/lines_domain.js';
import { Log } from '../libxl/log.js';

const RELEASE = '@releaseDomain';
/** XEN_DOMINF_* */
const FLAG = { hvm: 2, shutdown: 4, paused: 8, blocked: 0x10, running: 0x20, hap: 0x100 } as const;
/** In a domain that has not shut down. */
const NO_REASON = 0xffff;

export class DeathWatch implements DeathListener, XenstoreWatcher {
  private readonly lx: Libxl;
  private readonly watch: WatchState;
  private readonly generator: string;
  private shutdownReported = false;
  private deathReported = false;

  constructor(
    private readonly dom0: Dom0,
    private readonly domid: number,
    minLevel: number,
    private readonly write: (text: string) => void,
  ) {
    this.lx = new Libxl(dom0, new Log(dom0.profile.release, minLevel, write));
    this.generator = this.lx.event.watch().address;
    this.watch = this.lx.event.watch();
    this.lx.event.watchRegister(this.watch, RELEASE);
    dom0.xs.watch(RELEASE, `xl ${domid}`, this);
  }

  *xsChanged(): Co<void> {
    this.lx.event.watchEvent(this.watch);
    yield* this.look();
  }

  private *look(): Co<void> {
    const { log, xc } = this.lx;
    if (!this.deathReported) {
      const info = yield* xc.firstDomain(this.domid);
      const [n, range] = info === undefined ? [0, '0..0'] : [1, `${info.domid}..${info.domid}`];
      const evg = `[evg=${this.generator}]`;
      log.debug(DOMAIN.deathEntries, `${evg} nentries=1 rc=${n} ${range}`, this.domid);
      const got = info?.domid ?? -1;
      log.debug(DOMAIN.deathGot, `${evg}   got=domaininfos[0] got->domain=${got}`, this.domid);
      this.report(info);
      log.debug(DOMAIN.deathAll, '[evg=0] all reported');
    }
    log.debug(DOMAIN.deathDone, 'domain death search done');
  }

  /** `info`: of the domain, or of the next one when it is gone. */
  private report(info: DomainInfo | undefined): void {
    const { log } = this.lx;
    if (info?.domid !== this.domid) {
      log.debug(DOMAIN.deathOccurred, info === undefined ? 'empty list' : 'missing from list', this.domid);
      this.deathReported = true;
      return;
    }
    const reported = `shutdown_reported=${this.shutdownReported ? 1 : 0}`;
    log.debug(DOMAIN.deathExists, `Exists ${reported} dominf.flags=${flagsOf(info)}`, this.domid);
    if (info.flags.dying) {
      log.debug(DOMAIN.deathOccurred, 'dying', this.domid);
      this.deathReported = true;
    } else if (info.flags.shutdown && !this.shutdownReported) {
      log.debug(DOMAIN.deathShutdown, ' shutdown reporting');
      this.shutdownReported = true;
    }
  }

  end(): void {
    this.dom0.xs.unwatch(RELEASE, `xl ${this.domid}`, this);
    this.lx.event.watchDeregister(this.watch);
    this.write(this.lx.xc.buffers.statistics());
    this.write(new HypercallBuffers().statistics());
  }
}

/** @xen getdomaininfo */
function flagsOf({ flags, shutdownReason }: DomainInfo): string {
  let low = flags.dying ? 1 : 0;
  for (const [name, bit] of Object.entries(FLAG)) if (flags[name as keyof typeof FLAG]) low |= bit;
  const reason = flags.shutdown ? shutdownReason : NO_REASON;
  return hex(reason * 0x1_0000 + low, 1);
}
