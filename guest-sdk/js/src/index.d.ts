/** Operators of Tidemill in JavaScript and TypeScript. */

/** A type of a column, whose values are `V`. */
export interface Type<out V = unknown> {
  readonly name: string;
  readonly isNullable: boolean;
  toString(): string;
  /** Of the types of TypeScript alone. */
  readonly __value?: V;
}

/** Columns by name. */
export type Fields = Record<string, Type<any>>;
/** The values of a type. */
export type Value<T> = T extends Type<infer V> ? V : never;
/** A row of some columns. 64-bit numbers are `bigint`, a null is `null`. */
export type Row<F extends Fields> = { -readonly [K in keyof F]: Value<F[K]> };

type TimeUnit = "s" | "ms" | "us" | "ns";

/** The types that a column may have. */
export const t: {
  readonly null: Type<null>;
  readonly boolean: Type<boolean>;
  readonly int8: Type<number>;
  readonly int16: Type<number>;
  readonly int32: Type<number>;
  readonly int64: Type<bigint>;
  readonly uint8: Type<number>;
  readonly uint16: Type<number>;
  readonly uint32: Type<number>;
  readonly uint64: Type<bigint>;
  readonly float32: Type<number>;
  readonly float64: Type<number>;
  readonly utf8: Type<string>;
  readonly binary: Type<Uint8Array>;
  /** Days since 1970-01-01. */
  readonly date32: Type<number>;
  fixedSizeBinary(width: number): Type<Uint8Array>;
  /** Units since 1970-01-01 UTC. */
  timestamp(unit?: TimeUnit, zone?: string): Type<bigint>;
  /** A length of time, in units. */
  duration(unit?: TimeUnit): Type<bigint>;
  /** The number times 10 to the power of the scale. */
  decimal(precision: number, scale: number): Type<bigint>;
  list<V>(item: Type<V>): Type<V[]>;
  struct<F extends Fields>(fields: F): Type<Row<F>>;
  /** Pairs of key and value, as `new Map` takes them; a `Map` can be written as well. */
  map<K, V>(key: Type<K>, value: Type<V>): Type<Iterable<[K, V]>>;
  nullable<V>(type: Type<V>): Type<V | null>;
};

/** A column of a batch, read in place. */
export interface Column<V = unknown> extends Iterable<V> {
  readonly length: number;
  readonly nullCount: number;
  /** One bit a value; empty when none is null. */
  readonly validity: Uint8Array;
  isValid(index: number): boolean;
  get(index: number): V;
  toArray(start?: number, end?: number): V[];
  /** Of columns of numbers, the numbers, without a copy. */
  readonly values: V extends bigint ? BigInt64Array | BigUint64Array : Float64Array | Float32Array | Int32Array | Uint32Array | Int16Array | Uint16Array | Int8Array | Uint8Array;
  /** Of columns of text, bytes and lists: `offsets[i]` to `offsets[i + 1]` is where value i stands. */
  readonly offsets: Int32Array;
  /** Of columns of text and bytes, all of them in one. */
  readonly data: Uint8Array;
  /** Of columns of booleans, one bit a value. */
  readonly bits: Uint8Array;
  /** Of columns of lists and maps, the items of all. */
  readonly items: Column;
  /** Of columns of structs, a column a field. */
  child(name: string): Column;
  /** Of columns of text: the words, which are what stands between ASCII white space. */
  splitWords(): Pieces;
  /** Of columns of text: the same in small letters, those of ASCII alone. */
  toAsciiLowerCase(): Column<V>;
  /** Of columns of text: the same in capital letters, those of ASCII alone. */
  toAsciiUpperCase(): Column<V>;
}

/** Pieces of texts: their bytes in one, where each ends, and which row each is of. */
export class Pieces {
  constructor(data: Uint8Array, ends: Int32Array, rows: Uint32Array);
  readonly data: Uint8Array;
  readonly ends: Int32Array;
  readonly rows: Uint32Array;
  readonly length: number;
  toArray(): string[];
}

/** Some rows of a partition, as columns. */
export class Batch<F extends Fields = any> {
  readonly length: number;
  readonly schema: Schema;
  readonly columns: { readonly [K in keyof F]: Column<Value<F[K]>> };
  readonly list: Column[];
  row(index: number): Row<F>;
  toArray(): Row<F>[];
}

/** A batch that is cut into groups: `ends[i]` is the exclusive end of group i. */
export type Groups<F extends Fields> = Batch<F> & { readonly ends: Uint32Array };

