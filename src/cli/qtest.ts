/**
 * Stands in for qemu-system-x86_64 under QEMU's test library: connects to the two sockets of the command line and
 * answers there until one of them is closed. Exit code 0 on SIGTERM too: the library takes any other for a crash.
 */
import net from 'node:net';
import { InputError } from '../base/assert.js';
import { QtestBoard } from '../qtest/board.js';
import { parseCommandLine } from '../qtest/board_options.js';
import { QtestServer } from '../qtest/protocol.js';
import { event, QMP_GREETING, QmpServer } from '../qtest/qmp.js';

/** Environment variable with quirks in the form of `as-qemu=`, for tests that choose their own command line. */
const QUIRKS_ENV = 'XPSIM_AS_QEMU';

export function standIn(argv: readonly string[]): void {
  let options: ReturnType<typeof parseCommandLine>;
  let board: QtestBoard | undefined;
  try {
    const asQemu = process.env[QUIRKS_ENV];
    options = parseCommandLine(asQemu === undefined ? argv : [...argv, '-machine', `,as-qemu=${asQemu}`]);
    board = options.machine === 'none' ? undefined : new QtestBoard(options);
  } catch (e) {
    if (!(e instanceof InputError)) throw e;
    process.stderr.write(`xpsim-qemu-system-x86_64: ${e.message}\n`);
    process.exitCode = 1;
    return;
  }
  const qmp = options.qmpSocket === undefined ? undefined : serveQmp(options.qmpSocket, board);
  process.on('SIGTERM', () => {
    qmp?.write(line(event('SHUTDOWN', { guest: false, reason: 'host-signal' })), () => process.exit(0));
    if (qmp === undefined) process.exit(0);
  });
  if (options.qtestSocket !== undefined) serveQtest(options.qtestSocket, board);
}

const line = (value: unknown): string => `${JSON.stringify(value)}\r\n`;

function connect(path: string): net.Socket {
  const socket = net.connect(path);
  socket.setEncoding('latin1');
  socket.on('close', () => process.exit(0));
  socket.on('error', (e) => {
    process.stderr.write(`xpsim-qemu-system-x86_64: ${path}: ${e.message}\n`);
    process.exit(1);
  });
  return socket;
}

function serveQtest(path: string, board: QtestBoard | undefined): void {
  const socket = connect(path);
  const server = board === undefined ? undefined : new QtestServer(board);
  socket.on('data', (data) => {
    const text = String(data);
    // Without a board there is only the question that the library asks of everyone.
    socket.write(server?.receive(text) ?? 'OK little\n'.repeat(text.split('\n').length - 1));
  });
}

function serveQmp(path: string, board: QtestBoard | undefined): net.Socket {
  const socket = connect(path);
  const server = new QmpServer(board);
  socket.write(line(QMP_GREETING));
  socket.on('data', (data) => {
    for (const reply of server.receive(String(data))) socket.write(line(reply));
    if (server.quit) socket.end();
  });
  return socket;
}
