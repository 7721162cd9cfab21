"""NumPy's .npy and .npz, compressed or not. Arrays of Python objects are pickles and are not read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from zipfile import ZipFile, ZipInfo

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from eigenscope.checkpoints.archives import ZIP_MAGIC, members
from eigenscope.checkpoints.base import Checkpoint, Entry
from eigenscope.checkpoints.files import byte_count, pour
from eigenscope.checkpoints.registry import Format


@dataclass(frozen=True)
class _Array:
    """What the header of an array says."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[np.generic]


class Npz(Checkpoint):
    """A .npz archive, or the one array of a .npy file, which has the file's name."""

    format = "npz"

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            zipped = file.read(4) == ZIP_MAGIC
        self._members: dict[str, ZipInfo | None] = {path.stem: None}
        if zipped:
            arrays = {name: info for name, info in members(path).items() if name.endswith(".npy")}
            self._members = {name.removesuffix(".npy"): info for name, info in arrays.items()}
        super().__init__(path.name, [self._entry(name) for name in self._members])

    def _entry(self, name: str) -> Entry:
        with self._stream(name) as stream:
            array = _header(stream)
            start = stream.tell()
        if array.dtype.hasobject:
            return Entry.unreadable(name, array.shape, "object", "Python objects are a pickle, which may hold code")
        info = self._members[name]
        total = self._path.stat().st_size if info is None else info.file_size
        if math.prod(array.shape) * array.dtype.itemsize != total - start:
            raise ValueError(f"{name} has {total - start} bytes for {array.dtype} values of shape {array.shape}")
        if (dtype := torch_dtype(array.dtype)) is None:
            return Entry.unreadable(name, array.shape, str(array.dtype), f"{array.dtype} values are not numbers")
        return Entry.of(name, array.shape, dtype)

    def _load(self, entry: Entry) -> Tensor:
        with self._stream(entry.name) as stream:
            header = _header(stream)
            dtype = torch_dtype(header.dtype)
            if dtype is None or header.shape != entry.shape:
                raise ValueError("the file has changed")
            array = np.empty(byte_count(header.shape, dtype), dtype=np.uint8)
            pour(stream, array.data)
        values = array.view(header.dtype).astype(header.dtype.newbyteorder("="), copy=False)
        return torch.from_numpy(values.reshape(header.shape, order="F" if header.fortran else "C"))

    @contextmanager
    def _stream(self, name: str) -> Iterator[IO[bytes]]:
        info = self._members[name]
        if info is None:
            with self._path.open("rb") as file:
                yield file
        else:
            with ZipFile(self._path) as archive, archive.open(info) as stream:
                yield stream


def _header(stream: IO[bytes]) -> _Array:
    """Read the header, leaving the stream at the first value."""
    version = npy.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the array format is not read")
    shape, fortran, dtype = _HEADERS[version](stream)
    return _Array(shape, fortran, dtype)


def torch_dtype(dtype: np.dtype[np.generic]) -> torch.dtype | None:
    """PyTorch's name of a NumPy type; None where it has none."""
    try:
        return torch.from_numpy(np.empty(0, dtype=dtype.newbyteorder("="))).dtype
    except TypeError:
        return None


_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def _recognizes(path: Path, head: bytes) -> bool:
    if head.startswith(ZIP_MAGIC):
        names = members(path)
        return bool(names) and all(name.endswith(".npy") for name in names)
    return head.startswith(npy.MAGIC_PREFIX)


FORMAT = Format("NumPy", (".npz", ".npy"), _recognizes, Npz)
