/** Ctrl-C: between commands it is a count, in the middle of one it ends the command. */
import vm from 'node:vm';

/** Ctrl-C came while something ran that cannot look for it. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

export class Interrupts {
  count = 0;
  private readonly onSigint = (): void => {
    this.count += 1;
  };
  private readonly box = vm.createContext({ work: undefined });
  private readonly script = new vm.Script('work()');

  /** Counts from now on: nobody dies of the signal before `stop`. */
  constructor() {
    process.on('SIGINT', this.onSigint);
  }

  /**
   * Runs what does not give the event loop a turn, which a signal would wait for.
   * What it worked on is of no use after Interrupted: it ended anywhere.
   * @throws Interrupted, and whatever `work` throws
   */
  during<T>(work: () => T): T {
    let result!: T;
    this.box.work = () => {
      result = work();
    };
    try {
      this.script.runInContext(this.box, { breakOnSigint: true });
      return result;
    } catch (e) {
      if ((e as { code?: string }).code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED') throw new Interrupted();
      throw e;
    }
  }

  stop(): void {
    process.off('SIGINT', this.onSigint);
  }
}
