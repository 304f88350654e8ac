// @ts-check
/**
 * A mutation score: random one-place edits of the pass-through code, and how many of them the tests notice.
 *
 *   npm run mutation -- --sample N --seed S    N edits (40), chosen by S (1)
 *   npm run mutation -- --from I               goes on with the I-th edit of the sample
 *   npm run mutation -- --quick                without random histories and recorded register accesses
 *   npm run mutation -- --jobs N               N at a time (2)
 *
 * Each edit meets the tests nearest to it first, then wider ones, until one fails. A stage of tests is first
 * run without an edit. Exit: 0, 2 on wrong usage or when a test fails without any edit.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import ts from 'typescript';
import { filesBelow, ROOT } from './files.mjs';
import { MutantPool } from './mutant_pool.mjs';

/** @typedef {{ file: string, line: number, at: number, end: number, text: string, was: string }} Edit */
/** @typedef {{ tests: string[], title?: string }} Stage */
/** @typedef {import('./mutant_pool.mjs').Run} Run */

const AREAS = ['src/hypervisor/passthrough', 'src/iommu/driver', 'src/iommu/hw'];
const ALL = filesBelow('test', '.test.ts');
const testsLike = (/** @type {RegExp} */ like) => ALL.filter((f) => like.test(f));
const VTD = /\/(vtd_driver_|quarantine_modes|dmar\.)/;
const AMD = /conformance\/amd_|unit\/(amd_|ivrs)/;
/** The quick tests of a folder; the first that is a beginning of a source file's path. @type {[string, string[]][]} */
const NEAR = [
  [
    'src/hypervisor/passthrough/',
    testsLike(/\/(passthrough_|hv_passthrough_|domctl_device|quarantine_modes)/),
  ],
  ['src/iommu/driver/vtd/', testsLike(VTD)],
  ['src/iommu/driver/amd/', testsLike(AMD)],
  ['src/iommu/driver/', [...testsLike(VTD), ...testsLike(AMD)]],
  [
    'src/iommu/hw/vtd/',
    testsLike(/vtd_hw_|\/vtd_(caches|faults|queue|silicon|translate)|qtest\/(inv|iommu)/),
  ],
  ['src/iommu/hw/amd/', testsLike(/unit\/amd_|conformance\/amd_/)],
];
/** Then those of every folder, */
const WIDE = testsLike(
  /^test\/(conformance|machine|qtest\/(?!recorded))|unit\/(hv_|vtd_(driver|hw)|amd_|cli_session)/,
);
/** recordings of a real Xen, and the histories of past bugs. */
const RECORDED = testsLike(/^test\/(golden|bugs)\//);
/** An edit that makes a loop endless is killed after this time. */
const TIMEOUT_MS = 120_000;

/**
 * What an edit of a file meets, in this order: the tests nearest to it, wider ones, all invariants on random histories
 * of its vendor, recorded register accesses. @param {string} file @param {boolean} quick @returns {Stage[]}
 */
function stagesOf(file, quick) {
  const near = NEAR.find(([folder]) => file.startsWith(folder))?.[1] ?? [];
  const vendor = file.includes('/amd/') ? 'amd' : 'vtd';
  const late = ['test/property/special.test.ts'];
  if (file.startsWith('src/iommu/hw/vtd/')) late.push('test/qtest/recorded.test.ts');
  const stages = [{ tests: near }, { tests: WIDE }, { tests: RECORDED }];
  if (quick) return stages;
  return [
    ...stages,
    { tests: ['test/property/isolation.test.ts'], title: `${vendor}, fixed profile the histories reached` },
    { tests: late },
  ];
}

/** @type {Readonly<Record<number, string>>} */
const OTHER = {
  [ts.SyntaxKind.EqualsEqualsEqualsToken]: '!==',
  [ts.SyntaxKind.ExclamationEqualsEqualsToken]: '===',
  [ts.SyntaxKind.LessThanToken]: '<=',
  [ts.SyntaxKind.LessThanEqualsToken]: '<',
  [ts.SyntaxKind.GreaterThanToken]: '>=',
  [ts.SyntaxKind.GreaterThanEqualsToken]: '>',
  [ts.SyntaxKind.AmpersandAmpersandToken]: '||',
  [ts.SyntaxKind.BarBarToken]: '&&',
  [ts.SyntaxKind.PlusToken]: '-',
  [ts.SyntaxKind.MinusToken]: '+',
  [ts.SyntaxKind.AmpersandToken]: '|',
  [ts.SyntaxKind.BarToken]: '&',
};

/** Every edit of a file: operators, conditions, numbers, booleans, calls left out. @param {string} file @returns {Edit[]} */
function editsOf(file) {
  const source = ts.createSourceFile(
    file,
    fs.readFileSync(path.join(ROOT, file), 'utf8'),
    ts.ScriptTarget.ESNext,
    true,
  );
  /** @type {Edit[]} */ const edits = [];
  const add = (/** @type {ts.Node} */ node, /** @type {string} */ text) => {
    const at = node.getStart(source);
    const line = source.getLineAndCharacterOfPosition(at).line + 1;
    edits.push({ file, line, at, end: node.end, text, was: node.getText(source) });
  };
  const visit = (/** @type {ts.Node} */ node) => {
    if (ts.isImportDeclaration(node) || ts.isTypeNode(node) || ts.isInterfaceDeclaration(node)) return;
    if (ts.isCallExpression(node) && node.expression.getText(source) === 'assert') return;
    if (ts.isBinaryExpression(node)) {
      const text = OTHER[node.operatorToken.kind];
      if (text !== undefined) add(node.operatorToken, text);
    }
    if (ts.isIfStatement(node)) add(node.expression, `!(${node.expression.getText(source)})`);
    if (ts.isExpressionStatement(node)) add(node, ';');
    if (ts.isNumericLiteral(node) && ts.isBinaryExpression(node.parent)) add(node, `(${node.text} + 1)`);
    if (node.kind === ts.SyntaxKind.TrueKeyword) add(node, 'false');
    if (node.kind === ts.SyntaxKind.FalseKeyword) add(node, 'true');
    ts.forEachChild(node, visit);
  };
  visit(source);
  return edits;
}

/** @param {readonly Edit[]} edits @param {number} n @param {number} seed @returns {Edit[]} */
function sample(edits, n, seed) {
  const left = [...edits];
  let state = seed >>> 0;
  return Array.from({ length: Math.min(n, left.length) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return /** @type {Edit} */ (left.splice(state % left.length, 1)[0]);
  });
}

/** @returns {{ n: number, seed: number, jobs: number, from: number, quick: boolean }} */
function chosen() {
  const text = /** @type {const} */ ({ type: 'string' });
  const quick = /** @type {const} */ ({ type: 'boolean', default: false });
  const { values } = parseArgs({ options: { sample: text, seed: text, jobs: text, from: text, quick } });
  const { sample = '40', seed = '1', jobs = '2', from = '1' } = values;
  for (const one of [sample, seed, jobs, from])
    if (!/^[1-9]\d{0,8}$/.test(one))
      throw new Error(`--sample, --seed, --jobs and --from take numbers, not '${one}'`);
  return { n: +sample, seed: +seed, jobs: +jobs, from: +from, quick: values.quick };
}

/** Stages that passed without any edit. @type {Map<string, Promise<void>>} */
const sound = new Map();

/** The tests must pass as they are, or no verdict means anything. @param {Stage} stage @param {Run} run */
async function mustPassUnedited(stage, run) {
  const results = await run({ project: 'sync', ...stage }, 2 * TIMEOUT_MS);
  const bad = results?.find((r) => r.status === 'failed' || r.status === 'unloaded');
  if (bad === undefined && results?.some((r) => r.status === 'passed')) return;
  const what =
    bad === undefined ? `${stage.tests.join(' ')} did not end` : `${bad.file}: '${bad.name}' fails`;
  console.error(`mutation: ${what} without any edit`);
  process.exit(2);
}

/**
 * What the tests say of an edit. @param {Edit} e @param {Run} run
 * @returns {Promise<'killed' | 'survived' | 'unloadable'>}
 */
async function judge(e, run) {
  const whole = fs.readFileSync(path.join(ROOT, e.file), 'utf8');
  const mutant = { file: e.file, text: whole.slice(0, e.at) + e.text + whole.slice(e.end) };
  for (const stage of stagesOf(e.file, quick)) {
    const key = JSON.stringify(stage);
    const passes = sound.get(key) ?? mustPassUnedited(stage, run);
    sound.set(key, passes);
    await passes;
    const results = await run({ project: 'sync', ...stage, mutant }, TIMEOUT_MS);
    if (results === undefined || results.some((r) => r.status === 'failed')) return 'killed';
    if (results.every((r) => r.status === 'unloaded')) return 'unloadable';
    if (results.some((r) => r.status === 'unloaded')) return 'killed';
  }
  return 'survived';
}

/** @type {ReturnType<typeof chosen>} */ let choice;
try {
  choice = chosen();
} catch (error) {
  console.error(`mutation: ${error instanceof Error ? error.message : error}`);
  process.exit(2);
}
const { n, seed, jobs, from, quick } = choice;
const all = AREAS.flatMap((folder) => filesBelow(folder, '.ts')).flatMap(editsOf);
const pool = new MutantPool(jobs);
process.on('exit', () => pool.close());
process.on('SIGINT', () => process.exit(130));
const counts = { killed: 0, survived: 0, unloadable: 0 };
function report() {
  const tried = counts.killed + counts.survived;
  const score = ((100 * counts.killed) / Math.max(tried, 1)).toFixed(1);
  console.log(`${counts.killed} of ${tried} killed: ${score} % (${all.length} edits possible, seed ${seed})`);
}
process.on('SIGTERM', () => {
  report();
  process.exit(143);
});
const edits = [...sample(all, n, seed).entries()].slice(from - 1);
await pool.each(edits, async ([i, e], run) => {
  const verdict = await judge(e, run);
  counts[verdict] += 1;
  const was = e.was.replaceAll(/\s+/g, ' ').slice(0, 60);
  console.log(`${i + 1}  ${verdict}  ${e.file}:${e.line}  ${was}  ->  ${e.text.slice(0, 60)}`);
});
pool.close();
report();
