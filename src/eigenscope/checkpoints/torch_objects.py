"""What PyTorch writes into a pickle, by its own names: tensors as places in storages, and a few plain classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from eigenscope.checkpoints.files import byte_count, plainly
from eigenscope.checkpoints.pickles import Global
from eigenscope.errors import CheckpointError

_STORAGES = {
    **{"DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16},
    **{"BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32},
    **{"ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool},
    **{"ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128},
    **{"QInt8Storage": torch.int8, "QUInt8Storage": torch.uint8, "QInt32Storage": torch.int32},
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True)
class Storage:
    """A run of bytes in the file, by the key that the file knows it by."""

    key: str
    dtype: torch.dtype
    count: int  # of values of that type

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class StoredTensor:
    """A view of a storage; offset and strides count values."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    scale: float | None = None  # of a quantized tensor: (value − zero) · scale
    zero: int = 0

    @property
    def extent(self) -> int:
        """How many values of the storage it spans, from the offset on."""
        if 0 in self.shape:
            return 0
        return 1 + sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict=True))

    def check(self) -> StoredTensor:
        """Itself; raises ValueError where it leaves its storage or claims more values than that has."""
        byte_count(self.shape, self.dtype)
        whole = all(type(number) is int and number >= 0 for number in (self.offset, *self.stride))
        if len(self.shape) != len(self.stride) or not whole:
            raise ValueError(f"a tensor with the strides {plainly(self.stride)}")
        available = self.storage.size // self.dtype.itemsize
        if max(self.offset + self.extent, math.prod(self.shape)) > available:
            raise ValueError(f"a tensor of shape {self.shape} claims more than the {available} values of its storage")
        return self


@dataclass(frozen=True)
class Opaque:
    """An object that is not read; only what it is called."""

    what: str
    tensor: bool = False  # it holds weights all the same


def storage_of(identity: Any) -> Storage:
    """The storage that a persistent id names: ("storage", type, key, device, number of values, …)."""
    match identity:
        case ("storage", Global(_, name), str(key), _, int(count), *_) if name in _STORAGES and count >= 0:
            return Storage(key, _STORAGES[name], count)
    what = plainly(identity) if isinstance(identity, tuple) else f"a {type(identity).__name__}"
    raise ValueError(f"a storage that PyTorch does not write: {what}")


def call(what: Global, arguments: tuple[Any, ...]) -> Any:
    """What a call in a pickle means; raises `CheckpointError` for all that is not plain data."""
    rebuild = _REBUILD.get((what.module, what.name))
    if rebuild is not None:
        return rebuild(*arguments)
    if (what.module, what.name) in _PLAIN or what.module.split(".")[0] in _PLAIN_MODULES:
        return Opaque(str(what))
    if what.module.startswith("__torch__"):
        raise CheckpointError("a TorchScript program, not plain weights: torch.jit.load it and save its state_dict()")
    raise CheckpointError(
        f"a pickle with code ({str(what)[:80]}), which is never run: "
        "if you trust it, load it where it was made and torch.save its state_dict()"
    )


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor without a storage")
    return StoredTensor(storage, offset, shape, stride, storage.dtype).check()


def _typed_tensor(*arguments: Any) -> StoredTensor:
    """Of a type without a storage class of its own, such as float8."""
    storage, offset, shape, stride, _, _, dtype, *_ = arguments
    found = getattr(torch, dtype.name, None) if isinstance(dtype, Global) and dtype.module == "torch" else None
    if not isinstance(found, torch.dtype):
        what = str(dtype)[:40] if isinstance(dtype, Global) else f"a {type(dtype).__name__}"
        raise ValueError(f"a tensor of the type {what}")
    raw = Storage(storage.key, torch.uint8, storage.size)
    return StoredTensor(raw, offset, shape, stride, found).check()


def _quantized(storage: Any, offset: Any, shape: Any, stride: Any, parameters: Any, *_: Any) -> Any:
    tensor = _tensor(storage, offset, shape, stride)
    match parameters:
        case (Global("torch", "per_tensor_affine"), float(scale), int(zero)):
            return replace(tensor, scale=scale, zero=zero)
    return Opaque("a tensor that is quantized by channel", tensor=True)


def _first(value: Any, *_: Any) -> Any:
    return value


def _mapping(*arguments: Any) -> dict[Any, Any]:
    """Of pairs, as protocol 0 writes them."""
    items = next((argument for argument in arguments if isinstance(argument, list)), [])
    return {key: value for key, value in items if isinstance(key, str | int)}


def _subclass(function: Any, _type: Any, arguments: Any, _state: Any) -> Any:
    return call(function, arguments)


_UTILS = "torch._utils"
_REBUILD: dict[tuple[str, str], Any] = {
    (_UTILS, "_rebuild_tensor"): _tensor,
    (_UTILS, "_rebuild_tensor_v2"): _tensor,
    (_UTILS, "_rebuild_tensor_v3"): _typed_tensor,
    (_UTILS, "_rebuild_qtensor"): _quantized,
    (_UTILS, "_rebuild_parameter"): _first,
    (_UTILS, "_rebuild_parameter_with_state"): _first,
    (_UTILS, "_rebuild_sparse_tensor"): lambda *_: Opaque("a sparse tensor", tensor=True),
    (_UTILS, "_rebuild_meta_tensor_no_storage"): lambda *_: Opaque("a tensor without values", tensor=True),
    ("torch._tensor", "_rebuild_from_type_v2"): _subclass,
    ("collections", "OrderedDict"): _mapping,
    ("collections", "defaultdict"): _mapping,
    ("collections", "Counter"): lambda *_: {},
    ("builtins", "dict"): _mapping,
    ("torch", "Size"): _first,
}
_PLAIN = {
    *((module, "set") for module in ("builtins", "__builtin__")),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("complex", "bytearray", "slice", "range")),
    *(("torch", "device"), ("torch.serialization", "_get_layout"), ("_codecs", "encode")),
    *(("argparse", "Namespace"), ("types", "SimpleNamespace")),
    *((f"numpy{core}.multiarray", name) for core in (".core", "._core") for name in ("scalar", "_reconstruct")),
    *(("numpy", name) for name in ("dtype", "ndarray")),
}
_PLAIN_MODULES = {"datetime", "pathlib", "decimal", "uuid"}
