import assert from "node:assert/strict";
import test from "node:test";

import { t } from "tidemill-guest";
import * as testing from "tidemill-guest/testing";

import { transform } from "./operator.js";

test("words stand between white space", () => {
  const rows = [{ value: "To  be\tor" }, { value: null }, { value: "" }];
  const ran = testing.transform(transform, { value: t.nullable(t.utf8) }, rows, { lowercase: true });
  assert.deepEqual(ran.rows, [
    { word: "to", position: 0n },
    { word: "be", position: 1n },
    { word: "or", position: 2n },
  ]);
  assert.deepEqual(ran.rejected, [{ row: 1, reason: "`value` is null" }]);
});
