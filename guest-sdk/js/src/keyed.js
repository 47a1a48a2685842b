// Reducers, aggregators, groupers and updaters.

import { Batch, RowSpec, Rows } from "./batch.js";
import { Writer } from "./builder.js";
import { readConfig } from "./config.js";
import { Failure, Refusal, Reject } from "./errors.js";
import { calling, callOf, opening, select, startOf } from "./role.js";
import { fromContract, schemaOf, schemaText, toContract } from "./schema.js";

/** A reducer as the contract has it: `open(step, schema)` gives `{ invertible, reduce, invert }`. */
export function reducerRole(open) {
  let opened;
  let schema;
  return {
    open: (step, values) =>
      opening(() => {
        schema = fromContract(values);
        opened = open(step, schema);
        return { invertible: opened.invertible ?? false };
      }),
    reduce: (call, values, ends) => calling(() => opened.reduce(new Batch(schema, values), ends, callOf(call))),
    invert: (call, whole, part) =>
      calling(() => {
        if (!opened.invert) throw new Failure("this reducer has no inverse");
        return opened.invert(new Batch(schema, whole), new Batch(schema, part), callOf(call));
      }),
  };
}

/** An aggregator as the contract has it: `open` gives `{ reads, accumulator, result, accumulate, merge, finish }`. */
export function aggregatorRole(open) {
  let opened;
  let schema;
  const accumulators = (raw) => new Batch(opened.accumulator, raw);
  return {
    open: (step, values) =>
      opening(() => {
        const found = fromContract(values);
        opened = open(step, found);
        schema = select(found, opened.reads);
        const { reads, accumulator, result } = opened;
        return { reads, accumulator: toContract(accumulator), result: toContract(result) };
      }),
    accumulate: (call, values, ends) => calling(() => opened.accumulate(new Batch(schema, values), ends, callOf(call))),
    merge: (call, raw, ends) => calling(() => opened.merge(accumulators(raw), ends, callOf(call))),
    finish: (call, raw) => calling(() => opened.finish(accumulators(raw), callOf(call))),
  };
}

/** A grouper as the contract has it: `open(step, keys, inputs)` gives `{ reads, writes, process }`. */
export function grouperRole(open) {
  let opened;
  let keySchema;
  let schemas;
  return {
    open: (step, keys, inputs) =>
      opening(() => {
        keySchema = fromContract(keys);
        const found = inputs.map(fromContract);
        opened = open(step, keySchema, found);
        schemas = found.map((schema, n) => select(schema, opened.reads[n]));
        return { reads: opened.reads, writes: toContract(opened.writes) };
      }),
    process: (call, keys, inputs) =>
      calling(() => {
        const batches = inputs.map(({ rows, ends }, n) => ({ rows: new Batch(schemas[n], rows), ends }));
        const { rows, group, rejected = [] } = opened.process(new Batch(keySchema, keys), batches, callOf(call));
        return { rows, group: Uint32Array.from(group), rejected };
      }),
  };
}

/** An updater as the contract has it: `open(step, keys, values)` gives
 *  `{ reads, state, writes, calling, timeouts, update }`. */
export function updaterRole(open) {
  let opened;
  let keySchema;
  let schema;
  return {
    open: (step, keys, values) =>
      opening(() => {
        keySchema = fromContract(keys);
        const found = fromContract(values);
        opened = open(step, keySchema, found);
        schema = select(found, opened.reads);
        const { reads, state, writes, calling: called = "keys-with-values", timeouts = "never" } = opened;
        return { reads, state: toContract(state), writes: toContract(writes), calling: called, timeouts };
      }),
    update: (call, input) =>
      calling(() => {
        const output = opened.update(
          {
            keys: new Batch(keySchema, input.keys),
            values: new Batch(schema, input.values),
            ends: input.ends,
            state: new Batch(opened.state, input.state),
            hasState: input.hasState,
            timedOut: input.timedOut,
          },
          callOf(call),
        );
        return {
          changes: Uint8Array.from(output.changes),
          state: output.state,
          timeoutsUs: output.timeoutsUs ? BigInt64Array.from(output.timeoutsUs) : undefined,
          rows: output.rows,
          group: Uint32Array.from(output.group),
          rejected: output.rejected ?? [],
        };
      }),
  };
}

function configOf(definition, step) {
  const config = readConfig(definition.config, step.config);
  const complaint = definition.check?.(config);
  if (complaint) throw new Refusal(complaint, "config");
  return config;
}

