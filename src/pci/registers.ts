/**
 * Registers of PCI configuration space as data: where they are, who may write them, what a reset makes of them.
 * Numbers are those of the PCI Local Bus 3.0 (PCI), PCI-to-PCI Bridge 1.2 (P2P) and PCI Express Base 5.0 (PCIe)
 * specifications, the section beside each table.
 */
import { bits, type Field } from '../base/layout.js';

/**
 * How a register field answers software (PCIe 7.4, "Configuration Register Types"). `s` is sticky: it survives every
 * reset but a loss of power. `w1c` is cleared by writing ones. Fields that are not listed are read-only.
 */
export type Access = 'rw' | 'rws' | 'w1c' | 'w1cs';

export interface Register extends Field {
  readonly access: Access;
  /** Value after a reset. */
  readonly reset: number;
  /** A function level reset leaves it alone (PCIe 6.6.2). */
  readonly keptByFlr?: true;
}
export type RegisterTable = Readonly<Record<string, Register>>;

const rw = (word: number, hi: number, lo = hi, reset = 0): Register => ({
  ...bits(word, hi, lo),
  access: 'rw',
  reset,
});
const rws = (word: number, hi: number, lo = hi): Register => ({ ...rw(word, hi, lo), access: 'rws' });
const w1c = (word: number, hi: number, lo = hi): Register => ({ ...rw(word, hi, lo), access: 'w1c' });
const w1cs = (word: number, hi: number, lo = hi): Register => ({ ...rw(word, hi, lo), access: 'w1cs' });
const kept = (r: Register): Register => ({ ...r, keptByFlr: true });

/** Byte offsets into the header. */
export const PCI = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION_ID: 0x08,
  CLASS_PROG: 0x09,
  CLASS_DEVICE: 0x0a,
  HEADER_TYPE: 0x0e,
  BASE_ADDRESS_0: 0x10,
  PRIMARY_BUS: 0x18,
  SECONDARY_BUS: 0x19,
  SUBORDINATE_BUS: 0x1a,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  ROM_ADDRESS: 0x30,
  CAPABILITY_LIST: 0x34,
  ROM_ADDRESS1: 0x38,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
  BRIDGE_CONTROL: 0x3e,
} as const;

export const COMMAND = { IO: 1, MEMORY: 2, MASTER: 4, INTX_DISABLE: 0x400 } as const;
export const STATUS_CAP_LIST = 0x10;
export const HEADER_MULTIFUNCTION = 0x80;
/** Bit of the bridge control word that holds the secondary bus in reset. */
export const BRIDGE_CTL_BUS_RESET = 0x40;

/** Capability ids (PCI-SIG Code and ID Assignment). */
export const CAP = {
  PM: 0x01,
  VPD: 0x03,
  MSI: 0x05,
  PCIX: 0x07,
  EXP: 0x10,
  MSIX: 0x11,
  AF: 0x13,
} as const;
export const EXT_CAP = {
  AER: 0x0001,
  ACS: 0x000d,
  ARI: 0x000e,
  ATS: 0x000f,
  SRIOV: 0x0010,
  PRI: 0x0013,
  LTR: 0x0018,
  PASID: 0x001b,
} as const;

/** Port types of the PCI Express Capabilities Register (PCIe 7.5.3.2). */
export const EXP_TYPE = {
  ENDPOINT: 0,
  LEGACY_ENDPOINT: 1,
  ROOT_PORT: 4,
  UPSTREAM: 5,
  DOWNSTREAM: 6,
  PCIE_TO_PCI: 7,
  PCI_TO_PCIE: 8,
  RC_ENDPOINT: 9,
  RC_EVENT_COLLECTOR: 10,
} as const;

/** What all headers share (PCI 6.2). Base addresses are no registers of a table: see bars.ts. */
export const HEADER: RegisterTable = {
  COMMAND_IO_MEM_MASTER: rw(1, 2, 0),
  COMMAND_MWI_SNOOP_PARITY: rw(1, 6, 4),
  COMMAND_SERR_FBB_INTX: rw(1, 10, 8),
  STATUS_PARITY_ABORTS: w1c(1, 31, 27),
  STATUS_MASTER_PARITY: w1c(1, 24),
  CACHE_LINE_LATENCY: rw(3, 15, 0),
  INTERRUPT_LINE: rw(15, 7, 0),
};

