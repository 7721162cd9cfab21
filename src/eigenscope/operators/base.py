"""A symmetric matrix that is known by its products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.operators.space import VectorSpace


class Operator(ABC):
    """A real symmetric n × n matrix that multiplies vectors.

    `A @ v` multiplies a vector, `A @ V` a block (n × k). Each vector multiplied counts one in `num_matvecs`, the
    unit of cost of everything that eigenscope does.
    """

    space: VectorSpace
    num_matvecs: int = 0
    method: str = "explicit"
    on_product: Callable[[int], None] | None = None  # told the number of products so far

    @property
    def shape(self) -> tuple[int, int]:
        return self.space.size, self.space.size

    def __matmul__(self, v: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        if v.shape[0] != self.space.size or v.ndim not in (1, 2):
            raise ValueError(f"expected a vector or block with {self.space.size} rows, got shape {tuple(v.shape)}")
        if v.ndim == 1:
            return self._counted(1, self._matvec(v))
        return self._counted(v.shape[1], self._matmat(v))

    def _counted(self, vectors: int, product: Tensor) -> Tensor:
        self.num_matvecs += vectors
        if self.on_product:
            self.on_product(self.num_matvecs)
        return product

    @abstractmethod
    def _matvec(self, v: Float[Tensor, " n"]) -> Float[Tensor, " n"]: ...

    def _matmat(self, block: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        return torch.stack([self._matvec(v) for v in block.unbind(1)], 1)
