import assert from "node:assert/strict";
import test from "node:test";

import { t } from "tidemill-guest";
import * as testing from "tidemill-guest/testing";

import { grouper } from "./operator.js";

test("visits are put in order", () => {
  const input = { at: t.int64, page: t.nullable(t.utf8) };
  const ran = testing.group(grouper, { visitor: t.utf8 }, input, [
    [{ visitor: "a" }, [{ at: 5n, page: "y" }, { at: 2n, page: null }]],
    [{ visitor: "b" }, [{ at: 1n, page: "x" }]],
  ]);
  assert.deepEqual(ran.rows, [
    { at: 2n, page: null, since: null },
    { at: 5n, page: "y", since: 3n },
    { at: 1n, page: "x", since: null },
  ]);
  assert.deepEqual(ran.group, [0, 0, 1]);
});
