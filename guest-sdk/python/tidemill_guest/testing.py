"""Runs operators in tests as the host does: rows in, rows out, without a host and without WebAssembly.

    ran = testing.transform(split_words, [Line("to be")])
    assert ran.rows == [{"word": "to"}, {"word": "be"}]
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Iterable, Optional, Sequence

from .batch import Batch, RawBatch, rows_to_batch
from .hints import row_of
from .role import Call, Rejection, Step, operator_of
from .schema import Schema
from .session import Session


@dataclass
class Ran:
    """What came of a run."""

    #: The rows that were written, as dicts. What is carried is the host's to add.
    rows: list[dict[str, Any]]
    #: For each row the row of the input that it came from, as a transform says it; the group, as a grouper does.
    origin: Optional[list[int]] = None
    #: Rows of the input that were rejected: their numbers, and why.
    rejected: list[Rejection] = field(default_factory=list)

    def column(self, name: str) -> list[Any]:
        """The values of a column."""
        return [row[name] for row in self.rows]


def _step(config: Optional[dict[str, Any]]) -> Step:
    return Step(config=json.dumps(config or {}))


def _dicts(schema: Schema, raw: RawBatch) -> list[dict[str, Any]]:
    check(schema, raw)
    return Batch[Any](schema, raw).to_dicts()


def check(schema: Schema, raw: RawBatch) -> None:
    """Checks that a batch is as the contract says: as many nodes and buffers as its schema has, each of its length."""
    if raw.rows == 0 and not raw.nodes and not raw.buffers:
        return
    n_nodes = sum(column.n_nodes() for column in schema)
    n_buffers = sum(column.n_buffers() for column in schema)
    assert len(raw.nodes) == n_nodes, f"{len(raw.nodes)} nodes and not {n_nodes}"
    assert len(raw.buffers) == n_buffers, f"{len(raw.buffers)} buffers and not {n_buffers}"
    assert all(isinstance(buffer, bytes) for buffer in raw.buffers), "a buffer is not bytes"
    for column in Batch[Any](schema, raw).columns:
        assert len(column) == raw.rows, f"{column!r} in a batch of {raw.rows} rows"
        assert len(column.validity) in (0, (len(column) + 7) // 8), f"the validity of {column!r} is not a bit a value"
        assert column.null_count == column.to_list().count(None), f"{column!r} has not so many nulls"


def _select(schema: Schema, raw: RawBatch, reads: Optional[list[str]]) -> RawBatch:
    """The columns that an operator reads, in its order."""
    if reads is None:
        return raw
    parts: dict[str, tuple[list[Any], list[bytes]]] = {}
    nodes, buffers = list(raw.nodes), list(raw.buffers)
    for column in schema:
        n_nodes, n_buffers = column.n_nodes(), column.n_buffers()
        parts[column.name] = (nodes[:n_nodes], buffers[:n_buffers])
        nodes, buffers = nodes[n_nodes:], buffers[n_buffers:]
    chosen = [parts[name] for name in reads]
    return RawBatch(raw.rows, [node for own, _ in chosen for node in own], [buffer for _, own in chosen for buffer in own])


def transform(
    target: Any, rows: Sequence[Any], config: Optional[dict[str, Any]] = None, cls: Any = None, call: Call = Call()
) -> Ran:
    """Opens a transform, and processes rows, which are dataclasses, in one call. `cls` is their class where there are none."""
    session = Session(operator_of(target))
    schema, raw = rows_to_batch(cls or type(rows[0]), rows)
    plan = session.open_transform(_step(config), schema)
    output = session.process(call, _select(schema, raw, plan.reads))
    origin = None if output.origin is None else list(output.origin)
    return Ran(_dicts(plan.writes, output.rows), origin, output.rejected)


def _grouped(groups: Iterable[Sequence[Any]]) -> tuple[list[Any], list[int]]:
    rows: list[Any] = []
    ends = []
    for group in groups:
        rows += group
        ends.append(len(rows))
    return rows, ends


def reduce(target: Any, groups: Sequence[Sequence[Any]], config: Optional[dict[str, Any]] = None) -> Ran:
    """Opens a reducer, and reduces groups of rows."""
    session = Session(operator_of(target))
    rows, ends = _grouped(groups)
    schema, raw = rows_to_batch(type(rows[0]), rows)
    session.open_reducer(_step(config), schema)
    return Ran(_dicts(schema, session.reduce(Call(), raw, ends)))


def invert(target: Any, whole: Sequence[Any], part: Sequence[Any], config: Optional[dict[str, Any]] = None) -> Ran:
    """Opens a reducer, and takes `part` out of `whole`, row by row."""
    session = Session(operator_of(target))
    schema, raw = rows_to_batch(type(whole[0]), whole)
    assert session.open_reducer(_step(config), schema), "it has no inverse"
    return Ran(_dicts(schema, session.invert(Call(), raw, rows_to_batch(type(part[0]), part)[1])))


def aggregate(
    target: Any, groups: Sequence[Sequence[Any]], config: Optional[dict[str, Any]] = None, pieces: int = 1
) -> Ran:
    """Opens an aggregator, and aggregates groups of rows, each cut into `pieces` whose accumulators are merged."""
    session = Session(operator_of(target))
    pieces = max(1, min(pieces, *(len(group) for group in groups)))
    cut = [group[len(group) * n // pieces : len(group) * (n + 1) // pieces] for group in groups for n in range(pieces)]
    rows, ends = _grouped(cut)
    schema, raw = rows_to_batch(type(rows[0]), rows)
    plan = session.open_aggregator(_step(config), schema)
    accumulators = session.accumulate(Call(), _select(schema, raw, plan.reads), ends)
    check(plan.accumulator, accumulators)
    if pieces > 1:
        accumulators = session.merge(Call(), accumulators, [pieces * (n + 1) for n in range(len(groups))])
        check(plan.accumulator, accumulators)
    return Ran(_dicts(plan.result, session.finish(Call(), accumulators)))


def group(
    target: Any,
    groups: Sequence[tuple[Any, ...]],
    config: Optional[dict[str, Any]] = None,
    classes: Sequence[Any] = (),
) -> Ran:
    """Opens a grouper, and gives it groups: each a key, and a list of rows an input. `classes` are those of the inputs, where
    one has no rows at all. Of two inputs, rejected rows of the second are counted after those of the first."""
    session = Session(operator_of(target))
    keys, key_rows = rows_to_batch(type(groups[0][0]), [key for key, *_ in groups])
    inputs, schemas = [], []
    for number in range(len(groups[0]) - 1):
        rows, ends = _grouped(parts[number + 1] for parts in groups)
        schema, raw = rows_to_batch(classes[number] if classes else type(rows[0]), rows)
        inputs.append((raw, ends))
        schemas.append(schema)
    plan = session.open_grouper(_step(config), keys, schemas)
    sent = [(_select(schema, raw, reads), ends) for schema, (raw, ends), reads in zip(schemas, inputs, plan.reads)]
    output = session.process_groups(Call(), key_rows, sent)
    rejected, base = [], 0
    for (raw, _), of_input in zip(inputs, output.rejected):
        rejected += [(row + base, reason) for row, reason in of_input]
        base += raw.rows
    return Ran(_dicts(plan.writes, output.rows), list(output.group), rejected)


class Updates:
    """An updater and the state of its keys, batch by batch, as a host keeps it.

        batches = testing.Updates(silence, Device, Beat)
        ran = batches.run(0, [(Device(7), [Beat(3.2)])])
        assert batches.state(Device(7)) == {"volts": 3.2, "seen": 0}
    """

    def __init__(self, target: Any, key: Any, row: Any, config: Optional[dict[str, Any]] = None) -> None:
        self._session = Session(operator_of(target))
        self._key, self._row = key, row
        self._keys, self._values = row_of(key).schema(), row_of(row).schema()
        self._plan = self._session.open_updater(_step(config), self._keys, self._values)
        self._states: dict[Any, dict[str, Any]] = {}
        self._timeouts: dict[Any, int] = {}
        self._batch_id = 0

    def state(self, key: Any) -> Optional[dict[str, Any]]:
        """The state of a key."""
        return self._states.get(self._name(key))

    def timeout_us(self, key: Any) -> Optional[int]:
        """When a key times out."""
        return self._timeouts.get(self._name(key))

    @staticmethod
    def _name(key: Any) -> Any:
        return repr(key)

    def run(self, time_us: int, groups: Sequence[tuple[Any, Sequence[Any]]]) -> Ran:
        """Runs a batch: rows by key, then keys that timed out. `time_us` is the batch's time and its watermark."""
        call = Call(batch_id=self._batch_id, batch_time_us=time_us, watermark_us=time_us)
        self._batch_id += 1
        known = {self._name(key): key for key, _ in groups} | getattr(self, "_known", {})
        self._known = known
        ran = self._call(call, groups, timed_out=False)
        if self._plan.timeouts != "never":
            due = [known[name] for name, at in self._timeouts.items() if at <= time_us]
            if due:
                more = self._call(call, [(key, []) for key in due], timed_out=True)
                ran = Ran(ran.rows + more.rows, [], ran.rejected)
        return ran

    def _call(self, call: Call, groups: Sequence[tuple[Any, Sequence[Any]]], timed_out: bool) -> Ran:
        from .role import Writer

        names = [self._name(key) for key, _ in groups]
        _, keys = rows_to_batch(self._key, [key for key, _ in groups])
        rows, ends = _grouped(group for _, group in groups)
        _, values = rows_to_batch(self._row, rows)
        states = Writer(self._plan.state)
        states.extend([self._states[name] for name in names if name in self._states])
        n_states = sum(name in self._states for name in names)
        output = self._session.update(
            call,
            keys,
            _select(self._values, values, self._plan.reads),
            ends,
            states.finish(n_states),
            bytes(name in self._states for name in names),
            bytes([timed_out] * len(names)),
        )
        if timed_out:
            for name in names:
                self._timeouts.pop(name, None)
        new = iter(_dicts(self._plan.state, output.state))
        for name, change in zip(names, output.changes):
            if change == 1:
                self._states[name] = next(new)
            elif change == 2:
                self._states.pop(name, None)
                self._timeouts.pop(name, None)
        for name, at in zip(names, output.timeouts_us or []):
            if at == (1 << 63) - 1:
                self._timeouts.pop(name, None)
            elif at != -(1 << 63):
                self._timeouts[name] = at
        return Ran(_dicts(self._plan.writes, output.rows), list(output.group), output.rejected)
