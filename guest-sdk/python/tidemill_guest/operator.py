"""Transforms: functions of a row, or of a whole batch."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from array import array
from itertools import compress
from typing import Any, Callable, Optional, Sequence

from . import role as roles
from .batch import Batch, RawBatch, RowReader, RowWriter
from .errors import Failure, Reject, SchemaRefusal
from .hints import HintError, row_of
from .output import Output
from .role import Call, Operator, Step, Transform, TransformOutput, TransformPlan, mark
from .schema import Schema
from .signature import Parameters, argument_of, extras, open_config, parameters_of

_FLAT = (list, collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator, collections.abc.Sequence)


def operator(target: Any = None, *, carry: str | Sequence[str] = "none") -> Any:
    """Makes an operator of a function on rows or batches: a transform. On a class that derives from a role, makes that.

    | function | it is |
    | --- | --- |
    | `(row: In) -> Out` | map |
    | `(row: In) -> bool` | filter: writes nothing, carries every column along |
    | `(row: In) -> Optional[Out]`, `list[Out]`, `Iterator[Out]` | flat-map |
    | `(row: In, out: Output[Out]) -> None` | flat-map that emits as it goes |
    | `(batch: Batch[In], out: Output[Out]) -> None` | a whole batch at once, by columns: the fastest |
    | `(batch: Batch[In]) -> bytes` | filter by columns: a byte a row, 1 to keep it or 0 |

    After the rows a function may take `config`, whose type is a dataclass, and `call: Call`. `raise Reject("why")` rejects a
    row; any other exception fails the call. `carry` is `"none"`, `"all"` (what a filter does) or names of columns.
    """

    def decorate(target: Any) -> Any:
        if inspect.isclass(target):
            kind = getattr(target, "role", None)
            if kind not in roles.ROLES:
                raise HintError(f"`{target.__name__}` derives from no role: Transform, Reducer, Aggregator, Grouper, Updater")
            return mark(target, Operator(kind, target.__name__, target))
        make = _plan_function(target, carry)
        return mark(target, Operator("transform", target.__name__, make))

    return decorate if target is None else decorate(target)


def _plan_function(function: Callable[..., Any], carry: str | Sequence[str]) -> Callable[[], Transform]:
    name = function.__name__
    parameters = parameters_of(function)
    if len(parameters.rows) != 1:
        raise HintError(f"`{name}` takes one row, or one batch; beside it `config`, `call` and `out`")
    _, annotation = parameters.rows[0]
    is_batch = annotation is Batch or typing.get_origin(annotation) is Batch
    row = row_of(argument_of(annotation, name) if is_batch else annotation)
    shape, out = _shape(parameters, is_batch)
    if shape == "filter" and carry == "none":
        carry = "all"
    written = row_of(out) if out is not None else None
    if written is not None:
        # What is written must have a type: said now, and not when the step is opened.
        written.schema()
    return lambda: FunctionTransform(function, parameters, row, is_batch, shape, written, carry)


def _shape(parameters: Parameters, is_batch: bool) -> tuple[str, Any]:
    returns = parameters.returns
    origin, arguments = typing.get_origin(returns), typing.get_args(returns)
    if parameters.out is not None:
        if returns not in (None, type(None)):
            raise HintError(f"`{parameters.name}` emits to `out`, and so returns `None`")
        return "emit", parameters.out
    if is_batch:
        if returns is bytes:
            return "filter", None
        raise HintError(f"`{parameters.name}`: a function of a batch emits to `out: Output[...]`, or returns `bytes`, a flag a row")
    if returns is bool:
        return "filter", None
    if origin in _FLAT:
        return "flat", arguments[0]
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) == 1:
            return "option", inner[0]
    if inspect.isclass(returns) and returns is not type(None):
        return "map", returns
    raise HintError(f"`{parameters.name}` does not say what it returns: a dataclass, a list of them, `bool`")


def is_identity(origin: Sequence[int], n_rows: int) -> bool:
    """Whether every row of the input has come through once, in its place."""
    return len(origin) == n_rows and array("I", origin) == array("I", range(n_rows))


class FunctionTransform(Transform):
    """A function as a transform."""

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Parameters,
        row: Any,
        is_batch: bool,
        shape: str,
        written: Any,
        carry: Any,
    ) -> None:
        self._function, self._parameters = function, parameters
        self._row, self._is_batch, self._shape, self._written = row, is_batch, shape, written
        self._carry = carry if isinstance(carry, str) else list(carry)
        self._config: Any = None

    def open(self, step: Step, input: Schema) -> TransformPlan:
        """Reads the configuration, and checks that the input has every column."""
        self._config = open_config(self._parameters, step.config)
        self._row.check(input)
        if not isinstance(self._carry, str):
            missing = next((name for name in self._carry if input.find(name) is None), None)
            if missing is not None:
                raise SchemaRefusal(f"column `{missing}`, which is to be carried, is missing")
        writes = self._written.schema() if self._written else Schema()
        return TransformPlan(writes, list(self._row.names), self._carry)

    def process(self, call: Call, batch: Batch[Any]) -> TransformOutput:
        """Processes the rows as the function's shape says."""
        if batch.n_rows == 0:
            return TransformOutput(RawBatch(0))
        if self._shape == "filter":
            return self._filter(call, batch)
        keeps_origin = self._carry != "none"
        out: Output[Any] = Output(RowWriter(self._written), keeps_origin and not self._is_batch)
        arguments = extras(self._parameters, self._config, call, out)
        if self._is_batch:
            self._function(batch.rename(self._row), **arguments)
        else:
            self._rows(batch, out, arguments)
        # Whoever writes whole columns may count on one row out a row in.
        rows = out._writer.finish()
        origin: Optional[Sequence[int]] = None
        if keeps_origin:
            origin = out.origin
            if len(origin) != rows.rows:
                if self._is_batch and not origin and rows.rows == batch.n_rows:
                    origin = None
                else:
                    raise Failure(
                        f"a function of a whole batch that carries columns says which row each comes from: `append_from`, or "
                        f"`out.origin`, which has {len(origin)} numbers for {rows.rows} rows"
                    )
            elif is_identity(origin, batch.n_rows):
                origin = None
            if origin is None and rows.rows != batch.n_rows:
                origin = out.origin
        return TransformOutput(rows, origin, out.rejected)

    def _rows(self, batch: Batch[Any], out: Output[Any], arguments: dict[str, Any]) -> None:
        reader, function, shape = RowReader(self._row, batch), self._function, self._shape
        for start, rows in reader.blocks():
            for index, row in enumerate(rows, start):
                if reader.unreadable is not None and not reader.is_readable(index):
                    out.reject(index, reader.reason(index))
                    continue
                out._current = index
                try:
                    result = function(row, **arguments)
                    if shape == "flat":
                        # All of them before the first is emitted: a row that is rejected leaves nothing.
                        result = list(result)
                except Reject as reject:
                    out.reject(index, str(reject))
                    continue
                if shape == "map":
                    out.append(result)
                elif shape == "flat":
                    out.extend(result)
                elif result is not None:
                    out.append(result)

    def _filter(self, call: Call, batch: Batch[Any]) -> TransformOutput:
        arguments = extras(self._parameters, self._config, call)
        if self._is_batch:
            flags = self._function(batch.rename(self._row), **arguments)
            if len(flags) != batch.n_rows:
                raise Failure(f"it returned {len(flags)} flags for {batch.n_rows} rows")
            kept = list(compress(range(batch.n_rows), flags))
            rejected: list[tuple[int, str]] = []
        else:
            kept, rejected = self._kept_rows(batch, arguments)
        origin = None if len(kept) == batch.n_rows else kept
        return TransformOutput(RawBatch(len(kept)), origin, rejected)

    def _kept_rows(self, batch: Batch[Any], arguments: dict[str, Any]) -> tuple[list[int], list[tuple[int, str]]]:
        reader, function = RowReader(self._row, batch), self._function
        kept, rejected = [], []
        for start, rows in reader.blocks():
            for index, row in enumerate(rows, start):
                if not reader.is_readable(index):
                    rejected.append((index, reader.reason(index)))
                    continue
                try:
                    if function(row, **arguments):
                        kept.append(index)
                except Reject as reject:
                    rejected.append((index, str(reject)))
        return kept, rejected
