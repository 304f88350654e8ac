/** PHYSDEVOP_*: how dom0's kernel tells Xen of devices and interrupts. @xen include/public/physdev.h */

/** @xen XEN_PCI_DEV_EXTFN, VIRTFN, PXM */
export const PCI_DEV_FLAG = { EXTFN: 1, VIRTFN: 2, PXM: 4 } as const;

export type PhysdevOp =
  | {
      readonly cmd: 'pci_device_add';
      readonly seg: number;
      readonly bus: number;
      readonly devfn: number;
      readonly flags: number;
      readonly physfn?: { readonly bus: number; readonly devfn: number };
      readonly pxm?: number;
    }
  | {
      readonly cmd: 'pci_device_remove' | 'prepare_msix' | 'release_msix' | 'restore_msi_ext';
      readonly seg: number;
      readonly bus: number;
      readonly devfn: number;
    }
  /** `flags`: 0 cold, 1 warm, 2 hot, 3 of the function alone. */
  | {
      readonly cmd: 'pci_device_reset';
      readonly seg: number;
      readonly bus: number;
      readonly devfn: number;
      readonly flags: number;
    }
  | {
      readonly cmd: 'map_pirq';
      readonly domid: number;
      readonly type: 'gsi' | 'msi' | 'msi_seg' | 'multi_msi';
      /** GSI, or -1. */
      readonly index: number;
      /** -1 asks for a free one. OUT: the pirq. */
      pirq: number;
      readonly bus?: number;
      readonly devfn?: number;
      readonly entryNr?: number;
    }
  /** `triggering` 0: edge, 1: level; `polarity` 0: high, 1: low. -EEXIST when the line is set up already. */
  | {
      readonly cmd: 'setup_gsi';
      readonly gsi: number;
      readonly triggering: 0 | 1;
      readonly polarity: 0 | 1;
    }
  | { readonly cmd: 'unmap_pirq'; readonly domid: number; readonly pirq: number };
