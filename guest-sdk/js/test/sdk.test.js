// The SDK without WebAssembly: views and builders against each other, and every kind of operator.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

import { Batch, Writer, c, parseDuration, Reject, schemaOf, t } from "../src/index.js";
import * as operators from "../src/index.js";
import * as testing from "../src/testing.js";

/** Numbers from a seed: a linear congruential generator. */
function random(seed) {
  let state = BigInt(seed);
  return (n) => {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
    return Number(state >> 33n) % n;
  };
}

const FIELDS = {
  flag: t.nullable(t.boolean),
  small: t.int16,
  whole: t.nullable(t.int64),
  large: t.uint64,
  single: t.float32,
  text: t.nullable(t.utf8),
  raw: t.binary,
  key: t.fixedSizeBinary(3),
  day: t.date32,
  at: t.timestamp("ms", "Europe/Oslo"),
  length: t.duration("s"),
  price: t.nullable(t.decimal(30, 2)),
  words: t.list(t.nullable(t.utf8)),
  lists: t.nullable(t.list(t.list(t.int32))),
  place: t.nullable(t.struct({ lat: t.float64, name: t.nullable(t.utf8) })),
  counts: t.map(t.utf8, t.nullable(t.int64)),
  nothing: t.null,
};

function everything(next) {
  const maybe = (make) => (next(3) === 0 ? null : make());
  const text = () => Array.from({ length: next(4) }, () => ["a", "é", "汉", "😀", " "][next(5)]).join("");
  const bytes = (n) => Uint8Array.from({ length: n }, () => next(256));
  return {
    flag: maybe(() => next(2) === 1),
    small: next(65536) - 32768,
    whole: maybe(() => BigInt(next(1000)) - (1n << 63n)),
    large: (1n << 64n) - 1n - BigInt(next(1000)),
    single: next(1000) / 8,
    text: maybe(text),
    raw: bytes(next(3)),
    key: bytes(3),
    day: next(100000) - 50000,
    at: BigInt(next(1000000)),
    length: -BigInt(next(1000)),
    price: maybe(() => 10n ** 29n - BigInt(next(1000)) * (next(2) === 0 ? 1n : -1n)),
    words: Array.from({ length: next(3) }, () => maybe(text)),
    lists: maybe(() => Array.from({ length: next(3) }, () => Array.from({ length: next(3) }, () => next(9)))),
    place: maybe(() => ({ lat: next(90), name: maybe(text) })),
    counts: Array.from({ length: next(3) }, () => [text(), maybe(() => BigInt(next(9)))]),
    nothing: null,
  };
}

test("rows come back as they went, appended one by one, whole and in pieces", () => {
  const next = random(7);
  const schema = schemaOf(FIELDS);
  for (const n_rows of [0, 1, 7, 8, 9, 64, 500]) {
    const rows = Array.from({ length: n_rows }, () => everything(next));
    const writer = new Writer(schema);
    rows.forEach((row) => writer.push(row));
    const batch = new Batch(schema, writer.finish());
    assert.deepEqual(batch.toArray(), rows);

    const taken = n_rows > 0 ? Array.from({ length: 37 }, () => next(n_rows)) : [];
    const again = new Writer(schema);
    batch.list.forEach((column, n) => {
      again.builders[n].extendColumn(column);
      again.builders[n].extendTaken(column, taken);
      again.builders[n].extendColumn(column);
      again.builders[n].extend(column);
    });
    const expected = [...rows, ...taken.map((row) => rows[row]), ...rows, ...rows];
    assert.deepEqual(new Batch(schema, again.finish()).toArray(), expected);
  }
});

test("what does not fit is said", () => {
  const check = (type, value, words) => {
    assert.throws(() => new Writer(schemaOf({ x: type })).push({ x: value }), { message: words });
  };
  check(t.int16, 32768, /column `x` of type int16: 32768 is not a whole number within its range/);
  check(t.int64, 1.5, /1.5 is not a BigInt/);
  check(t.uint64, -1n, /-1n is not within its range/);
  check(t.utf8, 5, /5 is not a string/);
  check(t.utf8, null, /may not be null/);
  check(t.fixedSizeBinary(3), new Uint8Array(4), /is not 3 bytes/);
  check(t.decimal(3, 0), 1000n, /is not within its precision/);
  assert.throws(() => schemaOf({ x: "utf8" }), /column `x` has no type/);
});

test("UTF-8 is the same in an engine without TextDecoder and TextEncoder", async () => {
  const { TextDecoder, TextEncoder } = globalThis;
  Object.assign(globalThis, { TextDecoder: undefined, TextEncoder: undefined });
  const { decode, encode } = await import("../src/text.js?plain");
  Object.assign(globalThis, { TextDecoder, TextEncoder });
  const text = "aé汉😀\u{10ffff}\u07ff\u0800\uffff".repeat(3000);
  const bytes = new TextEncoder().encode(text);
  assert.deepEqual(encode(text), bytes);
  assert.equal(decode(bytes), text);
});

