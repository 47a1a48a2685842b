import assert from "node:assert/strict";
import test from "node:test";

import { t } from "tidemill-guest";
import * as testing from "tidemill-guest/testing";

import { aggregator } from "./operator.js";

test("nulls are left out", () => {
  const reading = (degrees: number | null) => ({ degrees });
  const groups = [[reading(1), reading(null), reading(2)], [reading(null)]];
  const ran = testing.aggregate(aggregator, { degrees: t.nullable(t.float64) }, groups);
  assert.deepEqual(ran, [
    { mean: 1.5, readings: 2n },
    { mean: null, readings: 0n },
  ]);
});
