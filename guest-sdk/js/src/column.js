// Columns of a batch, read in place: typed arrays over the buffers that crossed the boundary.

import { NUMBERS } from "./schema.js";
import { decode, isAscii, latin1, mapAscii, splitWords } from "./text.js";

/** A typed array over a buffer, without a copy where it lies at a multiple of its width. */
function view(kind, bytes, length) {
  if (length === 0) return new kind(0);
  const width = kind.BYTES_PER_ELEMENT;
  const aligned = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  return new kind(aligned.buffer, aligned.byteOffset, length);
}

/** One column. */
export class Column {
  constructor(field, length, nullCount, validity) {
    this.field = field;
    this.length = length;
    /** How many values are null. */
    this.nullCount = nullCount;
    /** One bit a value; empty when none is null. */
    this.validity = validity;
  }

  /** Whether the value at `index` is not null. */
  isValid(index) {
    return this.nullCount === 0 || ((this.validity[index >> 3] >> (index & 7)) & 1) === 1;
  }

  /** The value at `index`; `null` when it is null. */
  get(index) {
    return this.isValid(index) ? this.value(index) : null;
  }

  /** The values from `start` to before `end`, `null` where one is null. */
  toArray(start = 0, end = this.length) {
    const values = new Array(end - start);
    for (let index = start; index < end; index++) values[index - start] = this.get(index);
    return values;
  }

  *[Symbol.iterator]() {
    for (let index = 0; index < this.length; index++) yield this.get(index);
  }
}

/** A column of nulls. */
class NullColumn extends Column {
  get() {
    return null;
  }
}

/** A column of true and false. */
export class BooleanColumn extends Column {
  constructor(field, length, nullCount, validity, bits) {
    super(field, length, nullCount, validity);
    /** One bit a value. */
    this.bits = bits;
  }

  value(index) {
    return ((this.bits[index >> 3] >> (index & 7)) & 1) === 1;
  }
}

/** A column of numbers, those of 64 bits as BigInt; of days since 1970 for dates, of units since 1970 for times. */
export class NumberColumn extends Column {
  constructor(field, length, nullCount, validity, bytes) {
    super(field, length, nullCount, validity);
    this.bytes = bytes;
    /** The numbers. What stands in the place of a null means nothing. */
    this.values = view(NUMBERS[field.type.name], bytes, length);
  }

  value(index) {
    return this.values[index];
  }
}

/** A column of decimal numbers: each is a BigInt, times 10 to the power of the scale. */
export class DecimalColumn extends Column {
  constructor(field, length, nullCount, validity, bytes) {
    super(field, length, nullCount, validity);
    this.bytes = bytes;
    this.halves = view(BigUint64Array, bytes, 2 * length);
  }

  value(index) {
    return BigInt.asIntN(128, (this.halves[2 * index + 1] << 64n) | this.halves[2 * index]);
  }
}

/** A column of bytes, as many in every value. */
export class FixedSizeBinaryColumn extends Column {
  constructor(field, length, nullCount, validity, bytes) {
    super(field, length, nullCount, validity);
    this.bytes = bytes;
  }

  value(index) {
    const { width } = this.field.type;
    return this.bytes.subarray(width * index, width * (index + 1));
  }
}

/** A column of bytes: where each value ends, and all of them in one. */
export class BinaryColumn extends Column {
  constructor(field, length, nullCount, validity, offsets, data) {
    super(field, length, nullCount, validity);
    /** `offsets[i]` to `offsets[i + 1]` is where value i stands in `data`. */
    this.offsets = length === 0 ? new Int32Array(1) : view(Int32Array, offsets, length + 1);
    this.data = data;
  }

  value(index) {
    return this.data.subarray(this.offsets[index], this.offsets[index + 1]);
  }

  /** The same places in other bytes. */
  withData(data) {
    const { field, length, nullCount, validity, offsets } = this;
    const bytes = new Uint8Array(offsets.buffer, offsets.byteOffset, offsets.byteLength);
    return new this.constructor(field, length, nullCount, validity, bytes, data);
  }
}

