/** One PCI function as hardware: its configuration space, where it sits, and what its registers make it do. */
import { bits, type Field } from '../base/layout.js';
import type { Sbdf } from '../base/sbdf.js';
import type { MmioDevice } from '../sim/mmio.js';
import type { Bar } from './bars.js';
import { type ConfigLayout, layoutOf } from './config_layout.js';
import { ConfigSpace, type ConfigWords, type ResetKind } from './config_space.js';
import * as R from './registers.js';

/** A byte of configuration space. */
interface RegisterByte {
  readonly offset: number;
  readonly value: number;
}

/** What a function is made from: a FunctionDescription of the inputs is one. */
export interface PciFunctionInit {
  readonly sbdf: Sbdf;
  /** 64, 256 or 4096 bytes of config space. */
  readonly config: Uint8Array;
  /** Sizes of the base address registers by index, 6 the ROM, 7..12 one VF's. Undefined: guessed; 0: none. */
  readonly barBytes?: readonly (number | undefined)[];
  /** Its virtual functions: what their registers hold beside what those of any do. */
  readonly virtual?: { readonly registers?: readonly RegisterByte[] };
  readonly name?: string;
  readonly driver?: string;
  readonly irq?: number;
}

/** How a bridge treats the requester id of what it forwards upstream. */
export const FORWARD = {
  /** Root ports and switch ports: the id passes. */
  passes: 0,
  /** PCIe-to-PCI bridge: (secondary bus, 0, 0) for all behind it. */
  secondaryBus: 1,
  /** Conventional bridge, or PCI-to-PCIe: the bridge's own id. */
  own: 2,
} as const;
export type Forward = (typeof FORWARD)[keyof typeof FORWARD];

/** A physical bus: below a bridge, or a root bus with a number that hardware fixes. */
export class PciBus {
  /** By devfn, ascending. */
  readonly functions: PciFunction[] = [];
  constructor(
    readonly seg: number,
    readonly parent: PciFunction | undefined,
    private readonly rootNumber: number,
  ) {}
  /** The number that software gave it. */
  get number(): number {
    return this.parent === undefined ? this.rootNumber : this.parent.secondaryBus;
  }
}

const COMMAND_MASTER = bits(1, 2);
const COMMAND_MEMORY = bits(1, 1);
const PM_STATE = bits(1, 1, 0);
const BUS_SECONDARY = bits(6, 15, 8);
const BUS_SUBORDINATE = bits(6, 23, 16);
const BRIDGE_RESET = bits(15, 22);

const NO_FUNCTIONS: readonly PciFunction[] = Object.freeze([]);

export class PciFunction {
  readonly config: ConfigSpace;
  readonly devfn: number;
  readonly isBridge: boolean;
  readonly forward: Forward;
  /** Word index of a capability in config space; 0 when the function has none. */
  readonly pm: number;
  readonly exp: number;
  readonly af: number;
  readonly acs: number;
  readonly sriov: number;
  /** The bus below a bridge. */
  readonly secondary: PciBus | undefined;
  /** PCI Express: the bus number of the last config write that arrived; requests carry it (PCIe 2.2.6.2). */
  capturedBus: number;
  /** False once it was unplugged. */
  present = true;
  /** Virtual functions alive now, and for one of them its physical function. */
  vfs: readonly PciFunction[] = NO_FUNCTIONS;
  /** What answers in each base address register's range, by index. Undefined: nothing does. */
  regions: (MmioDevice | undefined)[] | undefined = undefined;

  constructor(
    readonly init: PciFunctionInit,
    readonly bus: PciBus,
    readonly pf?: PciFunction,
    readonly vfIndex = 0,
    layout: ConfigLayout = layoutOf(init.config, init.barBytes),
    /** Where its configuration space lies, and from which word on, as dumped; undefined: by itself. */
    store?: ConfigWords,
    at?: number,
  ) {
    this.config = new ConfigSpace(init.config, init.barBytes, layout, store, at);
    this.devfn = init.sbdf & 0xff;
    this.pm = layout.pm;
    this.exp = layout.exp;
    this.af = layout.af;
    this.acs = layout.acs;
    this.sriov = layout.sriov;
    this.isBridge = layout.header === 1 || layout.header === 2;
    this.forward = forwardOf(this);
    this.secondary = this.isBridge ? new PciBus(bus.seg, this, 0) : undefined;
    this.capturedBus = (init.sbdf >>> 8) & 0xff;
    // A dump catches idle functions asleep; a machine that has just been switched on finds them in D0.
    if (this.powerState !== 0) this.config.put(this.pm + 1, this.config.word(this.pm + 1) & ~3);
  }

