// The conformance operator of the JavaScript SDK, in all roles: it does what docs/conformance.md says.

import {
  Failure,
  Refusal,
  Writer,
  aggregatorRole,
  diagnostics,
  grouperRole,
  reducerRole,
  t,
  transformRole,
  updaterRole,
} from "tidemill-guest";

const KEYS = {
  refuse: null,
  fail: null,
  "reject-every": 0,
  by: "columns",
  diagnostics: false,
  repeat: 1,
  carry: false,
  invertible: false,
  "every-key": false,
  timeouts: "never",
  "timeout-us": null,
  "remove-at": null,
};
const KEEP = -(1n << 63n);
const ROWS = { name: "rows", type: t.int64 };
const TIMED_OUT = { name: "timed_out", type: t.boolean };

function configOf(step, rejects = true) {
  const found = JSON.parse(step.config);
  const unknown = Object.keys(found).find((key) => !(key in KEYS));
  if (unknown) throw new Refusal(`unknown field \`${unknown}\``, "config");
  const config = { ...KEYS };
  for (const [key, value] of Object.entries(found)) if (value !== null) config[key] = value;
  if (config.refuse) throw new Refusal("refused as asked", config.refuse);
  if (config["reject-every"] > 0 && !rejects) {
    throw new Refusal("`reject-every` is for roles that reject rows", "config");
  }
  return config;
}

const rejects = ({ "reject-every": every }, number) => every > 0 && number % every === every - 1;

function beginCall(config, n_rows) {
  if (config.diagnostics) {
    diagnostics.log("info", `conform: ${n_rows} rows`);
    diagnostics.count("conform_rows", n_rows);
    diagnostics.gauge("conform_last", n_rows);
  }
  if (config.fail) throw new Failure("failed as asked", config.fail);
}

/** Appends rows with the view that is asked for. */
function append(config, columns, rows, builders) {
  columns.forEach((column, n) => {
    if (config.by === "rows") for (const row of rows) builders[n].push(column.get(row));
    else if (rows.length === column.length && rows.every((row, index) => row === index)) builders[n].extendColumn(column);
    else builders[n].extendTaken(column, rows);
  });
}

/** Some rows of a batch as a batch of their own. */
function take(config, batch, rows) {
  const writer = new Writer(batch.schema);
  append(config, batch.list, rows, writer.builders);
  return writer.finish(rows.length);
}

/** The columns of a schema behind others. */
function behind(before, schema) {
  const taken = before.find(({ name }) => schema.some((field) => field.name === name));
  if (taken) throw new Refusal(`there is a column \`${taken.name}\`, which is the operator's own`, "schema");
  return [...before, ...schema];
}

const all = (n_rows) => Array.from({ length: n_rows }, (_, row) => row);
const lastRows = (ends) => Array.from(ends, (end) => end - 1);
const startOf = (ends, group) => (group === 0 ? 0 : ends[group - 1]);

/** Writes what it reads. */
export const transform = transformRole((step, input) => {
  const config = configOf(step);
  const process = (batch, call) => {
    beginCall(config, batch.length);
    const origin = [];
    const rejected = [];
    for (let row = 0; row < batch.length; row++) {
      const number = Number(call.firstRow) + row;
      if (rejects(config, number)) rejected.push({ row, reason: `row ${number} is rejected` });
      else for (let n = 0; n < config.repeat; n++) origin.push(row);
    }
    return { rows: take(config, batch, origin), origin, rejected };
  };
  return config.carry ? { reads: [], writes: [], carries: "all", process } : { writes: input, process };
});

/** Keeps the last row. */
export const reducer = reducerRole((step) => {
  const config = configOf(step, false);
  return {
    invertible: config.invertible,
    reduce(values, ends) {
      beginCall(config, values.length);
      return take(config, values, lastRows(ends));
    },
    invert(whole) {
      beginCall(config, whole.length);
      return take(config, whole, all(whole.length));
    },
  };
});

/** Counts rows, and keeps the last. */
export const aggregator = aggregatorRole((step, values) => {
  const config = configOf(step, false);
  const schema = behind([ROWS], values);
  const rows = (counts, columns, taken) => {
    const writer = new Writer(schema);
    writer.columns.rows.extend(counts);
    append(config, columns, taken, writer.builders.slice(1));
    return writer.finish();
  };
  return {
    accumulator: schema,
    result: schema,
    accumulate(batch, ends) {
      beginCall(config, batch.length);
      const counts = Array.from(ends, (end, group) => BigInt(end - startOf(ends, group)));
      return rows(counts, batch.list, lastRows(ends));
    },
    merge(accumulators, ends) {
      beginCall(config, accumulators.length);
      const { values: of_rows } = accumulators.columns.rows;
      const counts = Array.from(ends, (end, group) =>
        of_rows.subarray(startOf(ends, group), end).reduce((sum, count) => sum + count, 0n),
      );
      return rows(counts, accumulators.list.slice(1), lastRows(ends));
    },
    finish(accumulators) {
      beginCall(config, accumulators.length);
      return take(config, accumulators, all(accumulators.length));
    },
  };
});