/** Every row of a batch; a null that has no place is a failure: reducers and aggregators reject nothing. */
function allRows(spec, batch) {
  const rows = new Rows(spec, batch);
  if (rows.misplaced.length > 0) {
    for (let index = 0; index < rows.length; index++) {
      const why = rows.why(index);
      if (why !== undefined) throw new Failure(`row ${index}: ${why}`);
    }
  }
  return rows;
}

function finished(writer, n_rows) {
  const rows = writer.finish(n_rows);
  if (rows.rows !== n_rows) throw new Failure(`it wrote ${rows.rows} rows for ${n_rows} groups`);
  return rows;
}

/** A batch and where its groups end, for operators on whole columns. */
function grouped(batch, ends) {
  return Object.assign(batch, { ends });
}

/** Makes a reducer of a function of two rows, or of whole columns. */
export function defineReducer(definition) {
  const spec = new RowSpec(definition.row);
  return reducerRole((step, values) => {
    const config = configOf(definition, step);
    spec.check(values);
    const other = values.find(({ name }) => !spec.names.includes(name));
    if (other) {
      throw new Refusal(`column \`${other.name}\` has no place in what is reduced: ${schemaText(spec.schema)}`, "schema");
    }
    const reduce = (batch, ends, call) => {
      const writer = new Writer(values);
      const context = { config, call };
      if (definition.process) {
        definition.process(grouped(batch, ends), writer, context);
        return finished(writer, ends.length);
      }
      const rows = allRows(spec, batch);
      for (let group = 0; group < ends.length; group++) {
        let index = startOf(ends, group);
        let row = rows.get(index);
        while (++index < ends[group]) row = definition.reduce(row, rows.get(index), context);
        writer.push(row);
      }
      return finished(writer, ends.length);
    };
    const invert = (whole, part, call) => {
      const writer = new Writer(values);
      const [wholes, parts] = [allRows(spec, whole), allRows(spec, part)];
      for (let index = 0; index < wholes.length; index++) {
        writer.push(definition.invert(wholes.get(index), parts.get(index), { config, call }));
      }
      return finished(writer, wholes.length);
    };
    return { invertible: Boolean(definition.invert), reduce, invert: definition.invert && invert };
  });
}

/** Makes an aggregator of functions of rows, or of whole columns. */
export function defineAggregator(definition) {
  const input = new RowSpec(definition.input);
  const kept = new RowSpec(definition.accumulator);
  const result = schemaOf(definition.output);
  return aggregatorRole((step, values) => {
    const config = configOf(definition, step);
    input.check(values);
    const fold = (byColumns, add, spec, batch, ends, call) => {
      const writer = new Writer(kept.schema);
      const context = { config, call };
      if (byColumns) {
        byColumns(grouped(batch, ends), writer, context);
        return finished(writer, ends.length);
      }
      const rows = allRows(spec, batch);
      for (let group = 0; group < ends.length; group++) {
        let accumulator = definition.start(context);
        for (let index = startOf(ends, group); index < ends[group]; index++) {
          // What changes the accumulator in its place returns nothing.
          accumulator = add(accumulator, rows.get(index), context) ?? accumulator;
        }
        writer.push(accumulator);
      }
      return finished(writer, ends.length);
    };
    const { accumulate, add, combine, merge, results } = definition;
    return {
      reads: input.names,
      accumulator: kept.schema,
      result,
      accumulate: (batch, ends, call) => fold(accumulate, add, input, batch, ends, call),
      merge: (batch, ends, call) => fold(combine, merge, kept, batch, ends, call),
      finish: (batch, call) => {
        const writer = new Writer(result);
        const context = { config, call };
        if (results) results(batch, writer, context);
        else {
          const rows = allRows(kept, batch);
          for (let index = 0; index < rows.length; index++) writer.push(definition.finish(rows.get(index), context));
        }
        return finished(writer, batch.length);
      },
    };
  });
}

/** What takes the rows that are emitted for keys. */
class GroupOutput {
  constructor(schema, n_inputs) {
    this.writer = new Writer(schema);
    this.group = [];
    this.key = 0;
    this.rejected = Array.from({ length: n_inputs }, () => new Map());
  }

  /** Emits a row for the key. The host adds the key's columns. */
  push(row) {
    this.group.push(this.key);
    this.writer.push(row);
  }

  reject(input, row, reason) {
    // A row has one reason: the first.
    if (!this.rejected[input].has(row)) this.rejected[input].set(row, String(reason));
  }

  rejections() {
    return this.rejected.map((of_input) =>
      [...of_input].map(([row, reason]) => ({ row, reason })).sort((one, other) => one.row - other.row),
    );
  }

