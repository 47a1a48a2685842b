// Transforms: functions of a row, or of a whole batch.

import { Batch, RowSpec, Rows } from "./batch.js";
import { Writer } from "./builder.js";
import { readConfig } from "./config.js";
import { Failure, Refusal, Reject } from "./errors.js";
import { calling, callOf, opening, select } from "./role.js";
import { fromContract, schemaOf, toContract } from "./schema.js";

/** A transform as the contract has it: `open(step, schema)` gives `{ reads, writes, carries, process }`. */
export function transformRole(open) {
  let opened;
  let schema;
  return {
    open: (step, input) =>
      opening(() => {
        const found = fromContract(input);
        opened = open(step, found);
        schema = select(found, opened.reads);
        const { reads, writes, carries = "none" } = opened;
        const carried =
          carries === "none"
            ? { tag: "nothing" }
            : carries === "all"
              ? { tag: "everything" }
              : { tag: "only", val: [...carries] };
        return { reads, writes: toContract(writes), carries: carried };
      }),
    process: (call, input) =>
      calling(() => {
        const { rows, origin, rejected = [] } = opened.process(new Batch(schema, input), callOf(call));
        return { rows, origin: origin === undefined ? undefined : Uint32Array.from(origin), rejected };
      }),
  };
}

const SHAPES = ["map", "filter", "flatMap", "each", "process", "select"];
const FILTERS = ["filter", "select"];
const BY_COLUMNS = ["process", "select"];

/** What takes the rows that a transform emits. */
class Output {
  constructor(schema) {
    this.writer = new Writer(schema);
    /** The builders of the columns. */
    this.columns = this.writer.columns;
    /** For an operator on whole batches that carries: for each output row, the input row that it comes from. */
    this.origin = [];
    this.rejected = [];
    this.current = -1;
    this.keepsOrigin = false;
  }

  /** Emits a row. */
  push(row) {
    if (this.keepsOrigin) this.origin.push(this.current);
    this.writer.push(row);
  }

  /** Emits a row that comes from row `origin` of the batch: for `process` with `carry`. */
  pushFrom(origin, row) {
    this.origin.push(origin);
    this.writer.push(row);
  }

  /** Rejects a row of the batch, by its index. */
  reject(row, reason) {
    this.rejected.push({ row, reason: String(reason) });
  }
}

function isIdentity(origin, n_rows) {
  if (origin.length !== n_rows) return false;
  for (let n = 0; n < n_rows; n++) if (origin[n] !== n) return false;
  return true;
}

/** Makes a transform of a function. See the package's types for what it takes. */
export function defineTransform(definition) {
  const shapes = SHAPES.filter((shape) => shape in definition);
  if (shapes.length !== 1) throw new TypeError(`a transform has one of: ${SHAPES.join(", ")}`);
  const [shape] = shapes;
  const isFilter = FILTERS.includes(shape);
  const run = definition[shape];
  const spec = new RowSpec(definition.input);
  const writes = isFilter ? [] : schemaOf(definition.output);
  const carries = definition.carry ?? (isFilter ? "all" : "none");
  return transformRole((step, input) => {
    const config = readConfig(definition.config, step.config);
    const complaint = definition.check?.(config);
    if (complaint) throw new Refusal(complaint, "config");
    spec.check(input);
    if (Array.isArray(carries)) {
      const missing = carries.find((name) => !input.some((field) => field.name === name));
      if (missing) throw new Refusal(`column \`${missing}\`, which is to be carried, is missing`, "schema");
    }
    const process = (batch, call) => {
      const context = { config, call };
      if (batch.length === 0) return { rows: { rows: 0, nodes: [], buffers: [] } };
      if (isFilter) return filter(shape, run, new Rows(spec, batch), context);
      const out = new Output(writes);
      out.keepsOrigin = carries !== "none" && shape !== "process";
      if (BY_COLUMNS.includes(shape)) run(batch, out, context);
      else eachRow(shape, run, new Rows(spec, batch), out, context);
      const rows = out.writer.finish();
      return { rows, origin: carries === "none" ? undefined : originOf(out, rows.rows, batch.length), rejected: out.rejected };
    };
    return { reads: spec.names, writes, carries, process };
  });
}

function originOf({ origin, keepsOrigin }, n_rows, n_input_rows) {
  // Whoever writes whole columns and says nothing of rows writes one for each.
  if (!keepsOrigin && origin.length === 0 && n_rows === n_input_rows) return undefined;
  if (origin.length !== n_rows) {
    throw new Failure(
      `a function of a whole batch that carries columns says which row each comes from: \`pushFrom\`, or ` +
        `\`out.origin\`, which has ${origin.length} numbers for ${n_rows} rows`,
    );
  }
  return isIdentity(origin, n_input_rows) ? undefined : origin;
}

function eachRow(shape, run, rows, out, context) {
  for (let index = 0; index < rows.length; index++) {
    const why = rows.misplaced.length > 0 ? rows.why(index) : undefined;
    if (why !== undefined) {
      out.reject(index, why);
      continue;
    }
    out.current = index;
    let emitted;
    try {
      if (shape === "each") run(rows.get(index), out, context);
      else {
        emitted = run(rows.get(index), context);
        // All of them before the first is emitted: a row that is rejected leaves nothing.
        if (shape === "flatMap" && !Array.isArray(emitted)) emitted = [...emitted];
      }
    } catch (error) {
      if (!(error instanceof Reject)) throw error;
      out.reject(index, error.message);
      continue;
    }
    if (shape === "flatMap") for (const row of emitted) out.push(row);
    else if (shape === "map" && emitted !== null && emitted !== undefined) out.push(emitted);
  }
}

function filter(shape, run, rows, context) {
  const origin = [];
  const rejected = [];
  if (shape === "select") {
    const flags = run(rows.batch, context);
    if (flags.length !== rows.length) throw new Failure(`it returned ${flags.length} flags for ${rows.length} rows`);
    for (let index = 0; index < rows.length; index++) if (flags[index]) origin.push(index);
  } else {
    for (let index = 0; index < rows.length; index++) {
      const why = rows.why(index);
      if (why !== undefined) {
        rejected.push({ row: index, reason: why });
        continue;
      }
      try {
        if (run(rows.get(index), context)) origin.push(index);
      } catch (error) {
        if (!(error instanceof Reject)) throw error;
        rejected.push({ row: index, reason: error.message });
      }
    }
  }
  const kept = { rows: origin.length, nodes: [], buffers: [] };
  return { rows: kept, origin: origin.length === rows.length ? undefined : origin, rejected };
}
