/** Keys 'q' and 'e': what Xen knows of each domain, and its event channels. */
import type { Domain, EventChannel } from './domain.js';
import { DYING } from './domain.js';
import type { RangeSet } from './rangeset.js';
import type { Xen } from './xen.js';

const TOO_MANY_PAGES = 10;
/** A page of Xen's that is allocated, and how often it is mapped writable. @xen PGC_xen_heap, PGT_writable_page */
const XEN_PAGE_COUNT = 'c00000000000000';
const XEN_PAGE_TYPE = 'e40000000000000';

const byId = (xen: Xen): Domain[] => [...xen.domains.values()].sort((a, b) => a.domid - b.domid);
const listText = (n: number): string => (n > 1 ? `0-${n - 1}` : '0');
const rangeText = (set: RangeSet, radix: number): string => {
  const ranges = set.list().map((r) => {
    const [s, e] = [r.s.toString(radix), r.e.toString(radix)];
    return ` ${r.s === r.e ? s : `${s}-${e}`}`;
  });
  return `{${ranges.join(',')} }`;
};

/** @xen common/keyhandler.c dump_domains */
export function dumpDomains(xen: Xen): void {
  const print = (text: string): void => xen.console.printAlways(text);
  print(`'q' pressed -> dumping domain info (now = ${Math.floor(xen.clock.nowNs)})`);
  const domains = byId(xen);
  for (const d of domains) {
    print(`General information for domain ${d.domid}:`);
    const pages = d.xenPages ?? [];
    const holders = 1 + (d.totPages > 0 ? 1 : 0) + (pages.length > 0 ? 1 : 0);
    print(`    refcnt=${holders} dying=${d.dying} pause_count=${d.pauseCount}`);
    const cpus = isRunning(xen, d, 0) ? `${xen.cpus.current.id}` : '';
    const counts = `nr_pages=${d.totPages} xenheap_pages=${pages.length}`;
    print(`    ${counts} dirty_cpus={${cpus}} max_pages=${d.maxPages}`);
    print(`    handle=${d.handle} vm_assist=${d.isHvm || !d.fifoEvents ? '00000000' : PV_LINUX_ASSISTS}`);
    dumpPaging(d, print);
    dumpRangesets(d, print);
    dumpPages(d, print);
    print(`NODE affinity for domain ${d.domid}: [0]`);
    print(`VCPU information and callbacks for domain ${d.domid}:`);
    for (let v = 0; v < d.maxVcpus; v++) dumpVcpu(xen, d, v, print);
  }
  for (const d of domains) for (let v = 0; v < d.maxVcpus; v++) print(notification(d, v));
  if (xen.seams.countsSharedFrames()) print('Shared frames 0 -- Saved frames 0');
}

type Print = (text: string) => void;

/** What Linux asks for: big page tables, tables it may write to, its own map of frames. @xen VMASST_TYPE_* */
const PV_LINUX_ASSISTS = '0000002d';

/** @xen arch/x86/mm/paging.c paging_dump_domain_info */
function dumpPaging(d: Domain, print: Print): void {
  if (!d.isHvm) return;
  const logDirty = d.logDirty ? 'log_dirty ' : '';
  print(`    paging assistance: ${d.hap ? 'hap' : 'shadow'} refcounts ${logDirty}translate external `);
}

/** Newest first. @xen common/rangeset.c rangeset_domain_printk */
function dumpRangesets(d: Domain, print: Print): void {
  print(`Rangesets belonging to domain ${d.domid}:`);
  print(`    Interrupts ${rangeText(d.irqCaps, 10)}`);
  print(`    I/O Memory ${rangeText(d.iomemCaps, 16)}`);
  print(`    I/O Ports  ${rangeText(d.ioportCaps, 16)}`);
  print('    log-dirty  { }');
}

