"""Builders: values become a column's node and buffers, as many at a time as there are."""

from __future__ import annotations

import datetime
import decimal
from array import array
from itertools import accumulate, chain
from typing import Any, Iterable, Optional, Sequence

from . import bits
from .column import DECIMALS, Column
from .errors import Failure
from .schema import Field
from .text import Pieces

_EPOCH_DAY = datetime.date(1970, 1, 1).toordinal()
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

# A node and its buffers, in the contract's order.
Finished = tuple[list[tuple[int, int]], list[bytes]]


class Builder:
    """One column that is being built. `None` is a null, where the column may have nulls."""

    #: What stands in the place of a null.
    blank: Any = 0

    def __init__(self, field: Field) -> None:
        self.field = field
        self.length = 0
        self.null_count = 0
        # A byte a value; kept from the first null on.
        self._valid: Optional[bytearray] = None

    def __len__(self) -> int:
        return self.length

    def append(self, value: Any) -> None:
        """Appends a value."""
        self.extend((value,))

    def extend(self, values: Iterable[Any]) -> None:
        """Appends values."""
        values = values if isinstance(values, (list, tuple, array, memoryview)) else list(values)
        try:
            has_nulls = not isinstance(values, (array, memoryview)) and None in values
            if has_nulls:
                values = self._take_nulls(values)
            elif self._valid is not None:
                self._valid.extend(b"\x01" * len(values))
            self._extend(values)
        except Failure:
            raise
        except (TypeError, ValueError, OverflowError, AttributeError, decimal.DecimalException) as error:
            raise self.misfit(values, error) from error
        self.length += len(values)

    def misfit(self, values: Sequence[Any], error: Exception) -> Failure:
        """Says which column got what it cannot hold."""
        return Failure(f"column `{self.field.name}` of type {self.field.type_text()}: {error}")

    def _take_nulls(self, values: Sequence[Any]) -> list[Any]:
        if not self.field.nullable:
            raise Failure(
                f"column `{self.field.name}` may not be null, and a null was written: declare it `Optional`"
            )
        if self._valid is None:
            self._valid = bytearray(b"\x01" * self.length)
        valid = bits.are_valid(values)
        self._valid.extend(valid)
        self.null_count += len(values) - sum(valid)
        blank = self.blank
        return [blank if value is None else value for value in values]

    def _extend(self, values: Sequence[Any]) -> None:
        """Appends values of which none is null."""
        raise NotImplementedError

    def extend_column(self, column: Column) -> None:
        """Appends all of a column of the same type."""
        if column.field.data_type != self.field.data_type:
            raise Failure(f"column `{self.field.name}` is {self.field.type_text()}, not {column.field.type_text()}")
        self._extend_column(column)

    def _extend_column(self, column: Column) -> None:
        self.extend(column.to_list())

    def _take_validity(self, column: Column) -> None:
        """Notes which values of a column that is appended as it stands are null."""
        if column.null_count:
            if not self.field.nullable:
                raise Failure(f"column `{self.field.name}` may not be null, and {column!r} is appended")
            if self._valid is None:
                self._valid = bytearray(b"\x01" * self.length)
            self.null_count += column.null_count
        if self._valid is not None:
            self._valid.extend(column.valid())
        self.length += column.length

    def extend_taken(self, column: Column, indices: Sequence[int]) -> None:
        """Appends the values that stand at some places of a column of the same type."""
        if column.field.data_type != self.field.data_type:
            raise Failure(f"column `{self.field.name}` is {self.field.type_text()}, not {column.field.type_text()}")
        if column.null_count or self._valid is not None:
            taken = column.valid_at(indices)
            n_nulls = len(taken) - sum(taken)
            if n_nulls and not self.field.nullable:
                raise Failure(f"column `{self.field.name}` may not be null, and a null of {column!r} is appended")
            if self._valid is None:
                self._valid = bytearray(b"\x01" * self.length)
            self._valid.extend(taken)
            self.null_count += n_nulls
        self._extend_taken(column, indices)
        self.length += len(indices)

    def _extend_taken(self, column: Any, indices: Sequence[int]) -> None:
        """Appends values, with anything in the place of nulls."""
        raise NotImplementedError

    def finish(self) -> Finished:
        """The column's nodes and buffers, its children's behind its own."""
        validity = bits.pack(self._valid) if self.null_count and self._valid is not None else b""
        return self._finish([(self.length, self.null_count)], validity)

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        raise NotImplementedError


