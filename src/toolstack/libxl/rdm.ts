/** Reserved device memory in an HVM guest's layout. @xen tools/libs/light/libxl_dm.c libxl__domain_device_construct_rdm */
import { E } from '../../base/errno.js';
import { type Sbdf, sbdf } from '../../base/sbdf.js';
import type { MemoryOp } from '../../hypervisor/public/memory.js';
import type { Co } from '../../sim/co.js';
import type { Libxl } from './libxl.js';
import { CREATE } from './lines_create.js';
import { DM } from './lines_dm.js';
import { pciSetDefault } from './pci_add.js';
import { type DomainConfig, ERROR, type RdmPolicy } from './types.js';

/** Bytes. `highmemEnd` 0: no memory above 4 GiB. */
export interface Layout {
  lowmemEnd: number;
  highmemEnd: number;
  readonly mmioStart: number;
}

const PAGE = 4096;
const GB4 = 2 ** 32;
const MB2 = 2 * 1024 * 1024;
/** XENMEM_RDM_ALL */
const RDM_ALL = 1;

interface Range {
  readonly start: number;
  readonly size: number;
}

/** Asks for the number of ranges first, then for the ranges. ERROR_FAIL when Xen does not tell. */
function* queryRdm(lx: Libxl, flags: number, device: Sbdf): Co<Range[] | number> {
  const op = (maxEntries: number): MemoryOp & { cmd: 'reserved_device_memory_map' } => ({
    cmd: 'reserved_device_memory_map',
    flags,
    sbdf: device,
    maxEntries,
  });
  const count = op(0);
  const none = yield* lx.xc.memoryOp(count);
  if (none >= 0) return [];
  if (none === E.NOBUFS) {
    const full = op(count.needed ?? 0);
    if ((yield* lx.xc.memoryOp(full)) === 0) {
      return (full.entries ?? []).map((e) => ({ start: e.startPfn * PAGE, size: e.nrPages * PAGE }));
    }
  }
  lx.log.error(DM.rdmQuery, 'Could not get reserved device memory maps.');
  return ERROR.FAIL;
}

/** Fills `d.rdms`. 0 or ERROR_FAIL. */
function* collect(lx: Libxl, d: DomainConfig): Co<number> {
  const { hvm } = d.bInfo;
  const add = (r: Range, policy: RdmPolicy): void => {
    d.rdms.push({ ...r, policy });
  };
  if (hvm.rdm.strategy === 'host') {
    const all = yield* queryRdm(lx, RDM_ALL, 0);
    if (typeof all === 'number') return all;
    if (all.length === 0) return 0;
    for (const r of all) add(r, hvm.rdm.policy);
  }
  for (const p of d.pcidevs) {
    const own = yield* queryRdm(lx, 0, sbdf(p.domain, p.bus, p.dev, p.func));
    if (typeof own === 'number') return own;
    if (own.length === 0) continue;
    pciSetDefault(p);
    for (const r of own) {
      const known = d.rdms.find((x) => x.start === r.start);
      if (known === undefined) add(r, p.rdmPolicy);
      else known.policy = p.rdmPolicy;
    }
  }
  return 0;
}

const overlaps = (start: number, size: number, r: Range): boolean =>
  start + size > r.start && start < r.start + r.size;

/**
 * Collects the ranges, moves the end of low memory below those above the boundary, and judges what still collides:
 * strict fails (ERROR_FAIL), relaxed warns and hides the range from the guest.
 */
export function* constructRdm(lx: Libxl, d: DomainConfig, layout: Layout): Co<number> {
  const { rdm, rdmMemBoundaryMemkb } = d.bInfo.hvm;
  if (d.rdms.length > 0 || (rdm.strategy === 'ignore' && d.pcidevs.length === 0)) return 0;
  const rc = yield* collect(lx, d);
  if (rc !== 0) return rc;
  const boundary = (rdmMemBoundaryMemkb ?? 0) * 1024;
  for (const r of d.rdms) {
    if (!overlaps(0, layout.lowmemEnd, r) || r.start <= boundary) continue;
    const hapStart = Math.floor(r.start / MB2) * MB2;
    const end = d.cInfo.hap === true && r.start > MB2 ? hapStart : r.start;
    layout.highmemEnd = (layout.highmemEnd || GB4) + layout.lowmemEnd - end;
    layout.lowmemEnd = end;
  }
  for (const r of d.rdms) {
    const high = layout.highmemEnd !== 0 && overlaps(GB4, layout.highmemEnd - GB4, r);
    if (!high && !overlaps(0, layout.lowmemEnd, r)) continue;
    const where = `RDM conflict at 0x${r.start.toString(16)}.\n`;
    if (r.policy === 'strict') {
      lx.log.error(CREATE.rdmConflict, where);
      return ERROR.FAIL;
    }
    lx.log.warn(CREATE.rdmIgnored, `Ignoring ${where}`);
    r.policy = 'invalid';
  }
  return 0;
}