/** Type 1 header (P2P 3.2, PCIe 7.5.1.3). */
export const HEADER1: RegisterTable = {
  BUS_NUMBERS: rw(6, 31, 0),
  IO_BASE: rw(7, 7, 4),
  IO_LIMIT: rw(7, 15, 12),
  SECONDARY_STATUS_MASTER_PARITY: w1c(7, 24),
  SECONDARY_STATUS_ABORTS: w1c(7, 31, 27),
  MEMORY_BASE: rw(8, 15, 4),
  MEMORY_LIMIT: rw(8, 31, 20),
  PREFETCH_BASE: rw(9, 15, 4),
  PREFETCH_LIMIT: rw(9, 31, 20),
  PREFETCH_BASE_UPPER: rw(10, 31, 0),
  PREFETCH_LIMIT_UPPER: rw(11, 31, 0),
  IO_UPPER: rw(12, 31, 0),
  BRIDGE_CONTROL: rw(15, 27, 16),
};

/** CardBus bridge header (PC Card Standard 8.0, Yenta 2.2). */
export const HEADER2: RegisterTable = {
  BUS_NUMBERS: rw(6, 31, 0),
  BRIDGE_CONTROL: rw(15, 27, 16),
};

/** Power Management (PCI PM 1.2, 3.2.4). */
export const PM: RegisterTable = {
  POWER_STATE: rw(1, 1, 0),
  PME_ENABLE: rws(1, 8),
  DATA_SELECT: rw(1, 12, 9),
  PME_STATUS: w1cs(1, 15),
};
/** Bit 3 of the control word: D3hot to D0 keeps the state. */
export const PM_NO_SOFT_RESET = 8;

/** MSI (PCI 6.8.1). Which address, data and mask words exist depends on bits 23 and 24 of the first word. */
export const MSI: RegisterTable = {
  ENABLE: rw(0, 16),
  MULTIPLE_MESSAGE_ENABLE: rw(0, 22, 20),
  ADDRESS: rw(1, 31, 2),
};
export const MSI_32: RegisterTable = { DATA: rw(2, 15, 0) };
export const MSI_32_MASK: RegisterTable = { MASK: rw(3, 31, 0) };
export const MSI_64: RegisterTable = { ADDRESS_UPPER: rw(2, 31, 0), DATA: rw(3, 15, 0) };
export const MSI_64_MASK: RegisterTable = { MASK: rw(4, 31, 0) };
export const MSI_IS_64 = bits(0, 23);
export const MSI_HAS_MASK = bits(0, 24);

/** MSI-X (PCI 6.8.2). */
export const MSIX: RegisterTable = { MASKALL: rw(0, 30), ENABLE: rw(0, 31) };

export const VPD: RegisterTable = { ADDRESS_FLAG: rw(0, 31, 16), DATA: rw(1, 31, 0) };

/** PCI Express capability of every function (PCIe 7.5.3). */
export const EXP: RegisterTable = {
  DEVCTL_REPORTING_RELAXED: rw(2, 3, 0),
  DEVCTL_RELAXED_ORDERING: rw(2, 4, 4, 1),
  DEVCTL_MAX_PAYLOAD: kept(rw(2, 7, 5)),
  DEVCTL_EXT_TAG_PHANTOM: rw(2, 9, 8),
  DEVCTL_AUX_POWER: rws(2, 10),
  DEVCTL_NO_SNOOP: rw(2, 11, 11, 1),
  DEVCTL_MAX_READ: rw(2, 14, 12, 2),
  DEVSTA_ERRORS: w1c(2, 19, 16),
  LNKCTL: kept(rw(4, 11, 0)),
  LNKSTA_BANDWIDTH: w1c(4, 31, 30),
};
/** Ports with a slot. */
export const EXP_SLOT: RegisterTable = {
  SLTCTL: rw(6, 12, 0),
  SLTSTA: w1c(6, 20, 16),
  SLTSTA_LINK: w1c(6, 24),
};
export const EXP_ROOT: RegisterTable = { RTCTL: rw(7, 4, 0), RTSTA_PME: w1c(8, 16) };
/** Version 2 of the capability. */
export const EXP_V2: RegisterTable = { DEVCTL2: rw(10, 14, 0), LNKCTL2: rws(12, 15, 0) };

