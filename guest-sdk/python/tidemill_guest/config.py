"""A step's `config` as a dataclass: unknown keys, missing ones and values of other types are refused before any row flows."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import re
import types
import typing
from typing import Any

from .errors import ConfigRefusal

_UNITS_US = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}


def parse_duration(text: str) -> datetime.timedelta:
    """A length of time as job files write it: `"250ms"`, `"1.5s"`, `"1h30m"`; `"0"` needs no unit."""
    wrong = ValueError(f"`{text}` is not a duration, as `30s` and `1h30m` are")
    stripped = text.strip()
    if stripped == "0":
        return datetime.timedelta()
    parts = re.findall(r"(\d+)(?:\.(\d+))?([a-z]+)", stripped, re.ASCII)
    written = "".join(whole + ("." + decimals if decimals else "") + unit for whole, decimals, unit in parts)
    order = list(_UNITS_US)
    if not parts or written != stripped or any(unit not in order for _, _, unit in parts):
        raise wrong
    places = [order.index(unit) for _, _, unit in parts]
    if places != sorted(set(places)):
        raise wrong
    sum_us = 0
    for whole, decimals, unit in parts:
        sum_us += int(whole) * _UNITS_US[unit]
        # What is less than a microsecond is left out.
        sum_us += int(decimals or "0") * _UNITS_US[unit] // 10 ** len(decimals)
    if sum_us >= 1 << 63:
        raise wrong
    return datetime.timedelta(microseconds=sum_us)


def read_config(cls: Any, text: str) -> Any:
    """The configuration as a dataclass; `cls` may be `None` for an operator that has none, to which none may be given."""
    found = json.loads(text or "{}")
    if cls is None:
        if found:
            raise ConfigRefusal(f"unknown field `{next(iter(found))}`, there are no fields")
        return None
    return _dataclass(cls, found)


def _dataclass(cls: Any, found: Any) -> Any:
    if not isinstance(found, dict):
        raise ConfigRefusal(f"{json.dumps(found)} is not a table")
    fields = {
        field.metadata.get("tidemill.column", field.name): field for field in dataclasses.fields(cls) if field.init
    }
    resolved = typing.get_type_hints(cls)
    values = {}
    for name, value in found.items():
        if name not in fields:
            expected = " or ".join(f"`{known}`" for known in fields) if len(fields) < 3 else "one of " + ", ".join(
                f"`{known}`" for known in fields
            )
            there = f"expected {expected}" if fields else "there are no fields"
            raise ConfigRefusal(f"unknown field `{name}`, {there}")
        attribute = fields[name].name
        values[attribute] = _value(resolved[attribute], value, name)
    for name, field in fields.items():
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.name not in values and not has_default:
            raise ConfigRefusal(f"missing field `{name}`")
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        # What `__post_init__` says.
        raise ConfigRefusal(str(error)) from error


def _value(hint: Any, value: Any, name: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    shown = json.dumps(value, ensure_ascii=False)

    def wrong(expected: str) -> ConfigRefusal:
        return ConfigRefusal(f"`{name}` is {shown}, {expected} is expected")

    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        kinds = [kind for kind in arguments if kind is not type(None)]
        return _value(kinds[0], value, name) if len(kinds) == 1 else value
    if origin is typing.Literal:
        if value not in arguments:
            raise wrong("one of " + ", ".join(json.dumps(known) for known in arguments))
        return value
    if origin is typing.Annotated:
        return _value(arguments[0], value, name)
    if hint is list or origin is list:
        if not isinstance(value, list):
            raise wrong("a list")
        return [_value(arguments[0], item, f"{name}[{index}]") for index, item in enumerate(value)] if arguments else value
    if hint is dict or origin is dict:
        if not isinstance(value, dict):
            raise wrong("a table")
        return {key: _value(arguments[1], item, f"{name}.{key}") for key, item in value.items()} if arguments else value
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        try:
            return hint(value)
        except ValueError:
            raise wrong("one of " + ", ".join(json.dumps(known.value) for known in hint)) from None
    if hint is datetime.timedelta:
        if not isinstance(value, str):
            raise wrong("a duration as `30s`")
        try:
            return parse_duration(value)
        except ValueError as error:
            raise ConfigRefusal(f"`{name}`: {error}") from None
    if hint is bool:
        if not isinstance(value, bool):
            raise wrong("true or false")
        return value
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong("a whole number")
        return value
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong("a number")
        return float(value)
    if hint is str:
        if not isinstance(value, str):
            raise wrong("a text")
        return value
    raise TypeError(f"`{name}`: a configuration has no values of type `{hint}`")
