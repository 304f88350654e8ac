/** XENMEM_*: how a domain's memory is populated and what is reserved in it. @xen include/public/memory.h */
import type { Sbdf } from '../../base/sbdf.js';

/** Part of a memory map; `type` as in an E820 table. */
export interface MemoryRange {
  readonly start: number;
  readonly bytes: number;
  readonly type: number;
}

export type MemoryOp =
  | {
      /** Frames of 2^order pages each. Positive result: extents done. */
      readonly cmd: 'populate_physmap';
      readonly domid: number;
      /** Guest frames (HVM), or where the PV guest wants them listed. */
      readonly gfns: readonly number[];
      readonly order: number;
      /** XENMEMF_populate_on_demand */
      readonly pod?: boolean;
      /** OUT, PV: machine frames, first of each extent. */
      mfns?: number[];
    }
  | {
      readonly cmd: 'decrease_reservation';
      readonly domid: number;
      readonly gfns: readonly number[];
      readonly order: number;
    }
  | {
      /** Extents of a PV guest for new ones, as many pages. @xen struct xen_memory_exchange */
      readonly cmd: 'exchange';
      readonly domid: number;
      readonly gfns: readonly number[];
      readonly order: number;
      /** Where the new extents are listed, and their order. */
      readonly outGfns: readonly number[];
      readonly outOrder: number;
      /** The new ones lie below an address of so many bits, in the lowest zone that has so much. */
      readonly addressBits?: number;
      /** OUT: machine frames, first of each new extent. */
      mfns?: number[];
    }
  | {
      /** GNTTABOP_transfer, of a page of `domid`. @xen include/public/grant_table.h */
      readonly cmd: 'gnttab_transfer';
      readonly domid: number;
      readonly gfn: number;
      readonly to: number;
      readonly toGfn: number;
    }
  | {
      readonly cmd: 'add_to_physmap';
      readonly domid: number;
      readonly space: 'shared_info' | 'grant_table' | 'gmfn';
      readonly idx: number;
      readonly gfn: number;
    }
  | {
      /** XENMAPSPACE_gmfn_range: the pages at `idx` move to `gpfn`. */
      readonly cmd: 'add_to_physmap_range';
      readonly domid: number;
      readonly idx: number;
      readonly gpfn: number;
      readonly size: number;
    }
  | {
      /** XEN_DMOP_set_mem_type, to and from HVMMEM_ram_ro. @xen include/public/hvm/dm_op.h */
      readonly cmd: 'set_mem_type';
      readonly domid: number;
      readonly gfn: number;
      readonly nr: number;
      readonly readOnly: boolean;
    }
  | { readonly cmd: 'remove_from_physmap'; readonly domid: number; readonly gfn: number }
  | {
      readonly cmd: 'set_memory_map';
      readonly domid: number;
      readonly entries: readonly MemoryRange[];
    }
  | { readonly cmd: 'set_pod_target'; readonly domid: number; readonly targetPages: number }
  | {
      readonly cmd: 'reserved_device_memory_map';
      /** XENMEM_RDM_ALL is 1. */
      readonly flags: number;
      readonly sbdf: Sbdf;
      readonly maxEntries: number;
      /** OUT; with -ENOBUFS only `needed` is valid. */
      entries?: { startPfn: number; nrPages: number }[];
      needed?: number;
    }
  | { readonly cmd: 'maximum_gpfn'; readonly domid: number };
