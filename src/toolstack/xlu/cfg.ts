/** A parsed configuration and its typed getters, each warning as xl's do. @xen tools/libs/util/libxlu_cfg.c */
import { CfgParser, type CfgSetting, type CfgValue } from './cfg_parse.js';
import { strtol } from './cnum.js';

/** Positive errno, as these functions return it. */
export const ESRCH = 3;
export const EINVAL = 22;
const ERANGE = 34;

export class XluConfig {
  private readonly latest = new Map<string, CfgSetting>();

  /** `source` names the file in messages; `report` is stderr. */
  constructor(
    readonly source: string,
    readonly report: (text: string) => void,
  ) {}

  /** 0 or a positive errno. Later settings of a name hide earlier ones. */
  readData(text: string): number {
    const parser = new CfgParser(text, this.source, this.report);
    const err = parser.parse();
    for (const s of parser.settings) this.latest.set(s.name, s);
    return err;
  }

  private warn(set: CfgSetting, text: string, quiet: boolean): void {
    if (!quiet) this.report(`${this.source}:${set.lineno}: warning: ${text}\n`);
  }

  private atom(name: string, quiet: boolean): { set: CfgSetting; text: string } | number {
    const set = this.latest.get(name);
    if (set === undefined) return ESRCH;
    if (set.value.kind === 'string') return { set, text: set.value.text };
    this.warn(set, `parameter \`${name}' is a list but should be a single value`, quiet);
    return EINVAL;
  }

  /** The text, or a positive errno (ESRCH when absent). */
  getString(name: string, quiet = false): string | number {
    const a = this.atom(name, quiet);
    return typeof a === 'number' ? a : a.text;
  }

  /** The text when there is one. */
  string(name: string, quiet = false): string | undefined {
    const a = this.getString(name, quiet);
    return typeof a === 'string' ? a : undefined;
  }

  /** `{ value }`, or a positive errno. */
  getLong(name: string, quiet = false, min = -Infinity, max = Infinity): { value: number } | number {
    const a = this.atom(name, quiet);
    if (typeof a === 'number') return a;
    const { set, text } = a;
    if (set.addition) {
      this.warn(set, `can't use += with numbers for parameter \`${name}'`, quiet);
      return EINVAL;
    }
    const n = strtol(text, 0, 0);
    if (n.overflow) {
      const why = 'Numerical result out of range';
      this.warn(set, `parameter \`${name}' could not be parsed as a number: ${why}`, quiet);
      return ERANGE;
    }
    if (n.end !== text.length || text === '') {
      this.warn(set, `parameter \`${name}' is not a valid number`, quiet);
      return EINVAL;
    }
    if (n.value < min) {
      this.warn(set, `value \`${n.value}' is smaller than minimum bound '${min}'`, quiet);
      return EINVAL;
    }
    if (n.value > max) {
      this.warn(set, `value \`${n.value}' is greater than maximum bound '${max}'`, quiet);
      return EINVAL;
    }
    return { value: n.value };
  }

  long(name: string, quiet = false): number | undefined {
    const n = this.getLong(name, quiet);
    return typeof n === 'number' ? undefined : n.value;
  }

  defbool(name: string, quiet = false): boolean | undefined {
    const n = this.long(name, quiet);
    return n === undefined ? undefined : n !== 0;
  }

  /** The items, or a positive errno. */
  getList(name: string, quiet = false): readonly CfgValue[] | number {
    const set = this.latest.get(name);
    if (set === undefined) return ESRCH;
    if (set.value.kind === 'list') return set.value.items;
    this.warn(set, `parameter \`${name}' is a single value but should be a list`, quiet);
    return EINVAL;
  }

  /** The leading strings of a list: whoever walks it stops at the first item that is itself a list. */
  strings(name: string, quiet = false): string[] | undefined {
    const items = this.getList(name, quiet);
    if (typeof items === 'number') return undefined;
    const out: string[] = [];
    for (const item of items) {
      if (item.kind !== 'string') break;
      out.push(item.text);
    }
    return out;
  }

  /** An item that must be a list. */
  valueList(value: CfgValue): readonly CfgValue[] | undefined {
    if (value.kind === 'list') return value.items;
    this.report(`${this.source}:${value.line}:0: warning: value is not a list\n`);
    return undefined;
  }
}
