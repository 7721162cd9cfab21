"""The ℓ2 → ℓ2 norm of one layer: exact, or bounded from above by a proof; and certified largest eigenvalues.

A Ritz value or a power iteration only ever finds a *lower* bound on a norm. What is called an upper bound here comes
from a full symmetric eigenvalue problem or from a Cholesky factorization that succeeds: μI − G has one only where
μ ≥ λmax(G). Everything runs in fp64 and is rounded outward by `ROUNDING`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from eigenscope.estimators import lanczos
from eigenscope.operators import DenseOperator

# The backward error of a symmetric eigenvalue problem or of a Cholesky factorization is at most about n²·2⁻⁵³ of the
# norm (Higham 2002, theorem 10.3; Rump 2006): 7·10⁻⁹ for n = 8,000, and a norm is the root of an eigenvalue.
ROUNDING = 1e-8
SOLVED = 1100  # rows of a matrix whose eigenvalues are solved for: a quarter of a second
_SLACK = 1e-3  # of an eigenvalue that is bounded from above instead


@dataclass(frozen=True)
class Norm:
    """‖A‖₂ of one layer: `value` is never below it, and equals it (to rounding) where `exact`."""

    value: float
    method: str
    exact: bool
    lower: float | None = None  # proven from below, where `value` is only a bound

    def times(self, factor: float) -> Norm:
        """The norm of the layer scaled by `factor`."""
        lower = None if self.lower is None else self.lower * abs(factor)
        return replace(self, value=self.value * abs(factor), lower=lower)


def outward(value: float) -> float:
    """A bound moved up by the rounding of its computation."""
    return value * (1 + ROUNDING)


def dense_norm(weight: Float[Tensor, "out in"]) -> Norm:
    """The largest singular value, from the smaller Gram matrix in fp64.

    Squaring costs small singular values their digits, the largest one none.
    """
    weight = weight.detach().double()
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    if len(gram) <= SOLVED:
        return Norm(outward(math.sqrt(largest_eigenvalue(gram))), "gram (fp64)", exact=True)
    lower, upper = eigenvalue_bounds(gram)
    return Norm(outward(math.sqrt(upper)), "Cholesky factorization of the gram (fp64)", False, math.sqrt(lower))


def largest_eigenvalue(matrices: Shaped[Tensor, "*batch n n"], *, floor: float = 0.0) -> float:
    """The largest eigenvalue of any of a batch of symmetric (Hermitian) matrices, or `floor` where none exceeds it.

    A few power steps say where it may lie; that matrix is solved, and a Cholesky factorization proves of each other
    that it stays below: about a tenth of the work of solving them all. One that fails is solved too. A single matrix
    that is too large to be solved is bounded from above.
    """
    matrices = matrices.reshape(-1, *matrices.shape[-2:])
    if matrices.shape[-1] == 1:
        return max(floor, float(matrices.real.max()))
    if len(matrices) == 1 and matrices.shape[-1] > SOLVED and not matrices.is_complex():
        return max(floor, eigenvalue_bounds(matrices[0])[1])
    best = floor
    left = matrices[torch.argsort(rayleigh(matrices), descending=True)]
    while len(left):
        best = max(best, float(torch.linalg.eigvalsh(left[:4]).max()))
        left = left[4:]
        if len(left):
            left = left[has_larger_eigenvalue(left, best * (1 + ROUNDING))]
    return best


def eigenvalue_bounds(matrix: Float[Tensor, "n n"], lower: float | None = None) -> tuple[float, float]:
    """λmax of a large positive semidefinite matrix: found from below by Lanczos, proven from above by Cholesky.

    `lower`: a bound from below that is known already.
    """
    if lower is None:
        operator = DenseOperator(matrix)
        generator = operator.space.generator(0)
        krylov = lanczos(operator, operator.space.random(generator), steps=60, generator=generator)
        lower = float(krylov.ritz().values[-1]) * (1 - ROUNDING)
    if lower <= 0.0:
        return 0.0, float(torch.linalg.matrix_norm(matrix))
    slack = _SLACK
    while bool(has_larger_eigenvalue(matrix, lower * (1 + slack))):
        slack *= 4
    return lower, lower * (1 + slack)


def has_larger_eigenvalue(matrices: Tensor, value: float) -> Tensor:
    """Which of a batch of matrices G may have an eigenvalue above `value`: no Cholesky factorization of value·I − G."""
    shifted = value * torch.eye(matrices.shape[-1], dtype=matrices.dtype) - matrices
    failed: Tensor = torch.linalg.cholesky_ex(shifted).info > 0
    return failed


def rayleigh(matrices: Tensor, steps: int = 10) -> Tensor:
    """A lower bound on each one's largest eigenvalue, by the power method."""
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(matrices.shape[-1], dtype=torch.float64, generator=generator).to(matrices.dtype)
    vectors = v.expand(len(matrices), -1).unsqueeze(-1)
    tiny = torch.finfo(torch.float64).tiny
    for _ in range(steps):
        vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(tiny)
        vectors, before = matrices @ vectors, vectors
    quotients: Tensor = (before.conj() * vectors).sum((1, 2)).real
    return quotients
