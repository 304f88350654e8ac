/** The grammar of xl.cfg. Expected results and messages were taken from libxlu of 4.18.3, compiled and run. */
import { describe, expect, test } from 'vitest';
import { XluConfig } from '../../src/toolstack/xlu/cfg.js';
import { CfgParser, type CfgValue } from '../../src/toolstack/xlu/cfg_parse.js';

const plain = (v: CfgValue): unknown => (v.kind === 'string' ? v.text : v.items.map(plain));

/** Error number, settings in order of appearance with their lines, messages. */
function parse(text: string): { e: number; set: unknown[]; err: string } {
  let err = '';
  const p = new CfgParser(text, 'F', (t) => {
    err += t;
  });
  const e = p.parse();
  return { e, set: p.settings.map((s) => [s.name, s.lineno, plain(s.value)]), err };
}

describe('FT-F04 the grammar', () => {
  test.each([
    ['a=1', [['a', 1, '1']]],
    ['a=1\n# c\n', [['a', 1, '1']]],
    ['a="x" # c\n', [['a', 1, 'x']]],
    [
      'a=1;b=2\n',
      [
        ['a', 1, '1'],
        ['b', 1, '2'],
      ],
    ],
    ['a=["x",]\n', [['a', 1, ['x']]]],
    [
      'a=[1,\n 2]\nb=3\n',
      [
        ['a', 1, ['1', '2']],
        ['b', 3, '3'],
      ],
    ],
    ['x=[\n[1,2],"3"]\n', [['x', 1, [['1', '2'], '3']]]],
    ['a="tab\\t"\n', [['a', 1, 'tab\t']]],
    ['a+=["1"]\n', [['a', 1, ['1']]]],
  ])('FT-F04 %j is accepted', (text, set) => {
    expect(parse(text)).toEqual({ e: 0, set, err: '' });
  });

  test.each([
    ['a=1\n# c', "F:2: config parsing error near `#': lexical error\n"],
    ['a=1 b=2\n', "F:1: config parsing error near `b': syntax error, unexpected IDENT, expecting $end\n"],
    ['a = [1\n', "F:1: config parsing error near `': syntax error, unexpected $end, expecting ']'\n"],
    ["a='x\n", "F:1: config parsing error near `'x': lexical error\n"],
    [
      'x\n',
      "F:0: config parsing error near <newline>: syntax error, unexpected NEWLINE, expecting += or '='\n",
    ],
    [
      'a=yes\n',
      "F:1: config parsing error near `yes': syntax error, unexpected IDENT, expecting STRING or NUMBER or '['\n",
    ],
    [
      '9=1\n',
      "F:1: config parsing error near `9': syntax error, unexpected NUMBER, expecting $end or IDENT or NEWLINE or ';'\n",
    ],
    ['a=0x1F\nb=010\n', "F:1: config parsing error near `F': lexical error\n"],
    [
      'a=1\n\n]\n',
      "F:3: config parsing error near `]': syntax error, unexpected ']', expecting $end or IDENT or NEWLINE or ';'\n",
    ],
    [
      'a="\\x41\\q"\n',
      'F:1: config parsing error near `"\\x41\\q"\': ' +
        'invalid digit after backslash hexnumerical character escape in quoted string\n',
    ],
    [
      'a=["1"]\na+="2"\n',
      'F:2: config parsing error near `"2"\': can\'t add [list] to "string" or vice versa\n',
    ],
    [
      'a=-5\n',
      "F:1: config parsing error near `-5': lexical error\n" +
        'warning: Config file looks like it contains Python code.\n' +
        'warning:  Arbitrary Python is no longer supported.\n' +
        'warning:  See https://wiki.xen.org/wiki/PythonInXlConfig\n',
    ],
  ])('FT-F04 %j is refused with line and reason', (text, err) => {
    const got = parse(text);
    expect({ e: got.e, err: got.err }).toEqual({ e: 22, err });
  });

  test('FT-F04 what stands before an error is kept', () => {
    expect(parse('a=1\nb=yes\n').set).toEqual([['a', 1, '1']]);
  });

  test('FT-F04 += joins texts and lengthens lists', () => {
    expect(parse('a="1"\na+="2"\n').set).toEqual([
      ['a', 1, '1'],
      ['a', 2, '12'],
    ]);
    expect(parse('a=["1"]\na+=["2","3"]\n').set[1]).toEqual(['a', 2, ['1', '2', '3']]);
  });
});

describe('typed settings', () => {
  function cfg(text: string): { c: XluConfig; said: string[] } {
    const said: string[] = [];
    const c = new XluConfig('F', (t) => said.push(t));
    expect(c.readData(text)).toBe(0);
    return { c, said };
  }

  test('FT-F04 the last setting of a name counts', () => {
    expect(cfg('a=1\na=2\n').c.long('a')).toBe(2);
  });

  test('a number may be octal or hexadecimal text, and nothing may follow it', () => {
    const { c, said } = cfg('a="0x10"\nb="010"\nc="1x"\n');
    expect([c.long('a'), c.long('b'), c.long('c')]).toEqual([16, 8, undefined]);
    expect(said).toEqual(["F:3: warning: parameter `c' is not a valid number\n"]);
  });

  test('numbers cannot be added to', () => {
    const { c, said } = cfg('a="1"\na+="2"\n');
    expect(c.long('a')).toBeUndefined();
    expect(said).toEqual(["F:2: warning: can't use += with numbers for parameter `a'\n"]);
  });

  test('lists and single values are not taken for each other', () => {
    const { c, said } = cfg('a=["1"]\nb="1"\n');
    expect([c.string('a'), c.strings('b')]).toEqual([undefined, undefined]);
    expect(said).toEqual([
      "F:1: warning: parameter `a' is a list but should be a single value\n",
      "F:2: warning: parameter `b' is a single value but should be a list\n",
    ]);
  });
});
