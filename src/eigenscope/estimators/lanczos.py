"""The Lanczos process with full reorthogonalization: one Krylov space, from which every other number is read.

Lanczos (1950); full reorthogonalization (Parlett, The Symmetric Eigenvalue Problem, 1998); thick restart when memory
is short (Wu & Simon 2000). Each column of the projected matrix is measured against the whole basis, so that what
should be zero there is the asymmetry and the rounding noise of the product, for free.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eigenscope.errors import MeasurementError
from eigenscope.estimators.projected import eigh, spectral_norm
from eigenscope.operators import Basis, Operator


@dataclass(frozen=True)
class RitzPairs:
    """Approximate eigenpairs of A from a subspace, ascending."""

    values: NDArray[np.float64]  # (m,)
    residuals: NDArray[np.float64]  # (m,) ‖Ay − θy‖: an eigenvalue lies this near to θ
    coefficients: NDArray[np.float64]  # (m, m) columns: eigenvectors of the projected matrix

    @property
    def spectral_radius(self) -> float:
        return float(np.abs(self.values[[0, -1]]).max())

    def expected_errors(self) -> NDArray[np.float64]:
        """min(r, r²/gap): how far each value is expected to be off (Kato–Temple, with the gap as it is seen here)."""
        spacing = np.diff(self.values, prepend=-np.inf, append=np.inf)
        gap = np.maximum(np.minimum(spacing[:-1], spacing[1:]), np.finfo(float).tiny)
        with np.errstate(over="ignore"):
            return np.minimum(self.residuals, self.residuals**2 / gap)


@dataclass(frozen=True)
class Quadrature:
    """Gauss nodes and weights (sum 1) of a vector's spectral measure, ⟨v, f(A)v⟩ (Golub & Meurant 1994)."""

    nodes: NDArray[np.float64]  # (m,) ascending
    weights: NDArray[np.float64]  # (m,)


@dataclass(frozen=True)
class Krylov:
    """What a Lanczos run leaves: basis, projected matrix, and what it cost."""

    basis: Basis  # m orthonormal vectors
    projected: NDArray[np.float64]  # (m, m), symmetric
    coupling: NDArray[np.float64]  # (m,) AQ = Q·projected + q·couplingᵀ
    noise: float  # spectral norm of the asymmetry of the measured projection
    num_matvecs: int
    restarts: int
    quadrature: Quadrature  # of the start vector
    half_quadrature: Quadrature  # the same from half of the steps

    def ritz(self) -> RitzPairs:
        return _ritz(self.projected, self.coupling)

    def vectors(self, coefficients: NDArray[np.float64]) -> Float[Tensor, "k n"]:
        """Ritz vectors as rows, from columns of `RitzPairs.coefficients`."""
        weights = torch.as_tensor(np.ascontiguousarray(coefficients.T), dtype=self.basis.space.dtype)
        return self.basis.combine(weights.to(self.basis.space.device))

    @property
    def complete(self) -> bool:
        """The basis spans the whole space: every value is exact to rounding."""
        return self.basis.count == self.basis.space.size


Stop = Callable[[RitzPairs], bool]


def lanczos(
    operator: Operator,
    start: Float[Tensor, " n"],
    *,
    steps: int,
    generator: torch.Generator,
    stop: Stop = lambda _: False,
    first_test: int = 4,
    max_basis: int | None = None,
    memory_limit: float = float("inf"),
) -> Krylov:
    """Multiply up to `steps` vectors, beginning with `start`, or until `stop` is content.

    With room for only `max_basis` vectors the run restarts from its best Ritz vectors at both ends: the same values,
    a few more products. A space that is exhausted early (repeated eigenvalues) is continued with a random vector.
    """
    run = _Run(operator, min(steps, operator.space.size), max_basis, memory_limit, generator)
    run.append(start / operator.space.norm(start))
    while run.matvecs < run.steps:
        run.step()
        if run.matvecs >= run.steps:
            break
        if run.matvecs >= first_test and stop(run.ritz()):
            break
        run.extend()
    return run.result()


