"""The sums and the highest of a key's rows."""

from dataclasses import dataclass

from tidemill_guest import Groups, Output, reducer


@dataclass
class Sales:
    """What is read, and what is written: a reducer combines rows into one of the same columns."""

    count: int
    amount: int
    highest: int


@reducer
def combine(groups: Groups[Sales], out: Output[Sales]) -> None:
    """Combines the rows of each group into one. It must be associative: what comes out is combined further.

    It works on whole columns; a function `(a: Sales, b: Sales) -> Sales` is the same row by row.
    """
    out.count.extend(groups.count.sum_by(groups.ends))
    out.amount.extend(groups.amount.sum_by(groups.ends))
    out.highest.extend(groups.highest.max_by(groups.ends))
