/** struct domain, as far as passthrough, memory and the toolstack need it. State only: functions take it. */
import { DomainIommu, type IommuDomain, type PdevList } from '../iommu/driver/types.js';
import { LazyMap } from '../sim/lazy_map.js';
import { RANK } from '../sim/lock_ranks.js';
import { type Cpus, RwLock } from '../sim/locks.js';
import type { P2m } from './mm/p2m.js';
import { RangeSet } from './rangeset.js';
import type { IoportMap } from './seams.js';

/** How far a domain is on its way out. @xen enum domain_dying */
export const DYING = { alive: 0, dying: 1, dead: 2 } as const;

/** A run of frames that belongs to a domain: 2^order of them from `mfn`. */
export interface Extent {
  readonly mfn: number;
  readonly order: number;
}

/** A pirq bound to a domain. @xen struct pirq, struct hvm_pirq_dpci */
export interface Pirq {
  readonly pirq: number;
  readonly irq: number;
  readonly msi: boolean;
  /** A request was taken back by halves (W10): the interrupt no longer leads to it, and it does to the interrupt. */
  halfUndone?: boolean;
  /** True while a passthrough softirq for it is in flight: releasing the domain's devices must wait. */
  dpciActive: boolean;
  bound: boolean;
  /** How a guest is told, while bound to an HVM guest. @xen HVM_IRQ_DPCI_* */
  dpciKind?: 'msi' | 'pci' | 'msi_translate';
  /** Vector and flags of a guest MSI. */
  gmsi?: { gvec: number; gflags: number };
  /** Virtual pins it is wired to. @xen digl_list */
  links?: { readonly bus: number; readonly device: number; readonly intx: number }[];
}

/** A port that is in use. @xen struct evtchn */
export type EventChannel =
  | { readonly state: 'unbound'; readonly remote: number }
  | { readonly state: 'interdomain'; readonly remote: number; readonly port: number }
  | { readonly state: 'pirq'; readonly pirq: number }
  | { readonly state: 'virq'; readonly virq: number; readonly vcpu: number }
  | { readonly state: 'ipi'; readonly vcpu: number };

/** A softirq that the CPU which took the interrupt has not come to yet. @xen dpci_list */
export interface InFlight {
  readonly d: Domain;
  readonly pirq: Pirq;
  /** How often others go round before that CPU is done with what it does. */
  rounds: number;
}

const NO_MAPS: readonly IoportMap[] = Object.freeze([]);

export interface DomainOptions {
  readonly hvm: boolean;
  readonly hap: boolean;
  readonly iommu: boolean;
  /** A domain that only owns things: d[IO], d[XEN]. */
  readonly system?: boolean;
  /** Releases from 4.19 guard pdev_list membership by a lock of the domain. */
  readonly pciLock: boolean;
  /** Releases guard its rights by a lock of the domain: 4.17.7 and from 4.22, not 4.18.3. */
  readonly capsLock: boolean;
}

export class Domain extends DomainIommu implements IommuDomain {
  readonly capsLock: RwLock | undefined;
  readonly isHvm: boolean;
  readonly hap: boolean;
  readonly isSystem: boolean;

  isShuttingDown = false;
  isShutDown = false;
  /** SHUTDOWN_* once it is shutting down, else -1. */
  shutdownCode = -1;
  /** Domain_crash was called. */
  crashed = false;
  /** Everybody who keeps it from running; the toolstack's own pauses beside. @xen pause_count, controller_pause_count */
  pauseCount = 1;
  controllerPauseCount = 1;
  handle = '00000000-0000-0000-0000-000000000000';
  maxVcpus = 1;
  /** The CPU that its first vCPU runs on. @xen vcpu->processor */
  processor = 0;
  /** Where domain_kill() goes on after a continuation. */
  relinquishStep = 0;

  totPages = 0;
  maxPages = 0;
  outstandingPages = 0;
  /** Memory the domain owns, newest last. */
  readonly extents: Extent[] = [];
  /** HVM: guest frame to machine frame. */
  p2m: P2m | undefined = undefined;
  /** PV: what populate_physmap reported, by guest frame. */
  readonly pvGfns = new LazyMap<number, number>();

  /** Where guest frames are marked that `podEntries` counts. */
  readonly podGfns = new RangeSet();
  /** Rights to machine frames, I/O ports and interrupts. @xen iomem_caps, ioport_caps, irq_caps */
  readonly iomemCaps = new RangeSet();
  readonly ioportCaps = new RangeSet();
  readonly irqCaps = new RangeSet();
  ioportMaps: readonly IoportMap[] = NO_MAPS;
  readonly pirqs = new LazyMap<number, Pirq>();
  /** HVM: it has had an interrupt of a device bound, and is not cleaned yet. @xen struct hvm_irq_dpci */
  dpci = false;
  /** By port. */
  readonly eventChannels = new LazyMap<number, EventChannel>();
  /** Its kernel runs, and its ports have the newer form. @xen evtchn_fifo */
  fifoEvents = false;
  /** Pages that Xen has and the domain sees, once there are any. @xen xenpage_list */
  xenPages: readonly number[] | undefined = undefined;
  /** VT-d without interrupt remapping gave it a device. */
  untrustedMsi = false;

  constructor(domid: number, cpus: Cpus, o: DomainOptions) {
    super(domid, cpus, o.iommu, o.pciLock);
    // A fraction by domain id: two of these are taken in order of it.
    this.capsLock = o.capsLock
      ? new RwLock(cpus, `d${domid}.caps_lock`, RANK.capsLock + domid / 0x1_0000)
      : undefined;
    this.isHvm = o.hvm;
    this.hap = o.hap;
    this.isSystem = o.system ?? false;
  }

  /** Both lie within the domain, as in Xen. */
  get iommu(): DomainIommu {
    return this;
  }
  get pdevList(): PdevList {
    return this;
  }
  get isDying(): boolean {
    return this.dying !== DYING.alive;
  }

  maxGfn(): number {
    if (this.p2m !== undefined) return this.p2m.maxMappedGfn;
    let max = 0;
    for (const x of this.extents) max = Math.max(max, x.mfn + 2 ** x.order - 1);
    return max;
  }

  p2mRootMfn(): number {
    return this.p2m?.rootMfn ?? 0;
  }
}