class NullBuilder(Builder):
    """A column of nulls."""

    def extend(self, values: Iterable[Any]) -> None:
        """Appends a null a value."""
        n_values = sum(1 for _ in values)
        self.length += n_values
        self.null_count += n_values

    def extend_column(self, column: Column) -> None:
        """Appends a null a value."""
        self._extend_column(column)

    def _extend_column(self, column: Column) -> None:
        self.extend(range(column.length))

    def extend_taken(self, column: Column, indices: Sequence[int]) -> None:
        """Appends a null a place."""
        self.extend(indices)

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        return nodes, []


class BooleanBuilder(Builder):
    """A column of true and false."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._flags = bytearray()

    def _extend(self, values: Sequence[Any]) -> None:
        self._flags.extend(bits.flags(values))

    def extend_flags(self, flags: bytes) -> None:
        """Appends a value a byte, each of which is 0 or 1."""
        if self._valid is not None:
            self._valid.extend(b"\x01" * len(flags))
        self._flags.extend(flags)
        self.length += len(flags)

    def _extend_column(self, column: Any) -> None:
        self._take_validity(column)
        self._flags += column.flags()

    def _extend_taken(self, column: Any, indices: Sequence[int]) -> None:
        self._flags += column.flags_at(indices)

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        return nodes, [validity, bits.pack(self._flags)]


class NumberBuilder(Builder):
    """A column of numbers. An `array` or a `memoryview` of the same format is copied as it stands."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._values = array(field.data_type.format or "B")

    def _extend(self, values: Sequence[Any]) -> None:
        if isinstance(values, array) and values.typecode == self._values.typecode:
            self._values.extend(values)
        elif isinstance(values, memoryview) and values.format == self._values.typecode and values.contiguous:
            self._values.frombytes(values.cast("B"))
        else:
            self._values.extend(self._numbers(values))

    def _numbers(self, values: Sequence[Any]) -> Iterable[Any]:
        return values

    def _extend_column(self, column: Any) -> None:
        self._take_validity(column)
        self._values.frombytes(column.data)

    def _extend_taken(self, column: Any, indices: Sequence[int]) -> None:
        values = column.values
        self._values.extend([values[index] for index in indices])

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        return nodes, [validity, self._values.tobytes()]


class DateBuilder(NumberBuilder):
    """A column of dates, or of days since 1970-01-01."""

    def _numbers(self, values: Sequence[Any]) -> Iterable[int]:
        return [value if isinstance(value, int) else value.toordinal() - _EPOCH_DAY for value in values]


class TimestampBuilder(NumberBuilder):
    """A column of datetimes with a zone, or of units since 1970-01-01 UTC."""

    def _numbers(self, values: Sequence[Any]) -> Iterable[int]:
        per_second = _PER_SECOND[self.field.data_type.unit]
        return [value if isinstance(value, int) else self._units(value, per_second) for value in values]

    def _units(self, value: Any, per_second: int) -> int:
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no zone: give it `tzinfo=datetime.timezone.utc`")
        return (value - _EPOCH) // _MICROSECOND * per_second // 1_000_000


class DurationBuilder(NumberBuilder):
    """A column of timedeltas, or of units."""

    def _numbers(self, values: Sequence[Any]) -> Iterable[int]:
        per_second = _PER_SECOND[self.field.data_type.unit]
        return [
            value if isinstance(value, int) else value // _MICROSECOND * per_second // 1_000_000 for value in values
        ]


