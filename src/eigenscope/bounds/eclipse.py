"""ECLipsE-Fast: a certified bound for a chain of dense layers with activations of slope in [0, 1] between them.

Xu & Sivaranjani 2024, "ECLipsE: Efficient Compositional Lipschitz Constant Estimation for Deep Neural Networks". Let x
be the difference of two inputs of a layer, z = Wx and a the difference of the outputs of the activation. A slope in
[0, 1] means aᵢ(zᵢ − aᵢ) ≥ 0. Suppose that ‖input‖² ≥ xᵀMx is known (at first M = I). Then for every λ > 0

    xᵀMx  ≥  xᵀMx − λ·aᵀ(Wx − a)  ≥  aᵀ(λI − λ²/4·A)a,    A = W·M⁻¹·Wᵀ,

by minimizing over x. So M' = λI − λ²/4·A serves for the next layer, as long as it is positive definite: λ < 4/‖A‖. The
choice λ = 2/‖A‖ makes its smallest eigenvalue the largest possible, 1/‖A‖, and leaves it a condition number of at most
2, so that rounding plays no part. After the last layer ‖W_l x‖² ≤ ‖W_l·M⁻¹·W_lᵀ‖·‖input‖². As M' ≥ I/‖A‖, the bound is
never above the product of the norms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.bounds.norms import largest_eigenvalue, outward


@dataclass(frozen=True)
class Chain:
    """Dense layers since a tensor whose own constant is `base`, with activations between them.

    `gram` is A of the last layer. Along a row c of the output, c·f(x) has the constant base·√(c·A·cᵀ): the difference
    of two logits, for one.
    """

    base: float
    before: Float[Tensor, "m m"] | None  # A of the layer before the last activation
    last: Float[Tensor, "n m"]  # the layers since then, folded into one
    gram: Float[Tensor, "n n"]
    activations: int  # between the layers
    scale: float | None = None  # of an activation that has followed since; None: what follows can be folded

    @classmethod
    def start(cls, base: float, weight: Float[Tensor, "n m"]) -> Chain:
        weight = weight.detach().double()
        return cls(base, None, weight, _gram(weight, None), 0)

    def then(self, weight: Float[Tensor, "k n"]) -> Chain:
        """Another dense layer."""
        weight = weight.detach().double()
        if self.scale is None:
            weight, before, count = weight @ self.last, self.before, self.activations
        else:
            weight, before, count = weight * self.scale, self.gram, self.activations + 1
        return Chain(self.base, before, weight, _gram(weight, before), count)

    def activated(self, scale: float) -> Chain:
        """An activation with slopes in [0, scale]."""
        return Chain(self.base, self.before, self.last, self.gram, self.activations, (self.scale or 1.0) * scale)

    @property
    def constant(self) -> float:
        """A Lipschitz constant of the whole chain."""
        return self.base * outward(math.sqrt(largest_eigenvalue(self.gram)))


def eclipse_fast(weights: Sequence[Float[Tensor, "out in"]]) -> Chain:
    """W_l·φ(W_{l−1}·φ(… W_1·x)) with slopes in [0, 1], whatever the biases are."""
    chain = Chain.start(1.0, weights[0])
    for weight in weights[1:]:
        chain = chain.activated(1.0).then(weight)
    return chain


def _gram(weight: Float[Tensor, "n m"], before: Float[Tensor, "m m"] | None) -> Float[Tensor, "n n"]:
    """W·M⁻¹·Wᵀ, with M = λI − λ²/4·A and λ = 2/‖A‖; M = I at first."""
    if before is None:
        return weight @ weight.T
    norm = outward(largest_eigenvalue(before))
    if norm == 0.0:  # the layer before is zero: nothing passes, whatever follows
        return weight.new_zeros(len(weight), len(weight))
    scale = 2 / norm
    matrix = scale * torch.eye(len(before), dtype=before.dtype) - scale**2 / 4 * before
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(matrix), weight.T, upper=False)
    gram: Tensor = half.T @ half
    return gram
