"""safetensors: eight bytes of length, a JSON header, then the values; read by hand, one tensor at a time.

The layout: https://github.com/huggingface/safetensors. Its own rules are kept: no repeated key, no overlap, nothing
outside of the file. A name in `__metadata__` that stands for another tensor (`save_model` writes those) is tied to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from eigenscope.checkpoints.base import Checkpoint, Entry
from eigenscope.checkpoints.files import JSON_LIMIT, byte_count, check_spans, parse_json, read_tensor
from eigenscope.checkpoints.registry import Format
from eigenscope.errors import CheckpointError

_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16},
    **{"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2},
    **{"F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8},
    **{"U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8},
    **{"BOOL": torch.bool, "C64": torch.complex64},
}
_WITHOUT_TYPE = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8}  # bits; PyTorch can't compute with them


@dataclass(frozen=True)
class _Span:
    """Where a tensor lies."""

    offset: int  # from the start of the file
    dtype: torch.dtype


class Safetensors(Checkpoint):
    """A safetensors file."""

    format = "safetensors"

    def __init__(self, path: Path) -> None:
        self._path = path
        header, start, size = _header(path)
        metadata = header.pop("__metadata__", None)
        self._spans: dict[str, _Span] = {}
        entries = [self._entry(name, info, start) for name, info in header.items()]
        check_spans([_stored(name, info) for name, info in header.items()], size - start)
        by_name = {entry.name: entry for entry in entries}
        tied = _tied(metadata, by_name)
        for name, kept in tied.items():
            entry = by_name[kept]
            entries.append(replace(entry, name=name))
            if kept in self._spans:
                self._spans[name] = self._spans[kept]
        super().__init__(path.name, entries, tied=tied)

    def _entry(self, name: str, info: object, start: int) -> Entry:
        code, shape, begin, end = _fields(name, info)
        if code in _WITHOUT_TYPE:
            expected = (byte_count(shape, torch.uint8) * _WITHOUT_TYPE[code] + 7) // 8
            entry = Entry.unreadable(name, shape, code, f"PyTorch has no numbers of type {code}")
        elif code in _DTYPES:
            expected, entry = byte_count(shape, _DTYPES[code]), Entry.of(name, shape, _DTYPES[code])
            self._spans[name] = _Span(start + begin, _DTYPES[code])
        else:
            raise ValueError(f"{name} is of the unknown type {code[:20]!r}")
        if end - begin != expected:
            raise ValueError(f"{name} needs {expected} bytes and is given {end - begin}")
        return entry

    def _load(self, entry: Entry) -> Tensor:
        span = self._spans[entry.name]
        return read_tensor(self._path, span.offset, entry.shape, span.dtype)


def _header(path: Path) -> tuple[dict[str, object], int, int]:
    """The header, where the values start, and the size of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"its header claims {length} bytes, the file holds {max(0, size - 8)}")
        if length > JSON_LIMIT:
            raise CheckpointError(f"{path} has a header of {length} bytes, over the limit of {JSON_LIMIT}")
        return parse_json(file.read(length), path), 8 + length, size


def _fields(name: str, info: object) -> tuple[str, tuple[int, ...], int, int]:
    match info:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            return code, tuple(shape), begin, end
    raise ValueError(f"the header says nothing sound about {name[:80]!r}")


def _stored(name: str, info: object) -> tuple[int, int, str]:
    *_, begin, end = _fields(name, info)
    return begin, end, name


def _tied(metadata: object, entries: dict[str, Entry]) -> dict[str, str]:
    if not isinstance(metadata, dict):
        return {}
    return {
        name: kept
        for name, kept in metadata.items()
        if isinstance(kept, str) and kept in entries and name not in entries
    }


def _recognizes(path: Path, head: bytes) -> bool:
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= path.stat().st_size - 8


FORMAT = Format("safetensors", (".safetensors",), _recognizes, Safetensors)
