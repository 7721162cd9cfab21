"""A block Krylov space of a matrix, with both of its orthonormal bases (Golub–Kahan, full reorthogonalization).

Subspace iteration (Halko, Martinsson & Tropp 2011) that keeps what it met: the same products, and an error that falls
with the square of the speed (Musco & Musco 2015, "Randomized block Krylov methods").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from eigenscope.lowrank.matrix import Matrix, multiply


@dataclass(frozen=True)
class Ritz:
    """X·V·right = Q·left·diag(theta): approximate singular values, descending, and how well each one stands."""

    theta: NDArray[np.float64]
    left: Float64[Tensor, "l l"]
    right: Float64[Tensor, "l l"]
    residuals: NDArray[np.float64]  # ‖Xᵀu − θv‖ of each

    def couplings(self) -> NDArray[np.float64]:
        """A bound on ‖XᵀU − VΘ‖ of the first 1, 2, … triplets: the Frobenius norm."""
        return np.sqrt(np.cumsum(self.residuals**2))


class Krylov:
    """X·V = Q·R with orthonormal V (n × l) and Q (m × l), and XᵀQ = V·Rᵀ but for the last block.

    With `without` = (U, W) it is the space of (I − UUᵀ)X(I − WWᵀ): of what those columns leave out.
    """

    def __init__(self, matrix: Matrix, start: Tensor, without: tuple[Tensor, Tensor] | None = None) -> None:
        self.matrix, self.without = matrix, without
        columns = 0 if without is None else without[1].shape[1]
        self.limit = matrix.shape[1] - columns
        self._v, self._q = _Basis(matrix.shape[1], start), _Basis(matrix.shape[0], start)
        self._r = np.zeros((0, 0))
        self._next, _, _ = self._fresh(start[:, : self.limit], self._v, side=1)
        self._coupling = np.zeros((0, 0))
        self._last = 0

    @property
    def size(self) -> int:
        return self._v.count

    @property
    def complete(self) -> bool:
        return self.size >= self.limit

    def step(self) -> None:
        """A block further: one product with X and one with Xᵀ."""
        width, known = self._next.shape[1], self.size
        images, along, triangle = self._fresh(self.matrix.right(self._next), self._q, side=0)
        self._v.append(self._next)
        self._q.append(images)
        grown = np.zeros((known + width, known + width))
        grown[:known, :known], grown[:known, known:], grown[known:, known:] = self._r, along, triangle
        self._r, self._last = grown, width
        self._next, _, self._coupling = self._fresh(self.matrix.left(images), self._v, side=1)
        room = self.limit - self.size
        if room < self._next.shape[1]:  # the last block: what the space still has room for
            self._next, self._coupling = self._next[:, :room], self._coupling[:room]

    def inject(self, vectors: Float64[Tensor, "n k"]) -> None:
        """Let directions that the space missed take part from the next step on."""
        room = self.limit - self.size - self._next.shape[1]
        if room <= 0:
            return
        both = torch.cat([self._next, vectors[:, :room]], 1)
        fresh, _, _ = self._fresh(both, self._v, side=1)
        change = multiply(fresh.T, self._next).cpu().numpy()
        self._next, self._coupling = fresh, change @ self._coupling

    def ritz(self) -> Ritz:
        """The singular triplets of X seen from here."""
        left, theta, right = np.linalg.svd(self._r)
        residuals = np.linalg.norm(self._coupling @ left[-self._last :], axis=0)
        device = self.matrix.device
        return Ritz(theta, torch.from_numpy(left).to(device), torch.from_numpy(right.T.copy()).to(device), residuals)

    def triplets(self, ritz: Ritz, count: int) -> tuple[Tensor, Tensor]:
        """U (m × count) and V (n × count)."""
        left, right = ritz.left[:, :count], ritz.right[:, :count]
        return multiply(self._q.columns, left), multiply(self._v.columns, right)

    def _fresh(
        self, block: Tensor, basis: _Basis, side: int
    ) -> tuple[Tensor, NDArray[np.float64], NDArray[np.float64]]:
        """An orthonormal block F with block = basis·along + F·triangle, orthogonal to the basis and to `without`.

        Twice is enough (Giraud et al. 2005), but for columns that vanish: they leave rounding behind, which a third
        round turns into directions.
        """
        outer = self.without[side] if self.without is not None else None
        along = np.zeros((basis.count, block.shape[1]))
        triangle = np.eye(block.shape[1])
        for last in (False, True, True):
            if outer is not None:
                block = block - multiply(outer, multiply(outer.T, block))
            part = multiply(basis.columns.T, block)
            block, upper = torch.linalg.qr(block - multiply(basis.columns, part))
            along += part.cpu().numpy() @ triangle
            triangle = upper.cpu().numpy() @ triangle
            if last and float(upper.diagonal().abs().min()) > 0.5:
                break
        return block, along, triangle


class _Basis:
    """Columns in one array that grows by doubling."""

    def __init__(self, rows: int, like: Tensor) -> None:
        self._room, self.count = like.new_empty(0, rows), 0

    @property
    def columns(self) -> Tensor:
        return self._room[: self.count].T

    def append(self, block: Tensor) -> None:
        count = self.count + block.shape[1]
        if count > len(self._room):
            room = self._room.new_empty(max(count, 2 * self.count), self._room.shape[1])
            room[: self.count] = self._room[: self.count]
            self._room = room
        self._room[self.count : count] = block.T
        self.count = count


def gaussian(rows: int, columns: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Drawn on the CPU, so that a seed gives the same numbers everywhere."""
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(device)
