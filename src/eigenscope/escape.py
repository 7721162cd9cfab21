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

    The sign follows the gradient. From t = 1 % of 1 + ‖θ‖ it doubles while the loss keeps falling, or shrinks eightfold
    until it falls at all. Costs `trials` evaluations of the loss. None if no step lowers it.
    """
    space, parameters = operator.space, operator.probe.parameters
    slope = space.dot(operator.gradient, direction)
    sign = -1 if slope > 0 else 1
    theta = parameters.join(parameters.tensors, space.dtype)
    t = 0.01 * (1 + space.norm(theta))
    best: Escape | None = None
    for _ in range(trials):
        measured = operator.loss - loss_at(operator, theta + sign * t * direction)
        if (best.measured if best else 0.0) < measured < float("inf"):
            best = Escape(t, sign, abs(slope) * t - 0.5 * curvature * t**2, measured)
            t *= 2
        elif best:
            break
        else:
            t /= 8
    return best


def loss_at(operator: LossOperator, theta: Tensor) -> float:
    """The probe's loss at other parameters, finite or not."""
    probe = operator.probe
    leaves = [leaf.requires_grad_() for leaf in probe.parameters.split(theta)]
    with probe.isolated(leaves):  # not `probe.loss`: that the loss overflows out there is no error
        losses = [float(probe.loss_fn(probe.model, batch).detach()) for batch in probe.batches]
    return sum(w * x for w, x in zip(probe.weights, losses, strict=True))
