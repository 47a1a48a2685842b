"""An opened operator: what stands between the contract's batches and a role. The component and the tests both go through it."""

from __future__ import annotations

import traceback
from typing import Any, Optional, Sequence

from . import diagnostics
from .batch import Batch, RawBatch
from .errors import Failure, Refusal
from .hints import HintError
from .role import (
    AggregatorPlan,
    Call,
    GrouperOutput,
    GrouperPlan,
    Operator,
    Step,
    TransformOutput,
    TransformPlan,
    UpdaterInput,
    UpdaterOutput,
    UpdaterPlan,
)
from .schema import Schema

_OWN_FOLDER = __file__.rpartition("/")[0]


def describe(error: BaseException) -> str:
    """An exception that nobody expected, with the line of the operator that raised it."""
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if not frame.filename.startswith(_OWN_FOLDER)), None)
    if frame is None:
        return words
    return f"{words} ({frame.filename.rpartition('/')[2]}, line {frame.lineno}, in {frame.name})"


def tell(error: BaseException) -> None:
    """Writes to the log where an exception came from."""
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-8))
    diagnostics.log("error", lines[-4000:].strip())


class Session:
    """One operator that was opened for one step."""

    def __init__(self, operator: Operator) -> None:
        self._role: Any = operator.make()
        self._reads: list[Schema] = []
        self._keys = Schema()
        self._accumulator = Schema()
        self._state = Schema()

    def _open(self, *arguments: Any) -> Any:
        try:
            return self._role.open(*arguments)
        except Refusal:
            raise
        except HintError as error:
            raise Refusal(str(error)) from error
        except Exception as error:
            tell(error)
            raise Refusal(describe(error)) from error

    @staticmethod
    def _call(function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Failure:
            raise
        except Exception as error:
            tell(error)
            raise Failure(describe(error)) from error

    @staticmethod
    def _selected(schema: Schema, reads: Optional[list[str]]) -> Schema:
        return schema if reads is None else schema.select(reads)

    def open_transform(self, step: Step, input: Schema) -> TransformPlan:
        """Opens a transform."""
        plan: TransformPlan = self._open(step, input)
        self._reads = [self._selected(input, plan.reads)]
        return plan

    def process(self, call: Call, raw: RawBatch) -> TransformOutput:
        """Calls a transform."""
        output: TransformOutput = self._call(self._role.process, call, Batch(self._reads[0], raw))
        return output

    def open_reducer(self, step: Step, values: Schema) -> bool:
        """Opens a reducer."""
        self._reads = [values]
        return bool(self._open(step, values))

    def reduce(self, call: Call, raw: RawBatch, ends: Sequence[int]) -> RawBatch:
        """Calls a reducer."""
        rows: RawBatch = self._call(self._role.reduce, call, Batch(self._reads[0], raw), ends)
        return rows

    def invert(self, call: Call, whole: RawBatch, part: RawBatch) -> RawBatch:
        """Calls a reducer's inverse."""
        schema = self._reads[0]
        rows: RawBatch = self._call(self._role.invert, call, Batch(schema, whole), Batch(schema, part))
        return rows

    def open_aggregator(self, step: Step, values: Schema) -> AggregatorPlan:
        """Opens an aggregator."""
        plan: AggregatorPlan = self._open(step, values)
        self._reads, self._accumulator = [self._selected(values, plan.reads)], plan.accumulator
        return plan

    def accumulate(self, call: Call, raw: RawBatch, ends: Sequence[int]) -> RawBatch:
        """Calls an aggregator with rows."""
        rows: RawBatch = self._call(self._role.accumulate, call, Batch(self._reads[0], raw), ends)
        return rows

    def merge(self, call: Call, raw: RawBatch, ends: Sequence[int]) -> RawBatch:
        """Calls an aggregator with accumulators."""
        rows: RawBatch = self._call(self._role.merge, call, Batch(self._accumulator, raw), ends)
        return rows

    def finish(self, call: Call, raw: RawBatch) -> RawBatch:
        """Calls an aggregator for results."""
        rows: RawBatch = self._call(self._role.finish, call, Batch(self._accumulator, raw))
        return rows

    def open_grouper(self, step: Step, keys: Schema, inputs: list[Schema]) -> GrouperPlan:
        """Opens a grouper."""
        plan: GrouperPlan = self._open(step, keys, inputs)
        self._keys = keys
        self._reads = [self._selected(schema, reads) for schema, reads in zip(inputs, plan.reads)]
        return plan

    def process_groups(
        self, call: Call, keys: RawBatch, inputs: list[tuple[RawBatch, Sequence[int]]]
    ) -> GrouperOutput:
        """Calls a grouper."""
        batches = [(Batch[Any](schema, raw), ends) for schema, (raw, ends) in zip(self._reads, inputs)]
        output: GrouperOutput = self._call(self._role.process, call, Batch(self._keys, keys), batches)
        return output

    def open_updater(self, step: Step, keys: Schema, values: Schema) -> UpdaterPlan:
        """Opens an updater."""
        plan: UpdaterPlan = self._open(step, keys, values)
        self._keys, self._reads, self._state = keys, [self._selected(values, plan.reads)], plan.state
        return plan

    def update(
        self,
        call: Call,
        keys: RawBatch,
        values: RawBatch,
        ends: Sequence[int],
        state: RawBatch,
        has_state: bytes,
        timed_out: bytes,
    ) -> UpdaterOutput:
        """Calls an updater."""
        given = UpdaterInput(
            Batch(self._keys, keys),
            Batch(self._reads[0], values),
            ends,
            Batch(self._state, state),
            has_state,
            timed_out,
        )
        output: UpdaterOutput = self._call(self._role.update, call, given)
        return output
