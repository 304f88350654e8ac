/** What a context entry is while it is no memory. @xen drivers/passthrough/vtd/iommu.h struct context_entry */

/** A context entry outside memory. Fields are written by hand: entries change at each move of a device. */
export class ContextEntry {
  w0 = 0;
  w1 = 0;
  w2 = 0;
  w3 = 0;
  /** Takes the entry at `at`. */
  load(words: Int32Array, at: number): void {
    this.w0 = words[at]!;
    this.w1 = words[at + 1]!;
    this.w2 = words[at + 2]!;
    this.w3 = words[at + 3]!;
  }
  copy(other: ContextEntry): void {
    this.w0 = other.w0;
    this.w1 = other.w1;
    this.w2 = other.w2;
    this.w3 = other.w3;
  }
  clear(): void {
    this.w0 = 0;
    this.w1 = 0;
    this.w2 = 0;
    this.w3 = 0;
  }
  /** Is this what stands at `at`? */
  isAt(words: Int32Array, at: number): boolean {
    return (
      words[at] === this.w0 &&
      words[at + 1] === this.w1 &&
      words[at + 2] === this.w2 &&
      words[at + 3] === this.w3
    );
  }
  setFrame(mfn: number): void {
    this.w0 = (this.w0 & 0xfff) | ((mfn & 0xf_ffff) << 12);
    this.w1 = (this.w1 & ~0xf_ffff) | ((mfn / 0x10_0000) & 0xf_ffff);
  }
}
