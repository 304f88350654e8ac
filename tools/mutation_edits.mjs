// @ts-check
/**
 * The one-place edits of a mutation run, all woven into one text: wherever an edit is possible, the text asks whether
 * that edit is the one in force. So the source is compiled once, and what a test reaches is known edit by edit.
 */
import fs from 'node:fs';
import path from 'node:path';
import ts from 'typescript';
import { filesBelow, ROOT } from './files.mjs';

/** @typedef {{ file: string, line: number, text: string, was: string }} Edit */

/** Beginnings of paths, with commas between. */
export const AREAS = 'src/hypervisor/passthrough,src/iommu/driver,src/iommu/hw';
/** @param {string} file @param {string} places */
export const isAt = (file, places) => places.split(',').some((place) => file.startsWith(place));
/** Where edits are woven in, to try those of `files`. @param {string} files */
export const placesFor = (files) => (files.split(',').every((file) => isAt(file, AREAS)) ? AREAS : files);
/** What woven text asks: is the edit of this number in force? */
export const ASK = '$edited';

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

/** Every edit of the files at these places, and each of the files with all of its edits woven in. @param {string} places */
export function weaveAll(places) {
  /** @type {Edit[]} */ const edits = [];
  /** @type {Map<string, string>} */ const woven = new Map();
  for (const file of filesBelow('src', '.ts'))
    if (isAt(file, places)) woven.set(file, new Weaver(file, edits).text);
  return { edits, woven };
}

/** Operators, conditions, numbers, booleans, statements left out. */
class Weaver {
  /** @param {string} file @param {Edit[]} edits gains those of the file */
  constructor(file, edits) {
    const text = fs.readFileSync(path.join(ROOT, file), 'utf8');
    this.file = file;
    this.edits = edits;
    this.source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
    this.text = this.children(this.source, 0, this.source.end);
  }

  /** The text of a node, its own edits and those within. @param {ts.Node} node @returns {string} */
  weave(node) {
    const plain = node.getText(this.source);
    if (ts.isImportDeclaration(node) || ts.isTypeNode(node) || ts.isInterfaceDeclaration(node)) return plain;
    if (ts.isCallExpression(node) && node.expression.getText(this.source) === 'assert') return plain;
    const at = node.getStart(this.source);
    const all = () => this.children(node, at, node.end);
    const either = (/** @type {number} */ id, /** @type {string} */ edited) =>
      `(${ASK}(${id}) ? (${edited}) : (${all()}))`;
    if (ts.isBinaryExpression(node)) {
      const { operatorToken: operator } = node;
      const other = OTHER[operator.kind];
      if (other === undefined) return all();
      const id = this.add(operator, other);
      const from = operator.getStart(this.source) - at;
      return either(
        id,
        plain.slice(0, from) + other + plain.slice(from + operator.getText(this.source).length),
      );
    }
    // An assertion holds anyhow: nothing changes when it is left out.
    if (ts.isExpressionStatement(node) && /^assert\(/.test(plain)) return plain;
    // Without it nothing can be made of the class.
    if (ts.isExpressionStatement(node) && /^super\(/.test(plain)) return all();
    if (ts.isExpressionStatement(node)) return `{ if (!${ASK}(${this.add(node, ';')})) { ${all()} } }`;
    if (ts.isNumericLiteral(node) && ts.isBinaryExpression(node.parent)) {
      const edited = `(${node.text} + 1)`;
      return either(this.add(node, edited), edited);
    }
    if (node.kind === ts.SyntaxKind.TrueKeyword) return either(this.add(node, 'false'), 'false');
    if (node.kind === ts.SyntaxKind.FalseKeyword) return either(this.add(node, 'true'), 'true');
    return all();
  }

  /** The text from `at` to `end` with every child of `node` woven. @param {ts.Node} node @param {number} at @param {number} end */
  children(node, at, end) {
    const whole = this.source.text;
    let out = '';
    const condition = ts.isIfStatement(node) ? node.expression : undefined;
    let negated = -1;
    if (condition !== undefined) negated = this.add(condition, `!(${condition.getText(this.source)})`);
    ts.forEachChild(node, (child) => {
      const start = child.getStart(this.source);
      const text = this.weave(child);
      out += whole.slice(at, start);
      out += child === condition ? `${ASK}(${negated}) ? !(${child.getText(this.source)}) : (${text})` : text;
      at = child.end;
    });
    return out + whole.slice(at, end);
  }

  /** @param {ts.Node} node what is edited @param {string} text what it becomes */
  add(node, text) {
    const line = this.source.getLineAndCharacterOfPosition(node.getStart(this.source)).line + 1;
    const was = node.getText(this.source);
    return this.edits.push({ file: this.file, line, text, was }) - 1;
  }
}

/** @template T @param {readonly T[]} items @param {number} n @param {number} seed @returns {T[]} */
export function sample(items, n, seed) {
  const left = [...items];
  let state = seed >>> 0;
  return Array.from({ length: Math.min(n, left.length) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return /** @type {T} */ (left.splice(state % left.length, 1)[0]);
  });
}
