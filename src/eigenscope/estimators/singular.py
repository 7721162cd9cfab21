"""Singular values of a block-diagonal matrix from products with BᵀB: one Lanczos run for each block, all in step.

The Jacobian of a batch is block diagonal, a block a sample. A product with it is a product with every block, so that
for the price of one Krylov space there is one for each sample; together they hold the joint one and more (Golub & Van
Loan 2013, section 10.1, for the run; full reorthogonalization: Parlett 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from eigenscope.errors import MeasurementError
from eigenscope.estimators.projected import eigh
from eigenscope.operators import Operator

_EXACT = 8  # a block of at most so many columns is taken to the end: it costs no more than to look

_CHUNK = 16  # vectors of a basis that room is made for at a time


@dataclass(frozen=True)
class SingularValues:
    """The ends and the root mean square of the singular values of B.

    An `error` is what the residual proves: a singular value lies that near (`smallest` may lie that far below).
    """

    largest: float
    largest_error: float
    rms: float  # ‖B‖_F/√n
    rms_standard_error: float
    smallest: float
    smallest_error: float
    nodes: NDArray[np.float64]  # σ and their shares (sum 1): a quadrature of their distribution
    shares: NDArray[np.float64]
    vector: Float[Tensor, " n"]  # the right singular vector of `largest`
    num_matvecs: int
    converged: bool


def singular_values(
    gram: Operator,
    generator: torch.Generator,
    *,
    samples: int = 1,
    tolerance: float = 1e-2,
    rms_tolerance: float = 2e-2,
    max_matvecs: int = 40,
    smallest: bool = False,
    roundoff: float = 2.0**-24,
) -> SingularValues:
    """σ_max to a relative `tolerance` and ‖B‖_F/√n to `rms_tolerance`, from products with BᵀB.

    `samples` is the number of equal blocks on the diagonal. ‖B‖²_F comes from the random start vectors, at no product
    more: its relative error falls with the square root of their number and length, and where that does not do, random
    vectors follow. `smallest` goes on until σ_min is as good as σ_max. `roundoff` is that of the products: no error is
    stated below a few units of it.
    """
    run = _Runs(gram, samples, min(max_matvecs, gram.space.size // samples), generator)
    while run.steps < run.limit:
        run.step()
        look = run.size > _EXACT and _worth_a_look(run.steps, _least(run.size, tolerance))
        if look and run.ritz().settled(tolerance, smallest, run.rounding()):
            break
    value, error = run.trace(rms_tolerance, max(max_matvecs // 4, 2))
    rms, pairs = float(np.sqrt(max(value, 0.0) / gram.space.size)), run.ritz()
    best, worst = int(np.argmax(pairs.values[:, -1])), int(np.argmin(pairs.values[:, 0]))
    largest, largest_error = _root(pairs.values[best, -1], pairs.residuals[best, -1])
    return SingularValues(
        largest,
        max(largest_error, 8 * roundoff * largest),
        rms,
        error / (2 * gram.space.size * rms) if rms > 0 else 0.0,
        *_root(pairs.values[worst, 0], max(pairs.residuals[worst, 0], run.rounding())),
        nodes=np.sqrt(np.maximum(pairs.values.flatten(), 0.0)),
        shares=(pairs.vectors[:, 0] ** 2).flatten() / samples,
        vector=run.vector(best, pairs.vectors[best, :, -1]),
        num_matvecs=run.steps + run.probes,
        converged=run.steps == run.size or pairs.settled(tolerance, smallest, run.rounding()),
    )


def _least(size: int, tolerance: float) -> int:
    """Steps after which σ_max from a random start is short by 2 · `tolerance` in the mean, whatever the spectrum.

    Residuals say nothing of a value that the start barely touches; this does: 0.103 (ln n/(k − 1))² of λ (Kuczyński &
    Woźniakowski 1992, theorem 3.1). Beyond 1 % the residuals ask for as many steps themselves.
    """
    return 1 + round(math.log(size) * math.sqrt(0.103 / (4 * max(tolerance, 0.01))))


def _worth_a_look(steps: int, least: int) -> bool:
    """At first after every step, then more seldom: for many small blocks a look costs more than a step."""
    return steps >= least and (steps < least + 8 or steps % (steps // 8 * 2) == 0)


@dataclass(frozen=True)
class _Ritz:
    """Ritz values of every block, ascending, with their residuals and vectors (columns)."""

    values: NDArray[np.float64]  # (samples, k)
    residuals: NDArray[np.float64]  # (samples, k)
    vectors: NDArray[np.float64]  # (samples, k, k)

    def settled(self, tolerance: float, smallest: bool, rounding: float) -> bool:
        """Whether no block promises a value further out by `tolerance` than the one found (by a sixteenth of it, at the
        top: a value that the start vector barely touches turns up late)."""
        low, high = self._reach()
        found, bottom = self.values[:, -1].max(), self.values[:, 0].min()
        top = high.max() <= (1 + tolerance / 16) * found
        return bool(top and (not smallest or bottom <= rounding or low.min() >= (1 - tolerance) * bottom))

    def _reach(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the extreme values may lie: off by min(r, r²/gap) (Kato–Temple)."""
        gaps = np.maximum(np.diff(self.values), 1e-300)
        if not gaps.size:
            return self.values[:, 0] - self.residuals[:, 0], self.values[:, -1] + self.residuals[:, -1]
        low, high = self.residuals[:, 0], self.residuals[:, -1]
        with np.errstate(over="ignore"):
            down, up = np.minimum(low, low**2 / gaps[:, 0]), np.minimum(high, high**2 / gaps[:, -1])
        return self.values[:, 0] - down, self.values[:, -1] + up


