/** Commands on interrupts of devices, as data: what they are, how they are drawn, and how a token is read. */
import fc from 'fast-check';
import { z } from 'zod';

/** A write to 0xFEExxxxx. */
export interface Message {
  readonly address: number;
  readonly data: number;
}

export type MessageCommand =
  | {
      /** The toolstack maps an interrupt of a device to a domain: its owner, or `dom`, whoever that is. */
      readonly op: 'mapMsi';
      readonly dev: number;
      readonly dom: number;
      readonly owner: boolean;
      readonly kind: 'msi' | 'multi' | 'msix';
      /** Vectors of a group, or the entry of the table. */
      readonly nr: number;
      /** For an interrupt that is mapped already: the `which`th, counted from 1; 0 is a new one. */
      readonly again: number;
    }
  | { readonly op: 'unmapMsi'; readonly which: number } // the `which`th mapped interrupt of all guests
  | { readonly op: 'bindMsi'; readonly which: number; readonly on: boolean }
  | {
      /** The device sends a message of those that were ever given out, by an id that it may use. */
      readonly op: 'raise';
      readonly dev: number;
      readonly rid: number;
      readonly which: number;
      /** The CPU that takes it is busy with something else for that long. */
      readonly rounds: number;
    }
  /** The device puts a message of its own where Xen wrote one. */
  | { readonly op: 'forge'; readonly dev: number; readonly data: number };

export const isMessageCommand = (c: { readonly op: string }): c is MessageCommand =>
  Object.hasOwn(messageCommandsDrawn, c.op);

const dev = fc.nat(7);
const which = fc.nat(7);

export const messageCommandsDrawn: {
  readonly [Op in MessageCommand['op']]: {
    readonly weight: number;
    readonly arbitrary: fc.Arbitrary<MessageCommand>;
  };
} = {
  mapMsi: {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('mapMsi' as const),
      dev,
      dom: fc.nat(3),
      owner: fc.constantFrom(true, true, true, false),
      kind: fc.constantFrom('msi' as const, 'multi' as const, 'msix' as const),
      nr: fc.constantFrom(1, 2, 4, 3, 9),
      again: fc.constantFrom(0, 0, 0, 1, 2),
    }),
  },
  unmapMsi: { weight: 1, arbitrary: fc.record({ op: fc.constant('unmapMsi' as const), which }) },
  bindMsi: {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('bindMsi' as const),
      which,
      on: fc.constantFrom(true, true, false),
    }),
  },
  raise: {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('raise' as const),
      dev,
      rid: fc.nat(4),
      which,
      rounds: fc.constantFrom(0, 1, 3),
    }),
  },
  forge: {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('forge' as const),
      dev,
      data: fc.constantFrom(0x4021, 0x0200, 0x0400, 0x0000),
    }),
  },
};

const small = z.number().int().min(0).max(100_000);

export const messageCommandSchemas = [
  z.strictObject({
    op: z.literal('mapMsi'),
    dev: small,
    dom: small,
    owner: z.boolean(),
    kind: z.enum(['msi', 'multi', 'msix']),
    nr: small.max(64),
    again: small,
  }),
  z.strictObject({ op: z.literal('unmapMsi'), which: small }),
  z.strictObject({ op: z.literal('bindMsi'), which: small, on: z.boolean() }),
  z.strictObject({ op: z.literal('raise'), dev: small, rid: small, which: small, rounds: small.max(1000) }),
  z.strictObject({ op: z.literal('forge'), dev: small, data: small }),
] as const;
