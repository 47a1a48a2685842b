"""Schemas: the contract's types, nested as they are rather than flat."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Iterable, Iterator, Optional

TIME_UNITS = ("s", "ms", "us", "ns")

# Bytes a value, and the format that `array` and `memoryview.cast` know it by.
_NUMBERS = {
    "int8": (1, "b"),
    "int16": (2, "h"),
    "int32": (4, "i"),
    "int64": (8, "q"),
    "uint8": (1, "B"),
    "uint16": (2, "H"),
    "uint32": (4, "I"),
    "uint64": (8, "Q"),
    "float32": (4, "f"),
    "float64": (8, "d"),
    "date32": (4, "i"),
    "timestamp": (8, "q"),
    "duration": (8, "q"),
}

_OTHERS = ("null", "boolean", "utf8", "binary", "fixed-size-binary", "decimal128", "list", "struct", "map")


@dataclass(frozen=True)
class DataType:
    """The type of a field, by Arrow's name, with what some types add to it."""

    name: str
    #: Bytes a value of a `fixed-size-binary`.
    width: int = 0
    #: The unit of a `timestamp` or a `duration`: `s`, `ms`, `us` or `ns`.
    unit: str = ""
    #: The zone of a `timestamp`. One that is written without has the zone UTC.
    zone: Optional[str] = None
    #: The digits of a `decimal128`, 1 to 38.
    precision: int = 0
    #: Those of them behind the point.
    scale: int = 0

    def __post_init__(self) -> None:
        if self.name not in _NUMBERS and self.name not in _OTHERS:
            raise ValueError(f"`{self.name}` is not a type of the contract")
        if self.name in ("timestamp", "duration") and self.unit not in TIME_UNITS:
            raise ValueError(f"`{self.unit}` is not a unit of time: s, ms, us, ns")

    @property
    def format(self) -> Optional[str]:
        """How `memoryview.cast` reads its values; `None` when they are not numbers of at most 64 bits."""
        number = _NUMBERS.get(self.name)
        return number[1] if number else None

    @property
    def is_integer(self) -> bool:
        """Whether its values are whole numbers, and nothing else."""
        return self.name.startswith(("int", "uint"))

    def __str__(self) -> str:
        if self.name == "fixed-size-binary":
            return f"fixed-size-binary({self.width})"
        if self.name == "timestamp":
            return f"timestamp({self.unit}, {self.zone})" if self.zone else f"timestamp({self.unit})"
        if self.name == "duration":
            return f"duration({self.unit})"
        if self.name == "decimal128":
            return f"decimal128({self.precision}, {self.scale})"
        return self.name


def timestamp(unit: str = "us", zone: Optional[str] = "UTC") -> DataType:
    """A 64-bit time since 1970-01-01 UTC in a unit."""
    return DataType("timestamp", unit=unit, zone=zone)


def duration(unit: str = "us") -> DataType:
    """A 64-bit length of time in a unit."""
    return DataType("duration", unit=unit)


def decimal128(precision: int, scale: int) -> DataType:
    """A decimal number of `precision` digits, `scale` of them behind the point."""
    return DataType("decimal128", precision=precision, scale=scale)


def fixed_size_binary(width: int) -> DataType:
    """Bytes, `width` of them in every value."""
    return DataType("fixed-size-binary", width=width)


@dataclass(frozen=True)
class Field:
    """One field of a schema, with what it is made of."""

    name: str
    data_type: DataType
    nullable: bool = False
    children: tuple["Field", ...] = ()

    def n_nodes(self) -> int:
        """How many nodes it has in a batch: its own and its children's."""
        return 1 + sum(child.n_nodes() for child in self.children)

    def n_buffers(self) -> int:
        """How many buffers it has in a batch: its own and its children's."""
        own = {"null": 0, "struct": 1, "utf8": 3, "binary": 3}.get(self.data_type.name, 2)
        return own + sum(child.n_buffers() for child in self.children)

    def with_name(self, name: str) -> "Field":
        """The same field under another name."""
        return replace(self, name=name)

    def type_text(self) -> str:
        """Its type with what it is made of, as in `struct<lat: float64, lon: float64>`."""
        name = self.data_type.name
        if name == "list":
            return f"list<{self.children[0].type_text()}>"
        if name == "struct":
            return "struct<" + ", ".join(f"{child.name}: {child.type_text()}" for child in self.children) + ">"
        if name == "map":
            return "map<" + ", ".join(child.type_text() for child in self.children[0].children) + ">"
        return str(self.data_type)


@dataclass(frozen=True)
class Schema:
    """The columns of rows, in their order."""

    fields: tuple[Field, ...] = field(default_factory=tuple)

    def __init__(self, fields: Iterable[Field] = ()) -> None:
        object.__setattr__(self, "fields", tuple(fields))

    def __iter__(self) -> Iterator[Field]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.fields]

    def find(self, name: str) -> Optional[Field]:
        """The column of this name."""
        return next((column for column in self.fields if column.name == name), None)

    def select(self, names: Iterable[str]) -> "Schema":
        """The columns of these names, in their order."""
        by_name = {column.name: column for column in self.fields}
        return Schema(by_name[name] for name in names)

    def __str__(self) -> str:
        return ", ".join(f"{column.name}: {column.type_text()}" for column in self.fields)
