"""All singular values: a dense SVD, or the eigenvectors of XᵀX refined by one product."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from eigenscope.errors import MeasurementError, first_line
from eigenscope.estimators.gram import smaller_gram
from eigenscope.lowrank.bounds import rounding, upper_errors
from eigenscope.lowrank.matrix import Matrix, multiply
from eigenscope.lowrank.result import rank_for


@dataclass(frozen=True)
class Triplets:
    """Leading singular triplets of an upright matrix, and what is known of the rest."""

    left: Float64[Tensor, "m k"]
    theta: NDArray[np.float64]
    right: Float64[Tensor, "n k"]
    errors: NDArray[np.float64]  # upper bounds, of theta
    following: float  # σ_{k+1}, 0 where there is none
    following_error: float
    hint: Float64[Tensor, "n 1"] | None  # about the right singular vector of σ_{k+1}
    method: str
    tail: float | None = None  # √Σ_{i>k} σ², where all of them are known
    tail_error: float = 0.0


@dataclass(frozen=True)
class Wanted:
    """How much of the spectrum: a rank, or a share of Σσ²."""

    rank: int | None
    energy: float | None

    def count(self, theta: NDArray[np.float64], norm: float) -> int | None:
        """How many of the leading values that is, None where more are needed to tell."""
        if self.energy is None:
            return self.rank if self.rank is not None and self.rank <= len(theta) else None
        return rank_for(theta**2, norm**2, self.energy)


def exact(matrix: Matrix, wanted: Wanted) -> Triplets:
    """By a dense SVD in fp64: errors are those of the arithmetic."""
    try:
        left, values, right = torch.linalg.svd(matrix.dense(), full_matrices=False)
    except RuntimeError as problem:
        raise MeasurementError(f"the SVD did not converge: {first_line(problem)}; scale or shift the matrix") from None
    theta = values.cpu().numpy()
    count = wanted.count(theta, matrix.norm) or len(theta)
    error = rounding(float(theta[0]), matrix.shape)
    following = theta[count] if count < len(theta) else 0.0
    hint = right[count : count + 1].T if count < len(theta) else None
    return Triplets(
        left[:, :count],
        theta[:count],
        right[:count].T,
        np.full(count, error),
        float(following),
        error if count < len(theta) else 0.0,
        hint,
        "exact",
        float(np.linalg.norm(theta[count:])),
        error * math.sqrt(len(theta) - count),
    )


def gram(matrix: Matrix, wanted: Wanted) -> Triplets:
    """From the eigenvectors of XᵀX, formed in fp64; a Rayleigh–Ritz step with X itself gives back the digits that the
    square lost, and its residual with the next eigenvalue bounds the error."""
    squares, vectors = _eigenvectors(matrix)
    count = wanted.count(np.sqrt(squares), matrix.norm) or len(squares)
    following = float(np.sqrt(squares[count])) if count < len(squares) else 0.0
    left, theta, right = rayleigh_ritz(matrix, vectors[:, :count])
    residual = matrix.left(left) - right * torch.from_numpy(theta).to(right)
    floor = rounding(float(theta[0]), matrix.shape)
    rest, lowest = 0.0, 0.0
    if count < len(squares):
        rest, lowest = _next_value(following, squares[0], matrix.shape)
        rest = min(rest, matrix.distance(left * torch.from_numpy(theta).to(left), right))
    return Triplets(
        left,
        theta,
        right,
        upper_errors(theta, float(torch.linalg.matrix_norm(residual)), rest) + floor,
        min(following, rest),
        max(rest - following, min(following, rest) - lowest) + floor if rest else 0.0,
        vectors[:, count : count + 1] if count < len(squares) else None,
        "gram",
    )


def rayleigh_ritz(matrix: Matrix, basis: Float64[Tensor, "n k"]) -> tuple[Tensor, NDArray[np.float64], Tensor]:
    """The singular triplets of X·basis·basisᵀ: no value exceeds the one of X that it stands for."""
    q, r = torch.linalg.qr(matrix.right(basis))
    left, theta, right = torch.linalg.svd(r)
    return multiply(q, left), theta.cpu().numpy(), multiply(basis, right.T)


def _next_value(value: float, top: float, shape: tuple[int, int]) -> tuple[float, float]:
    """The most and the least that σ may be, given its square's root from a Gram matrix whose largest eigenvalue is
    `top`: the square is off by a few units of rounding of that (Higham 2002, (3.13))."""
    off = rounding(top, shape)
    return math.sqrt(value**2 + off), math.sqrt(max(value**2 - off, 0.0))


def _eigenvectors(matrix: Matrix) -> tuple[NDArray[np.float64], Tensor]:
    """Those of XᵀX, the largest first."""
    upright = matrix.source.T if matrix.flipped else matrix.source
    square = matrix.shape[0] == matrix.shape[1]
    product = smaller_gram(upright.T if square else upright, matrix.scale)  # of a square it forms the other one
    if matrix.device.type == "cpu":
        values, vectors = np.linalg.eigh(product)
        basis = torch.from_numpy(vectors[:, ::-1].copy())
    else:
        found, turned = torch.linalg.eigh(torch.from_numpy(product).to(matrix.device))
        values, basis = found.cpu().numpy(), turned.flip(1)
    return np.maximum(values[::-1], 0.0), basis
