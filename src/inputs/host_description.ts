/** A host as data: what the readers of real machines produce and `machine.ts` boots. */
import type { BootFiles } from '../base/boot_file.js';
import type { Sbdf } from '../base/sbdf.js';
import type { E820Entry } from '../iommu/driver/types.js';

/** A physical slot as dom0's kernel names it in `/sys/bus/pci/slots`: firmware or a port's registers say so. */
export interface PhysicalSlot {
  readonly name: string;
  readonly seg: number;
  readonly bus: number;
  readonly device: number;
}

export interface FunctionDescription {
  readonly sbdf: Sbdf;
  /** 64, 256 or 4096 bytes of config space as dumped. */
  readonly config: Uint8Array;
  /**
   * BAR sizes where known (`[size=16M]`, /sys resource), in bytes, 0 where there is no such register. Index 0..5, 6 is
   * the ROM, 7..12 the registers of one virtual function.
   */
  readonly barBytes?: readonly (number | undefined)[];
  /** Vendor and device as lspci names them: `NVIDIA Corporation GA104 …`. */
  readonly name?: string;
  /** Driver bound in dom0 at boot. */
  readonly driver?: string;
  readonly irq?: number;
  /** What a dump tells of the virtual functions that were on: they are there again once software enables them. */
  readonly virtual?: {
    readonly name?: string;
    readonly driver?: string;
    /** Bytes of configuration space in which they differ from what any virtual function has. */
    readonly registers?: readonly { readonly offset: number; readonly value: number }[];
  };
}

/** Capability overrides of one VT-d unit, by the register base in the DMAR. */
export interface VtdUnitDescription {
  readonly base: number;
  /** CAP and ECAP as low and high 32-bit words; the default is a current Intel client. */
  readonly cap?: readonly [number, number];
  readonly ecap?: readonly [number, number];
  readonly version?: number;
  /** Tables are read from memory past the CPU's caches, as ECAP.C clear allows. */
  readonly unsnooped?: boolean;
  /** What the CPU writes reaches the unit when its write buffer is flushed, as CAP.RWBF set says; and so it has to be. */
  readonly buffered?: boolean;
  /** It is the emulated unit of QEMU, with what that does otherwise than the specification says (docs/qtest.md). */
  readonly asQemu?: boolean;
}

export interface HostDescription {
  readonly name: string;
  readonly functions: readonly FunctionDescription[];
  readonly slots?: readonly PhysicalSlot[];
  readonly e820: readonly E820Entry[];
  /** Xen's command line where the user gives none. */
  readonly xenCmdline?: string;
  readonly cpu: {
    readonly vendor: 'intel' | 'amd';
    readonly count: number;
    readonly model: string;
    readonly khz: number;
    readonly hap: boolean;
    readonly hap2m: boolean;
    readonly hap1g: boolean;
    readonly cx16: boolean;
    /** Physical address bits; 46 when not given. */
    readonly paddrBits?: number;
    /** Model number of an Intel CPU of family 6. */
    readonly intelModel?: number;
    /** CPUID leaves as `xl info` prints them. */
    readonly hwCaps?: readonly number[];
  };
  /** Raw ACPI tables, header included. Neither: no IOMMU. */
  readonly dmar?: Uint8Array;
  readonly ivrs?: Uint8Array;
  readonly vtdUnits?: readonly VtdUnitDescription[];
  /** Extended feature register of the AMD IOMMUs, low and high word; the default is a Zen desktop part's. */
  readonly amdFeatures?: readonly [number, number];
  /** The I/O APIC and what the firmware says of ISA interrupts; undefined: lines are not modelled. */
  readonly ioApic?: {
    readonly id: number;
    readonly pins: number;
    /** ISA interrupts on another pin than that of their number, or level triggered. */
    readonly overrides: readonly { readonly irq: number; readonly pin: number; readonly level?: boolean }[];
    /** Interrupt of the UART that Xen's console uses. */
    readonly serialIrq?: number;
  };
  /** The MCFG table: windows of configuration space in memory, `base` that of bus 0. Absent: Xen finds none. */
  readonly mcfg?: readonly {
    readonly base: number;
    readonly seg: number;
    readonly firstBus: number;
    readonly lastBus: number;
  }[];
  readonly dom0: {
    readonly memoryBytes: number;
    readonly vcpus: number;
    readonly hostname: string;
    /** `6.1.0-56-amd64` */
    readonly kernelRelease: string;
    /** Linux command line of dom0, `xen-pciback.hide=` included. */
    readonly kernelCmdline: string;
    /** xen-pciback is a module (and loaded), built in, or missing. */
    readonly pciback: 'module' | 'builtin' | 'none';
    /**
     * Sizes of what the boot loader left at the top of memory. With them memory is handed out as on a real host: Xen keeps
     * its frame table, dom0 has its bounce buffer low. Without, dom0 gets the largest blocks that there are.
     */
    readonly images?: { readonly kernelBytes: number; readonly initrdBytes: number };
    /** What is in kernels, RAM disks and firmware of guests; where it is not known, libxc's builder says nothing of it. */
    readonly bootFiles?: BootFiles;
    /** Files of dom0 by absolute path: guest configurations and the like. */
    readonly files: Readonly<Record<string, string>>;
  };
  /** Programs of guests, by guest name: see guest/. */
  readonly guests?: Readonly<Record<string, unknown>>;
}
