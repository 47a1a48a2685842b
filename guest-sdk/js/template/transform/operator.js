// Splits lines into words.

import { c, defineTransform, t } from "tidemill-guest";

/** The words of lines: what stands between white space. A line that is null is rejected, which is counted and sets it aside
 *  where the job says so. It works on whole columns, which is several times faster than a function of a row. */
export const transform = defineTransform({
  // What is read of a row: the columns of these names. No other is sent.
  input: { value: t.nullable(t.utf8) },
  // What is written.
  output: { word: t.utf8, position: t.int64 },
  // The step's `config`: whether words are written in small letters, those of ASCII.
  config: { lowercase: c.boolean(false) },
  process(batch, out, { config }) {
    const { value } = batch.columns;
    if (value.nullCount > 0) {
      for (let row = 0; row < batch.length; row++) if (!value.isValid(row)) out.reject(row, "`value` is null");
    }
    const words = (config.lowercase ? value.toAsciiLowerCase() : value).splitWords();
    out.columns.word.extend(words);
    // The position of each word in its line.
    const positions = new BigInt64Array(words.length);
    for (let n = 1; n < words.length; n++) {
      positions[n] = words.rows[n] === words.rows[n - 1] ? positions[n - 1] + 1n : 0n;
    }
    out.columns.position.extend(positions);
  },
});
