"""Reducers, aggregators and groupers of typed rows."""

from __future__ import annotations

import typing
from itertools import chain
from typing import Any, Callable, Generic, Iterator, Optional, Sequence, TypeVar

from .batch import Batch, RawBatch, RowReader, RowWriter
from .errors import Failure, Refusal, Reject, SchemaRefusal
from .hints import HintError, Row, row_of
from .output import GroupOutput, Output
from .role import (
    Aggregator,
    AggregatorPlan,
    Call,
    Grouper,
    GrouperOutput,
    GrouperPlan,
    Operator,
    Reducer,
    Step,
    mark,
)
from .schema import Schema
from .signature import Parameters, argument_of, extras, open_config, parameters_of

T = TypeVar("T")


class Groups(Batch[T]):
    """Some groups of rows, as columns: `groups.ends[i]` is the exclusive end of group i. For reducers and aggregators on
    whole columns; see `sum_by`, `min_by`, `max_by` and `count_by` of columns of numbers."""

    ends: Sequence[int]

    @classmethod
    def of(cls, batch: Batch[Any], ends: Sequence[int]) -> "Groups[Any]":
        """The rows of a batch, cut."""
        groups: Groups[Any] = cls.__new__(cls)
        groups.__dict__.update(batch.__dict__)
        groups.ends = ends
        return groups


class Rows(list[T]):
    """The rows of one key, in the order in which they came; a list that can also reject one of them."""

    def __init__(self, rows: Sequence[T], indices: Sequence[int], input: int, out: GroupOutput[Any]) -> None:
        super().__init__(rows)
        self._indices, self._input, self._out = indices, input, out

    def reject(self, index: int, reason: str) -> None:
        """Rejects the row at an index of this list. What was emitted for it before stays."""
        self._out.reject_rows(self._input, [self._indices[index]], str(reason))


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (list, Rows)


def all_rows(row: Row, batch: Batch[Any]) -> Iterator[Any]:
    """Every row of a batch in which a null that has no place is a failure: reducers and aggregators reject nothing."""
    reader = RowReader(row, batch)
    if reader.unreadable is not None:
        index = reader.unreadable.index(1)
        raise Failure(f"row {index}: {reader.reason(index)}")
    return chain.from_iterable(rows for _, rows in reader.blocks())


def reducer(target: Any = None, *, invert: Optional[Callable[..., Any]] = None) -> Any:
    """Makes a reducer of a function: `(a: Row, b: Row) -> Row`, or by columns `(groups: Groups[Row], out: Output[Row]) -> None`.

    Combines rows of a key into one, in any grouping: it must be associative. Its dataclass has all the columns that are not
    keys. `invert`, of the shape `(whole: Row, part: Row) -> Row`, lets a sliding window take away what has left it.
    """

    def decorate(function: Any) -> Any:
        parameters = parameters_of(function)
        annotation = parameters.rows[0][1]
        by_columns = typing.get_origin(annotation) is Groups
        row = row_of(argument_of(annotation, function.__name__) if by_columns else annotation)
        if not by_columns and len(parameters.rows) != 2:
            raise HintError(f"`{function.__name__}` takes two rows, or `groups: Groups[...]` and `out`")
        if by_columns and parameters.out is None:
            raise HintError(f"`{function.__name__}` has no parameter `out: Output[...]`")
        make = lambda: FunctionReducer(function, parameters, row, by_columns, invert)  # noqa: E731
        return mark(function, Operator("reducer", function.__name__, make))

    return decorate if target is None else decorate(target)


