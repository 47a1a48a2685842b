"""The visits of a key in the order of time, each with the time since the one before."""

from dataclasses import dataclass
from typing import Iterator, Optional

from tidemill_guest import grouper


@dataclass
class Visit:
    """What is read of a row."""

    at: int
    page: Optional[str]


@dataclass
class Step:
    """What is written, behind the key."""

    at: int
    page: Optional[str]
    since: Optional[int]


@grouper
def path(rows: list[Visit]) -> Iterator[Step]:
    """All rows of a key, by time; of equal times, as they came."""
    before = None
    for visit in sorted(rows, key=lambda visit: visit.at):
        yield Step(visit.at, visit.page, None if before is None else visit.at - before)
        before = visit.at
