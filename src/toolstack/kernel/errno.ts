/** Errnos of Linux that Xen has no use for. */
export const ENOTTY = -25;
export const EISDIR = -21;
export const ENOTDIR = -20;
export const ELOOP = -40;
export const ENAMETOOLONG = -36;
export const EFBIG = -27;
export const EROFS = -30;