class _Run:
    """The state of one Lanczos run."""

    def __init__(
        self, operator: Operator, steps: int, max_basis: int | None, memory_limit: float, generator: torch.Generator
    ) -> None:
        self.operator, self.space, self.steps, self.generator = operator, operator.space, steps, generator
        room = min(steps, max_basis or steps)
        self.basis = self.space.basis(room, memory_limit)
        self.matrix = np.zeros((room, room))
        self.matvecs = self.restarts = 0
        self.noise = 0.0
        self.remainder: Tensor | None = None
        self.beta = 0.0
        self.quadratures: tuple[Quadrature, Quadrature] | None = None

    def append(self, vector: Tensor) -> None:
        self.basis.append(vector)

    def step(self) -> None:
        """Multiply the newest vector and project the product on the basis."""
        index = self.basis.count - 1
        product = self.operator @ self.basis[index]
        self.matvecs += 1
        self.remainder, coefficients = self.basis.orthogonalize(product.to(self.space.dtype))
        self.matrix[: index + 1, index] = coefficients.cpu().numpy()
        self.beta = self.space.norm(self.remainder)
        if not math.isfinite(self.beta):
            raise MeasurementError("a product of the matrix with a vector is not finite: the loss overflows near here")

    def symmetric(self) -> NDArray[np.float64]:
        m = self.basis.count
        upper = np.triu(self.matrix[:m, :m])
        return upper + np.triu(upper, 1).T

    def coupling(self) -> NDArray[np.float64]:
        last = np.zeros(self.basis.count)
        last[-1] = self.beta
        return last

    def ritz(self) -> RitzPairs:
        return _ritz(self.symmetric(), self.coupling())

    def extend(self) -> None:
        """Make room if there is none, and append the next vector."""
        assert self.remainder is not None
        scale = max(np.abs(self.matrix).max(), np.finfo(float).tiny)
        beta = self.beta
        if self.basis.count == self.basis.capacity:
            beta = self._restart()
        if beta > 1e-10 * scale:
            vector = self.remainder / self.space.norm(self.remainder)
        else:  # the space is invariant: go on in its complement
            vector, _ = self.basis.orthogonalize(self.space.random(self.generator))
            vector = vector / self.space.norm(vector)
        self.append(vector)

    def _restart(self) -> float:
        """Keep the Ritz vectors at both ends (two thirds above, a third below) and go on from the remainder."""
        pairs = self.ritz()
        keep = max(1, min(self.basis.capacity - 2, 2 * self.basis.capacity // 3))
        chosen = np.r_[np.arange(keep // 3), np.arange(len(pairs.values) - (keep - keep // 3), len(pairs.values))]
        self._before_first_restart()
        weights = torch.as_tensor(np.ascontiguousarray(pairs.coefficients[:, chosen].T), dtype=self.space.dtype)
        self.basis.replace(weights.to(self.space.device))
        self.matrix[:] = 0.0
        self.matrix[:keep, :keep] = np.diag(pairs.values[chosen])
        self.restarts += 1
        return self.beta

    def _before_first_restart(self) -> None:
        """Read off what only a plain Lanczos matrix holds: it should be tridiagonal, what stands elsewhere is noise."""
        if self.quadratures is None:
            matrix = self.symmetric()
            half = max(1, len(matrix) // 2)
            self.quadratures = _quadrature(matrix), _quadrature(matrix[:half, :half])
            self.noise = spectral_norm(np.triu(matrix, 2)) if len(matrix) > 2 else 0.0

    def result(self) -> Krylov:
        self._before_first_restart()
        assert self.quadratures is not None
        return Krylov(
            basis=self.basis,
            projected=self.symmetric(),
            coupling=self.coupling(),
            noise=self.noise,
            num_matvecs=self.matvecs,
            restarts=self.restarts,
            quadrature=self.quadratures[0],
            half_quadrature=self.quadratures[1],
        )


def _ritz(matrix: NDArray[np.float64], coupling: NDArray[np.float64]) -> RitzPairs:
    values, vectors = eigh(matrix)
    return RitzPairs(values, np.abs(coupling @ vectors), vectors)


def _quadrature(matrix: NDArray[np.float64]) -> Quadrature:
    values, vectors = eigh(matrix)
    return Quadrature(values, vectors[0] ** 2)
