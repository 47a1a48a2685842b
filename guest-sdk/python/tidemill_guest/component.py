"""The component's side of the contract: makes what `componentize-py` exports of a module's operators.

Only of use while a plugin is built and inside it: its imports are the bindings that `componentize-py` makes.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any, Optional, Sequence

from . import diagnostics
from .batch import RawBatch
from .errors import Failure, Refusal
from .role import Call, Operator, Rejection, Step
from .schema import DataType, Field, Schema
from .session import Session


def operators_in(module: Any) -> dict[str, Operator]:
    """The operators of a module by their role. A plugin has one of each at most."""
    found: dict[str, Operator] = {}
    for value in vars(module).values():
        operator = getattr(value, "__tidemill__", None)
        # What a module imports from another is that one's.
        if isinstance(operator, Operator) and inspect.getmodule(value) is module:
            other = found.setdefault(operator.role, operator)
            if other is not operator:
                raise TypeError(f"`{other.name}` and `{operator.name}` are both a {operator.role}: a plugin has one")
    return found


class Bridge:
    """Turns the contract's records into the SDK's and back."""

    def __init__(self, imports: Any) -> None:
        self.arrow, self.types = imports.arrow, imports.types
        self._err = __import__("componentize_py_types").Err
        self._names: dict[str, str] = {}
        for name in dir(self.arrow):
            if name.startswith("DataType_"):
                kind = name.removeprefix("DataType_")
                self._names[kind] = _contract_name(kind)
        self._kinds = {contract: kind for kind, contract in self._names.items()}
        self._units = dict(zip(("s", "ms", "us", "ns"), self.arrow.TimeUnit))
        self._unit_names = {unit: name for name, unit in self._units.items()}

    def step(self, step: Any) -> Step:
        """A step."""
        return Step(step.job, step.step, step.partitions, step.config)

    def call(self, call: Any) -> Call:
        """A call."""
        return Call(
            call.batch_id, call.batch_time_us, call.partition, call.attempt, call.first_row, call.watermark_us
        )

    def schema(self, fields: Sequence[Any]) -> Schema:
        """A schema from its fields in pre-order."""
        rest = iter(fields)

        def field(flat: Any) -> Field:
            children = tuple(field(next(rest)) for _ in range(flat.children))
            return Field(flat.name, self._data_type(flat.data_type), flat.nullable, children)

        return Schema(field(flat) for flat in rest)

    def _data_type(self, found: Any) -> DataType:
        name = self._names[type(found).__name__.removeprefix("DataType_")]
        if name == "fixed-size-binary":
            return DataType(name, width=found.value)
        if name == "timestamp":
            unit, zone = found.value
            return DataType(name, unit=self._unit_names[unit], zone=zone)
        if name == "duration":
            return DataType(name, unit=self._unit_names[found.value])
        if name == "decimal128":
            precision, scale = found.value
            return DataType(name, precision=precision, scale=scale)
        return DataType(name)

    def fields(self, schema: Schema) -> list[Any]:
        """A schema's fields in pre-order."""
        flat: list[Any] = []

        def add(field: Field) -> None:
            kind = field.data_type
            make = getattr(self.arrow, "DataType_" + self._kinds[kind.name])
            if kind.name == "fixed-size-binary":
                data_type = make(kind.width)
            elif kind.name == "timestamp":
                data_type = make((self._units[kind.unit], kind.zone))
            elif kind.name == "duration":
                data_type = make(self._units[kind.unit])
            elif kind.name == "decimal128":
                data_type = make((kind.precision, kind.scale))
            else:
                data_type = make()
            flat.append(self.arrow.Field(field.name, data_type, field.nullable, len(field.children)))
            for child in field.children:
                add(child)

        for field in schema:
            add(field)
        return flat

    @staticmethod
    def raw(batch: Any) -> RawBatch:
        """A batch that came in. Its buffers are those of the call."""
        return RawBatch(batch.rows, [(node.length, node.null_count) for node in batch.nodes], batch.buffers)

    def batch(self, raw: RawBatch) -> Any:
        """A batch that goes out."""
        nodes = [self.arrow.Node(length, null_count) for length, null_count in raw.nodes]
        return self.arrow.Batch(raw.rows, nodes, list(raw.buffers))

    def rejected(self, rejected: Sequence[Rejection]) -> list[Any]:
        """Rejected rows."""
        return [self.types.Rejection(row, reason) for row, reason in rejected]

    def refusal(self, refusal: Refusal) -> Exception:
        """A refusal as the contract's error."""
        kind = getattr(self.types, "Refusal_" + refusal.kind.capitalize())
        error: Exception = self._err(kind(str(refusal)))
        return error

    def failure(self, failure: Failure) -> Exception:
        """A failure as the contract's error."""
        kind = getattr(self.types, "Failure_" + failure.kind.capitalize())
        error: Exception = self._err(kind(str(failure)))
        return error


def _contract_name(kind: str) -> str:
    """`FixedSizeBinary` as the contract writes it."""
    if kind == "FixedSizeBinary":
        return "fixed-size-binary"
    return kind.lower()


def _opens(function: Any) -> Any:
    def open_(self: Any, *arguments: Any) -> Any:
        try:
            return function(self, *arguments)
        except Refusal as refusal:
            raise self.bridge.refusal(refusal) from None

    return open_


def _calls(function: Any) -> Any:
    def call(self: Any, *arguments: Any) -> Any:
        try:
            return function(self, *arguments)
        except Failure as failure:
            raise self.bridge.failure(failure) from None

    return call


