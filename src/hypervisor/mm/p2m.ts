/**
 * The guest-physical map of an HVM guest, kept in real EPT-format tables so that VT-d can walk them when page
 * tables are shared. @xen arch/x86/mm/p2m-ept.c, p2m.c; Intel SDM 28.3.2
 */
import { assert } from '../../base/assert.js';
import { E, type Rc } from '../../base/errno.js';
import { bits, get, getFrame, type Layout, set, setFrame } from '../../base/layout.js';
import { FRAME_WORDS, type Ram } from '../../sim/ram.js';

/** EPT entry, 64 bits. Bits 0 and 1 mean to VT-d what they mean here, bit 11 its snoop bit. */
export const EPTE = {
  SA_P2MT: bits(1, 25, 20), // ignored by hardware: Xen's p2m type
  SNP: bits(0, 11),
  SP: bits(0, 7), // superpage
  IPAT: bits(0, 6),
  EMT: bits(0, 5, 3),
  X: bits(0, 2),
  W: bits(0, 1),
  R: bits(0, 0),
} as const satisfies Layout;

/** @xen p2m_type_t, the kinds that occur here */
export const P2M = {
  ramRw: 0,
  invalid: 1,
  ramRo: 3,
  mmioDm: 4,
  mmioDirect: 5,
  grantRw: 7,
} as const;
export type P2mType = (typeof P2M)[keyof typeof P2M];

/** What a lookup finds; mfn is -1 where nothing is mapped, and `order` the size of the hole's entry. */
export interface P2mEntry {
  mfn: number;
  type: P2mType;
  order: number;
  writable: boolean;
}

const LEVELS = 4;
const NO_FRAMES: readonly number[] = [];

export class P2m {
  /** Highest guest frame ever mapped. @xen p2m->max_mapped_pfn */
  maxMappedGfn = 0;
  /** Frames of the tables, root first. */
  readonly tables: number[] = [];
  private readonly unlinked: number[] = [];

  constructor(
    private readonly ram: Ram,
    readonly rootMfn: number,
    /** A zeroed frame, 0 when memory is short. */
    private readonly allocTable: () => number,
    private readonly writesBack: () => boolean = () => true,
  ) {
    this.tables.push(rootMfn);
    this.sync(rootMfn, 0, FRAME_WORDS);
  }

  /** Word index of the entry for `gfn` at `level` in table `mfn`, for writing. */
  private at(mfn: number, gfn: number, level: number): number {
    return this.ram.slot(mfn) * FRAME_WORDS + (Math.floor(gfn / 512 ** (level - 1)) % 512) * 2;
  }

  /** @xen ept_get_entry */
  lookup(gfn: number): P2mEntry {
    let table = this.rootMfn;
    let level = LEVELS;
    for (; ; level--) {
      const w = this.at(table, gfn, level);
      const t = this.ram.words;
      if (get(t, w, EPTE.R) === 0) break;
      if (level === 1 || get(t, w, EPTE.SP) === 1) {
        const span = 512 ** (level - 1);
        return {
          mfn: getFrame(t, w) + (gfn % span),
          type: get(t, w, EPTE.SA_P2MT) as P2mType,
          order: (level - 1) * 9,
          writable: get(t, w, EPTE.W) === 1,
        };
      }
      table = getFrame(t, w);
    }
    return { mfn: -1, type: P2M.mmioDm, order: (level - 1) * 9, writable: false };
  }

  /**
   * Writes one entry of 2^order frames (order 0, 9 or 18); mfn -1 clears it. Splits superpages in the way, and
   * unlinks tables: `takeUnlinked` has them afterwards. @returns 0 or -ENOMEM. @xen ept_set_entry
   */
  setEntry(gfn: number, mfn: number, order: number, type: P2mType, writable: boolean): Rc {
    assert(order % 9 === 0 && order <= 18 && gfn % 2 ** order === 0, 'an entry covers an aligned page');
    const target = order / 9 + 1;
    let table = this.rootMfn;
    for (let level = LEVELS; level > target; level--) {
      const next = this.descend(table, gfn, level, mfn >= 0);
      if (next < 0) return next === -2 ? 0 : E.NOMEM;
      table = next;
    }
    const w = this.at(table, gfn, target);
    const t = this.ram.words;
    if (target > 1 && get(t, w, EPTE.R) === 1 && get(t, w, EPTE.SP) === 0)
      this.unlink(getFrame(t, w), target - 1);
    this.write(w, mfn, type, writable, target > 1);
    this.sync(table, w % FRAME_WORDS, 2);
    if (mfn >= 0) this.maxMappedGfn = Math.max(this.maxMappedGfn, gfn + 2 ** order - 1);
    return 0;
  }

