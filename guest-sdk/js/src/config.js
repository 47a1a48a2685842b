// A step's `config`: unknown keys, missing ones and values of other types are refused before any row flows.

import { Refusal } from "./errors.js";

const UNITS_US = { d: 86_400_000_000n, h: 3_600_000_000n, m: 60_000_000n, s: 1_000_000n, ms: 1_000n, us: 1n };
const I64_MAX = (1n << 63n) - 1n;

/** A length of time as job files write it, in microseconds: `"250ms"`, `"1.5s"`, `"1h30m"`; `"0"` needs no unit. */
export function parseDuration(text) {
  const wrong = new RangeError(`\`${text}\` is not a duration, as \`30s\` and \`1h30m\` are`);
  const trimmed = text.trim();
  if (trimmed === "0") return 0n;
  const units = Object.keys(UNITS_US);
  let sum = 0n;
  let last = -1;
  let end = 0;
  for (const part of trimmed.matchAll(/([0-9]+)(?:\.([0-9]+))?([a-z]+)/g)) {
    const [whole, before, behind = "", unit] = part;
    const place = units.indexOf(unit);
    if (part.index !== end || place <= last) throw wrong;
    sum += BigInt(before) * UNITS_US[unit] + (BigInt(behind || "0") * UNITS_US[unit]) / 10n ** BigInt(behind.length);
    last = place;
    end += whole.length;
  }
  if (last < 0 || end !== trimmed.length || sum > I64_MAX) throw wrong;
  return sum;
}

const kind = (expected, read) => (fallback) => ({ expected, read, fallback });

/** What a key of a configuration may be. The argument is its value where the job file gives none; without one it is required. */
export const c = {
  boolean: kind("true or false", (value) => (typeof value === "boolean" ? value : undefined)),
  string: kind("a text", (value) => (typeof value === "string" ? value : undefined)),
  number: kind("a number", (value) => (typeof value === "number" ? value : undefined)),
  integer: kind("a whole number", (value) => (Number.isSafeInteger(value) ? value : undefined)),
  /** A length of time, in microseconds. */
  duration: kind("a duration as `30s`", (value) => (typeof value === "string" ? parseDuration(value) : undefined)),
  /** One of some texts. */
  oneOf: (values, fallback) => ({
    expected: `one of ${values.map((value) => JSON.stringify(value)).join(", ")}`,
    read: (value) => (values.includes(value) ? value : undefined),
    fallback,
  }),
  list: kind("a list", (value) => (Array.isArray(value) ? value : undefined)),
  /** Anything that JSON has. */
  any: kind("anything", (value) => value),
};

/** The configuration that `text` gives for the keys of `spec`. */
export function readConfig(spec = {}, text) {
  const found = JSON.parse(text || "{}");
  const names = Object.keys(spec);
  for (const name of Object.keys(found)) {
    if (!names.includes(name)) {
      const known = names.map((one) => `\`${one}\``);
      const expected =
        known.length === 0
          ? "there are no fields"
          : `expected ${known.length < 3 ? known.join(" or ") : `one of ${known.join(", ")}`}`;
      throw new Refusal(`unknown field \`${name}\`, ${expected}`, "config");
    }
  }
  const config = {};
  for (const [name, { expected, read, fallback }] of Object.entries(spec)) {
    if (!(name in found)) {
      if (fallback === undefined) throw new Refusal(`missing field \`${name}\``, "config");
      config[name] = fallback;
      continue;
    }
    let value;
    try {
      value = read(found[name]);
    } catch (error) {
      throw new Refusal(`\`${name}\`: ${error.message}`, "config");
    }
    if (value === undefined) {
      throw new Refusal(`\`${name}\` is ${JSON.stringify(found[name])}, ${expected} is expected`, "config");
    }
    config[name] = value;
  }
  return config;
}