/** A column of text. Work on whole columns is several times faster than on a string a row. */
export class Utf8Column extends BinaryColumn {
  /** All texts in one, when characters are bytes; else `null`. */
  get ascii() {
    if (this.text === undefined) {
      const text = latin1(this.data, 0, this.offsets[this.length]);
      this.text = isAscii(text) ? text : null;
    }
    return this.text;
  }

  value(index) {
    const start = this.offsets[index];
    const end = this.offsets[index + 1];
    const { ascii } = this;
    return ascii === null ? decode(this.data, start, end) : ascii.slice(start, end);
  }

  /** The words of each text: what stands between ASCII white space (space, tab, line feed, form feed, carriage return). */
  splitWords() {
    return splitWords(this);
  }

  /** The same texts in small letters, those of ASCII alone. */
  toAsciiLowerCase() {
    return mapAscii(this, 0x41, 0x5a, 32);
  }

  /** The same texts in capital letters, those of ASCII alone. */
  toAsciiUpperCase() {
    return mapAscii(this, 0x61, 0x7a, -32);
  }
}

/** A column of lists: where each ends, and the items of all of them as one column. */
export class ListColumn extends Column {
  constructor(field, length, nullCount, validity, offsets, items) {
    super(field, length, nullCount, validity);
    this.offsets = length === 0 ? new Int32Array(1) : view(Int32Array, offsets, length + 1);
    /** The items of all lists. */
    this.items = items;
  }

  value(index) {
    return this.items.toArray(this.offsets[index], this.offsets[index + 1]);
  }
}

/** A column of maps: each is an array of pairs of key and value, as `new Map` takes it. A key may stand there twice. */
export class MapColumn extends ListColumn {
  get keys() {
    return this.items.columns[0];
  }

  get entries() {
    return this.items.columns[1];
  }

  value(index) {
    const pairs = [];
    for (let n = this.offsets[index]; n < this.offsets[index + 1]; n++) {
      pairs.push([this.keys.get(n), this.entries.get(n)]);
    }
    return pairs;
  }
}

/** A column of structs: a column a field. */
export class StructColumn extends Column {
  constructor(field, length, nullCount, validity, columns) {
    super(field, length, nullCount, validity);
    /** The fields' columns, in the order of the struct's fields. */
    this.columns = columns;
  }

  /** The column of a field. */
  child(name) {
    return this.columns.find((column) => column.field.name === name);
  }

  value(index) {
    const struct = {};
    for (const column of this.columns) struct[column.field.name] = column.get(index);
    return struct;
  }
}

const FIXED = { boolean: BooleanColumn, decimal128: DecimalColumn, "fixed-size-binary": FixedSizeBinaryColumn };

/** Takes columns off a batch's nodes and buffers. */
export class Parts {
  constructor(nodes, buffers) {
    this.nodes = nodes;
    this.buffers = buffers;
    this.node = 0;
    this.buffer = 0;
  }

  column(field) {
    const { length, nullCount } = this.nodes[this.node++];
    const { name, children } = field.type;
    if (name === "null") return new NullColumn(field, length, nullCount, new Uint8Array(0));
    const validity = this.buffers[this.buffer++];
    if (name === "struct") {
      return new StructColumn(field, length, nullCount, validity, children.map((child) => this.column(child)));
    }
    const second = this.buffers[this.buffer++];
    if (name === "utf8" || name === "binary") {
      const kind = name === "utf8" ? Utf8Column : BinaryColumn;
      return new kind(field, length, nullCount, validity, second, this.buffers[this.buffer++]);
    }
    if (name === "list" || name === "map") {
      const kind = name === "map" ? MapColumn : ListColumn;
      return new kind(field, length, nullCount, validity, second, this.column(children[0]));
    }
    return new (FIXED[name] ?? NumberColumn)(field, length, nullCount, validity, second);
  }
}

/** A column without values. */
export function emptyColumn(field) {
  const none = new Uint8Array(0);
  const nodes = [];
  const buffers = [];
  const add = ({ type }) => {
    nodes.push({ length: 0, nullCount: 0 });
    buffers.push(none, none, none);
    type.children.forEach(add);
  };
  add(field);
  // More buffers than it takes; those of each kind are empty alike.
  return new Parts(nodes, buffers).column(field);
}
