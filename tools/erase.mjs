// @ts-check
/**
 * Makes one edition of a source file by small text edits, so that lines, comments and stack traces survive.
 *
 * Edition `co` keeps the generators and only lowers `using x = yield* hold(l);` to const and try/finally, which
 * every Node runs and which costs less than the compiler's own helper. Edition `sync` erases the generators too:
 * `function* f(): Co<T>` becomes `function f(): T`, `yield* g()` becomes `g()`, and a lock that is held to the end of
 * a function is given back without `finally`, which is the dearest part of a lock. Forms that are not known to mean
 * the same in both editions are refused with file, line and reason.
 */
import path from 'node:path';
import ts from 'typescript';

/** @typedef {'co' | 'sync'} Edition */
/** @typedef {{ at: number, end: number, text: string }} Edit */
/**
 * What `lower` needs to know of the other files, and whether assertions that hold shall cost no call: as shipped, but not
 * where coverage counts branches. @typedef {{ isCoOnly?: (file: string) => boolean, coldAsserts?: boolean }} LowerOptions
 */

/** Takes a lock and gives it back at the end of the block; the only initializers of `using`. */
const HOLDS = ['hold', 'holdRead', 'holdWrite'];
const AFTER_USING = 'a function is declared before the `using` of its block, not after it';
/** First line of a file that exists in the edition `co` only. */
const CO_ONLY = /^(?:\/\*\*?|\/\/) edition: co\b/;

export class Refusal extends Error {
  /** @param {readonly string[]} lines one `file:line:column: reason` each */
  constructor(lines) {
    super(lines.join('\n'));
    this.name = 'Refusal';
    this.lines = lines;
  }
}

/** True for a file whose first line says that the synchronous edition leaves it out. @param {string} text */
export const isCoOnlyText = (text) => CO_ONLY.test(text);

/** The source file that an import of `from` names. @param {string} from @param {string} specifier */
export const resolveImport = (from, specifier) =>
  path.posix.join(path.posix.dirname(from), specifier).replace(/\.js$/, '.ts');

/**
 * @param {string} file as it shall be named in refusals; relative imports are resolved against it
 * @param {string} text @param {Edition} edition @param {LowerOptions} [options]
 * @returns {string} text with the same lines
 */
export function lower(file, text, edition, options = {}) {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true, ts.ScriptKind.TS);
  const pass = new Pass(source, file, edition, options);
  pass.visit(source);
  if (pass.refused.length > 0) throw new Refusal(pass.refused);
  return applyEdits(text, pass.edits);
}

/** @param {string} text @param {readonly Edit[]} edits not overlapping; those at one place in the order given */
function applyEdits(text, edits) {
  const sorted = edits.map((e, i) => ({ e, i })).sort((a, b) => a.e.at - b.e.at || a.i - b.i);
  let out = '';
  let at = 0;
  for (const { e } of sorted) {
    if (e.at < at) throw new Error(`edits overlap at offset ${e.at}`);
    out += text.slice(at, e.at) + e.text;
    at = e.end;
  }
  return out + text.slice(at);
}

class Pass {
  /** @type {Edit[]} */ edits = [];
  /** @type {string[]} */ refused = [];

  /** @param {ts.SourceFile} source @param {string} file @param {Edition} edition @param {LowerOptions} options */
  constructor(source, file, edition, options) {
    this.source = source;
    this.file = file;
    this.sync = edition === 'sync';
    this.isCoOnly = options.isCoOnly ?? (() => false);
    this.coldAsserts = options.coldAsserts ?? false;
  }

  /** @param {ts.Node} node @param {string} why */
  refuse(node, why) {
    const { line, character } = this.source.getLineAndCharacterOfPosition(node.getStart(this.source));
    this.refused.push(`${this.file}:${line + 1}:${character + 1}: ${why}`);
  }

  /** Removes a range but keeps its line ends. @param {number} at @param {number} end */
  drop(at, end) {
    this.edits.push({ at, end, text: this.source.text.slice(at, end).replace(/[^\n]/g, '') });
  }

  /** @param {ts.Node} node */
  visit(node) {
    if (ts.isVariableDeclarationList(node)) this.using(node);
    if (ts.isBlock(node)) this.block(node);
    if (this.coldAsserts && ts.isExpressionStatement(node)) this.assertion(node);
    if (this.sync) this.erase(node);
    ts.forEachChild(node, (child) => this.visit(child));
  }

