"""What each way to a truncated decomposition costs, in seconds on one thread, to choose the cheapest.

Fitted to the times of benchmarks/lowrank.py (one core of an EPYC 9V74, OpenBLAS 0.3.31); only their ratios matter, and
those are alike on other machines: a product is limited by arithmetic everywhere, and an eigenvalue solver by memory.
"""

from __future__ import annotations

_PRODUCT = 30e9  # flops a second of a block product
_SVD = (9.6 / 34e9, 7.4 / 34e9)  # seconds for m·n² and n³
_SPACE = 2.5  # the space over the rank
_EIGH = 6.5 / 34e9  # seconds for n³


def exact(rows: int, columns: int) -> float:
    """A dense SVD."""
    return _SVD[0] * rows * columns**2 + _SVD[1] * columns**3


def gram(rows: int, columns: int, rank: int) -> float:
    """XᵀX by the symmetric kernel, its eigenvectors, and three products with `rank` columns."""
    return (rows * columns**2 + 6 * rows * columns * rank) / _PRODUCT + _EIGH * columns**3


def krylov_step(rows: int, columns: int, width: int, known: int) -> float:
    """Two products, and the orthogonalization of both blocks against what is known, twice."""
    flops = 4 * rows * columns * width + (rows + columns) * width * (8 * known + 12 * width)
    return flops / _rate(width)


def look(rows: int, columns: int, matvecs: int, width: int, known: int) -> float:
    """Products with blocks of `width`, each orthogonalized against what is known."""
    return matvecs * (2 * rows * columns + 4 * (rows + columns) * (known + 64)) / _rate(width)


def _rate(width: int) -> float:
    """Flops a second: narrow blocks are limited by memory (measured 0.5, 0.7 and 0.85 of the best at 16, 32 and 64)."""
    return _PRODUCT * width / (width + 16)


def small_svd(size: int) -> float:
    """The triplets of the projected matrix."""
    return exact(size, size)


def krylov(rows: int, columns: int, rank: int, width: int) -> float:
    """A whole randomized decomposition, as large as it becomes for spectra that fall off."""
    size = min(int(_SPACE * rank) + 4 * width, columns)
    steps = [krylov_step(rows, columns, width, known) for known in range(0, size, width)]
    return sum(steps) + 3 * small_svd(size) + look(rows, columns, 160, 16, rank)
