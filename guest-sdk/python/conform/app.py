"""The conformance operator of the Python SDK, in all roles: it does what docs/conformance.md says."""

import json

from tidemill_guest import (
    Aggregator,
    AggregatorPlan,
    ConfigRefusal,
    DataType,
    Failure,
    Field,
    Grouper,
    GrouperOutput,
    GrouperPlan,
    Reducer,
    Refusal,
    Retry,
    Schema,
    SchemaRefusal,
    Transform,
    TransformOutput,
    TransformPlan,
    Updater,
    UpdaterOutput,
    UpdaterPlan,
    Writer,
    diagnostics,
    operator,
)

KEYS = {
    "refuse": None,
    "fail": None,
    "reject-every": 0,
    "by": "columns",
    "diagnostics": False,
    "repeat": 1,
    "carry": False,
    "invertible": False,
    "every-key": False,
    "timeouts": "never",
    "timeout-us": None,
    "remove-at": None,
}
REFUSALS = {"config": ConfigRefusal, "schema": SchemaRefusal, "other": Refusal}
FAILURES = {"retry": Retry, "fatal": Failure}
ROWS = Field("rows", DataType("int64"))
TIMED_OUT = Field("timed_out", DataType("boolean"))
KEEP = -(1 << 63)


class Config:
    """The configuration, defaults put in."""

    def __init__(self, step, rejects=True):
        found = json.loads(step.config)
        unknown = next((key for key in found if key not in KEYS), None)
        if unknown is not None:
            raise ConfigRefusal(f"unknown field `{unknown}`")
        self.keys = KEYS | {key: value for key, value in found.items() if value is not None}
        if self.keys["refuse"]:
            raise REFUSALS[self.keys["refuse"]]("refused as asked")
        if self.keys["reject-every"] and not rejects:
            raise ConfigRefusal("`reject-every` is for roles that reject rows")

    def __getitem__(self, key):
        return self.keys[key]

    def rejects(self, number):
        every = self["reject-every"]
        return every > 0 and number % every == every - 1

    def begin_call(self, n_rows):
        if self["diagnostics"]:
            diagnostics.log("info", f"conform: {n_rows} rows")
            diagnostics.count("conform_rows", n_rows)
            diagnostics.gauge("conform_last", float(n_rows))
        if self["fail"]:
            raise FAILURES[self["fail"]]("failed as asked")

    def append(self, columns, rows, builders):
        """Appends rows with the view that is asked for."""
        for column, builder in zip(columns, builders):
            if self["by"] == "columns":
                if len(rows) == len(column) and list(rows) == list(range(len(column))):
                    builder.extend_column(column)
                else:
                    builder.extend_taken(column, rows)
            else:
                for row in rows:
                    builder.append(column[row])

    def take(self, batch, rows):
        """Some rows of a batch as a batch of their own."""
        writer = Writer(batch.schema)
        self.append(batch.columns, rows, writer.builders)
        return writer.finish(len(rows))


def behind(before, schema):
    """The columns of a schema behind others."""
    taken = next((field.name for field in before if schema.find(field.name)), None)
    if taken is not None:
        raise SchemaRefusal(f"there is a column `{taken}`, which is the operator's own")
    return Schema([*before, *schema])


def spans(ends):
    return zip([0, *ends], ends)


@operator
class Echo(Transform):
    """Writes what it reads."""

    def open(self, step, input):
        self.config = Config(step)
        if self.config["carry"]:
            return TransformPlan(Schema(), [], "all")
        return TransformPlan(input)

    def process(self, call, batch):
        config = self.config
        config.begin_call(batch.n_rows)
        origin, rejected = [], []
        for row in range(batch.n_rows):
            number = call.first_row + row
            if config.rejects(number):
                rejected.append((row, f"row {number} is rejected"))
            else:
                origin += [row] * config["repeat"]
        return TransformOutput(config.take(batch, origin), origin, rejected)


@operator
class Last(Reducer):
    """Keeps the last row."""

    def open(self, step, values):
        self.config = Config(step, rejects=False)
        return self.config["invertible"]

    def reduce(self, call, values, ends):
        self.config.begin_call(values.n_rows)
        return self.config.take(values, [end - 1 for end in ends])

    def invert(self, call, whole, part):
        self.config.begin_call(whole.n_rows)
        return self.config.take(whole, range(whole.n_rows))


