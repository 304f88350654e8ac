/** Releases by the names the command line uses: 4.17.7, 4.18.3 and the newest commit. */
export type Release = '4.17' | '4.18' | '4.23';