const byRow = operators.defineTransform({
  input: { value: t.nullable(t.utf8) },
  output: { word: t.utf8 },
  flatMap: ({ value }) => (value?.match(/[^ \t\n\f\r]+/g) ?? []).map((word) => ({ word })),
});
const byColumn = operators.defineTransform({
  input: { value: t.nullable(t.utf8) },
  output: { word: t.utf8 },
  process: (batch, out) => out.columns.word.extend(batch.columns.value.splitWords()),
});

test("words are the same by row and by column", () => {
  const next = random(10);
  for (const alphabet of [[..."ab "], [..."ab \t\n\v\f\r"], [..."aé汉\u00a0\u2003 \t"], [..."ab"]]) {
    const rows = Array.from({ length: 3000 }, () => ({
      value: next(20) === 0 ? null : Array.from({ length: next(12) }, () => alphabet[next(alphabet.length)]).join(""),
    }));
    const input = { value: t.nullable(t.utf8) };
    assert.deepEqual(testing.transform(byColumn, input, rows).rows, testing.transform(byRow, input, rows).rows);
  }
});

const ORDER = { id: t.int64, amount: t.nullable(t.float64), "currency-code": t.utf8 };
const order = (id, amount, code) => ({ id, amount, "currency-code": code });

const toEuros = operators.defineTransform({
  input: { amount: t.float64, "currency-code": t.utf8 },
  output: { amount: t.float64 },
  carry: "all",
  config: { dollarsPerEuro: c.number(), least: c.duration(0n), kind: c.oneOf(["a", "b"], "a") },
  check: ({ dollarsPerEuro }) => (dollarsPerEuro > 0 ? undefined : "`dollarsPerEuro` must be more than 0"),
  map({ amount, "currency-code": currency }, { config }) {
    if (currency === "EUR") return { amount };
    if (currency === "USD") return { amount: amount / config.dollarsPerEuro };
    if (currency === "") return null;
    throw new Reject(`no rate for \`${currency}\``);
  },
});

test("rows are rejected and carried", () => {
  const rows = [order(1n, 5, "EUR"), order(2n, 5, "USD"), order(3n, 1, ""), order(4n, null, "EUR"), order(5n, 1, "GBP")];
  const ran = testing.transform(toEuros, ORDER, rows, { dollarsPerEuro: 1.25 });
  assert.deepEqual(ran.rows, [{ amount: 5 }, { amount: 4 }]);
  assert.deepEqual(ran.origin, [0, 1]);
  assert.deepEqual(ran.rejected, [
    { row: 3, reason: "column `amount` is null" },
    { row: 4, reason: "no rate for `GBP`" },
  ]);
});

test("filters carry everything", () => {
  const input = { amount: t.float64 };
  const rows = [{ amount: 5 }, { amount: 10 }, { amount: 20 }];
  const filter = operators.defineTransform({ input, filter: ({ amount }) => amount >= 10 });
  const select = operators.defineTransform({ input, select: (batch) => batch.columns.amount.values.map((x) => (x >= 10 ? 1 : 0)) });
  for (const operator of [filter, select]) {
    assert.deepEqual(testing.transform(operator, input, rows).origin, [1, 2]);
    assert.equal(testing.transform(operator, input, rows.slice(1)).origin, undefined);
    assert.deepEqual(testing.transform(operator, input, []).rows, []);
  }
});

test("what does not fit is refused, and a bug fails the call", () => {
  const check = (config, kind, message) =>
    assert.throws(() => testing.transform(toEuros, ORDER, [order(1n, 1, "EUR")], config), { kind, message });
  check({}, "config", "missing field `dollarsPerEuro`");
  check({ dollarsPerEuro: 0 }, "config", "`dollarsPerEuro` must be more than 0");
  check({ dollarsPerEuro: "1" }, "config", '`dollarsPerEuro` is "1", a number is expected');
  check({ dollarsPerEuro: 1, least: "5" }, "config", "`least`: `5` is not a duration, as `30s` and `1h30m` are");
  check({ dollarsPerEuro: 1, kind: "c" }, "config", '`kind` is "c", one of "a", "b" is expected');
  check({ rate: 1 }, "config", "unknown field `rate`, expected one of `dollarsPerEuro`, `least`, `kind`");
  assert.throws(() => testing.transform(byRow, { value: t.int8 }, [{ value: 1 }]), {
    kind: "schema",
    message: "column `value` is int8, utf8 is expected",
  });
  const input = { x: t.int8 };
  const broken = operators.defineTransform({ input, output: input, map: () => undefined.x });
  assert.throws(() => testing.transform(broken, input, [{ x: 1 }]), { kind: "fatal", message: /TypeError/ });
});

test("durations are written as in a job file", () => {
  const right = { 0: 0n, "10ms": 10_000n, "1.5s": 1_500_000n, "1h30m": 5_400_000_000n, "0.0000019s": 1n };
  for (const [text, us] of Object.entries(right)) assert.equal(parseDuration(text), us, text);
  for (const text of ["", "5", "s", "30m1h", "1s1s", "1.s", ".5s", "-1s", "1x", "99999999999999d"]) {
    assert.throws(() => parseDuration(text), RangeError, text);
  }
});

