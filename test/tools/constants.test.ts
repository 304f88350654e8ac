import { describe, expect, test } from 'vitest';
import { withConstants } from '../../tools/constants.mjs';

/** Runs the text of a module that imports nothing, and returns what it exports. */
const run = (text: string): Promise<Record<string, unknown>> =>
  import(`data:text/javascript,${encodeURIComponent(text)}`);

const BUNDLE = `// a file
const before = late(2);
/** Doubles. */
function late(n) { return n * 2; }
function* several() { yield late(1); yield before; }
var Box = class Box { var() { return 'var'; } };
export { late as a, several, Box as B, before };
`;

describe('a bundled file of constants', () => {
  test('declares no function and no variable', () => {
    const text = withConstants(BUNDLE);
    expect(text).not.toMatch(/^(?:function|var|let)\b/m);
    expect(text).toContain('/** Doubles. */\nconst late = function(n) { return n * 2; };');
  });

  test('means the same: functions are there before they are declared, and exports keep their names', async () => {
    const made = (await run(withConstants(BUNDLE))) as {
      a: (n: number) => number;
      several: () => Iterable<number>;
      B: new () => { var(): string };
      before: number;
    };
    expect([made.a(3), made.a.name, [...made.several()], made.before]).toEqual([6, 'late', [2, 4], 4]);
    expect(new made.B().var()).toBe('var');
  });

  test('has exports under second names, so that the first stay constants', () => {
    expect(withConstants(BUNDLE)).toMatch(/const exported\$late = late;[\s\S]*exported\$late as a\b/);
  });
});
