"""Bytes of files that nobody vouches for: a length is believed only after a look at the size of the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, BinaryIO

import torch
from torch import Tensor

from eigenscope.checkpoints.base import damaged, reading
from eigenscope.errors import CheckpointError

JSON_LIMIT = 32 * 2**20  # bytes; parsed JSON takes up to 20 times as much memory
LARGEST_INDEX = 2**63 - 1


def byte_count(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes that a tensor takes; raises ValueError for a shape that no tensor has."""
    if any(type(length) is not int or not 0 <= length <= LARGEST_INDEX for length in shape) or len(shape) > 64:
        raise ValueError(f"a tensor of shape {plainly(shape)}")
    return math.prod(shape) * dtype.itemsize


def plainly(values: Sequence[object]) -> str:
    """Values from a file, in a few words: of what is no number only the type, for tuples within tuples have no end."""
    plain = [str(value)[:24] if isinstance(value, int | float) else f"a {type(value).__name__}" for value in values[:4]]
    return f"({', '.join([*plain, '…'] if len(values) > 4 else plain)}{',' if len(values) == 1 else ''})"


def check_spans(spans: Iterable[tuple[int, int, str]], end: int) -> None:
    """Raise ValueError where `(start, stop, name)` leaves [0, end] or two of them overlap."""
    last = 0
    for start, stop, name in sorted(spans):
        if not 0 <= start <= stop <= end:
            raise ValueError(f"{name} lies at bytes {start} to {stop} of {end}")
        if start < last and stop > start:
            raise ValueError(f"{name} overlaps another tensor")
        last = max(last, stop)


def read_tensor(path: Path, offset: int, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor whose values lie in the file as they lie in memory, from `offset` on; nothing else is read."""
    buffer = torch.empty(byte_count(shape, dtype), dtype=torch.uint8)
    with path.open("rb") as file:
        fill(file, offset, buffer.numpy().data)
    return buffer.view(dtype).reshape(tuple(shape))


def fill(file: BinaryIO, offset: int, target: memoryview) -> None:
    """Read as many bytes as `target` has, from `offset` on; raises ValueError where the file ends before."""
    file.seek(offset)
    pour(file, target)


def pour(stream: IO[bytes], target: memoryview) -> None:
    """Read as many bytes as `target` has, from where the stream stands."""
    done = 0
    while done < len(target):
        count = stream.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"it ends {len(target) - done} bytes early")
        done += count


def read_json(path: Path, limit: int = JSON_LIMIT) -> dict[str, object]:
    """A JSON object from a file of at most `limit` bytes; raises `CheckpointError` where it is none."""
    with reading(path):
        if path.stat().st_size > limit:
            raise CheckpointError(f"{path} has over {limit >> 20} MB: too much for a description of a model")
        return parse_json(path.read_bytes(), path)


def parse_json(text: bytes, what: object) -> dict[str, object]:
    """A JSON object without repeated keys; raises `CheckpointError` where it is none."""
    try:
        found = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise damaged(what, f"its JSON is not valid: {error}") from error
    if not isinstance(found, dict):
        raise damaged(what, "its JSON is not an object")
    return found


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


class Cursor:
    """A position in a file that never asks for more bytes than the file has."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self.position, self.stop = file, start, stop

    @property
    def left(self) -> int:
        """Bytes from here to the end."""
        return self.stop - self.position

    def take(self, count: int) -> bytes:
        """The next `count` bytes; raises ValueError where there are fewer."""
        if not 0 <= count <= self.left:
            raise ValueError(f"{count} bytes are claimed at byte {self.position} of {self.stop}")
        return self.read(count)

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or as many as there are: what a pickle parser expects."""
        self._file.seek(self.position)
        found = self._file.read(max(0, min(count, self.left)))
        self.position += len(found)
        return found

    def readline(self) -> bytes:
        """Up to the end of the line: what a pickle parser expects of a file."""
        self._file.seek(self.position)
        found = self._file.readline(min(self.left, 2**16))
        self.position += len(found)
        return found

    def unsigned(self, size: int) -> int:
        """The next little-endian integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")
