// Runs operators in tests as the host does: rows in, rows out, without a host and without WebAssembly.

import { Batch } from "./batch.js";
import { Writer } from "./builder.js";
import { fromContract, schemaOf, toContract } from "./schema.js";

const STEP = { job: "test", step: "step", partitions: 1 };
const CALL = { batchId: 0n, batchTimeUs: 0n, partition: 0, attempt: 0, firstRow: 0n, watermarkUs: undefined };

const stepOf = (config = {}) => ({ ...STEP, config: JSON.stringify(config) });

/** Runs a function whose errors are the contract's. */
function run(call) {
  try {
    return call();
  } catch (error) {
    if (error instanceof Error) throw error;
    throw Object.assign(new Error(error.val), { kind: error.tag });
  }
}

function encode(schema, rows) {
  const writer = new Writer(schema);
  for (const row of rows) writer.push(row);
  return writer.finish(rows.length);
}

/** The rows of a batch, after it was checked to be as the contract says. */
function decode(schema, raw) {
  const n_nodes = toContract(schema).length;
  if (raw.rows > 0 && raw.nodes.length !== n_nodes) throw new Error(`${raw.nodes.length} nodes and not ${n_nodes}`);
  const batch = new Batch(schema, raw);
  for (const column of batch.list) {
    if (column.length !== raw.rows) throw new Error(`column \`${column.field.name}\` has ${column.length} values`);
    const nulls = column.toArray().filter((value) => value === null).length;
    if (nulls !== column.nullCount) throw new Error(`column \`${column.field.name}\` has ${nulls} nulls`);
  }
  return batch.toArray();
}

/** The columns that an operator reads, in its order. */
function sent(schema, rows, reads) {
  const chosen = reads === undefined ? schema : reads.map((name) => schema.find((field) => field.name === name));
  return encode(chosen, rows);
}

function flatten(groups) {
  const ends = [];
  const rows = [];
  for (const group of groups) {
    rows.push(...group);
    ends.push(rows.length);
  }
  return [rows, Uint32Array.from(ends)];
}

/** Opens a transform, and processes rows in one call. `input` has the types of their columns. */
export function transform(operator, input, rows, config) {
  return run(() => {
    const schema = schemaOf(input);
    const plan = operator.open(stepOf(config), toContract(schema));
    const output = operator.process(CALL, sent(schema, rows, plan.reads));
    const origin = output.origin && Array.from(output.origin);
    return { rows: decode(fromContract(plan.writes), output.rows), origin, rejected: output.rejected };
  });
}

/** Opens a reducer, and reduces groups of rows. */
export function reduce(operator, row, groups, config) {
  return run(() => {
    const schema = schemaOf(row);
    operator.open(stepOf(config), toContract(schema));
    const [rows, ends] = flatten(groups);
    return decode(schema, operator.reduce(CALL, encode(schema, rows), ends));
  });
}

/** Opens a reducer, and takes `part` out of `whole`, row by row. */
export function invert(operator, row, whole, part, config) {
  return run(() => {
    const schema = schemaOf(row);
    operator.open(stepOf(config), toContract(schema));
    return decode(schema, operator.invert(CALL, encode(schema, whole), encode(schema, part)));
  });
}

/** Opens an aggregator, and aggregates groups of rows: each row by itself, and then all of its group together. */
export function aggregate(operator, input, groups, config) {
  return run(() => {
    const schema = schemaOf(input);
    const plan = operator.open(stepOf(config), toContract(schema));
    const [rows, ends] = flatten(groups);
    const single = Uint32Array.from(rows, (_, index) => index + 1);
    const accumulators = operator.accumulate(CALL, sent(schema, rows, plan.reads), single);
    decode(fromContract(plan.accumulator), accumulators);
    const merged = operator.merge(CALL, accumulators, ends);
    return decode(fromContract(plan.result), operator.finish(CALL, merged));
  });
}

