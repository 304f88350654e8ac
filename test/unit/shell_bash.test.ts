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

describe('files and other commands', () => {
  test.each([
    ['mkdir -p d/e; touch d/a d/e/b; find d -type f | sort', 'd/a\nd/e/b\n'],
    ['mkdir -p d/e; touch d/a d/e/b; find d -mindepth 1 -maxdepth 1 ! -name "a*"', 'd/e\n'],
    ['mkdir -p d; touch d/a d/b; find d -name "[ab]" -exec echo x {} \\;', 'x d/a\nx d/b\n'],
    ['mkdir -p d; touch d/a d/b; find d -type f -exec echo {} +', 'd/a d/b\n'],
    ['seq 5 | xargs -n 2 echo', '1 2\n3 4\n5\n'],
    ['printf "a b\\nc\\n" | xargs -I{} echo "<{}>"', '<a b>\n<c>\n'],
    ['echo a b | xargs', 'a b\n'],
    ['true | xargs -r echo none; true | xargs echo some', 'some\n'],
    ['echo 1 > s; cp s t; mv t u; cat u; ls t 2>/dev/null; echo $?', '1\n2\n'],
    ['seq 3 | tac; echo abc | rev', '3\n2\n1\ncba\n'],
    ['[ "$EUID" -eq 0 ] && id -u; whoami; sudo -u root id -un', '0\nroot\nroot\n'],
    ['env X=5 sh -c "echo \\$X"; nice -n 5 echo ok; timeout -s KILL 5 echo in', '5\nok\nin\n'],
    ['which cat none; echo $?', '/usr/bin/cat\n1\n'],
    ['printf "a.c\\nabc\\n" | fgrep a.c', 'a.c\n'],
  ])('%s', (script, expected) => {
    expect(run(`rm -f d/a d/b d/e/b s t u; ${script}`).stdout).toBe(expected);
  });
});
