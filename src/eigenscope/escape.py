"""Down from a saddle: a step along the direction of negative curvature, tried on the loss itself."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from eigenscope.diagnostics.reading import Escape
from eigenscope.operators.loss_operator import LossOperator


def escape_along(
    operator: LossOperator, direction: Float[Tensor, " n"], curvature: float, trials: int = 4
) -> Escape | None:
    """The best of a few steps ±t·v: predicted decrease −(t⟨g, v⟩ + ½t²λ), and the decrease that the probe shows.

    The sign follows the gradient; t doubles from 1 % of ‖θ‖ while the loss keeps falling. Costs at most `trials` + 1
    evaluations of the loss. None if no step lowers it.
    """
    space, parameters = operator.space, operator.probe.parameters
    slope = space.dot(operator.gradient, direction)
    sign = -1 if slope > 0 else 1
    theta = parameters.join(parameters.tensors, space.dtype)
    t = 0.01 * max(space.norm(theta), 1e-6)
    best: Escape | None = None
    for _ in range(trials):
        measured = operator.loss - _loss_at(operator, theta + sign * t * direction)
        if not measured > (best.measured if best else 0.0):
            break
        best = Escape(t, sign, abs(slope) * t - 0.5 * curvature * t**2, measured)
        t *= 2
    return best


def _loss_at(operator: LossOperator, theta: Tensor) -> float:
    probe = operator.probe
    leaves = [leaf.requires_grad_() for leaf in probe.parameters.split(theta)]
    with probe.isolated(leaves):
        losses = [float(probe.loss(index).detach()) for index in range(len(probe.weights))]
    return sum(w * x for w, x in zip(probe.weights, losses, strict=True))