export const EXP_VERSION = bits(0, 19, 16);
export const EXP_PORT_TYPE = bits(0, 23, 20);
export const EXP_SLOT_IMPLEMENTED = bits(0, 24);
/** Device Capabilities: Function Level Reset. */
export const EXP_DEVCAP_FLR = bits(1, 28);
/** Written as one: starts a function level reset. Reads as zero. */
export const EXP_DEVCTL_INITIATE_FLR = bits(2, 15);

/** Advanced Features of conventional PCI (ECN of 2008): TP and FLR capability, and the FLR bit. */
export const AF_CAP_FLR = bits(0, 25);
export const AF_INITIATE_FLR = bits(1, 0);

/** Advanced Error Reporting (PCIe 7.8.4). */
export const AER: RegisterTable = {
  UNCORRECTABLE_STATUS: w1cs(1, 31, 0),
  UNCORRECTABLE_MASK: rws(2, 31, 0),
  UNCORRECTABLE_SEVERITY: rws(3, 31, 0),
  CORRECTABLE_STATUS: w1cs(4, 31, 0),
  CORRECTABLE_MASK: rws(5, 31, 0),
  ECRC_GENERATION: rws(6, 6),
  ECRC_CHECK: rws(6, 8),
};
export const AER_ROOT: RegisterTable = { ERROR_COMMAND: rw(11, 2, 0), ERROR_STATUS: w1cs(12, 6, 0) };

/** Access Control Services (PCIe 7.7.8). A control bit exists where its capability bit, 16 below, is set. */
export const ACS: RegisterTable = { CONTROL: rw(1, 22, 16) };
export const ACS_CAPABILITIES = bits(1, 6, 0);
export const ACS_SOURCE_VALIDATION = bits(1, 16);

/** Alternative Routing-ID (PCIe 7.8.7), Address Translation Services (PCIe 10.5.1), PASID (PCIe 7.8.8). */
export const ARI: RegisterTable = { MFVC_ACS_ENABLE: rw(1, 17, 16), FUNCTION_GROUP: rw(1, 22, 20) };
export const ATS: RegisterTable = { STU: rw(1, 20, 16), ENABLE: rw(1, 31) };
export const PASID: RegisterTable = { ENABLE_EXEC_PRIVILEGED: rw(1, 18, 16) };
/** Page Request (PCIe 10.5.2). */
export const PRI: RegisterTable = { CONTROL: rw(1, 1, 0), STATUS: w1c(1, 17, 16), ALLOCATION: rw(3, 31, 0) };
export const LTR: RegisterTable = { MAX_LATENCIES: rw(1, 31, 0) };

/** Single Root I/O Virtualization (PCIe 9.3.3). */
export const SRIOV: RegisterTable = {
  CONTROL: rw(2, 4, 0),
  MIGRATION_STATUS: w1c(2, 16),
  NUM_VFS: rw(4, 15, 0),
  SYSTEM_PAGE_SIZE: rw(8, 31, 0, 1),
};
export const SRIOV_VF_ENABLE = bits(2, 0);
export const SRIOV_TOTAL_VFS = bits(3, 31, 16);
export const SRIOV_NUM_VFS = bits(4, 15, 0);
export const SRIOV_FIRST_OFFSET = bits(5, 15, 0);
export const SRIOV_STRIDE = bits(5, 31, 16);
export const SRIOV_VF_DEVICE_ID = bits(6, 31, 16);
/** First of the six VF base address words. */
export const SRIOV_BAR_WORD = 9;
export const SRIOV_WORDS = 16;
