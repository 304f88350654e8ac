// @ts-check
/**
 * Tells each class which of its fields are `readonly`, as a static list: nobody assigns to those once an instance is
 * made, which the compiler checks, so a snapshot need not put them back (src/sim/snapshot.ts). Lines stay where they are.
 */
import ts from 'typescript';

/** @param {string} file @param {string} text @returns {string} text with the same lines */
export function withFixedFields(file, text) {
  if (!/\bclass\s/.test(text)) return text;
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true, ts.ScriptKind.TS);
  /** @type {{ at: number, text: string }[]} */ const edits = [];
  const visit = (/** @type {ts.Node} */ node) => {
    if (ts.isClassDeclaration(node)) {
      const names = readonlyFields(node);
      const list = names.map((name) => `'${name}'`).join(', ');
      if (names.length > 0)
        edits.push({
          at: node.members.pos,
          text: ` static readonly fixedFields: readonly string[] = [${list}];`,
        });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  let out = '';
  let at = 0;
  for (const edit of edits) {
    out += text.slice(at, edit.at) + edit.text;
    at = edit.at;
  }
  return out + text.slice(at);
}

/** @param {ts.ClassDeclaration} node @returns {string[]} */
function readonlyFields(node) {
  /** @type {string[]} */ const names = [];
  const add = (/** @type {ts.PropertyDeclaration | ts.ParameterDeclaration} */ field) => {
    const has = (/** @type {ts.SyntaxKind} */ kind) => field.modifiers?.some((m) => m.kind === kind) ?? false;
    if (!has(ts.SyntaxKind.ReadonlyKeyword) || has(ts.SyntaxKind.StaticKeyword)) return;
    if (ts.isIdentifier(field.name)) names.push(field.name.text);
  };
  for (const member of node.members) {
    if (ts.isPropertyDeclaration(member)) add(member);
    else if (ts.isConstructorDeclaration(member)) member.parameters.forEach(add);
  }
  return names;
}
