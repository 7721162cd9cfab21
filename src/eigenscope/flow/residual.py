"""Find the "+1": whether a block's output is its input plus a branch, read off the autograd graph."""

from __future__ import annotations

from functools import cache

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
    return Place(GradientEdge(node, 0), source.shape, source.dtype, source.device)


def _identities(start: Node, source: Place) -> int:
    """How many paths lead from `source` to a sum that change nothing on the way."""

    @cache
    def count(node: Node, number: int) -> int:
        if node is source.edge.node and number == source.edge.output_nr:
            return 1
        if _is(node, ("Add",)) and getattr(node, "_saved_alpha", 1) == 1:
            return sum(count(n, i) for n, i in node.next_functions if n is not None)
        if _is(node, _UNCHANGED):
            following, index = node.next_functions[0]
            return count(following, index) if following is not None else 0
        return 0

    return count(start, 0)


def _is(node: Node, kinds: tuple[str, ...]) -> bool:
    return node.name().removesuffix("0").removesuffix("1").removesuffix("Backward") in kinds