/** Opens a grouper of one input, and gives it groups: each `[key, rows]`. */
export function group(operator, key, input, groups, config) {
  return cogroup(operator, key, [input], groups.map(([of_key, rows]) => [of_key, [rows]]), config);
}

/** Opens a grouper, and gives it groups: each `[key, [rows of each input]]`. */
export function cogroup(operator, key, inputs, groups, config) {
  return run(() => {
    const keys = schemaOf(key);
    const schemas = inputs.map(schemaOf);
    const plan = operator.open(stepOf(config), toContract(keys), schemas.map(toContract));
    const given = schemas.map((schema, input) => {
      const [rows, ends] = flatten(groups.map(([, parts]) => parts[input]));
      return { rows: sent(schema, rows, plan.reads[input]), ends };
    });
    const output = operator.process(CALL, encode(keys, groups.map(([of_key]) => of_key)), given);
    const rows = decode(fromContract(plan.writes), output.rows);
    return { rows, group: Array.from(output.group), rejected: output.rejected };
  });
}

/** An updater and the state of its keys, batch by batch, as a host keeps it. */
export class Updates {
  constructor(operator, key, input, config) {
    this.operator = operator;
    this.keys = schemaOf(key);
    this.values = schemaOf(input);
    this.plan = run(() => operator.open(stepOf(config), toContract(this.keys), toContract(this.values)));
    this.stateSchema = fromContract(this.plan.state);
    /** By key, as text: its key, its state, its timeout. */
    this.known = new Map();
    this.batchId = 0n;
  }

  static name(key) {
    return JSON.stringify(key, (_, value) => (typeof value === "bigint" ? `${value}n` : value));
  }

  /** The state of a key. */
  state(key) {
    return this.known.get(Updates.name(key))?.state;
  }

  /** When a key times out. */
  timeoutUs(key) {
    return this.known.get(Updates.name(key))?.timeoutUs;
  }

  /** Runs a batch: rows by key, each `[key, rows]`, then keys that timed out. `timeUs` is its time and its watermark. */
  run(timeUs, groups) {
    const call = { ...CALL, batchId: this.batchId++, batchTimeUs: timeUs, watermarkUs: timeUs };
    const ran = this.call(call, groups, false);
    if (this.plan.timeouts !== "never") {
      const due = [...this.known.values()].filter(({ timeoutUs }) => timeoutUs !== undefined && timeoutUs <= timeUs);
      if (due.length > 0) ran.rows.push(...this.call(call, due.map(({ key }) => [key, []]), true).rows);
    }
    return ran;
  }

  call(call, groups, timedOut) {
    return run(() => {
      const entries = groups.map(([key]) => this.known.get(Updates.name(key)) ?? { key });
      const [rows, ends] = flatten(groups.map(([, of_key]) => of_key));
      const states = entries.filter(({ state }) => state !== undefined).map(({ state }) => state);
      const output = this.operator.update(call, {
        keys: encode(this.keys, entries.map(({ key }) => key)),
        values: sent(this.values, rows, this.plan.reads),
        ends,
        state: encode(this.stateSchema, states),
        hasState: Uint8Array.from(entries, ({ state }) => (state === undefined ? 0 : 1)),
        timedOut: new Uint8Array(entries.length).fill(timedOut ? 1 : 0),
      });
      const put = decode(this.stateSchema, output.state);
      entries.forEach((entry, index) => {
        if (timedOut) entry.timeoutUs = undefined;
        if (output.changes[index] === 1) entry.state = put.shift();
        if (output.changes[index] === 2) entry.state = entry.timeoutUs = undefined;
        const at = output.timeoutsUs?.[index] ?? -(1n << 63n);
        if (at !== -(1n << 63n)) entry.timeoutUs = at === (1n << 63n) - 1n ? undefined : at;
        if (entry.state === undefined) this.known.delete(Updates.name(entry.key));
        else this.known.set(Updates.name(entry.key), entry);
      });
      const written = decode(fromContract(this.plan.writes), output.rows);
      return { rows: written, group: Array.from(output.group), rejected: output.rejected };
    });
  }
}
