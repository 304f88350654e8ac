/** The hardware domain's identity map. @xen drivers/passthrough/x86/iommu.c arch_iommu_hwdom_init */
import { assert } from '../../base/assert.js';
import type { Rc } from '../../base/errno.js';
import { sameItems } from '../../base/same.js';
import { type E820Entry, type FlushAcc, IOMMUF, XENLOG } from '../../iommu/driver/types.js';
import type { Co } from '../../sim/co.js';
import type { Domain } from '../domain.js';
import { RangeSet } from '../rangeset.js';
import type { Xen } from '../xen.js';
import { setIdentityP2mEntry } from './identity.js';
import { iommuIotlbFlushAll, iommuMap } from './iommu.js';
import { e820Boundaries, pageGetRamType, RAM_TYPE } from './ram_type.js';

const GB4_FRAMES = 0x10_0000;
/** Writes to these addresses are interrupts. */
const MSI_FIRST = 0xfee00;
const MSI_LAST = 0xfeeff;
const READ_WRITE = IOMMUF.readable | IOMMUF.writable;
const LAST_FRAME = 2 ** 52 - 1;

/** A run of frames, `e` inclusive, with the rights a device of dom0 gets. */
interface Run {
  readonly s: number;
  readonly e: number;
  readonly perms: number;
}

export function* archIommuHwdomInit(xen: Xen, d: Domain): Co<void> {
  assert(d === xen.hwdom, 'only the hardware domain is mapped as a whole');
  const o = xen.opts;
  if (o.hwdomReserved === -1) o.hwdomReserved = 1;
  if (o.hwdomInclusive) {
    const warn = (text: string): void => xen.services.printk(XENLOG.WARNING, text);
    warn('IOMMU inclusive mappings are deprecated and will be removed in future versions');
    if (d.isHvm) {
      warn('IOMMU inclusive mappings are only supported on PV Dom0');
      o.hwdomInclusive = false;
    }
  }
  if (o.hwdomPassthrough) return;
  const acc: FlushAcc = { flags: 0 };
  if (xen.seams.hwdomMapFromRanges()) yield* mapRanges(xen, d, acc);
  else for (const run of knownRuns.of(xen, d)) yield* mapRun(xen, d, run, acc);
  yield* iommuIotlbFlushAll(xen, d, acc.flags);
}

/** Rights on one frame; constant between the boundaries of what it asks. @xen hwdom_iommu_map, until 4.19 */
function hwdomIommuMap(xen: Xen, d: Domain, pfn: number, maxPfn: number, maxRam: number): number {
  if ((pfn > maxPfn && pfn >= maxRam) || xen.xenRanges.contains(pfn, pfn)) return 0;
  const o = xen.opts;
  let perms: number = READ_WRITE;
  const type = pageGetRamType(xen.services.e820, pfn);
  if (type === RAM_TYPE.UNUSABLE) return 0;
  if (type === RAM_TYPE.CONVENTIONAL) {
    if (o.hwdomStrict) return 0;
  } else if ((type & RAM_TYPE.RESERVED) !== 0) {
    if (!o.hwdomInclusive && o.hwdomReserved === 0) perms = 0;
  } else if (d.isHvm) return 0;
  else if (!o.hwdomInclusive || pfn > maxPfn) perms = 0;

  if (pfn >= MSI_FIRST && pfn <= MSI_LAST) return 0;
  if (!d.isHvm && d.iomemCaps.contains(pfn, pfn) && xen.mmioRo.contains(pfn, pfn)) perms = IOMMUF.readable;
  return perms;
}

/** The runs of the last boot, and all that they depend on: a host has the same ones each time. */
class KnownRuns {
  private e820: readonly E820Entry[] = [];
  private flags = -1;
  private reserved = 0;
  private readonly xenRanges = new RangeSet();
  private readonly mmioRo = new RangeSet();
  private readonly iomemCaps = new RangeSet();
  private runs: readonly Run[] = [];

  of(xen: Xen, d: Domain): readonly Run[] {
    const { hwdomStrict, hwdomInclusive, hwdomReserved } = xen.opts;
    const flags = (hwdomStrict ? 1 : 0) | (hwdomInclusive ? 2 : 0) | (d.isHvm ? 4 : 0);
    if (
      this.flags === flags &&
      this.reserved === hwdomReserved &&
      sameItems(this.e820, xen.services.e820) &&
      this.xenRanges.equals(xen.xenRanges) &&
      this.mmioRo.equals(xen.mmioRo) &&
      this.iomemCaps.equals(d.iomemCaps)
    )
      return this.runs;
    this.runs = runsByFrame(xen, d);
    this.flags = flags;
    this.reserved = hwdomReserved;
    this.e820 = xen.services.e820.slice();
    this.xenRanges.setTo(xen.xenRanges);
    this.mmioRo.setTo(xen.mmioRo);
    this.iomemCaps.setTo(d.iomemCaps);
    return this.runs;
  }
}
const knownRuns = new KnownRuns();

/** Runs of equal rights. Asks once per stretch in which nothing can change, instead of once per frame. */
function runsByFrame(xen: Xen, d: Domain): readonly Run[] {
  const { e820 } = xen.services;
  const maxPfn = GB4_FRAMES - 1;
  let ramEnd = 0;
  for (const e of e820) if (e.type === 'usable') ramEnd = Math.max(ramEnd, e.end);
  const maxRam = Math.ceil(ramEnd / 4096);
  const top = Math.max(maxRam, GB4_FRAMES);
  const at = e820Boundaries(e820);
  at.push(0, top, MSI_FIRST, MSI_LAST + 1, GB4_FRAMES, maxRam);
  for (const set of [xen.xenRanges, xen.mmioRo, d.iomemCaps]) {
    for (const r of set.list()) at.push(r.s, r.e + 1);
  }
  const cuts = new Float64Array(at).sort();
  const runs: { s: number; e: number; perms: number }[] = [];
  for (let i = 0; i + 1 < cuts.length && cuts[i]! < top; i++) {
    const s = cuts[i]!;
    const e = Math.min(cuts[i + 1]!, top) - 1;
    if (e < s) continue;
    const perms = hwdomIommuMap(xen, d, s, maxPfn, maxRam);
    if (perms === 0) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.perms === perms && last.e + 1 === s) last.e = e;
    else runs.push({ s, e, perms });
  }
  return runs;
}

