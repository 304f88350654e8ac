import { describe, expect, test } from 'vitest';
import { isCoOnlyText, lower, Refusal } from '../../tools/erase.mjs';

const FILE = 'src/hypervisor/x.ts';
const erased = (text: string): string => lower(FILE, text, 'sync');
const lowered = (text: string): string => lower(FILE, text, 'co');

/** The reasons a text is refused for, without the file name. */
function refusals(text: string, isCoOnly = (_file: string) => false): string[] {
  try {
    lower(FILE, text, 'sync', { isCoOnly });
  } catch (error) {
    if (error instanceof Refusal) return error.lines.map((l) => l.replace(`${FILE}:`, ''));
    throw error;
  }
  return [];
}

describe('erased to the synchronous edition', () => {
  const table: { what: string; from: string; to: string }[] = [
    {
      what: 'a function declaration',
      from: 'export function* f(a: A): Co<number> {}',
      to: 'export function f(a: A): number {}',
    },
    { what: 'an overload', from: 'declare function f(): Co<A>;', to: 'declare function f(): A;' },
    {
      what: 'a class method',
      from: 'class A { private *m(): Co<void> {} }',
      to: 'class A { private m(): void {} }',
    },
    { what: 'a computed method', from: 'class A { *[k](): Co<void> {} }', to: 'class A { [k](): void {} }' },
    {
      what: 'an abstract method',
      from: 'abstract class A { abstract m(): Co<Rc>; }',
      to: 'abstract class A { abstract m(): Rc; }',
    },
    {
      what: 'a method of an object literal',
      from: 'const ops = { *m(x: X): Co<Rc> { return 0; } };',
      to: 'const ops = { m(x: X): Rc { return 0; } };',
    },
    {
      what: 'a generic function',
      from: 'function* f<T>(x: T): Co<T[]> {}',
      to: 'function f<T>(x: T): T[] {}',
    },
    {
      what: 'a method signature',
      from: 'interface I { m(a: A): Co<Rc>; n?(): Co<A | B>; }',
      to: 'interface I { m(a: A): Rc; n?(): A | B; }',
    },
    {
      what: 'a field that is a function',
      from: 'interface I { readonly m: (a: A) => Co<Rc>; }',
      to: 'interface I { readonly m: (a: A) => Rc; }',
    },
    {
      what: 'a parameter that is a function',
      from: 'function* f(g: () => Co<void>): Co<void> { yield* g(); }',
      to: 'function f(g: () => void): void { g(); }',
    },
    { what: 'a Co inside a Co', from: 'type F = () => Co<() => Co<Rc>>;', to: 'type F = () => (() => Rc);' },
    { what: 'an object type', from: 'type F = () => Co<{\n a: 1\n}>;', to: 'type F = () => {\n a: 1\n};' },
    {
      what: 'an arrow that only calls',
      from: 'const f = (a: A): Co<Rc> => g(a);',
      to: 'const f = (a: A): Rc => g(a);',
    },
    {
      what: 'a statement',
      from: 'function* f(): Co<void> { yield* g(1); }',
      to: 'function f(): void { g(1); }',
    },
    {
      what: 'nested calls',
      from: 'function* f(): Co<Rc> { return yield* g(yield* h()); }',
      to: 'function f(): Rc { return g(h()); }',
    },
    {
      what: 'a call in parentheses',
      from: 'function* f(): Co<Rc> { return (yield* g()).rc; }',
      to: 'function f(): Rc { return (g()).rc; }',
    },
    {
      what: 'a choice of calls',
      from: 'function* f(): Co<Rc> { return yield* (a ? g() : h()); }',
      to: 'function f(): Rc { return (a ? g() : h()); }',
    },
    {
      what: 'a call on the next line',
      from: 'function* f(): Co<Rc> { return 1 + (yield*\n g()); }',
      to: 'function f(): Rc { return 1 + (\n g()); }',
    },
    { what: 'the import of Co alone', from: "import type { Co } from './co.js';\nlet a;", to: '\nlet a;' },
    {
      what: 'the import of Co beside others',
      from: "import { type Co, hold } from '../sim/co.js';",
      to: "import { hold } from '../sim/co.js';",
    },
    {
      what: 'the import of Co as the last',
      from: "import { runAlone, type Co } from '../sim/co.js';",
      to: "import { runAlone } from '../sim/co.js';",
    },
  ];
  test.each(table)('$what', ({ from, to }) => expect(erased(from)).toBe(to));

  test('a lock is released at the end of its function, whatever way that is left', () => {
    const from = 'function* f(): Co<Rc> {\n  using _a = yield* hold(l);\n  if (b) return 1;\n  return 2;\n}';
    expect(erased(from)).toBe(
      'function f(): Rc {\n  const _a = hold(l); let _aResult!: Rc; held: try {\n' +
        '  if (b) { _aResult = 1; break held; }\n  { _aResult = 2; break held; }\n' +
        '} catch (error) { _a.release(); throw error; } _a.release(); return _aResult; }',
    );
  });

  test('functions inside the guarded part return for themselves', () => {
    const from = 'function* f(): Co<void> { using a = yield* hold(l); g(() => { return 1; }); return; }';
    expect(erased(from)).toBe(
      'function f(): void { const a = hold(l); held: try { g(() => { return 1; }); break held; ' +
        '} catch (error) { a.release(); throw error; } a.release(); }',
    );
  });

  test('a lock of an inner block is released at the end of it', () => {
    const from = 'function* f(): Co<Rc> { if (b) { using a = yield* hold(l); return 1; } return 2; }';
    expect(erased(from)).toBe(
      'function f(): Rc { if (b) { const a = hold(l); try { return 1; } finally { a.release(); } } return 2; }',
    );
  });

  test('a lock of a block that nothing jumps out of is released behind the guarded part', () => {
    const from = 'function* f(): Co<Rc> { { using a = yield* hold(l); g(() => { return 1; }); } return 2; }';
    expect(erased(from)).toBe(
      'function f(): Rc { { const a = hold(l); try { g(() => { return 1; }); ' +
        '} catch (error) { a.release(); throw error; } a.release(); } return 2; }',
    );
  });

  test.each(['while (b) { { using a = yield* hold(l); break; } }', '{ using a = yield* hold(l); return; }'])(
    'a lock of a block that is jumped out of is released by `finally`: %s',
    (body) =>
      expect(erased(`function* f(): Co<void> { ${body} h(); }`)).toContain('finally { a.release(); }'),
  );

  test('two locks are released in reverse order', () => {
    const from =
      'function* f(): Co<void> { using a = yield* holdRead(l); using b = yield* holdWrite(m); g(); }';
    expect(erased(from)).toBe(
      'function f(): void { const a = holdRead(l); try { const b = holdWrite(m); try { g(); } finally { b.release(); } } finally { a.release(); } }',
    );
  });

  test('what only the other edition has is not exported', () => {
    const isCoOnly = (file: string): boolean => file === 'src/sim/schedule.ts';
    const text = "export { run } from '../sim/schedule.js';\nexport * from './y.js';";
    expect(lower(FILE, text, 'sync', { isCoOnly })).toBe("\nexport * from './y.js';");
  });

  test('as shipped, an assertion that holds calls nothing and makes no text', () => {
    const shipped = (text: string): string => lower(FILE, text, 'sync', { coldAsserts: true });
    const text = "if (a) assert(\n  x(1, 2),\n  `${y}`,\n);\nelse assert(z, 'z');\nnode.assert(z, 'z');\n";
    expect(shipped(text)).toBe(
      "if (a) { if (!(\nx(1, 2))) assert(false,\n  `${y}`,\n); }\nelse { if (!(z)) assert(false, 'z'); }\nnode.assert(z, 'z');\n",
    );
    expect(erased(text)).toBe(text);
  });

  test('plain code is left as it is', () => {
    const text = 'export const f = (a: number): number => a ** 2; // yield* hold\nconst s = "function* f";\n';
    expect(erased(text)).toBe(text);
  });
});

