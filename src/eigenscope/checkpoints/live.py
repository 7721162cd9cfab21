"""A model in memory, or its state dict, as a checkpoint: parameters and buffers, tied ones told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eigenscope.checkpoints.base import Checkpoint, Entry, dtype_name
from eigenscope.checkpoints.trees import leaves, named
from eigenscope.errors import CheckpointError

Source = nn.Module | Mapping[str, Any]


class Live(Checkpoint):
    """Tensors in memory; `load` gives them as they are then, not as they were when this was made."""

    format = "module"

    def __init__(self, source: Source) -> None:
        if isinstance(source, nn.Module):
            name, found, groups = type(source).__name__, _of_module(source), _groups(source)
        else:
            name, found = "state dict", named([(path, _tensor(node)) for path, node in leaves(source, _is_tensor)])
            groups = {}
        if not found:
            raise CheckpointError(f"{name} holds no tensors or arrays: hand in a model, its state_dict(), or a path")
        self._tensors: dict[str, Tensor] = {name: tensor for name, tensor, _ in found}
        entries = [replace(_entry(name, tensor, aside), groups=groups.get(name, 0)) for name, tensor, aside in found]
        super().__init__(name, entries, config=_config(source), tied=_tied(self._tensors))

    def _load(self, entry: Entry) -> Tensor:
        tensor = self._tensors[entry.name].detach()
        if tensor.is_meta:
            raise CheckpointError(f"{self.name}: {entry.name} is on the meta device, without values: load the weights")
        return (tensor.dequantize() if tensor.is_quantized else tensor.to_dense()).cpu()


def _is_tensor(node: Any) -> bool:
    return isinstance(node, Tensor) or (isinstance(node, np.ndarray) and node.dtype.kind in "biufc")


def _tensor(node: Any) -> Tensor:
    """A NumPy array as a tensor: its own memory where PyTorch can use that."""
    if isinstance(node, Tensor):
        return node
    try:
        return torch.from_numpy(node if node.flags.writeable else node.copy())
    except (TypeError, ValueError):  # of another byte order, with negative strides, or wider than float64
        native = node.dtype.newbyteorder("=")
        wide = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}.get(native.kind, native)
        return torch.from_numpy(node.astype(min(native, wide, key=lambda kind: kind.itemsize), order="C"))


def _entry(name: str, tensor: Tensor, aside: str | None) -> Entry:
    if not tensor.is_quantized:
        return Entry.of(name, tensor.shape, tensor.dtype, aside)
    roundoff = 0.5 ** (8 * tensor.dtype.itemsize)
    return Entry(name, tuple(tensor.shape), dtype_name(tensor.dtype), "quantized", roundoff, aside)


def _groups(module: nn.Module) -> Mapping[str, int]:
    """Of each convolution, by the name of its weight."""
    found = ((f"{name}.weight".lstrip("."), getattr(part, "groups", None)) for name, part in module.named_modules())
    return {name: groups for name, groups in found if isinstance(groups, int)}


def _of_module(module: nn.Module) -> list[tuple[str, Any, str | None]]:
    """Names as in `state_dict()`, and the buffers that it leaves out."""
    found: list[tuple[str, Any, str | None]] = []
    found += [(name, tensor, None) for name, tensor in module.named_parameters(remove_duplicate=False)]
    found += [(name, tensor, "a buffer") for name, tensor in module.named_buffers(remove_duplicate=False)]
    return found


def _tied(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Tensors with the same values: the same memory, seen the same way."""
    first: dict[object, str] = {}
    tied = {}
    for name, tensor in tensors.items():
        strided = tensor.layout is torch.strided and not tensor.is_meta
        memory = (tensor.device, tensor.data_ptr(), tensor.stride()) if strided and tensor.numel() else id(tensor)
        other = first.setdefault((memory, tensor.shape, tensor.dtype), name)
        if other != name:
            tied[name] = other
    return tied


def _config(source: Source) -> Mapping[str, object]:
    """What a Hugging Face model says of itself."""
    to_dict = getattr(getattr(source, "config", None), "to_dict", None)
    config = to_dict() if callable(to_dict) and isinstance(source, nn.Module) else {}
    return config if isinstance(config, dict) else {}
