/** Bounds on everything a user can make large. Inputs beyond them are refused, never truncated silently. */
export const LIMITS = {
  /** Functions in one machine. */
  devicesMax: 131_072,
  /** Domains alive at once (Xen: DOMID_FIRST_RESERVED). */
  domainsMax: 0x7ff0,
  /** IOMMU units in one machine. @xen MAX_IOMMUS */
  iommusMax: 64,
  /** Frames the simulated physical memory may touch: 2 GiB of backing store. */
  touchedFramesMax: 524_288,
  /** Lines kept by the console ring. */
  consoleLinesMax: 65_536,
  /** Resumptions of one generator run alone before it is called hung. */
  stepsMax: 100_000_000,
  /** Bytes of one input file. */
  inputBytesMax: 64 * 1024 * 1024,
} as const;
