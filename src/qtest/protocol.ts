/** The text protocol of `-qtest`: one command a line, one reply a line, in order. (QEMU docs/devel/testing/qtest) */
import { InputError } from '../base/assert.js';
import type { QtestBoard } from './board.js';

const LEN_MAX = 0x400_0000;
const SIZES: Readonly<Record<string, number>> = { b: 1, w: 2, l: 4, q: 8 };

const badCommand = (problem: string): InputError => new InputError('qtest', '', problem, 'see docs/qtest.md');

type Handler = (board: QtestBoard, words: readonly string[]) => string;

/** A number as C's strtoull takes it, exact up to 64 bits. */
function number(text: string | undefined): bigint {
  if (text === undefined || !/^(0x[0-9a-f]{1,16}|\d{1,20})$/i.test(text)) throw badCommand('bad number');
  const n = BigInt(text);
  if (n >= 1n << 64n) throw badCommand('bad number');
  return n;
}

/** Addresses beyond what the simulation can hold are as good as the last one: nobody answers there. */
const address = (text: string | undefined): number => Math.min(Number(number(text)), 2 ** 52);

function length(text: string | undefined): number {
  const n = Number(number(text));
  if (n > LEN_MAX) throw badCommand('too long');
  return n;
}

const HEX = Array.from({ length: 256 }, (_, b) => b.toString(16).padStart(2, '0'));

function hex(bytes: Uint8Array): string {
  let out = '';
  for (const b of bytes) out += HEX[b]!;
  return out;
}

function port(words: readonly string[]): number {
  const p = Number(number(words[1]));
  if (p > 0xffff) throw badCommand('no such port');
  return p;
}

function little(bytes: Uint8Array): string {
  return `0x${hex(bytes.slice().reverse()).padStart(16, '0')}`;
}

function bytesOf(value: bigint, size: number): Uint8Array {
  const out = new Uint8Array(size);
  for (let i = 0, v = value; i < size; i++, v >>= 8n) out[i] = Number(v & 0xffn);
  return out;
}

function unhex(text: string | undefined, bytes: number): Uint8Array {
  if (text === undefined || !/^0x[0-9a-f]*$/i.test(text)) throw badCommand('bad data');
  const out = new Uint8Array(bytes);
  for (let i = 0; i < bytes && i * 2 + 4 <= text.length; i++)
    out[i] = Number.parseInt(text.slice(i * 2 + 2, i * 2 + 4), 16);
  return out;
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

function toBase64(bytes: Uint8Array): string {
  let out = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const n = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    const left = bytes.length - i;
    out += BASE64[n >>> 18]! + BASE64[(n >>> 12) & 63]!;
    out += (left > 1 ? BASE64[(n >>> 6) & 63]! : '=') + (left > 2 ? BASE64[n & 63]! : '=');
  }
  return out;
}

function fromBase64(text: string | undefined, bytes: number): Uint8Array {
  const out = new Uint8Array(bytes);
  let n = 0;
  let have = 0;
  let at = 0;
  for (const c of text ?? '') {
    const v = BASE64.indexOf(c);
    if (v < 0) break;
    n = ((n << 6) | v) & 0xff_ffff;
    have += 6;
    if (have >= 8 && at < bytes) {
      have -= 8;
      out[at++] = (n >>> have) & 0xff;
    }
  }
  return out;
}

const handlers = new Map<string, Handler>([
  ['endianness', () => 'OK little'],
  [
    'read',
    (b, w) => {
      const n = length(w[2]);
      return n === 0 ? 'FAIL nothing to read' : `OK 0x${hex(b.read(address(w[1]), n))}`;
    },
  ],
  ['b64read', (b, w) => `OK ${toBase64(b.read(address(w[1]), length(w[2])))}`],
  ['write', (b, w) => done(b.write(address(w[1]), unhex(w[3], length(w[2]))))],
  ['b64write', (b, w) => done(b.write(address(w[1]), fromBase64(w[3], length(w[2]))))],
  [
    'memset',
    (b, w) => done(b.write(address(w[1]), new Uint8Array(length(w[2])).fill(Number(number(w[3]) & 0xffn)))),
  ],
  ['clock_step', clockStep],
  ['clock_set', clockSet],
  ['irq_intercept_in', () => 'OK'],
  ['irq_intercept_out', () => 'OK'],
  ['set_irq_in', () => 'OK'],
  ['module_load', () => 'OK'],
]);
for (const [letter, size] of Object.entries(SIZES)) {
  handlers.set(`read${letter}`, (b, w) => `OK ${little(b.read(address(w[1]), size))}`);
  handlers.set(`write${letter}`, (b, w) => done(b.write(address(w[1]), bytesOf(number(w[2]), size))));
  if (size === 8) continue;
  handlers.set(`in${letter}`, (b, w) => `OK 0x${b.readPort(port(w), size).toString(16).padStart(4, '0')}`);
  handlers.set(`out${letter}`, (b, w) =>
    done(b.writePort(port(w), size, Number(number(w[2]) & ((1n << BigInt(size * 8)) - 1n)))),
  );
}

/** The reply to what only does something. */
function done(_: unknown): string {
  return 'OK';
}

/** Without an argument: to the next thing that is due. */
function clockStep(board: QtestBoard, w: readonly string[]): string {
  const due = board.clock.nextAlarmNs();
  const ns =
    w[1] === undefined ? Math.max(0, (due ?? board.clock.nowNs) - board.clock.nowNs) : length64(w[1]);
  board.clock.advance(ns);
  return `OK ${board.clock.nowNs}`;
}
function clockSet(board: QtestBoard, w: readonly string[]): string {
  board.clock.advance(Math.max(0, length64(w[1]) - board.clock.nowNs));
  return `OK ${board.clock.nowNs}`;
}
const length64 = (text: string | undefined): number => Math.min(Number(number(text)), 2 ** 52);

/** The reply to one command, without its line end. */
export function qtestCommand(board: QtestBoard, line: string): string {
  const words = line.trim().split(/\s+/);
  const handler = handlers.get(words[0] ?? '');
  if (handler === undefined) return `FAIL Unknown command '${words[0] ?? ''}'`;
  try {
    return handler(board, words);
  } catch (e) {
    if (e instanceof InputError) return `FAIL ${e.problem}`;
    throw e;
  }
}

/** Longest line taken: a 64 MiB write in hex. */
const LINE_MAX = 2 * LEN_MAX + 256;

/** Cuts a stream into lines and answers each. */
export class QtestServer {
  private rest = '';
  constructor(private readonly board: QtestBoard) {}

  /** Replies to every whole line so far. */
  receive(text: string): string {
    this.rest += text;
    if (this.rest.length > LINE_MAX) this.rest = '';
    let out = '';
    for (let end = this.rest.indexOf('\n'); end >= 0; end = this.rest.indexOf('\n')) {
      out += `${qtestCommand(this.board, this.rest.slice(0, end))}\n`;
      this.rest = this.rest.slice(end + 1);
    }
    return out;
  }
}