class _Runs:
    """Lanczos runs on every block at once; vectors are (samples, size)."""

    def __init__(self, gram: Operator, samples: int, limit: int, generator: torch.Generator) -> None:
        self.gram, self.samples, self.size, self.limit = gram, samples, gram.space.size // samples, limit
        self.generator, self.probes = generator, 0
        self.alphas: list[NDArray[np.float64]] = []
        self.betas: list[NDArray[np.float64]] = []
        self._remainder: Tensor | None = None
        dtype, device = gram.space.dtype, gram.space.device
        self._room = torch.empty(samples, min(limit, _CHUNK), self.size, dtype=dtype, device=device)
        self._room[:, 0] = self._random()

    @property
    def steps(self) -> int:
        return len(self.alphas)

    def step(self) -> None:
        """Multiply the newest vectors and take out what is known."""
        index = self.steps
        if self._remainder is not None:
            if index == self._room.shape[1]:  # few runs get here: room is made when it is needed
                self._room = torch.cat([self._room, torch.empty_like(self._room[:, :_CHUNK])], dim=1)
            self._room[:, index] = self._next(self._remainder)
        product = self._product(self._room[:, index])
        self._remainder, along = self._orthogonal(product, index + 1)
        self.alphas.append(along[:, index].cpu().numpy())
        self.betas.append(torch.linalg.vector_norm(self._remainder, dim=1).cpu().numpy())
        if not math.isfinite(float(self.betas[-1].sum())):
            raise MeasurementError("a product of the Jacobian with a vector is not finite: activations overflow here")

    def ritz(self) -> _Ritz:
        diagonal, off = np.stack(self.alphas, 1), np.stack(self.betas, 1)
        count = self.steps
        matrices = np.zeros((self.samples, count, count))
        index = np.arange(count)
        matrices[:, index, index] = diagonal
        matrices[:, index[:-1], index[1:]] = matrices[:, index[1:], index[:-1]] = off[:, :-1]
        values, vectors = eigh(matrices)
        return _Ritz(values, np.abs(off[:, -1:] * vectors[:, -1]), vectors)

    def trace(self, tolerance: float, most: int) -> tuple[float, float]:
        """tr BᵀB and its standard error: from the start vectors, then from as many random ones as it takes.

        For v uniform on the sphere of dimension d, d·vᵀAv has mean tr A and variance 2d/(d+2)·(‖A‖²_F − (tr A)²/d),
        and ‖A‖²_F = d·E‖Av‖².
        """
        if self.steps == self.size:
            return float(np.sum(self.alphas)), 0.0
        first = self.betas[0] ** 2 + self.alphas[0] ** 2
        forms, squares = [self.size * self.alphas[0]], [self.size * first]
        while True:
            mean, square = np.mean(forms, 0), np.mean(squares, 0)
            variance = 2 * self.size / (self.size + 2) * np.maximum(square - mean**2 / self.size, 0.0) / len(forms)
            value, error = float(mean.sum()), float(np.sqrt(variance.sum()))
            if error <= 2 * tolerance * value or self.probes >= most:
                return value, error
            vectors = self._random()
            product = self._product(vectors)
            self.probes += 1
            forms.append(self.size * (product * vectors).sum(1).cpu().numpy())
            squares.append(self.size * (product**2).sum(1).cpu().numpy())

    def rounding(self) -> float:
        """What products in single precision can tell from 0."""
        return 1e-7 * max(float(np.max(self.alphas)), 1e-300)

    def vector(self, sample: int, coefficients: NDArray[np.float64]) -> Tensor:
        """A Ritz vector of one block, zero in the others."""
        whole = torch.zeros_like(self._room[:, 0])
        weights = torch.as_tensor(coefficients, dtype=whole.dtype, device=whole.device)
        whole[sample] = weights @ self._room[sample, : self.steps]
        return whole.flatten()

    def _product(self, vectors: Tensor) -> Tensor:
        return (self.gram @ vectors.flatten()).to(vectors.dtype).view(self.samples, self.size)

    def _random(self) -> Tensor:
        drawn = torch.randn(self.samples, self.size, generator=self.generator, device=self.gram.space.device)
        drawn = drawn.to(self.gram.space.dtype)
        length: Tensor = torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
        return drawn / length

    def _orthogonal(self, vectors: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Without their parts along the first vectors of the basis, by Gram–Schmidt, twice; and those parts."""
        basis, total = self._room[:, :count], self._room.new_zeros(self.samples, 1, count)
        rest = vectors[:, None]
        for _ in range(2):
            along = rest @ basis.mT
            rest = torch.baddbmm(rest, along, basis, alpha=-1)
            total += along
        return rest[:, 0], total[:, 0]

    def _next(self, remainder: Tensor) -> Tensor:
        """The remainders, normalized; a block whose space is exhausted goes on with a random vector."""
        norms: Tensor = torch.linalg.vector_norm(remainder, dim=1, keepdim=True)
        over = norms <= 1e-6 * max(float(np.max(np.abs(self.alphas))), 1e-300)
        if bool(over.any()):
            fresh, _ = self._orthogonal(self._random(), self.steps)
            self.betas[-1] = np.where(over.flatten().cpu().numpy(), 0.0, self.betas[-1])
            remainder = torch.where(over, fresh, remainder)
            norms = torch.linalg.vector_norm(remainder, dim=1, keepdim=True)
        return remainder / norms.clamp_min(1e-300)


def _root(value: float, residual: float) -> tuple[float, float]:
    """√θ, and how far off a singular value may be when an eigenvalue lies within r of θ: down to √(θ − r)."""
    root = math.sqrt(max(value, 0.0))
    if root == 0.0:
        return 0.0, math.sqrt(max(value + residual, 0.0))
    return root, residual / (root + math.sqrt(max(value - residual, 0.0)))
