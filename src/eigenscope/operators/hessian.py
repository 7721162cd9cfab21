"""The Hessian of the mean loss over a probe set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.operators.loss_operator import Graph, LossOperator


class HessianOperator(LossOperator):
    """H = ∇²L(θ), L the mean loss over the probe; products by double backward (Pearlmutter 1994).

    The first backward pass is kept as a graph g(θ); a product pulls a vector through it, Hv = ∂⟨g, v⟩/∂θ. That is
    exact to rounding, also where forward-mode rules are wrong (LayerNorm) or missing.
    """

    has_differences = True

    def _graph(self, index: int) -> Graph:
        leaves = self.probe.leaves
        loss = self.probe.loss(index)
        gradient = list(torch.autograd.grad(loss, leaves, create_graph=True, allow_unused=True))
        return Graph(loss, [g for g in gradient if g is not None and g.requires_grad], gradient)

    def _batch_product(self, graph: Graph, pieces: Sequence[Tensor]) -> list[Tensor | None]:
        pairs = [(g, v) for g, v in zip(graph.gradient, pieces, strict=True) if g is not None and g.requires_grad]
        if not pairs:  # a loss that is linear in the parameters
            return [None] * len(pieces)
        outputs, directions = zip(*pairs, strict=True)
        return list(
            torch.autograd.grad(
                outputs, self.probe.leaves, grad_outputs=directions, retain_graph=True, allow_unused=True
            )
        )

    def _difference(self, index: int, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return gradient_difference(self, index, v)


def gradient_difference(
    operator: LossOperator, index: int, v: Float[Tensor, " n"], h: float | None = None
) -> Float[Tensor, " n"]:
    """Hv of one batch by a central difference of gradients, (g(θ + hv) − g(θ − hv)) / 2h.

    By default h balances truncation against rounding, ε^(1/3) (1 + ‖θ‖) / ‖v‖ (Nocedal & Wright 2006, section 8.1),
    so that the result is linear in ‖v‖; a 32nd of it, for along a leading eigenvector the third derivative is large:
    over the test zoo the worst product in fp32 is then 2·10⁻³ off, against 0.4 at the full step.
    """
    probe, space = operator.probe, operator.space
    length = space.norm(v)
    if length == 0.0:
        return torch.zeros_like(v)
    theta = probe.parameters.join(probe.parameters.tensors, space.dtype)
    if h is None:
        epsilon = max(torch.finfo(p.dtype).eps for p in probe.parameters.tensors)
        h = epsilon ** (1 / 3) * (1 + space.norm(theta)) / length / 32
    gradients = []
    for sign in (1.0, -1.0):
        leaves = [p.requires_grad_() for p in probe.parameters.split(theta + sign * h * v)]
        with probe.isolated(leaves):
            gradient = torch.autograd.grad(probe.loss(index), leaves, allow_unused=True)
        gradients.append(probe.parameters.join(gradient, space.dtype))
    return (gradients[0] - gradients[1]) / (2 * h)
