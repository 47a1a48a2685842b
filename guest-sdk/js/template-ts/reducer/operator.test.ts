import assert from "node:assert/strict";
import test from "node:test";

import { t } from "tidemill-guest";
import * as testing from "tidemill-guest/testing";

import { reducer } from "./operator.js";

test("rows of a group become one", () => {
  const sales = (count: bigint, amount: bigint, highest: bigint) => ({ count, amount, highest });
  const row = { count: t.int64, amount: t.int64, highest: t.int64 };
  const ran = testing.reduce(reducer, row, [[sales(1n, 5n, 5n), sales(2n, -3n, 4n)], [sales(1n, 7n, 7n)]]);
  assert.deepEqual(ran, [sales(3n, 2n, 5n), sales(1n, 7n, 7n)]);
});
