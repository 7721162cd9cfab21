"""Protocol buffers, as far as a file of fields goes: which field, and where its value lies. Nothing is copied.

The wire format: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

Buffer = mmap | bytes
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """One field of a message: an integer in `value`, or the bytes from `start` to `stop`."""

    number: int
    wire: int
    value: int
    start: int
    stop: int


def fields(buffer: Buffer, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message that lies in `buffer[start:stop]`; raises ValueError where it is none."""
    while start < stop:
        key, start = varint(buffer, start, stop)
        wire, value = key & 7, 0
        if wire == VARINT:
            value, end = varint(buffer, start, stop)
        elif wire == BYTES:
            length, start = varint(buffer, start, stop)
            end = start + length
        elif wire in (FIXED64, FIXED32):
            end = start + (8 if wire == FIXED64 else 4)
        else:
            raise ValueError(f"a field of wire type {wire} at byte {start}")
        if end > stop or key >> 3 == 0:
            raise ValueError(f"field {key >> 3} at byte {start} reaches to {end} of {stop}")
        yield Field(key >> 3, wire, value, start, end)
        start = end


def varint(buffer: Buffer, start: int, stop: int) -> tuple[int, int]:
    """The integer at `start`, and where the next value starts."""
    value = 0
    for index in range(start, min(stop, start + 10)):
        byte = buffer[index]
        value |= (byte & 127) << 7 * (index - start)
        if byte < 128:
            return value, index + 1
    raise ValueError(f"an integer without an end at byte {start}")


def packed(data: UInt8[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """All integers of a packed field, negative ones in two's complement."""
    ends = np.flatnonzero(data < 128)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
        raise ValueError("a list of integers without an end")
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    position = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    if len(data) and position.max() > 9:
        raise ValueError("an integer of over ten bytes")
    parts = (data & 127).astype(np.uint64) << (7 * position).astype(np.uint64)
    whole = np.add.reduceat(parts, starts) if len(ends) else np.zeros(0, np.uint64)
    return whole.astype(np.uint64).view(np.int64)
