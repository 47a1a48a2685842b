"""What an operator may tell its host: log lines, counters, gauges. In tests lines go to standard error."""

from __future__ import annotations

import sys
from typing import Any

_LEVELS = ("debug", "info", "warn", "error")

# The host's functions, once there is a host.
_host: Any = None


def connect(host: Any) -> None:
    """Has everything go to a host: called by the component."""
    global _host
    _host = host


def log(level: str, message: str) -> None:
    """Writes a line to the job's log: `level` is `debug`, `info`, `warn` or `error`. Counts against the limit on log bytes."""
    if level not in _LEVELS:
        raise ValueError(f"`{level}` is not a level: {', '.join(_LEVELS)}")
    if _host is None:
        print(f"{level}: {message}", file=sys.stderr)
    else:
        _host.log(_host.Level[level.upper()], message)


def count(name: str, add: int = 1) -> None:
    """Adds to a counter of the step."""
    if _host is not None:
        _host.count(name, add)


def gauge(name: str, value: float) -> None:
    """Sets a gauge of the step."""
    if _host is not None:
        _host.gauge(name, value)
