"""Updaters of typed rows: a key's state and its new rows in, rows out."""

from __future__ import annotations

import datetime
import typing
from typing import Any, Callable, Generic, Optional, TypeVar

from .batch import RowReader, RowWriter
from .errors import Failure, Reject
from .hints import HintError, Row, row_of
from .keyed import Cut, Keys, _is_list, check_keys, check_values, emit
from .output import GroupOutput
from .role import Call, Operator, Step, Updater, UpdaterInput, UpdaterOutput, UpdaterPlan, mark
from .schema import Schema
from .signature import Parameters, argument_of, extras, open_config, parameters_of

S = TypeVar("S")

# Leaves a timeout as it is, and the time that never comes.
_KEEP, _NEVER = -(1 << 63), (1 << 63) - 1
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_MICROSECOND = datetime.timedelta(microseconds=1)


class State(Generic[S]):
    """A key's state, and its timeout. Nothing happens to either unless it is asked for here.

    | in one call | means |
    | --- | --- |
    | nothing | the state stays, and so does the timeout, unless it has just fired: then there is none |
    | `set` | the new state; the timeout stays as it is |
    | `remove` | no state, no timeout |
    | `remove`, then `set` | the new state, and no timeout but one that is set after the `remove` |
    | several timeouts | the last |

    What `get` returned may be changed, and counts when it is `set`. A timeout belongs to state: a call that sets one for a key
    it leaves without state fails, as one does that sets it where the updater has no timeouts.
    """

    def __init__(self, state: Optional[S], timed_out: bool, timeouts: str, call: Call) -> None:
        self._state = state
        self._had_state = state is not None
        self._changed = False
        #: Whether the key is called because its timeout was due: without rows, and the timeout is gone.
        self.timed_out = timed_out
        self._timeouts = timeouts
        self._timeout_us = _KEEP
        self._call = call

    def get(self, default: Any = None) -> Any:
        """The state, or `default` when there is none."""
        return default if self._state is None else self._state

    @property
    def exists(self) -> bool:
        """Whether there is state."""
        return self._state is not None

    def set(self, state: S) -> None:
        """Puts a state in the place of what there is."""
        self._state, self._changed = state, True

    def remove(self) -> None:
        """Removes the state, and the timeout with it."""
        self._state, self._changed, self._timeout_us = None, False, _NEVER

    def set_timeout(self, at: int | datetime.datetime) -> None:
        """Has the key called, as timed out, in the first batch whose time, or whose watermark, is not before `at`: a datetime, or
        microseconds since 1970-01-01 UTC. A time that has passed is due at once."""
        if self._timeouts == "never":
            raise Failure('it sets a timeout, and it is an `@updater` without `timeouts="batch-time"` or `"event-time"`')
        at_us = at if isinstance(at, int) else (at - _EPOCH) // _MICROSECOND
        # The two ends of the range have meanings of their own.
        self._timeout_us = min(max(at_us, _KEEP + 1), _NEVER - 1)

    def set_timeout_after(self, length: datetime.timedelta) -> None:
        """Has the key called, as timed out, this long after the batch's time. Only with timeouts in batch time."""
        if self._timeouts == "event-time":
            raise Failure("`set_timeout_after` counts from the batch's time, and its timeouts are in event time")
        self.set_timeout(self.batch_time_us + length // _MICROSECOND)

    def clear_timeout(self) -> None:
        """Takes the timeout away."""
        self._timeout_us = _NEVER

    @property
    def batch_time_us(self) -> int:
        """The batch's time in microseconds since 1970-01-01 UTC."""
        return self._call.batch_time_us

    @property
    def watermark_us(self) -> Optional[int]:
        """The watermark in microseconds since 1970-01-01 UTC, if the step's input has one."""
        return self._call.watermark_us

    def _change(self) -> int:
        """What becomes of the state, in the contract's numbers."""
        if self._state is not None:
            return 1 if self._changed else 0
        if self._timeout_us not in (_KEEP, _NEVER):
            raise Failure("it sets a timeout for a key that it leaves without state")
        return 2 if self._had_state else 0


def updater(target: Any = None, *, timeouts: str = "never", every_key: bool = False) -> Any:
    """Makes an updater of a function: `(key: Key, rows: list[In], state: State[Kept], out: Output[Out]) -> None`, or one that
    returns `Out`, `Optional[Out]`, `list[Out]`, `Iterator[Out]`. `key` may be left out, `config` and `call` may be there.

    The host keeps the state: a batch that is run again starts from the same state, so nothing of it may be kept anywhere
    else. `timeouts` is `"never"`, `"batch-time"` or `"event-time"`. With `every_key` each batch calls it for every key that has
    state. `raise Reject("why")` rejects all rows of the key and leaves its state as it is.
    """
    from .operator import _shape

    if timeouts not in ("never", "batch-time", "event-time"):
        raise HintError(f"timeouts `{timeouts}` are not known: never, batch-time, event-time")

    def decorate(function: Any) -> Any:
        parameters = parameters_of(function)
        rows = [(name, row_of(typing.get_args(kind)[0])) for name, kind in parameters.rows if _is_list(kind)]
        states = [(name, argument_of(kind, "state")) for name, kind in parameters.rows if typing.get_origin(kind) is State]
        taken = [name for name, _ in rows + states]
        keys = [(name, row_of(kind)) for name, kind in parameters.rows if name not in taken]
        if len(rows) != 1 or len(states) != 1 or len(keys) > 1:
            raise HintError(f"`{function.__name__}` takes `rows: list[Row]`, `state: State[Kept]` and a key at most")
        shape, out = _shape(parameters, is_batch=False)
        kept, written = row_of(states[0][1]), row_of(out)
        kept.schema()
        written.schema()
        names = (keys[0][0] if keys else None, rows[0][0], states[0][0])
        key = keys[0][1] if keys else None
        make = lambda: FunctionUpdater(  # noqa: E731
            function, parameters, names, key, rows[0][1], kept, shape, written, timeouts, every_key
        )
        return mark(function, Operator("updater", function.__name__, make))

    return decorate if target is None else decorate(target)


class FunctionUpdater(Updater):
    """A function as an updater."""

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Parameters,
        names: tuple[Optional[str], str, str],
        key: Optional[Row],
        row: Row,
        kept: Row,
        shape: str,
        written: Row,
        timeouts: str,
        every_key: bool,
    ) -> None:
        self._function, self._parameters, self._names = function, parameters, names
        self._key, self._row, self._kept, self._shape, self._written = key, row, kept, shape, written
        self._timeouts, self._every_key = timeouts, every_key
        self._config: Any = None

    def open(self, step: Step, keys: Schema, values: Schema) -> UpdaterPlan:
        """Reads the configuration, and checks keys and values."""
        self._config = open_config(self._parameters, step.config)
        check_keys(self._key, keys)
        reads = check_values(self._row, values, keys)
        calling = "every-key" if self._every_key else "keys-with-values"
        return UpdaterPlan(self._kept.schema(), self._written.schema(), reads, calling, self._timeouts)

    def update(self, call: Call, input: UpdaterInput) -> UpdaterOutput:
        """Calls the function for each key."""
        n_keys = input.keys.n_rows
        out: GroupOutput[Any] = GroupOutput(RowWriter(self._written), 1)
        arguments = extras(self._parameters, self._config, call, out)
        key_name, rows_name, state_name = self._names
        keys, cut = Keys(self._key, input.keys), Cut(self._row, input.values, input.ends, 0)
        old = RowReader(self._kept, input.state)
        if old.unreadable is not None:
            raise Failure(f"a state cannot be read: {old.reason(old.unreadable.index(1))}")
        states = (state for _, block in old.blocks() for state in block)
        new = RowWriter(self._kept)
        n_put, changes, timeouts_us = 0, bytearray(n_keys), [_KEEP] * n_keys
        for index in range(n_keys):
            out.begin(index)
            rows, span = cut.next_group(index, out)
            had_state = bool(input.has_state[index])
            state: State[Any] = State(
                next(states) if had_state else None, bool(input.timed_out[index]), self._timeouts, call
            )
            why = keys.why_unreadable(index)
            # All rows that it is called for have been rejected.
            nothing_left = len(span) > 0 and not rows and not (had_state and self._every_key)
            if why is None and not nothing_left:
                if key_name:
                    arguments[key_name] = keys.get(index)
                arguments[rows_name], arguments[state_name] = rows, state
                try:
                    result = self._function(**arguments)
                    emit(self._shape, list(result) if self._shape == "flat" else result, out)
                    changes[index] = state._change()
                    if changes[index] == 1:
                        new.append(state._state)
                        n_put += 1
                    # With its state a key has lost its timeout.
                    timeouts_us[index] = _KEEP if changes[index] == 2 else state._timeout_us
                except Reject as reject:
                    why = str(reject)
            if why is not None:
                out.reject_rows(0, span, why)
        out.settle()
        has_timeouts = self._timeouts != "never" and any(number != _KEEP for number in timeouts_us)
        return UpdaterOutput(
            bytes(changes),
            new.finish(n_put),
            out._writer.finish(len(out.group)),
            out.group,
            timeouts_us if has_timeouts else None,
            out.rejections()[0],
        )
