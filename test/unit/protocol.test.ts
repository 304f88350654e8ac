/** Every state of assignment in the small: as many as Spin finds for the same processes, and what it finds when Xen forgets. */
import { expect, test } from 'vitest';
import { AssignProtocol } from '../../src/check/protocol/assign_protocol.js';
import { exploreStates } from '../../src/check/protocol/explore_states.js';

/**
 * `spin -a -o1 -o2 -o3 -DNDEV=… -DNDOM=… benchmarks/floor/protocol.pml && cc -DSAFETY -DNOREDUCE pan.c`, Spin 6.5.2. Its
 * transitions are one more: it counts the start of `init`.
 */
test.each([
  { devices: 1, guests: 1, states: 6_649, transitions: 22_756 },
  { devices: 2, guests: 1, states: 83_239, transitions: 334_348 },
  { devices: 1, guests: 2, states: 259_417, transitions: 1_184_654 },
])('$devices devices and $guests guests have the states that Spin finds', ({ devices, guests, ...spin }) => {
  const found = exploreStates(new AssignProtocol(devices, guests));
  expect(found).toEqual({ states: spin.states, transitions: spin.transitions - 1 });
});

test('without the flush of the context cache a device reaches the domain that it left', () => {
  const { violation } = exploreStates(new AssignProtocol(1, 1, { contextFlush: true }));
  expect(violation?.what).toBe('device 0 reaches domain 1, which does not own it');
  expect(violation?.steps.at(-1)).toBe('device 0: DMA');
});

test('without the flush after an unmapping a device reaches a page that may be anybody’s', () => {
  const { violation } = exploreStates(new AssignProtocol(1, 1, { unmapFlush: true }));
  expect(violation?.what).toBe('device 0 reaches the page that domain 1 has unmapped');
  const own = violation!.steps.filter((s) => s.startsWith('domain 1'));
  expect(own).toEqual(
    ['begin', 'revive', 'map', 'begin', 'unmap', 'flush', 'free'].map((s) => `domain 1: ${s}`),
  );
});

test('a space larger than asked for is refused', () => {
  expect(() => exploreStates(new AssignProtocol(1, 1), 1000)).toThrow('more than 1000 states');
});
