import { assert } from '../base/assert.js';

export interface Alarm {
  readonly atNs: number;
  readonly seq: number;
  readonly fire: () => void;
}

/** Simulated time. It moves only when somebody calls `advance`, and runs due alarms in order of time, then age. */
export class Clock {
  nowNs = 0;
  private seq = 0;
  private readonly alarms: Alarm[] = [];

  /** Calls `fire` once, `delayNs` from now. */
  after(delayNs: number, fire: () => void): Alarm {
    assert(delayNs >= 0, 'an alarm lies in the future');
    const alarm = { atNs: this.nowNs + delayNs, seq: this.seq++, fire };
    let i = this.alarms.length;
    while (i > 0 && this.alarms[i - 1]!.atNs > alarm.atNs) i--;
    this.alarms.splice(i, 0, alarm);
    return alarm;
  }

  cancel(alarm: Alarm): void {
    const at = this.alarms.indexOf(alarm);
    if (at >= 0) this.alarms.splice(at, 1);
  }

  /** When the next alarm is due; undefined while there is none. */
  nextAlarmNs(): number | undefined {
    return this.alarms[0]?.atNs;
  }

  /** What has been done since `ns` lies in the future: somebody does it while others go on from there. */
  goBack(ns: number): void {
    assert(ns <= this.nowNs, 'that time has been');
    this.nowNs = ns;
  }

  advance(ns: number): void {
    const end = this.nowNs + ns;
    while (this.alarms.length > 0 && this.alarms[0]!.atNs <= end) {
      const alarm = this.alarms.shift()!;
      this.nowNs = alarm.atNs;
      alarm.fire();
    }
    this.nowNs = end;
  }
}
