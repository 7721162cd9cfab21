"""A model in memory, or its state dict, as a checkpoint: parameters and buffers, tied ones told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eigenscope.checkpoints.base import Checkpoint, Entry
from eigenscope.checkpoints.trees import leaves, named
from eigenscope.errors import CheckpointError

Source = nn.Module | Mapping[str, Any]


class Live(Checkpoint):
    """Tensors in memory; `load` gives them as they are then, not as they were when this was made."""

    format = "module"

    def __init__(self, source: Source) -> None:
        if isinstance(source, nn.Module):
            name, found = type(source).__name__, _of_module(source)
        else:
            name, found = "state dict", named(list(leaves(source, lambda node: isinstance(node, Tensor))))
        if not found:
            raise CheckpointError(f"{name} holds no tensors: hand in a model, its state_dict(), or a path")
        self._tensors: dict[str, Tensor] = {name: tensor for name, tensor, _ in found}
        entries = [Entry.of(name, tensor.shape, tensor.dtype, aside) for name, tensor, aside in found]
        super().__init__(name, entries, config=_config(source), tied=_tied(self._tensors))

    def _load(self, entry: Entry) -> Tensor:
        tensor = self._tensors[entry.name].detach()
        if tensor.is_meta:
            raise CheckpointError(f"{self.name}: {entry.name} is on the meta device, without values: load the weights")
        return (tensor.dequantize() if tensor.is_quantized else tensor.to_dense()).cpu()


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
