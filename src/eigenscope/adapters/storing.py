"""A folder that appears as a whole or not at all, and safetensors files written one tensor at a time.

The safetensors package writes a file from tensors that are all in memory; a merged model has to be streamed. The
layout is eight bytes of length, a JSON header, then the values: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from eigenscope.errors import InputError

WEIGHTS = ("adapter_model.safetensors", "model.safetensors")  # what tells a folder that may be replaced
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


def check_output(out: str | os.PathLike[str], force: bool) -> Path:
    """The folder to write; raises `InputError` where it can't be made or is there already (before any work)."""
    path = Path(out).expanduser()
    if not path.parent.is_dir():
        raise InputError(f"{str(path)!r} can't be written: there is no folder {str(path.parent)!r}")
    if not os.path.lexists(path):
        return path
    if not force:
        raise InputError(f"{str(path)!r} is there already: give another folder, or force to replace it (--force)")
    if not path.is_dir() or path.is_symlink():
        raise InputError(f"{str(path)!r} is no folder: give the name of one")
    if any(path.iterdir()) and not any((path / name).is_file() for name in WEIGHTS):
        raise InputError(f"{str(path)!r} holds no {' or '.join(WEIGHTS)}, so it is not replaced: give another folder")
    return path


@contextmanager
def new_folder(out: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """A temporary folder beside `out`, renamed to it at the end; whatever goes wrong leaves nothing of it."""
    path = check_output(out, force)
    partial: Path | None = None
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        partial.chmod(0o777 & ~_umask())
        yield partial
        _put(partial, check_output(path, force))
    except OSError as error:
        raise InputError(f"{str(path)!r} can't be written ({error.strerror}): nothing of it was left behind") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _put(partial: Path, path: Path) -> None:
    """Rename, with what was there before put aside until that is done."""
    if not path.exists():
        partial.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
    path.rename(old / path.name)
    try:
        partial.rename(path)
    except OSError:
        (old / path.name).rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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


def write_json_file(path: Path, document: Mapping[str, object]) -> None:
    """A configuration as people and PEFT read it."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
