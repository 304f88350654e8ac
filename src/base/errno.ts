/** Xen's errno values as hypercalls return them: zero is success, negative is failure. @xen include/public/errno.h */
export const E = {
  PERM: -1,
  NOENT: -2,
  SRCH: -3,
  IO: -5,
  NXIO: -6,
  TOOBIG: -7,
  BADF: -9,
  AGAIN: -11,
  NOMEM: -12,
  ACCES: -13,
  FAULT: -14,
  BUSY: -16,
  EXIST: -17,
  XDEV: -18,
  NODEV: -19,
  INVAL: -22,
  NOSPC: -28,
  MLINK: -31,
  DOM: -33,
  RANGE: -34,
  NOSYS: -38,
  NFILE: -23,
  NOTEMPTY: -39,
  NODATA: -61,
  OVERFLOW: -75,
  ILSEQ: -84,
  RESTART: -85,
  OPNOTSUPP: -95,
  ADDRINUSE: -98,
  NOBUFS: -105,
  TIMEDOUT: -110,
} as const;
export type Errno = (typeof E)[keyof typeof E];

/** What every Xen function named `rc = f()` returns: 0 or a negative errno. */
export type Rc = number;

/** True when `x` is an errno, so that `Foo | Errno` narrows the way IS_ERR() does in C. */
export const isErr = (x: unknown): x is Errno => typeof x === 'number' && x < 0;

const names = new Map<number, string>(
  Object.entries(E).map(([k, v]) => [v, k === 'TOOBIG' ? '-E2BIG' : `-E${k}`]),
);
/** `-19` is `-ENODEV`; numbers without a name print as they are. */
export const errnoName = (rc: number): string => (rc === 0 ? '0' : (names.get(rc) ?? String(rc)));

/** What libc's strerror() says: dom0's tools print it. Takes the positive or the negative number. */
export const strerror = (rc: number): string => messages[Math.abs(rc)] ?? `Unknown error ${Math.abs(rc)}`;
const messages: Readonly<Record<number, string>> = {
  0: 'Success',
  1: 'Operation not permitted',
  2: 'No such file or directory',
  3: 'No such process',
  5: 'Input/output error',
  6: 'No such device or address',
  7: 'Argument list too long',
  8: 'Exec format error',
  9: 'Bad file descriptor',
  11: 'Resource temporarily unavailable',
  12: 'Cannot allocate memory',
  13: 'Permission denied',
  14: 'Bad address',
  16: 'Device or resource busy',
  17: 'File exists',
  18: 'Invalid cross-device link',
  19: 'No such device',
  20: 'Not a directory',
  21: 'Is a directory',
  22: 'Invalid argument',
  25: 'Inappropriate ioctl for device',
  27: 'File too large',
  28: 'No space left on device',
  30: 'Read-only file system',
  31: 'Too many links',
  33: 'Numerical argument out of domain',
  34: 'Numerical result out of range',
  36: 'File name too long',
  38: 'Function not implemented',
  39: 'Directory not empty',
  40: 'Too many levels of symbolic links',
  61: 'No data available',
  75: 'Value too large for defined data type',
  84: 'Invalid or incomplete multibyte or wide character',
  85: 'Interrupted system call should be restarted',
  95: 'Operation not supported',
  98: 'Address already in use',
  105: 'No buffer space available',
  110: 'Connection timed out',
};
