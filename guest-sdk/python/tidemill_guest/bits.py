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


def prefix_sums(lengths: bytes, base: int) -> bytes:
    """The sum of `base` and all lengths up to each, as 32-bit numbers: `accumulate` without an object a number.

    All of them are one large number, of 32 bits a length. Added to itself, moved by 1, 2, 4, … of them, every 32 bits become the sum of
    those before them. The sums must be below 2**32.
    """
    n_lengths = len(lengths)
    if not n_lengths:
        return b""
    lanes = bytearray(4 * n_lengths)
    lanes[::4] = lengths
    sums = int.from_bytes(lanes, "little") + base
    distance = 1
    while distance < n_lengths:
        sums += sums << (32 * distance)
        distance *= 2
    return (sums & ((1 << (32 * n_lengths)) - 1)).to_bytes(4 * n_lengths, "little")
