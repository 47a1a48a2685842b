"""Columns of a batch, read in place: the buffers are the bytes that crossed the boundary, and views of them."""

from __future__ import annotations

import datetime
import decimal
from array import array
from itertools import chain, compress, pairwise
from typing import Any, Iterator, Optional, Sequence

from . import bits, text
from .schema import DataType, Field

_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# As wide as the widest decimal: nothing is rounded.
DECIMALS = decimal.Context(prec=60)


class Column:
    """One column. Every kind has its length, its nulls, and its values one by one or as a list."""

    def __init__(self, field: Field, length: int, null_count: int, validity: bytes) -> None:
        self.field = field
        self.length = length
        #: How many values are null.
        self.null_count = null_count
        #: One bit a value; empty when none is null.
        self.validity = validity

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_list())

    def __getitem__(self, index: int) -> Any:
        if index < 0:
            index += self.length
        if not 0 <= index < self.length:
            raise IndexError(f"column `{self.field.name}` has {self.length} values, and none at {index}")
        return self.to_list(index, index + 1)[0]

    def is_null(self, index: int) -> bool:
        """Whether the value at `index` is null."""
        return self.null_count > 0 and not (self.validity[index >> 3] >> (index & 7)) & 1

    def valid(self, start: int = 0, stop: Optional[int] = None) -> bytes:
        """A byte a value: 0 when it is null, or 1."""
        stop = self.length if stop is None else stop
        return bits.unpack(self.validity, start, stop) if self.null_count else b"\x01" * (stop - start)

    def valid_at(self, indices: Sequence[int]) -> bytes:
        """A byte a place: 0 when the value there is null, or 1."""
        if not self.null_count:
            return b"\x01" * len(indices)
        return _at(self.validity, self.length, indices)

    def to_list(self, start: int = 0, stop: Optional[int] = None) -> list[Any]:
        """The values from `start` to before `stop`, `None` where one is null."""
        stop = self.length if stop is None else stop
        values = self._values(start, stop)
        if not self.null_count:
            return values
        valid = self.valid(start, stop)
        return [value if is_valid else None for value, is_valid in zip(values, valid)]

    def _values(self, start: int, stop: int) -> list[Any]:
        """The values, with anything in the place of nulls."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.field.name}: {self.field.type_text()}, {self.length} values, {self.null_count} null>"


def _at(packed: bytes, length: int, indices: Sequence[int]) -> bytes:
    if 8 * len(indices) < length:
        return bytes([(packed[index >> 3] >> (index & 7)) & 1 for index in indices])
    flags = bits.unpack(packed, 0, length)
    return bytes([flags[index] for index in indices])


class NullColumn(Column):
    """A column of nulls, of which no bit says so."""

    def is_null(self, index: int) -> bool:
        """True."""
        return True

    def valid(self, start: int = 0, stop: Optional[int] = None) -> bytes:
        """A 0 a value."""
        return bytes((self.length if stop is None else stop) - start)

    def to_list(self, start: int = 0, stop: Optional[int] = None) -> list[Any]:
        """A `None` a value."""
        return [None] * ((self.length if stop is None else stop) - start)


class BooleanColumn(Column):
    """A column of true and false."""

    def __init__(self, field: Field, length: int, null_count: int, validity: bytes, bits_: bytes) -> None:
        super().__init__(field, length, null_count, validity)
        #: One bit a value.
        self.bits = bits_

    def flags(self, start: int = 0, stop: Optional[int] = None) -> bytes:
        """A byte a value, 0 or 1: for `itertools.compress`."""
        return bits.unpack(self.bits, start, self.length if stop is None else stop)

    def flags_at(self, indices: Sequence[int]) -> bytes:
        """A byte a place, 0 or 1."""
        return _at(self.bits, self.length, indices)

    def _values(self, start: int, stop: int) -> list[bool]:
        return list(map(bool, self.flags(start, stop)))


class NumberColumn(Column):
    """A column of numbers; of days since 1970 for dates, of units since 1970 for times, of units for durations."""

    def __init__(self, field: Field, length: int, null_count: int, validity: bytes, data: bytes) -> None:
        super().__init__(field, length, null_count, validity)
        #: The numbers, without a copy. What stands in the place of a null means nothing.
        self.values: Sequence[Any] = memoryview(data).cast(field.data_type.format or "B")
        self.data = data

    def present(self) -> Sequence[Any]:
        """The numbers that are not null."""
        return list(compress(self.values, self.valid())) if self.null_count else self.values

    def sum_by(self, ends: Sequence[int]) -> list[Any]:
        """The sum of each group; `ends[i]` is the exclusive end of group i. Nulls count as 0."""
        return [sum(group) for group in self._groups(ends)]

    def min_by(self, ends: Sequence[int]) -> list[Any]:
        """The least number of each group; `None` where all are null."""
        return [min(group, default=None) for group in self._groups(ends)]

    def max_by(self, ends: Sequence[int]) -> list[Any]:
        """The largest number of each group; `None` where all are null."""
        return [max(group, default=None) for group in self._groups(ends)]

    def count_by(self, ends: Sequence[int]) -> list[int]:
        """How many numbers of each group are not null."""
        return [len(group) for group in self._groups(ends)]

    def _groups(self, ends: Sequence[int]) -> Iterator[Sequence[Any]]:
        values = self.values
        spans = pairwise(chain((0,), ends))
        if not self.null_count:
            return (values[start:end] for start, end in spans)
        valid = self.valid()
        return (list(compress(values[start:end], valid[start:end])) for start, end in spans)

    def _values(self, start: int, stop: int) -> list[Any]:
        return list(self.values[start:stop])


class DateColumn(NumberColumn):
    """A column of days since 1970-01-01; `objects` are dates."""

    def objects(self, start: int, stop: int) -> list[datetime.date]:
        """The values from `start` to before `stop` as dates, `None` where one is null."""
        days = self.values[start:stop]
        valid = self.valid(start, stop)
        from_ordinal = datetime.date.fromordinal
        return [from_ordinal(day + _EPOCH_DAY) if ok else None for day, ok in zip(days, valid)]


class TimestampColumn(NumberColumn):
    """A column of times, in units since 1970-01-01 UTC; `objects` are datetimes in UTC."""

    def objects(self, start: int, stop: int) -> list[datetime.datetime]:
        """The values from `start` to before `stop` as datetimes in UTC, `None` where one is null."""
        per_second = _PER_SECOND[self.field.data_type.unit]
        delta = datetime.timedelta
        valid = self.valid(start, stop)
        return [
            _EPOCH + delta(microseconds=value * 1_000_000 // per_second) if ok else None
            for value, ok in zip(self.values[start:stop], valid)
        ]


class DurationColumn(NumberColumn):
    """A column of lengths of time, in units; `objects` are timedeltas."""

    def objects(self, start: int, stop: int) -> list[datetime.timedelta]:
        """The values from `start` to before `stop` as timedeltas, `None` where one is null."""
        per_second = _PER_SECOND[self.field.data_type.unit]
        delta = datetime.timedelta
        valid = self.valid(start, stop)
        return [
            delta(microseconds=value * 1_000_000 // per_second) if ok else None
            for value, ok in zip(self.values[start:stop], valid)
        ]


class DecimalColumn(Column):
    """A column of decimal numbers."""

    def __init__(self, field: Field, length: int, null_count: int, validity: bytes, data: bytes) -> None:
        super().__init__(field, length, null_count, validity)
        self.data = data

    def unscaled(self, start: int = 0, stop: Optional[int] = None) -> list[int]:
        """The numbers times 10 to the power of the scale."""
        stop = self.length if stop is None else stop
        view = memoryview(self.data)[16 * start : 16 * stop]
        low, high = view.cast("Q")[0::2], view.cast("q")[1::2]
        return [(h << 64) | l for l, h in zip(low, high)]

    def _values(self, start: int, stop: int) -> list[decimal.Decimal]:
        exponent = -self.field.data_type.scale
        scaleb = DECIMALS.scaleb
        return [scaleb(decimal.Decimal(value), exponent) for value in self.unscaled(start, stop)]


class FixedSizeBinaryColumn(Column):
    """A column of bytes, as many in every value."""

    def __init__(self, field: Field, length: int, null_count: int, validity: bytes, data: bytes) -> None:
        super().__init__(field, length, null_count, validity)
        self.data = data

    def _values(self, start: int, stop: int) -> list[bytes]:
        width, data = self.field.data_type.width, self.data
        return [data[width * index : width * (index + 1)] for index in range(start, stop)]


class BinaryColumn(Column):
    """A column of bytes: where each value ends, and all of them in one piece."""

    def __init__(
        self, field: Field, length: int, null_count: int, validity: bytes, offsets: bytes, data: bytes
    ) -> None:
        super().__init__(field, length, null_count, validity)
        #: `offsets[i]` to `offsets[i + 1]` is where value i stands in `data`.
        self.offsets: Sequence[int] = memoryview(offsets).cast("i") if length else array("i", [0])
        #: The values, one behind the other.
        self.data = data

    def to_bytes(self, start: int = 0, stop: Optional[int] = None) -> list[bytes]:
        """The values as bytes; those that are null are empty, or anything."""
        stop = self.length if stop is None else stop
        data, spans = self.data, pairwise(self.offsets[start : stop + 1])
        return [data[begin:end] for begin, end in spans]

    def lengths(self) -> list[int]:
        """How many bytes each value has."""
        return [end - start for start, end in pairwise(self.offsets)]

    def _values(self, start: int, stop: int) -> list[Any]:
        return self.to_bytes(start, stop)


class Utf8Column(BinaryColumn):
    """A column of text. Work on whole columns is many times faster than on a `str` a row."""

    def _values(self, start: int, stop: int) -> list[str]:
        spans = pairwise(self.offsets[start : stop + 1])
        begin, end = self.offsets[start], self.offsets[stop]
        piece = self.data[begin:end]
        if piece.isascii():
            # Characters are bytes: one decoding for all.
            whole = piece.decode("ascii")
            return [whole[a - begin : b - begin] for a, b in spans]
        return [piece[a - begin : b - begin].decode() for a, b in spans]

    def lower(self) -> "Utf8Column":
        """The same texts in lower case."""
        return text.map_text(self, str.lower)

    def upper(self) -> "Utf8Column":
        """The same texts in upper case."""
        return text.map_text(self, str.upper)

    def replace(self, old: str, new: str) -> "Utf8Column":
        """The same texts with `new` wherever `old` stands."""
        return text.map_values(self, lambda value: value.replace(old, new))

    def split_words(self, unicode: bool = False) -> "text.Pieces":
        """The words of each text: what stands between white space, which is ASCII's (space, tab, line feed, form feed and
        carriage return), or with `unicode` all of Unicode's."""
        return text.split_words(self, unicode)

    def split(self, separator: str) -> "text.Pieces":
        """The pieces of each text between separators; empty ones too, as of `str.split`."""
        return text.split(self, separator)

    def contains(self, needle: str) -> bytes:
        """A byte a value: 1 where `needle` stands in it, or 0."""
        return text.contains(self, needle)

    def starts_with(self, prefix: str) -> bytes:
        """A byte a value: 1 where it starts with `prefix`, or 0."""
        sought = prefix.encode()
        values = zip(self.to_bytes(), self.valid())
        return bytes([bool(is_valid) and value.startswith(sought) for value, is_valid in values])


