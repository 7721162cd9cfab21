"""A matrix by its leading singular triplets: the cheapest way whose errors are proven, and the errors measured."""

from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from eigenscope.errors import InputError
from eigenscope.lowrank import cost
from eigenscope.lowrank.bounds import rounding
from eigenscope.lowrank.dense import Triplets, Wanted, exact, gram
from eigenscope.lowrank.krylov import gaussian
from eigenscope.lowrank.matrix import Array, Matrix, multiply, returned
from eigenscope.lowrank.randomized import randomized, width
from eigenscope.lowrank.result import TruncatedSVD, flipped_signs

METHODS = ("auto", "exact", "gram", "randomized")
_SMALL = 48  # a side so short costs nothing either way
_PROMISING = 0.6  # a randomized decomposition is tried where it should cost no more than this share of a Gram matrix's,
_PATIENCE = 0.7  # and given up at this: a spectrum without an edge makes it cost many times what it should
_ROUNDS = 4  # of the block power method that measures the spectral error


def truncated_svd(
    X: Float[Array, "m n"],
    rank: int | None = None,
    *,
    energy: float | None = None,
    method: str = "auto",
    tolerance: float = 1e-3,
    seed: int = 0,
) -> TruncatedSVD:
    """The leading singular triplets of a matrix, each singular value with a proven error.

    Parameters
    ----------
    X
        NumPy array or tensor of any real type, m × n. All arithmetic is in fp64.
    rank
        How many triplets, 1 to min(m, n). Give either this or `energy`.
    energy
        Share of Σσ² to hold, in (0, 1]: the least rank that does. A randomized decomposition knows σ to `tolerance`
        and may take a little more than the least. With 1 it is the rank up to which Σσ² grows in fp64.
    method
        `exact` is a dense SVD; `gram` takes the eigenvectors of XᵀX and refines them; `randomized` grows a block Krylov
        space from a random start until the values hold. `auto` takes the cheapest whose errors hold.
    tolerance
        Each singular value is off by at most this share of it (or by the rounding of fp64), σ_{k+1} by this share of
        σ_k. `randomized` goes on until that is proven, with a probability of error below 10⁻⁸.
    seed
        Of the random start, and of the measurement of the spectral error.

    Raises
    ------
    InputError
        X is no finite, non-empty, real matrix; the rank is not possible; the energy is outside (0, 1]; both
        or neither are given; the method is unknown; the tolerance is outside (0, 1).

    Sources: Halko, Martinsson & Tropp 2011; Musco & Musco 2015; the errors: Li & Li 2005, Kuczyński & Woźniakowski
    1992. docs/low-rank.md says how they come together, and which method is the cheapest when.
    """
    matrix = Matrix(X)
    wanted = _wanted(rank, energy, matrix)
    if method not in METHODS:
        raise InputError(f"method={method!r} is unknown: use one of {', '.join(METHODS)}")
    if not (isinstance(tolerance, Real) and 0 < float(tolerance) < 1):
        raise InputError(f"tolerance={tolerance!r} must lie between 0 and 1, such as 0.001")
    generator = torch.Generator().manual_seed(seed)
    if matrix.norm == 0.0 or method == "exact":
        found = exact(matrix, wanted)
    elif method == "gram":
        found = gram(matrix, wanted)
    else:
        found = _cheapest(matrix, wanted, tolerance, generator, method)
    return _measured(matrix, found, generator)


def _wanted(rank: object, energy: object, matrix: Matrix) -> Wanted:
    if (rank is None) == (energy is None):
        raise InputError(f"rank={rank!r} and energy={energy!r}: give exactly one of the two")
    if energy is not None:
        if isinstance(energy, bool) or not isinstance(energy, Real) or not 0 < float(energy) <= 1:
            raise InputError(f"energy={energy!r} must lie in (0, 1]: it is the share of Σσ² to hold, such as 0.95")
        return Wanted(None, float(energy))
    most = matrix.shape[1]
    if isinstance(rank, bool) or not isinstance(rank, Integral) or not 1 <= int(rank) <= most:
        rows, columns = matrix.source.shape
        raise InputError(
            f"rank={rank!r} is not possible: a {rows} × {columns} matrix takes a whole number, 1 to {most}"
        )
    return Wanted(int(rank), None)


