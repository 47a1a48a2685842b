"""The roles an operator can have, as the contract has them. Most operators are functions and need none of these.

Derive from one, and put `@operator` on the class, when the columns depend on the configuration or on the input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Optional, Sequence

from .batch import Batch, RawBatch
from .build import Builder, builder
from .errors import Failure
from .schema import Schema


@dataclass(frozen=True)
class Step:
    """Where an operator runs and how it is configured."""

    job: str = "test"
    step: str = "step"
    #: The job's default number of partitions.
    partitions: int = 1
    #: The step's `config`, as JSON.
    config: str = "{}"


@dataclass(frozen=True)
class Call:
    """What a call belongs to. The same rows always come with the same call."""

    batch_id: int = 0
    #: The batch's time in microseconds since 1970-01-01 UTC.
    batch_time_us: int = 0
    partition: int = 0
    #: 0 at the first attempt.
    attempt: int = 0
    #: Rows of this partition in the calls before this one; for a grouper and an updater, rows and keys.
    first_row: int = 0
    #: The event-time watermark in microseconds since 1970-01-01 UTC, when the job has one.
    watermark_us: Optional[int] = None


#: A row of the input that cannot be processed, by its index in the call, and why.
Rejection = tuple[int, str]


@dataclass
class TransformPlan:
    """What a transform reads, writes and carries."""

    writes: Schema
    #: The columns to send, in this order; `None` sends all.
    reads: Optional[list[str]] = None
    #: `"none"`, `"all"`, or the names of the columns that go along with a row without being sent.
    carries: str | list[str] = "none"


@dataclass
class TransformOutput:
    """What came of one call of a transform."""

    rows: RawBatch
    #: For each output row the input row it came from; `None`: row i came from row i.
    origin: Optional[Sequence[int]] = None
    rejected: list[Rejection] = field(default_factory=list)


class Writer:
    """Columns of a schema that are built: `writer["NAME"]` is a builder."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.builders: list[Builder] = [builder(column) for column in schema]
        self._by_name = dict(zip(schema.names, self.builders))

    def __getitem__(self, name: str) -> Builder:
        return self._by_name[name]

    def extend(self, rows: Sequence[dict[str, Any]]) -> None:
        """Appends rows that are dicts."""
        for name, column in self._by_name.items():
            column.extend([row[name] for row in rows])

    def finish(self, n_rows: Optional[int] = None) -> RawBatch:
        """The rows. Without a column there are `n_rows`."""
        lengths = {column.field.name: len(column) for column in self.builders}
        if len(set(lengths.values())) > 1:
            each = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
            raise Failure(f"the columns that were written are not of one length: {each}")
        raw = RawBatch(next(iter(lengths.values()), n_rows or 0), [], [])
        for column in self.builders:
            nodes, buffers = column.finish()
            raw.nodes += nodes  # type: ignore[operator]
            raw.buffers += buffers  # type: ignore[operator]
        return raw


class Transform:
    """map, flatMap, filter, mapPartitions: rows in, rows out."""

    role = "transform"

    def open(self, step: Step, input: Schema) -> TransformPlan:
        """Type-checks the step before any row flows. The same step and input always get the same plan."""
        raise NotImplementedError

    def process(self, call: Call, batch: Batch[Any]) -> TransformOutput:
        """Processes some rows of one partition of one batch: the columns that the plan reads."""
        raise NotImplementedError


class Reducer:
    """reduceByKey: combines rows into one of the same columns. Must be associative."""

    role = "reducer"

    def open(self, step: Step, values: Schema) -> bool:
        """Type-checks the step. Answers whether `invert` works."""
        raise NotImplementedError

    def reduce(self, call: Call, values: Batch[Any], ends: Sequence[int]) -> RawBatch:
        """One row a group; `ends[i]` is the exclusive end of group i among `values`. Groups are not empty."""
        raise NotImplementedError

    def invert(self, call: Call, whole: Batch[Any], part: Batch[Any]) -> RawBatch:
        """Whole minus part, row by row."""
        raise Failure("this reducer has no inverse")


@dataclass
class AggregatorPlan:
    """What an aggregator reads, keeps and gives."""

    accumulator: Schema
    result: Schema
    #: The columns to send; `None` sends all that are not keys.
    reads: Optional[list[str]] = None


