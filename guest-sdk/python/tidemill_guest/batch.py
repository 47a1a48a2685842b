"""Batches: rows as they cross the boundary, and the same as columns and as dataclasses."""

from __future__ import annotations

from typing import Any, Generic, Iterator, Optional, Sequence, TypeVar

from .build import Builder, builder
from .column import Column, Parts, empty
from .errors import Failure
from .hints import Row, row_of
from .schema import Schema

T = TypeVar("T")

# Rows that are Python objects at one time: few enough to leave the instance its memory.
ROWS_AT_ONCE = 1024


class RawBatch:
    """Rows as nodes and buffers, in the order of the contract."""

    __slots__ = ("rows", "nodes", "buffers")

    def __init__(self, rows: int, nodes: Sequence[tuple[int, int]] = (), buffers: Sequence[bytes] = ()) -> None:
        self.rows = rows
        self.nodes = nodes
        self.buffers = buffers


class Batch(Generic[T]):
    """Some rows of a partition, as columns: `batch.NAME`, or `batch["NAME"]` for a name that is no attribute.

    As an annotation, `Batch[Line]` has the columns of the dataclass `Line`.
    """

    def __init__(self, schema: Schema, raw: RawBatch) -> None:
        self.schema = schema
        #: How many rows.
        self.n_rows = raw.rows
        # A batch without rows may have neither nodes nor buffers.
        if raw.rows == 0:
            columns = [empty(field) for field in schema]
        else:
            parts = Parts(raw.nodes, raw.buffers)
            columns = [parts.column(field) for field in schema]
        #: The columns, in the schema's order.
        self.columns: list[Column] = columns
        self._by_name = {column.field.name: column for column in columns}

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, name: str) -> Column:
        return self._by_name[name]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_by_name"][name]
        except KeyError:
            raise AttributeError(f"there is no column `{name}`, but {self.schema}") from None

    def rename(self, row: Row) -> "Batch[T]":
        """Has the columns of a dataclass under the names of its attributes too."""
        for name, attribute in zip(row.names, row.attributes):
            self._by_name.setdefault(attribute, self._by_name[name])
        return self

    def to_dicts(self) -> list[dict[str, Any]]:
        """The rows as dicts."""
        names = self.schema.names
        if not names:
            return [{} for _ in range(self.n_rows)]
        return [dict(zip(names, row)) for row in zip(*(column.to_list() for column in self.columns))]


class RowReader:
    """The rows of a batch as dataclasses, some at a time."""

    def __init__(self, row: Row, batch: Batch[Any]) -> None:
        self.row = row
        self.n_rows = batch.n_rows
        self._columns = [batch[name] for name in row.names]
        #: A byte a row: 1 when it has a null that has no place. `None` when none has.
        self.unreadable: Optional[bytes] = None
        self._reasons: list[tuple[str, Optional[bytes]]] = []
        for name, hint, column in zip(row.names, row.hints, self._columns):
            nulls = hint.misplaced_nulls(column)
            if nulls is not None:
                self._reasons.append((name, nulls))
                self.unreadable = nulls if self.unreadable is None else bytes(map(int.__or__, self.unreadable, nulls))

    def is_readable(self, index: int) -> bool:
        """Whether a row has no null that has no place."""
        return self.unreadable is None or not self.unreadable[index]

    def reason(self, index: int) -> str:
        """Why a row is not readable."""
        name = next((name for name, nulls in self._reasons if nulls and nulls[index]), "?")
        return f"column `{name}` is null"

    def rows(self, start: int, stop: int) -> list[Any]:
        """The rows from `start` to before `stop`. One that is not readable has `None` where there is no place for it."""
        if not self._columns:
            return [self.row.cls() for _ in range(stop - start)]
        try:
            values = [hint.decode(column, start, stop) for hint, column in zip(self.row.hints, self._columns)]
        except (ValueError, OverflowError) as error:
            raise Failure(f"rows {start} to {stop} cannot be read: {error}") from error
        return list(map(self.row.cls, *values))

    def blocks(self) -> Iterator[tuple[int, list[Any]]]:
        """All rows, block by block, each with the number of its first row."""
        for start in range(0, self.n_rows, ROWS_AT_ONCE):
            yield start, self.rows(start, min(start + ROWS_AT_ONCE, self.n_rows))


class RowWriter:
    """Columns that are built of dataclasses, or each by itself."""

    def __init__(self, row: Row, schema: Optional[Schema] = None) -> None:
        self.schema = schema or row.schema()
        hints = dict(zip(row.names, zip(row.attributes, row.hints)))
        self.builders: list[Builder] = []
        self._attributes: list[str] = []
        for field in self.schema:
            attribute, hint = hints[field.name]
            column = builder(field)
            row.shape(column, hint)
            self.builders.append(column)
            self._attributes.append(attribute)
        self.by_attribute = dict(zip(self._attributes, self.builders))
        self._waiting: list[Any] = []
        self._n_rows = 0
        self._cls = row.cls

    def append(self, row: Any) -> None:
        """Appends a row."""
        self._waiting.append(row)
        if len(self._waiting) >= ROWS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Has the columns take what was appended."""
        waiting = self._waiting
        if not waiting:
            return
        self._n_rows += len(waiting)
        try:
            for attribute, column in zip(self._attributes, self.builders):
                column.extend([getattr(row, attribute) for row in waiting])
        except AttributeError as error:
            raise Failure(f"a `{self._cls.__name__}` was expected: {error}") from error
        waiting.clear()

    def __len__(self) -> int:
        # Columns may be longer than what was appended row by row: then they are what was written.
        lengths = [len(column) for column in self.builders]
        return (max(lengths) if lengths else self._n_rows) + len(self._waiting)

    def finish(self, n_rows: Optional[int] = None) -> RawBatch:
        """The rows. Without a column there are `n_rows`."""
        self.flush()
        lengths = {column.field.name: len(column) for column in self.builders}
        if len(set(lengths.values())) > 1:
            each = ", ".join(f"`{name}` {length}" for name, length in lengths.items())
            raise Failure(f"the columns that were written are not of one length: {each}")
        total = next(iter(lengths.values()), self._n_rows if n_rows is None else n_rows)
        nodes: list[tuple[int, int]] = []
        buffers: list[bytes] = []
        for column in self.builders:
            more_nodes, more_buffers = column.finish()
            nodes += more_nodes
            buffers += more_buffers
        return RawBatch(total, nodes, buffers)


def rows_to_batch(cls: Any, rows: Sequence[Any]) -> tuple[Schema, RawBatch]:
    """Dataclasses as a batch: for tests."""
    row = row_of(cls)
    writer = RowWriter(row)
    for value in rows:
        writer.append(value)
    return writer.schema, writer.finish(len(rows))
