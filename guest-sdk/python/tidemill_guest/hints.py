"""Type hints as column types: the fields of a dataclass are the columns of a row."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import types
import typing
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Callable, Optional, Sequence

from .build import Builder, ListBuilder, MapBuilder, StructBuilder
from .column import Column, DateColumn, DurationColumn, ListColumn, MapColumn, StructColumn, TimestampColumn
from .errors import SchemaRefusal
from .schema import DataType, Field, Schema, duration, timestamp

Int8 = Annotated[int, DataType("int8")]
Int16 = Annotated[int, DataType("int16")]
Int32 = Annotated[int, DataType("int32")]
Int64 = Annotated[int, DataType("int64")]
UInt8 = Annotated[int, DataType("uint8")]
UInt16 = Annotated[int, DataType("uint16")]
UInt32 = Annotated[int, DataType("uint32")]
UInt64 = Annotated[int, DataType("uint64")]
Float32 = Annotated[float, DataType("float32")]
Float64 = Annotated[float, DataType("float64")]
#: A time as microseconds since 1970-01-01 UTC: many times faster than `datetime`.
TimestampUs = Annotated[int, timestamp("us")]
#: A length of time as microseconds.
DurationUs = Annotated[int, duration("us")]
#: A date as days since 1970-01-01.
DateDays = Annotated[int, DataType("date32")]


def column(name: str) -> Any:
    """A dataclass field whose column has another name, as one with a hyphen must: `currency: str = column("currency-code")`."""
    return dataclasses.field(metadata={"tidemill.column": name})


class HintError(TypeError):
    """A type hint that no column has, or one that is missing."""


@dataclass(frozen=True)
class Hint:
    """What a type hint says of a column: its type, and how its values become Python's."""

    text: str
    #: The type that is written; `None` when the hint alone does not say it.
    data_type: Optional[DataType]
    accepts_type: Callable[[DataType], bool]
    nullable: bool = False
    #: Whether values are numbers where the column would make objects of them.
    is_raw: bool = False
    children: tuple["Hint", ...] = ()
    #: The dataclass of a struct, and what its columns are called.
    cls: Optional[type] = None
    names: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    def field(self, name: str) -> Field:
        """The field that is written under a name."""
        if self.data_type is None:
            raise HintError(f"`{name}: {self.text}` does not say which type is written: {_more_exact(self.text)}")
        if self.data_type.name == "list":
            children: tuple[Field, ...] = (self.children[0].field("item"),)
        elif self.data_type.name == "map":
            entries = (self.children[0].field("key"), self.children[1].field("value"))
            children = (Field("entries", DataType("struct"), False, entries),)
        else:
            children = tuple(child.field(n) for child, n in zip(self.children, self.names))
        return Field(name, self.data_type, self.nullable, children)

    def accepts(self, field: Field) -> bool:
        """Whether these values can be read from a column of this type. Nulls do not matter here."""
        if not self.accepts_type(field.data_type):
            return False
        if self.cls is not None:
            found = [child.name for child in field.children]
            return set(self.names) <= set(found) and all(
                hint.accepts(field.children[found.index(name)]) for name, hint in zip(self.names, self.children)
            )
        if field.data_type.name == "map":
            return all(map(Hint.accepts, self.children, field.children[0].children))
        return all(map(Hint.accepts, self.children, field.children))

    def decode(self, column: Column, start: int, stop: int) -> list[Any]:
        """The values of a column, `None` where one is null."""
        if not self.children and self.cls is None:
            if not self.is_raw and isinstance(column, (DateColumn, TimestampColumn, DurationColumn)):
                objects: list[Any] = column.objects(start, stop)
                return objects
            return column.to_list(start, stop)
        if isinstance(column, StructColumn):
            children = [hint.decode(column.child(name), start, stop) for name, hint in zip(self.names, self.children)]
            cls = self.cls or tuple
            values = list(map(cls, *children)) if children else [cls() for _ in range(stop - start)]
        elif isinstance(column, ListColumn):
            offsets = column.offsets[start : stop + 1].tolist()  # type: ignore[attr-defined]
            first = offsets[0]
            if isinstance(column, MapColumn):
                spans = (first, offsets[-1])
                keys, entries = self.children[0].decode(column.keys, *spans), self.children[1].decode(column.entries, *spans)
                pairs = list(zip(keys, entries))
                values = [dict(pairs[a - first : b - first]) for a, b in zip(offsets, offsets[1:])]
            else:
                items = self.children[0].decode(column.items, first, offsets[-1])
                values = [items[a - first : b - first] for a, b in zip(offsets, offsets[1:])]
        else:
            raise TypeError(f"{column!r} is not made of others")
        return _with_nulls(column, values, start, stop)

    def misplaced_nulls(self, column: Column) -> Optional[bytes]:
        """A byte a value: 1 when something in it is null and its type has no place for nulls. `None` when none is."""
        found: Optional[bytes] = None
        if column.null_count and not self.nullable:
            found = bytes(1 - flag for flag in column.valid())
        inner: Optional[bytes] = None
        if isinstance(column, StructColumn):
            for name, hint in zip(self.names, self.children):
                inner = _either(inner, hint.misplaced_nulls(column.child(name)))
        elif isinstance(column, ListColumn):
            parts: Sequence[Column] = (
                (column.keys, column.entries) if isinstance(column, MapColumn) else (column.items,)
            )
            of_items: Optional[bytes] = None
            for hint, part in zip(self.children, parts):
                of_items = _either(of_items, hint.misplaced_nulls(part))
            if of_items is not None:
                spans = zip(column.offsets, column.offsets[1:])
                inner = bytes(1 in of_items[start:end] for start, end in spans)
        if inner is not None and column.null_count:
            # What a null would be made of does not matter.
            inner = bytes(map(int.__and__, inner, column.valid()))
        found = _either(found, inner)
        return found if found and 1 in found else None