class ListColumn(Column):
    """A column of lists: where each ends, and the items of all of them as one column."""

    def __init__(
        self, field: Field, length: int, null_count: int, validity: bytes, offsets: bytes, items: Column
    ) -> None:
        super().__init__(field, length, null_count, validity)
        #: `offsets[i]` to `offsets[i + 1]` is where list i stands in `items`.
        self.offsets: Sequence[int] = memoryview(offsets).cast("i") if length else array("i", [0])
        #: The items of all lists.
        self.items = items

    def _values(self, start: int, stop: int) -> list[Any]:
        begin, end = self.offsets[start], self.offsets[stop]
        items = self.items.to_list(begin, end)
        return [items[a - begin : b - begin] for a, b in pairwise(self.offsets[start : stop + 1])]


class MapColumn(ListColumn):
    """A column of maps. Its values are lists of pairs of key and value: a key may stand there twice."""

    items: "StructColumn"

    @property
    def keys(self) -> Column:
        """The keys of all maps."""
        return self.items.columns[0]

    @property
    def entries(self) -> Column:
        """The values of all maps."""
        return self.items.columns[1]

    def _values(self, start: int, stop: int) -> list[Any]:
        begin, end = self.offsets[start], self.offsets[stop]
        pairs = list(zip(self.keys.to_list(begin, end), self.entries.to_list(begin, end)))
        return [pairs[a - begin : b - begin] for a, b in pairwise(self.offsets[start : stop + 1])]