  /** Where config cycles find it now. */
  get sbdf(): Sbdf {
    return ((this.bus.seg << 16) | this.bdfOn(this.bus.number)) >>> 0;
  }
  /** The requester id of its own requests. */
  get rid(): number {
    if (this.pf !== undefined) return this.bdfOn(this.pf.capturedBus);
    return this.bdfOn(this.exp !== 0 ? this.capturedBus : this.bus.number);
  }
  private bdfOn(bus: number): number {
    const pf = this.pf;
    if (pf === undefined) return (bus << 8) | this.devfn;
    const stride = pf.field(pf.sriov, R.SRIOV_STRIDE);
    const first = pf.field(pf.sriov, R.SRIOV_FIRST_OFFSET);
    return ((bus << 8) + pf.devfn + first + this.vfIndex * stride) & 0xffff;
  }

  get vendor(): number {
    return this.pf === undefined ? this.config.word(0) & 0xffff : this.pf.vendor;
  }
  get device(): number {
    if (this.pf !== undefined) return this.pf.field(this.pf.sriov, R.SRIOV_VF_DEVICE_ID);
    return this.config.word(0) >>> 16;
  }
  /** Base class, sub-class and programming interface, 24 bits. */
  get classCode(): number {
    return this.config.word(2) >>> 8;
  }
  get revision(): number {
    return this.config.word(2) & 0xff;
  }
  /** Type of a PCI Express port, -1 for a conventional function. @see EXP_TYPE */
  get expType(): number {
    return this.exp === 0 ? -1 : this.field(this.exp, R.EXP_PORT_TYPE);
  }

  get secondaryBus(): number {
    return this.config.field(0, BUS_SECONDARY);
  }
  get subordinateBus(): number {
    return this.config.field(0, BUS_SUBORDINATE);
  }
  /** A bridge that holds everything below it in reset. */
  get holdsReset(): boolean {
    return this.isBridge && this.config.field(0, BRIDGE_RESET) !== 0;
  }

  get busMaster(): boolean {
    return this.config.field(0, COMMAND_MASTER) !== 0;
  }
  get memoryDecode(): boolean {
    return this.config.field(0, COMMAND_MEMORY) !== 0;
  }
  /** 0 is D0, 3 is D3hot. */
  get powerState(): number {
    return this.pm === 0 ? 0 : this.field(this.pm, PM_STATE);
  }
  /** May it issue memory requests? */
  get canMaster(): boolean {
    return this.present && this.busMaster && this.powerState === 0;
  }

  /** A field of a capability by the word index where the capability starts. */
  field(at: number, f: Field): number {
    return at + f.word < this.config.length ? this.config.field(at, f) : 0;
  }

  /** Address of a base address register, -1 while the function does not decode memory. */
  barAddress(bar: Bar): number {
    return this.memoryDecode && this.powerState === 0 ? this.config.barAddress(bar) : -1;
  }

  /** A reset of this function alone. The bus number it captured is lost with a reset of the link. */
  reset(kind: ResetKind): void {
    this.config.reset(kind);
    if (kind === 'bus') this.capturedBus = 0;
  }
}

function forwardOf(fn: PciFunction): Forward {
  switch (fn.expType) {
    case R.EXP_TYPE.ROOT_PORT:
    case R.EXP_TYPE.UPSTREAM:
    case R.EXP_TYPE.DOWNSTREAM:
      return FORWARD.passes;
    case R.EXP_TYPE.PCIE_TO_PCI:
      return FORWARD.secondaryBus;
    default:
      return FORWARD.own;
  }
}
