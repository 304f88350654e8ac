import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readRecording } from '../../src/cli/golden/recording.js';

let dir = '';
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'xpsim-recording-'));
});
afterEach(() => fs.rmSync(dir, { recursive: true }));

/** Reads a recording whose second command begins at `startS` and takes `seconds`. */
function read(startS: number, seconds = 1): number {
  const records = [
    { cmd: '<boot>' },
    { cmd: 'xl list', t_start: 1000, t_end: 1001, seconds: 1 },
    { cmd: 'xl info', t_start: startS, t_end: startS + seconds, seconds },
  ];
  fs.writeFileSync(path.join(dir, 'ops.json'), JSON.stringify(records));
  fs.writeFileSync(path.join(dir, 'qemu-cmdline.txt'), 'qemu-system-x86_64 -M q35\n');
  return readRecording(dir).records.length;
}

describe('times of a recording', () => {
  test('records that overlap, and a pause of a day, are read', () => {
    expect(read(1000.5)).toBe(3);
    expect(read(1001 + 86_400)).toBe(3);
  });

  test.each([
    ['before 1970', -1e300, '2.t_start'],
    ['that no clock shows', 1e300, '2.t_start'],
    ['a year after the command before', 1001 + 365 * 86_400, '30 days'],
  ])('a time %s is refused with the place', (_, startS, place) => {
    expect(() => read(startS)).toThrow(place);
  });

  test('a command that takes a week is refused', () => {
    expect(() => read(1002, 7 * 86_400)).toThrow('2.seconds');
  });
});
