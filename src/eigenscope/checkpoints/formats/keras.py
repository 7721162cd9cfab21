"""Keras: `.keras` archives, `.weights.h5`, and the HDF5 files of Keras 2; any other HDF5 file of arrays as well.

Names are the paths of the datasets (`layers/dense/vars/0`, `conv2d/conv2d/kernel:0`). Kernels are stored
(input, output) and (height, width, input, output).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eigenscope.checkpoints.archives import ZIP_MAGIC, check_expansion, members, read_member, stored_at
from eigenscope.checkpoints.base import Checkpoint, Entry
from eigenscope.checkpoints.files import JSON_LIMIT, byte_count, parse_json
from eigenscope.checkpoints.formats.npz import torch_dtype
from eigenscope.checkpoints.hdf5 import Hdf5
from eigenscope.checkpoints.registry import Format
from eigenscope.checkpoints.trees import OPTIMIZER
from eigenscope.errors import CheckpointError

MAGIC = b"\x89HDF\r\n\x1a\n"
WEIGHTS, CONFIG = "model.weights.h5", "config.json"


class Keras(Checkpoint):
    """A model that Keras saved, or the arrays of an HDF5 file."""

    format = "keras"

    def __init__(self, path: Path) -> None:
        self._path = path
        offset, size, config = _inside(path)
        self._file = Hdf5(path, offset, size)
        try:
            listing = self._file.listing()
            entries = [self._entry(info, size) for info in listing["datasets"]]
            names = {entry.name for entry in entries}
            tied = {info["name"]: info["tied"] for info in listing["datasets"] if info["tied"] in names}
            if not entries:
                raise CheckpointError(f"{path} holds no arrays: name a file that Keras saved with its weights")
            config = config or _legacy_config(listing["config"], path)
            super().__init__(path.name, entries, config=config, tied=tied, notes=listing["notes"])
        except BaseException:
            self._file.close()
            raise

    def _entry(self, info: Mapping[str, Any], size: int) -> Entry:
        name, shape = str(info["name"]), tuple(info["shape"] or ())
        dtype = _dtype(info)
        if dtype is None:
            return Entry.unreadable(name, shape, str(info["dtype"]), f"{info['dtype']} values are not numbers")
        need = byte_count(shape, dtype)
        if need != info["bytes"] or info["stored"] > size:
            raise ValueError(f"{name} of shape {shape} claims {info['stored']} of {size} bytes")
        check_expansion(f"{self._path}: {name}", need, info["stored"])
        aside = OPTIMIZER if "optimizer" in name.partition("/")[0] else None
        return Entry.of(name, shape, dtype, aside)

    def _load(self, entry: Entry) -> Tensor:
        dtype: torch.dtype = getattr(torch, entry.dtype)
        buffer = torch.empty(byte_count(entry.shape, dtype), dtype=torch.uint8)
        self._file.read(entry.name, buffer.numpy().data)
        return buffer.view(dtype).reshape(entry.shape)

    def close(self) -> None:
        """End the process that reads the file."""
        self._file.close()


def _inside(path: Path) -> tuple[int, int, Mapping[str, object]]:
    """Where the HDF5 file lies in the file, its size, and the configuration that stands beside it."""
    with path.open("rb") as file:
        zipped = file.read(4) == ZIP_MAGIC
    if not zipped:
        return 0, path.stat().st_size, {}
    found = members(path)
    if WEIGHTS not in found:
        raise CheckpointError(f"{path} has no {WEIGHTS}: save the model again with model.save()")
    config = parse_json(read_member(path, found[CONFIG], JSON_LIMIT), path) if CONFIG in found else {}
    return stored_at(path, found[WEIGHTS]), found[WEIGHTS].file_size, config


def _legacy_config(attributes: Mapping[str, str], path: Path) -> Mapping[str, object]:
    text = attributes.get("model_config")
    return parse_json(text.encode(), path) if text else {}


def _dtype(info: Mapping[str, Any]) -> torch.dtype | None:
    """None for what is no number. Keras keeps bfloat16 as 16-bit integers with a word beside them."""
    if info["meant"] == "bfloat16" and np.dtype(info["dtype"]).itemsize == 2:
        return torch.bfloat16
    return torch_dtype(np.dtype(info["dtype"])) if info["number"] else None


def _recognizes(path: Path, head: bytes) -> bool:
    if head.startswith(ZIP_MAGIC):
        return WEIGHTS in members(path)
    return head.startswith(MAGIC)


FORMAT = Format("Keras", (".keras", ".weights.h5", ".h5", ".hdf5"), _recognizes, Keras)
