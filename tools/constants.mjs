// @ts-check
/**
 * Turns the functions and classes of a bundled file into constants. V8 looks at the binding of a declared function
 * before each call, since somebody might have assigned to it; a constant it takes for what it is, unless it is exported
 * by that name.
 */
import ts from 'typescript';

/** @param {string} text of a module @returns {string} */
export function withConstants(text) {
  const source = ts.createSourceFile('bundle.js', text, ts.ScriptTarget.ESNext, false, ts.ScriptKind.JS);
  const imports = [];
  const functions = [];
  const others = [];
  for (const node of source.statements) {
    if (ts.isImportDeclaration(node)) imports.push(node.getFullText(source));
    else if (ts.isFunctionDeclaration(node)) functions.push(functionText(node, source));
    else if (isClass(node)) others.push(classText(node, source));
    else if (isNamedExport(node)) others.push(exportText(node, source));
    else others.push(node.getFullText(source));
  }
  // Declared functions are there before anything runs, so the constants come first.
  return [...imports, ...functions, ...others, '\n'].join('');
}

/** @param {ts.FunctionDeclaration} node @param {ts.SourceFile} source */
function functionText(node, source) {
  if (node.name === undefined || node.modifiers?.some((m) => m.kind === ts.SyntaxKind.ExportKeyword))
    throw new Error('the bundler exports functions by a list, and they have names');
  const before = source.text.slice(node.getFullStart(), node.getStart(source));
  const head = source.text.slice(node.getStart(source), node.name.getStart(source)).trimEnd();
  return `${before}const ${node.name.text} = ${head}${source.text.slice(node.name.end, node.end)};`;
}

/** `var Name = class …;`, which is how the bundler writes a class. @param {ts.Statement} node */
function isClass(node) {
  if (!ts.isVariableStatement(node)) return false;
  const [one] = node.declarationList.declarations;
  return one?.initializer !== undefined && ts.isClassExpression(one.initializer);
}

/** @param {ts.Statement} node @param {ts.SourceFile} source */
const classText = (node, source) =>
  source.text.slice(node.getFullStart(), node.getStart(source)) +
  node.getText(source).replace(/^var/, 'const');

/** @param {ts.Statement} node @returns {node is ts.ExportDeclaration & { exportClause: ts.NamedExports }} */
const isNamedExport = (node) =>
  ts.isExportDeclaration(node) &&
  node.moduleSpecifier === undefined &&
  node.exportClause !== undefined &&
  ts.isNamedExports(node.exportClause);

/** What is exported gets a second name for it. @param {ts.ExportDeclaration & { exportClause: ts.NamedExports }} node @param {ts.SourceFile} source */
function exportText(node, source) {
  const names = node.exportClause.elements.map((one) => ({
    local: (one.propertyName ?? one.name).getText(source),
    exported: one.name.getText(source),
  }));
  const second = names.map(({ local }) => `const exported$${local} = ${local};`);
  const list = names.map(({ local, exported }) => `exported$${local} as ${exported}`);
  return `\n${second.join('\n')}\nexport { ${list.join(', ')} };`;
}
