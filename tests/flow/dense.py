"""The dense Jacobian of every block, in fp64, written as plainly as can be: an oracle that uses nothing of eigenscope.

The model runs once with hooks that keep the tensors themselves: what goes into a block's first module, and what comes
out of its last. A block ends where the next one begins, if that is computed from it. Then one backward pass a row.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from oracles import twice_differentiable
from zoo.case import move


def few(batch, count: int):
    """The first samples of a batch."""
    return tree_map(lambda leaf: leaf[:count] if isinstance(leaf, Tensor) and leaf.ndim else leaf, batch)


def dense_jacobians(
    model: nn.Module, loss_fn, batch, blocks: Sequence[Sequence[str]], *, train_mode: bool = False
) -> list[Tensor]:
    """∂output/∂input, m × n, of each block, given as the names of its modules; the first use of each counts."""
    _, ends = _ends(model, loss_fn, batch, blocks, train_mode)
    return [_rows(end, start) for start, end in ends]


def dense_norms(model: nn.Module, loss_fn, batch, blocks) -> list[tuple[float, float]]:
    """‖∂L/∂·‖ at each block's input and output."""
    loss, ends = _ends(model, loss_fn, batch, blocks, False)

    def norm(tensor: Tensor) -> float:
        return float(torch.autograd.grad(loss, tensor, retain_graph=True)[0].norm())

    return [(norm(start), norm(end)) for start, end in ends]


def _ends(model, loss_fn, batch, blocks, train_mode) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    twin = copy.deepcopy(getattr(model, "_orig_mod", model)).double().train(train_mode)
    taken: dict[str, Tensor] = {}
    given: dict[str, Tensor] = {}

    def enter(name):
        def hook(_module, args, kwargs):
            tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.is_floating_point()]
            if not any(t.requires_grad for t in tensors) and tensors:
                start = tensors[0].detach().requires_grad_()
                args, kwargs = tree_map(lambda leaf: start if leaf is tensors[0] else leaf, (args, kwargs))
                tensors = [start]
            taken.setdefault(name, next((t for t in tensors if t.requires_grad), None))
            return args, kwargs

        return hook

    def leave(name):
        def hook(_module, _args, output):
            values = list(output.values()) if isinstance(output, dict) else output
            given.setdefault(name, next(t for t in tree_leaves(values) if isinstance(t, Tensor) and t.requires_grad))

        return hook

    for names_of_block in blocks:
        for name in dict.fromkeys((names_of_block[0], names_of_block[-1])):
            module = twin.get_submodule("" if name == type(twin).__name__ else name)
            module.register_forward_pre_hook(enter(name), with_kwargs=True)
            module.register_forward_hook(leave(name))
    with twice_differentiable():
        loss = loss_fn(twin, move([batch], torch.float64)[0])
        starts = [taken[block[0]] for block in blocks]
        pairs = []
        for index, block in enumerate(blocks):
            end, own = starts[index + 1] if index + 1 < len(blocks) else None, given[block[-1]]
            pairs.append((starts[index], end if end is not None and _leads(own, end) else own))
        return loss, pairs


def _leads(first: Tensor, second: Tensor) -> bool:
    return torch.autograd.grad(second.sum(), first, retain_graph=True, allow_unused=True)[0] is not None


def _rows(end: Tensor, start: Tensor) -> Tensor:
    with twice_differentiable():
        flat = end.reshape(-1)
        rows = [torch.autograd.grad(value, start, retain_graph=True)[0].reshape(-1) for value in flat]
    return torch.stack(rows)
