import { expect, test } from 'vitest';
import { DomainIommu, Pdev, type PdevList } from '../../src/iommu/driver/types.js';
import { EventStream } from '../../src/sim/events.js';
import { ListLinks } from '../../src/sim/list_links.js';
import { Cpus } from '../../src/sim/locks.js';

/** The same draws in every run. */
function* numbers(): Generator<number> {
  for (let x = 12345; ; ) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0;
    yield x >>> 8;
  }
}

test('lists of devices are as list_add() and list_del() leave them, whoever leaves, and numbers of gone devices are dealt again', () => {
  const links = new ListLinks<Pdev>();
  const cpus = new Cpus(1, new EventStream());
  const lists = [1, 2, 3].map((domid): PdevList => new DomainIommu(domid, cpus, true, false));
  const expected: Pdev[][] = [[], [], []];
  const next = numbers();
  const draw = (n: number): number => next.next().value % n;
  const owner = new Map<Pdev, number>();
  const add = (pdev: Pdev, to: number): void => {
    lists[to]!.add(pdev);
    expected[to]!.unshift(pdev);
    owner.set(pdev, to);
  };
  const take = (pdev: Pdev): void => {
    const from = owner.get(pdev)!;
    lists[from]!.remove(pdev);
    expected[from]!.splice(expected[from]!.indexOf(pdev), 1);
    owner.delete(pdev);
  };
  for (let i = 0; i < 40; i++) add(new Pdev(i * 8, links), draw(3));
  for (let step = 0; step < 2000; step++) {
    const all = [...owner.keys()];
    const pdev = all[draw(all.length)]!;
    take(pdev);
    if (draw(10) === 0) {
      links.leave(pdev.nr);
      add(new Pdev(pdev.sbdf, links), draw(3));
    } else add(pdev, draw(3));
    for (let l = 0; l < lists.length; l++) {
      expect(lists[l]!.toArray()).toEqual(expected[l]);
      expect(lists[l]!.size).toBe(expected[l]!.length);
    }
  }
  // 40 devices at a time, and the place of nobody.
  expect(links.members.length).toBe(41);
});
