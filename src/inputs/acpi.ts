/** ACPI tables as users have them: raw from /sys/firmware/acpi/tables, or as `acpidump` or `xxd` print them. */
import { InputError } from '../base/assert.js';

const HEADER_BYTES = 36;
/** What dom0 finds in place of a signature that Xen has hidden. @xen drivers/passthrough/vtd/dmar.c acpi_dmar_zap */
const HIDDEN_BY_XEN = { DMAR: 'RMAD', IVRS: 'IVRS' } as const;
const TABLE_MAX = 1024 * 1024;

/**
 * The one table of `signature` (`DMAR`, `IVRS`) in a file, header included, checked as far as its container goes:
 * signature, length and checksum (ACPI 6.5, 5.2.6). A DMAR read in dom0 has the signature `RMAD`, since
 * Xen hides the table that way; it is put right.
 */
export function readAcpiTable(source: string, signature: 'DMAR' | 'IVRS', data: Uint8Array): Uint8Array {
  const raw = rawBytes(source, signature, data);
  const again = `copy /sys/firmware/acpi/tables/${signature} again`;
  const fail = (offset: number, problem: string): never => {
    throw new InputError(source, `offset 0x${offset.toString(16)}`, problem, again);
  };
  const found = String.fromCharCode(...raw.subarray(0, 4));
  if (found !== signature && found !== HIDDEN_BY_XEN[signature]) {
    fail(0, `no ${signature} table: its signature is ${JSON.stringify(found)}`);
  }
  if (raw.length < HEADER_BYTES) fail(raw.length, `the file ends inside the ${HEADER_BYTES} byte header`);
  const length = raw[4]! + raw[5]! * 2 ** 8 + raw[6]! * 2 ** 16 + raw[7]! * 2 ** 24;
  if (length !== raw.length) fail(4, `the table says ${length} bytes, the file has ${raw.length}`);
  let sum = 0;
  for (const b of raw) sum = (sum + b) & 0xff;
  if (sum !== 0) fail(9, `the bytes add up to 0x${sum.toString(16)} instead of 0: the checksum is wrong`);
  const table = raw.slice();
  for (let i = 0; i < 4; i++) table[i] = signature.charCodeAt(i);
  return table;
}

function rawBytes(source: string, signature: string, data: Uint8Array): Uint8Array {
  if (data.length > 4 * TABLE_MAX) {
    throw new InputError(
      source,
      '',
      `${data.length} bytes are too many`,
      `give the ${signature} table alone`,
    );
  }
  // Raw tables have a length in their second word, text has none of its bytes below 9.
  return data.length >= 8 && data.subarray(0, 64).every(isText) ? fromHexDump(source, signature, data) : data;
}

const isText = (b: number): boolean => (b >= 0x20 && b < 0x7f) || b === 9 || b === 10 || b === 13;

/** `    0010: 42 58 50 43 …  BXPC` (acpidump), `00000010  42 58 …  |BXPC|` (hexdump -C), `00000010: 4258 …  BXPC` (xxd). */
const DUMP_LINE = /^ *([0-9a-f]{4,8}):? {1,2}(.*)$/i;

/** Offset and bytes of a line of a hex dump; undefined for any other line. */
function dumpLine(line: string): { offset: number; digits: string } | undefined {
  const m = DUMP_LINE.exec(line);
  if (m === null) return undefined;
  // The text column is between bars, or two spaces away; hexdump has two spaces between its halves as well.
  const bar = line.endsWith('|') ? m[2]!.indexOf('|') : -1;
  const columns = bar >= 0 ? m[2]!.slice(0, bar) : m[2]!.split('  ', 1)[0]!;
  const digits = columns.replaceAll(' ', '');
  const whole = /^[0-9a-f]{2,32}$/i.test(digits) && digits.length % 2 === 0;
  return whole ? { offset: Number.parseInt(m[1]!, 16), digits } : undefined;
}

function fromHexDump(source: string, signature: string, data: Uint8Array): Uint8Array {
  const lines = new TextDecoder('latin1').decode(data).split('\n');
  const bytes: number[] = [];
  // acpidump prints many tables, each under a line `DMAR @ 0x…`.
  const from = lines.findIndex((line) => line.startsWith(`${signature} @`));
  for (let i = Math.max(from, 0) + (from < 0 ? 0 : 1); i < lines.length; i++) {
    const row = dumpLine(lines[i]!.trimEnd());
    if (row === undefined) {
      if (from >= 0 && bytes.length > 0) break;
      continue;
    }
    if (row.offset !== bytes.length) {
      const problem = `bytes at ${row.offset.toString(16)} where ${bytes.length.toString(16)} was expected`;
      throw new InputError(source, `line ${i + 1}`, problem, 'take the table again');
    }
    for (let d = 0; d < row.digits.length; d += 2) {
      bytes.push(Number.parseInt(row.digits.slice(d, d + 2), 16));
    }
  }
  if (bytes.length === 0) {
    const remedy = `copy /sys/firmware/acpi/tables/${signature}`;
    throw new InputError(source, '', `text without a ${signature} table in hex`, remedy);
  }
  return Uint8Array.from(bytes);
}