/** A column that is being built. */
export interface Builder<V = unknown> {
  readonly length: number;
  push(value: V): void;
  /** Appends values; a typed array of the column's own kind, and pieces of text, as they stand. */
  extend(values: Iterable<V> | Pieces): void;
  extendColumn(column: Column): void;
  extendTaken(column: Column, indices: ArrayLike<number> & Iterable<number>): void;
}

/** Columns that are being built. */
export class Writer<F extends Fields = any> {
  constructor(schema: Schema);
  readonly columns: { readonly [K in keyof F]: Builder<Value<F[K]>> };
  readonly builders: Builder[];
  push(row: Row<F>): void;
  finish(n_rows?: number): RawBatch;
}

/** A field of a schema. */
export interface Field {
  readonly name: string;
  readonly type: Type<any>;
}
export type Schema = readonly Field[];
export function schemaOf(fields: Fields): Schema;

/** Rows as nodes and buffers, in the order of the contract. */
export interface RawBatch {
  rows: number;
  nodes: { length: number; nullCount: number }[];
  buffers: Uint8Array[];
}

/** What a call belongs to. The same rows always come with the same call. */
export interface Call {
  readonly batchId: bigint;
  /** The batch's time in microseconds since 1970-01-01 UTC. */
  readonly batchTimeUs: bigint;
  readonly partition: number;
  readonly attempt: number;
  readonly firstRow: bigint;
  readonly watermarkUs: bigint | null;
}

/** Where an operator runs and how it is configured. */
export interface Step {
  readonly job: string;
  readonly step: string;
  readonly partitions: number;
  /** The step's `config`, as JSON. */
  readonly config: string;
}

/** A key of a configuration, whose value is `V`. */
export interface ConfigKey<V> {
  readonly expected: string;
  readonly fallback: V | undefined;
}
export type ConfigKeys = Record<string, ConfigKey<any>>;
export type Config<C> = { readonly [K in keyof C]: C[K] extends ConfigKey<infer V> ? V : never };

/** What a key of a configuration may be. The argument is its value where the job file gives none; without one it is required. */
export const c: {
  boolean(fallback?: boolean): ConfigKey<boolean>;
  string(fallback?: string): ConfigKey<string>;
  number(fallback?: number): ConfigKey<number>;
  integer(fallback?: number): ConfigKey<number>;
  /** A length of time, in microseconds. */
  duration(fallback?: bigint): ConfigKey<bigint>;
  oneOf<const V extends string>(values: readonly V[], fallback?: V): ConfigKey<V>;
  list(fallback?: unknown[]): ConfigKey<unknown[]>;
  any(fallback?: unknown): ConfigKey<unknown>;
};
export function parseDuration(text: string): bigint;
export function readConfig<C extends ConfigKeys>(keys: C, text: string): Config<C>;

/** The row cannot be processed: it is counted, and set aside where the job says so. */
export class Reject extends Error {}
/** The step cannot work. Thrown while it is opened. */
export class Refusal extends Error {
  constructor(text: string, kind?: "config" | "schema" | "other");
}
/** The whole call has failed. */
export class Failure extends Error {
  constructor(text: string, kind?: "retry" | "fatal" | "other");
}

export namespace diagnostics {
  /** Writes a line to the job's log. Counts against the limit on log bytes. */
  function log(level: "debug" | "info" | "warn" | "error", message: string): void;
  function count(name: string, add?: number | bigint): void;
  function gauge(name: string, value: number): void;
}

/** What a function gets beside its rows. */
export interface Context<C> {
  readonly config: Config<C>;
  readonly call: Call;
}

/** What takes the rows that a transform emits. */
export interface Output<F extends Fields> {
  readonly columns: { readonly [K in keyof F]: Builder<Value<F[K]>> };
  /** For `process` with `carry`: for each output row, the input row that it comes from. */
  origin: ArrayLike<number> & Iterable<number>;
  push(row: Row<F>): void;
  pushFrom(origin: number, row: Row<F>): void;
  /** Rejects a row of the batch, by its index. */
  reject(row: number, reason: string): void;
}

interface Common<C> {
  /** The keys of the step's `config`. Others are refused. */
  config?: C;
  /** Says what is wrong with a configuration; nothing when it is right. */
  check?(config: Config<C>): string | undefined | void;
}

