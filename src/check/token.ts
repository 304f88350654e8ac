/** One line that replays a failure: release, profile, machine and commands, so that no generator has to stay the same. */
import { z } from 'zod';
import { InputError } from '../base/assert.js';
import { findBug } from '../hypervisor/bugs/catalogue.js';
import type { Seams } from '../hypervisor/seams.js';
import type { Command } from './commands.js';
import type { MachineSpec } from './machines.js';
import { messageCommandSchemas } from './message_commands.js';
import { commonSlots, rareSlots } from './slots.js';

export interface Replay {
  readonly release: string;
  readonly fixed: boolean;
  /** A historical bug that is switched on. */
  readonly bug?: string | undefined;
  /** Name of the description of a machine that somebody owns: it must be given again. */
  readonly host?: string | undefined;
  readonly machine: MachineSpec;
  readonly commands: readonly Command[];
  /** Hypercalls at once after the commands, by their names in the kit, and the schedule of their vCPUs. */
  readonly race?: { readonly calls: readonly string[]; readonly schedule: string } | undefined;
}

const small = z.number().int().min(0).max(100_000);
const index = { dev: small, dom: small };

const machineSchema = z.strictObject({
  vendor: z.enum(['vtd', 'amd']),
  slots: z
    .array(z.enum([...commonSlots, ...rareSlots]))
    .min(1)
    .max(16),
  quarantine: z.enum(['none', 'basic', 'scratch-page']),
  dom0: z.enum(['relaxed', 'strict', 'passthrough']),
  cachingMode: z.boolean(),
  reserved: z.number().int().min(-1).max(16),
  twoUnits: z.boolean(),
  sharedReserved: z.boolean().default(false),
  fewIds: z.boolean().default(false),
  threeLevels: z.boolean().default(false),
  phantomOption: z.boolean().default(false),
  gapInReserved: z.boolean().default(false),
  reservedByOption: z.boolean().default(false),
  unsnooped: z.boolean().default(false),
  first: small.optional(),
  ats: z.boolean().optional(),
  messages: z.boolean().optional(),
  superpages: z.boolean().optional(),
  units: z.number().int().min(1).max(3).optional(),
  segments: z.number().int().min(1).max(4).optional(),
  cpus: z.number().int().min(1).max(8).optional(),
});

const commandSchema = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('create'), kind: z.enum(['hvm', 'pv', 'noiommu']), share: z.boolean() }),
  z.strictObject({ op: z.literal('destroy'), dom: small }),
  z.strictObject({ op: z.literal('kill'), dom: small }),
  z.strictObject({ op: z.literal('assign'), ...index, flags: small }),
  z.strictObject({ op: z.literal('deassign'), ...index, flags: small }),
  z.strictObject({ op: z.literal('testAssign'), ...index }),
  z.strictObject({ op: z.literal('quarantine'), dev: small }),
  z.strictObject({ op: z.literal('release'), dev: small }),
  z.strictObject({ op: z.literal('bridge'), dom: small }),
  z.strictObject({ op: z.literal('remove'), dev: small }),
  z.strictObject({ op: z.literal('add'), dev: small }),
  z.strictObject({ op: z.literal('addVf'), dev: small, pf: small }),
  z.strictObject({ op: z.literal('ats'), dev: small, page: small }),
  z.strictObject({ op: z.literal('launch'), dev: small, rid: small, page: small, write: z.boolean() }),
  z.strictObject({ op: z.literal('reset'), dev: small, bus: z.boolean() }),
  z.strictObject({ op: z.literal('exchange'), dom: small, page: small }),
  z.strictObject({ op: z.literal('transfer'), dom: small, to: small, page: small }),
  z.strictObject({
    op: z.literal('populate'),
    dom: small,
    gfn: small,
    order: z.union([z.literal(0), z.literal(9), z.literal(10)]),
  }),
  z.strictObject({ op: z.literal('decrease'), dom: small, gfn: small, part: z.boolean().optional() }),
  z.strictObject({ op: z.literal('move'), dom: small, from: small, to: small, count: small.max(16) }),
  z.strictObject({ op: z.literal('readOnly'), dom: small, gfn: small, on: z.boolean() }),
  z.strictObject({ op: z.literal('stall'), ms: small.max(10_000) }),
  z.strictObject({
    op: z.literal('sharing'),
    dom: small,
    what: z.enum(['paging', 'sharing', 'fork', 'logdirty']),
    on: z.boolean(),
  }),
  z.strictObject({
    op: z.literal('dma'),
    dev: small,
    rid: small,
    target: z.enum(['own', 'dom0', 'guest', 'freed', 'reserved', 'wild']),
    page: small,
    write: z.boolean(),
  }),
  z.strictObject({
    op: z.literal('storm'),
    dev: small,
    faults: z.number().int().min(1).max(100),
    gapMs: small,
  }),
  z.strictObject({
    op: z.literal('fail'),
    site: z.enum(['alloc', 'domainAlloc', 'vendorOp', 'cmpxchg', 'flush']),
    nth: small,
  }),
  z.strictObject({ op: z.literal('pod'), dom: small, back: z.boolean().optional() }),
  z.strictObject({ op: z.literal('undoReserved'), dom: small, page: small, replace: z.boolean() }),
  z.strictObject({ op: z.literal('mmio'), dom: small, dev: small, add: z.boolean(), allow: z.boolean() }),
  z.strictObject({ op: z.literal('failFlush'), nth: small }),
  z.strictObject({ op: z.literal('failTwo'), nth: small, gap: small }),
  ...messageCommandSchemas,
  z.strictObject({ op: z.literal('maskall'), dev: small, on: z.boolean() }),
  z.strictObject({ op: z.literal('clock'), ms: small }),
]);

