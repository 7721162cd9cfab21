"""GGUF, the format of llama.cpp: its header is read here, quantized values are unpacked by the `gguf` package.

The layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenscope.checkpoints.base import Checkpoint, Entry
from eigenscope.checkpoints.files import Cursor, byte_count, check_spans, read_tensor
from eigenscope.checkpoints.registry import Format
from eigenscope.checkpoints.tokens import spelled
from eigenscope.errors import CheckpointError

MAGIC = b"GGUF"
TEXT, ARRAY = 8, 9
_NUMBERS = {
    **{0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4"},
    **{6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"},
}
_PLAIN = {
    **{0: torch.float32, 1: torch.float16, 30: torch.bfloat16, 28: torch.float64},
    **{24: torch.int8, 25: torch.int16, 26: torch.int32, 27: torch.int64},
}
_TOKEN_ROWS = ("token_embd.weight", "output.weight")


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies."""

    offset: int
    code: int  # its type
    size: int  # bytes


class Gguf(Checkpoint):
    """A GGUF file."""

    format = "gguf"

    def __init__(self, path: Path) -> None:
        self._path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            cursor = Cursor(file, 0, size)
            tensors, config = _counts(path, cursor)
            infos = [_info(cursor) for _ in range(tensors)]
        alignment = config.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise ValueError(f"its alignment is {alignment!r}")
        start = -(-cursor.position // alignment) * alignment
        self._places: dict[str, _Place] = {}
        entries = [self._entry(*info, start) for info in infos]
        check_spans([(p.offset, p.offset + p.size, name) for name, p in self._places.items()], size)
        super().__init__(path.name, entries, config=config, notes=_notes(config))

    def _entry(self, name: str, shape: tuple[int, ...], code: int, offset: int, start: int) -> Entry:
        dtype = _PLAIN.get(code)
        if dtype is not None:
            self._places[name] = _Place(start + offset, code, byte_count(shape, dtype))
            return Entry.of(name, shape, dtype)
        type_name, block, block_bytes = _quantization(code)
        values = byte_count(shape, torch.uint8)
        if not shape or shape[-1] % block:
            raise ValueError(f"{name} of shape {shape} does not divide into blocks of {block}")
        self._places[name] = _Place(start + offset, code, values // block * block_bytes)
        return Entry(name, shape, type_name, "quantized", _roundoff(type_name), block=_step_block(type_name, block))

    def _load(self, entry: Entry) -> Tensor:
        place = self._places[entry.name]
        if place.code in _PLAIN:
            return read_tensor(self._path, place.offset, entry.shape, _PLAIN[place.code])
        quants = _package()
        rows = place.size // max(1, byte_count(entry.shape[:-1], torch.uint8))
        packed = read_tensor(self._path, place.offset, (*entry.shape[:-1], rows), torch.uint8).numpy()
        with np.errstate(all="ignore"):  # a damaged scale may overflow; the value is then what it is
            values = quants.quants.dequantize(packed, quants.GGMLQuantizationType(place.code))
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).reshape(entry.shape)

    def labels(self, name: str, axis: int) -> Sequence[str] | None:
        """The tokens, for the rows of the embedding and of the output."""
        tokens = self.config.get("tokenizer.ggml.tokens")
        entry = self._by_name.get(name)
        if axis != 0 or name not in _TOKEN_ROWS or entry is None or not isinstance(tokens, list):
            return None
        return spelled(list(map(str, tokens))) if len(tokens) == entry.shape[0] else None


def _counts(path: Path, cursor: Cursor) -> tuple[int, Mapping[str, object]]:
    """The number of tensors, and what the file says of the model."""
    if cursor.take(4) != MAGIC:
        raise ValueError("it does not start with GGUF")
    version = cursor.unsigned(4)
    if version not in (2, 3):
        what = "big-endian" if version & 0xFFFF == 0 else f"of version {version}"
        raise CheckpointError(f"{path} is {what}: eigenscope reads little-endian GGUF of versions 2 and 3; convert it")
    tensors, count = cursor.unsigned(8), cursor.unsigned(8)
    if tensors * 24 + count * 12 > cursor.left:
        raise ValueError(f"its header claims {tensors} tensors and {count} properties")
    config: dict[str, object] = {}
    for _ in range(count):
        key = _string(cursor)
        config[key] = _value(cursor, cursor.unsigned(4))
    return tensors, config


def _string(cursor: Cursor) -> str:
    return cursor.take(cursor.unsigned(8)).decode("utf-8", "replace")


def _value(cursor: Cursor, code: int, depth: int = 4) -> object:
    if code == TEXT:
        return _string(cursor)
    if code == ARRAY and depth:
        inner, count = cursor.unsigned(4), cursor.unsigned(8)
        if inner in _NUMBERS:
            return np.frombuffer(cursor.take(count * np.dtype(_NUMBERS[inner]).itemsize), _NUMBERS[inner])
        if count * 8 > cursor.left:
            raise ValueError(f"a list of {count} items at byte {cursor.position}")
        return [_value(cursor, inner, depth - 1) for _ in range(count)]
    if code not in _NUMBERS:
        raise ValueError(f"a property of type {code} at byte {cursor.position}")
    return np.frombuffer(cursor.take(np.dtype(_NUMBERS[code]).itemsize), _NUMBERS[code])[0].item()


def _info(cursor: Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape (slowest dimension first), type and offset of one tensor."""
    name, dimensions = _string(cursor), cursor.unsigned(4)
    if dimensions > 8:
        raise ValueError(f"{name[:80]!r} has {dimensions} dimensions")
    shape = tuple(cursor.unsigned(8) for _ in range(dimensions))[::-1]
    return name, shape, cursor.unsigned(4), cursor.unsigned(8)


def _package() -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise CheckpointError("quantized GGUF needs the gguf package: pip install 'eigenscope[gguf]'") from error
    return gguf


def _quantization(code: int) -> tuple[str, int, int]:
    """Name, values in a block and bytes of a block of a quantized type."""
    package = _package()
    try:
        kind = package.GGMLQuantizationType(code)
    except ValueError:
        raise CheckpointError(
            f"GGUF type {code} is unknown to gguf: pip install --upgrade gguf, or the file is damaged"
        ) from None
    block, size = package.GGML_QUANT_SIZES[kind]
    return kind.name, block, size


def _step_block(type_name: str, block: int) -> int:
    """Values with a step of their own: a block, or of a K-quant's 256 the 16 or 32 that it divides them into."""
    return min(block, 32) if type_name.endswith("_K") else block


def _roundoff(type_name: str) -> float:
    """2¹⁻ᵇ for b-bit types: a step, where 2ᵇ steps span a block from −max to max; Q4_0 and its like clip one end."""
    bits = re.search(r"\d+", type_name)
    return 2.0 ** (1 - int(bits[0])) if bits else 1.0


def _notes(config: Mapping[str, object]) -> list[str]:
    parts = config.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        return [f"this is one of {parts} parts of a split model: the other parts are files of their own"]
    return []


FORMAT = Format("GGUF", (".gguf",), lambda _, head: head.startswith(MAGIC), Gguf)
