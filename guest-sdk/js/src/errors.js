// How an operator says that something is wrong: each kind is an error of its own.

/** The row cannot be processed: it is counted, and set aside where the job says so. */
export class Reject extends Error {}

/** The step cannot work. Thrown while it is opened. */
export class Refusal extends Error {
  /** @param {string} text @param {"config" | "schema" | "other"} kind */
  constructor(text, kind = "other") {
    super(text);
    this.kind = kind;
  }
}

/** The whole call has failed. Nothing of it is used. */
export class Failure extends Error {
  /** @param {string} text @param {"retry" | "fatal" | "other"} kind */
  constructor(text, kind = "fatal") {
    super(text);
    this.kind = kind;
  }
}
