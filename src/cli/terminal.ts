/** How a session is shown: prompt and command, what they printed, the exit status when it is not 0. */
import type { CommandResult } from '../toolstack/shell/shell.js';

export interface Screen {
  write(text: string): void;
  /** Escape sequences are welcome. */
  readonly colours: boolean;
}

const paint = (screen: Screen, code: string, text: string): string =>
  screen.colours ? `\x1b[${code}m${text}\x1b[0m` : text;

export const PROMPT = 'dom0# ';
const CONTINUED = '    > ';

export class Terminal {
  private inProse = false;
  private first = true;
  constructor(private readonly screen: Screen) {}

  /** Lines of one paragraph follow each other; paragraphs and commands have an empty line before them. */
  prose(text: string): void {
    if (!this.inProse && !this.first) this.screen.write('\n');
    this.inProse = true;
    this.first = false;
    this.screen.write(`${paint(this.screen, '1', text)}\n`);
  }

  command(text: string): void {
    this.inProse = false;
    this.first = false;
    const [head, ...rest] = text.split('\n');
    this.screen.write(`${paint(this.screen, '32', PROMPT)}${head}\n`);
    for (const line of rest) this.screen.write(`${paint(this.screen, '32', CONTINUED)}${line}\n`);
  }

  result(r: CommandResult): void {
    let last = '\n';
    for (const { fd, text } of r.pieces) {
      const shown = this.safe(text);
      this.screen.write(fd === 2 ? paint(this.screen, '33', shown) : shown);
      last = text;
    }
    if (!last.endsWith('\n')) this.screen.write('\n');
    if (r.exit !== 0) this.screen.write(`${paint(this.screen, '31', `[exit ${r.exit}]`)}\n`);
  }

  note(text: string): void {
    this.inProse = false;
    this.screen.write(`${paint(this.screen, '2', text)}\n`);
  }

  /** What a dump or a guest put into its text must not steer the reader's terminal. */
  private safe(text: string): string {
    let out = '';
    for (const c of text) {
      const n = c.charCodeAt(0);
      const plain = n === 9 || n === 10 || (n >= 0x20 && n < 0x7f) || n >= 0xa0;
      out += plain ? c : `\\x${n.toString(16).padStart(2, '0')}`;
    }
    return out;
  }
}
