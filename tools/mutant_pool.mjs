// @ts-check
/** Keeps test runs warm: a few processes, each with a vitest that only reads again what a mutant changed. */
import { fork } from 'node:child_process';
import path from 'node:path';
import { ROOT } from './files.mjs';

/** @typedef {import('./mutant_worker.mjs').Job} Job */
/** @typedef {import('./mutant_worker.mjs').TestResult} TestResult */
/** What tests said; undefined when they had to be stopped. @typedef {(job: Job, timeoutMs: number) => Promise<TestResult[] | undefined>} Run */

export class MutantPool {
  /** @type {(import('node:child_process').ChildProcess | undefined)[]} */ children;

  /** @param {number} size */
  constructor(size) {
    this.children = Array.from({ length: size }, () => undefined);
  }

  /**
   * Works through `items`, as many at a time as there are processes.
   * @template T @param {readonly T[]} items
   * @param {(item: T, run: Run) => Promise<void>} work
   */
  async each(items, work) {
    let next = 0;
    const lane = async (/** @type {unknown} */ _child, /** @type {number} */ at) => {
      for (let i = next++; i < items.length; i = next++)
        await work(/** @type {T} */ (items[i]), (job, timeoutMs) => this.#run(at, job, timeoutMs));
    };
    await Promise.all(this.children.map(lane));
  }

  /** @param {number} at */
  #child(at) {
    const running = this.children[at];
    if (running !== undefined) return running;
    const worker = path.join(ROOT, 'tools/mutant_worker.mjs');
    const child = fork(worker, { cwd: ROOT, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
    this.children[at] = child;
    return child;
  }

  /** What the tests said; undefined when they had to be stopped. @param {number} at @param {Job} job @param {number} timeoutMs */
  #run(at, job, timeoutMs) {
    const child = this.#child(at);
    return new Promise((/** @type {(results: TestResult[] | undefined) => void} */ done) => {
      const stop = (/** @type {TestResult[] | undefined} */ results) => {
        clearTimeout(timer);
        child.removeAllListeners();
        if (results === undefined) {
          child.kill('SIGKILL');
          this.children[at] = undefined;
        }
        done(results);
      };
      const timer = setTimeout(() => stop(undefined), timeoutMs);
      child.once('message', (/** @type {TestResult[]} */ results) => stop(results));
      child.once('exit', () => stop(undefined));
      child.send(job);
    });
  }

  close() {
    for (const child of this.children) child?.kill('SIGKILL');
  }
}
