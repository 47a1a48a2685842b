// The mean of a key's readings.

import { defineAggregator, t } from "tidemill-guest";

/** The mean of what is not null; null when there is none. */
export const aggregator = defineAggregator({
  // What is read of a row.
  input: { degrees: t.nullable(t.float64) },
  // What is kept of some rows, until all of the key's are together.
  accumulator: { sum: t.float64, readings: t.int64 },
  // What is written, behind the key.
  output: { mean: t.nullable(t.float64), readings: t.int64 },
  start: () => ({ sum: 0, readings: 0n }),
  add(kept, { degrees }) {
    if (degrees === null) return;
    kept.sum += degrees;
    kept.readings += 1n;
  },
  // Adds what is kept of rows that come after. It must be associative.
  merge(kept, other) {
    kept.sum += other.sum;
    kept.readings += other.readings;
  },
  finish: ({ sum, readings }) => ({ mean: readings > 0n ? sum / Number(readings) : null, readings }),
});
