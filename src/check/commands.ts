/** What a random history does, as plain data: it prints as a script, shrinks and replays. */
import fc from 'fast-check';
import { type MessageCommand, messageCommandsDrawn } from './message_commands.js';

/**
 * Devices and domains are named by small indices; the world takes them modulo what there is. Domain NOBODY is none.
 * A fault stays armed until a command that moves a device or a domain has used it or gone by.
 */
export type Command =
  | { readonly op: 'create'; readonly kind: 'hvm' | 'pv' | 'noiommu'; readonly share: boolean }
  | { readonly op: 'destroy'; readonly dom: number }
  | { readonly op: 'kill'; readonly dom: number } //       the guest shuts itself down; its id stays until destroy
  | { readonly op: 'assign'; readonly dev: number; readonly dom: number; readonly flags: number }
  | { readonly op: 'deassign'; readonly dev: number; readonly dom: number; readonly flags: number }
  | { readonly op: 'testAssign'; readonly dev: number; readonly dom: number }
  | { readonly op: 'quarantine'; readonly dev: number } // assign to d[IO], as pci-assignable-add
  | { readonly op: 'release'; readonly dev: number } //    deassign from d[IO], as pci-assignable-remove
  | { readonly op: 'bridge'; readonly dom: number } //     assign the host bridge
  | { readonly op: 'remove'; readonly dev: number }
  | { readonly op: 'add'; readonly dev: number }
  | { readonly op: 'addVf'; readonly dev: number; readonly pf: number } // as a virtual function of another
  | { readonly op: 'ats'; readonly dev: number; readonly page: number } // the device keeps a translation of its own
  | {
      /** A request to a page of the owner's leaves, and arrives when its unit has drained. */
      readonly op: 'launch';
      readonly dev: number;
      readonly rid: number;
      readonly page: number;
      readonly write: boolean;
    }
  | { readonly op: 'reset'; readonly dev: number; readonly bus: boolean } // the function, or all behind its bridge
  | { readonly op: 'populate'; readonly dom: number; readonly gfn: number; readonly order: 0 | 9 | 10 }
  | {
      readonly op: 'decrease';
      readonly dom: number;
      readonly gfn: number;
      /** Of a large page, its last small one. */
      readonly part?: boolean | undefined;
    }
  | {
      /** Small pages change their place in one batch. */
      readonly op: 'move';
      readonly dom: number;
      readonly from: number;
      readonly to: number;
      readonly count: number;
    }
  | {
      /** XENMEM_exchange: a small page of a PV guest for a new one. */
      readonly op: 'exchange';
      readonly dom: number;
      readonly page: number;
    }
  | {
      /** GNTTABOP_transfer: a small page of a PV guest becomes another one's. */
      readonly op: 'transfer';
      readonly dom: number;
      readonly to: number;
      readonly page: number;
    }
  | { readonly op: 'readOnly'; readonly dom: number; readonly gfn: number; readonly on: boolean } // type of a page
  | { readonly op: 'stall'; readonly ms: number } //       AMD units take no commands, VT-d's devices do not answer
  | {
      readonly op: 'sharing';
      readonly dom: number;
      /** `fork`: sharing, as a fork switches it on that may although the domain uses the IOMMU. */
      readonly what: 'paging' | 'sharing' | 'fork' | 'logdirty';
      readonly on: boolean;
    }
  | {
      readonly op: 'dma';
      readonly dev: number;
      /** 0: the function's own id; more: its phantom functions, then ids it shares with siblings. */
      readonly rid: number;
      readonly target: 'own' | 'dom0' | 'guest' | 'freed' | 'reserved' | 'wild';
      readonly page: number;
      readonly write: boolean;
    }
  | { readonly op: 'storm'; readonly dev: number; readonly faults: number; readonly gapMs: number }
  | {
      readonly op: 'fail';
      readonly site: 'alloc' | 'domainAlloc' | 'vendorOp' | 'cmpxchg' | 'flush';
      readonly nth: number;
    }
  | { readonly op: 'failFlush'; readonly nth: number } //  as fail; for searches that ask for it
  | { readonly op: 'failTwo'; readonly nth: number; readonly gap: number } // two vendor calls fail, one after the other
  | {
      /** Marks a page for populate-on-demand, or gives it back. */
      readonly op: 'pod';
      readonly dom: number;
      readonly back?: boolean | undefined;
    }
  | {
      /** The guest takes out a page that is mapped one to one for a device, or puts memory in its place. */
      readonly op: 'undoReserved';
      readonly dom: number;
      readonly page: number;
      readonly replace: boolean;
    }
  | {
      /** Device memory: permission, then the mapping. */
      readonly op: 'mmio';
      readonly dom: number;
      readonly dev: number;
      readonly add: boolean;
      readonly allow: boolean;
    }
  | MessageCommand
  | { readonly op: 'maskall'; readonly dev: number; readonly on: boolean }
  | { readonly op: 'clock'; readonly ms: number };

