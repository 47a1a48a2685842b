// The visits of a key in the order of time, each with the time since the one before.

import { defineGrouper, t } from "tidemill-guest";

/** All rows of a key, by time; of equal times, as they came. */
export const grouper = defineGrouper({
  // What is read of a row.
  input: { at: t.int64, page: t.nullable(t.utf8) },
  // What is written, behind the key.
  output: { at: t.int64, page: t.nullable(t.utf8), since: t.nullable(t.int64) },
  group(rows) {
    const visits = rows.map(({ at, page }) => ({ at, page }));
    visits.sort((one, other) => (one.at < other.at ? -1 : one.at > other.at ? 1 : 0));
    return visits.map(({ at, page }, n) => ({ at, page, since: n === 0 ? null : at - visits[n - 1]!.at }));
  },
});
