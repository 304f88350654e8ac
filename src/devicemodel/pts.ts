import type { Dom0 } from '../toolstack/dom0.js';

/** The pseudo terminal that the next open of /dev/ptmx gives: the lowest one that no domain has. */
export function freePts(dom0: Dom0): string {
  const used = new Set<string>();
  for (const id of dom0.xs.ls('/local/domain') ?? []) {
    const dom = `/local/domain/${id}`;
    used.add(dom0.xs.read(`${dom}/console/tty`) ?? '');
    for (const port of dom0.xs.ls(`${dom}/serial`) ?? [])
      used.add(dom0.xs.read(`${dom}/serial/${port}/tty`) ?? '');
  }
  let n = 0;
  while (used.has(`/dev/pts/${n}`)) n++;
  return `/dev/pts/${n}`;
}
