// The balance of an account, from batch to batch.

import { defineUpdater, t } from "tidemill-guest";

/** Keeps the balance of each account, and forgets those that are closed. */
export const updater = defineUpdater({
  // What is read of a row.
  input: { amount: t.int64, close: t.nullable(t.boolean) },
  // What is kept of a key. The host holds it: a crash loses nothing of it and sees nothing of it twice.
  state: { balance: t.int64, entries: t.int64 },
  // What is written, behind the key.
  output: { balance: t.int64, entries: t.int64, closed: t.boolean },
  update(rows, state) {
    const account = state.get({ balance: 0n, entries: 0n });
    let closed = false;
    for (const { amount, close } of rows) {
      account.balance += amount;
      account.entries += 1n;
      closed ||= close === true;
    }
    if (closed) state.remove();
    else state.set(account);
    return { ...account, closed };
  },
});