  /** Refuses a `using` that `block` does not lower. @param {ts.VariableDeclarationList} list */
  using(list) {
    const kind = list.flags & ts.NodeFlags.BlockScoped;
    if (kind === ts.NodeFlags.AwaitUsing)
      return this.refuse(list, '`await using` waits outside simulated time');
    if (kind !== ts.NodeFlags.Using) return;
    const inBlock = ts.isVariableStatement(list.parent) && ts.isBlock(list.parent.parent);
    if (!inBlock)
      return this.refuse(list, '`using` stands directly in a block, not in a loop head, case or module');
    if (list.declarations.length !== 1) return this.refuse(list, 'one `using` takes one lock');
    if (lockOf(list) === undefined)
      this.refuse(list, '`using` takes a lock: `using name = yield* hold(lock)`, holdRead or holdWrite');
  }

  /**
   * `assert(x, what);` becomes `{ if (!(x)) assert(false, what); }`: what holds costs no call, and no text is made of it.
   * @param {ts.ExpressionStatement} node
   */
  assertion(node) {
    const call = node.expression;
    if (!ts.isCallExpression(call) || call.expression.getText(this.source) !== 'assert') return;
    const [cond] = call.arguments;
    if (cond === undefined) return;
    const at = node.getStart(this.source);
    const start = cond.getStart(this.source);
    const between = this.source.text.slice(at, start).replace(/[^\n]/g, '');
    this.edits.push({ at, end: start, text: `{ if (!(${between}` });
    this.edits.push({ at: cond.end, end: cond.end, text: ')) assert(false' });
    this.edits.push({ at: node.end, end: node.end, text: ' }' });
  }

  /** Each `using` of a block guards the rest of it. @param {ts.Block} block */
  block(block) {
    /** @type {string[]} */ const held = [];
    const only = this.sync ? onlyLockOf(block) : undefined;
    if (only !== undefined) return this.holdToEnd(block, only);
    for (const statement of block.statements) {
      if (held.length > 0 && ts.isFunctionDeclaration(statement)) this.refuse(statement, AFTER_USING);
      const list = ts.isVariableStatement(statement) ? statement.declarationList : undefined;
      const name = list && lockOf(list);
      if (list === undefined || name === undefined) continue;
      const at = list.getStart(this.source);
      this.edits.push({ at, end: at + 'using'.length, text: 'const' });
      this.edits.push({ at: statement.end, end: statement.end, text: ' try {' });
      held.unshift(name);
    }
    const text = held.map((name) => `} finally { ${name}.release(); } `).join('');
    if (text !== '') this.edits.push({ at: block.end - 1, end: block.end - 1, text });
  }

  /**
   * Holds a block's only lock to the block's end without `finally`: a `return` in between leaves the guarded part by
   * its label, and the lock is released once, behind it. Unlike a generator, nobody ends such a function from outside.
   * @param {ts.Block} block @param {number} at which of its statements takes the lock
   */
  holdToEnd(block, at) {
    const [taking, ...guarded] = block.statements.slice(at);
    if (taking === undefined || !ts.isVariableStatement(taking)) return;
    const name = lockOf(taking.declarationList) ?? '';
    const type = ts.isFunctionLike(block.parent) && block.parent.type && coArgument(block.parent.type);
    const result = `${name}Result`;
    const returns = guarded.flatMap(returnsIn);
    const gives = returns.some((one) => one.expression !== undefined);
    for (const one of guarded) {
      if (ts.isFunctionDeclaration(one)) this.refuse(one, AFTER_USING);
      if (one.getText(this.source).includes(result)) this.refuse(one, `the build needs the name ${result}`);
    }
    const start = taking.declarationList.getStart(this.source);
    this.edits.push({ at: start, end: start + 'using'.length, text: 'const' });
    const declared = gives ? ` let ${result}!: ${type ? type.getText(this.source) : 'never'};` : '';
    this.edits.push({
      at: taking.end,
      end: taking.end,
      text: `${declared}${returns.length > 0 ? ' held:' : ''} try {`,
    });
    for (const one of returns) this.leave(one, result);
    const back = `${name}.release();`;
    const text = `} catch (error) { ${back} throw error; } ${back} ${gives ? `return ${result}; ` : ''}`;
    this.edits.push({ at: block.end - 1, end: block.end - 1, text });
  }

  /** @param {ts.ReturnStatement} node @param {string} result the variable that takes what it returns */
  leave(node, result) {
    const { expression } = node;
    const at = node.getStart(this.source);
    if (expression === undefined) this.edits.push({ at, end: node.end, text: 'break held;' });
    else {
      this.edits.push({ at, end: expression.getStart(this.source), text: `{ ${result} = ` });
      this.edits.push({ at: expression.end, end: node.end, text: '; break held; }' });
    }
  }