class StructColumn(Column):
    """A column of structs: a column a field."""

    def __init__(
        self, field: Field, length: int, null_count: int, validity: bytes, columns: Sequence[Column]
    ) -> None:
        super().__init__(field, length, null_count, validity)
        #: The fields' columns, in the order of the struct's fields.
        self.columns = columns

    def child(self, name: str) -> Column:
        """The column of a field."""
        return next(column for column in self.columns if column.field.name == name)

    def _values(self, start: int, stop: int) -> list[Any]:
        names = [column.field.name for column in self.columns]
        rows = zip(*(column.to_list(start, stop) for column in self.columns)) if names else [()] * (stop - start)
        return [dict(zip(names, row)) for row in rows]


class Parts:
    """What is left of a batch's nodes and buffers while its columns are taken off them."""

    def __init__(self, nodes: Sequence[Any], buffers: Sequence[bytes]) -> None:
        self.nodes = iter(nodes)
        self.buffers = iter(buffers)

    def column(self, field: Field) -> Column:
        """The next column, its children included."""
        length, null_count = next(self.nodes)
        kind: DataType = field.data_type
        name = kind.name
        if name == "null":
            return NullColumn(field, length, null_count, b"")
        validity = next(self.buffers)
        if name == "struct":
            columns = [self.column(child) for child in field.children]
            return StructColumn(field, length, null_count, validity, columns)
        second = next(self.buffers)
        if name == "utf8":
            return Utf8Column(field, length, null_count, validity, second, next(self.buffers))
        if name == "binary":
            return BinaryColumn(field, length, null_count, validity, second, next(self.buffers))
        if name in ("list", "map"):
            kinds = MapColumn if name == "map" else ListColumn
            return kinds(field, length, null_count, validity, second, self.column(field.children[0]))
        return _FIXED.get(name, NumberColumn)(field, length, null_count, validity, second)


_FIXED: dict[str, Any] = {
    "boolean": BooleanColumn,
    "date32": DateColumn,
    "timestamp": TimestampColumn,
    "duration": DurationColumn,
    "decimal128": DecimalColumn,
    "fixed-size-binary": FixedSizeBinaryColumn,
}


def empty(field: Field) -> Column:
    """A column without values."""
    nodes = [(0, 0)] * field.n_nodes()
    return Parts(nodes, [b""] * field.n_buffers()).column(field)
