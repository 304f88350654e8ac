/** xpsim as it is shipped: a process with arguments, streams and exit codes. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureBuilt, ROOT } from '../support/built.js';

const EXAMPLE = path.join(ROOT, 'examples/gpu-passthrough');

describe('xpsim as a process', () => {
  const tmp = fs.mkdtempSync(path.join(os.tmpdir(), 'xpsim-'));
  const file = (name: string, text: string): string => {
    fs.writeFileSync(path.join(tmp, name), text);
    return path.join(tmp, name);
  };
  const xpsim = (...args: string[]) =>
    spawnSync(process.execPath, [path.join(ROOT, 'bin/xpsim'), ...args], { encoding: 'utf8', input: '' });
  beforeAll(() => ensureBuilt(), 240_000);
  afterAll(() => fs.rmSync(tmp, { recursive: true }));

  test('the guide runs through, fits 100 columns in our own words, and shows each outcome', () => {
    const r = xpsim('run', '--host', path.join(EXAMPLE, 'host'), path.join(EXAMPLE, 'gpu-passthrough.sh'));
    expect(r.stderr).toBe('');
    expect(r.status).toBe(0);
    for (const text of [
      'unable to detect required gfx_passthru_kind',
      'OpenGL renderer string: NVIDIA GeForce RTX 3070/PCIe/SSE2',
      'lands in memory of gpu-vm',
      'FAULT, stopped by the IOMMU',
      '(XEN) [VT-D]DMAR:[DMA Write] Request device [0000:01:00.0] fault addr',
      '(XEN) [VT-D]DMAR: reason 02 - Present bit in context entry is clear',
      '02:00.0 as 02:00.1 writes 64 bytes at 0x10000000: lands in memory of nic-vm',
    ])
      expect(r.stdout).toContain(text);
    expect(r.stdout).not.toContain('\x1b');
    const own = r.stdout.split('\n').filter((l) => !/^(libxl|xl|lrwx|\(XEN\)|\[|dom0#)/.test(l));
    expect(own.filter((l) => l.length > 100)).toEqual([]);
  });

  test('exit codes: 0, 1 with the line, 2 for usage, 3 for what cannot be read', () => {
    expect(xpsim('run', file('ok.sh', 'true\nfalse # exits 1\n')).status).toBe(0);
    const failed = xpsim('run', file('bad.sh', 'true\nls /nowhere\ntrue\n'));
    expect(failed.status).toBe(1);
    expect(failed.stderr).toMatch(/bad\.sh: line 2: exit 2 where exit 0 was expected\n$/);
    expect(xpsim('run').status).toBe(2);
    expect(xpsim('fly').status).toBe(2);
    expect(xpsim('run', '--xen', '3.0', file('ok.sh', 'true\n')).status).toBe(2);
    expect(xpsim('--help').status).toBe(0);
  });

  test.each([
    [
      'a host that does not exist',
      ['--host', '/nonexistent/host'],
      /^xpsim: \/nonexistent\/host: no such file or folder; check the path\n$/,
    ],
    ['a dump cut in a line', ['--host', 'CUT'], /^xpsim: .*cut\.txt: line \d+: .*; .*\n$/],
  ])('%s: one line, exit 3', (_name, args, line) => {
    const cut = file(
      'cut.txt',
      '00:00.0 Host bridge [0600]: Intel Corporation Device [8086:29c0]\n00: 86 80 c0 29 0',
    );
    const r = xpsim('run', ...args.map((a) => (a === 'CUT' ? cut : a)), file('ok.sh', 'true\n'));
    expect(r.stderr).toMatch(line);
    expect(r.stdout).toBe('');
    expect(r.status).toBe(3);
  });

  test('a script that is no script: file, line and remedy, exit 3', () => {
    const r = xpsim('run', file('broken.sh', 'true\necho "open\n'));
    expect(r.stderr).toMatch(/broken\.sh: line 2: the command does not end; close its quotes and loops\n$/);
    expect(r.status).toBe(3);
  });

  test('a configuration with an unclosed list fails as xl fails, not as a crash', () => {
    file('unclosed.cfg', 'name = "x"\npci = [ \'01:00.0\'\n');
    const r = xpsim('run', file('cfg.sh', 'xl create unclosed.cfg # fails\n'));
    expect(r.status).toBe(0);
    expect(r.stdout).toContain('unclosed.cfg');
    expect(r.stdout).not.toContain('    at ');
  });

  test('--json prints one record a line, --events and --console fill files', () => {
    const [events, console] = [path.join(tmp, 'e'), path.join(tmp, 'c')];
    const r = xpsim(
      'run',
      '--json',
      '--events',
      events,
      '--console',
      console,
      file('j.sh', '# prose\nxl pci-assignable-add 02:00.0\n'),
    );
    const records = r.stdout
      .trim()
      .split('\n')
      .map((l) => JSON.parse(l) as { cmd: string; exit: number });
    expect(records.map((x) => [x.cmd, x.exit])).toEqual([
      ['<boot>', 0],
      ['xl pci-assignable-add 02:00.0', 0],
    ]);
    const kinds = new Set(
      fs
        .readFileSync(events, 'utf8')
        .trim()
        .split('\n')
        .map((l) => (JSON.parse(l) as { kind: string }).kind),
    );
    for (const kind of [
      'hypercall',
      'entry',
      'descriptor',
      'sysfs',
      'console',
      'config',
      'driver',
      'xenstore',
    ])
      expect(kinds).toContain(kind);
    expect(fs.readFileSync(console, 'utf8')).toContain('"msg":"[');
  });

  test('xpsim shell runs what it is given and ends with it', () => {
    const out = execFileSync(process.execPath, [path.join(ROOT, 'bin/xpsim'), 'shell'], {
      encoding: 'utf8',
      input: 'uname -r\nfor i in 1 2; do\necho $i\ndone\n',
    });
    expect(out).toBe(
      'dom0# uname -r\n6.1.0-56-amd64\ndom0# for i in 1 2; do\n    > echo $i\n    > done\n1\n2\n',
    );
  });

  test.skipIf(!fs.existsSync('/dev/full'))("a full disk under --events is the disk's fault: exit 3", () => {
    for (const option of ['--events', '--console']) {
      const r = xpsim('run', option, '/dev/full', file('full.sh', 'xl list\n'));
      expect(r.stderr).toBe(
        'xpsim: /dev/full: cannot be written (ENOSPC); free some space or name another file\n',
      );
      expect(r.status).toBe(3);
    }
  });

  test.skipIf(!fs.existsSync('/dev/zero'))('an input without end is refused, not read', () => {
    const r = xpsim('run', '--host', '/dev/zero', file('zero.sh', 'true\n'));
    expect(r.stderr).toBe('xpsim: /dev/zero: is bigger than 64 MiB; give a smaller file\n');
    expect(r.status).toBe(3);
  });

  test('one file for --events and --console is refused', () => {
    const both = path.join(tmp, 'both.jsonl');
    const r = xpsim('run', '--events', both, '--console', both, file('both.sh', 'true\n'));
    expect(r.stderr).toBe(`xpsim: ${both}: is named for --events and for --console; name two files\n`);
    expect([r.status, fs.existsSync(both)]).toEqual([3, false]);
  });

  test('xpsim shell on a pipe that ends in the middle of a command says so', () => {
    const r = spawnSync(process.execPath, [path.join(ROOT, 'bin/xpsim'), 'shell'], {
      encoding: 'utf8',
      input: 'echo hi\nif true; then\n',
    });
    expect(r.stdout).toMatch(/^dom0# echo hi\nhi\ndom0# if true; then\nbash: .*\n\[exit 2\]\n$/);
  });

  test('a folder x.cfg beside a script is no configuration, and no obstacle', () => {
    const dir = fs.mkdtempSync(path.join(tmp, 'beside-'));
    fs.mkdirSync(path.join(dir, 'x.cfg'));
    fs.writeFileSync(path.join(dir, 's.sh'), 'ls *.cfg # fails\n');
    expect(xpsim('run', path.join(dir, 's.sh')).status).toBe(0);
  });

  /** Ctrl-C once the process has said something, and `ms` later. */
  const interrupted = async (args: readonly string[], input: string, ms = 300) => {
    const child = spawn(process.execPath, [path.join(ROOT, 'bin/xpsim'), ...args]);
    let err = '';
    child.stderr.on('data', (d: Buffer) => {
      err += d.toString();
    });
    child.stdin.write(input);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    await new Promise((resolve) => setTimeout(resolve, ms));
    child.kill('SIGINT');
    const code = await new Promise((resolve) => child.on('exit', resolve));
    return { code, err };
  };
  const LONG = 'while true; do xl pci-assignable-add 02:00.0; xl pci-assignable-remove -r 02:00.0; done\n';

  test('Ctrl-C in the middle of a command ends it with the line, whole events and 130', async () => {
    const events = path.join(tmp, 'cut.jsonl');
    const script = file('long.sh', `true\n\n${LONG}`);
    const { code, err } = await interrupted(['run', '--events', events, script], '', 2000);
    expect(err).toBe(`xpsim: interrupted in line 3 of ${script}; 1 commands ran\n`);
    expect(code).toBe(130);
    const lines = fs.readFileSync(events, 'utf8').trimEnd().split('\n');
    expect(lines.length).toBeGreaterThan(1000);
    for (const line of lines) JSON.parse(line);
  });

  test.each([
    ['in a command', LONG],
    ['between two', ''],
  ])('Ctrl-C %s ends xpsim shell on a pipe with its count and 130', async (_name, last) => {
    const { code, err } = await interrupted(['shell'], `true\n${last}`);
    expect(err).toBe('xpsim: interrupted; 1 commands ran\n');
    expect(code).toBe(130);
  });

  test('Ctrl-C ends xpsim explore after whole lines with 130', async () => {
    const { code, err } = await interrupted(['explore', '--vendor', 'vtd'], '');
    expect([code, err]).toEqual([130, 'xpsim: interrupted\n']);
  });

  test('xpsim fuzz-qemu without a QEMU ends with one line', () => {
    const r = spawnSync(
      process.execPath,
      [path.join(ROOT, 'bin/xpsim'), 'fuzz-qemu', '--qemu', '/nonexistent/qemu', '--programs', '1'],
      { encoding: 'utf8', timeout: 20_000 },
    );
    expect(r.stderr).toMatch(
      /^xpsim: \/nonexistent\/qemu: cannot be used: .*ENOENT; give the path of a .*\n$/,
    );
    expect(r.status).toBe(3);
  });
});
