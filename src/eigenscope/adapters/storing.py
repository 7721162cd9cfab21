"""safetensors files, written one tensor at a time.

The safetensors package writes a file from tensors that are all in memory; a merged model has to be streamed. The
layout is eight bytes of length, a JSON header, then the values: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from eigenscope.errors import InputError

_CODES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8"},
    **{torch.bool: "BOOL", torch.complex64: "C64"},
}


@dataclass(frozen=True)
class Slot:
    """A tensor that a file will hold."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(
    path: Path, slots: list[Slot], tensors: Iterator[Tensor], aliases: Mapping[str, str] | None = None
) -> None:
    """Write the tensors in the order of their slots; `aliases` are names that stand for another tensor of the file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", **(aliases or {})}}
    offset = 0
    for slot in slots:
        end = offset + slot.bytes
        header[slot.name] = {"dtype": _CODES[slot.dtype], "shape": list(slot.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for slot, tensor in zip(slots, tensors, strict=True):
            _pour(file, slot, tensor)
        file.flush()
        os.fsync(file.fileno())


def _pour(file: BinaryIO, slot: Slot, tensor: Tensor) -> None:
    if tuple(tensor.shape) != slot.shape or tensor.dtype != slot.dtype:
        raise InputError(
            f"{slot.name} became {tensor.dtype} {tuple(tensor.shape)} while it was read: was it rewritten?"
        )
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    file.write(plain.view(torch.uint8).numpy().data if plain.numel() else b"")