interface TransformCommon<I extends Fields, C> extends Common<C> {
  /** The columns that are read. No other is sent. */
  input: I;
  /** The columns that go along with a row without being sent: `"none"`, `"all"` (what a filter does), or their names. */
  carry?: "none" | "all" | readonly string[];
}

/** What a transform is made of: its columns, and one function. */
export type TransformDefinition<I extends Fields, O extends Fields, C> =
  | (TransformCommon<I, C> & {
      output: O;
      /** A row for a row, or none. Values are decoded when they are asked for. */
      map(row: Row<I>, context: Context<C>): Row<O> | null | undefined;
    })
  | (TransformCommon<I, C> & { output: O; flatMap(row: Row<I>, context: Context<C>): Iterable<Row<O>> })
  | (TransformCommon<I, C> & { output: O; each(row: Row<I>, out: Output<O>, context: Context<C>): void })
  | (TransformCommon<I, C> & {
      output: O;
      /** A whole batch at once, by columns: the fastest. */
      process(batch: Batch<I>, out: Output<O>, context: Context<C>): void;
    })
  | (TransformCommon<I, C> & { filter(row: Row<I>, context: Context<C>): boolean })
  | (TransformCommon<I, C> & {
      /** A filter by columns: a flag a row, 1 to keep it or 0. */
      select(batch: Batch<I>, context: Context<C>): ArrayLike<number | boolean>;
    });

/** What a plugin exports under the name of its role. */
export interface Operator {
  open(...args: any[]): any;
}

/** Makes a transform of a function: map, flatMap, filter, mapPartitions. Export it as `transform`. */
export function defineTransform<const I extends Fields, const O extends Fields = {}, C extends ConfigKeys = {}>(
  definition: TransformDefinition<I, O, C>,
): Operator;

/** Makes a reducer, which must be associative: reduceByKey. Export it as `reducer`. */
export function defineReducer<const F extends Fields, C extends ConfigKeys = {}>(
  definition: Common<C> & {
    /** All the columns that are not keys. */
    row: F;
    /** Lets a sliding window take away what has left it. */
    invert?(whole: Row<F>, part: Row<F>, context: Context<C>): Row<F>;
  } & (
      | { reduce(one: Row<F>, other: Row<F>, context: Context<C>): Row<F> }
      | { process(groups: Groups<F>, out: Writer<F>, context: Context<C>): void }
    ),
): Operator;

/** Makes an aggregator, whose `merge` must be associative: aggregateByKey. Export it as `aggregator`. */
export function defineAggregator<const I extends Fields, const A extends Fields, const O extends Fields, C extends ConfigKeys = {}>(
  definition: Common<C> & {
    input: I;
    accumulator: A;
    output: O;
    start?(context: Context<C>): Row<A>;
    /** Adds a row: changes the accumulator, or returns another. */
    add?(accumulator: Row<A>, row: Row<I>, context: Context<C>): Row<A> | void;
    /** Adds another accumulator, of rows that come after. */
    merge?(accumulator: Row<A>, other: Row<A>, context: Context<C>): Row<A> | void;
    finish?(accumulator: Row<A>, context: Context<C>): Row<O>;
    /** In the place of `add`, by columns. */
    accumulate?(groups: Groups<I>, out: Writer<A>, context: Context<C>): void;
    /** In the place of `merge`, by columns. */
    combine?(groups: Groups<A>, out: Writer<A>, context: Context<C>): void;
    /** In the place of `finish`, by columns. */
    results?(accumulators: Batch<A>, out: Writer<O>, context: Context<C>): void;
  },
): Operator;

/** The rows of a key, in the order in which they came. */
export type KeyRows<F extends Fields> = Row<F>[] & {
  /** Rejects the row at an index of this array. */
  reject(index: number, reason: string): void;
};

/** What a function of a key gets beside its rows. */
export interface KeyContext<C, K extends Fields, O extends Fields> extends Context<C> {
  readonly key: Row<K>;
  readonly out: { push(row: Row<O>): void };
}

type Emitted<O extends Fields> = Row<O> | Iterable<Row<O>> | null | undefined | void;

