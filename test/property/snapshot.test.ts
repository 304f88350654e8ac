import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { arbCommand, type Command } from '../../src/check/commands.js';
import { arbMachine, type MachineSpec } from '../../src/check/machines.js';
import { World } from '../../src/check/world.js';
import { restoreSnapshot, takeSnapshot } from '../../src/sim/snapshot.js';

/** What a history showed: each answer, each event, and at the end memory and every configuration space. */
function tell(world: World, commands: readonly Command[]): unknown {
  const said: unknown[] = [];
  for (const c of commands) {
    let threw = '';
    try {
      world.apply(c);
    } catch (error) {
      threw = String(error);
    }
    said.push(threw === '' ? [world.last?.rc, world.last?.events] : threw);
    if (threw !== '') break;
  }
  return [said, ...stateOf(world)];
}

function stateOf({ machine }: World): unknown[] {
  const { ram, pci, clock, heap } = machine.hw;
  const words = createHash('sha1')
    .update(ram.words.subarray(0, (ram.touched + 1) * 1024))
    .digest('hex');
  const config = pci.functions().map((fn) => [fn.sbdf, [...fn.config.save()]]);
  return [words, ram.touched, config, clock.nowNs, heap.freeFrames, machine.hypercalls.readConsole(false)];
}

const history = fc.array(arbCommand, { maxLength: 25, size: 'max' });

test.each(['vtd', 'amd'] as const)('restoring a machine equals replaying it: %s', (vendor) => {
  fc.assert(
    fc.property(arbMachine(vendor), history, history, history, (spec, before, astray, after) => {
      const world = new World(spec);
      tell(world, before);
      // The machine by its own methods; what the world keeps beside it with the same means.
      const machine = world.machine.snapshot();
      const beside = takeSnapshot(world, { constants: [world.layout, world.machine] });
      tell(world, astray);
      world.machine.restore(machine);
      restoreSnapshot(beside);
      expect(tell(world, after)).toEqual(replayed(spec, before, after));
    }),
    { numRuns: 40 },
  );
});

function replayed(spec: MachineSpec, before: readonly Command[], after: readonly Command[]): unknown {
  const world = new World(spec);
  tell(world, before);
  return tell(world, after);
}
