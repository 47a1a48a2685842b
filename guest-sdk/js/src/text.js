// Text and UTF-8. An engine may have neither TextDecoder nor TextEncoder: everything here works without, and by whole buffers.

const decoder = typeof TextDecoder === "undefined" ? undefined : new TextDecoder();
const encoder = typeof TextEncoder === "undefined" ? undefined : new TextEncoder();
// Arguments of one call: what every engine takes.
const CODES_AT_ONCE = 4096;
const NOT_ASCII = /[^\0-\x7f]/;

/** Each byte as a character of the same number: what ASCII text is. */
export function latin1(bytes, start, end) {
  let text = "";
  for (let from = start; from < end; from += CODES_AT_ONCE) {
    text += String.fromCharCode.apply(null, bytes.subarray(from, Math.min(from + CODES_AT_ONCE, end)));
  }
  return text;
}

/** Whether text is ASCII. */
export function isAscii(text) {
  return !NOT_ASCII.test(text);
}

/** Text of UTF-8. */
export function decode(bytes, start = 0, end = bytes.length) {
  if (decoder) return decoder.decode(bytes.subarray(start, end));
  const text = latin1(bytes, start, end);
  if (isAscii(text)) return text;
  const codes = [];
  let decoded = "";
  for (let n = start; n < end; ) {
    const first = bytes[n++];
    if (first < 0x80) codes.push(first);
    else if (first < 0xe0) codes.push(((first & 0x1f) << 6) | (bytes[n++] & 0x3f));
    else if (first < 0xf0) codes.push(((first & 0x0f) << 12) | ((bytes[n++] & 0x3f) << 6) | (bytes[n++] & 0x3f));
    else {
      const code =
        ((first & 0x07) << 18) | ((bytes[n++] & 0x3f) << 12) | ((bytes[n++] & 0x3f) << 6) | (bytes[n++] & 0x3f);
      codes.push(0xd7c0 + (code >> 10), 0xdc00 + (code & 0x3ff));
    }
    if (codes.length >= CODES_AT_ONCE) {
      decoded += String.fromCharCode.apply(null, codes);
      codes.length = 0;
    }
  }
  return decoded + String.fromCharCode.apply(null, codes);
}

/** UTF-8 of text. Half a surrogate pair becomes U+FFFD. */
export function encode(text) {
  if (encoder) return encoder.encode(text);
  const { length } = text;
  if (isAscii(text)) {
    const bytes = new Uint8Array(length);
    for (let n = 0; n < length; n++) bytes[n] = text.charCodeAt(n);
    return bytes;
  }
  const bytes = new Uint8Array(3 * length);
  let end = 0;
  for (let n = 0; n < length; n++) {
    let code = text.charCodeAt(n);
    if (code >= 0xd800 && code < 0xe000) {
      const low = text.charCodeAt(n + 1);
      if (code < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        n++;
      } else code = 0xfffd;
    }
    if (code < 0x80) bytes[end++] = code;
    else if (code < 0x800) {
      bytes[end++] = 0xc0 | (code >> 6);
      bytes[end++] = 0x80 | (code & 0x3f);
    } else if (code < 0x10000) {
      bytes[end++] = 0xe0 | (code >> 12);
      bytes[end++] = 0x80 | ((code >> 6) & 0x3f);
      bytes[end++] = 0x80 | (code & 0x3f);
    } else {
      bytes[end++] = 0xf0 | (code >> 18);
      bytes[end++] = 0x80 | ((code >> 12) & 0x3f);
      bytes[end++] = 0x80 | ((code >> 6) & 0x3f);
      bytes[end++] = 0x80 | (code & 0x3f);
    }
  }
  return bytes.slice(0, end);
}

/** Pieces of texts: their bytes in one, where each ends, and which row each is of. */
export class Pieces {
  constructor(data, ends, rows) {
    /** The bytes of all pieces, one behind the other. */
    this.data = data;
    /** Where each piece ends in `data`. */
    this.ends = ends;
    /** The row that each piece is of. */
    this.rows = rows;
  }

  get length() {
    return this.ends.length;
  }

  /** All pieces, as text. */
  toArray() {
    const all = [];
    let start = 0;
    for (const end of this.ends) {
      all.push(decode(this.data, start, end));
      start = end;
    }
    return all;
  }
}

const SPACE = 0x20;
// ASCII's white space without the space: tab, line feed, form feed, carriage return. The vertical tab is none.
const OTHER_WHITE = [0x09, 0x0a, 0x0c, 0x0d];

/** The words of the texts of a column: what stands between ASCII white space. */
export function splitWords(column) {
  const { offsets, length } = column;
  const n_bytes = offsets[length];
  // A copy: it becomes the words, one behind the other, as they are found in front of where they are looked for.
  const data = column.data.slice(0, n_bytes);
  // With one kind of white space a search for it, which is the engine's own code, finds the end of a word.
  for (const white of OTHER_WHITE) {
    for (let at = data.indexOf(white); at >= 0; at = data.indexOf(white, at + 1)) data[at] = SPACE;
  }
  let ends = new Int32Array((n_bytes >> 2) + 16);
  let rows = new Uint32Array(ends.length);
  let n_words = 0;
  let written = 0;
  let space = -1;
  for (let row = 0; row < length; row++) {
    const end = offsets[row + 1];
    let at = offsets[row];
    if (column.nullCount > 0 && !column.isValid(row)) continue;
    while (at < end) {
      if (space < at) {
        space = data.indexOf(SPACE, at);
        if (space < 0) space = n_bytes;
      }
      const stop = space < end ? space : end;
      if (stop > at) {
        if (n_words === ends.length) {
          ends = grown(ends);
          rows = grown(rows);
        }
        data.copyWithin(written, at, stop);
        written += stop - at;
        ends[n_words] = written;
        rows[n_words++] = row;
      }
      at = stop + 1;
      if (stop === end && space !== end) at = end;
    }
  }
  return new Pieces(data.subarray(0, written), ends.subarray(0, n_words), rows.subarray(0, n_words));
}

function grown(numbers) {
  const larger = new numbers.constructor(2 * numbers.length);
  larger.set(numbers);
  return larger;
}

/** A column's texts in small or capital letters, those of ASCII alone. */
export function mapAscii(column, from, to, change) {
  const data = column.data.slice();
  for (let n = 0; n < data.length; n++) {
    const byte = data[n];
    if (byte >= from && byte <= to) data[n] = byte + change;
  }
  return column.withData(data);
}
