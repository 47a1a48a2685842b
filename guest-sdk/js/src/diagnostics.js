// What an operator may tell its host: log lines, counters, gauges. In tests lines go to standard error.

const LEVELS = ["debug", "info", "warn", "error"];

let host;

/** Has everything go to a host: called by the component. */
export function connect(functions) {
  host = functions;
}

/** Writes a line to the job's log. Counts against the limit on log bytes. */
export function log(level, message) {
  if (!LEVELS.includes(level)) throw new RangeError(`\`${level}\` is not a level: ${LEVELS.join(", ")}`);
  if (host) host.log(level, message);
  else console.error(`${level}: ${message}`);
}

/** Adds to a counter of the step. */
export function count(name, add = 1) {
  // QuickJS takes a number for it, as it does for all numbers of 64 bits.
  if (host) host.count(name, Number(add));
}

/** Sets a gauge of the step. */
export function gauge(name, value) {
  if (host) host.gauge(name, value);
}