test("reducers", () => {
  const row = { count: t.int64, amount: t.int64 };
  const sale = (count, amount) => ({ count, amount });
  const add = (one, other) => sale(one.count + other.count, one.amount + other.amount);
  const minus = (whole, part) => sale(whole.count - part.count, whole.amount - part.amount);
  const plus = operators.defineReducer({ row, reduce: add, invert: minus });
  assert.deepEqual(testing.reduce(plus, row, [[sale(1n, 2n), sale(1n, 3n)], [sale(1n, 9n)]]), [sale(2n, 5n), sale(1n, 9n)]);
  assert.deepEqual(testing.invert(plus, row, [sale(3n, 4n)], [sale(1n, 1n)]), [sale(2n, 3n)]);
  const columns = operators.defineReducer({
    row,
    process({ columns: { count, amount }, ends }, out) {
      let start = 0;
      for (const end of ends) {
        const sum = (column) => column.values.subarray(start, end).reduce((total, value) => total + value, 0n);
        out.push(sale(sum(count), sum(amount)));
        start = end;
      }
    },
  });
  assert.deepEqual(testing.reduce(columns, row, [[sale(1n, 2n), sale(1n, 3n)], [sale(1n, 9n)]]), [sale(2n, 5n), sale(1n, 9n)]);
});

test("groupers of two inputs", () => {
  const amount = { amount: t.float64 };
  const balance = operators.defineGrouper({
    key: { city: t.utf8 },
    inputs: { orders: amount, payments: amount },
    output: { owed: t.float64 },
    group({ orders, payments }, { key }) {
      if (key.city === "nowhere") throw new Reject("it is nowhere");
      orders.forEach((one, index) => one.amount < 0 && orders.reject(index, "it is negative"));
      const sum = (rows) => rows.reduce((total, row) => total + row.amount, 0);
      return { owed: sum(orders) - sum(payments) };
    },
  });
  const rows = (...amounts) => amounts.map((one) => ({ amount: one }));
  const ran = testing.cogroup(balance, { city: t.nullable(t.utf8) }, [amount, amount], [
    [{ city: "Oslo" }, [rows(5, -1), rows(3)]],
    [{ city: "nowhere" }, [rows(1), rows(1)]],
    [{ city: null }, [[], rows(1)]],
    [{ city: "Rome" }, [[], rows(2)]],
  ]);
  assert.deepEqual([ran.rows, ran.group], [[{ owed: 1 }, { owed: -2 }], [0, 3]]);
  assert.deepEqual(ran.rejected, [
    [{ row: 1, reason: "it is negative" }, { row: 2, reason: "it is nowhere" }],
    [{ row: 1, reason: "it is nowhere" }, { row: 2, reason: "key column `city` is null" }],
  ]);
});

test("updaters keep state, and time out", () => {
  const input = { volts: t.float64 };
  const silence = operators.defineUpdater({
    input,
    state: { volts: t.float64, seen: t.timestamp() },
    output: { volts: t.float64, seen: t.timestamp() },
    timeouts: "batch-time",
    update(rows, state, { call }) {
      if (state.timedOut) {
        const last = state.get();
        state.remove();
        return last;
      }
      state.set({ volts: rows[rows.length - 1].volts, seen: call.batchTimeUs });
      state.setTimeoutAfter(60_000_000n);
      return undefined;
    },
  });
  const batches = new testing.Updates(silence, { city: t.utf8 }, input);
  const [oslo, rome] = [{ city: "Oslo" }, { city: "Rome" }];
  assert.deepEqual(batches.run(0n, [[oslo, [{ volts: 1 }, { volts: 2 }]], [rome, [{ volts: 3 }]]]).rows, []);
  assert.deepEqual([batches.state(oslo), batches.timeoutUs(oslo)], [{ volts: 2, seen: 0n }, 60_000_000n]);
  batches.run(30_000_000n, [[rome, [{ volts: 4 }]]]);
  assert.deepEqual(batches.run(60_000_000n, []).rows, [{ volts: 2, seen: 0n }]);
  assert.deepEqual([batches.state(oslo), batches.state(rome)], [undefined, { volts: 4, seen: 30_000_000n }]);
  const careless = operators.defineUpdater({ input, state: input, output: input, update: (_, state) => state.setTimeout(5n) });
  assert.throws(() => new testing.Updates(careless, {}, input).run(0n, [[{}, [{ volts: 1 }]]]), { message: /timeouts:/ });
});

test("the contract's text is that of the project", () => {
  const [own, project] = [new URL("../wit/v0.1/", import.meta.url), new URL("../../../wit/v0.1/", import.meta.url)];
  assert.deepEqual(readdirSync(own).sort(), readdirSync(project).sort());
  for (const name of readdirSync(own)) {
    assert.equal(readFileSync(new URL(name, own), "utf8"), readFileSync(new URL(name, project), "utf8"), name);
  }
});