class DecimalBuilder(Builder):
    """A column of decimal numbers. Nothing is rounded: what does not fit fails the call."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._data = bytearray()

    def _extend(self, values: Sequence[Any]) -> None:
        kind = self.field.data_type
        self.extend_unscaled_checked([self._unscaled(value, kind.scale) for value in values])

    def _unscaled(self, value: Any, scale: int) -> int:
        scaled = DECIMALS.scaleb(decimal.Decimal(value), scale)
        if not scaled.is_finite() or scaled != scaled.to_integral_value():
            raise ValueError(f"{value} has more than {scale} digits behind the point")
        return int(scaled)

    def extend_unscaled_checked(self, numbers: Sequence[int]) -> None:
        """Appends the bytes of numbers times 10 to the power of the scale, and counts nothing."""
        most = 10**self.field.data_type.precision
        for number in numbers:
            if not -most < number < most:
                raise ValueError(f"{number} has more than {self.field.data_type.precision} digits")
            self._data += number.to_bytes(16, "little", signed=True)

    def _extend_column(self, column: Any) -> None:
        self._take_validity(column)
        self._data += column.data

    def _extend_taken(self, column: Any, indices: Sequence[int]) -> None:
        data, width = column.data, 16
        self._data += b"".join([data[width * index : width * (index + 1)] for index in indices])

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        return nodes, [validity, bytes(self._data)]


class FixedSizeBinaryBuilder(Builder):
    """A column of bytes, as many in every value."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._data = bytearray()
        self.blank = bytes(field.data_type.width)

    def _extend(self, values: Sequence[Any]) -> None:
        width = self.field.data_type.width
        for value in values:
            if len(value) != width:
                raise ValueError(f"a value has {len(value)} bytes")
        self._data += b"".join(values)

    def _extend_column(self, column: Any) -> None:
        self._take_validity(column)
        self._data += column.data

    def _extend_taken(self, column: Any, indices: Sequence[int]) -> None:
        data, width = column.data, self.field.data_type.width
        self._data += b"".join([data[width * index : width * (index + 1)] for index in indices])

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        return nodes, [validity, bytes(self._data)]


class BinaryBuilder(Builder):
    """A column of bytes."""

    blank: Any = b""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._offsets = array("i", [0])
        self._data = bytearray()

    def _extend(self, values: Sequence[Any]) -> None:
        self._extend_bytes(values)

    def _extend_bytes(self, values: Sequence[bytes]) -> None:
        ends = accumulate(map(len, values), initial=self._offsets.pop())
        # More than 2 GiB do not fit the offsets: `OverflowError`.
        self._offsets.extend(ends)
        self._data += b"".join(values)

    def extend_bytes(self, values: Sequence[bytes]) -> None:
        """Appends values that are bytes already; for text they must be UTF-8. The fastest form for many."""
        if self._valid is not None:
            self._valid.extend(b"\x01" * len(values))
        self._extend_bytes(values)
        self.length += len(values)

    def extend_pieces(self, pieces: Pieces) -> None:
        """Appends everything that texts were split into."""
        for block, data in pieces.packed():
            if self._valid is not None:
                self._valid.extend(b"\x01" * len(block))
            try:
                self._offsets.frombytes(bits.prefix_sums(bytes(map(len, block)), self._offsets[-1]))
            except ValueError:
                # A piece of more than 255 bytes.
                self._offsets.extend(accumulate(map(len, block), initial=self._offsets.pop()))
            self._data += data
            self.length += len(block)

    def _extend_column(self, column: Any) -> None:
        self._take_validity(column)
        base = self._offsets.pop()
        offsets = column.offsets
        self._offsets.extend([offset + base for offset in offsets] if base else offsets)
        self._data += column.data

    def _extend_taken(self, column: Any, indices: Sequence[int]) -> None:
        offsets, data = column.offsets, column.data
        self._extend_bytes([data[offsets[index] : offsets[index + 1]] for index in indices])

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        return nodes, [validity, self._offsets.tobytes(), bytes(self._data)]


class Utf8Builder(BinaryBuilder):
    """A column of text."""

    blank = ""

    def extend(self, values: Iterable[Any]) -> None:
        """Appends texts, or the pieces that texts were split into."""
        if isinstance(values, Pieces):
            self.extend_pieces(values)
        else:
            super().extend(values)

    def _extend(self, values: Sequence[str]) -> None:
        joined = "".join(values)
        if joined.isascii():
            self._offsets.extend(accumulate(map(len, values), initial=self._offsets.pop()))
            self._data += joined.encode("ascii")
        else:
            self._extend_bytes([value.encode() for value in values])


