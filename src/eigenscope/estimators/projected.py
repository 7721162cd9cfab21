"""Eigenvalues of the small projected matrix, on one thread.

A BLAS that wakes all its threads for a 40 × 40 matrix takes 50 times as long as one thread does, and takes it from
the training run.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def eigh(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ascending eigenvalues and orthonormal eigenvectors (columns) of a symmetric matrix."""
    with _libraries().limit(limits=1, user_api="blas"):
        values, vectors = np.linalg.eigh(matrix)
    return values, vectors


def spectral_norm(matrix: NDArray[np.float64]) -> float:
    """The largest singular value."""
    with _libraries().limit(limits=1, user_api="blas"):
        return float(np.linalg.norm(matrix, 2))
