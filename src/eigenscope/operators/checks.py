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
    finite_difference: float | None  # ‖Av − FD‖; None where there is none to compare with
    difference_noise: float | None  # how far two finite differences lie from each other
    status: str  # "passed" or "inconclusive": the finite differences contradict each other


def self_check(
    operator: LossOperator, v: Float[Tensor, " n"], product: Float[Tensor, " n"], asymmetry: float, radius: float
) -> SelfCheck:
    """Check `product` = Av, v a unit vector near the leading eigenvector, and the `asymmetry` that a Krylov run saw.

    Costs four gradients. Raises `ProductCheckError` where the products contradict themselves or the gradient.
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
    near, far = (_difference(operator, v, scale) for scale in (1.0, 4.0))
    off = min(operator.space.norm(product - near), operator.space.norm(product - far)) / radius
    noise = operator.space.norm(near - far) / radius
    if off > 30 * tolerance and off > 4 * noise:
        raise ProductCheckError(
            f"the products disagree with finite differences of the gradient by {off:.0%} (whose own noise is "
            f"{noise:.0%}): an operation has a wrong second derivative, or the loss is not smooth here; "
            "method='finite_difference' needs no second derivative"
        )
    return SelfCheck(symmetry, off, noise, "passed" if off <= 30 * tolerance else "inconclusive")


def _difference(operator: LossOperator, v: Tensor, scale: float) -> Tensor:
    total = torch.zeros_like(v)
    for index, weight in enumerate(operator.probe.weights):
        total += weight * gradient_difference(operator, index, v, scale)
    return total
