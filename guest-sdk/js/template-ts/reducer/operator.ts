// The sums and the highest of a key's rows.

import { defineReducer, t } from "tidemill-guest";

/** Combines rows into one of the same columns. It must be associative: what comes out is combined further. */
export const reducer = defineReducer({
  row: { count: t.int64, amount: t.int64, highest: t.int64 },
  reduce: (one, other) => ({
    count: one.count + other.count,
    amount: one.amount + other.amount,
    highest: one.highest > other.highest ? one.highest : other.highest,
  }),
});
