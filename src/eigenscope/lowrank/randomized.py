"""The leading singular triplets from a random start: a block Krylov space grows until the singular values hold.

Values from a subspace lie below the true ones, and nothing inside it says how far: a direction that it missed shows in
no residual. So the rest is looked at from the outside, by Lanczos on what the settled triplets leave out, from fresh
random vectors, and its norm is bounded but for a stated probability. Only then do the bounds of `bounds.py` prove
which singular value each one is, and to what.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eigenscope.lowrank import cost
from eigenscope.lowrank.bounds import PROBES, inflation, rounding, upper_errors
from eigenscope.lowrank.dense import Triplets, Wanted
from eigenscope.lowrank.krylov import Krylov, Ritz, gaussian
from eigenscope.lowrank.matrix import Matrix

_LOOKS = (3, 4, 6, 8, 12, 16, 24)  # steps of Lanczos on the rest
_GROWTH = 1.25  # of the space between two looks at its triplets
_WIDTHS = (16, 64)  # of a block: from where a product is efficient to where a space starts too coarse


@dataclass(frozen=True)
class _Proof:
    """That the first triplets hold: the number split off as settled, and the bound on the norm of the rest."""

    split: int
    rest: float
    errors: NDArray[np.float64]
    holds: bool


@dataclass(frozen=True)
class _Bounds:
    """What each split of the triplets in two would prove of the first ones."""

    theta: NDArray[np.float64]  # those asked for, and the one after them
    allowed: NDArray[np.float64]
    floor: float
    couplings: NDArray[np.float64]  # of each split
    splits: NDArray[np.int64]

    def best(self, rests: NDArray[np.float64]) -> _Proof | None:
        """The split that proves the most, with a bound on the rest of each."""
        if not len(self.splits):
            return None
        errors = upper_errors(self.theta, self.couplings[:, None], rests[:, None])
        choice = int(np.argmin(np.max(errors / self.allowed, axis=1)))
        return self.at(int(self.splits[choice]), float(rests[choice]))

    def at(self, split: int, rest: float) -> _Proof:
        coupling = float(self.couplings[split - self.splits[0]])
        errors = upper_errors(self.theta, coupling, rest) + self.floor
        return _Proof(split, rest, errors, bool(np.all(errors <= self.allowed)))


def width(rank: int | None) -> int:
    """Columns of a block for a rank."""
    return int(np.clip(math.ceil((rank or 0) / 3), *_WIDTHS))


def randomized(
    matrix: Matrix, wanted: Wanted, tolerance: float, generator: torch.Generator, budget: float = math.inf
) -> Triplets | None:
    """Until each singular value is proven to `tolerance`, and the one after them to that share of the last; None once
    that has cost `budget` seconds by the model."""
    rows, columns = matrix.shape
    space = Krylov(matrix, gaussian(columns, min(width(wanted.rank), columns), generator, matrix.device))
    look, spent, least = 0, 0.0, (wanted.rank or width(None)) + 1
    while True:
        before = space.size
        space.step()
        spent += cost.krylov_step(rows, columns, space.size - before, before)
        if spent > budget:
            return None
        if not space.complete and space.size < max(look, least):
            continue
        look = math.ceil(space.size * _GROWTH)
        spent += cost.small_svd(space.size)
        ritz = space.ritz()
        count = wanted.count(ritz.theta, matrix.norm)
        if count is None and space.complete:
            count = len(ritz.theta)
        if count is None and _hopeless(matrix, ritz.theta, wanted, budget):
            return None
        products = matrix.num_matvecs
        if count is not None and (proof := _proof(space, ritz, count, tolerance, generator)) is not None:
            return _triplets(space, ritz, count, proof)
        spent += cost.look(rows, columns, matrix.num_matvecs - products, PROBES, space.size)


def _hopeless(matrix: Matrix, theta: NDArray[np.float64], wanted: Wanted, budget: float) -> bool:
    """Whether the energy takes a rank that the budget does not allow: after the j-th, σ² at most is σ_j² each."""
    settled = max(len(theta) // 4, 1)
    missing = (wanted.energy or 0.0) * matrix.norm**2 - float(np.sum(theta[:settled] ** 2))
    rank = settled + int(min(missing / max(float(theta[settled - 1]) ** 2, 1e-300), matrix.shape[1] - settled))
    return cost.krylov(*matrix.shape, rank, width(None)) > budget


def _proof(space: Krylov, ritz: Ritz, count: int, tolerance: float, generator: torch.Generator) -> _Proof | None:
    """By the cheapest means that the triplets promise to suffice for; None where none does, or one failed."""
    matrix, theta = space.matrix, ritz.theta
    floor = rounding(float(theta[0]), matrix.shape)
    needed = min(count + 1, matrix.shape[1])
    allowed = np.maximum(tolerance * theta[:needed], 4 * floor)
    allowed[count:] = allowed[count - 1]  # the edge of what is noise beside σ_k would cost more than all the rest
    if space.complete:
        return _Proof(len(theta), 0.0, np.full(needed, floor), True)
    if len(theta) < needed:
        return None

    splits = np.arange(needed, len(theta))
    bounds = _Bounds(theta[:needed], allowed, floor, ritz.couplings()[splits - 1], splits)
    left_over = matrix.norm**2 - np.cumsum(theta**2)[splits - 1]
    found = bounds.best(np.sqrt(np.maximum(left_over, 0.0) + floor * matrix.norm))  # ‖C‖ ≤ ‖C‖_F is known already
    if found is not None and found.holds:
        return found
    for steps in _LOOKS:
        factor = inflation(steps, matrix.shape[1])
        promise = bounds.best(theta[splits] * factor) if math.isfinite(factor) else None
        if promise is not None and promise.holds:
            return _looked(space, ritz, promise.split, steps, bounds, generator)
    return None


def _looked(
    space: Krylov, ritz: Ritz, split: int, steps: int, bounds: _Bounds, generator: torch.Generator
) -> _Proof | None:
    """Lanczos on what the first `split` triplets leave out; what it finds there, the space hears of."""
    matrix = space.matrix
    start = gaussian(matrix.shape[1], PROBES, generator, matrix.device)
    outside = Krylov(matrix, start, without=space.triplets(ritz, split))
    for _ in range(steps):
        outside.step()
        if outside.complete:
            break
    seen = outside.ritz()
    rest = float(seen.theta[0]) * (1.0 if outside.complete else inflation(steps, outside.limit))
    found = bounds.at(split, rest)
    if found.holds:
        return found
    missed = int(np.sum(seen.theta > ritz.theta[split]))
    if missed:
        space.inject(outside.triplets(seen, min(missed, PROBES))[1])
    return None


def _triplets(space: Krylov, ritz: Ritz, count: int, proof: _Proof) -> Triplets:
    left, right = space.triplets(ritz, min(count + 1, len(ritz.theta)))
    more = len(ritz.theta) > count
    return Triplets(
        left[:, :count],
        ritz.theta[:count],
        right[:, :count],
        proof.errors[:count],
        float(ritz.theta[count]) if more else 0.0,
        float(proof.errors[count]) if more else 0.0,
        right[:, count:] if more else None,
        "randomized",
    )