  /** @param {ts.Node} node */
  erase(node) {
    if (ts.isYieldExpression(node)) this.yield(node);
    else if (ts.isImportDeclaration(node)) this.import(node);
    else if (ts.isExportDeclaration(node)) this.export(node);
    else if (ts.isTypeReferenceNode(node)) this.typeReference(node);
    else if (ts.isImportTypeNode(node)) this.importType(node);
    else if (ts.isForOfStatement(node) && node.awaitModifier && !this.file.includes('src/cli/'))
      this.refuse(node, '`for await` waits outside simulated time; only the command line does');
    else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [what] = node.arguments;
      if (what && ts.isStringLiteral(what) && this.namesCoOnly(what))
        this.refuse(node, `${what.text} is not in the synchronous edition`);
    } else if (ts.isFunctionLike(node)) this.functionLike(node);
  }

  /** @param {ts.SignatureDeclaration} node */
  functionLike(node) {
    const body = 'body' in node ? node.body : undefined;
    const star = 'asteriskToken' in node ? node.asteriskToken : undefined;
    const returnsCo = node.type !== undefined && coArgument(node.type) !== undefined;
    if (star === undefined) {
      if (body === undefined || !returnsCo) return;
      const delegates = ts.isArrowFunction(node) && isCoCall(body);
      if (!delegates)
        this.refuse(
          node,
          'what returns a Co<…> is `function*` or `*method`, or an arrow that only calls one',
        );
      return;
    }
    if (ts.isFunctionExpression(node))
      return this.refuse(node, 'a generator function expression: declare `function* name(): Co<…>` instead');
    if (
      ts.canHaveModifiers(node) &&
      ts.getModifiers(node)?.some((m) => m.kind === ts.SyntaxKind.AsyncKeyword)
    )
      return this.refuse(node, 'an async generator waits outside simulated time');
    if (!returnsCo) return this.refuse(node, 'a generator names its return type: `Co<…>`');
    this.drop(star.getStart(this.source), star.end);
  }

  /** @param {ts.YieldExpression} node */
  yield(node) {
    if (node.asteriskToken === undefined || node.expression === undefined)
      return this.refuse(
        node,
        'a bare `yield`: only sim/co.ts gives up the CPU; call pause, preemptPoint or hold',
      );
    if (!isCoCall(node.expression))
      return this.refuse(
        node,
        '`yield*` stands before a call; a Co<…> is not kept in a variable or made by an operator',
      );
    const at = node.getStart(this.source);
    const words = /^yield\s*\*[ \t]*/.exec(this.source.text.slice(at, node.expression.getStart(this.source)));
    if (words === null) return this.refuse(node, 'a comment inside `yield*`');
    this.drop(at, at + words[0].length);
  }

  /** @param {ts.TypeReferenceNode} node */
  typeReference(node) {
    if (!ts.isIdentifier(node.typeName) || node.typeName.text !== 'Co') return;
    const argument = coArgument(node);
    if (argument === undefined) return this.refuse(node, '`Co` names its result: `Co<…>`');
    const parent = node.parent;
    if (!(ts.isFunctionLike(parent) && parent.type === node) || ts.isGetAccessor(parent))
      return this.refuse(node, 'a Co<…> is kept or passed on: only the return type of a function may be one');
    const wrap = ts.isFunctionTypeNode(argument) || ts.isConditionalTypeNode(argument);
    const open = this.source.text.slice(node.getStart(this.source), argument.getStart(this.source));
    const close = this.source.text.slice(argument.end, node.end);
    const [before, after] = wrap ? ['(', ')'] : ['', ''];
    const lines = (/** @type {string} */ s) => s.replace(/[^\n]/g, '');
    this.edits.push({
      at: node.getStart(this.source),
      end: argument.getStart(this.source),
      text: before + lines(open),
    });
    this.edits.push({ at: argument.end, end: node.end, text: after + lines(close) });
  }

  /** @param {ts.ImportTypeNode} node */
  importType(node) {
    if (node.qualifier !== undefined && node.qualifier.getText(this.source) === 'Co')
      this.refuse(node, 'import `Co` by name');
  }

  /** @param {ts.ImportDeclaration} node */
  import(node) {
    if (this.namesCoOnly(node.moduleSpecifier))
      return this.refuse(
        node,
        `${node.moduleSpecifier.getText(this.source)} is not in the synchronous edition`,
      );
    if (!/(^|\/)co\.js$/.test(/** @type {ts.StringLiteral} */ (node.moduleSpecifier).text)) return;
    const names = node.importClause?.namedBindings;
    if (names === undefined || !ts.isNamedImports(names))
      return this.refuse(node, 'import the names of co.js one by one');
    for (const one of names.elements) {
      const original = one.propertyName?.text;
      if (original !== undefined && (original === 'Co' || HOLDS.includes(original)))
        this.refuse(one, `${original} keeps its name: the build knows it by that`);
    }
    this.dropVanished(node, names.elements);
  }

  /** `Co` is gone: so is its import. @param {ts.ImportDeclaration} node @param {ts.NodeArray<ts.ImportSpecifier>} elements */
  dropVanished(node, elements) {
    const at = elements.findIndex((one) => one.name.text === 'Co');
    const gone = elements[at];
    if (gone === undefined) return;
    if (elements.length === 1) return this.drop(node.getStart(this.source), node.end);
    const next = elements[at + 1];
    const previous = elements[at - 1];
    if (next !== undefined) this.drop(gone.getStart(this.source), next.getStart(this.source));
    else if (previous !== undefined) this.drop(previous.end, gone.end);
  }

  /** What is only in the other edition is not exported from this one. @param {ts.ExportDeclaration} node */
  export(node) {
    if (node.moduleSpecifier === undefined || !this.namesCoOnly(node.moduleSpecifier)) return;
    this.drop(node.getStart(this.source), node.end);
  }

  /** @param {ts.Expression} specifier */
  namesCoOnly(specifier) {
    const name = ts.isStringLiteral(specifier) ? specifier.text : '';
    return name.startsWith('.') && this.isCoOnly(resolveImport(this.file, name));
  }
}

