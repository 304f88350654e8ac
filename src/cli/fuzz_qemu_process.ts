/** A real QEMU (or anything that takes its command line) as one side of a comparison. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { InputError } from '../base/assert.js';
import { EDU, EDU_CMD } from '../qtest/edu.js';
import { boardArgs } from '../qtest/fuzz/layout.js';
import type { Side } from '../qtest/fuzz/player.js';

const BIOS_BYTES = 0x1_0000;
const POLLS_MAX = 20_000;
const START_MS = 30_000;

/** cli; hlt; jump back: at the reset vector, and wherever the CPU may be sent. */
function haltingBios(): Buffer {
  const bios = Buffer.alloc(BIOS_BYTES, 0xf4);
  Buffer.from([0xfa, 0xf4, 0xeb, 0xfd]).copy(bios, BIOS_BYTES - 16);
  return bios;
}

/** Text of one connection, in lines. */
class Lines {
  private rest = '';
  private readonly ready: string[] = [];
  private waiting:
    | { count: number; resolve: (lines: string[]) => void; reject: (e: Error) => void }
    | undefined;
  private dead: Error | undefined;

  constructor(
    private readonly socket: net.Socket,
    private readonly lastWords: () => string,
  ) {
    socket.setEncoding('latin1');
    socket.on('data', (data) => this.receive(String(data)));
    socket.on('close', () => this.fail());
    socket.on('error', () => this.fail());
  }
  private receive(text: string): void {
    const parts = (this.rest + text).split('\n');
    this.rest = parts.pop()!;
    this.ready.push(...parts);
    this.serve();
  }
  private serve(): void {
    const w = this.waiting;
    if (w === undefined || this.ready.length < w.count) return;
    this.waiting = undefined;
    w.resolve(this.ready.splice(0, w.count));
  }
  private fail(): void {
    this.dead = new Error(`QEMU is gone: ${this.lastWords()}`);
    this.waiting?.reject(this.dead);
  }
  write(text: string): void {
    this.socket.write(text);
  }
  next(count: number): Promise<string[]> {
    return new Promise((resolve, reject) => {
      if (this.dead !== undefined) reject(this.dead);
      else {
        this.waiting = { count, resolve, reject };
        this.serve();
      }
    });
  }
}

export class QemuProcess implements Side {
  private steps = false;
  /** Major version, as the greeting of its monitor has it. */
  major = 0;

  private constructor(
    private readonly child: ChildProcess,
    private readonly qtest: Lines,
    private readonly qmp: Lines,
    private readonly folder: string,
  ) {}

  /** `accel`: `tcg` for any QEMU, `qtest` where that accelerator is there. */
  static async start(program: string, accel: string, unit = ''): Promise<QemuProcess> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'xpsim-fuzz-'));
    const bios = path.join(folder, 'halt.bin');
    fs.writeFileSync(bios, haltingBios());
    const [qtestPath, qmpPath] = [path.join(folder, 'qtest'), path.join(folder, 'qmp')];
    const servers = [net.createServer().listen(qtestPath), net.createServer().listen(qmpPath)] as const;
    const icount = accel === 'tcg' ? ['-icount', 'shift=0,sleep=off'] : [];
    const child = spawn(
      program,
      [
        ...['-machine', 'q35', '-accel', accel, ...icount, '-bios', bios, ...boardArgs(unit)],
        ...['-qtest', `unix:${qtestPath}`, '-qtest-log', '/dev/null'],
        ...['-chardev', `socket,path=${qmpPath},id=char0`, '-mon', 'chardev=char0,mode=control'],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    let said = '';
    child.stderr?.on('data', (d) => {
      said = (said + String(d)).slice(-4096);
    });
    const lastWords = (): string => said.trim().split('\n').at(-1) ?? '';
    const sockets = Promise.all(servers.map(accepted));
    const failed = new Promise<never>((_, reject) => {
      child.on('error', (e) => reject(notStarted(program, e.message)));
      child.on('exit', () => reject(notStarted(program, lastWords())));
      setTimeout(() => reject(notStarted(program, 'it does not connect')), START_MS).unref();
    });
    failed.catch(() => {});
    let a: net.Socket | undefined;
    let b: net.Socket | undefined;
    try {
      [a, b] = await Promise.race([sockets, failed]);
    } catch (e) {
      child.kill('SIGTERM');
      fs.rmSync(folder, { recursive: true, force: true });
      throw e;
    } finally {
      for (const s of servers) s.close();
    }
    const q = new QemuProcess(child, new Lines(a!, lastWords), new Lines(b!, lastWords), folder);
    await q.handshake();
    return q;
  }

  private async handshake(): Promise<void> {
    const greeting = await this.qmp.next(1);
    this.major = Number(/"major": *(\d+)/.exec(greeting[0] ?? '')?.[1] ?? 0);
    await this.command('qmp_capabilities');
    this.steps = (await this.send(['clock_step 0']))[0]!.startsWith('OK');
  }

  /** Waits for the reply; events before it are passed over. */
  private async command(name: string): Promise<void> {
    this.qmp.write(`{"execute": "${name}"}\n`);
    for (;;) if ((await this.qmp.next(1))[0]!.includes('"return"')) return;
  }

  async send(lines: readonly string[]): Promise<string[]> {
    if (lines.length === 0) return [];
    this.qtest.write(`${lines.join('\n')}\n`);
    return await this.qtest.next(lines.length);
  }

  async dmaDone(bar: number): Promise<void> {
    if (this.steps) {
      await this.send(['clock_step 100000000']);
      return;
    }
    for (let i = 0; i < POLLS_MAX; i++) {
      const [reply] = await this.send([`readq 0x${(bar + EDU.CMD).toString(16)}`]);
      if ((Number.parseInt(reply!.slice(-1), 16) & EDU_CMD.RUN) === 0) return;
    }
    throw notStarted('QEMU', 'a DMA of it does not end');
  }

  /** A reset is done when its event was sent, which can be after the reply. */
  async reset(): Promise<void> {
    this.qmp.write('{"execute": "system_reset"}\n');
    let replied = false;
    for (let event = false; !replied || !event; ) {
      const [text] = await this.qmp.next(1);
      if (text!.includes('"return"')) replied = true;
      if (text!.includes('"RESET"')) event = true;
    }
  }

  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.child.on('exit', resolve));
    this.child.kill('SIGTERM');
    await gone;
    fs.rmSync(this.folder, { recursive: true, force: true });
  }
}

const notStarted = (program: string, why: string): InputError =>
  new InputError(program, '', `cannot be used: ${why}`, 'give the path of a qemu-system-x86_64 with --qemu');

const accepted = (server: net.Server): Promise<net.Socket> =>
  new Promise((resolve) => server.once('connection', resolve));
