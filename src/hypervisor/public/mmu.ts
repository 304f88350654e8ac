/** MMUEXT_*, as far as they change what a device of a PV guest reaches. @xen include/public/xen.h */
export interface MmuextOp {
  readonly cmd: 'pin_table' | 'unpin_table';
  readonly domid: number;
  readonly mfn: number;
}
