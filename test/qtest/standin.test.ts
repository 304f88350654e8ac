/** bin/xpsim-qemu-system-x86_64 as a process, with the two sockets that QEMU's test library gives it. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '../support/built.js';

const STAND_IN = path.join(ROOT, 'bin/xpsim-qemu-system-x86_64');
let folder = '';
beforeAll(() => {
  spawnSync(process.execPath, [path.join(ROOT, 'tools/build.mjs')], { cwd: ROOT });
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
});
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

interface Started {
  readonly child: ChildProcess;
  readonly qtest: net.Socket;
  readonly qmp: net.Socket;
  readonly exit: Promise<number | null>;
}

async function start(args: readonly string[]): Promise<Started> {
  const paths = ['qtest', 'qmp'].map((n) =>
    path.join(folder, `${n}-${Math.trunc(performance.now() * 1000)}`),
  );
  const servers = paths.map((p) => net.createServer().listen(p));
  const accepted = servers.map((s) => new Promise<net.Socket>((resolve) => s.once('connection', resolve)));
  const child = spawn(STAND_IN, [
    ...[
      '-qtest',
      `unix:${paths[0]}`,
      '-qtest-log',
      '/dev/null',
      '-chardev',
      `socket,path=${paths[1]},id=char0`,
    ],
    ...[
      '-mon',
      'chardev=char0,mode=control',
      '-display',
      'none',
      '-audio',
      'none',
      ...args,
      '-accel',
      'qtest',
    ],
  ]);
  const exit = new Promise<number | null>((resolve) => child.on('exit', (code) => resolve(code)));
  const [qtest, qmp] = await Promise.all(accepted);
  for (const s of servers) s.close();
  return { child, qtest: qtest!, qmp: qmp!, exit };
}

/** What arrives until it contains `end`. */
const until = (socket: net.Socket, end: string): Promise<string> =>
  new Promise((resolve) => {
    let text = '';
    const take = (data: Buffer): void => {
      text += data.toString();
      if (!text.includes(end)) return;
      socket.off('data', take);
      resolve(text);
    };
    socket.on('data', take);
  });

describe('the stand-in for QEMU', () => {
  test('greets, answers on both sockets, resets, and ends with 0 on SIGTERM', async () => {
    const { child, qtest, qmp, exit } = await start([
      '-M',
      'q35',
      '-device',
      'intel-iommu,scalable-mode=on,fsts=on',
    ]);
    expect(await until(qmp, '\r\n')).toMatch(/^\{"QMP":/);
    qmp.write("{ 'execute': 'qmp_capabilities' }");
    expect(await until(qmp, 'return')).toBe('{"return":{}}\r\n');
    qtest.write('endianness\nreadq 0xfed90008\n');
    expect(await until(qtest, '0x')).toBe('OK little\nOK 0x81d2008c222f0606\n');
    qmp.write("{ 'execute': 'system_reset' }");
    expect(await until(qmp, 'return')).toContain('"event":"RESET"');
    child.kill('SIGTERM');
    expect(await exit).toBe(0);
  });
  test('ends when its test does', async () => {
    const { qtest, exit } = await start(['-M', 'none']);
    qtest.write('endianness\n');
    expect(await until(qtest, '\n')).toBe('OK little\n');
    qtest.destroy();
    expect(await exit).toBe(0);
  });
  test('a device that does not exist is refused in one line', () => {
    const run = spawnSync(STAND_IN, ['-device', 'nonesuch'], { encoding: 'utf8' });
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/^xpsim-qemu-system-x86_64: .*nonesuch.*\n$/);
  });
});

/** QEMU's own test programs, from a build of QEMU: name, and how many tests it has. */
const PROGRAMS: readonly (readonly [string, number, readonly string[]])[] = [
  ['intel-iommu-test', 1, []],
  ['iommu-intel-test', 5, []],
  ['q35-test', 6, []],
  ['ioh3420-test', 1, []],
  ['display-vga-test', 1, ['-p', '/x86_64/display/pci/stdvga']],
];
const given = process.env.QEMU_QTESTS;
/** Posted to QEMU's list and not in every QEMU: run where it was built. */
const POSTED: typeof PROGRAMS = [['iommu-intel-inval-test', 12, []]];
const posted = POSTED.filter(([name]) => fs.existsSync(path.join(given ?? '', name)));

describe(`QEMU's tests in ${given ?? 'QEMU_QTESTS, which is not set'}`, () => {
  test.skipIf(given === undefined).each([...PROGRAMS, ...posted])(
    '%s passes its %i tests',
    (name, count, args) => {
      const program = path.join(given ?? '', name);
      expect(fs.existsSync(program), `${program} is there`).toBe(true);
      const run = spawnSync(program, ['--tap', '-k', ...args], {
        encoding: 'utf8',
        env: { ...process.env, QTEST_QEMU_BINARY: STAND_IN },
      });
      const lines = run.stdout.split('\n');
      expect(lines.filter((l) => /^(not ok|Bail out)/.test(l))).toEqual([]);
      expect(lines.filter((l) => /^ok /.test(l) && !/# SKIP/i.test(l)).length).toBeGreaterThanOrEqual(count);
      expect(run.status).toBe(0);
    },
  );
});
