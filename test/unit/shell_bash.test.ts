/** The shell's grammar beside bash: shell_bash.json holds what bash 5.2 prints for each script, and its exit status. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { runAlone } from '../../src/sim/co.js';
import { type CommandResult, Shell } from '../../src/toolstack/shell/shell.js';
import { addSystemPrograms } from '../../src/toolstack/shell/system.js';
import { ROOT } from '../support/built.js';
import { board } from './dom0_helpers.js';

interface Recorded {
  readonly script: string;
  readonly exit: number;
  readonly stdout: string;
}
const recorded: readonly Recorded[] = JSON.parse(
  fs.readFileSync(path.join(ROOT, 'test/unit/shell_bash.json'), 'utf8'),
);
const { dom0 } = board();
const run = (script: string): CommandResult => {
  const shell = new Shell(dom0);
  addSystemPrograms(shell);
  dom0.fs.cwd = '/tmp';
  return runAlone(shell.run(script));
};

describe('as bash answers', () => {
  test.each(recorded.map((r) => [r.script, r] as const))('%s', (script, { exit, stdout }) => {
    const r = run(script);
    expect([r.stdout, r.exit]).toEqual([stdout, exit]);
  });
});

describe('what is bounded', () => {
  const deep = (open: string, n = 30_000): string => open.repeat(n);
  test.each([
    ['groups', deep('{ ', 20_000)],
    ['subshells', deep('( ')],
    ['arithmetic', deep('((')],
    ['conditions', `[[ ${deep('( ')}`],
    ['negations', `[[ ${deep('! ', 20_000)} x ]]`],
    ['cases', deep('case a in a) ', 5000)],
    ['braces', `cd ${deep('{a,', 20_000)}`],
    ['lists of braces', `cd ${'{a,b}'.repeat(40)}`],
    ['expansions', `echo ${deep('$'.concat('{a:-'), 10_000)}`],
    ['a function that calls itself twice', 'f() { f | f; }; f'],
    ['a function that calls itself', 'f() { f; }; f'],
    ['a subshell in a long loop', 'a=($(seq 90000)); for i in $(seq 90000); do x=$(true); done'],
    ['replacements', 'x=$(seq 100000); y=$'.concat('{x//?/"$x"}; echo $', '{#y}')],
    [
      'an array of long texts',
      'x=$(seq 100000); a=(); for i in {1..9999}; do a+=("$x"); done; echo "$'.concat('{a[@]}"'),
    ],
  ])('%s: an error of one line, soon', (_, script) => {
    const before = process.hrtime.bigint();
    const r = run(script);
    expect(r.exit).not.toBe(0);
    expect(r.stderr).toMatch(/^bash: [^\n]+\n$/);
    expect(Number(process.hrtime.bigint() - before)).toBeLessThan(20e9);
  });
});

describe('what a shell of a host does', () => {
  test('sudo sh -c writes to sysfs in its own shell', () => {
    const r = run(
      "echo 0000:01:00.0 > /tmp/dev; sudo sh -c 'cat /tmp/dev > /sys/bus/pci/drivers/pciback/new_slot'; cat /sys/bus/pci/drivers/pciback/slots",
    );
    expect(r.stdout).toBe('0000:01:00.0\n');
  });

  test('a script is a file: arguments, functions and exit status are its own', () => {
    const r = run(
      `cat > /root/hide.sh <<'EOF'
#!/bin/bash
hide() { echo "hiding $1"; }
for bdf in "$@"; do hide "$bdf"; done
exit 4
EOF
bash /root/hide.sh 01:00.0 01:00.1; echo $?; cd /root; ./hide.sh x; . ./hide.sh y`,
    );
    expect([r.stdout, r.exit]).toEqual(['hiding 01:00.0\nhiding 01:00.1\n4\nhiding x\nhiding y\n', 4]);
  });

  test('programs have paths; what is not there is said in one line', () => {
    expect(run('/usr/bin/printf "%s\\n" a; command -v lspci').stdout).toBe('a\n/usr/bin/lspci\n');
    expect(run('/opt/none').stderr).toBe('bash: /opt/none: No such file or directory\n');
    expect(run('perl -e 1').stderr).toBe('bash: perl: command not found\n');
    expect(run('trap x EXIT').stderr).toBe('bash: trap: there are no signals here\n');
    expect(run('echo x 3>/tmp/x').stderr).toBe('bash: 3: there are descriptors 0, 1 and 2 alone\n');
    expect(run('declare -A a').stderr).toBe('bash: declare: -A: there are no associative arrays here\n');
  });
});
