"""Bits, least significant first, to bytes of 0 and 1 and back, a whole buffer at a time."""

from __future__ import annotations

from typing import Iterable

_EIGHT = [bytes((byte >> bit) & 1 for bit in range(8)) for byte in range(256)]


def unpack(bits: bytes, start: int, stop: int) -> bytes:
    """A byte a bit from `start` to before `stop`: 0 or 1."""
    first = start >> 3
    unpacked = b"".join(map(_EIGHT.__getitem__, bits[first : (stop + 7) >> 3]))
    return unpacked[start - 8 * first : stop - 8 * first]


def pack(flags: bytes | bytearray) -> bytes:
    """A bit a byte, each of which is 0 or 1."""
    n_bytes = (len(flags) + 7) // 8
    # Eight large numbers, each with one bit of every byte: no loop over the flags.
    packed = 0
    for bit in range(8):
        packed |= int.from_bytes(flags[bit::8], "little") << bit
    return packed.to_bytes(n_bytes, "little")


def flags(values: Iterable[object]) -> bytes:
    """1 for each value that is true, or 0."""
    return bytes(map(bool, values))


def are_valid(values: Iterable[object]) -> bytes:
    """0 for each value that is `None`, or 1."""
    return bytes([value is not None for value in values])
