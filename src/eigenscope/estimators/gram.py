"""Singular values of a dense matrix through its Gram matrix, with a bound on their error, and exactly where it is weak.

The eigenvalues of the smaller of WWᵀ and WᵀW, formed in fp64 from blocks of rows, are σ² to an absolute error of a few
units of rounding of σ₁²: at a fraction of the price of an SVD, and with no more than a block of W in fp64 at a time.
A singular value then is off by at most error/(2σ); below σ₁·10⁻⁶ or so that is too much, and an SVD is taken: of W, or
of the triangle that a QR decomposition leaves of a long W.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.linalg import eigh, qr, svdvals
from scipy.linalg.blas import dsyrk
from torch import Tensor

_BLOCK = 1 << 20  # entries of a block in fp64: 8 MB, about what a cache holds
_FEWEST = 256  # rows of a block: the sum is then cheap beside the product
_UNIT = 2.0**-53
_SMALL = 16  # a side so short costs nothing either way
_TAME = 1e50  # entries between this and its inverse neither overflow nor vanish when they are squared and summed
_LONG = 4  # times as long as wide, and a triangle is formed before the SVD
_WEAK = 5e-4  # relative error of the smallest singular value above which the SVD is taken


@dataclass(frozen=True)
class Spectrum:
    """Singular values, descending, and how far each may be off by the arithmetic alone."""

    singular_values: NDArray[np.float64]
    relative_error: float  # of σ², over σ₁²; of σ, over σ₁, where an SVD was taken
    method: str  # "gram" or "svd"

    def error_of(self, index: int) -> float:
        """Of the `index`-th singular value, in its own unit."""
        top = float(self.singular_values[0]) if len(self.singular_values) else 0.0
        if self.method == "svd" or top == 0.0:
            return self.relative_error * top
        share, root = float(self.singular_values[index]) / top, math.sqrt(self.relative_error)
        return top * (min(self.relative_error / (2 * share), root) if share > root else root)


def singular_spectrum(matrix: Float[Tensor, "m n"], *, floor: float = 0.0, rank: int = 0) -> Spectrum:
    """All singular values of a finite matrix of any floating type.

    An SVD in fp64 replaces the Gram matrix where that can't tell the smallest value to 5·10⁻⁴. Values below `floor` (a
    share of the Frobenius norm) need not be told from 0: where the Gram matrix shows them to be so small, it will do.
    Of a product of factors with that `rank` the values beyond it are 0, whatever rounding makes of them.
    """
    rows, columns = matrix.shape
    scale = largest_entry(matrix)
    if scale == 0.0:
        return Spectrum(np.zeros(min(rows, columns)), 0.0, "gram")
    if 1 / _TAME < scale < _TAME:
        scale = 1.0
    values = _eigenvalues(smaller_gram(matrix, scale))
    known = min(rank or len(values), len(values))
    values[known:] = 0.0
    # γ_n |W||Wᵀ| (Higham 2002, (3.13)) grows with n; rounding errors add up like √n, and the eigenvalue solver's too.
    # A rule of thumb, not a bound: it held on every matrix that the tests and we could think of.
    short, long = min(rows, columns), max(rows, columns)
    relative = _UNIT * (math.sqrt(long) + 2 * math.sqrt(short))
    found = Spectrum(np.sqrt(np.maximum(values, 0.0)) * scale, relative, "gram")
    error, last = relative * float(values[0]), float(values[known - 1])
    weak = error > 2 * _WEAK * last and math.sqrt(max(last, 0.0) + error) > floor * math.sqrt(values.sum())
    if weak or short <= _SMALL:
        exact = _svd(matrix, scale) * scale
        exact[known:] = 0.0
        return Spectrum(exact, _UNIT * short, "svd")
    return found


def _eigenvalues(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Descending; of a matrix that is given up."""
    return np.array(eigh(gram, eigvals_only=True, overwrite_a=True, check_finite=False, driver="evd")[::-1])


def _svd(matrix: Tensor, scale: float) -> NDArray[np.float64]:
    """Singular values to a few units of rounding of the largest."""
    upright = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    rows, short = upright.shape
    if rows <= _LONG * short:
        wide = _wide(matrix, scale)
        own = wide.copy() if matrix.dtype == torch.float64 else wide  # else it may be the caller's memory
        return np.asarray(svdvals(own.T, overwrite_a=True, check_finite=False))
    triangle = np.zeros((0, short))
    for part in torch.split(upright, _LONG * short):
        longer = np.concatenate([triangle, _wide(part, scale)])
        triangle = qr(longer, mode="r", overwrite_a=True, check_finite=False)[0][:short]
    return np.asarray(svdvals(triangle, overwrite_a=True, check_finite=False))


def _wide(part: Tensor, scale: float) -> NDArray[np.float64]:
    """In fp64 over `scale`, on the CPU."""
    wide = part.to(torch.float64) if scale == 1.0 else part.to(torch.float64) / scale
    return wide.cpu().numpy()


def largest_entry(matrix: Tensor) -> float:
    """The largest |w|, NaN where there is one: in a single pass."""
    if not matrix.numel():
        return 0.0
    low, high = torch.aminmax(matrix)
    return float(torch.maximum(-low, high))


def smaller_gram(matrix: Float[Tensor, "m n"], scale: float) -> NDArray[np.float64]:
    """The lower triangle of the smaller of WWᵀ and WᵀW over scale², in fp64, block by block along the longer side."""
    upright = matrix if matrix.shape[0] > matrix.shape[1] else matrix.T
    short = upright.shape[1]
    blocks = torch.split(upright, max(_BLOCK // short, _FEWEST))
    if matrix.device.type != "cpu":
        return _gram_on_device(blocks, scale)
    total = np.zeros((short, short), order="F")
    for part in blocks:
        wide = _wide(part, scale)
        turned, flag = (wide.T, 0) if wide.flags.c_contiguous else (wide, 1)  # the symmetric product wants columns
        total = dsyrk(1.0, turned, beta=1.0, c=total, trans=flag, lower=1, overwrite_c=1)
    return total


def _gram_on_device(blocks: Sequence[Tensor], scale: float) -> NDArray[np.float64]:
    total = torch.zeros((), dtype=torch.float64, device=blocks[0].device)
    for part in blocks:
        wide = part.to(torch.float64) / scale
        total = total + wide.T @ wide
    return total.cpu().numpy()
