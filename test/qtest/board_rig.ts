/** A board driven through the text protocol alone, with helpers that test libraries have. Numbers are stated anew here. */
import { QtestBoard } from '../../src/qtest/board.js';
import { parseCommandLine } from '../../src/qtest/board_options.js';
import { qtestCommand } from '../../src/qtest/protocol.js';
import { QmpServer } from '../../src/qtest/qmp.js';

export const UNIT = 0xfed9_0000;

export class BoardRig {
  readonly board: QtestBoard;
  readonly qmp: QmpServer;
  constructor(commandLine: string) {
    this.board = new QtestBoard(parseCommandLine(commandLine.split(' ').filter((w) => w !== '')));
    this.qmp = new QmpServer(this.board);
  }

  /** The reply's value, or the whole reply when it has none. */
  say(line: string): string {
    const reply = qtestCommand(this.board, line);
    return reply.startsWith('OK ') ? reply.slice(3) : reply;
  }
  read(kind: 'b' | 'w' | 'l' | 'q', address: number): bigint {
    return BigInt(this.say(`read${kind} 0x${address.toString(16)}`));
  }
  write(kind: 'b' | 'w' | 'l' | 'q', address: number, value: bigint | number): void {
    this.say(`write${kind} 0x${address.toString(16)} 0x${value.toString(16)}`);
  }
  reg(offset: number): bigint {
    return this.read('q', UNIT + offset);
  }

  configRead(devfn: number, offset: number, size: 'b' | 'w' | 'l'): number {
    this.say(`outl 0xcf8 ${0x8000_0000 + devfn * 256 + offset}`);
    return Number(this.say(`in${size} 0xcfc`));
  }
  configWrite(devfn: number, offset: number, size: 'b' | 'w' | 'l', value: number): void {
    this.say(`outl 0xcf8 ${0x8000_0000 + devfn * 256 + offset}`);
    this.say(`out${size} 0xcfc ${value}`);
  }

  /** Devices on bus 0 by `vendor:device`, in hex. */
  scan(): Map<string, number> {
    const found = new Map<string, number>();
    for (let devfn = 0; devfn < 256; devfn++) {
      const vendor = this.configRead(devfn, 0, 'w');
      if (vendor === 0xffff) continue;
      const device = this.configRead(devfn, 2, 'w');
      found.set(`${vendor.toString(16)}:${device.toString(16).padStart(4, '0')}`, devfn);
    }
    return found;
  }

  reset(): unknown[] {
    return this.qmp.receive("{ 'execute': 'system_reset' }");
  }
}