/** Makes a grouper of one input: mapGroups. Export it as `grouper`. */
export function defineGrouper<const I extends Fields, const O extends Fields, const K extends Fields = {}, C extends ConfigKeys = {}>(
  definition: Common<C> & {
    /** What is read of the key; the host adds all of it to what is written. */
    key?: K;
    input: I;
    output: O;
    group(rows: KeyRows<I>, context: KeyContext<C, K, O>): Emitted<O>;
  },
): Operator;
/** Makes a grouper of several inputs, by name, in the order of the step's: cogroup. */
export function defineGrouper<const I extends Record<string, Fields>, const O extends Fields, const K extends Fields = {}, C extends ConfigKeys = {}>(
  definition: Common<C> & {
    key?: K;
    inputs: I;
    output: O;
    group(rows: { [N in keyof I]: KeyRows<I[N]> }, context: KeyContext<C, K, O>): Emitted<O>;
  },
): Operator;

/** A key's state, and its timeout. Nothing happens to either unless it is asked for here. */
export interface State<F extends Fields> {
  /** The state, which may be changed and then `set`; `fallback` when there is none. */
  get(): Row<F> | undefined;
  get(fallback: Row<F>): Row<F>;
  set(state: Row<F>): void;
  /** Removes the state, and the timeout with it. */
  remove(): void;
  /** Whether the key is called because its timeout was due: without rows, and the timeout is gone. */
  readonly timedOut: boolean;
  /** Has the key called, as timed out, in the first batch whose time, or whose watermark, is not before this. */
  setTimeout(atUs: bigint | number): void;
  /** The same, this long after the batch's time. */
  setTimeoutAfter(lengthUs: bigint | number): void;
  clearTimeout(): void;
}

/** Makes an updater: updateStateByKey, mapWithState, flatMapGroupsWithState. Export it as `updater`. */
export function defineUpdater<const I extends Fields, const S extends Fields, const O extends Fields, const K extends Fields = {}, C extends ConfigKeys = {}>(
  definition: Common<C> & {
    key?: K;
    input: I;
    /** What is kept of a key. The host holds it: nothing else outlives a call. */
    state: S;
    output: O;
    timeouts?: "never" | "batch-time" | "event-time";
    /** Whether each batch calls it for every key that has state. */
    everyKey?: boolean;
    update(rows: KeyRows<I>, state: State<S>, context: KeyContext<C, K, O>): Emitted<O>;
  },
): Operator;

type Rejection = { row: number; reason: string };

/** A transform whose columns depend on the configuration or on the input. */
export function transformRole(
  open: (step: Step, input: Schema) => {
    reads?: string[];
    writes: Schema;
    carries?: "none" | "all" | readonly string[];
    process(batch: Batch, call: Call): { rows: RawBatch; origin?: ArrayLike<number>; rejected?: Rejection[] };
  },
): Operator;
/** A reducer of any columns. */
export function reducerRole(
  open: (step: Step, values: Schema) => {
    invertible?: boolean;
    reduce(values: Batch, ends: Uint32Array, call: Call): RawBatch;
    invert?(whole: Batch, part: Batch, call: Call): RawBatch;
  },
): Operator;
/** An aggregator of any columns. */
export function aggregatorRole(
  open: (step: Step, values: Schema) => {
    reads?: string[];
    accumulator: Schema;
    result: Schema;
    accumulate(values: Batch, ends: Uint32Array, call: Call): RawBatch;
    merge(accumulators: Batch, ends: Uint32Array, call: Call): RawBatch;
    finish(accumulators: Batch, call: Call): RawBatch;
  },
): Operator;
/** A grouper of any columns. */
export function grouperRole(
  open: (step: Step, keys: Schema, inputs: Schema[]) => {
    reads: (string[] | undefined)[];
    writes: Schema;
    process(
      keys: Batch,
      inputs: { rows: Batch; ends: Uint32Array }[],
      call: Call,
    ): { rows: RawBatch; group: ArrayLike<number>; rejected?: Rejection[][] };
  },
): Operator;
/** An updater of any columns. */
export function updaterRole(
  open: (step: Step, keys: Schema, values: Schema) => {
    reads?: string[];
    state: Schema;
    writes: Schema;
    calling?: "keys-with-values" | "every-key";
    timeouts?: "never" | "batch-time" | "event-time";
    update(
      input: {
        keys: Batch;
        values: Batch;
        ends: Uint32Array;
        state: Batch;
        hasState: Uint8Array;
        timedOut: Uint8Array;
      },
      call: Call,
    ): {
      changes: ArrayLike<number>;
      state: RawBatch;
      timeoutsUs?: ArrayLike<bigint>;
      rows: RawBatch;
      group: ArrayLike<number>;
      rejected?: Rejection[];
    };
  },
): Operator;

/** The contract that this version of the SDK speaks. */
export const CONTRACT: string;