function* mapRun(xen: Xen, d: Domain, run: Run, acc: FlushAcc): Co<void> {
  if (d.p2m !== undefined) {
    const access = (run.perms & IOMMUF.writable) !== 0 ? 'rw' : 'r';
    for (let pfn = run.s; pfn <= run.e; pfn++) {
      const rc = yield* setIdentityP2mEntry(xen, d, pfn, access, 0);
      if (rc === 0) continue;
      const what = `identity mapping of ${pfn.toString(16)} failed: ${rc}`;
      xen.services.printk(XENLOG.WARNING, `${xen.services.pd(d)}: ${what}`);
    }
    return;
  }
  const rc = yield* iommuMap(xen, d, run.s, run.s, run.e + 1 - run.s, run.perms | IOMMUF.preempt, acc);
  xen.services.processPendingSoftirqs();
  if (rc === 0) return;
  const range = `[${run.s.toString(16)},${(run.e + 1).toString(16)})`;
  xen.services.printk(
    XENLOG.WARNING,
    `${xen.services.pd(d)}: IOMMU identity mapping of ${range} failed: ${rc}`,
  );
}

/** What dom0 may reach of the memory map, less Xen itself; then what it may only read: from 4.19 on. @xen arch_iommu_hwdom_init */
function* mapRanges(xen: Xen, d: Domain, acc: FlushAcc): Co<void> {
  const map = wantedRanges(xen);
  for (const r of xen.xenRanges.list()) map.remove(r.s, r.e);
  intersect(map, d.iomemCaps);
  if (!d.isHvm) for (const r of xen.mmioRo.list()) map.remove(r.s, r.e);
  if (xen.opts.verbose) {
    xen.services.printk(XENLOG.INFO, `${xen.services.pd(d)}: identity mappings for IOMMU:`);
  }
  for (const r of [...map.list()]) yield* identityMap(xen, d, r.s, r.e, READ_WRITE, acc);
  if (d.isHvm) return;
  for (const r of [...xen.mmioRo.list()]) {
    noteRange(xen, r.s, r.e, 'O');
    for (const part of permitted(d.iomemCaps, r.s, r.e)) {
      yield* mapOrWarn(xen, d, part.s, part.e, IOMMUF.readable, acc);
    }
  }
}

function wantedRanges(xen: Xen): RangeSet {
  const o = xen.opts;
  const map = new RangeSet();
  if (o.hwdomInclusive) map.add(0, GB4_FRAMES - 1);
  for (const entry of xen.services.e820) {
    const reserved = entry.type === 'reserved' && (o.hwdomInclusive || o.hwdomReserved !== 0);
    const ram = entry.type === 'usable' && !o.hwdomStrict;
    if (reserved || ram) map.add(Math.floor(entry.start / 4096), Math.floor((entry.end - 1) / 4096));
  }
  return map;
}

function intersect(map: RangeSet, with_: RangeSet): void {
  let last = 0;
  for (const r of with_.list()) {
    if (last < r.s) map.remove(last, r.s - 1);
    last = r.e + 1;
  }
  if (last < LAST_FRAME) map.remove(last, LAST_FRAME);
}

function permitted(caps: RangeSet, s: number, e: number): { s: number; e: number }[] {
  return caps
    .list()
    .filter((r) => r.s <= e && s <= r.e)
    .map((r) => ({ s: Math.max(r.s, s), e: Math.min(r.e, e) }));
}

const hex10 = (n: number): string => n.toString(16).padStart(10, '0');

function noteRange(xen: Xen, s: number, e: number, mode: 'O' | 'W'): void {
  if (xen.opts.verbose) xen.services.printk(XENLOG.INFO, ` [${hex10(s)}, ${hex10(e)}] R${mode}`);
}

/** @xen identity_map */
function* identityMap(xen: Xen, d: Domain, s: number, e: number, perms: number, acc: FlushAcc): Co<void> {
  noteRange(xen, s, e, 'W');
  yield* mapOrWarn(xen, d, s, e, perms, acc);
}

function* mapOrWarn(xen: Xen, d: Domain, s: number, e: number, perms: number, acc: FlushAcc): Co<void> {
  const rc = d.p2m === undefined ? yield* mapPv(xen, d, s, e, perms, acc) : yield* mapPvh(xen, d, s, e);
  xen.services.processPendingSoftirqs();
  if (rc === 0) return;
  const range = `[${s.toString(16)}, ${e.toString(16)}]`;
  xen.services.printk(XENLOG.WARNING, `IOMMU identity mapping of ${range} failed: ${rc}`);
}

function* mapPv(xen: Xen, d: Domain, s: number, e: number, perms: number, acc: FlushAcc): Co<Rc> {
  return yield* iommuMap(xen, d, s, s, e - s + 1, perms | IOMMUF.preempt, acc);
}

function* mapPvh(xen: Xen, d: Domain, s: number, e: number): Co<Rc> {
  for (let pfn = s; pfn <= e; pfn++) {
    const rc = yield* setIdentityP2mEntry(xen, d, pfn, 'rw', 0);
    if (rc !== 0) return rc;
  }
  return 0;
}
