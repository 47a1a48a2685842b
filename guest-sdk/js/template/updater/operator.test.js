import assert from "node:assert/strict";
import test from "node:test";

import { t } from "tidemill-guest";
import * as testing from "tidemill-guest/testing";

import { updater } from "./operator.js";

test("a balance is kept until its account is closed", () => {
  const input = { amount: t.int64, close: t.nullable(t.boolean) };
  const batches = new testing.Updates(updater, { account: t.int64 }, input);
  const key = { account: 1n };
  const run = (amount, close) => {
    const { rows } = batches.run(0n, [[key, [{ amount, close }]]]);
    return [rows[0].balance, batches.state(key)];
  };
  assert.deepEqual(run(10n, false), [10n, { balance: 10n, entries: 1n }]);
  assert.deepEqual(run(-4n, null), [6n, { balance: 6n, entries: 2n }]);
  assert.deepEqual(run(1n, true), [7n, undefined]);
});
