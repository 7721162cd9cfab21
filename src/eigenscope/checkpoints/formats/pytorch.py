"""What `torch.save` writes, as a zip archive or in the older layout. Nothing is unpickled: see `pickles`.

A zip archive holds `data.pkl` and each storage as `data/KEY`. The older layout is five pickles (a magic number, the
protocol, the machine, the object, the keys of the storages), then for each key the number of values and the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eigenscope.checkpoints.archives import ZIP_MAGIC, members, read_member, stored_at
from eigenscope.checkpoints.base import Checkpoint, Entry
from eigenscope.checkpoints.files import Cursor, read_tensor
from eigenscope.checkpoints.pickles import read_pickle
from eigenscope.checkpoints.registry import Format
from eigenscope.checkpoints.torch_objects import Opaque, Storage, StoredTensor, call, storage_of
from eigenscope.checkpoints.trees import leaves, named
from eigenscope.errors import CheckpointError

_MAGIC = 0x1950A86A20F9469CFC6C
_PICKLE_LIMIT = 256 * 2**20  # bytes of the pickle alone, without the values of the tensors
_QUANTIZED = {torch.int8: "qint8", torch.uint8: "quint8", torch.int32: "qint32"}

Places = dict[str, int]  # where in the file a storage starts


class PyTorch(Checkpoint):
    """A file that `torch.save` wrote: a state dict, or one anywhere inside of what was saved."""

    format = "pytorch"

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            zipped = file.read(4) == ZIP_MAGIC
        try:
            tree, self._places = _zipped(path) if zipped else _legacy(path)
            found = named(list(leaves(tree, _is_tensor)))
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
        self._tensors = {name: leaf for name, leaf, _ in found if isinstance(leaf, StoredTensor)}
        if not self._tensors:
            raise CheckpointError(f"{path} holds no {_unread([leaf.what for _, leaf, _ in found])}")
        entries = [_entry(name, leaf, aside) for name, leaf, aside in found if isinstance(leaf, StoredTensor)]
        strange = {name: leaf.what for name, leaf, _ in found if isinstance(leaf, Opaque)}
        entries += [Entry.unreadable(name, (), "unknown", what) for name, what in strange.items()]
        super().__init__(path.name, entries, tied=_tied(self._tensors))

    def _load(self, entry: Entry) -> Tensor:
        tensor = self._tensors[entry.name]
        start = self._places[tensor.storage.key] + tensor.offset * tensor.dtype.itemsize
        values = read_tensor(self._path, start, (tensor.extent,), tensor.dtype)
        values = values.as_strided(tensor.shape, tensor.stride).contiguous()
        return values if tensor.scale is None else (values.float() - tensor.zero) * tensor.scale


def _unread(kinds: Sequence[str]) -> str:
    """What a file without a readable tensor lacks, and what to do; `kinds` are those that can't be read."""
    if not kinds:
        return "tensors: name a file with a state_dict()"
    return f"tensor that can be read, only {' and '.join(dict.fromkeys(kinds))}: save dense tensors with their values"


def _is_tensor(node: Any) -> bool:
    return isinstance(node, StoredTensor) or (isinstance(node, Opaque) and node.tensor)


def _zipped(path: Path) -> tuple[Any, Places]:
    found = members(path)
    pickles = [name for name in found if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"{path} is a zip archive that torch.save did not write: unpack it and name the weights")
    root = pickles[0].removesuffix("data.pkl")
    order = found.get(f"{root}byteorder")
    if order is not None and read_member(path, order, 16) != b"little":
        raise CheckpointError(f"{path} has big-endian values: torch.load it and save it on this machine")
    sizes: dict[str, int] = {}
    file = BytesIO(read_member(path, found[pickles[0]], _PICKLE_LIMIT))
    tree = read_pickle(file, call, lambda identity: _counted(storage_of(identity), sizes))
    places = {}
    for key, size in sizes.items():
        info = found.get(f"{root}data/{key}")
        if info is None or info.file_size < size:
            raise ValueError(f"the storage {key[:40]!r} is not there with its {size} bytes")
        places[key] = stored_at(path, info)
    return tree, places


def _counted(storage: Storage, sizes: dict[str, int]) -> Storage:
    sizes[storage.key] = max(storage.size, sizes.get(storage.key, 0))
    return storage


def _legacy(path: Path) -> tuple[Any, Places]:
    size = path.stat().st_size
    sizes: dict[str, int] = {}
    with path.open("rb") as file:
        cursor = Cursor(file, 0, size)

        def pickle() -> Any:
            return read_pickle(cursor, call, lambda identity: _counted(storage_of(identity), sizes))

        if cursor.read(1) != b"\x80":
            raise CheckpointError(
                f"{path} is neither a zip archive nor a pickle, which torch.save writes: it may be a tokenizer's; "
                "name the file with the weights, such as model.pt or model.safetensors"
            )
        cursor.position = 0
        if (first := pickle()) != _MAGIC:
            kind = type(first).__name__
            raise CheckpointError(f"{path} is a pickle of a {kind}, not of torch.save: torch.save its weights")
        _, machine, tree, keys = pickle(), pickle(), pickle(), pickle()
        if isinstance(machine, dict) and machine.get("little_endian") is False:
            raise CheckpointError(f"{path} has big-endian values: torch.load it and save it on this machine")
        return tree, _places(cursor, keys, sizes)


def _places(cursor: Cursor, keys: Any, sizes: dict[str, int]) -> Places:
    """Where the storages lie that follow the pickles."""
    places = {}
    for key in keys:
        if not isinstance(key, str):
            raise ValueError(f"a storage whose key is a {type(key).__name__}")
        size = sizes.pop(key)
        cursor.take(8)  # the number of values, which the pickle has said already
        if size > cursor.left:
            raise ValueError(f"the storage {key[:40]!r} ends {size - cursor.left} bytes early")
        places[key] = cursor.position
        cursor.position += size
    if sizes:
        raise ValueError(f"{len(sizes)} storages are not there")
    return places


def _entry(name: str, tensor: StoredTensor, aside: str | None) -> Entry:
    if tensor.scale is None:
        return Entry.of(name, tensor.shape, tensor.dtype, aside)
    return Entry(name, tensor.shape, _QUANTIZED[tensor.dtype], "quantized", 0.5 ** (8 * tensor.dtype.itemsize), aside)


def _tied(tensors: dict[str, StoredTensor]) -> dict[str, str]:
    """Tensors with the same values: the same place in the same storage."""
    first: dict[StoredTensor, str] = {}
    tied = {name: first.setdefault(tensor, name) for name, tensor in tensors.items()}
    return {name: other for name, other in tied.items() if name != other}


def _recognizes(path: Path, head: bytes) -> bool:
    if head.startswith(ZIP_MAGIC):
        return any(name == "data.pkl" or name.endswith("/data.pkl") for name in members(path))
    return head.startswith(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")


FORMAT = Format("PyTorch", (".bin", ".pt", ".pth", ".th", ".ckpt"), _recognizes, PyTorch)
