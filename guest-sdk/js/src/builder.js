// Builders: values become a column's node and buffers.

import { Failure } from "./errors.js";
import { NUMBERS } from "./schema.js";
import { Pieces, encode, isAscii } from "./text.js";

const bytesOf = (values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** A typed array that grows. */
class Growing {
  constructor(kind) {
    this.kind = kind;
    this.values = new kind(64);
    this.length = 0;
  }

  reserve(more) {
    const needed = this.length + more;
    if (needed > this.values.length) {
      const larger = new this.kind(Math.max(needed, 2 * this.values.length));
      larger.set(this.values.subarray(0, this.length));
      this.values = larger;
    }
  }

  push(value) {
    if (this.length === this.values.length) this.reserve(1);
    this.values[this.length++] = value;
  }

  append(values) {
    this.reserve(values.length);
    this.values.set(values, this.length);
    this.length += values.length;
  }

  finish() {
    return bytesOf(this.values.subarray(0, this.length));
  }
}

/** Bits, least significant first. */
class Bits {
  constructor() {
    this.bytes = new Growing(Uint8Array);
    this.length = 0;
  }

  push(bit) {
    const at = this.length++ & 7;
    if (at === 0) this.bytes.push(bit ? 1 : 0);
    else if (bit) this.bytes.values[this.bytes.length - 1] |= 1 << at;
  }

  fill(n_bits) {
    for (let n = 0; n < n_bits; n++) this.push(true);
  }

  /** Appends bits that stand from the start of `bytes`. */
  append(bytes, n_bits) {
    if ((this.length & 7) === 0) {
      this.bytes.append(bytes.subarray(0, (n_bits + 7) >> 3));
      this.length += n_bits;
      // Nothing but zeros may stand behind the last bit.
      if (n_bits & 7) this.bytes.values[this.bytes.length - 1] &= (1 << (n_bits & 7)) - 1;
    } else {
      for (let n = 0; n < n_bits; n++) this.push((bytes[n >> 3] >> (n & 7)) & 1);
    }
  }
}

/** One column that is being built. `null` and `undefined` are nulls, where the column may have nulls. */
class Builder {
  constructor(field) {
    this.field = field;
    this.length = 0;
    this.nullCount = 0;
    /** Kept from the first null on. */
    this.valid = undefined;
  }

  /** Appends a value. */
  push(value) {
    if (value === null || value === undefined) this.pushNull();
    else {
      this.pushValue(value);
      if (this.valid) this.valid.push(true);
      this.length++;
    }
  }

  /** Appends values: of an array, a typed array, or a column of the same type. */
  extend(values) {
    for (const value of values) this.push(value);
  }

  /** Appends a null. */
  pushNull() {
    if (!this.field.type.isNullable) {
      throw new Failure(
        `column \`${this.field.name}\` may not be null, and a null was written: declare it \`t.nullable(…)\``,
      );
    }
    this.noteNulls();
    this.valid.push(false);
    this.nullCount++;
    this.pushBlank();
    this.length++;
  }

  noteNulls() {
    if (!this.valid) {
      this.valid = new Bits();
      this.valid.fill(this.length);
    }
  }

  /** Appends all of a column of the same type, as it stands. */
  extendColumn(column) {
    if (column.nullCount > 0 && !this.field.type.isNullable) {
      throw new Failure(`column \`${this.field.name}\` may not be null, and a column with nulls is appended`);
    }
    if (column.nullCount > 0) this.noteNulls();
    if (this.valid) {
      if (column.nullCount > 0) this.valid.append(column.validity, column.length);
      else this.valid.fill(column.length);
    }
    this.nullCount += column.nullCount;
    this.length += column.length;
    this.appendColumn(column);
  }

  /** Appends the values that stand at some places of a column of the same type. */
  extendTaken(column, indices) {
    if (column.nullCount > 0) {
      for (const index of indices) {
        if (column.isValid(index)) this.takeOne(column, index);
        else this.pushNull();
      }
      return;
    }
    for (const index of indices) this.takeOne(column, index);
  }

  /** Appends the value at a place, which is not null. */
  takeOne(column, index) {
    if (this.valid) this.valid.push(true);
    this.length++;
    this.takeValue(column, index);
  }

  takeValue(column, index) {
    this.pushValue(column.value(index));
  }

  misfit(value, expected) {
    const shown = typeof value === "bigint" ? `${value}n` : typeof value === "string" ? JSON.stringify(value) : String(value);
    return new Failure(`column \`${this.field.name}\` of type ${this.field.type}: ${shown} is not ${expected}`);
  }

  /** Puts the column's nodes and buffers behind others. */
  finish(nodes, buffers) {
    nodes.push({ length: this.length, nullCount: this.nullCount });
    if (this.field.type.name !== "null") {
      buffers.push(this.nullCount > 0 ? this.valid.bytes.finish() : new Uint8Array(0));
    }
    this.finishValues(nodes, buffers);
  }
}

class NullBuilder extends Builder {
  push() {
    this.length++;
    this.nullCount++;
  }

  pushBlank() {
    this.push();
  }

  extendColumn(column) {
    this.length += column.length;
    this.nullCount += column.length;
  }

  extendTaken(_, indices) {
    this.length += indices.length;
    this.nullCount += indices.length;
  }

  finishValues() {}
}

class BooleanBuilder extends Builder {
  constructor(field) {
    super(field);
    this.bits = new Bits();
  }

  pushValue(value) {
    this.bits.push(value);
  }

  pushBlank() {
    this.bits.push(false);
  }

  appendColumn(column) {
    this.bits.append(column.bits, column.length);
  }

  finishValues(_, buffers) {
    buffers.push(this.bits.bytes.finish());
  }
}

class NumberBuilder extends Builder {
  constructor(field) {
    super(field);
    const kind = NUMBERS[field.type.name];
    this.values = new Growing(kind);
    this.isBig = kind === BigInt64Array || kind === BigUint64Array;
    this.isWhole = !this.isBig && kind !== Float32Array && kind !== Float64Array;
    const bits = 8n * BigInt(kind.BYTES_PER_ELEMENT);
    const isSigned = field.type.name !== "uint8" && !field.type.name.startsWith("uint");
    this.most = isSigned ? (1n << (bits - 1n)) - 1n : (1n << bits) - 1n;
    this.least = isSigned ? -(1n << (bits - 1n)) : 0n;
    this.mostNumber = Number(this.most);
    this.leastNumber = Number(this.least);
  }

  pushValue(value) {
    if (this.isBig) {
      // Whole numbers that are exact are taken as well.
      const big = typeof value === "number" && Number.isSafeInteger(value) ? BigInt(value) : value;
      if (typeof big !== "bigint") throw this.misfit(value, "a BigInt, nor a whole number that is exact");
      if (big < this.least || big > this.most) throw this.misfit(value, "within its range");
      this.values.push(big);
    } else {
      if (typeof value !== "number") throw this.misfit(value, "a number");
      if (this.isWhole && !(Number.isInteger(value) && value >= this.leastNumber && value <= this.mostNumber)) {
        throw this.misfit(value, "a whole number within its range");
      }
      this.values.push(value);
    }
  }

  pushBlank() {
    this.values.push(this.isBig ? 0n : 0);
  }

  extend(values) {
    // A typed array of the same kind is copied as it stands.
    if (values instanceof this.values.kind) {
      this.values.append(values);
      if (this.valid) this.valid.fill(values.length);
      this.length += values.length;
    } else super.extend(values);
  }

  appendColumn(column) {
    this.values.append(column.values);
  }

  takeValue(column, index) {
    this.values.push(column.values[index]);
  }

  finishValues(_, buffers) {
    buffers.push(this.values.finish());
  }
}

class DecimalBuilder extends Builder {
  constructor(field) {
    super(field);
    this.halves = new Growing(BigUint64Array);
    this.most = 10n ** BigInt(field.type.precision);
  }

  pushValue(value) {
    if (typeof value !== "bigint") throw this.misfit(value, "a BigInt, the number times 10 to the power of its scale");
    if (value >= this.most || value <= -this.most) throw this.misfit(value, "within its precision");
    this.halves.push(BigInt.asUintN(64, value));
    this.halves.push(BigInt.asUintN(64, value >> 64n));
  }

  pushBlank() {
    this.halves.append(new BigUint64Array(2));
  }

  appendColumn(column) {
    this.halves.append(column.halves);
  }

  finishValues(_, buffers) {
    buffers.push(this.halves.finish());
  }
}

class FixedSizeBinaryBuilder extends Builder {
  constructor(field) {
    super(field);
    this.data = new Growing(Uint8Array);
  }

  pushValue(value) {
    if (!(value instanceof Uint8Array) || value.length !== this.field.type.width) {
      throw this.misfit(value, `${this.field.type.width} bytes`);
    }
    this.data.append(value);
  }

  pushBlank() {
    this.data.append(new Uint8Array(this.field.type.width));
  }

  appendColumn(column) {
    this.data.append(column.bytes);
  }

  finishValues(_, buffers) {
    buffers.push(this.data.finish());
  }
}

class BinaryBuilder extends Builder {
  constructor(field) {
    super(field);
    this.offsets = new Growing(Int32Array);
    this.offsets.push(0);
    this.data = new Growing(Uint8Array);
  }

  pushValue(value) {
    if (!(value instanceof Uint8Array)) throw this.misfit(value, "a Uint8Array");
    this.data.append(value);
    this.offsets.push(this.data.length);
  }

  pushBlank() {
    this.offsets.push(this.data.length);
  }

  appendColumn(column) {
    this.appendEnds(column.offsets.subarray(1, column.length + 1));
    this.data.append(column.data.subarray(0, column.offsets[column.length]));
  }

  appendEnds(ends) {
    const base = this.data.length;
    const from = this.offsets.length;
    this.offsets.append(ends);
    if (base > 0) {
      const { values } = this.offsets;
      for (let n = from; n < this.offsets.length; n++) values[n] += base;
    }
  }

  /** Appends what texts were split into. */
  extendPieces(pieces) {
    this.appendEnds(pieces.ends);
    this.data.append(pieces.data);
    if (this.valid) this.valid.fill(pieces.length);
    this.length += pieces.length;
  }

  finishValues(_, buffers) {
    buffers.push(this.offsets.finish(), this.data.finish());
  }
}

// Characters that wait to be encoded together.
const WAITING_MAX = 1 << 16;

class Utf8Builder extends BinaryBuilder {
  constructor(field) {
    super(field);
    this.waiting = [];
    this.n_waiting = 0;
  }

  pushValue(value) {
    if (typeof value !== "string") throw this.misfit(value, "a string");
    this.waiting.push(value);
    this.n_waiting += value.length;
    if (this.n_waiting >= WAITING_MAX) this.settle();
  }

  pushBlank() {
    this.waiting.push("");
  }

  settle() {
    const { waiting } = this;
    if (waiting.length === 0) return;
    const joined = waiting.join("");
    if (isAscii(joined)) {
      let end = this.data.length;
      for (const value of waiting) this.offsets.push((end += value.length));
      this.data.append(encode(joined));
    } else {
      for (const value of waiting) {
        this.data.append(encode(value));
        this.offsets.push(this.data.length);
      }
    }
    this.waiting = [];
    this.n_waiting = 0;
  }

  extend(values) {
    if (values instanceof Pieces) this.extendPieces(values);
    else super.extend(values);
  }

  extendPieces(pieces) {
    this.settle();
    super.extendPieces(pieces);
  }

  appendColumn(column) {
    this.settle();
    super.appendColumn(column);
  }

  extendTaken(column, indices) {
    this.settle();
    super.extendTaken(column, indices);
  }

  takeValue(column, index) {
    // Its bytes are UTF-8 already. A null among them waits as an empty text.
    this.settle();
    this.data.append(column.data.subarray(column.offsets[index], column.offsets[index + 1]));
    this.offsets.push(this.data.length);
  }

  finishValues(nodes, buffers) {
    this.settle();
    super.finishValues(nodes, buffers);
  }
}

class ListBuilder extends Builder {
  constructor(field) {
    super(field);
    this.offsets = new Growing(Int32Array);
    this.offsets.push(0);
    /** The items of all lists. */
    this.items = builder(field.type.children[0]);
  }

  pushValue(value) {
    this.items.extend(value);
    this.offsets.push(this.items.length);
  }

  pushBlank() {
    this.offsets.push(this.items.length);
  }

  takeValue(column, index) {
    const places = [];
    for (let n = column.offsets[index]; n < column.offsets[index + 1]; n++) places.push(n);
    this.items.extendTaken(column.items, places);
    this.offsets.push(this.items.length);
  }

  appendColumn(column) {
    const base = this.items.length;
    for (let n = 1; n <= column.length; n++) this.offsets.push(base + column.offsets[n]);
    this.items.extendColumn(column.items);
  }

  finishValues(nodes, buffers) {
    buffers.push(this.offsets.finish());
    this.items.finish(nodes, buffers);
  }
}

class MapBuilder extends ListBuilder {
  /** A `Map`, or pairs of key and value. */
  pushValue(value) {
    for (const [key, entry] of value) this.items.pushPair(key, entry);
    this.offsets.push(this.items.length);
  }
}

class StructBuilder extends Builder {
  constructor(field) {
    super(field);
    /** A builder a field. */
    this.columns = field.type.children.map(builder);
  }

  pushValue(value) {
    for (const column of this.columns) column.push(value[column.field.name]);
  }

  pushPair(key, value) {
    this.columns[0].push(key);
    this.columns[1].push(value);
    if (this.valid) this.valid.push(true);
    this.length++;
  }

  pushBlank() {
    for (const column of this.columns) {
      if (column.field.type.isNullable) column.pushNull();
      else {
        // What stands in the place of a null is no null itself.
        if (column.valid) column.valid.push(true);
        column.pushBlank();
        column.length++;
      }
    }
  }

  takeValue(column, index) {
    this.columns.forEach((own, n) => own.extendTaken(column.columns[n], [index]));
  }

  appendColumn(column) {
    this.columns.forEach((own, n) => own.extendColumn(column.columns[n]));
  }

  finishValues(nodes, buffers) {
    for (const column of this.columns) column.finish(nodes, buffers);
  }
}

const KINDS = {
  null: NullBuilder,
  boolean: BooleanBuilder,
  utf8: Utf8Builder,
  binary: BinaryBuilder,
  "fixed-size-binary": FixedSizeBinaryBuilder,
  decimal128: DecimalBuilder,
  list: ListBuilder,
  map: MapBuilder,
  struct: StructBuilder,
};

/** An empty column of a field's type. */
export function builder(field) {
  return new (KINDS[field.type.name] ?? NumberBuilder)(field);
}

/** Columns of a schema that are built: `writer.columns.NAME` is a builder. */
export class Writer {
  constructor(schema) {
    this.schema = schema;
    this.builders = schema.map(builder);
    this.columns = Object.fromEntries(this.builders.map((one) => [one.field.name, one]));
    this.n_rows = 0;
  }

  /** Appends a row, an object. */
  push(row) {
    for (const one of this.builders) one.push(row[one.field.name]);
    this.n_rows++;
  }

  get length() {
    return this.builders.length > 0 ? this.builders[0].length : this.n_rows;
  }

  /** The rows, as the contract has them. Without a column there are `n_rows`. */
  finish(n_rows = this.n_rows) {
    const lengths = new Set(this.builders.map((one) => one.length));
    if (lengths.size > 1) {
      const each = this.builders.map((one) => `\`${one.field.name}\` ${one.length}`).join(", ");
      throw new Failure(`the columns that were written are not of one length: ${each}`);
    }
    const nodes = [];
    const buffers = [];
    for (const one of this.builders) one.finish(nodes, buffers);
    return { rows: this.builders.length > 0 ? this.builders[0].length : n_rows, nodes, buffers };
  }
}