  /** Whether the entry of this order that covers `gfn`, or a larger one, is present: a page or a table. */
  isPresent(gfn: number, order: number): boolean {
    let table = this.rootMfn;
    for (let level = LEVELS; ; level--) {
      const w = this.at(table, gfn, level);
      const t = this.ram.words;
      if (get(t, w, EPTE.R) === 0) return false;
      if (level === order / 9 + 1 || get(t, w, EPTE.SP) === 1) return true;
      table = getFrame(t, w);
    }
  }

  /** Remembers a table and those below it for being freed. @xen ept_free_entry */
  private unlink(table: number, level: number): void {
    const base = this.ram.slot(table) * FRAME_WORDS;
    const t = this.ram.words;
    for (let w = base; level > 1 && w < base + FRAME_WORDS; w += 2) {
      if (get(t, w, EPTE.R) === 1 && get(t, w, EPTE.SP) === 0) this.unlink(getFrame(t, w), level - 1);
    }
    this.unlinked.push(table);
  }

  /** Frames of tables that no entry points to any more: free them once nothing can still walk them. */
  takeUnlinked(): readonly number[] {
    if (this.unlinked.length === 0) return NO_FRAMES;
    const gone = this.unlinked.splice(0);
    const kept = this.tables.filter((mfn) => !gone.includes(mfn));
    this.tables.splice(0, this.tables.length, ...kept);
    return gone;
  }

  private write(w: number, mfn: number, type: P2mType, writable: boolean, superpage: boolean): void {
    const t = this.ram.words;
    t[w] = 0;
    t[w + 1] = 0;
    if (mfn < 0) return;
    setFrame(t, w, mfn);
    set(t, w, EPTE.SA_P2MT, type);
    set(t, w, EPTE.SP, superpage ? 1 : 0);
    set(t, w, EPTE.EMT, type === P2M.mmioDirect ? 0 : 6);
    set(t, w, EPTE.X, type === P2M.mmioDirect ? 0 : 1);
    set(t, w, EPTE.W, writable ? 1 : 0);
    set(t, w, EPTE.R, 1);
  }

  /** A unit that walks these tables may not see what is in the CPU's cache. XSA-321. */
  private sync(mfn: number, first: number, words: number): void {
    if (this.ram.unsnooped !== undefined && this.writesBack()) this.ram.writeBack(mfn, first, words);
  }

  /** The next table down, made or split as needed: -1 out of memory, -2 nothing there and none wanted. */
  private descend(table: number, gfn: number, level: number, create: boolean): number {
    const w = this.at(table, gfn, level);
    const t = this.ram.words;
    const present = get(t, w, EPTE.R) === 1;
    if (present && get(t, w, EPTE.SP) === 0) return getFrame(t, w);
    if (!present && !create) return -2;
    const fresh = this.allocTable();
    if (fresh === 0) return -1;
    this.tables.push(fresh);
    if (present) this.split(w, fresh, level);
    this.sync(fresh, 0, FRAME_WORDS);
    const u = this.ram.words;
    const at = this.at(table, gfn, level);
    u[at] = 7;
    u[at + 1] = 0;
    setFrame(u, at, fresh);
    this.sync(table, at % FRAME_WORDS, 2);
    return fresh;
  }

  /** @xen ept_split_super_page */
  private split(w: number, fresh: number, level: number): void {
    const base = this.ram.slot(fresh) * FRAME_WORDS;
    const t = this.ram.words;
    const mfn = getFrame(t, w);
    const span = 512 ** (level - 2);
    const type = get(t, w, EPTE.SA_P2MT) as P2mType;
    const writable = get(t, w, EPTE.W) === 1;
    for (let i = 0; i < 512; i++) this.write(base + i * 2, mfn + i * span, type, writable, level > 2);
  }
}
