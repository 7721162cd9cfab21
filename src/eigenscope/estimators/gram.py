"""Singular values of a dense matrix through its Gram matrix, with a bound on their error, and exactly where it is weak.

The eigenvalues of the smaller of WWᵀ and WᵀW, formed in fp64 from blocks of rows, are σ² to an absolute error of a few
units of rounding of σ₁²: at a fraction of the price of an SVD, and with no more than a block of W in fp64 at a time.
A singular value then is off by at most error/(2σ); below σ₁·10⁻⁶ or so that is too much, and a plain SVD is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 1 << 20  # entries of a block in fp64: 8 MB, about what a cache holds
_FEWEST = 256  # rows of a block: the sum is then cheap beside the product
_UNIT = 2.0**-53
_SMALL = 16  # a side so short costs nothing either way
_TAME = 1e50  # entries between this and its inverse neither overflow nor vanish when they are squared and summed
_WEAK = 1e-4  # relative error of the smallest singular value above which the SVD is taken


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


def singular_spectrum(matrix: Float[Tensor, "m n"], *, exact: bool = True) -> Spectrum:
    """All singular values of a finite matrix of any floating type.

    With `exact` an SVD in fp64 replaces the Gram matrix where that can't tell the smallest value to 10⁻⁴; but not where
    several values are 0 to rounding, for which the rank is all there is to know.
    """
    rows, columns = matrix.shape
    scale = largest_entry(matrix)
    if scale == 0.0:
        return Spectrum(np.zeros(min(rows, columns)), 0.0, "gram")
    if 1 / _TAME < scale < _TAME:
        scale = 1.0
    values = np.linalg.eigvalsh(smaller_gram(matrix, scale))[::-1]
    # Higham 2002, (3.13): |fl(WWᵀ) − WWᵀ| ≤ γ_n |W||Wᵀ|, of norm at most √k·‖W‖²·γ; and the eigenvalue solver's own.
    short, long = min(rows, columns), max(rows, columns)
    relative = _UNIT * (math.sqrt(long) + 2 * math.sqrt(short))
    error = relative * float(values[0])
    null = int(np.sum(values <= error))
    weak = error > 2 * _WEAK * float(values[-1]) and null < max(3, short // 50)
    if exact and (weak or short <= _SMALL):
        sigma = np.linalg.svd((matrix.double() / scale).cpu().numpy(), compute_uv=False)
        return Spectrum(sigma * scale, _UNIT * short, "svd")
    return Spectrum(np.sqrt(np.maximum(values, 0.0)) * scale, relative, "gram")


def largest_entry(matrix: Tensor) -> float:
    """The largest |w|, NaN where there is one: in a single pass."""
    if not matrix.numel():
        return 0.0
    low, high = torch.aminmax(matrix)
    return float(torch.maximum(-low, high))


def smaller_gram(matrix: Float[Tensor, "m n"], scale: float) -> NDArray[np.float64]:
    """The smaller of WWᵀ and WᵀW over scale², in fp64, block by block along the longer side.

    NumPy multiplies a matrix with its own transpose by the symmetric kernel: half of the work.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    short = min(matrix.shape)
    total: Any = 0.0
    for part in torch.split(matrix, max(_BLOCK // short, _FEWEST), dim=0 if tall else 1):
        wide = part.to(torch.float64) if scale == 1.0 else part.to(torch.float64) / scale
        if wide.device.type != "cpu":
            total = total + (wide.T @ wide if tall else wide @ wide.T)
        else:
            block = wide.numpy()
            total = total + (block.T @ block if tall else block @ block.T)
    return total.cpu().numpy() if isinstance(total, Tensor) else np.asarray(total)
