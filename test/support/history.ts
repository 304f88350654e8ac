/** Histories as data, and how one edition of the built package plays them. */
import fc from 'fast-check';
import type { HostDescription } from '../../src/inputs/host_description.js';
import { ROOT } from './built.js';
import { DEVICES } from './hosts.js';

export type Edition = typeof import('../../src/index.js');

/** The package as it is shipped. */
export const load = (edition: 'co' | 'sync'): Promise<Edition> =>
  import(/* @vite-ignore */ `${ROOT}dist/${edition}/index.js`) as Promise<Edition>;

export type Step =
  | { readonly op: 'create'; readonly hvm: boolean; readonly share: boolean }
  | { readonly op: 'destroy'; readonly domid: number }
  | {
      readonly op: 'populate' | 'decrease';
      readonly domid: number;
      readonly gfn: number;
      readonly count: number;
    }
  | {
      readonly op: 'assign_device' | 'deassign_device' | 'test_assign_device';
      readonly domid: number;
      readonly sbdf: number;
    }
  | { readonly op: 'pci_device_add' | 'pci_device_remove'; readonly sbdf: number }
  | {
      readonly op: 'dma';
      readonly sbdf: number;
      readonly phantom: boolean;
      readonly frame: number;
      readonly write: boolean;
    }
  | { readonly op: 'fail'; readonly nth: number }
  | { readonly op: 'interrupts' | 'keys' }
  | { readonly op: 'advance'; readonly ns: number };

const domid = fc.nat(4);
const device = fc.constantFrom(...Object.values(DEVICES));
const gfn = fc.nat(15);
const op = <T extends string>(...ops: readonly T[]) => fc.constantFrom(...ops);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: op('create'), hvm: fc.boolean(), share: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ op: op('destroy'), domid }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: op('populate', 'populate', 'decrease'),
      domid,
      gfn,
      count: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 8,
    arbitrary: fc.record({
      op: op('assign_device', 'assign_device', 'deassign_device', 'test_assign_device'),
      domid,
      sbdf: device,
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: op('pci_device_add', 'pci_device_remove'), sbdf: device }) },
  {
    weight: 6,
    arbitrary: fc.record({
      op: op('dma'),
      sbdf: device,
      phantom: fc.boolean(),
      frame: fc.nat(31),
      write: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: op('fail'), nth: fc.integer({ min: 1, max: 8 }) }) },
  { weight: 2, arbitrary: fc.record({ op: op('interrupts', 'keys') }) },
  { weight: 1, arbitrary: fc.record({ op: op('advance'), ns: fc.nat(2_000_000_000) }) },
);
export const histories = fc.array(step, { minLength: 1, maxLength: 40, size: 'max' });

export type Machine = ReturnType<Edition['Machine']['boot']>;

export interface Story {
  /** What each step answered. */
  readonly answers: unknown[];
  /** Every event, as JSON. */
  readonly events: string[];
  readonly console: readonly string[];
}

/** Boots `host` in one edition and does the steps; a crash of the host ends it, and is part of the story. */
export function play(edition: Edition, host: HostDescription, steps: readonly Step[]): Story {
  const { machine, events } = bootListening(edition, host);
  const answers = go(edition, machine, steps);
  return { answers, events, console: machine.hypercalls.readConsole(false) };
}

/** A machine and everything that it says from its first moment on. */
export function bootListening(
  edition: Edition,
  host: HostDescription,
): { readonly machine: Machine; readonly events: string[] } {
  const events: string[] = [];
  const sink = (e: object): void => void events.push(JSON.stringify(e));
  return { machine: edition.Machine.boot(host, { fixed: true, sinks: [sink] }), events };
}

/** Does the steps up to the first crash; the answers. */
export function go(edition: Edition, machine: Machine, steps: readonly Step[]): unknown[] {
  const answers: unknown[] = [];
  for (const s of steps) {
    try {
      answers.push(doStep(edition, machine, s));
    } catch (error) {
      answers.push(String(error));
      break;
    }
  }
  return answers;
}

function doStep({ runAlone }: Edition, m: Machine, s: Step): unknown {
  const { hypercalls } = m;
  switch (s.op) {
    case 'create': {
      const flags = { hvm: s.hvm, hap: s.hvm, iommu: true };
      const handle = '00000000-0000-0000-0000-000000000000';
      const wanted = { domid: 0, flags, iommuNoSharept: !s.share, maxVcpus: 1, handle };
      const created = { cmd: 'createdomain' as const, ...wanted };
      return [runAlone(hypercalls.domctl(created)), created.domid];
    }
    case 'destroy':
      return runAlone(hypercalls.domctl({ cmd: 'destroydomain', domid: s.domid }));
    case 'populate':
    case 'decrease': {
      const cmd = s.op === 'populate' ? 'populate_physmap' : 'decrease_reservation';
      const gfns = Array.from({ length: s.count }, (_, i) => s.gfn + i);
      return runAlone(hypercalls.memoryOp({ cmd, domid: s.domid, gfns, order: 0 }));
    }
    case 'assign_device':
    case 'deassign_device':
    case 'test_assign_device':
      return runAlone(
        hypercalls.domctl({ cmd: s.op, domid: s.domid, dev: 0, machineSbdf: s.sbdf, flags: 0 }),
      );
    case 'pci_device_add':
    case 'pci_device_remove':
      return runAlone(hypercalls.physdevOp({ ...place(s.sbdf), cmd: s.op, flags: 0 }));
    case 'dma': {
      const rid = (s.sbdf & 0xffff) + (s.phantom ? 4 : 0);
      return m.dma(s.sbdf, { address: s.frame * 4096, bytes: 4, write: s.write, rid });
    }
    case 'fail':
      return m.hw.faults.failNth(s.nth);
    case 'interrupts':
      return runAlone(m.serviceInterrupts());
    case 'keys':
      return runAlone(hypercalls.debugKeys('Q'));
    case 'advance':
      return m.hw.clock.advance(s.ns);
  }
}

const place = (sbdf: number) => ({ seg: sbdf >>> 16, bus: (sbdf >>> 8) & 0xff, devfn: sbdf & 0xff });
