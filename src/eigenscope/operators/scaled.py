"""A matrix seen through a diagonal change of coordinates."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from eigenscope.operators.base import Operator


class ScaledOperator(Operator):
    """D A D for a diagonal D ≥ 0: with D² = P⁻¹, its spectrum is that of P⁻¹A, but it is symmetric."""

    def __init__(self, operator: Operator, diagonal: Float[Tensor, " n"]) -> None:
        self.operator = operator
        self.diagonal = diagonal
        self.space = operator.space
        self.method = operator.method

    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self.diagonal * (self.operator @ (self.diagonal * v))
