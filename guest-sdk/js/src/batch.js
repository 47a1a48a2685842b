// Batches as columns, and as rows that decode a value when it is asked for.

import { MapColumn, ListColumn, Parts, StructColumn, emptyColumn } from "./column.js";
import { Refusal } from "./errors.js";
import { schemaOf } from "./schema.js";

/** Some rows of a partition, as columns: `batch.columns.NAME`. */
export class Batch {
  constructor(schema, raw) {
    this.schema = schema;
    /** How many rows. */
    this.length = raw.rows;
    // A batch without rows may have neither nodes nor buffers.
    const parts = raw.rows === 0 ? undefined : new Parts(raw.nodes, raw.buffers);
    /** The columns, in the schema's order. */
    this.list = schema.map((field) => (parts ? parts.column(field) : emptyColumn(field)));
    this.columns = Object.fromEntries(this.list.map((column) => [column.field.name, column]));
  }

  /** Row `index`, as an object of its values. */
  row(index) {
    const row = {};
    for (const column of this.list) row[column.field.name] = column.get(index);
    return row;
  }

  /** All rows. */
  toArray() {
    return Array.from({ length: this.length }, (_, index) => this.row(index));
  }
}

// Under symbols, so that no column has their names.
const COLUMNS = Symbol("columns");
const INDEX = Symbol("index");

/** What an operator reads: columns of these names and types. */
export class RowSpec {
  constructor(fields) {
    this.schema = schemaOf(fields);
    this.names = this.schema.map(({ name }) => name);
    // A row's values are decoded when they are asked for: a getter a column.
    this.Row = class {
      constructor(columns, index) {
        this[COLUMNS] = columns;
        this[INDEX] = index;
      }
    };
    for (const name of this.names) {
      Object.defineProperty(this.Row.prototype, name, {
        enumerable: true,
        get() {
          return this[COLUMNS][name].get(this[INDEX]);
        },
      });
    }
  }

  /** Refuses a schema that has not every column, of its type. */
  check(schema, where = "") {
    for (const { name, type } of this.schema) {
      const found = schema.find((field) => field.name === name);
      if (!found) throw new Refusal(`${where}column \`${name}\` is missing, ${type} is expected`, "schema");
      if (!type.accepts(found.type)) {
        throw new Refusal(`${where}column \`${name}\` is ${found.type}, ${type} is expected`, "schema");
      }
    }
  }
}

function either(one, other) {
  if (!one || !other) return one ?? other;
  return one.map((flag, n) => flag | other[n]);
}

/** A byte a value: 1 when something in it is null and its type has no place for nulls. `undefined` when none is. */
function misplacedNulls(type, column) {
  let found;
  if (column.nullCount > 0 && !type.isNullable) {
    found = Uint8Array.from({ length: column.length }, (_, n) => (column.isValid(n) ? 0 : 1));
  }
  let inner;
  if (column instanceof StructColumn) {
    for (const child of type.children) inner = either(inner, misplacedNulls(child.type, column.child(child.name)));
  } else if (column instanceof MapColumn) {
    const entries = type.children[0].type.children;
    const of_items = either(misplacedNulls(entries[0].type, column.keys), misplacedNulls(entries[1].type, column.entries));
    inner = ofLists(column, of_items);
  } else if (column instanceof ListColumn) {
    inner = ofLists(column, misplacedNulls(type.children[0].type, column.items));
  }
  if (inner && column.nullCount > 0) inner = inner.map((flag, n) => (column.isValid(n) ? flag : 0));
  const all = either(found, inner);
  return all && all.includes(1) ? all : undefined;
}

function ofLists(column, flags) {
  if (!flags) return undefined;
  const { offsets } = column;
  return Uint8Array.from({ length: column.length }, (_, n) =>
    flags.subarray(offsets[n], offsets[n + 1]).includes(1) ? 1 : 0,
  );
}

/** The rows of a batch that an operator reads. */
export class Rows {
  constructor(spec, batch) {
    this.spec = spec;
    this.batch = batch;
    this.length = batch.length;
    this.misplaced = [];
    for (const { name, type } of spec.schema) {
      const nulls = misplacedNulls(type, batch.columns[name]);
      if (nulls) this.misplaced.push([name, nulls]);
    }
  }

  /** Why a row cannot be read; `undefined` when it can. */
  why(index) {
    for (const [name, nulls] of this.misplaced) if (nulls[index]) return `column \`${name}\` is null`;
    return undefined;
  }

  /** A row; its values are decoded when they are asked for. */
  get(index) {
    return new this.spec.Row(this.batch.columns, index);
  }
}
