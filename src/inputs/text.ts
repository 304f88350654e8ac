/** Bytes of a user's file as lines of text. */
import { InputError } from '../base/assert.js';
import { LIMITS } from '../base/limits.js';

/** UTF-8, or UTF-16 where a byte order mark says so (what PowerShell writes). CRLF and a missing last newline are fine. */
export function textOf(source: string, data: Uint8Array): string {
  if (data.length > LIMITS.inputBytesMax) {
    throw new InputError(
      source,
      '',
      `${data.length} bytes are more than ${LIMITS.inputBytesMax}`,
      'give the file of one machine',
    );
  }
  const utf16 = data[0] === 0xff && data[1] === 0xfe;
  return new TextDecoder(utf16 ? 'utf-16le' : 'utf-8').decode(data);
}

export const linesOf = (text: string): string[] =>
  text.split('\n').map((l) => (l.endsWith('\r') ? l.slice(0, -1) : l));
