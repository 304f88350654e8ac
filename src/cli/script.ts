/** A script as it is typed at a prompt: commands one by one, comments as prose, and what is expected to fail. */
import { InputError } from '../base/assert.js';
import { ShellSyntaxError } from '../toolstack/shell/lexer.js';
import { parseShell } from '../toolstack/shell/parse.js';

export type ScriptItem =
  | { readonly kind: 'prose'; readonly text: string; readonly line: number }
  | {
      readonly kind: 'command';
      /** As typed, without the note about its exit status. */
      readonly text: string;
      readonly line: number;
      /** The status it must have; `fails` is any but 0. */
      readonly expected: number | 'fails';
    };

const NOTE = /\s+#\s*(?:exits\s+(\d{1,3})|(fails))\s*$/;
const LINES_MAX = 10_000;

/** @throws InputError with the line of a command that is not one */
export function parseScript(source: string, text: string): ScriptItem[] {
  const lines = text.split(/\r?\n/);
  if (lines.length > LINES_MAX)
    throw new InputError(source, '', `more than ${LINES_MAX} lines`, 'split the script');
  const items: ScriptItem[] = [];
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i]!;
    if (line.trim() === '' || (i === 0 && line.startsWith('#!'))) continue;
    if (line.startsWith('#')) {
      items.push({ kind: 'prose', text: line.replace(/^#+ ?/, ''), line: i + 1 });
      continue;
    }
    const last = endOfCommand(source, lines, i);
    const whole = lines.slice(i, last + 1).join('\n');
    const note = NOTE.exec(whole);
    const expected = note === null ? 0 : note[2] !== undefined ? 'fails' : Number(note[1]);
    items.push({ kind: 'command', text: whole.replace(NOTE, ''), line: i + 1, expected });
    i = last;
  }
  return items;
}

/** Index of the line with which the command that starts at `first` is complete. */
function endOfCommand(source: string, lines: readonly string[], first: number): number {
  let text = '';
  for (let i = first; i < lines.length; i++) {
    text += i === first ? lines[i]! : `\n${lines[i]}`;
    try {
      parseShell(text);
      return i;
    } catch (e) {
      if (!(e instanceof ShellSyntaxError)) throw e;
      if (!e.incomplete) throw new InputError(source, `line ${i + 1}`, e.message, 'correct the command');
    }
  }
  throw new InputError(source, `line ${first + 1}`, 'the command does not end', 'close its quotes and loops');
}
