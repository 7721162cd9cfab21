"""Before the numbers are believed: is the product symmetric, and does it agree with a finite difference?"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.errors import InputError, ProductCheckError
from eigenscope.operators.graph import nodes_of, saved_tensors
from eigenscope.operators.hessian import HessianOperator, gradient_difference
from eigenscope.operators.loss_operator import FINITE_DIFFERENCE, LossOperator

_KINK = re.compile("Relu|ReLU|Elu|Threshold|Hard|MaxPool|Max(imum)?Backward|Min(imum)?Backward|Ama|Ami|Abs|Clamp|Sort")
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
            f"the products are not symmetric (off by {symmetry:.1e} of the largest eigenvalue): {_asymmetry(operator)}"
        )
    comparable = isinstance(operator, HessianOperator) and operator.method != FINITE_DIFFERENCE
    if not comparable or not operator.probe.aliased or radius == 0.0:
        return SelfCheck(symmetry, None, None, "passed")
    return _compare(operator, v, product, radius, symmetry, 30 * tolerance)


def _asymmetry(operator: LossOperator) -> str:
    if operator.method == FINITE_DIFFERENCE:
        return "finite differences can't be taken across its kinks (ReLU, max pooling); use a second derivative"
    return "the loss is random or changes between two runs; measure in evaluation mode and make loss_fn deterministic"


def _compare(
    operator: LossOperator, v: Tensor, product: Tensor, radius: float, symmetry: float, allowed: float
) -> SelfCheck:
    """Try steps until one agrees; contradict only where two steps agree with each other and not with the product.

    Across a kink, or past the reach of the quadratic model, a finite difference means nothing, so no single one may
    reject a product. Nor may two where the loss has kinks: over very many ReLUs they agree with each other on a
    curvature that is in no second derivative (a small CNN on 1,797 digits: to 7 %, and 51 % off). Nor where it is
    computed in 16 bits, in which a short step of the parameters is rounded away (a GPT: agreed to 1.7 %, 13 % off).
    """
    norm = operator.space.norm
    offs: list[float] = []
    noises: list[float] = []
    last: Tensor | None = None
    for h in _steps(operator, radius):
        try:
            difference = _difference(operator, v, h)
        except InputError:  # out there the loss is not finite: this step says nothing
            continue
        offs.append(norm(product - difference) / radius)
        if offs[-1] <= allowed:
            return SelfCheck(symmetry, offs[-1], min(noises, default=None), "passed")
        if last is not None and min(norm(last), norm(difference)) > 0.3 * radius:
            noises.append(norm(last - difference) / radius)
            if noises[-1] <= allowed and offs[-1] > 4 * noises[-1] and not _misleading(operator):
                raise ProductCheckError(
                    f"the products disagree with finite differences of the gradient by {offs[-1]:.0%} (which agree to "
                    f"{noises[-1]:.1%}): an operation has a wrong second derivative; method='finite_difference' "
                    "needs none"
                )
        last = difference
    return SelfCheck(symmetry, min(offs, default=None), min(noises, default=None), "inconclusive")


def _steps(operator: LossOperator, radius: float) -> list[float]:
    """Lengths to try, longest first: one that changes the gradient by a tenth, and from ε^(1/3)(1 + ‖θ‖) down.

    None lies within a factor of 4 of another: their differences would agree by sharing one error.
    """
    parameters = operator.probe.parameters
    epsilon = max(torch.finfo(p.dtype).eps for p in parameters.tensors)
    theta = parameters.join(parameters.tensors, operator.space.dtype)
    largest = epsilon ** (1 / 3) * (1 + operator.space.norm(theta))
    relative = 0.1 * operator.space.norm(operator.gradient) / radius
    others = [h for h in (largest, largest / 8, largest / 64, largest / 512) if not 0.25 < h / (relative or h / 4) < 4]
    return sorted([*others, *([relative] if relative > 0 else [])], reverse=True)


def _misleading(operator: LossOperator) -> bool:
    """Whether the loss has kinks or is computed in 16 bits."""
    with operator.probe.isolated():
        loss = operator.probe.loss(0)
        short = any(tensor.itemsize == 2 for node in nodes_of([loss]) for tensor in saved_tensors(node))
        return short or any(_KINK.search(node.name()) for node in nodes_of([loss]))


def _difference(operator: LossOperator, v: Tensor, h: float) -> Tensor:
    total = torch.zeros_like(v)
    for index, weight in enumerate(operator.probe.weights):
        total += weight * gradient_difference(operator, index, v, h)
    return total
