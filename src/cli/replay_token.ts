/** `xpsim replay TOKEN`: runs the history of a token again and tells what each command came to. */
import fs from 'node:fs';
import { InputError } from '../base/assert.js';
import { errnoName } from '../base/errno.js';
import { showCommand } from '../check/commands.js';
import { runHistory } from '../check/histories.js';
import type { Violation } from '../check/invariants/invariant.js';
import { layOutHost } from '../check/own_machine.js';
import { Timeline } from '../check/timeline.js';
import { parseToken, type Replay, seamsOfBug } from '../check/token.js';
import type { HostDescription } from '../inputs/host_description.js';
import { readHostPath } from './files.js';

export interface TokenOptions {
  readonly host?: string;
  readonly timeline?: string;
}

export const isToken = (text: string): boolean => text.startsWith('xp1.');

/** 1 when the history violates anything, else 0. @throws InputError */
export function replayToken(token: string, o: TokenOptions, write: (text: string) => void): number {
  const replay = parseToken(token);
  const host = hostFor(replay, o.host);
  const timeline = new Timeline();
  const profile = `${replay.release}${replay.fixed ? ' fixed' : ''}${replay.bug === undefined ? '' : ` with ${replay.bug}`}`;
  write(`Xen ${profile} on ${host?.name ?? JSON.stringify(replay.machine)}\n`);
  const violation = play(replay, host, timeline, write);
  if (o.timeline !== undefined) writeTimeline(o.timeline, timeline);
  write(violation === undefined ? 'holds: nothing is violated\n' : `${violation.id}: ${violation.what}\n`);
  return violation === undefined ? 0 : 1;
}

/** The machine of the token, if it is somebody's own. @throws InputError when it is not given */
export function hostFor(replay: Replay, given: string | undefined): HostDescription | undefined {
  if (replay.host === undefined) return undefined;
  if (given === undefined)
    throw new InputError('token', '', `is of the machine ${replay.host}`, 'name its description with --host');
  const { host } = readHostPath(given);
  layOutHost(host, replay.machine);
  return host;
}

function play(
  replay: Replay,
  host: HostDescription | undefined,
  timeline: Timeline,
  write: (text: string) => void,
): Violation | undefined {
  const { bug, commands, fixed, machine, release } = replay;
  const first = commands[0];
  if (first !== undefined) timeline.begin(showCommand(first));
  try {
    const { violation } = runHistory(
      { machine, commands },
      {
        release,
        fixed,
        host,
        seams: seamsOfBug(bug),
        sink: (e) => timeline.take(e),
        onCommand: (world, i) => {
          const rc = world.last?.rc;
          const said = rc === undefined ? '' : ` = ${errnoName(rc)}`;
          write(`${String(i + 1).padStart(3)}  ${showCommand(commands[i]!)}${said}\n`);
          timeline.end({ rc });
          const next = commands[i + 1];
          if (next !== undefined) timeline.begin(showCommand(next));
        },
      },
    );
    if (violation !== undefined) timeline.note(`${violation.id}: ${violation.what}`);
    return violation;
  } catch (e) {
    if (e instanceof InputError) throw e;
    return { id: 'ASSERT', what: e instanceof Error ? `${e.name}: ${e.message}` : String(e) };
  }
}

function writeTimeline(file: string, timeline: Timeline): void {
  try {
    fs.writeFileSync(file, timeline.json());
  } catch (e) {
    const code = (e as { code?: string }).code ?? '';
    throw new InputError(file, '', `cannot be written (${code})`, 'name another file');
  }
}
