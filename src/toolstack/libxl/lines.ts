/** Releases by the names the command line uses: 4.17.7, 4.18.3 and the newest commit. */
export type Release = '4.17' | '4.18' | '4.23';

/** A message's place in the source of each release: libxl prints it. */
export interface Place {
  readonly file: string;
  readonly func: Readonly<Record<Release, string>>;
  readonly lines: Readonly<Record<Release, number>>;
}

/**
 * Line numbers in 4.17.7, 4.18.3 and the newest commit, which may have the message in another function. 4.17.7 is
 * Debian's build, whose patches move libxl_create.c by two lines and the end of libxl_dm.c by three.
 */
export const at = (
  file: string,
  func: string,
  l417: number,
  l418: number,
  l423: number,
  newest: string = func,
): Place => ({
  file,
  func: { '4.17': func, '4.18': func, '4.23': newest },
  lines: { '4.17': l417, '4.18': l418, '4.23': l423 },
});
