"""What a function's parameters ask for, by their annotations and names."""

from __future__ import annotations

import inspect
import typing
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

from .config import read_config
from .hints import HintError
from .role import Call


@dataclass
class Parameters:
    """The parameters of an operator's function."""

    name: str
    #: Those that are neither the configuration, nor the call, nor the output: names and annotations, in their order.
    rows: list[tuple[str, Any]] = field(default_factory=list)
    config_class: Any = None
    has_config: bool = False
    has_call: bool = False
    #: What the output's rows are, when the function has a parameter `out`.
    out: Any = None
    returns: Any = None


def parameters_of(function: Callable[..., Any], is_method: bool = False) -> Parameters:
    """Takes a function's parameters apart."""
    resolved = typing.get_type_hints(function, include_extras=True)
    found = Parameters(function.__name__, returns=resolved.get("return"))
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if is_method and index == 0:
            continue
        name = parameter.name
        annotation = resolved.get(name)
        if annotation is None:
            raise HintError(f"`{function.__name__}`: parameter `{name}` has no type hint")
        if annotation is Call:
            found.has_call = True
            if name != "call":
                raise HintError(f"`{function.__name__}`: the parameter of type `Call` is called `call`")
        elif name == "config":
            found.config_class, found.has_config = annotation, True
        elif name == "out":
            found.out = argument_of(annotation, function.__name__)
        else:
            found.rows.append((name, annotation))
    return found


def argument_of(annotation: Any, where: str) -> Any:
    """What a generic type is of, as `Word` in `Output[Word]`."""
    arguments = typing.get_args(annotation)
    if not arguments:
        raise HintError(f"`{where}`: `{annotation}` does not say of which rows, as in `Output[Word]`")
    return arguments[0]


def extras(parameters: Parameters, config: Any, call: Optional[Call], out: Any = None) -> dict[str, Any]:
    """The arguments besides the rows."""
    arguments: dict[str, Any] = {}
    if parameters.has_config:
        arguments["config"] = config
    if parameters.has_call:
        arguments["call"] = call
    if parameters.out is not None:
        arguments["out"] = out
    return arguments


def open_config(parameters: Parameters, text: str) -> Any:
    """The configuration, checked."""
    return read_config(parameters.config_class, text)