class Aggregator:
    """combineByKey, aggregateByKey: rows into an accumulator, accumulators into a result. `merge` must be associative."""

    role = "aggregator"

    def open(self, step: Step, values: Schema) -> AggregatorPlan:
        """Type-checks the step."""
        raise NotImplementedError

    def accumulate(self, call: Call, values: Batch[Any], ends: Sequence[int]) -> RawBatch:
        """One accumulator a group of rows."""
        raise NotImplementedError

    def merge(self, call: Call, accumulators: Batch[Any], ends: Sequence[int]) -> RawBatch:
        """One accumulator a group of accumulators."""
        raise NotImplementedError

    def finish(self, call: Call, accumulators: Batch[Any]) -> RawBatch:
        """One result an accumulator."""
        raise NotImplementedError


@dataclass
class GrouperPlan:
    """What a grouper reads and writes."""

    writes: Schema
    #: For each input, the columns to send; `None` sends all that are not keys.
    reads: list[Optional[list[str]]]


@dataclass
class GrouperOutput:
    """What came of one call of a grouper."""

    rows: RawBatch
    #: For each output row the group it came from; never less than the one before.
    group: Sequence[int]
    #: For each input, its rows that cannot be processed. Empty when there are none at all.
    rejected: list[list[Rejection]] = field(default_factory=list)


class Grouper:
    """groupByKey, mapGroups with one input, cogroup with more: all rows of a key at once."""

    role = "grouper"

    def open(self, step: Step, keys: Schema, inputs: list[Schema]) -> GrouperPlan:
        """Type-checks the step."""
        raise NotImplementedError

    def process(
        self, call: Call, keys: Batch[Any], inputs: list[tuple[Batch[Any], Sequence[int]]]
    ) -> GrouperOutput:
        """Processes some groups: row i of `keys` is the key of group i. Each input has its rows and the groups' ends."""
        raise NotImplementedError


@dataclass
class UpdaterPlan:
    """What an updater reads, keeps and writes."""

    state: Schema
    writes: Schema
    #: The columns to send; `None` sends all that are not keys.
    reads: Optional[list[str]] = None
    #: `"keys-with-values"` or `"every-key"`.
    calling: str = "keys-with-values"
    #: `"never"`, `"batch-time"` or `"event-time"`.
    timeouts: str = "never"


@dataclass
class UpdaterInput:
    """Some keys, each with its new rows and its state."""

    keys: Batch[Any]
    values: Batch[Any]
    ends: Sequence[int]
    #: The state of the keys that have some, in the order of the keys.
    state: Batch[Any]
    #: One byte a key: 1 when it has state, or 0.
    has_state: bytes
    #: One byte a key: 1 when it timed out, or 0.
    timed_out: bytes


@dataclass
class UpdaterOutput:
    """What came of one call of an updater."""

    #: One byte a key: 0 keeps its state, 1 puts the next row of `state` in its place, 2 removes it and its timeout.
    changes: bytes
    state: RawBatch
    rows: RawBatch
    group: Sequence[int]
    #: When each key times out, in microseconds since 1970-01-01 UTC; 2**63 - 1 is never, and -2**63 leaves it as it is.
    timeouts_us: Optional[Sequence[int]] = None
    rejected: list[Rejection] = field(default_factory=list)


class Updater:
    """updateStateByKey, mapWithState, flatMapGroupsWithState: old state and new rows in, new state and rows out."""

    role = "updater"

    def open(self, step: Step, keys: Schema, values: Schema) -> UpdaterPlan:
        """Type-checks the step."""
        raise NotImplementedError

    def update(self, call: Call, input: UpdaterInput) -> UpdaterOutput:
        """Updates some keys."""
        raise NotImplementedError


ROLES = ("transform", "reducer", "aggregator", "grouper", "updater")


@dataclass(frozen=True)
class Operator:
    """An operator of a module: what a decorator makes of a function or a class, which stays as it is."""

    role: str
    name: str
    make: Callable[[], Any]


def mark(target: Any, operator: Operator) -> Any:
    """Notes on a function or a class which operator it is."""
    target.__tidemill__ = operator
    return target


def operator_of(target: Any) -> Operator:
    """The operator that a function or a class was decorated as."""
    found = getattr(target, "__tidemill__", None)
    if found is None:
        raise TypeError(f"`{getattr(target, '__name__', target)}` is not an operator: put `@operator` or the like on it")
    return found
