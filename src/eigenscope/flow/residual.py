"""Find the "+1": whether a block's output is its input plus a branch, read off the autograd graph."""

from __future__ import annotations

import torch
from torch.autograd.graph import GradientEdge, Node

from eigenscope.operators.jacobian import Place

_UNCHANGED = ("View", "UnsafeView", "ReshapeAlias", "Clone", "ToCopy", "Alias", "Squeeze", "Unsqueeze")
_AFTER = ("Relu", "Gelu", "Silu", "LeakyRelu", "Elu", "Hardswish", "Hardtanh", "Tanh", "Sigmoid", *_UNCHANGED)


def residual_sum(output: Place, source: Place) -> Place | None:
    """The place where `source` itself is added to a branch on the way to `output`, or None if there is none.

    An activation behind the sum (as in ResNet) is looked through; a normalization behind it is not: it rescales the
    input, and no identity is left.
    """
    node: Node | None = output.edge.node
    while node is not None and not _is(node, ("Add",)):
        if not _is(node, _AFTER):
            return None
        node = node.next_functions[0][0]
    if node is None or _identities(node, source) != 1:
        return None
    total = Place(GradientEdge(node, 0), *_written(node), source.device, output.later)
    return total if total.size == source.size else None


def _written(node: Node) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and type of what an operation returned."""
    known = node._input_metadata[0]  # of the gradient that it is given
    return tuple(known.shape), known.dtype


def _identities(start: Node, source: Place) -> int:
    """How many paths lead from `source` to a sum that change nothing on the way."""
    end = (source.edge.node, source.edge.output_nr)
    counts, todo = {end: 1}, [(start, 0)]
    while todo:  # without recursion: a residual stream may have a thousand sums
        before = _summands(todo[-1][0])
        missing = [edge for edge in before if edge not in counts]
        if missing and todo[-1] not in counts:
            todo += missing
        else:
            edge = todo.pop()
            counts.setdefault(edge, sum(counts[edge] for edge in before))
    return counts[(start, 0)]


def _summands(node: Node) -> list[tuple[Node, int]]:
    """What an operation that changes nothing was given; nothing for any other."""
    known = [(before, number) for before, number in node.next_functions if before is not None]
    if _is(node, ("Add",)) and getattr(node, "_saved_alpha", 1) == 1:
        return known
    return known[:1] if _is(node, _UNCHANGED) else []


def _is(node: Node, kinds: tuple[str, ...]) -> bool:
    return node.name().removesuffix("0").removesuffix("1").removesuffix("Backward") in kinds
