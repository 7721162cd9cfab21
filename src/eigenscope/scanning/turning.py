"""How far the leading directions of a matrix turned, and which are new.

Only directions that stand above rounding count: beyond the numerical rank singular vectors are whatever the solver
happens to return.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eigenscope.weights.noise import floor_share

LEADING = 10  # directions whose subspaces are compared
FOREIGN = 0.6  # an output whose cosine with every one of BASE's stays below this is an intruder
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Turn:
    """What became of the leading directions."""

    overlap: float  # mean squared cosine of the leading outputs, and of the leading inputs
    intruders: int  # of TUNED's leading outputs, those that BASE lacks


@dataclass(frozen=True)
class _Directions:
    """Singular vectors as columns, as many as the matrix has above rounding."""

    outputs: Values
    inputs: Values

    @property
    def rank(self) -> int:
        return int(self.outputs.shape[1])


def turn(before: Tensor, after: Tensor, roundoff: float) -> Turn | None:
    """Compare two out × in matrices whose entries were stored to a relative `roundoff`; None where one of them is 0."""
    old, new = _directions(before, roundoff), _directions(after, roundoff)
    k = min(LEADING, old.rank, new.rank)
    if k == 0:
        return None
    sides = ((old.outputs, new.outputs), (old.inputs, new.inputs))
    overlap = float(np.mean([np.sum((a[:, :k].T @ b[:, :k]) ** 2) / k for a, b in sides]))
    cosines = np.abs(old.outputs.T @ new.outputs[:, :k]).max(0)
    return Turn(overlap, int(np.sum(cosines < FOREIGN)))


def _directions(matrix: Tensor, roundoff: float) -> _Directions:
    """From the eigenvectors of the smaller Gram matrix, in fp64."""
    array = matrix.cpu().numpy()
    rows, columns = array.shape
    tall = rows > columns
    values, short = np.linalg.eigh(array.T @ array if tall else array @ array.T)
    sigma, short = np.sqrt(np.maximum(values[::-1], 0.0)), short[:, ::-1]
    arithmetic = math.sqrt(2.0**-53 * (math.sqrt(max(rows, columns)) + 2 * math.sqrt(min(rows, columns)))) * sigma[0]
    floor = max(floor_share(rows, columns, roundoff) * float(np.linalg.norm(sigma)), arithmetic)
    rank = int(np.sum(sigma > floor))
    short = short[:, :rank]
    long = (array if tall else array.T) @ short / sigma[:rank]
    return _Directions(long, short) if tall else _Directions(short, long)
