/** What the shell's parser makes of a command line. */

/** A piece of a word. Quoted pieces are neither split into fields nor matched against file names. */
export type Part =
  | { readonly kind: 'text'; readonly text: string; readonly quoted: boolean }
  | Parameter
  | { readonly kind: 'command'; readonly body: List; readonly quoted: boolean }
  | { readonly kind: 'arithmetic'; readonly body: Word; readonly quoted: boolean };
export type Word = readonly Part[];

/** `$x`, `${x[1]}`, `${#x}`, `${!x}`, `${x%pattern}` and their like. */
export interface Parameter {
  readonly kind: 'variable';
  readonly name: string;
  readonly quoted: boolean;
  /** What stands in the brackets of an array: all elements for `[@]` and `[*]`. */
  readonly index?: Word | '@' | '*';
  readonly indirect?: boolean;
  readonly op?: ParameterOp;
}

export interface ParameterOp {
  /** As written between name and word; `length` is `${#x}`. */
  readonly op: string;
  readonly word: Word;
  /** Replacement, or length of a substring. */
  readonly second?: Word;
}

export type Redirect =
  | { readonly kind: 'out'; readonly fd: 1 | 2 | 'both'; readonly append: boolean; readonly target: Word }
  | { readonly kind: 'in'; readonly target: Word }
  | { readonly kind: 'here'; readonly text: Word }
  /** `< <(…)`. */
  | { readonly kind: 'process'; readonly body: List }
  /** `2>&1`: `fd` goes where `to` goes now; `>&-` closes it. */
  | { readonly kind: 'dup'; readonly fd: 1 | 2; readonly to: 1 | 2 | 'closed' };

export interface Assignment {
  readonly name: string;
  readonly index?: Word;
  /** `+=`. */
  readonly append: boolean;
  /** Words in brackets make an array. */
  readonly value: Word | { readonly words: readonly Word[] };
}

export interface Simple {
  readonly kind: 'simple';
  readonly assignments: readonly Assignment[];
  readonly words: readonly Word[];
  readonly redirects: readonly Redirect[];
}
export interface For {
  readonly kind: 'for';
  readonly variable: string;
  /** Undefined: the arguments. */
  readonly words: readonly Word[] | undefined;
  readonly body: List;
  readonly redirects: readonly Redirect[];
}
/** `for ((start; test; step))`. */
export interface Counting {
  readonly kind: 'counting';
  readonly start: Word;
  readonly test: Word;
  readonly step: Word;
  readonly body: List;
  readonly redirects: readonly Redirect[];
}
export interface If {
  readonly kind: 'if';
  readonly branches: readonly { readonly test: List; readonly body: List }[];
  readonly otherwise: List | undefined;
  readonly redirects: readonly Redirect[];
}
export interface While {
  readonly kind: 'while';
  readonly until: boolean;
  readonly test: List;
  readonly body: List;
  readonly redirects: readonly Redirect[];
}
export interface Case {
  readonly kind: 'case';
  readonly word: Word;
  readonly clauses: readonly Clause[];
  readonly redirects: readonly Redirect[];
}
export interface Clause {
  readonly patterns: readonly Word[];
  readonly body: List;
  /** `;;`, `;&` goes on with the next body, `;;&` with the next pattern. */
  readonly end: ';;' | ';&' | ';;&';
}
export interface Group {
  readonly kind: 'group';
  readonly subshell: boolean;
  readonly body: List;
  readonly redirects: readonly Redirect[];
}
/** `((…))`: status 0 when it is not 0. */
export interface Arithmetic {
  readonly kind: 'arithmetic';
  readonly body: Word;
  readonly redirects: readonly Redirect[];
}
export interface Conditional {
  readonly kind: 'conditional';
  readonly test: Condition;
  readonly redirects: readonly Redirect[];
}
/** What stands in `[[ ]]`. */
export type Condition =
  | { readonly op: 'and' | 'or'; readonly left: Condition; readonly right: Condition }
  | { readonly op: 'not'; readonly of: Condition }
  | { readonly op: 'unary'; readonly name: string; readonly word: Word }
  | { readonly op: 'binary'; readonly name: string; readonly left: Word; readonly right: Word };
export interface FunctionDefinition {
  readonly kind: 'function';
  readonly name: string;
  readonly body: Command;
  readonly redirects: readonly Redirect[];
}
export type Command =
  | Simple
  | For
  | Counting
  | If
  | While
  | Case
  | Group
  | Arithmetic
  | Conditional
  | FunctionDefinition;

export interface Pipeline {
  readonly negated: boolean;
  readonly commands: readonly Command[];
}
/** Pipelines, each with what has to hold for it to run. */
export type List = readonly { readonly when: 'always' | 'and' | 'or'; readonly pipeline: Pipeline }[];
