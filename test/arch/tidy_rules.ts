/** Rules about one source file that neither the compiler nor the linter knows. */
import ts from 'typescript';
import { place } from '../support/sources.js';

const FILE_LINES_MAX = 499;
const FUNCTION_LINES_MAX = 69;
const CLOCKS = new Set(['Date.now', 'Math.random', 'performance.now', 'new Date', 'crypto.getRandomValues']);
const CLOCK_CALLS = new Set(['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask']);
const CONSOLE = /^console\.(?:log|error|warn|info|debug|trace|table|dir)$/;
const WIDE = new Set(['BigInt', 'BigInt64Array', 'BigUint64Array']);

/** `file:line: why` for each place of `source` that breaks a rule. */
export function untidy(source: ts.SourceFile): string[] {
  const found: string[] = [];
  const say = (node: ts.Node, why: string): void => void found.push(`${place(source, node)}: ${why}`);
  const lines = source.getLineAndCharacterOfPosition(source.end).line;
  if (lines > FILE_LINES_MAX) found.push(`${source.fileName}: ${lines} lines, at most ${FILE_LINES_MAX}`);
  const inCli = source.fileName.startsWith('src/cli/');
  const visit = (node: ts.Node): void => {
    for (const rule of RULES) {
      const why = rule(node, source);
      if (why !== undefined) say(node, why);
    }
    if (!inCli) {
      const why = outsideCli(node, source);
      if (why !== undefined) say(node, why);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return [...found, ...badTags(source)];
}

type Rule = (node: ts.Node, source: ts.SourceFile) => string | undefined;

const RULES: readonly Rule[] = [longFunction, wideNumbers, anyType, throwing, hiddenState, nestedGenerator];

function longFunction(node: ts.Node, source: ts.SourceFile): string | undefined {
  if (!ts.isFunctionLike(node) || !('body' in node) || node.body === undefined) return undefined;
  const first = source.getLineAndCharacterOfPosition(node.getStart(source)).line;
  const lines = source.getLineAndCharacterOfPosition(node.end).line - first + 1;
  return lines > FUNCTION_LINES_MAX
    ? `a function of ${lines} lines, at most ${FUNCTION_LINES_MAX}`
    : undefined;
}

function wideNumbers(node: ts.Node, source: ts.SourceFile): string | undefined {
  if (!/^src\/(iommu|pci|hypervisor|sim)\//.test(source.fileName)) return undefined;
  const wide = ts.isBigIntLiteral(node) || (ts.isIdentifier(node) && WIDE.has(node.text));
  return wide || node.kind === ts.SyntaxKind.BigIntKeyword ? 'BigInt below the toolstack' : undefined;
}

function anyType(node: ts.Node): string | undefined {
  return node.kind === ts.SyntaxKind.AnyKeyword ? 'the type any' : undefined;
}

/** What reads the input of users: it may throw InputError, made by functions too. */
const READERS =
  /^src\/(?:inputs\/|cli\/|qtest\/|check\/(?:token|own_machine|blocks)\.ts|iommu\/format\/|machine\w*\.ts)/;

const SHELL_ERRORS = new Set([
  'ShellSyntaxError',
  'RegexError',
  'ShellExit',
  'ShellLimit',
  'ShellReturn',
  'ExpansionError',
  'this.unexpected',
]);

/** Xen returns errno, hardware records faults; only bugs, dead hosts and bad input are thrown, and exit() of xl. */
function throwing(node: ts.Node, source: ts.SourceFile): string | undefined {
  if (!ts.isThrowStatement(node) || /^src\/(base|sim)\//.test(source.fileName)) return undefined;
  const { expression } = node;
  if (isCaught(expression)) return undefined;
  const made = ts.isNewExpression(expression) ? expression.expression.getText(source) : undefined;
  if (READERS.test(source.fileName) && (made === undefined || made === 'InputError')) return undefined;
  if (source.fileName.startsWith('src/toolstack/xl/') && made === 'XlExit') return undefined;
  // Ctrl-C ends a command wherever it is; its summary is the command line's.
  if (source.fileName.startsWith('src/cli/') && made === 'Interrupted') return undefined;
  // timeout(1) ends a process where it leaves the kernel.
  if (source.fileName === 'src/toolstack/sysfs/files.ts' && made === 'ProcessKilled') return undefined;
  // The shell reads what people type, too; its errors end in a line on its stderr.
  if (source.fileName.startsWith('src/toolstack/shell/') && (made === undefined || SHELL_ERRORS.has(made)))
    return undefined;
  return 'throw outside base and sim (readers of inputs may throw InputError)';
}

/** `throw e` where `e` is what a clause around it has caught. */
function isCaught(thrown: ts.Expression): boolean {
  if (!ts.isIdentifier(thrown)) return false;
  for (let n: ts.Node = thrown; !ts.isSourceFile(n) && !ts.isFunctionLike(n); n = n.parent)
    if (ts.isCatchClause(n)) return n.variableDeclaration?.name.getText() === thrown.text;
  return false;
}

/** Marks that tell what was written since a snapshot are no part of it. */
function copiesItself(node: ts.Node): boolean {
  let n = node;
  while (!ts.isClassDeclaration(n) && !ts.isSourceFile(n)) n = n.parent;
  return (
    ts.isClassDeclaration(n) &&
    (n.heritageClauses ?? []).some((h) => h.types.some((t) => t.expression.getText() === 'CopiesItself'))
  );
}

/** A snapshot sees the fields of objects, nothing else. */
function hiddenState(node: ts.Node, source: ts.SourceFile): string | undefined {
  if (ts.isPrivateIdentifier(node))
    return copiesItself(node) ? undefined : 'a #private field, which a snapshot cannot see';
  if (ts.isPropertyDeclaration(node)) {
    const kinds = ts.getModifiers(node)?.map((m) => m.kind) ?? [];
    const shared =
      kinds.includes(ts.SyntaxKind.StaticKeyword) && !kinds.includes(ts.SyntaxKind.ReadonlyKeyword);
    return shared ? 'a static field that changes, which a snapshot cannot see' : undefined;
  }
  if (!ts.isVariableStatement(node) || node.parent !== source || source.fileName.startsWith('src/cli/'))
    return undefined;
  const constant = (node.declarationList.flags & ts.NodeFlags.Const) !== 0 || isAmbient(node);
  return constant ? undefined : 'a variable of the module, which a snapshot cannot see';
}
const isAmbient = (node: ts.VariableStatement): boolean =>
  node.modifiers?.some((m) => m.kind === ts.SyntaxKind.DeclareKeyword) === true;

/** Making a generator function at run time costs microseconds. */
function nestedGenerator(node: ts.Node): string | undefined {
  if (!ts.isFunctionDeclaration(node) || node.asteriskToken === undefined) return undefined;
  return ts.isSourceFile(node.parent) ? undefined : 'a generator function inside a function';
}

function outsideCli(node: ts.Node, source: ts.SourceFile): string | undefined {
  if (ts.isPropertyAccessExpression(node) && CLOCKS.has(node.getText(source)))
    return `${node.getText(source)} outside src/cli`;
  if (ts.isNewExpression(node) && CLOCKS.has(`new ${node.expression.getText(source)}`))
    return 'new Date outside src/cli';
  if (ts.isCallExpression(node)) {
    const callee = node.expression.getText(source);
    if (CLOCK_CALLS.has(callee)) return `${callee} outside src/cli`;
    if (CONSOLE.test(callee)) return 'console outside src/cli';
  }
  if (ts.isImportDeclaration(node) && /^['"]node:/.test(node.moduleSpecifier.getText(source)))
    return 'an import of node: outside src/cli';
  return undefined;
}

/** A tag names a file of Xen, with functions of it or not, or something that C code can be searched for. */
const TAG_PATHS = /^(?:(?:[\w-]+\/)*[\w-]+\.(?:[chlyS]|idl)|[\w-]+(?:\/[\w-]+)+)(?:[ ,:;.)].*)?$/;
const TAG_NAME =
  /^(?:%\w+$|(?:struct|enum|union) \w+|%?\w*[A-Z_]\w*|\w+(?:->|\.|\[|\()[^ ].*|[a-z]\w*(?=$|[,:;(]))/;

function badTags(source: ts.SourceFile): string[] {
  const found: string[] = [];
  for (const [i, line] of source.text.split('\n').entries()) {
    const at = line.indexOf('@xen');
    if (at < 0) continue;
    const tag = /^@xen (\S.*?)\s*(?:\*\/|$)/.exec(line.slice(at))?.[1];
    if (tag === undefined || !isTag(tag))
      found.push(
        `${source.fileName}:${i + 1}: @xen names a file of Xen or something to search for in it: ${tag ?? ''}`,
      );
  }
  return found;
}
export const isTag = (tag: string): boolean => TAG_PATHS.test(tag) || TAG_NAME.test(tag);
