// @ts-check
/**
 * docs/conformance.md: each clause of the manuals that a test of the silicon shows, with its sections and the test.
 * The sections stand in parentheses at the end of the name of the `describe` around a test.
 *
 *   node tools/conformance.mjs           writes it
 *   node tools/conformance.mjs --check   exit 1 unless it is what would be written
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './files.mjs';

const DOC = path.join(ROOT, 'docs/conformance.md');
const inFolder = (/** @type {string} */ name) => `test/conformance/${name}.test.ts`;
const VTD = [
  'vtd_translate',
  'vtd_caches',
  'vtd_queue',
  'vtd_faults',
  'vtd_silicon',
  'vtd_scalable',
  'vtd_faultlog',
  'vtd_clauses',
  'vtd_memory',
].map(inFolder);
const AMD = ['amd_silicon_intremap'].map(inFolder);
const HEAD = `# What the VT-d silicon is held to

Each row is a clause of Intel's "Virtualization Technology for Directed I/O, Architecture Specification", and the test
that fails when the simulated unit breaks it. Sections are numbered as in its revision 5.1. This page is written by
\`node tools/conformance.mjs\` from the tests themselves, and a test fails when it is out of date.

Not built: requests with PASID, nested and 5-level first-stage translation, page requests, host permission tables, abort
mode, interrupt posting, and with them reasons 27h to 2Bh, 31h to 34h, 44h to 49h, 5Ch to 60h, 74h to 77h, 7Ch, 7Dh, 89h,
90h, 91h and A0h on. The same unit has advanced fault logging, which revision 4.0 took out, where CAP.AFL is set.

QEMU's own tests of the same clauses are in [qtest.md](qtest.md), with what QEMU does otherwise.

`;
const AMD_HEAD = `
# What the AMD silicon is held to

The same for AMD's "I/O Virtualization Technology (IOMMU) Specification", 48882. Interrupts so far; translation, caches,
commands and events are tested in test/unit/amd_hw.test.ts, without a clause for each test.

`;
/** Not clauses of the manual: what the unit does when it is asked to deviate. */
const QUIRKS = 'as QEMU does it';

/** Names of all tests, without running one. @returns {{ name: string, file: string }[]} */
function listTests() {
  const args = ['node_modules/vitest/vitest.mjs', 'list', '--json', '--project', 'sync', ...VTD, ...AMD];
  const run = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout.slice(run.stdout.indexOf('[')));
}

/** @param {string} text */
const cell = (text) => text.replaceAll('|', '\\|');

const page = () => {
  const all = listTests();
  return `${HEAD}${clauses(all, VTD)}${AMD_HEAD}${clauses(all, AMD)}`;
};

/** The clauses that the tests of `files` show. @param {{ name: string, file: string }[]} all @param {string[]} files */
function clauses(all, files) {
  /** @type {Map<string, string[]>} */
  const groups = new Map();
  for (const { name, file } of files.flatMap((f) => all.filter((t) => t.file.endsWith(f)))) {
    const [group = '', ...rest] = name.split(' > ');
    if (group === QUIRKS) continue;
    const sections = /^'?(.*) \(([^()]+)\)'?$/.exec(group);
    if (sections === null) throw new Error(`${file}: "${group}" names no section of the manual`);
    const title = (sections[1] ?? '').replace(/^./, (c) => c.toUpperCase());
    const row = `| ${sections[2]} | ${cell(rest.join(', '))} | ${path.basename(file, '.test.ts')} |`;
    groups.set(title, [...(groups.get(title) ?? []), row]);
  }
  const rows = [...groups.values()].reduce((n, r) => n + r.length, 0);
  const parts = [...groups].map(
    ([title, lines]) => `## ${title}\n\n| section | clause | test |\n|---|---|---|\n${lines.join('\n')}\n`,
  );
  return `${rows} clauses.\n\n${parts.join('\n')}`;
}

const wanted = page();
if (!process.argv.includes('--check')) fs.writeFileSync(DOC, wanted);
else if (!fs.existsSync(DOC) || fs.readFileSync(DOC, 'utf8') !== wanted) {
  process.stderr.write('docs/conformance.md is out of date: node tools/conformance.mjs\n');
  process.exitCode = 1;
}