def _cheapest(matrix: Matrix, wanted: Wanted, tolerance: float, generator: torch.Generator, method: str) -> Triplets:
    """By the cost model, never trusted further than the errors: what does not hold goes to the next."""
    if method == "randomized":
        found = randomized(matrix, wanted, tolerance, generator)
        assert found is not None, "without a budget it ends: a complete space is exact"
        return found
    if matrix.shape[1] <= _SMALL:
        return exact(matrix, wanted)
    price = cost.gram(*matrix.shape, wanted.rank or 0)
    rank = wanted.rank
    if rank is None or cost.krylov(*matrix.shape, rank, width(rank)) < _PROMISING * price:
        found = randomized(matrix, wanted, tolerance, generator, _PATIENCE * price)
        if found is not None:
            return found
    found = gram(matrix, wanted)
    allowed = np.maximum(tolerance * found.theta, 4 * rounding(float(found.theta[0]), matrix.shape))
    return found if np.all(found.errors <= allowed) else exact(matrix, wanted)


def _measured(matrix: Matrix, found: Triplets, generator: torch.Generator) -> TruncatedSVD:
    """The triplets as they are returned, with the errors of exactly those."""
    theta = torch.from_numpy(found.theta * matrix.scale)
    tall, wide = flipped_signs(*((found.right, found.left) if matrix.flipped else (found.left, found.right)))
    u, sigma, vt = (returned(item, matrix.like) for item in (tall, theta, wide.T))
    back = [torch.as_tensor(item).double().to(matrix.device) for item in (u, sigma, vt)]
    rounded = np.abs(back[1].cpu().numpy() - theta.numpy())
    tall, wide = (back[2].T, back[0]) if matrix.flipped else (back[0], back[2].T)
    tall = tall * (back[1] / matrix.scale)
    frobenius = matrix.distance(tall, wide)
    spectral = _spectral_norm(matrix, tall, wide, found.hint, generator)
    missing, slack = _tail(matrix, found, frobenius)
    squares, following = float(np.sum(found.theta**2)), min(found.following, frobenius)
    rows, columns = matrix.source.shape
    return TruncatedSVD(
        U=u,
        singular_values=sigma,
        Vt=vt,
        error=returned(torch.from_numpy(found.errors * matrix.scale + rounded), matrix.like),
        rank=len(found.theta),
        shape=(rows, columns),
        energy=min(squares / matrix.norm**2, 1.0) if matrix.norm else 1.0,
        spectral_error=spectral * matrix.scale,
        frobenius_error=frobenius * matrix.scale,
        eckart_young_spectral=following * matrix.scale,
        eckart_young_spectral_error=found.following_error * matrix.scale,
        eckart_young_frobenius=missing * matrix.scale,
        eckart_young_frobenius_error=slack * matrix.scale,
        method=found.method,
        num_matvecs=matrix.num_matvecs,
        passes=matrix.passes,
    )


def _tail(matrix: Matrix, found: Triplets, frobenius: float) -> tuple[float, float]:
    """The most that √Σ_{i>k} σ² can be, and by how much it may be less.

    Where the values are not all known, it is ‖X‖² − Σθ²: little is left of large squares, and so their rounding counts.
    """
    if found.tail is not None:
        return found.tail, found.tail_error
    theta, whole = found.theta, matrix.norm**2
    square = whole - float(np.sum(theta**2))
    rounded = rounding(whole, matrix.shape) + 2 * rounding(float(theta[0]), matrix.shape) * float(np.sum(theta))
    less = float(np.sum((2 * theta + found.errors) * found.errors)) + rounded
    measured = frobenius + rounding(float(theta[0]), matrix.shape)
    value = min(math.sqrt(max(square, 0.0) + rounded), measured)
    return value, value - math.sqrt(max(min(square, value**2) - less, 0.0))


def _spectral_norm(
    matrix: Matrix, tall: Tensor, wide: Tensor, hint: Tensor | None, generator: torch.Generator
) -> float:
    """‖X − tall·wideᵀ‖₂ from below, by the block power method from what is known of its leading vector."""
    block = gaussian(matrix.shape[1], min(_ROUNDS, matrix.shape[1]), generator, matrix.device)
    if hint is not None:
        block[:, :1] = hint
    for last in [False] * (_ROUNDS - 1) + [True]:
        basis, _ = torch.linalg.qr(block)
        image = matrix.right(basis) - multiply(tall, multiply(wide.T, basis))
        if not last:
            block = matrix.left(image) - multiply(wide, multiply(tall.T, image))
    return float(torch.linalg.svdvals(image)[0])
