"""Before the numbers are believed: is the product symmetric, and does it agree with a finite difference?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.errors import ProductCheckError
from eigenscope.operators.hessian import HessianOperator, gradient_difference
from eigenscope.operators.loss_operator import FINITE_DIFFERENCE, LossOperator

_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class SelfCheck:
    """What the check of an operator's products found, each figure relative to the largest eigenvalue."""

    symmetry: float  # the asymmetric part of the products over a Krylov space
    finite_difference: float | None  # the smallest ‖Av − FD‖; None where there is none to compare with
    difference_noise: float | None  # how far finite differences of two steps lie from each other, at best
    status: str  # "passed", or "inconclusive": no step gave finite differences that could be trusted


def self_check(
    operator: LossOperator, v: Float[Tensor, " n"], product: Float[Tensor, " n"], asymmetry: float, radius: float
) -> SelfCheck:
    """Check `product` = Av, v a unit vector near the leading eigenvector, and the `asymmetry` that a Krylov run saw.

    Costs two gradients, up to ten where finite differences are hard to take. Raises `ProductCheckError` where the
    products contradict themselves or the gradient.
    """
    tolerance = max(_TOLERANCE.get(p.dtype, 1e-3) for p in operator.probe.parameters.tensors)
    symmetry = asymmetry / radius if radius else 0.0
    if symmetry > 10 * tolerance:
        raise ProductCheckError(
            f"the products are not symmetric (off by {symmetry:.1e} of the largest eigenvalue): the loss is random or "
            "changes between two runs; measure in evaluation mode and make loss_fn deterministic"
        )
    comparable = isinstance(operator, HessianOperator) and operator.method != FINITE_DIFFERENCE
    if not comparable or not operator.probe.aliased or radius == 0.0:
        return SelfCheck(symmetry, None, None, "passed")
    return _compare(operator, v, product, radius, symmetry, 30 * tolerance)


def _compare(
    operator: LossOperator, v: Tensor, product: Tensor, radius: float, symmetry: float, allowed: float
) -> SelfCheck:
    """Try steps until one agrees; contradict only where two steps agree with each other and not with the product.

    Across a kink (ReLU), or past the reach of the quadratic model, a finite difference means nothing: no single one
    may reject a product.
    """
    norm = operator.space.norm
    offs: list[float] = []
    noises: list[float] = []
    last: Tensor | None = None
    for h in _steps(operator, radius):
        difference = _difference(operator, v, h)
        offs.append(norm(product - difference) / radius)
        if offs[-1] <= allowed:
            return SelfCheck(symmetry, offs[-1], min(noises, default=None), "passed")
        if last is not None and min(norm(last), norm(difference)) > 0.3 * radius:
            noises.append(norm(last - difference) / radius)
            if noises[-1] <= allowed and offs[-1] > 4 * noises[-1]:
                raise ProductCheckError(
                    f"the products disagree with finite differences of the gradient by {offs[-1]:.0%} (which agree to "
                    f"{noises[-1]:.1%}): an operation has a wrong second derivative; method='finite_difference' "
                    "needs none"
                )
        last = difference
    return SelfCheck(symmetry, min(offs), min(noises, default=None), "inconclusive")


def _steps(operator: LossOperator, radius: float) -> list[float]:
    """Lengths to try: a change of the gradient by a tenth, then from ε^(1/3)(1 + ‖θ‖) down."""
    parameters = operator.probe.parameters
    epsilon = max(torch.finfo(p.dtype).eps for p in parameters.tensors)
    theta = parameters.join(parameters.tensors, operator.space.dtype)
    largest = epsilon ** (1 / 3) * (1 + operator.space.norm(theta))
    relative = 0.1 * operator.space.norm(operator.gradient) / radius
    return [*([relative] if relative > 0 else []), largest, largest / 8, largest / 64, largest / 512]


def _difference(operator: LossOperator, v: Tensor, h: float) -> Tensor:
    total = torch.zeros_like(v)
    for index, weight in enumerate(operator.probe.weights):
        total += weight * gradient_difference(operator, index, v, h)
    return total
