"""The mean of a key's readings."""

from dataclasses import dataclass
from typing import Optional

from tidemill_guest import aggregator


@dataclass
class Reading:
    """What is read of a row."""

    degrees: Optional[float]


@dataclass
class Sum:
    """What is kept of some rows, until all of the key's are together."""

    sum: float
    readings: int


@dataclass
class Mean:
    """What is written, behind the key."""

    mean: Optional[float]
    readings: int


@aggregator
class MeanOf:
    """The mean of what is not null; null when there is none."""

    def start(self) -> Sum:
        """What is kept of no rows."""
        return Sum(0.0, 0)

    def add(self, sum: Sum, reading: Reading) -> None:
        """Adds a row."""
        if reading.degrees is not None:
            sum.sum += reading.degrees
            sum.readings += 1

    def merge(self, sum: Sum, other: Sum) -> None:
        """Adds what is kept of rows that come after. It must be associative."""
        sum.sum += other.sum
        sum.readings += other.readings

    def finish(self, sum: Sum) -> Mean:
        """The result."""
        return Mean(sum.sum / sum.readings if sum.readings else None, sum.readings)