/** @xen arch/x86/domain.c dump_pageframe_info */
function dumpPages(d: Domain, print: Print): void {
  print(`Memory pages belonging to domain ${d.domid}:`);
  if (d.totPages >= TOO_MANY_PAGES && d.dying < DYING.dead) print('    DomPage list too long to display');
  else
    for (const x of d.extents)
      for (let i = 0; i < 2 ** x.order; i++)
        print(`    DomPage ${frameText(x.mfn + i)}: caf=8000000000000001, taf=0000000000000000`);
  if (d.isHvm) print(`    PoD entries=${d.podEntries} cachesize=0`);
  // The page itself, and the mapping of a PV kernel that runs.
  const n = d.fifoEvents && !d.isHvm ? 2 : 1;
  for (const mfn of d.xenPages ?? [])
    print(`    XenPage ${frameText(mfn)}: caf=${XEN_PAGE_COUNT}${n}, taf=${XEN_PAGE_TYPE}${n}`);
}

const frameText = (mfn: number): string => mfn.toString(16).padStart(16, '0');

const isRunning = (xen: Xen, d: Domain, vcpu: number): boolean =>
  vcpu === 0 && xen.cpus.current.domid === d.domid;

/** Why a vCPU does not run. @xen include/xen/sched.h VPF_* */
const VPF = { blocked: 1, down: 2 } as const;

/** Each vCPU is a unit of the scheduler. The one that asks has its timer's event waiting while Xen prints. */
function dumpVcpu(xen: Xen, d: Domain, v: number, print: Print): void {
  const cpus = listText(xen.cpu.count);
  print(`  UNIT${v} affinities: hard={${cpus}} soft={${cpus}}`);
  const running = isRunning(xen, d, v);
  const where = `VCPU${v}: CPU${v % xen.cpu.count} [has=${running ? 'T' : 'F'}] poll=0`;
  const dirty = running ? `dirty_cpu=${xen.cpus.current.id}` : '';
  print(`    ${where} upcall_pend=${running ? '01' : '00'} upcall_mask=00 ${dirty}`);
  const flags = running ? 0 : v === 0 || d.fifoEvents ? VPF.blocked : VPF.down;
  print(`    pause_count=${d.isShutDown ? 1 : 0} pause_flags=${flags}`);
  if (d.isHvm) print(`    paging assistance: ${d.hap ? 'hap, 1 levels' : 'shadowed 2-on-3'}`);
  print('No periodic timer');
}

function notification(d: Domain, vcpu: number): string {
  const debug = [...d.eventChannels].find(
    ([, c]) => c.state === 'virq' && c.virq === VIRQ_DEBUG && c.vcpu === vcpu,
  );
  return `Notifying guest ${d.domid}:${vcpu} (virq ${VIRQ_DEBUG}, port ${debug?.[0] ?? 0})`;
}
const VIRQ_DEBUG = 1;

/** @xen common/event_channel.c ECS_* */
const ECS = { unbound: 2, interdomain: 3, pirq: 4, virq: 5, ipi: 6 } as const;

/** @xen common/event_channel.c dump_evtchn_info */
export function dumpEventChannels(xen: Xen): void {
  const print = (text: string): void => xen.console.printAlways(text);
  print("'e' pressed -> dumping event-channel info");
  for (const d of byId(xen)) {
    print(`Event channel information for domain ${d.domid}:`);
    print('Polling vCPUs: {}');
    print('    port [p/m/s]');
    // Ports with a word each tell whether they are busy and which one follows in the queue.
    const word = d.fifoEvents ? '  -   ' : '';
    for (const [port, c] of [...d.eventChannels].sort(([a], [b]) => a - b)) {
      const vcpu = c.state === 'virq' || c.state === 'ipi' ? c.vcpu : 0;
      print(`    ${String(port).padStart(4)} [0/0/${word}]: s=${ECS[c.state]} n=${vcpu} x=0${endText(d, c)}`);
    }
  }
}

function endText(d: Domain, c: EventChannel): string {
  switch (c.state) {
    case 'unbound':
      return ` d=${c.remote}`;
    case 'interdomain':
      return ` d=${c.remote} p=${c.port}`;
    case 'pirq':
      return ` p=${c.pirq} i=${d.pirqs.get(c.pirq)?.irq ?? 0}`;
    case 'virq':
      return ` v=${c.virq}`;
    case 'ipi':
      return '';
  }
}
