/** What the shell's parser makes of a command line. */

/** A piece of a word. Quoted pieces are neither split into fields nor matched against file names. */
export type Part =
  | { readonly kind: 'text'; readonly text: string; readonly quoted: boolean }
  | { readonly kind: 'variable'; readonly name: string; readonly quoted: boolean; readonly op?: ParameterOp }
  | { readonly kind: 'command'; readonly body: List; readonly quoted: boolean }
  | { readonly kind: 'arithmetic'; readonly body: Word; readonly quoted: boolean };
export type Word = readonly Part[];

/** `${x:-word}`, `${x%pattern}` and their like. */
export interface ParameterOp {
  readonly op: ':-' | '-' | ':+' | '+' | '%' | '%%' | '#' | '##' | 'length';
  readonly word: Word;
}

export type Redirect =
  | { readonly kind: 'out'; readonly fd: 1 | 2 | 'both'; readonly append: boolean; readonly target: Word }
  | { readonly kind: 'in'; readonly target: Word }
  | { readonly kind: 'here'; readonly text: Word }
  /** `2>&1`: `fd` goes where `to` goes now. */
  | { readonly kind: 'dup'; readonly fd: 1 | 2; readonly to: 1 | 2 };

export interface Simple {
  readonly kind: 'simple';
  readonly assignments: readonly { readonly name: string; readonly value: Word }[];
  readonly words: readonly Word[];
  readonly redirects: readonly Redirect[];
}
export interface For {
  readonly kind: 'for';
  readonly variable: string;
  readonly words: readonly Word[];
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
export interface Group {
  readonly kind: 'group';
  readonly subshell: boolean;
  readonly body: List;
  readonly redirects: readonly Redirect[];
}
export type Command = Simple | For | If | While | Group;

export interface Pipeline {
  readonly negated: boolean;
  readonly commands: readonly Command[];
}
/** Pipelines, each with what has to hold for it to run. */
export type List = readonly { readonly when: 'always' | 'and' | 'or'; readonly pipeline: Pipeline }[];
