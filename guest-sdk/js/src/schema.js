// Types and schemas, nested as they are rather than flat as the contract has them.

/** Bytes a value, and the typed array, of the types whose values are numbers. */
export const NUMBERS = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  float32: Float32Array,
  float64: Float64Array,
  date32: Int32Array,
  timestamp: BigInt64Array,
  duration: BigInt64Array,
};

const UNITS = { s: "second", ms: "millisecond", us: "microsecond", ns: "nanosecond" };
const SHORT_UNITS = { second: "s", millisecond: "ms", microsecond: "us", nanosecond: "ns" };

/** A type: what `t` has. */
export class Type {
  constructor(name, more = {}) {
    this.name = name;
    this.isNullable = false;
    this.children = [];
    Object.assign(this, more);
  }

  /** The type with what it is made of, as in `struct<lat: float64, lon: float64>`. */
  toString() {
    switch (this.name) {
      case "fixed-size-binary":
        return `fixed-size-binary(${this.width})`;
      case "timestamp":
        return this.zone ? `timestamp(${this.unit}, ${this.zone})` : `timestamp(${this.unit})`;
      case "duration":
        return `duration(${this.unit})`;
      case "decimal128":
        return `decimal128(${this.precision}, ${this.scale})`;
      case "list":
        return `list<${this.children[0].type}>`;
      case "struct":
        return `struct<${this.children.map((child) => `${child.name}: ${child.type}`).join(", ")}>`;
      case "map":
        return `map<${this.children[0].type.children.map((child) => child.type).join(", ")}>`;
      default:
        return this.name;
    }
  }

  /** Whether values of this type can be read from a column of another. Nulls do not matter. */
  accepts(found) {
    if (found.name !== this.name) return false;
    switch (this.name) {
      case "fixed-size-binary":
        return found.width === this.width;
      case "timestamp":
      case "duration":
        // A zone says how an instant is shown, not which one it is.
        return found.unit === this.unit;
      case "decimal128":
        return found.precision === this.precision && found.scale === this.scale;
      case "struct":
        return this.children.every((child) => {
          const other = found.children.find((one) => one.name === child.name);
          return other !== undefined && child.type.accepts(other.type);
        });
      case "list":
        return this.children[0].type.accepts(found.children[0].type);
      case "map":
        return this.children[0].type.children.every((child, n) =>
          child.type.accepts(found.children[0].type.children[n].type),
        );
      default:
        return true;
    }
  }
}

const plain = (name) => new Type(name);
const field = (name, type) => ({ name, type });

/** The types that a column may have. */
export const t = {
  null: Object.assign(new Type("null"), { isNullable: true }),
  boolean: plain("boolean"),
  int8: plain("int8"),
  int16: plain("int16"),
  int32: plain("int32"),
  int64: plain("int64"),
  uint8: plain("uint8"),
  uint16: plain("uint16"),
  uint32: plain("uint32"),
  uint64: plain("uint64"),
  float32: plain("float32"),
  float64: plain("float64"),
  utf8: plain("utf8"),
  binary: plain("binary"),
  date32: plain("date32"),
  fixedSizeBinary: (width) => new Type("fixed-size-binary", { width }),
  timestamp: (unit = "us", zone = "UTC") => new Type("timestamp", { unit, zone }),
  duration: (unit = "us") => new Type("duration", { unit }),
  decimal: (precision, scale) => new Type("decimal128", { precision, scale }),
  list: (item) => new Type("list", { children: [field("item", item)] }),
  struct: (fields) => new Type("struct", { children: schemaOf(fields) }),
  map: (key, value) => {
    const entries = new Type("struct", { children: [field("key", key), field("value", value)] });
    return new Type("map", { children: [field("entries", entries)] });
  },
  nullable: (type) => Object.assign(Object.create(Type.prototype), type, { isNullable: true }),
};

/** The fields of an object of types, in its order. */
export function schemaOf(fields) {
  return Object.entries(fields).map(([name, type]) => {
    if (!(type instanceof Type)) throw new TypeError(`column \`${name}\` has no type: give it one of \`t\`, as \`t.utf8\``);
    return field(name, type);
  });
}

/** A schema in one line. */
export function schemaText(schema) {
  return schema.map(({ name, type }) => `${name}: ${type}`).join(", ");
}

/** A schema from the contract's fields in pre-order. */
export function fromContract(fields) {
  let next = 0;
  const take = () => {
    const flat = fields[next++];
    const { tag, val } = flat.dataType;
    const type = new Type(tag);
    type.isNullable = flat.nullable;
    if (tag === "fixed-size-binary") type.width = val;
    if (tag === "duration") type.unit = SHORT_UNITS[val];
    if (tag === "timestamp") [type.unit, type.zone] = [SHORT_UNITS[val[0]], val[1] ?? undefined];
    if (tag === "decimal128") [type.precision, type.scale] = val;
    for (let n = 0; n < flat.children; n++) type.children.push(take());
    return { name: flat.name, type };
  };
  const schema = [];
  while (next < fields.length) schema.push(take());
  return schema;
}

/** The contract's fields, in pre-order, of a schema. */
export function toContract(schema) {
  const flat = [];
  const add = ({ name, type }) => {
    const dataType = { tag: type.name };
    if (type.name === "fixed-size-binary") dataType.val = type.width;
    if (type.name === "duration") dataType.val = UNITS[type.unit];
    if (type.name === "timestamp") dataType.val = [UNITS[type.unit], type.zone];
    if (type.name === "decimal128") dataType.val = [type.precision, type.scale];
    flat.push({ name, dataType, nullable: type.isNullable, children: type.children.length });
    type.children.forEach(add);
  };
  schema.forEach(add);
  return flat;
}