  /** Emits what a function returned: nothing, a row, or rows. */
  emit(returned) {
    if (returned === null || returned === undefined) return;
    if (typeof returned[Symbol.iterator] === "function") for (const row of returned) this.push(row);
    else this.push(returned);
  }
}

/** The rows of a key: an array that can also reject one of them. */
class KeyRows extends Array {
  static get [Symbol.species]() {
    return Array;
  }

  /** Rejects the row at an index of this array. */
  reject(index, reason) {
    this.out.reject(this.input, this.indices[index], reason);
  }
}

/** The rows of a group; those that cannot be read are rejected. */
function keyRows(rows, ends, group, input, out) {
  const found = new KeyRows();
  const indices = [];
  for (let index = startOf(ends, group); index < ends[group]; index++) {
    const why = rows.misplaced.length > 0 ? rows.why(index) : undefined;
    if (why === undefined) {
      found.push(rows.get(index));
      indices.push(index);
    } else out.reject(input, index, why);
  }
  Object.defineProperties(found, { out: { value: out }, input: { value: input }, indices: { value: indices } });
  return found;
}

function rejectGroup(ends, group, input, reason, out) {
  for (let index = startOf(ends, group); index < ends[group]; index++) out.reject(input, index, reason);
}

function checkKeys(spec, keys) {
  if (spec) spec.check(keys, "among the keys, ");
}

function checkValues(spec, values, keys, where = "") {
  for (const name of spec.names) {
    if (!values.some((field) => field.name === name) && keys.some((field) => field.name === name)) {
      throw new Refusal(`${where}column \`${name}\` is a key of the step, and is expected not to be one`, "schema");
    }
  }
  spec.check(values, where);
}

/** Makes a grouper of a function that gets all rows of a key at once, of one input or of several. */
export function defineGrouper(definition) {
  const key = definition.key && new RowSpec(definition.key);
  const isOne = "input" in definition;
  const specs = isOne
    ? [["rows", new RowSpec(definition.input)]]
    : Object.entries(definition.inputs).map(([name, fields]) => [name, new RowSpec(fields)]);
  const writes = schemaOf(definition.output);
  return grouperRole((step, keys, inputs) => {
    if (inputs.length !== specs.length) {
      const expected = specs.length === 1 ? "one input" : `${specs.length} inputs`;
      throw new Refusal(`it groups ${expected}, and the step has ${inputs.length}`);
    }
    const config = configOf(definition, step);
    checkKeys(key, keys);
    specs.forEach(([name, spec], n) => checkValues(spec, inputs[n], keys, isOne ? "" : `in input \`${name}\`, `));
    const process = (keyBatch, batches, call) => {
      const context = { config, call };
      const out = new GroupOutput(writes, specs.length);
      const keyRowsAll = key && new Rows(key, keyBatch);
      const all = batches.map(({ rows }, n) => new Rows(specs[n][1], rows));
      for (let group = 0; group < keyBatch.length; group++) {
        out.key = group;
        let why = keyRowsAll?.why(group);
        if (why !== undefined) why = `key ${why}`;
        else {
          const found = batches.map(({ ends }, n) => keyRows(all[n], ends, group, n, out));
          if (found.some((rows) => rows.length > 0)) {
            const given = isOne ? found[0] : Object.fromEntries(found.map((rows, n) => [specs[n][0], rows]));
            try {
              let emitted = definition.group(given, { ...context, key: keyRowsAll?.get(group), out });
              if (typeof emitted?.[Symbol.iterator] === "function") emitted = [...emitted];
              out.emit(emitted);
            } catch (error) {
              if (!(error instanceof Reject)) throw error;
              why = error.message;
            }
          }
        }
        if (why !== undefined) batches.forEach(({ ends }, n) => rejectGroup(ends, group, n, why, out));
      }
      return { rows: out.writer.finish(out.group.length), group: out.group, rejected: out.rejections() };
    };
    return { reads: specs.map(([, spec]) => spec.names), writes, process };
  });
}

const KEEP = -(1n << 63n);
const NEVER = (1n << 63n) - 1n;

/** A key's state, and its timeout. Nothing happens to either unless it is asked for here. */
class State {
  constructor(state, timedOut, timeouts, call) {
    this.kept = state;
    this.had = state !== undefined;
    this.isChanged = false;
    /** Whether the key is called because its timeout was due. */
    this.timedOut = timedOut;
    this.timeouts = timeouts;
    this.timeoutUs = KEEP;
    this.call = call;
  }

