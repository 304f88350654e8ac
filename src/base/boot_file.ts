/** Files that guests are built from: what is in them, as far as libxc's domain builder tells of it. */

/** A loadable segment of an ELF file. */
export interface ElfSegment {
  readonly paddr: number;
  readonly memBytes: number;
  readonly fileBytes: number;
}

export interface BootKernel {
  /** A bzImage carries its ELF file packed. */
  readonly payload?: {
    readonly method: 'XZ';
    readonly bytes: number;
    readonly unpackedBytes: number;
  };
  readonly segments: readonly ElfSegment[];
  /** Notes with the owner `Xen` in their order: type (include/public/elfnote.h) and value. */
  readonly notes: readonly (readonly [type: number, value: string | bigint])[];
}

export interface BootFile {
  readonly bytes: number;
  /** Of a file in gzip's format: what it unpacks to. */
  readonly unpackedBytes?: number;
  readonly kernel?: BootKernel;
}

/** By absolute path. */
export type BootFiles = Readonly<Record<string, BootFile>>;
