// @ts-check
/**
 * A mutation score: random one-place edits of the pass-through code, and how many of them the tests notice.
 *
 *   npm run mutation -- --sample N --seed S    N edits (40), chosen by S (1)
 *
 * Each runs the tests of its area until one fails. Survivors are printed with their place. Exit: 0, 2 on wrong usage.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import ts from 'typescript';
import { filesBelow, ROOT } from './files.mjs';
import { MutantPool } from './mutant_pool.mjs';

/** @typedef {{ file: string, line: number, at: number, end: number, text: string, was: string }} Edit */

const AREAS = ['src/hypervisor/passthrough', 'src/iommu/driver', 'src/iommu/hw'];
/** Quick tests first; random histories for what they let live. */
const TESTS = [
  ...['test/conformance', 'test/unit']
    .flatMap((folder) => filesBelow(folder, '.test.ts'))
    .filter((f) => /passthrough|vtd|amd|domctl|hv_/.test(f)),
  'test/machine/dma.test.ts',
  'test/property/special.test.ts',
  'test/property/isolation.test.ts',
];
const TIMEOUT_MS = 240_000;

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

const number = /** @type {const} */ ({ type: 'string' });
const { values } = parseArgs({ options: { sample: number, seed: number, jobs: number } });
const [n, seed, jobs] = [values.sample ?? '40', values.seed ?? '1', values.jobs ?? '2'].map(Number);
if (![n, seed, jobs].every((x) => Number.isInteger(x)) || !n || !jobs) {
  console.error('mutation: --sample, --seed and --jobs take numbers');
  process.exit(2);
}
const all = AREAS.flatMap((folder) => filesBelow(folder, '.ts')).flatMap(editsOf);
const pool = new MutantPool(jobs);
process.on('exit', () => pool.close());
await pool.each([0], async (_, run) => {
  const before = await run({ project: 'sync', tests: TESTS, bail: true }, 2 * TIMEOUT_MS);
  const failing = before?.find((r) => r.status === 'failed');
  if (before !== undefined && failing === undefined) return;
  console.error(
    `mutation: ${failing === undefined ? 'the tests hang' : `${failing.name} fails`} without any edit`,
  );
  process.exit(2);
});
const counts = { killed: 0, survived: 0 };
await pool.each(sample(all, n, seed ?? 1), async (e, run) => {
  const whole = fs.readFileSync(path.join(ROOT, e.file), 'utf8');
  const mutant = { file: e.file, text: whole.slice(0, e.at) + e.text + whole.slice(e.end) };
  const results = await run({ project: 'sync', tests: TESTS, mutant, bail: true }, TIMEOUT_MS);
  if (results?.length === 0) return; // it does not load
  const lived = results?.every((r) => r.status !== 'failed') === true;
  counts[lived ? 'survived' : 'killed'] += 1;
  const was = e.was.replaceAll(/\s+/g, ' ').slice(0, 60);
  if (lived) console.log(`survived  ${e.file}:${e.line}  ${was}  ->  ${e.text.slice(0, 60)}`);
});
pool.close();
const tried = counts.killed + counts.survived;
const score = ((100 * counts.killed) / Math.max(tried, 1)).toFixed(1);
console.log(`${counts.killed} of ${tried} killed: ${score} % (${all.length} edits possible, seed ${seed})`);
