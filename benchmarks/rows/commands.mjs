/**
 * Property tests: how many commands a second? Random devices go to random guests and back, many of them in vain, and a
 * model that knows owners alone says what each command must answer. The floor is half a pair of floor/assign.c, which
 * checks nothing.
 */
import fc from 'fast-check';
import { assignOp, createDomain, endpoint, hostBridge, hostOf, must, XorShift } from './machines.mjs';

const DEVICES = 8;
const DOMAINS = 8;
const BUSY = -16;
const NODEV = -19;
/** Commands that one generated array holds, and those of one run of fast-check's own. */
const ARRAY = 1000;
const RUN = 100;

/** The machine, and the owners as they should be. */
class World {
  constructor(lib) {
    const functions = [hostBridge(lib), ...Array.from({ length: DEVICES }, (_, i) => endpoint(lib, i + 1))];
    this.machine = lib.Machine.boot(hostOf(lib, functions));
    this.devices = functions.slice(1).map((f) => f.sbdf);
    for (const at of this.devices)
      must('quarantine', this.machine.hypercalls.domctl(assignOp(lib.DOMID.IO, at)));
    this.domids = Array.from({ length: DOMAINS }, () => createDomain(this.machine));
    this.pdevs = this.devices.map((at) => this.machine.xen.pdevs.get(at));
    this.op = assignOp(0, 0);
    this.home = lib.DOMID.IO;
    this.start = this.machine.snapshot();
    this.owners = new Int32Array(DEVICES).fill(this.home);
  }

  reset() {
    this.machine.restore(this.start);
    this.owners.fill(this.home);
  }

  /** Does what the low bits of `r` say, and checks the answer and the owner. */
  step(r) {
    const device = r & 7;
    const { op, owners } = this;
    op.machineSbdf = this.devices[device];
    op.domid = this.domids[(r >>> 3) & 7];
    const owner = owners[device];
    let expected = 0;
    if (((r >>> 6) & 1) === 0) {
      op.cmd = 'assign_device';
      if (owner !== this.home) expected = BUSY;
      else owners[device] = op.domid;
    } else {
      op.cmd = 'deassign_device';
      if (owner !== op.domid) expected = NODEV;
      else owners[device] = this.home;
    }
    const rc = this.machine.hypercalls.domctl(op);
    if (rc !== expected) throw new Error(`${op.cmd}: ${rc} instead of ${expected}`);
    if (this.pdevs[device].domain.domid !== owners[device])
      throw new Error('not the owner that the model has');
    return rc === 0 ? 1 : 0;
  }
}

/** What every variant of the row counts: commands that moved a device. About a fifth of them do. */
function checkMoves(moves, n) {
  if (!(moves > n / 20 && moves < n)) throw new Error(`${moves} of ${n} commands moved a device`);
}

function seeded(lib) {
  const world = new World(lib);
  const rng = new XorShift();
  return {
    run(n) {
      world.reset();
      rng.state = 0x12345;
      let moves = 0;
      for (let i = 0; i < n; i++) moves += world.step(rng.next() >>> 8);
      return moves;
    },
    check: (moves, _floor, n) => checkMoves(moves, n),
  };
}

function decoded(lib) {
  const world = new World(lib);
  const arrays = fc.uint32Array({ minLength: ARRAY, maxLength: ARRAY, size: 'max' });
  return {
    run(n) {
      let moves = 0;
      const property = fc.property(arrays, (words) => {
        world.reset();
        for (let i = 0; i < words.length; i++) moves += world.step(words[i]);
      });
      fc.assert(property, { numRuns: Math.ceil(n / ARRAY), seed: 7 });
      return moves;
    },
    check: (moves, _floor, n) => checkMoves(moves, Math.max(n, ARRAY)),
  };
}

/** A command as fast-check's model-based runs want it. */
class Command {
  constructor(bits) {
    this.bits = bits;
  }
  check() {
    return true;
  }
  run(counter, world) {
    counter.moves += world.step(this.bits);
  }
  toString() {
    return this.bits.toString(16);
  }
}

function modelBased(lib) {
  const world = new World(lib);
  const command = fc.integer({ min: 0, max: 127 }).map((bits) => new Command(bits));
  const commands = fc.commands([command], { maxCommands: RUN, size: 'max' });
  let done = 0;
  return {
    run(n) {
      const counter = { moves: 0 };
      done = 0;
      const property = fc.property(commands, (cmds) => {
        world.reset();
        done += cmds.commands.length;
        fc.modelRun(() => ({ model: counter, real: world }), cmds);
      });
      fc.assert(property, { numRuns: Math.ceil(n / RUN) * 2, seed: 7 });
      return counter.moves;
    },
    /** Runs have a hundred commands at most; how many there were is what the time is divided by. */
    operations: () => done,
    check: (moves) => checkMoves(moves, done),
  };
}

const row = (name, operations, prepare) => ({
  name: `commands, ${name}`,
  floor: ['assign', 'one'],
  floorParts: 2,
  operations,
  prepare,
});

export const commandRows = [
  row('seeded driver', 200_000, seeded),
  row('decoded array', 200_000, decoded),
  row('fc.commands(100)', 40_000, modelBased),
];
