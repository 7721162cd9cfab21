"""A matrix that is there in full."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from eigenscope.operators.base import Operator
from eigenscope.operators.space import VectorSpace


class DenseOperator(Operator):
    """A symmetric matrix given by its entries (n × n)."""

    method = "dense"

    def __init__(self, matrix: Float[Tensor, "n n"]) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"expected a square matrix, got shape {tuple(matrix.shape)}")
        self.matrix = matrix
        self.space = VectorSpace(matrix.shape[0], matrix.device)

    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return (self.matrix @ v.to(self.matrix.dtype)).to(v.dtype)

    def _matmat(self, block: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        return self._matvec(block)