def _either(one: Optional[bytes], other: Optional[bytes]) -> Optional[bytes]:
    if one is None or other is None:
        return other if one is None else one
    return bytes(map(int.__or__, one, other))


def _with_nulls(column: Column, values: list[Any], start: int, stop: int) -> list[Any]:
    if not column.null_count:
        return values
    return [value if ok else None for value, ok in zip(values, column.valid(start, stop))]


def _more_exact(text: str) -> str:
    return "write `Annotated[Decimal, decimal128(PRECISION, SCALE)]`" if "Decimal" in text else "name a type"


def _is(*names: str) -> Callable[[DataType], bool]:
    return lambda found: found.name in names


def _is_time(name: str) -> Callable[[DataType], bool]:
    # Nanoseconds do not fit Python's own types.
    return lambda found: found.name == name and found.unit != "ns"


_PLAIN: dict[Any, tuple[Optional[DataType], Callable[[DataType], bool]]] = {
    bool: (DataType("boolean"), _is("boolean")),
    int: (DataType("int64"), lambda found: found.is_integer),
    float: (DataType("float64"), _is("float64", "float32")),
    str: (DataType("utf8"), _is("utf8")),
    bytes: (DataType("binary"), _is("binary", "fixed-size-binary")),
    datetime.date: (DataType("date32"), _is("date32")),
    datetime.datetime: (timestamp("us"), _is_time("timestamp")),
    datetime.timedelta: (duration("us"), _is_time("duration")),
    decimal.Decimal: (None, _is("decimal128")),
    type(None): (DataType("null"), _is("null")),
}


def _accepts_exactly(expected: DataType) -> Callable[[DataType], bool]:
    if expected.name == "timestamp":
        # A zone says how an instant is shown, not which one it is.
        return lambda found: found.name == "timestamp" and found.unit == expected.unit
    return lambda found: found == expected


