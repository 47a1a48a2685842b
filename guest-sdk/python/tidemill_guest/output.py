"""What an operator writes to: rows one by one, or whole columns."""

from __future__ import annotations

from array import array
from typing import Any, Generic, Iterable, Optional, TypeVar

from .batch import RowWriter
from .build import Builder
from .role import Rejection

T = TypeVar("T")


class Output(Generic[T]):
    """Takes what is emitted. As an annotation, `Output[Word]` takes rows that are `Word`.

    `out.append(row)` appends a row. `out.NAME` is the builder of a column: `out.word.extend([...])` appends many values at
    once, which is many times faster. Write rows, or columns, not both in one call.
    """

    def __init__(self, writer: RowWriter, keeps_origin: bool = False) -> None:
        self._writer = writer
        self._current: Optional[int] = None
        self._keeps_origin = keeps_origin
        #: For an operator on whole batches that carries columns: for each output row, the input row that it comes from.
        self.origin: array[int] = array("I")
        self.rejected: list[Rejection] = []

    def append(self, row: T) -> None:
        """Emits a row. In a function of one row it comes from that row."""
        if self._keeps_origin and self._current is not None:
            self.origin.append(self._current)
        self._writer.append(row)

    def extend(self, rows: Iterable[T]) -> None:
        """Emits rows."""
        for row in rows:
            self.append(row)

    def append_from(self, origin: int, row: T) -> None:
        """Emits a row that comes from row `origin` of the batch: for functions of whole batches that carry columns."""
        self.origin.append(origin)
        self._writer.append(row)

    def reject(self, row: int, reason: str) -> None:
        """Rejects a row of the batch, by its index. What was emitted for it before stays."""
        self.rejected.append((row, str(reason)))

    def __getattr__(self, name: str) -> Builder:
        try:
            return self.__dict__["_writer"].by_attribute[name]
        except KeyError:
            raise AttributeError(f"there is no column `{name}` in what is written") from None

    def __getitem__(self, name: str) -> Builder:
        writer = self._writer
        return next(column for column in writer.builders if column.field.name == name)


class GroupOutput(Output[T]):
    """Takes what is emitted for keys. The host adds the key's columns to each row."""

    def __init__(self, writer: RowWriter, n_inputs: int) -> None:
        super().__init__(writer)
        self.group: array[int] = array("I")
        self._key = 0
        self._n_columns_rows = 0
        self.rejected_by_input: list[list[Rejection]] = [[] for _ in range(n_inputs)]

    def begin(self, key: int) -> None:
        """Says for which key it is from now on."""
        self.settle()
        self._key = key

    def append(self, row: T) -> None:
        """Emits a row for the key."""
        self.group.append(self._key)
        self._writer.append(row)

    def settle(self) -> None:
        """Counts the rows that were written as columns to the key that they are of."""
        n_new = len(self._writer) - len(self.group)
        if n_new > 0:
            self.group.extend([self._key] * n_new)

    def reject_rows(self, input: int, rows: Iterable[int], reason: str) -> None:
        """Rejects rows of an input."""
        self.rejected_by_input[input].extend((row, reason) for row in rows)

    def rejections(self) -> list[list[Rejection]]:
        """What was rejected, each row once with its first reason."""
        unique = []
        for rejected in self.rejected_by_input:
            first: dict[int, str] = {}
            for row, reason in rejected:
                first.setdefault(row, reason)
            unique.append(sorted(first.items()))
        return unique