describe('refused', () => {
  const table: { what: string; text: string; why: string }[] = [
    { what: 'a bare yield', text: 'function* f(): Co<void> { yield; }', why: '1:27: a bare `yield`' },
    { what: 'a yield of a value', text: "function* f(): Co<void> { yield 'pause'; }", why: 'a bare `yield`' },
    {
      what: 'a generator expression',
      text: 'const f = function* (): Co<void> {};',
      why: '1:11: a generator function expression',
    },
    { what: 'a generator without return type', text: 'function* f() {}', why: 'names its return type' },
    {
      what: 'a method without return type',
      text: 'class A {\n  *m() {}\n}',
      why: '2:3: a generator names its return type',
    },
    {
      what: 'another kind of generator',
      text: 'function* f(): Generator<number> {}',
      why: 'names its return type',
    },
    { what: 'an async generator', text: 'async function* f(): Co<void> {}', why: 'async generator' },
    {
      what: 'a plain function that returns a Co',
      text: 'function f(): Co<Rc> { return g(); }',
      why: 'what returns a Co<…>',
    },
    {
      what: 'an arrow with a body',
      text: 'const f = (): Co<Rc> => { return g(); };',
      why: 'what returns a Co<…>',
    },
    {
      what: 'an arrow that hands on a variable',
      text: 'const f = (): Co<Rc> => co;',
      why: 'what returns a Co<…>',
    },
    {
      what: 'yield* of a variable',
      text: 'function* f(): Co<void> { yield* co; }',
      why: 'stands before a call',
    },
    {
      what: 'yield* of an optional call',
      text: 'function* f(): Co<void> { yield* a?.b(); }',
      why: 'stands before a call',
    },
    {
      what: 'yield* of ??',
      text: 'function* f(): Co<void> { yield* (a() ?? b()); }',
      why: 'stands before a call',
    },
    { what: 'a variable', text: 'let co: Co<void>;', why: 'kept or passed on' },
    { what: 'an array', text: 'const all: Co<void>[] = [];', why: 'kept or passed on' },
    { what: 'a field', text: 'class A { co: Co<void>; }', why: 'kept or passed on' },
    { what: 'a parameter', text: 'function f(co: Co<void>): void {}', why: 'kept or passed on' },
    { what: 'a type argument', text: 'type A = Set<Co<void>>;', why: 'kept or passed on' },
    { what: 'a union', text: 'type F = () => Co<Rc> | undefined;', why: 'kept or passed on' },
    { what: 'a getter', text: 'class A { get a(): Co<void> { return b(); } }', why: 'Co<…>' },
    { what: 'Co without its result', text: 'type F = () => Co;', why: '`Co` names its result' },
    {
      what: 'Co by import()',
      text: "type F = () => import('../sim/co.js').Co<void>;",
      why: 'import `Co` by name',
    },
    {
      what: 'Co under another name',
      text: "import type { Co as C } from '../sim/co.js';",
      why: 'keeps its name',
    },
    {
      what: 'hold under another name',
      text: "import { hold as h } from '../sim/co.js';",
      why: 'keeps its name',
    },
    { what: 'the whole of co.js', text: "import * as co from '../sim/co.js';", why: 'one by one' },
    {
      what: 'using without hold',
      text: 'function f(): void { using a = b(); }',
      why: '`using` takes a lock',
    },
    {
      what: 'using of another call',
      text: 'function* f(): Co<void> { using a = yield* b(); }',
      why: '`using` takes a lock',
    },
    {
      what: 'using of hold without yield*',
      text: 'function* f(): Co<void> { using a = hold(l); }',
      why: '`using` takes a lock',
    },
    {
      what: 'two in one using',
      text: 'function* f(): Co<void> { using a = yield* hold(l), b = yield* hold(m); }',
      why: 'takes one lock',
    },
    {
      what: 'using in a loop head',
      text: 'function* f(): Co<void> { for (using a of b) g(); }',
      why: 'directly in a block',
    },
    { what: 'using in a module', text: 'using a = b();', why: 'directly in a block' },
    {
      what: 'using in a case',
      text: 'function* f(): Co<void> { switch (1) { case 1: using a = yield* hold(l); } }',
      why: 'directly in a block',
    },
    {
      what: 'await using',
      text: 'async function f() { await using a = b(); }',
      why: 'outside simulated time',
    },
    {
      what: 'a name that the build needs',
      text: 'function* f(): Co<Rc> { using a = yield* hold(l); const aResult = 1; return aResult; }',
      why: 'the name aResult',
    },
    {
      what: 'a function after using',
      text: 'function* f(): Co<void> { using a = yield* hold(l); function g() {} }',
      why: 'before the `using`',
    },
    { what: 'for await', text: 'async function f() { for await (const a of b) g(a); }', why: '`for await`' },
    {
      what: 'a comment inside yield*',
      text: 'function* f(): Co<void> { yield /* */ * g(); }',
      why: 'a comment',
    },
  ];
  test.each(table)('$what', ({ text, why }) => {
    const got = refusals(text);
    expect(got.length).toBeGreaterThan(0);
    expect(got.join('\n')).toContain(why);
  });

  test('imports of what only the other edition has', () => {
    const isCoOnly = (file: string): boolean => file === 'src/sim/schedule.ts';
    const imports = ["import { run } from '../sim/schedule.js';", "const a = import('../sim/schedule.js');"];
    for (const text of imports)
      expect(refusals(text, isCoOnly).join()).toContain('not in the synchronous edition');
  });

  test('all at once, each with line and column', () => {
    const got = refusals('function* f() {}\nlet a: Co<void>;\n');
    expect(got.map((l) => l.split(' ')[0])).toEqual(['1:1:', '2:8:']);
  });
});