def hint_of(annotation: Any) -> Hint:
    """What a type hint says of a column."""
    if annotation is None:
        annotation = type(None)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    text = getattr(annotation, "__name__", None) if origin is None else None
    text = text or str(annotation).replace("typing.", "")
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) != 1 or len(inner) == len(arguments):
            raise HintError(f"`{text}`: a column has one type; `Optional[...]` is one that may be null")
        return dataclasses.replace(hint_of(inner[0]), nullable=True)
    if origin is Annotated:
        data_type = next((argument for argument in arguments[1:] if isinstance(argument, DataType)), None)
        if data_type is None:
            return hint_of(arguments[0])
        is_raw = arguments[0] is int and not data_type.is_integer
        return Hint(str(data_type), data_type, _accepts_exactly(data_type), is_raw=is_raw)
    if origin is list:
        return Hint(text, DataType("list"), _is("list"), children=(hint_of(arguments[0]),))
    if origin is dict:
        return Hint(text, DataType("map"), _is("map"), children=tuple(map(hint_of, arguments)))
    if dataclasses.is_dataclass(annotation):
        names, attributes, hints = columns_of(annotation)
        children = tuple(hints)
        return Hint(text, DataType("struct"), _is("struct"), False, False, children, annotation, names, attributes)
    if annotation in _PLAIN:
        data_type, accepts = _PLAIN[annotation]
        return Hint(text, data_type, accepts, nullable=annotation is type(None))
    raise HintError(f"`{text}` is no type that a column has")


def columns_of(cls: Any) -> tuple[tuple[str, ...], tuple[str, ...], list[Hint]]:
    """The columns of a dataclass: their names, the attributes they are in, and their types."""
    resolved = typing.get_type_hints(cls, include_extras=True)
    fields = [field for field in dataclasses.fields(cls) if field.init]
    names = tuple(field.metadata.get("tidemill.column", field.name) for field in fields)
    try:
        hints = [hint_of(resolved[field.name]) for field in fields]
    except HintError as error:
        raise HintError(f"`{cls.__name__}`: {error}") from None
    return names, tuple(field.name for field in fields), hints


@lru_cache(maxsize=None)
def row_of(cls: Any) -> "Row":
    """A dataclass as a row."""
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise HintError(f"`{getattr(cls, '__name__', cls)}` is not a dataclass: a row is one, whose fields are columns")
    names, attributes, hints = columns_of(cls)
    return Row(cls, names, attributes, tuple(hints))


@dataclass(frozen=True)
class Row:
    """The columns that a dataclass stands for."""

    cls: Any
    names: tuple[str, ...]
    attributes: tuple[str, ...]
    hints: tuple[Hint, ...]

    def schema(self) -> Schema:
        """The columns that are written."""
        return Schema(hint.field(name) for name, hint in zip(self.names, self.hints))

    def check(self, schema: Schema, where: str = "") -> None:
        """Refuses a schema that has not every column of the row, of its type."""
        for name, hint in zip(self.names, self.hints):
            found = schema.find(name)
            expected = hint.field(name).type_text() if hint.data_type else hint.text.lower()
            if found is None:
                raise SchemaRefusal(f"{where}column `{name}` is missing, {expected} is expected")
            if not hint.accepts(found):
                raise SchemaRefusal(f"{where}column `{name}` is {found.type_text()}, {expected} is expected")

    def shape(self, builder: Builder, hint: Hint) -> None:
        """Has a builder read the attributes of the dataclasses that it gets."""
        if isinstance(builder, StructBuilder):
            by_name = dict(zip(hint.names, zip(hint.attributes, hint.children)))
            for index, child in enumerate(builder.columns):
                attribute, child_hint = by_name[child.field.name]
                builder.attributes[index] = attribute
                self.shape(child, child_hint)
        elif isinstance(builder, MapBuilder):
            for child, child_hint in zip(builder.items.columns, hint.children):  # type: ignore[attr-defined]
                self.shape(child, child_hint)
        elif isinstance(builder, ListBuilder):
            self.shape(builder.items, hint.children[0])