class _Exported:
    """What every exported role has. Its instances come and go; what was opened is the instance's of the component."""

    bridge: Bridge
    contract: Any
    operator: Operator
    session: Optional[Session] = None

    @classmethod
    def new_session(cls) -> Session:
        """Opens the operator anew."""
        cls.session = Session(cls.operator)
        return cls.session

    @classmethod
    def opened(cls) -> Session:
        """The operator that was opened."""
        if cls.session is None:
            raise Failure("it was called before it was opened")
        return cls.session


class _Transform(_Exported):
    @_opens
    def open(self, step: Any, input: Any) -> Any:
        b, contract = self.bridge, self.contract
        plan = self.new_session().open_transform(b.step(step), b.schema(input))
        carries: Any
        if plan.carries == "none":
            carries = contract.Carried_Nothing()
        elif plan.carries == "all":
            carries = contract.Carried_Everything()
        else:
            carries = contract.Carried_Only(list(plan.carries))
        return contract.Plan(plan.reads, b.fields(plan.writes), carries)

    @_calls
    def process(self, call: Any, input: Any) -> Any:
        b = self.bridge
        output = self.opened().process(b.call(call), b.raw(input))
        origin = None if output.origin is None else list(output.origin)
        return self.contract.Output(b.batch(output.rows), origin, b.rejected(output.rejected))


class _Reducer(_Exported):
    @_opens
    def open(self, step: Any, values: Any) -> Any:
        b = self.bridge
        return self.contract.Plan(self.new_session().open_reducer(b.step(step), b.schema(values)))

    @_calls
    def reduce(self, call: Any, values: Any, ends: Any) -> Any:
        b = self.bridge
        return b.batch(self.opened().reduce(b.call(call), b.raw(values), ends))

    @_calls
    def invert(self, call: Any, whole: Any, part: Any) -> Any:
        b = self.bridge
        return b.batch(self.opened().invert(b.call(call), b.raw(whole), b.raw(part)))


class _Aggregator(_Exported):
    @_opens
    def open(self, step: Any, values: Any) -> Any:
        b = self.bridge
        plan = self.new_session().open_aggregator(b.step(step), b.schema(values))
        return self.contract.Plan(plan.reads, b.fields(plan.accumulator), b.fields(plan.result))

    @_calls
    def accumulate(self, call: Any, values: Any, ends: Any) -> Any:
        b = self.bridge
        return b.batch(self.opened().accumulate(b.call(call), b.raw(values), ends))

    @_calls
    def merge(self, call: Any, accumulators: Any, ends: Any) -> Any:
        b = self.bridge
        return b.batch(self.opened().merge(b.call(call), b.raw(accumulators), ends))

    @_calls
    def finish(self, call: Any, accumulators: Any) -> Any:
        b = self.bridge
        return b.batch(self.opened().finish(b.call(call), b.raw(accumulators)))


class _Grouper(_Exported):
    @_opens
    def open(self, step: Any, keys: Any, inputs: Any) -> Any:
        b = self.bridge
        plan = self.new_session().open_grouper(b.step(step), b.schema(keys), [b.schema(fields) for fields in inputs])
        return self.contract.Plan(plan.reads, b.fields(plan.writes))

    @_calls
    def process(self, call: Any, keys: Any, inputs: Any) -> Any:
        b = self.bridge
        grouped = [(b.raw(grouped.rows), grouped.ends) for grouped in inputs]
        output = self.opened().process_groups(b.call(call), b.raw(keys), grouped)
        rejected = [b.rejected(rows) for rows in output.rejected]
        return self.contract.Output(b.batch(output.rows), list(output.group), rejected)


class _Updater(_Exported):
    @_opens
    def open(self, step: Any, keys: Any, values: Any) -> Any:
        b, contract = self.bridge, self.contract
        plan = self.new_session().open_updater(b.step(step), b.schema(keys), b.schema(values))
        calling = contract.Calling[plan.calling.replace("-", "_").upper()]
        timeouts = contract.Timeouts[plan.timeouts.replace("-", "_").upper()]
        return contract.Plan(plan.reads, b.fields(plan.state), b.fields(plan.writes), calling, timeouts)

    @_calls
    def update(self, call: Any, input: Any) -> Any:
        b = self.bridge
        output = self.opened().update(
            b.call(call),
            b.raw(input.keys),
            b.raw(input.values),
            input.ends,
            b.raw(input.state),
            input.has_state,
            input.timed_out,
        )
        return self.contract.Output(
            output.changes,
            b.batch(output.state),
            None if output.timeouts_us is None else list(output.timeouts_us),
            b.batch(output.rows),
            list(output.group),
            b.rejected(output.rejected),
        )


_EXPORTED: dict[str, type[_Exported]] = {
    "transform": _Transform,
    "reducer": _Reducer,
    "aggregator": _Aggregator,
    "grouper": _Grouper,
    "updater": _Updater,
}


def exports(module: Any, world: Any) -> dict[str, type]:
    """The classes that `componentize-py` looks for, by their names, for the operators of a module."""
    bridge = Bridge(world.imports)
    diagnostics.connect(world.imports.diagnostics)
    made: dict[str, type] = {}
    for role, operator in operators_in(module).items():
        contract = importlib.import_module(f"{world.__name__}.exports.{role}")
        made[role.capitalize()] = type(
            role.capitalize(),
            (_EXPORTED[role],),
            {"bridge": bridge, "contract": contract, "operator": operator},
        )
    return made
