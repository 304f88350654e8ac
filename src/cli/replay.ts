/** `xpsim replay`: boots the board of a recording, runs its commands, and says what is equal. */
import fs from 'node:fs';
import path from 'node:path';
import { InputError } from '../base/assert.js';
import { boardOf } from './golden/board.js';
import {
  compareRecord,
  type Difference,
  type FieldResult,
  matchAcrossRecords,
  unrecordedLines,
} from './golden/compare.js';
import { RecordedHost, type ReplayRecord } from './golden/recorded_host.js';
import { type GoldenRecord, readRecording } from './golden/recording.js';
import { reportLines, Totals } from './golden/report.js';

export interface ReplayOptions {
  readonly topology?: string;
  readonly json?: boolean;
  readonly diff?: boolean;
}

/** One record with what came of it. */
export interface Replayed {
  readonly index: number;
  readonly theirs: GoldenRecord;
  readonly ours: ReplayRecord;
  readonly results: readonly FieldResult[];
}

export interface Replay {
  readonly name: string;
  readonly records: readonly Replayed[];
  readonly totals: Totals;
}

/** The board's own file beside the recordings, or in the recording itself. */
function topologyFor(dir: string, given: string | undefined): string {
  const places = [path.join(dir, 'topology.json'), path.join(dir, '..', 'topology.json')];
  const found = given ?? places.find((p) => fs.existsSync(p));
  if (found !== undefined) return found;
  throw new InputError(dir, '', 'no topology.json in it or beside it', 'name one with --topology');
}

/** @throws InputError, HostCrash */
export function replay(dir: string, o: ReplayOptions = {}): Replay {
  const recording = readRecording(dir);
  const host = new RecordedHost(recording, boardOf(recording, topologyFor(dir, o.topology)));
  const played: Omit<Replayed, 'results'>[] = [];
  for (const [index, theirs] of recording.records.entries()) {
    const ours = index === 0 ? host.booted() : host.run(theirs, index);
    if (ours !== undefined) played.push({ index, theirs, ours });
  }
  const xen = recording.records[0]!.xen_cmdline ?? '';
  const compared = played.map((r) => compareRecord(r.theirs, r.ours, xen));
  const all = matchAcrossRecords([...compared, unrecordedLines(host.unrecorded)]).slice(0, -1);
  const totals = new Totals();
  for (const results of all) totals.add(results);
  return { name: recording.name, records: played.map((r, i) => ({ ...r, results: all[i]! })), totals };
}

/** 0 when everything compared is equal, else 1. */
export function runReplay(dir: string, o: ReplayOptions, write: (text: string) => void): number {
  const r = replay(dir, o);
  if (o.json === true) {
    write(`[\n${r.records.map((x) => JSON.stringify(x.ours)).join(',\n')}\n]\n`);
    return r.totals.allEqual ? 0 : 1;
  }
  if (o.diff === true)
    for (const record of r.records) for (const line of differences(record)) write(`${line}\n`);
  for (const line of reportLines(r.name, r.records.length, r.totals)) write(`${line}\n`);
  return r.totals.allEqual ? 0 : 1;
}

function differences({ index, results, theirs }: Replayed): string[] {
  const lines = results.flatMap((r) => r.differences.map((d) => `    ${r.field} ${shown(d)}`));
  return lines.length === 0 ? [] : [`${index} ${theirs.cmd.split('\n')[0]!.slice(0, 160)}`, ...lines];
}

/** `- ` theirs alone, `+ ` ours alone, `~ ` equal but for addresses that name other tables. */
function shown({ side, line, against }: Difference): string {
  if (side === 'names') return `~ ${line.text}  against  ${against ?? ''}`;
  return `${side === 'theirs' ? '-' : '+'} ${line.text}`;
}