const replaySchema = z.strictObject({
  release: z.string().max(8),
  fixed: z.boolean(),
  bug: z.string().max(24).optional(),
  host: z.string().max(4096).optional(),
  machine: machineSchema,
  commands: z.array(commandSchema).max(10_000),
  race: z
    .strictObject({
      calls: z.array(z.string().max(40)).min(2).max(4),
      schedule: z.string().max(100_000),
    })
    .optional(),
});

const PREFIX = 'xp1.';
const TOKEN_MAX = 1_000_000;

/** A text as a token has it: other letters than Latin ones are lost. */
export const nameInToken = (text: string): string => text.replace(/[^\0-\x7f]/g, '?');

/** `xp1.` and the replay as base64url of JSON. */
export function formatToken(r: Replay): string {
  // Names of hosts may have any letters; those of base64 are Latin.
  const { release, fixed, bug, host, machine, commands, race } = r;
  const text = JSON.stringify({ release, fixed, bug, host, machine, commands, race });
  const base64 = btoa(nameInToken(text));
  return PREFIX + base64.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** @throws InputError when it is no token, or one cut short */
export function parseToken(token: string): Replay {
  const bad = (): InputError =>
    new InputError(
      'token',
      '',
      `"${token.slice(0, 24)}" is not a replay token`,
      'copy it whole, from xp1. to its end',
    );
  if (!token.startsWith(PREFIX) || token.length > TOKEN_MAX) throw bad();
  let json: unknown;
  try {
    json = JSON.parse(atob(token.slice(PREFIX.length).replaceAll('-', '+').replaceAll('_', '/')));
  } catch {
    throw bad();
  }
  const parsed = replaySchema.safeParse(json);
  if (!parsed.success) throw bad();
  return parsed.data;
}

/** A token whose commands run one after the other, on a machine that is known. @throws InputError */
export function parseForOneVcpu(token: string, hostGiven: boolean): Replay {
  const replay = parseToken(token);
  if (replay.race !== undefined)
    throw new InputError('token', '', 'is of hypercalls at once', 'run it with xpsim replay');
  if (replay.host === undefined || hostGiven) return replay;
  throw new InputError('token', '', `is of the machine ${replay.host}`, 'give its description as host');
}

/** @throws InputError for a bug that is not in the catalogue */
export function seamsOfBug(id: string | undefined): Partial<Seams> | undefined {
  if (id === undefined) return undefined;
  const bug = findBug(id);
  if (bug === undefined)
    throw new InputError('token', '', `${id} is not in the catalogue`, 'use it with the xpsim that made it');
  return bug.seams;
}
