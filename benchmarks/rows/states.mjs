/**
 * Every state of assignment in the small (src/check/protocol), unreduced: the floor is the checker that Spin generates
 * for the same processes. Both must find the same states.
 */
import { load } from '../harness.mjs';

/** States of two devices and two guests, and of one device and two guests for a quick look, as Spin counts them. */
const STATES = 5_665_870;
const QUICK_STATES = 259_417;

export const stateRows = [
  {
    name: 'protocol states, unreduced',
    operations: STATES,
    floor: ['spin', 'states'],
    long: true,
    prepare: async () => {
      const { AssignProtocol, exploreStates } = await load('check/index.js');
      let last = 0;
      return {
        run: (n) => {
          last = exploreStates(new AssignProtocol(n === STATES ? 2 : 1, 2)).states;
          return last;
        },
        operations: () => last,
        check: (states, floorStates, n) => {
          const expected = n === STATES ? STATES : QUICK_STATES;
          if (states !== expected || (floorStates ?? expected) !== expected)
            throw new Error(`${states} states, Spin ${floorStates}, and not ${expected}`);
        },
      };
    },
  },
];
