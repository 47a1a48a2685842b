/** Runs operators in tests as the host does, without a host and without WebAssembly. A refusal or a failure is thrown, with its `kind`. */

import type { Fields, Operator, Row } from "./index.js";

type Rows = Record<string, any>[];
type Config = Record<string, unknown>;
type Rejection = { row: number; reason: string };

/** Opens a transform, and processes rows in one call. `input` has the types of their columns. */
export function transform<const F extends Fields>(
  operator: Operator,
  input: F,
  rows: Row<F>[],
  config?: Config,
): { rows: Rows; origin: number[] | undefined; rejected: Rejection[] };
/** Opens a reducer, and reduces groups of rows. */
export function reduce<const F extends Fields>(operator: Operator, row: F, groups: Row<F>[][], config?: Config): Rows;
/** Opens a reducer, and takes `part` out of `whole`, row by row. */
export function invert<const F extends Fields>(
  operator: Operator,
  row: F,
  whole: Row<F>[],
  part: Row<F>[],
  config?: Config,
): Rows;
/** Opens an aggregator, and aggregates groups of rows: each row by itself, and then all of its group together. */
export function aggregate<const F extends Fields>(operator: Operator, input: F, groups: Row<F>[][], config?: Config): Rows;
/** Opens a grouper of one input, and gives it groups: each `[key, rows]`. */
export function group<const K extends Fields, const F extends Fields>(
  operator: Operator,
  key: K,
  input: F,
  groups: [Row<K>, Row<F>[]][],
  config?: Config,
): { rows: Rows; group: number[]; rejected: Rejection[][] };
/** Opens a grouper, and gives it groups: each `[key, [rows of each input]]`. */
export function cogroup<const K extends Fields>(
  operator: Operator,
  key: K,
  inputs: Fields[],
  groups: [Row<K>, Rows[]][],
  config?: Config,
): { rows: Rows; group: number[]; rejected: Rejection[][] };
/** An updater and the state of its keys, batch by batch, as a host keeps it. */
export class Updates<const K extends Fields, const F extends Fields> {
  constructor(operator: Operator, key: K, input: F, config?: Config);
  state(key: Row<K>): Record<string, any> | undefined;
  timeoutUs(key: Row<K>): bigint | undefined;
  /** Runs a batch: rows by key, each `[key, rows]`, then keys that timed out. `timeUs` is its time and its watermark. */
  run(timeUs: bigint, groups: [Row<K>, Row<F>[]][]): { rows: Rows; group: number[]; rejected: Rejection[] };
}
