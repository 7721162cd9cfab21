"""How much memory an autograd graph holds, and how much there is."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
from torch import Tensor


def graph_bytes(roots: Iterable[Tensor], leaves: Iterable[Tensor] = ()) -> int:
    """Bytes of the tensors that the graph above `roots` keeps alive, each storage once, without those of `leaves`."""
    known = {leaf.untyped_storage().data_ptr() for leaf in leaves}
    total = 0
    seen, todo = set(), [root.grad_fn for root in roots]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [following for following, _ in node.next_functions]
        for tensor in _saved(node):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                known.add(storage.data_ptr())
                total += storage.nbytes()
    return total


def _saved(node: object) -> Iterable[Tensor]:
    names = [name for name in dir(node) if name.startswith("_saved_")]
    for value in [*(getattr(node, name) for name in names), *getattr(node, "saved_tensors", ())]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, Tensor))


def available_memory(device: torch.device) -> int:
    """Bytes that could be taken on `device` now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 4 << 30  # no word from the system: what any machine that trains has