/** The name that `using name = yield* hold(…)` binds. @param {ts.VariableDeclarationList} list */
function lockOf(list) {
  if ((list.flags & ts.NodeFlags.BlockScoped) !== ts.NodeFlags.Using) return undefined;
  const [one] = list.declarations;
  if (list.declarations.length !== 1 || one === undefined || !ts.isIdentifier(one.name)) return undefined;
  const init = one.initializer;
  if (init === undefined || !ts.isYieldExpression(init) || init.asteriskToken === undefined) return undefined;
  const call = init.expression;
  if (call === undefined || !ts.isCallExpression(call) || !ts.isIdentifier(call.expression)) return undefined;
  return HOLDS.includes(call.expression.text) ? one.name.text : undefined;
}

/**
 * Which statement takes the only lock of a block that holdToEnd() can write: a function's body, or one that no
 * statement jumps out of. Undefined when there is none, or several locks.
 * @param {ts.Block} block @returns {number | undefined}
 */
function onlyLockOf(block) {
  const apart = ts.isBlock(block.parent) && !block.statements.some(jumps);
  if (!ts.isFunctionLike(block.parent) && !apart) return undefined;
  const locks = block.statements.flatMap((one, at) =>
    ts.isVariableStatement(one) && lockOf(one.declarationList) !== undefined ? [at] : [],
  );
  return locks.length === 1 ? locks[0] : undefined;
}

/** Does a statement leave its block, or a loop in it, other than by its end? @param {ts.Node} node @returns {boolean} */
function jumps(node) {
  if (ts.isFunctionLike(node)) return false;
  if (ts.isReturnStatement(node) || ts.isBreakOrContinueStatement(node)) return true;
  return ts.forEachChild(node, (child) => jumps(child) || undefined) ?? false;
}

/** What returns from the function that a statement is part of. @param {ts.Node} node @returns {ts.ReturnStatement[]} */
function returnsIn(node) {
  if (ts.isFunctionLike(node)) return [];
  if (ts.isReturnStatement(node)) return [node];
  /** @type {ts.ReturnStatement[]} */ const found = [];
  ts.forEachChild(node, (child) => void found.push(...returnsIn(child)));
  return found;
}

/** `T` of `Co<T>`. @param {ts.TypeNode} type */
function coArgument(type) {
  if (!ts.isTypeReferenceNode(type) || !ts.isIdentifier(type.typeName)) return undefined;
  if (type.typeName.text !== 'Co' || type.typeArguments?.length !== 1) return undefined;
  return type.typeArguments[0];
}

/** A call, or a choice between calls: never a Co kept somewhere. @param {ts.Node} node @returns {boolean} */
function isCoCall(node) {
  if (ts.isParenthesizedExpression(node) || ts.isNonNullExpression(node)) return isCoCall(node.expression);
  if (ts.isConditionalExpression(node)) return isCoCall(node.whenTrue) && isCoCall(node.whenFalse);
  return ts.isCallExpression(node) && !ts.isOptionalChain(node);
}
