// What every role shares: the contract's records, and errors as the contract's.

import { Failure, Refusal } from "./errors.js";
import { log } from "./diagnostics.js";

/** What a call belongs to. QuickJS gives 64-bit numbers as numbers, StarlingMonkey as BigInt. */
export function callOf(call) {
  const { watermarkUs } = call;
  return {
    batchId: BigInt(call.batchId),
    batchTimeUs: BigInt(call.batchTimeUs),
    partition: call.partition,
    attempt: call.attempt,
    firstRow: BigInt(call.firstRow),
    watermarkUs: watermarkUs === undefined || watermarkUs === null ? null : BigInt(watermarkUs),
  };
}

/** The columns of `schema` that are sent: those named, in that order; all when `reads` is undefined. */
export function select(schema, reads) {
  return reads === undefined ? schema : reads.map((name) => schema.find((field) => field.name === name));
}

const tell = (error) => log("error", `${error}\n${error?.stack ?? ""}`.slice(0, 4000).trim());

/** Runs what opens an operator: whatever it throws is a refusal. */
export function opening(open) {
  try {
    return open();
  } catch (error) {
    if (error instanceof Refusal) throw contractError(error);
    tell(error);
    throw contractError(new Refusal(String(error)));
  }
}

/** Runs a call: whatever it throws is a failure. */
export function calling(call) {
  try {
    return call();
  } catch (error) {
    if (error instanceof Failure) throw contractError(error);
    tell(error);
    throw contractError(new Failure(String(error)));
  }
}

/** An error as the contract's variant, which the engine takes for the `err` of a result. */
function contractError(error) {
  return { tag: error.kind, val: error.message };
}

/** Where a group begins, by the ends of all. */
export const startOf = (ends, group) => (group === 0 ? 0 : ends[group - 1]);
