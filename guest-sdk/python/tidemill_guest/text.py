"""Text, a whole column at a time: what takes a Python object a row elsewhere is one call of the interpreter's C code here."""

from __future__ import annotations

import re
from array import array
from itertools import accumulate, chain, compress
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Sequence

if TYPE_CHECKING:
    from .column import Utf8Column

# Rows that are worked on at a time. Words of so few stay in the processor's caches, and take little of the instance's memory.
_ROWS_AT_ONCE = 2048

# White space as Unicode has it (White_Space). `str.split` has four control characters more.
_WORD = re.compile("[^\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_ASCII_WHITE = b" \t\n\f\r"
# What is white space for `str.split`, and is not in ASCII as the operators of Tidemill see it.
_CONTROLS = (b"\x0b", b"\x1c", b"\x1d", b"\x1e", b"\x1f")
_ASCII_WORD = re.compile(rb"[^\t\n\f\r ]+")


class Pieces:
    """What the texts of a column were split into, block by block: for `extend` of a builder, or to look at."""

    def __init__(
        self,
        column: "Utf8Column",
        blocks: Callable[[], Iterator[list[bytes]]],
        by_row: Callable[[bytes], list[bytes]],
        packed: Optional[Callable[[], Iterator[tuple[Sequence[str | bytes], bytes]]]] = None,
    ) -> None:
        self._column = column
        self._blocks = blocks
        self._by_row = by_row
        self._packed = packed

    def packed(self) -> Iterator[tuple[Sequence[str | bytes], bytes]]:
        """The pieces of some rows after those of others, of which only the lengths are to be read, and all their bytes."""
        if self._packed is not None:
            return self._packed()
        return ((pieces, b"".join(pieces)) for pieces in self._blocks())

    def blocks(self) -> Iterator[list[bytes]]:
        """The pieces of some rows after those of others. Which row each is of is lost: it is the fastest form."""
        return self._blocks()

    def rows(self) -> Iterator[list[bytes]]:
        """The pieces of each row."""
        column = self._column
        return (self._by_row(row) if ok else [] for row, ok in zip(column.to_bytes(), column.valid()))

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.blocks())

    def to_list(self) -> list[str]:
        """All pieces, as text."""
        return [piece.decode() for piece in self]


def _rows(column: "Utf8Column") -> Iterator[list[bytes]]:
    for start in range(0, column.length, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, column.length)
        rows = column.to_bytes(start, stop)
        # What stands in the place of a null is no text.
        yield list(compress(rows, column.valid(start, stop))) if column.null_count else rows


def split_words(column: "Utf8Column", unicode: bool) -> Pieces:
    """See `Utf8Column.split_words`."""
    data = column.data
    if not unicode:
        # `bytes.split` knows one white space more, the vertical tab.
        split = bytes.split if b"\x0b" not in data else _ASCII_WORD.findall
    elif data.isascii():
        split = bytes.split
    else:

        def split(piece: bytes) -> list[bytes]:
            return [word.encode() for word in _WORD.findall(piece.decode())]

    def blocks() -> Iterator[list[bytes]]:
        for rows in _rows(column):
            # A line feed between the rows, so that no word goes over the end of one.
            yield split(b"\n".join(rows))

    def packed() -> Iterator[tuple[Sequence[str | bytes], bytes]]:
        # Texts of characters that are bytes are made faster than bytes are, and what is left without white space is the words.
        is_plain = data.isascii() and not any(control in data for control in _CONTROLS)
        for rows in _rows(column):
            joined = b"\n".join(rows)
            words: Sequence[str | bytes] = joined.decode("ascii").split() if is_plain else split(joined)
            yield words, joined.translate(None, _ASCII_WHITE)

    return Pieces(column, blocks, split, None if unicode else packed)


def split(column: "Utf8Column", separator: str) -> Pieces:
    """See `Utf8Column.split`."""
    sought = separator.encode()
    if not sought:
        raise ValueError("the separator is empty")

    def by_row(piece: bytes) -> list[bytes]:
        return piece.split(sought)

    def blocks() -> Iterator[list[bytes]]:
        for rows in _rows(column):
            # A row that ends in a part of a separator may not make a whole one with the next.
            is_safe = len(sought) == 1
            pieces = sought.join(rows).split(sought) if is_safe else list(chain.from_iterable(map(by_row, rows)))
            yield pieces if rows else []

    return Pieces(column, blocks, by_row)


def map_text(column: "Utf8Column", change: Callable[[str], str]) -> "Utf8Column":
    """A column whose texts are changed, where a change keeps the length of ASCII text."""
    if column.data.isascii():
        changed = change(column.data.decode("ascii")).encode("ascii")
        return _same_offsets(column, changed)
    return map_values(column, change)


def map_values(column: "Utf8Column", change: Callable[[str], str]) -> "Utf8Column":
    """A column whose texts are changed one by one."""
    values = [change(value).encode() for value in column._values(0, column.length)]
    offsets = array("i", accumulate(map(len, values), initial=0))
    kind = type(column)
    return kind(column.field, column.length, column.null_count, column.validity, offsets.tobytes(), b"".join(values))


def _same_offsets(column: "Utf8Column", data: bytes) -> "Utf8Column":
    kind = type(column)
    offsets = bytes(memoryview(column.offsets).cast("B")) if column.length else b""
    return kind(column.field, column.length, column.null_count, column.validity, offsets, data)


def contains(column: "Utf8Column", needle: str) -> bytes:
    """See `Utf8Column.contains`."""
    sought = needle.encode()
    if sought not in column.data:
        return bytes(column.length)
    found = (sought in value and is_valid for value, is_valid in zip(column.to_bytes(), column.valid()))
    return bytes(map(bool, found))