class FunctionReducer(Reducer):
    """A function as a reducer."""

    def __init__(
        self, function: Callable[..., Any], parameters: Parameters, row: Row, by_columns: bool, invert: Any
    ) -> None:
        self._function, self._parameters, self._row = function, parameters, row
        self._by_columns, self._invert = by_columns, invert
        self._takes = parameters_of(invert) if invert else None
        self._schema = Schema()
        self._config: Any = None

    def open(self, step: Step, values: Schema) -> bool:
        """Reads the configuration, and checks that the columns are those of the dataclass."""
        self._config = open_config(self._parameters, step.config)
        self._row.check(values)
        for field in values:
            if field.name not in self._row.names:
                raise SchemaRefusal(f"column `{field.name}` has no place in what is reduced: {self._row.schema()}")
        self._schema = values
        return self._invert is not None

    def reduce(self, call: Call, values: Batch[Any], ends: Sequence[int]) -> RawBatch:
        """Combines the rows of each group, from the first to the last."""
        writer = RowWriter(self._row, self._schema)
        arguments = extras(self._parameters, self._config, call, Output(writer))
        if self._by_columns:
            self._function(Groups.of(values.rename(self._row), ends), **arguments)
            return finish(writer, len(ends))
        rows, function, start = all_rows(self._row, values), self._function, 0
        for end in ends:
            combined = next(rows)
            for _ in range(start + 1, end):
                combined = function(combined, next(rows), **arguments)
            writer.append(combined)
            start = end
        return finish(writer, len(ends))

    def invert(self, call: Call, whole: Batch[Any], part: Batch[Any]) -> RawBatch:
        """Takes each part out of its whole."""
        if self._invert is None or self._takes is None:
            return super().invert(call, whole, part)
        writer = RowWriter(self._row, self._schema)
        arguments = extras(self._takes, self._config, call)
        for pair in zip(all_rows(self._row, whole), all_rows(self._row, part)):
            writer.append(self._invert(*pair, **arguments))
        return finish(writer, whole.n_rows)


def finish(writer: RowWriter, n_rows: int) -> RawBatch:
    """What was written, of which there must be a row a group."""
    rows = writer.finish(n_rows)
    if rows.rows != n_rows:
        raise Failure(f"it wrote {rows.rows} rows for {n_rows} groups")
    return rows


def aggregator(cls: Any) -> Any:
    """Makes an aggregator of a class.

    | method | |
    | --- | --- |
    | `__init__(self, config: Config)` | optional |
    | `start(self) -> Acc` | the accumulator of no rows |
    | `add(self, acc: Acc, row: In)` | adds a row: changes `acc`, or returns another |
    | `merge(self, acc: Acc, other: Acc)` | adds another accumulator, of rows that come after |
    | `finish(self, acc: Acc) -> Out` | the result |

    In the place of `add`, by columns and many times faster: `accumulate(self, groups: Groups[In], out: Output[Acc])`; of
    `merge`: `combine(self, groups: Groups[Acc], out: Output[Acc])`; of `finish`: `results(self, accs: Batch[Acc], out: Output[Out])`.
    """
    methods = {
        name: parameters_of(getattr(cls, name), is_method=True)
        for name in ("start", "add", "merge", "finish", "accumulate", "combine", "results")
        if hasattr(cls, name)
    }
    name = cls.__name__
    for one, other in (("add", "accumulate"), ("merge", "combine"), ("finish", "results")):
        if one not in methods and other not in methods:
            raise HintError(f"`{name}` has neither `{one}` nor `{other}`")
    if "start" not in methods and ("add" in methods or "merge" in methods):
        raise HintError(f"`{name}` has no `start`")
    # Once now, so that what is wrong with its types is said at once.
    ClassAggregator(cls, methods)
    make = lambda: ClassAggregator(cls, methods)  # noqa: E731
    return mark(cls, Operator("aggregator", name, make))


def config_of(cls: Any) -> Parameters:
    """The parameters of a class's constructor."""
    if cls.__init__ is object.__init__:
        return Parameters(cls.__name__)
    return parameters_of(cls.__init__, is_method=True)


