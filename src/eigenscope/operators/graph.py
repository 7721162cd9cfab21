"""How much memory an autograd graph holds, and how much there is."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node


def graph_bytes(roots: Iterable[Tensor], leaves: Iterable[Tensor] = ()) -> int:
    """Bytes of the tensors that the graph above `roots` keeps alive, each storage once, without those of `leaves`."""
    known = {leaf.untyped_storage().data_ptr() for leaf in leaves}
    total = 0
    for node in nodes_of(roots):
        for tensor in saved_tensors(node):
            if tensor.layout is not torch.strided:
                continue
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                known.add(storage.data_ptr())
                total += storage.nbytes()
    return total


def cut_off(roots: Iterable[Tensor]) -> bool:
    """Whether an operation in the graph above `roots` refuses to be differentiated on (`once_differentiable`)."""
    return any(node.name() == "torch::autograd::Error" for node in nodes_of(roots))


def edges_above(root: Tensor) -> set[tuple[Node, int]]:
    """Every edge of the autograd graph that `root` was computed through."""
    return {(node, number) for above in nodes_of([root]) for node, number in above.next_functions if node is not None}


def nodes_of(roots: Iterable[Tensor]) -> set[Node]:
    """The autograd graph that ends in `roots`."""
    ends = [root.grad_fn for root in roots if root.grad_fn is not None]
    return {*ends, *nodes_above(*ends)}


def differentiable_from(output: GradientEdge, source: GradientEdge) -> bool:
    """Whether a path leads from `source` to `output` in the autograd graph."""
    if output.node is source.node:
        return output.output_nr == source.output_nr
    seen, near = {output.node}, deque([output.node])
    while near:
        for node, number in near.popleft().next_functions:
            if node is source.node and number == source.output_nr:
                return True
            if node is not None and node not in seen:
                seen.add(node)
                near.append(node)
    return False


def nodes_above(*nodes: Node) -> set[Node]:
    """Everything in an autograd graph that `nodes` were computed from."""
    seen: set[Node] = set()
    todo = list(nodes)
    while todo:
        for node, _ in todo.pop().next_functions:
            if node is not None and node not in seen:
                seen.add(node)
                todo.append(node)
    return seen


def saved_tensors(node: object) -> Iterable[Tensor]:
    """What a node of an autograd graph keeps for its backward pass."""
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
    return min([*_system_memory(), *_container_memory()], default=4 << 30)  # by default what any machine has


def _system_memory() -> Iterator[int]:
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        yield from (1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        return
    with suppress(OSError, ValueError, AttributeError):
        yield os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _container_memory() -> Iterator[int]:
    """What a container leaves: its limit is not the machine's."""
    folder = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):  # no such file, or "max"
        limit, used = ((folder / name).read_text() for name in ("memory.max", "memory.current"))
        yield max(int(limit) - int(used), 0)
