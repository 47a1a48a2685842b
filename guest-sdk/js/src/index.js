// Operators of Tidemill in JavaScript and TypeScript.

export { Batch } from "./batch.js";
export { Writer } from "./builder.js";
export { c, parseDuration, readConfig } from "./config.js";
export * as diagnostics from "./diagnostics.js";
export { Failure, Refusal, Reject } from "./errors.js";
export {
  aggregatorRole,
  defineAggregator,
  defineGrouper,
  defineReducer,
  defineUpdater,
  grouperRole,
  reducerRole,
  updaterRole,
} from "./keyed.js";
export { Type, schemaOf, t } from "./schema.js";
export { defineTransform, transformRole } from "./transform.js";
export { Pieces } from "./text.js";

/** The contract that this version of the SDK speaks. */
export const CONTRACT = "tidemill:operator@0.1.0";
