/** The register page: what reset leaves in each register and which bits software may change (VT-d 11.4). */

/** One 32-bit register or half of a 64-bit one. Bits in no mask are read-only: only hardware changes them. */
export interface Reg {
  readonly offset: number;
  readonly reset: number;
  readonly rw?: number; //   plain read/write bits
  readonly rw1c?: number; // write 1 to clear
  readonly wo?: number; //   write only: seen by hardware, reads as zero
}

const ALL = 0xffff_ffff | 0;
const FRAME_LO = 0xffff_f000 | 0;
const IM = 0x8000_0000 | 0;
const EPM = 0x8000_0000 | 0;
/** Protected ranges begin and end at multiples of 1 MiB: the address bits below are not there. */
const PROTECTION_BITS = 0xfff0_0000 | 0;

/** In the manual's order. VER, CAP and ECAP get their values from the unit's options. */
export const VTD = {
  VER: { offset: 0x00, reset: 0x10 },
  CAP_LO: { offset: 0x08, reset: 0 },
  CAP_HI: { offset: 0x0c, reset: 0 },
  ECAP_LO: { offset: 0x10, reset: 0 },
  ECAP_HI: { offset: 0x14, reset: 0 },
  GCMD: { offset: 0x18, reset: 0, wo: 0xff80_0000 | 0 },
  GSTS: { offset: 0x1c, reset: 0 },
  RTADDR_LO: { offset: 0x20, reset: 0, rw: FRAME_LO }, // and TTM in scalable mode
  RTADDR_HI: { offset: 0x24, reset: 0, rw: ALL },
  CCMD_LO: { offset: 0x28, reset: 0, rw: 0x0000_ffff, wo: 0xffff_0000 | 0 },
  CCMD_HI: { offset: 0x2c, reset: 0, rw: 0xe000_0000 | 0, wo: 0x3 },
  FSTS: { offset: 0x34, reset: 0, rw1c: 0x7d },
  FECTL: { offset: 0x38, reset: IM, rw: IM },
  FEDATA: { offset: 0x3c, reset: 0, rw: ALL },
  FEADDR: { offset: 0x40, reset: 0, rw: 0xffff_fffc | 0 },
  FEUADDR: { offset: 0x44, reset: 0, rw: ALL },
  AFLOG_LO: { offset: 0x58, reset: 0, rw: FRAME_LO | 0xe00 }, // with CAP.AFL
  AFLOG_HI: { offset: 0x5c, reset: 0, rw: ALL },
  PMEN: { offset: 0x64, reset: 0, rw: EPM },
  PLMBASE: { offset: 0x68, reset: 0, rw: PROTECTION_BITS }, // with CAP.PLMR
  PLMLIMIT: { offset: 0x6c, reset: 0, rw: PROTECTION_BITS },
  PHMBASE_LO: { offset: 0x70, reset: 0, rw: PROTECTION_BITS }, // with CAP.PHMR
  PHMBASE_HI: { offset: 0x74, reset: 0, rw: ALL },
  PHMLIMIT_LO: { offset: 0x78, reset: 0, rw: PROTECTION_BITS },
  PHMLIMIT_HI: { offset: 0x7c, reset: 0, rw: ALL },
  IQH_LO: { offset: 0x80, reset: 0 },
  IQH_HI: { offset: 0x84, reset: 0 },
  IQT_LO: { offset: 0x88, reset: 0, rw: 0x0007_fff0 },
  IQT_HI: { offset: 0x8c, reset: 0 },
  IQA_LO: { offset: 0x90, reset: 0, rw: FRAME_LO | 0x7 }, // and DW in scalable mode
  IQA_HI: { offset: 0x94, reset: 0, rw: ALL },
  ICS: { offset: 0x9c, reset: 0, rw1c: 0x1 },
  IECTL: { offset: 0xa0, reset: IM, rw: IM },
  IEDATA: { offset: 0xa4, reset: 0, rw: ALL },
  IEADDR: { offset: 0xa8, reset: 0, rw: 0xffff_fffc | 0 },
  IEUADDR: { offset: 0xac, reset: 0, rw: ALL },
  IQERCD_LO: { offset: 0xb0, reset: 0 },
  IQERCD_HI: { offset: 0xb4, reset: 0 },
  IRTA_LO: { offset: 0xb8, reset: 0, rw: FRAME_LO | 0x80f },
  IRTA_HI: { offset: 0xbc, reset: 0, rw: ALL },
} as const satisfies Record<string, Reg>;

/** The registers that reset does not leave at zero. */
export const RESET: readonly Reg[] = Object.values(VTD).filter((r) => r.reset !== 0);

/** The two registers of the IOTLB block, at ECAP.IRO * 16; offsets from there. */
export const IOTLB_BLOCK: readonly Reg[] = [
  { offset: 0x0, reset: 0, wo: FRAME_LO | 0x7f }, // IVA
  { offset: 0x4, reset: 0, wo: ALL },
  { offset: 0x8, reset: 0 }, // IOTLB
  { offset: 0xc, reset: 0, rw: 0xb003_ffff | 0 },
];
/** One fault recording register, at CAP.FRO * 16 + 16 * n; offsets from there. Only F can be written. */
export const FRCD_BLOCK: readonly Reg[] = [
  { offset: 0x0, reset: 0 },
  { offset: 0x4, reset: 0 },
  { offset: 0x8, reset: 0 },
  { offset: 0xc, reset: 0, rw1c: 0x8000_0000 | 0 },
];

/** The fixed registers by word, for lookup without hashing. */
const FIXED_WORDS = 0x30;
const byWord: readonly (Reg | undefined)[] = Array.from({ length: FIXED_WORDS }, (_, w) =>
  Object.values(VTD).find((r: Reg) => r.offset === w * 4),
);

/** The register at a word-aligned offset, undefined where the page is reserved. `fro`, `iro` in bytes. */
export function regAt(offset: number, fro: number, records: number, iro: number): Reg | undefined {
  if (offset >= iro && offset < iro + 16) return IOTLB_BLOCK[(offset - iro) >>> 2];
  if (offset >= fro && offset < fro + 16 * records) return FRCD_BLOCK[((offset - fro) & 15) >>> 2];
  return byWord[offset >>> 2];
}
