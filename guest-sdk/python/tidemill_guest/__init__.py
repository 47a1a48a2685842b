"""Operators of Tidemill in Python: dataclasses as rows, functions as operators, whole columns where speed counts."""

from . import diagnostics, testing
from .batch import Batch
from .column import Column
from .errors import ConfigRefusal, Failure, Refusal, Reject, Retry, SchemaRefusal
from .hints import (
    DateDays,
    DurationUs,
    Float32,
    Float64,
    Int8,
    Int16,
    Int32,
    Int64,
    TimestampUs,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    column,
)
from .keyed import Groups, Rows, aggregator, grouper, reducer
from .operator import operator
from .output import Output
from .role import (
    Aggregator,
    AggregatorPlan,
    Call,
    Grouper,
    GrouperOutput,
    GrouperPlan,
    Reducer,
    Step,
    Transform,
    TransformOutput,
    TransformPlan,
    Updater,
    UpdaterInput,
    UpdaterOutput,
    UpdaterPlan,
    Writer,
)
from .config import read_config
from .schema import DataType, Field, Schema, decimal128, duration, fixed_size_binary, timestamp
from .state import State, updater

#: The contract that this version of the SDK speaks.
CONTRACT = "tidemill:operator@0.1.0"
__version__ = "0.1.0"