describe('the edition with generators', () => {
  test('keeps them and only lowers using', () => {
    const from = 'function* f(): Co<void> { using a = yield* hold(l); yield* g(); }';
    expect(lowered(from)).toBe(
      'function* f(): Co<void> { const a = yield* hold(l); try { yield* g(); } finally { a.release(); } }',
    );
  });

  test('refuses a using that it cannot lower', () => {
    expect(() => lowered('function f(): void { using a = b(); }')).toThrow('`using` takes a lock');
  });

  test('is the only one with files marked so on their first line', () => {
    expect(isCoOnlyText('// edition: co\nimport')).toBe(true);
    expect(isCoOnlyText('/** edition: co. Races. */')).toBe(true);
    expect(isCoOnlyText('/** Races. */\n// edition: co')).toBe(false);
  });
});

test('both editions keep every line where it was', () => {
  const text = [
    "import { type Co, hold } from '../sim/co.js';",
    "import type { Co } from '../sim/co.js';",
    'export function* f(',
    '  a: A,',
    '): Co<',
    '  number',
    '> {',
    '  using _x = yield* hold(a.lock);',
    '  const r = yield*',
    '    g();',
    '  return r; // here',
    '}',
    '',
  ].join('\n');
  const lineOfHere = (t: string): number => t.split('\n').findIndex((l) => l.includes('// here'));
  expect(lineOfHere(erased(text))).toBe(10);
  expect(lineOfHere(lowered(text))).toBe(10);
  expect(erased(text).split('\n')).toHaveLength(text.split('\n').length);
});