class ClassAggregator(Aggregator):
    """A class as an aggregator."""

    def __init__(self, cls: Any, methods: dict[str, Parameters]) -> None:
        self._cls, self._methods = cls, methods
        if "accumulate" in methods:
            read = argument_of(methods["accumulate"].rows[0][1], "accumulate")
            kept = methods["accumulate"].out
        else:
            kept, read = methods["add"].rows[0][1], methods["add"].rows[1][1]
        self._input, self._accumulator = row_of(read), row_of(kept)
        self._result = row_of(methods["results"].out if "results" in methods else methods["finish"].returns)
        self._aggregate: Any = None

    def open(self, step: Step, values: Schema) -> AggregatorPlan:
        """Reads the configuration, and checks that the input has every column."""
        parameters = config_of(self._cls)
        config = open_config(parameters, step.config)
        self._aggregate = self._cls(**extras(parameters, config, None))
        self._input.check(values)
        return AggregatorPlan(self._accumulator.schema(), self._result.schema(), list(self._input.names))

    def accumulate(self, call: Call, values: Batch[Any], ends: Sequence[int]) -> RawBatch:
        """An accumulator a group of rows."""
        return self._fold("add", "accumulate", self._input, values, ends)

    def merge(self, call: Call, accumulators: Batch[Any], ends: Sequence[int]) -> RawBatch:
        """An accumulator a group of accumulators."""
        return self._fold("merge", "combine", self._accumulator, accumulators, ends)

    def _fold(self, by_row: str, by_columns: str, row: Row, batch: Batch[Any], ends: Sequence[int]) -> RawBatch:
        writer = RowWriter(self._accumulator)
        if by_columns in self._methods:
            getattr(self._aggregate, by_columns)(Groups.of(batch.rename(row), ends), Output(writer))
            return finish(writer, len(ends))
        rows, add, begin, start = all_rows(row, batch), getattr(self._aggregate, by_row), self._aggregate.start, 0
        for end in ends:
            accumulator = begin()
            for _ in range(start, end):
                changed = add(accumulator, next(rows))
                if changed is not None:
                    accumulator = changed
            writer.append(accumulator)
            start = end
        return finish(writer, len(ends))

    def finish(self, call: Call, accumulators: Batch[Any]) -> RawBatch:
        """A result an accumulator."""
        writer = RowWriter(self._result)
        if "results" in self._methods:
            self._aggregate.results(accumulators.rename(self._accumulator), Output(writer))
        else:
            for accumulator in all_rows(self._accumulator, accumulators):
                writer.append(self._aggregate.finish(accumulator))
        return finish(writer, accumulators.n_rows)


class Cut:
    """The rows of one input, cut into those of each key; those that cannot be read are rejected."""

    def __init__(self, row: Row, batch: Batch[Any], ends: Sequence[int], input: int) -> None:
        self._reader = RowReader(row, batch)
        self._rows = chain.from_iterable(rows for _, rows in self._reader.blocks())
        self._ends, self._input, self._start = ends, input, 0

    def next_group(self, key: int, out: GroupOutput[Any]) -> tuple[Rows[Any], range]:
        """The rows of the next key, and where they stand among all rows."""
        start, end = self._start, self._ends[key]
        self._start = end
        rows = [next(self._rows) for _ in range(start, end)]
        span = range(start, end)
        indices: Sequence[int] = span
        reader = self._reader
        if reader.unreadable is not None and 1 in reader.unreadable[start:end]:
            for index in span:
                if not reader.is_readable(index):
                    out.reject_rows(self._input, [index], reader.reason(index))
            indices = [index for index in span if reader.is_readable(index)]
            rows = [rows[index - start] for index in indices]
        return Rows(rows, indices, self._input, out), span


class Keys:
    """The keys of a call as dataclasses."""

    def __init__(self, row: Optional[Row], batch: Batch[Any]) -> None:
        self._row, self._reader = row, RowReader(row, batch) if row else None
        self._rows = self._reader.rows(0, batch.n_rows) if self._reader else None

    def get(self, index: int) -> Any:
        """A key; `None` where the operator does not look at it."""
        return self._rows[index] if self._rows is not None else None

    def why_unreadable(self, index: int) -> Optional[str]:
        """Why a key cannot be read, if it cannot."""
        if self._reader is None or self._reader.is_readable(index):
            return None
        return f"key {self._reader.reason(index)}"


def check_keys(row: Optional[Row], keys: Schema) -> None:
    """Checks that a step's keys have the columns that are read of them."""
    if row is not None:
        row.check(keys, "among the keys, ")


def check_values(row: Row, values: Schema, keys: Schema, where: str = "") -> list[str]:
    """Checks that an input has the columns that are read of it."""
    for name in row.names:
        if values.find(name) is None and keys.find(name) is not None:
            raise SchemaRefusal(f"{where}column `{name}` is a key of the step, and is expected not to be one")
    row.check(values, where)
    return list(row.names)