class ListBuilder(Builder):
    """A column of lists."""

    blank: Any = ()

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        self._offsets = array("i", [0])
        #: The items of all lists.
        self.items = builder(field.children[0])

    def _extend(self, values: Sequence[Sequence[Any]]) -> None:
        self._offsets.extend(accumulate(map(len, values), initial=self._offsets.pop()))
        self.items.extend(list(chain.from_iterable(values)))

    def extend_lengths(self, lengths: Sequence[int]) -> None:
        """Appends lists by their lengths; their items are appended to `items`."""
        if self._valid is not None:
            self._valid.extend(b"\x01" * len(lengths))
        self._offsets.extend(accumulate(lengths, initial=self._offsets.pop()))
        self.length += len(lengths)

    def _extend_column(self, column: Any) -> None:
        self._take_validity(column)
        base = self._offsets.pop()
        self._offsets.extend([offset + base for offset in column.offsets])
        self.items.extend_column(column.items)

    def _extend_taken(self, column: Any, indices: Sequence[int]) -> None:
        offsets = column.offsets
        lengths = [offsets[index + 1] - offsets[index] for index in indices]
        self._offsets.extend(accumulate(lengths, initial=self._offsets.pop()))
        spans = (range(offsets[index], offsets[index + 1]) for index in indices)
        self.items.extend_taken(column.items, list(chain.from_iterable(spans)))

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        item_nodes, item_buffers = self.items.finish()
        return nodes + item_nodes, [validity, self._offsets.tobytes(), *item_buffers]


class MapBuilder(ListBuilder):
    """A column of maps: of dicts, or of lists of pairs."""

    def _extend(self, values: Sequence[Any]) -> None:
        pairs = [list(value.items()) if isinstance(value, dict) else value for value in values]
        self._offsets.extend(accumulate(map(len, pairs), initial=self._offsets.pop()))
        entries: Any = self.items
        flat = list(chain.from_iterable(pairs))
        entries.extend_columns([[key for key, _ in flat], [value for _, value in flat]])


class StructBuilder(Builder):
    """A column of structs: of dicts, or of objects whose attributes are the fields."""

    def __init__(self, field: Field) -> None:
        super().__init__(field)
        #: A builder a field.
        self.columns = [builder(child) for child in field.children]
        #: The attributes that the fields are read from.
        self.attributes = [child.name for child in field.children]
        self.blank = {
            column.field.name: None if column.field.nullable else column.blank for column in self.columns
        }

    def _extend(self, values: Sequence[Any]) -> None:
        for name, attribute, column in zip(self.field_names(), self.attributes, self.columns):
            column.extend([value[name] if isinstance(value, dict) else getattr(value, attribute) for value in values])

    def field_names(self) -> list[str]:
        """The names of the fields."""
        return [child.name for child in self.field.children]

    def extend_columns(self, columns: Sequence[Sequence[Any]]) -> None:
        """Appends structs, a list of values a field."""
        n_values = len(columns[0]) if columns else 0
        if self._valid is not None:
            self._valid.extend(b"\x01" * n_values)
        for column, values in zip(self.columns, columns):
            column.extend(values)
        self.length += n_values

    def _extend_column(self, column: Any) -> None:
        self._take_validity(column)
        for own, other in zip(self.columns, column.columns):
            own.extend_column(other)

    def _extend_taken(self, column: Any, indices: Sequence[int]) -> None:
        for own, other in zip(self.columns, column.columns):
            own.extend_taken(other, indices)

    def _finish(self, nodes: list[tuple[int, int]], validity: bytes) -> Finished:
        buffers = [validity]
        for column in self.columns:
            more_nodes, more_buffers = column.finish()
            nodes += more_nodes
            buffers += more_buffers
        return nodes, buffers


_KINDS: dict[str, type[Builder]] = {
    "null": NullBuilder,
    "boolean": BooleanBuilder,
    "utf8": Utf8Builder,
    "binary": BinaryBuilder,
    "fixed-size-binary": FixedSizeBinaryBuilder,
    "date32": DateBuilder,
    "timestamp": TimestampBuilder,
    "duration": DurationBuilder,
    "decimal128": DecimalBuilder,
    "list": ListBuilder,
    "map": MapBuilder,
    "struct": StructBuilder,
}


def builder(field: Field) -> Builder:
    """An empty column of a field's type."""
    return _KINDS.get(field.data_type.name, NumberBuilder)(field)