@operator
class CountAndLast(Aggregator):
    """Counts rows, and keeps the last."""

    def open(self, step, values):
        self.config = Config(step, rejects=False)
        self.schema = behind([ROWS], values)
        return AggregatorPlan(self.schema, self.schema)

    def rows(self, counts, columns, taken):
        writer = Writer(self.schema)
        writer["rows"].extend(counts)
        self.config.append(columns, taken, writer.builders[1:])
        return writer.finish()

    def accumulate(self, call, values, ends):
        self.config.begin_call(values.n_rows)
        counts = [end - start for start, end in spans(ends)]
        return self.rows(counts, values.columns, [end - 1 for end in ends])

    def merge(self, call, accumulators, ends):
        self.config.begin_call(accumulators.n_rows)
        counts = accumulators["rows"].sum_by(ends)
        return self.rows(counts, accumulators.columns[1:], [end - 1 for end in ends])

    def finish(self, call, accumulators):
        self.config.begin_call(accumulators.n_rows)
        return self.config.take(accumulators, range(accumulators.n_rows))


@operator
class Reversed(Grouper):
    """The rows of each group, the last first."""

    def open(self, step, keys, inputs):
        self.config = Config(step)
        if any(schema != inputs[0] for schema in inputs):
            raise SchemaRefusal("the inputs have different columns")
        return GrouperPlan(inputs[0], [None] * len(inputs))

    def process(self, call, keys, inputs):
        config = self.config
        config.begin_call(sum(rows.n_rows for rows, _ in inputs))
        writer, group, n_rows = Writer(inputs[0][0].schema), [], 0
        for number in range(keys.n_rows):
            for rows, ends in inputs:
                start = ends[number - 1] if number else 0
                taken = [row for row in reversed(range(start, ends[number])) if not config.rejects(row)]
                config.append(rows.columns, taken, writer.builders)
                group += [number] * len(taken)
                n_rows += len(taken)
        rejected = [
            [(row, f"row {row} of input {index} is rejected") for row in range(rows.n_rows) if config.rejects(row)]
            for index, (rows, _) in enumerate(inputs)
        ]
        return GrouperOutput(writer.finish(n_rows), group, rejected)


@operator
class CountInState(Updater):
    """Counts rows, and keeps the last, as state."""

    def open(self, step, keys, values):
        self.config = config = Config(step)
        self.writes = behind([ROWS, TIMED_OUT], values)
        self.state = behind([ROWS], values)
        calling = "every-key" if config["every-key"] else "keys-with-values"
        return UpdaterPlan(self.state, self.writes, None, calling, config["timeouts"])

    def timeout(self, call):
        config = self.config
        if config["timeouts"] == "never" or config["timeout-us"] is None:
            return KEEP
        base = call.batch_time_us if config["timeouts"] == "batch-time" else call.watermark_us or 0
        return base + config["timeout-us"]

    def update(self, call, input):
        config = self.config
        config.begin_call(input.values.n_rows)
        state, rows, group = Writer(self.state), Writer(self.writes), []
        changes, timeouts, n_states, start = bytearray(), [], 0, 0
        counts = input.state["rows"].values
        kept_columns = input.state.columns[1:]

        def write(key, count, timed_out, columns, row):
            rows["rows"].append(count)
            rows["timed_out"].append(timed_out)
            config.append(columns, [row], rows.builders[2:])
            group.append(key)

        for key, end in enumerate(input.ends):
            kept = [row for row in range(start, end) if not config.rejects(row)]
            has_rows, start = end > start, end
            old = n_states if input.has_state[key] else None
            n_states += input.has_state[key]
            change, timeout = 0, KEEP
            if input.timed_out[key]:
                write(key, counts[old], True, kept_columns, old)
                change = 2
            elif kept:
                count = (counts[old] if old is not None else 0) + len(kept)
                write(key, count, False, input.values.columns, kept[-1])
                if config["remove-at"] is not None and count >= config["remove-at"]:
                    change = 2
                else:
                    change, timeout = 1, self.timeout(call)
                    state["rows"].append(count)
                    config.append(input.values.columns, kept[-1:], state.builders[1:])
            elif not has_rows and old is not None:
                write(key, counts[old], False, kept_columns, old)
            changes.append(change)
            timeouts.append(timeout)
        rejected = [(row, f"row {row} is rejected") for row in range(input.values.n_rows) if config.rejects(row)]
        return UpdaterOutput(
            bytes(changes),
            state.finish(),
            rows.finish(),
            group,
            None if config["timeouts"] == "never" else timeouts,
            rejected,
        )