def grouper(function: Any) -> Any:
    """Makes a grouper of a function that gets all rows of a key at once.

    `(key: Key, rows: list[In], out: Output[Out]) -> None`, or `(rows: list[In]) -> Out`, `Optional[Out]`, `list[Out]`,
    `Iterator[Out]`. `key` may be left out. With two lists it groups two inputs: those of a key in both, of which one may be
    empty. With `Rows[In]` in the place of `list[In]` single rows can be rejected; `raise Reject("why")` rejects all rows of the
    key. `config` and `call` may stand behind them.
    """
    from .operator import _shape

    parameters = parameters_of(function)
    lists = [(name, row_of(typing.get_args(annotation)[0])) for name, annotation in parameters.rows if _is_list(annotation)]
    others = [(name, annotation) for name, annotation in parameters.rows if not _is_list(annotation)]
    if not lists or len(others) > 1:
        raise HintError(f"`{function.__name__}` takes a key at most, and the rows: `rows: list[Row]`")
    key = row_of(others[0][1]) if others else None
    shape, out = _shape(parameters, is_batch=False)
    if shape == "filter":
        raise HintError(f"`{function.__name__}` returns `bool`, and a grouper writes rows")
    written = row_of(out)
    written.schema()
    name = others[0][0] if others else None
    make = lambda: FunctionGrouper(function, parameters, name, key, lists, shape, written)  # noqa: E731
    return mark(function, Operator("grouper", function.__name__, make))


def emit(shape: str, result: Any, out: GroupOutput[Any]) -> None:
    """Appends what a function returned."""
    if shape == "flat":
        out.extend(result)
    elif shape == "map" or (shape == "option" and result is not None):
        out.append(result)


class FunctionGrouper(Grouper):
    """A function as a grouper."""

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Parameters,
        key_name: Optional[str],
        key: Optional[Row],
        inputs: list[tuple[str, Row]],
        shape: str,
        written: Row,
    ) -> None:
        self._function, self._parameters, self._shape, self._written = function, parameters, shape, written
        self._key_name, self._key, self._inputs = key_name, key, inputs
        self._config: Any = None

    def open(self, step: Step, keys: Schema, inputs: list[Schema]) -> GrouperPlan:
        """Reads the configuration, and checks keys and inputs."""
        n_expected = len(self._inputs)
        if len(inputs) != n_expected:
            expected = "one input" if n_expected == 1 else f"{n_expected} inputs"
            raise Refusal(f"it groups {expected}, and the step has {len(inputs)}")
        self._config = open_config(self._parameters, step.config)
        check_keys(self._key, keys)
        where = [""] if n_expected == 1 else [f"in input `{name}`, " for name, _ in self._inputs]
        reads: list[Optional[list[str]]] = [
            check_values(row, schema, keys, text) for (_, row), schema, text in zip(self._inputs, inputs, where)
        ]
        return GrouperPlan(self._written.schema(), reads)

    def process(self, call: Call, keys: Batch[Any], inputs: list[tuple[Batch[Any], Sequence[int]]]) -> GrouperOutput:
        """Calls the function for each key."""
        out: GroupOutput[Any] = GroupOutput(RowWriter(self._written), len(inputs))
        arguments = extras(self._parameters, self._config, call, out)
        cuts = [Cut(row, batch, ends, n) for n, ((_, row), (batch, ends)) in enumerate(zip(self._inputs, inputs))]
        key_rows, names = Keys(self._key, keys), [name for name, _ in self._inputs]
        for index in range(keys.n_rows):
            out.begin(index)
            groups = [cut.next_group(index, out) for cut in cuts]
            why = key_rows.why_unreadable(index)
            if why is None and any(rows for rows, _ in groups):
                if self._key_name:
                    arguments[self._key_name] = key_rows.get(index)
                arguments.update(zip(names, (rows for rows, _ in groups)))
                try:
                    result = self._function(**arguments)
                    emit(self._shape, list(result) if self._shape == "flat" else result, out)
                except Reject as reject:
                    why = str(reject)
            if why is not None:
                for number, (_, span) in enumerate(groups):
                    out.reject_rows(number, span, why)
        out.settle()
        rows = out._writer.finish(len(out.group))
        return GrouperOutput(rows, out.group, out.rejections())