const text = (schema) => JSON.stringify(schema);

/** The rows of each group, the last first. */
export const grouper = grouperRole((step, _, inputs) => {
  const config = configOf(step);
  const [schema] = inputs;
  if (inputs.some((other) => text(other) !== text(schema))) {
    throw new Refusal("the inputs have different columns", "schema");
  }
  const process = (keys, batches) => {
    beginCall(
      config,
      batches.reduce((sum, { rows }) => sum + rows.length, 0),
    );
    const writer = new Writer(schema);
    const group = [];
    for (let number = 0; number < keys.length; number++) {
      for (const { rows, ends } of batches) {
        const taken = [];
        for (let row = ends[number] - 1; row >= startOf(ends, number); row--) if (!rejects(config, row)) taken.push(row);
        append(config, rows.list, taken, writer.builders);
        for (let n = 0; n < taken.length; n++) group.push(number);
      }
    }
    const rejected = batches.map(({ rows }, input) =>
      all(rows.length)
        .filter((row) => rejects(config, row))
        .map((row) => ({ row, reason: `row ${row} of input ${input} is rejected` })),
    );
    return { rows: writer.finish(group.length), group, rejected };
  };
  return { reads: inputs.map(() => undefined), writes: schema, process };
});

/** Counts rows, and keeps the last, as state. */
export const updater = updaterRole((step, _, values) => {
  const config = configOf(step);
  const writes = behind([ROWS, TIMED_OUT], values);
  const stateSchema = behind([ROWS], values);
  const { timeouts } = config;
  const timeoutOf = (call) => {
    if (timeouts === "never" || config["timeout-us"] === null) return KEEP;
    const base = timeouts === "batch-time" ? call.batchTimeUs : (call.watermarkUs ?? 0n);
    return base + BigInt(config["timeout-us"]);
  };
  const update = (input, call) => {
    beginCall(config, input.values.length);
    const state = new Writer(stateSchema);
    const rows = new Writer(writes);
    const [group, changes, timeoutsUs] = [[], [], []];
    const counts = input.state.columns.rows.values;
    const kept_columns = input.state.list.slice(1);
    let next = 0;
    const write = (key, count, timedOut, columns, row) => {
      rows.builders[0].push(count);
      rows.builders[1].push(timedOut);
      append(config, columns, [row], rows.builders.slice(2));
      group.push(key);
    };
    for (let key = 0; key < input.keys.length; key++) {
      const [start, end] = [startOf(input.ends, key), input.ends[key]];
      const kept = [];
      for (let row = start; row < end; row++) if (!rejects(config, row)) kept.push(row);
      const old = input.hasState[key] ? next++ : undefined;
      let [change, timeout] = [0, KEEP];
      if (input.timedOut[key]) {
        write(key, counts[old], true, kept_columns, old);
        change = 2;
      } else if (kept.length > 0) {
        const count = (old === undefined ? 0n : counts[old]) + BigInt(kept.length);
        const last = kept[kept.length - 1];
        write(key, count, false, input.values.list, last);
        if (config["remove-at"] !== null && count >= BigInt(config["remove-at"])) change = 2;
        else {
          [change, timeout] = [1, timeoutOf(call)];
          state.builders[0].push(count);
          append(config, input.values.list, [last], state.builders.slice(1));
        }
      } else if (end === start && old !== undefined) write(key, counts[old], false, kept_columns, old);
      changes.push(change);
      timeoutsUs.push(timeout);
    }
    const rejected = all(input.values.length)
      .filter((row) => rejects(config, row))
      .map((row) => ({ row, reason: `row ${row} is rejected` }));
    return {
      changes,
      state: state.finish(),
      timeoutsUs: timeouts === "never" ? undefined : timeoutsUs,
      rows: rows.finish(),
      group,
      rejected,
    };
  };
  const calling = config["every-key"] ? "every-key" : "keys-with-values";
  return { state: stateSchema, writes, calling, timeouts, update };
});
