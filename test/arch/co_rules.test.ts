import path from 'node:path';
import ts from 'typescript';
import { expect, test } from 'vitest';
import { compilerOptions, programOf } from '../../tools/compile.mjs';
import { readSources } from '../../tools/editions.mjs';
import { isCoOnlyText } from '../../tools/erase.mjs';
import { ROOT } from '../support/built.js';
import { place } from '../support/sources.js';

/**
 * A Co that nobody runs does nothing in one edition and everything in the other, and the compiler is content with it.
 * So each call that makes one stands behind `yield*`, in runAlone(…), or is all that an arrow function does.
 */
function strayCos(files: Map<string, string>): string[] {
  const program = programOf(files, { ...compilerOptions(), noCheck: true });
  const checker = program.getTypeChecker();
  const found: string[] = [];
  for (const [file, text] of files) {
    const source = program.getSourceFile(path.join(ROOT, file));
    if (source === undefined || isCoOnlyText(text) || file.startsWith('src/sim/co')) continue;
    const visit = (node: ts.Node): void => {
      if (ts.isCallExpression(node) && isCo(checker.getTypeAtLocation(node)) && !isRun(node))
        found.push(
          `${path.relative(ROOT, place(source, node))}: ${node.expression.getText(source)}() is not run`,
        );
      ts.forEachChild(node, visit);
    };
    visit(source);
  }
  return found;
}

const isCo = (type: ts.Type): boolean => type.symbol?.name === 'Generator';

function isRun(node: ts.Node): boolean {
  const { parent } = node;
  if (ts.isParenthesizedExpression(parent) || ts.isNonNullExpression(parent)) return isRun(parent);
  if (ts.isConditionalExpression(parent) && parent.condition !== node) return isRun(parent);
  if (ts.isYieldExpression(parent)) return parent.asteriskToken !== undefined;
  if (ts.isArrowFunction(parent)) return parent.body === node;
  return ts.isCallExpression(parent) && parent.expression.getText() === 'runAlone';
}

test('every Co that the source makes is run', () => {
  expect(strayCos(readSources())).toEqual([]);
});

test('one that is not run is found', () => {
  const head =
    "import { type Co, runAlone } from './sim/co.js';\nexport function* f(): Co<number> { return 1; }\n";
  const sources = readSources();
  const only = (text: string): Map<string, string> =>
    new Map([...sources].filter(([f]) => /^src\/(sim|base)\//.test(f)).concat([['src/x.ts', head + text]]));
  const bad = [
    'f();',
    'export const a = f();',
    'export const a = [...f()];',
    'for (const a of f()) a;',
    'f().next();',
  ];
  for (const text of bad) expect(strayCos(only(text)), text).toEqual(['src/x.ts:3: f() is not run']);
  const good = [
    'runAlone(f());',
    'export const g = (): Co<number> => f();',
    'export function* g(): Co<void> { yield* f(); }',
  ];
  for (const text of good) expect(strayCos(only(text)), text).toEqual([]);
});