  /** The state, an object that may be changed and then `set`; `fallback` when there is none. */
  get(fallback = undefined) {
    return this.kept ?? fallback;
  }

  /** Puts a state in the place of what there is. */
  set(state) {
    this.kept = state;
    this.isChanged = true;
  }

  /** Removes the state, and the timeout with it. */
  remove() {
    this.kept = undefined;
    this.isChanged = false;
    this.timeoutUs = NEVER;
  }

  /** Has the key called, as timed out, in the first batch whose time, or whose watermark, is not before `atUs`. */
  setTimeout(atUs) {
    if (this.timeouts === "never") {
      throw new Failure('it sets a timeout, and it is defined without `timeouts: "batch-time"` or `"event-time"`');
    }
    const at = BigInt(atUs);
    // The two ends of the range have meanings of their own.
    this.timeoutUs = at <= KEEP ? KEEP + 1n : at >= NEVER ? NEVER - 1n : at;
  }

  /** Has the key called, as timed out, this long after the batch's time. Only with timeouts in batch time. */
  setTimeoutAfter(lengthUs) {
    if (this.timeouts === "event-time") {
      throw new Failure("`setTimeoutAfter` counts from the batch's time, and its timeouts are in event time");
    }
    this.setTimeout(this.call.batchTimeUs + BigInt(lengthUs));
  }

  /** Takes the timeout away. */
  clearTimeout() {
    this.timeoutUs = NEVER;
  }

  change() {
    if (this.kept !== undefined) return this.isChanged ? 1 : 0;
    if (this.timeoutUs !== KEEP && this.timeoutUs !== NEVER) {
      throw new Failure("it sets a timeout for a key that it leaves without state");
    }
    return this.had ? 2 : 0;
  }
}

/** Makes an updater of a function that gets a key's state and its new rows. */
export function defineUpdater(definition) {
  const key = definition.key && new RowSpec(definition.key);
  const input = new RowSpec(definition.input);
  const kept = new RowSpec(definition.state);
  const writes = schemaOf(definition.output);
  const { timeouts = "never", everyKey = false } = definition;
  return updaterRole((step, keys, values) => {
    const config = configOf(definition, step);
    checkKeys(key, keys);
    checkValues(input, values, keys);
    const update = (given, call) => {
      const out = new GroupOutput(writes, 1);
      const keyRowsAll = key && new Rows(key, given.keys);
      const rows = new Rows(input, given.values);
      const states = allRows(kept, given.state);
      const writer = new Writer(kept.schema);
      const n_keys = given.keys.length;
      const changes = new Uint8Array(n_keys);
      const timeoutsUs = new BigInt64Array(n_keys).fill(KEEP);
      let next = 0;
      for (let group = 0; group < n_keys; group++) {
        out.key = group;
        // Objects that may be changed: a row's values cannot.
        const old = given.hasState[group] ? states.batch.row(next++) : undefined;
        const found = keyRows(rows, given.ends, group, 0, out);
        let why = keyRowsAll?.why(group);
        if (why !== undefined) why = `key ${why}`;
        const n_rows = given.ends[group] - startOf(given.ends, group);
        // All rows that it is called for have been rejected.
        const nothingLeft = n_rows > 0 && found.length === 0 && !(old !== undefined && everyKey);
        if (why === undefined && !nothingLeft) {
          const state = new State(old, given.timedOut[group] !== 0, timeouts, call);
          try {
            const context = { config, call, key: keyRowsAll?.get(group), out };
            let emitted = definition.update(found, state, context);
            if (typeof emitted?.[Symbol.iterator] === "function") emitted = [...emitted];
            out.emit(emitted);
            changes[group] = state.change();
            if (changes[group] === 1) writer.push(state.kept);
            // With its state a key has lost its timeout.
            timeoutsUs[group] = changes[group] === 2 ? KEEP : state.timeoutUs;
          } catch (error) {
            if (!(error instanceof Reject)) throw error;
            why = error.message;
          }
        }
        if (why !== undefined) rejectGroup(given.ends, group, 0, why, out);
      }
      const hasTimeouts = timeouts !== "never" && timeoutsUs.some((at) => at !== KEEP);
      return {
        changes,
        state: writer.finish(),
        timeoutsUs: hasTimeouts ? timeoutsUs : undefined,
        rows: out.writer.finish(out.group.length),
        group: out.group,
        rejected: out.rejections()[0],
      };
    };
    const called = everyKey ? "every-key" : "keys-with-values";
    return { reads: input.names, state: kept.schema, writes, calling: called, timeouts, update };
  });
}
