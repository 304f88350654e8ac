/** What a command reads: a text, and how far it has been read. A loop and the commands in it share one. */
export class Input {
  private at = 0;
  constructor(private readonly text: string) {}

  /** Everything that is left. */
  rest(): string {
    const rest = this.text.slice(this.at);
    this.at = this.text.length;
    return rest;
  }

  /** Up to `delimiter` (not part of the result), or `max` characters; `whole` is false at the end of the text. */
  line(delimiter: string, max: number): { readonly text: string; readonly whole: boolean } {
    const end = this.text.indexOf(delimiter, this.at);
    const stop = Math.min(end < 0 ? this.text.length : end, this.at + max);
    const text = this.text.slice(this.at, stop);
    const whole = stop === this.at + max || end >= 0;
    this.at = stop === end ? end + delimiter.length : stop;
    return { text, whole };
  }
}