/** The domain index that names a domain which does not exist. */
export const NOBODY = 5;

const dev = fc.nat(7);
const dom = fc.nat(NOBODY);

interface Drawn {
  readonly weight: number;
  readonly arbitrary: fc.Arbitrary<Command>;
}
type Special = 'addVf' | 'ats' | 'failFlush';
type General = Exclude<Command['op'], Special>;

/** What needs a machine or a release of its own. */
const special: { readonly [Op in Special]: Drawn } = {
  addVf: { weight: 10, arbitrary: fc.record({ op: fc.constant('addVf' as const), dev, pf: dev }) },
  ats: { weight: 10, arbitrary: fc.record({ op: fc.constant('ats' as const), dev, page: fc.nat(7) }) },
  failFlush: {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant('failFlush' as const), nth: fc.integer({ min: 1, max: 3 }) }),
  },
};

/** What can be drawn, weighted so that devices change hands often and DMAs keep the caches warm. */
const drawn: { readonly [Op in General]: Drawn } = {
  create: {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('create' as const),
      kind: fc.constantFrom('hvm' as const, 'hvm' as const, 'pv' as const, 'noiommu' as const),
      share: fc.boolean(),
    }),
  },
  destroy: { weight: 2, arbitrary: fc.record({ op: fc.constant('destroy' as const), dom }) },
  kill: { weight: 1, arbitrary: fc.record({ op: fc.constant('kill' as const), dom }) },
  assign: {
    weight: 14,
    arbitrary: fc.record({
      op: fc.constant('assign' as const),
      dev,
      dom,
      flags: fc.constantFrom(0, 0, 0, 1, 1, 2),
    }),
  },
  deassign: {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant('deassign' as const),
      dev,
      dom,
      flags: fc.constantFrom(0, 0, 0, 0, 1),
    }),
  },
  testAssign: { weight: 1, arbitrary: fc.record({ op: fc.constant('testAssign' as const), dev, dom }) },
  quarantine: { weight: 5, arbitrary: fc.record({ op: fc.constant('quarantine' as const), dev }) },
  release: { weight: 2, arbitrary: fc.record({ op: fc.constant('release' as const), dev }) },
  bridge: { weight: 1, arbitrary: fc.record({ op: fc.constant('bridge' as const), dom }) },
  remove: { weight: 1, arbitrary: fc.record({ op: fc.constant('remove' as const), dev }) },
  add: { weight: 1, arbitrary: fc.record({ op: fc.constant('add' as const), dev }) },
  populate: {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('populate' as const),
      dom,
      gfn: fc.nat(7),
      order: fc.constantFrom(0 as const, 0 as const, 9 as const),
    }),
  },
  readOnly: {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('readOnly' as const),
      dom,
      gfn: fc.nat(7),
      on: fc.constantFrom(true, true, false),
    }),
  },
  decrease: {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('decrease' as const),
      dom,
      gfn: fc.nat(7),
      part: fc.boolean(),
    }),
  },
  move: {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('move' as const),
      dom,
      from: fc.nat(5),
      to: fc.nat(5),
      count: fc.integer({ min: 1, max: 3 }),
    }),
  },
  stall: {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('stall' as const), ms: fc.constantFrom(1, 150, 400, 2500) }),
  },
  exchange: {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('exchange' as const), dom, page: fc.nat(7) }),
  },
  transfer: {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('transfer' as const), dom, to: dom, page: fc.nat(7) }),
  },
  launch: {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('launch' as const),
      dev,
      rid: fc.nat(4),
      page: fc.nat(7),
      write: fc.boolean(),
    }),
  },
  reset: {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('reset' as const), dev, bus: fc.boolean() }),
  },
  sharing: {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('sharing' as const),
      dom,
      what: fc.constantFrom('paging' as const, 'sharing' as const, 'logdirty' as const, 'fork' as const),
      on: fc.boolean(),
    }),
  },
  dma: {
    weight: 8,
    arbitrary: fc.record({
      op: fc.constant('dma' as const),
      dev,
      rid: fc.nat(4),
      target: fc.constantFrom('own', 'own', 'dom0', 'guest', 'freed', 'reserved', 'wild'),
      page: fc.nat(7),
      write: fc.boolean(),
    }) as fc.Arbitrary<Command>,
  },
  storm: {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('storm' as const),
      dev,
      faults: fc.integer({ min: 1, max: 12 }),
      gapMs: fc.constantFrom(1, 1, 20),
    }),
  },
  fail: {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('fail' as const),
      site: fc.constantFrom('alloc' as const, 'alloc' as const, 'vendorOp' as const, 'cmpxchg' as const),
      nth: fc.integer({ min: 1, max: 6 }),
    }),
  },
  failTwo: {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant('failTwo' as const),
      nth: fc.integer({ min: 1, max: 3 }),
      gap: fc.integer({ min: 1, max: 2 }),
    }),
  },
  pod: {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('pod' as const),
      dom,
      back: fc.constantFrom(false, false, true),
    }),
  },
  undoReserved: {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('undoReserved' as const),
      dom,
      page: fc.nat(15),
      replace: fc.boolean(),
    }),
  },
  mmio: {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('mmio' as const),
      dom,
      dev,
      add: fc.boolean(),
      allow: fc.boolean(),
    }),
  },
  ...messageCommandsDrawn,
  maskall: {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('maskall' as const), dev, on: fc.boolean() }),
  },
  clock: {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('clock' as const), ms: fc.constantFrom(1, 11, 100) }),
  },
};

/** Kinds of commands that any machine can be given. */
export const commandOps = Object.keys(drawn) as readonly General[];

/** Commands of some kinds only, of all that any machine can be given when not told. */
export const arbCommandOf = (ops: readonly string[] = commandOps): fc.Arbitrary<Command> =>
  fc.oneof(
    ...Object.entries({ ...drawn, ...special }).flatMap(([op, one]) => (ops.includes(op) ? [one] : [])),
  );

export const arbCommand: fc.Arbitrary<Command> = arbCommandOf();

/** Steps that will fail: one of any site, a flush, or two calls of the vendor's driver. */
export const arbFault: fc.Arbitrary<Command> = arbCommandOf(['fail', 'failFlush', 'failTwo']);

/** 4 MiB for a PV guest: one request to map, and more than a table of small pages holds. */
export const arbLargePage: fc.Arbitrary<Command> = fc.record({
  op: fc.constant('populate' as const),
  dom,
  gfn: fc.nat(7),
  order: fc.constant(10 as const),
});

/** One line of a readable script. */
export function showCommand(c: Command): string {
  const { op, ...args } = c;
  return `${op} ${Object.entries(args)
    .map(([k, v]) => `${k}=${v}`)
    .join(' ')}`.trimEnd();
}
